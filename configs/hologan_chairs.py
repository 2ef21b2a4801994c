"""HoloGAN on real chairs: 49 furniture meshes of Sweet Home 3D, drawn from every side (docs/meshes.md).

Command   python main.py --config configs/hologan_chairs.py         # 64 px; configs/hologan_chairs.py:128 is the same at 128
Hardware  one core a run (Intel Xeon with AMX), 24 GiB, no GPU; 2026-11-30
Time      27 minutes of training (79 images/s); on two cores 16 (140), before turning and compositing were one kernel
Result    three seeds, worst and median: 42 and 44 of 48 chairs turn once by pixels (real turntables: 47 of 49), 48 and 48 by
          outlines; azimuth error 17.8 and 13.7 degrees (7.4), KID x 100 of 12.7 and 11.9 (DCGAN, one seed: 8.2), identity
          ratio 0.56 and 0.51 (0.39): docs/results.md, "Sixteen latents"
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
    config.train.batch_size = 8
    config.train.kimg = 128.0
    config.train.sample_kimg = 16.0
    config.train.checkpoint_kimg = 8.0
    config.evaluate.turntables = f"meshes --preset chairs --size {variant} --turntable 24 --count 1176 --seed 1"
    config.device.precision = "mixed_bfloat16"
    return config
