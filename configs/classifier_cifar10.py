"""Classifiers of CIFAR-10: PyTorch's tutorial network, and a deeper one.

    python main.py --config configs/classifier_cifar10.py:baseline
    python main.py --config configs/classifier_cifar10.py:improved
    python -m benchmarks.augmentation                                 # baseline under augmentation; the study

Data      `catalogue cifar10` downloads it; where only images are at hand:
          python -m data_prep folder --source ARCHIVE --crop none --size 32 --out data/cifar32
          (train/ and test/ become the splits, the folders in them the classes)
Result    on JPEG copies: baseline 61.5 to 62.7 % (three seeds) in 2 minutes, improved 85.8 % (seed 0) in 39, on one core of an
          Intel Xeon with AMX beside another training, 2026-11-30: docs/classifiers.md, with the study
An epoch is 50,000 images, and is followed by an evaluation on the 10,000 test images; the best checkpoint is kept.
"""

from ml_collections import ConfigDict

from configs import base
from holotf.errors import UserError

VARIANTS = ("baseline", "improved")
EPOCH_KIMG = 50.0


def get_config(variant: str = "improved") -> ConfigDict:
    """Ten epochs of SGD with momentum (baseline), or twenty of Adam, images mirrored and shifted (improved)."""
    if variant not in VARIANTS:
        raise UserError(f"classifier_cifar10:{variant}: use one of {', '.join(VARIANTS)}")
    config = base.get_config("classifier")
    config.data.dir = "data/cifar32"
    config.data.prepare = "catalogue cifar10 --crop none --size 32"
    config.model.network = variant
    config.train.batch_size, config.train.kimg = 50, (10 if variant == "baseline" else 20) * EPOCH_KIMG
    config.train.checkpoint_kimg = config.train.sample_kimg = config.evaluate.kimg = EPOCH_KIMG
    if variant == "baseline":
        config.model.dropout = config.model.spatial_dropout = 0.0
        config.optim.optimizer = "sgd"
        config.optim.lr = 0.01
        config.optim.decay_from = 0.5
        config.train.log_kimg = 0.5  # ten updates
    else:
        config.data.flip = True
        config.train.augmentation = "shift"
        config.optim.lr = 4e-4  # with 1e-3 two epochs reach less: docs/classifiers.md
        config.optim.decay_from = 0.2
        config.train.log_kimg = 0.05  # every update
        config.device.precision = "mixed_bfloat16"
    return config
