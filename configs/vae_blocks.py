"""A VAE on ray-cast chairs.

Command   python main.py --config configs/vae_blocks.py
Result    64 kimg, two seeds: blurred chairs, KID x 100 of 20.7: docs/results.md, Table 1; the 128 kimg given here were not run
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """32 px, half width, bfloat16."""
    config = base.get_config("vae")
    config.data.dir = "data/blocks32"
    config.data.prepare = "blocks --size 32 --count 12500 --test 2500"
    config.model.image_size = 32
    config.model.z_dim = 64
    config.model.beta_warmup_kimg = 32.0
    config.optim.lr = 1e-3
    config.train.batch_size = 32
    config.train.kimg = 128.0
    config.device.precision = "mixed_bfloat16"
    return config
