"""HoloGAN on real chairs: 49 furniture meshes of Sweet Home 3D, drawn from every side (docs/meshes.md).

Command   python main.py --config configs/hologan_chairs.py         # 64 px; configs/hologan_chairs.py:128 is the same at 128
Hardware  one core a run (AMD EPYC, no AMX), 24 GiB, no GPU; 2026-11-30
Time      33 minutes of training (65 to 67 images/s)
Result    three seeds, worst and median: KID x 100 of 7.5 and 5.9 (DCGAN, one seed: 6.9), identity ratio 0.52
          and 0.52 (real turntables: 0.39); 45 and 47 of 48 chairs turn once by pixels (47 of 49), 48 and 48 by outlines;
          azimuth error 23.3 and 10.5 degrees (7.4): docs/results.md, "Eight images an update"
"""

from ml_collections import ConfigDict

from configs import base
from holotf.errors import UserError

VARIANTS = ("64", "128")  # px


def get_config(variant: str = "64") -> ConfigDict:
    """Half width, bfloat16."""
    if variant not in VARIANTS:
        raise UserError(f"hologan_chairs:{variant}: use one of {', '.join(VARIANTS)}")
    config = base.get_config()
    config.data.dir = f"data/chairs{variant}"
    config.data.prepare = f"meshes --preset chairs --size {variant} --count 22500 --test 2500"
    config.model.image_size = int(variant)
    config.model.gf = config.model.df = 32
    config.model.z_dim = 16  # so few that the discriminator comes to read them, with lambda_identity
    config.model.adain_stddev = 0.28  # 0.1 at a z_dim of 128: as much style from fewer latents
    config.loss.lambda_identity = 4.0
    config.loss.lambda_elevation = 1.0
    config.loss.lambda_opacity = 1.0
    config.optim.d_lr = config.optim.g_lr = 2e-4
    config.train.batch_size = 8  # as many images make four times the updates of 32: docs/decisions/0007-small-batches.md
    config.train.kimg = 128.0
    config.train.sample_kimg = 16.0
    config.train.checkpoint_kimg = 8.0
    config.evaluate.turntables = f"meshes --preset chairs --size {variant} --turntable 24 --count 1176 --seed 1"
    config.device.precision = "mixed_bfloat16"
    return config
