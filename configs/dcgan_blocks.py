"""DCGAN on ray-cast chairs, and its kin: LSGAN, WGAN-GP, and the hinge loss with spectral norm.

Command   python main.py --config configs/dcgan_blocks.py[:lsgan | :wgan_gp | :hinge]
Result    bce after 48 kimg, seed 0: KID x 100 of 6.7 (in batches of 32: 18.8); on real chairs at 64 px, after 128: 6.9 (8.2). The
          others in batches of 32, 64 kimg, seed 0: 17.9 (hinge), 40.3 (lsgan), 30.0 (wgan_gp): docs/results.md, with Table 1
"""

from ml_collections import ConfigDict

from configs import base
from holotf.errors import UserError

VARIANTS = ("bce", "lsgan", "wgan_gp", "hinge")


def get_config(variant: str = "bce") -> ConfigDict:
    """32 px, half the paper's width, bfloat16; Adam as in the paper of the variant."""
    if variant not in VARIANTS:
        raise UserError(f"dcgan_blocks:{variant}: use one of {', '.join(VARIANTS)}")
    config = base.get_config("dcgan")
    config.data.dir = "data/blocks32"
    config.data.prepare = "blocks --size 32 --count 12500 --test 2500"
    config.model.image_size = 32
    config.model.z_dim = 100
    config.loss.gan = variant.removesuffix("_gp")
    config.optim.d_lr = config.optim.g_lr = 2e-4
    config.optim.decay_from = 1.0
    # The paper's 128 make 48 kimg 375 updates, which gave smudges; in batches of 8 only bce was run.
    config.train.batch_size = 8 if variant == "bce" else 32
    config.train.kimg = 128.0
    config.device.precision = "mixed_bfloat16"
    if variant == "wgan_gp":  # Gulrajani et al. 2017 (arXiv 1704.00028), algorithm 1 and section 5
        config.model.d_norm = "none"
        config.optim.d_lr = config.optim.g_lr = 1e-4
        config.optim.beta_1, config.optim.beta_2 = 0.0, 0.9
        config.train.d_steps = ((0.0, 5),)
    if variant == "hinge":  # Miyato et al. 2018 (arXiv 1802.05957)
        config.model.d_norm = "spectral"
    return config
