"""HoloGAN on real chairs: 49 furniture meshes of Sweet Home 3D, drawn from every side (docs/meshes.md).

Command   python main.py --config configs/hologan_chairs.py
Hardware  2 cores (AMD EPYC, no AMX), 24 GiB, no GPU; 2026-11-24
Time      5 minutes of training for 32 of these 128 kimg (102 images/s)
Result    after 32 kimg, seed 0, one run: 48 of 48 chairs turn once, azimuth error 17.1 degrees, KID x 100 of 17.5: docs/results.md.
          All 128 kimg were not run with this renderer
Before    with the projection unit (version 0.1) objects turned two to four times while the view turned once, KID 23.9 after 64 kimg
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """64 px, half width, bfloat16."""
    config = base.get_config()
    config.data.dir = "data/chairs64"
    config.data.prepare = "meshes --preset chairs --size 64 --count 22500 --test 2500"
    config.model.gf = config.model.df = 32
    config.optim.d_lr = config.optim.g_lr = 2e-4
    config.train.kimg = 128.0
    config.train.sample_kimg = 16.0
    config.train.checkpoint_kimg = 8.0
    config.evaluate.turntables = "meshes --preset chairs --size 64 --turntable 24 --count 1176 --seed 1"
    config.device.precision = "mixed_bfloat16"
    return config
