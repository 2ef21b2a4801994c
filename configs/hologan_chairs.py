"""HoloGAN on real chairs: 49 furniture meshes of Sweet Home 3D, drawn from every side (docs/meshes.md).

Command   python main.py --config configs/hologan_chairs.py
Hardware  2 cores, 24 GiB, no GPU; seed 0; 2026-11-22
Time      19 minutes (55 images/s) for the first 64 of these 128 kimg, beside other work
Result    after 64 kimg: KID x 100 of 23.9; half of the samples are recognisable chairs; most objects turn two to four times while
          the view turns once: docs/results.md. Trained on all 49 meshes; now five of them are kept for the split `unseen`
Tried     a warm-up of 24 kimg and all 128: no better
"""

from configs import base


def get_config():
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
