"""DCGAN on ray-cast chairs, and its kin: LSGAN, WGAN-GP, and the hinge loss with spectral norm.

Command   python main.py --config configs/dcgan_blocks.py[:lsgan | :wgan_gp | :hinge]
Result    64 kimg, seed 0: chairs anyone recognises, KID x 100 of 13.6 (bce), 17.9 (hinge), 40.3 (lsgan), 30.0 (wgan_gp):
          docs/results.md, Table 1, with a second seed and on real chairs at 64 px, where the 128
          kimg given here have 8.2 ("Sixteen latents"); they were not run on the boxes
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
    config.train.batch_size = 32  # as hologan_blocks; with DCGAN's 128, 48 kimg are 375 updates, and gave smudges
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
