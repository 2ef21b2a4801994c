"""From MNIST to MNIST-M, whose labels nobody reads: DANN, PixelDA, and what either is to be measured by.

    python -m data_prep mnist --source raw/mnist --size 32 --out data/mnist32
    python -m data_prep mnist_m --source raw/mnist --size 32 --out data/mnist_m32     # --photos: docs/data.md
    python main.py --config configs/domains_digits.py:dann                            # or pixelda, source, target
    python -m benchmarks.domains --seeds 3                                            # all four, as a table

raw/mnist is MNIST as docs/data.md says, a folder of IDX files or an npz file. Other pairs: --config.data.sources.source.dir=...
Result    three seeds, MNIST-M's test images, worst and median: source 40.8, 44.2 %; dann 77.8, 77.8; pixelda 93.4, 93.9;
          target 95.0, 95.2; 5, 8, 27 and 5 minutes on one core of an Intel Xeon with AMX, 2026-12-01: docs/results.md
"""

from ml_collections import ConfigDict

from configs import base
from holotf.errors import UserError

VARIANTS = ("dann", "pixelda", "source", "target")


def get_config(variant: str = "dann") -> ConfigDict:
    """32 px, 32 images of each domain an update; source and target are DANN's classifier, trained on that domain alone."""
    if variant not in VARIANTS:
        raise UserError(f"domains_digits:{variant}: use one of {', '.join(VARIANTS)}")
    config = base.get_config("pixelda" if variant == "pixelda" else "dann")
    for name, kind in (("source", "mnist"), ("target", "mnist_m")):
        config.data.sources[name].dir = f"data/{kind}32"
        config.data.sources[name].prepare = f"{kind} --source raw/mnist --size 32"
    if variant in ("source", "target"):
        config.train.domains = variant
    config.train.batch_size = 32
    config.train.kimg = 640.0
    config.train.sample_kimg = config.train.checkpoint_kimg = config.evaluate.kimg = 32.0
    config.optim.decay_from = 1.0
    if variant == "pixelda":
        config.train.kimg = 160.0
        config.device.precision = "mixed_bfloat16"
    return config
