"""HoloGAN on real chairs: 49 furniture meshes of Sweet Home 3D, drawn from every side (`python -m data_prep meshes --help`)."""

from configs import base


def get_config():
    """64 px, half width, bfloat16."""
    config = base.get_config()
    config.data.dir = "data/chairs64"
    config.data.prepare = "meshes --preset chairs --size 64 --count 20000"
    config.model.gf = config.model.df = 32
    config.model.z_warmup_kimg = 24.0
    config.optim.d_lr = config.optim.g_lr = 2e-4
    config.train.g_steps = 1
    config.train.kimg = 128.0
    config.train.sample_kimg = 16.0
    config.train.checkpoint_kimg = 8.0
    config.device.precision = "mixed_bfloat16"
    return config
