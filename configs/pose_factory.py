"""A HoloGAN as a factory of labelled views: a pose estimator that learns from what it draws, for real images without labels.

    python main.py --config configs/hologan_blocks.py                    # the factory
    python main.py --config configs/pose_factory.py:dann                 # or pixelda, generated, real
    python main.py --workdir runs/pose_factory_dann --mode evaluate
    python -m benchmarks.pose_factory --run runs/hologan_blocks          # all rows, as a table

generated and real are dann's estimator trained on the generator's images alone, and on real labels (the bounds).
Hardware  one core (Intel Xeon with AMX), 24 GiB, no GPU; 2026-12-01
Time      3 minutes (generated), 5 (dann), 2 (real), 63 (pixelda)
Result    box chairs, medians of three seeds: azimuth error in degrees with 0 (zero and sense open), 10 and 50 real labels of
          11.1, 11.6, 11.2 (generated) and 11.0, 11.5, 11.1 (dann), one seed of pixelda 5.8, 6.1, 5.9; real 2.6, chance 88.9. Real
          meshes, 64 px, 64 thousand images, two seeds: 18.1, 18.9, 18.2 and 20.6, 21.6, 20.7; real 5.0, chance 89.4:
          docs/pose_factory.md
"""

from ml_collections import ConfigDict

from configs import base
from holotf.errors import UserError

VARIANTS = {"generated": "source", "dann": "both", "pixelda": "both", "real": "target"}  # and what each learns from


def get_config(variant: str = "dann") -> ConfigDict:
    """32 px, 32 images of each domain an update."""
    if variant not in VARIANTS:
        raise UserError(f"pose_factory:{variant}: use one of {', '.join(VARIANTS)}")
    config = base.get_config("pose_pixelda" if variant == "pixelda" else "pose_dann")
    source, target = config.data.sources.source, config.data.sources.target
    source.dir = "data/generated32"
    source.prepare = "generated --model runs/hologan_blocks/saved_model --count 12500 --test 2500"
    target.dir = "data/blocks32"
    target.prepare = "blocks --size 32 --count 12500 --test 2500"
    config.train.domains = VARIANTS[variant]
    config.train.batch_size = 32
    config.train.kimg = 160.0
    config.train.sample_kimg = config.train.checkpoint_kimg = 32.0
    config.optim.lr = config.optim.d_lr = 1e-3
    if variant == "pixelda":
        config.optim.g_lr = config.optim.d_lr = 2e-4
        config.device.precision = "mixed_bfloat16"
    return config
