"""HoloGAN on ray-cast furniture: the embedded default, from nothing to turning chairs in minutes on two cores."""

from configs import base


def get_config():
    """32 px, half width, bfloat16."""
    config = base.get_config()
    config.data.dir = "data/blocks32"
    config.data.prepare = "blocks --size 32 --count 10000"
    config.model.image_size = 32
    config.model.gf = config.model.df = 32
    config.model.z_warmup_kimg = 16.0
    config.optim.d_lr = config.optim.g_lr = 2e-4
    config.train.g_steps = 1
    config.train.kimg = 48.0
    config.train.sample_kimg = config.train.checkpoint_kimg = 8.0
    config.device.precision = "mixed_bfloat16"
    return config
