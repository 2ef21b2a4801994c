"""Scenes of one to three solids, drawn as they are asked for: the projection cGAN, and the rungs below it.

Command   python main.py --config configs/projection_clevr.py[:cdcgan | :lsgan | :wgan_gp | :projection | :no_norm | :full]
          python main.py --workdir runs/projection_clevr --mode generate --labels "red cube, blue sphere; green cylinder"
Result    not run yet

All rungs have the same networks, but for what tells them the labels:

    cdcgan      labels joined to the input and the middle of both; cross-entropy
    lsgan       the same with least squares
    wgan_gp     the same with Wasserstein's loss, gradient penalty, no spectral norm
    projection  hinge loss; labels by projection in D and conditional batch norm in G alone
    no_norm     labels by projection in D and joined to both; plain batch norm in G
    full        projection, conditional batch norm and joined labels
"""

from ml_collections import ConfigDict

from configs import base
from holotf.errors import UserError

RUNGS = {  # projection, conditional_norm, label_maps, loss
    "cdcgan": (False, False, True, "bce"),
    "lsgan": (False, False, True, "lsgan"),
    "wgan_gp": (False, False, True, "wgan"),
    "projection": (True, True, False, "hinge"),
    "no_norm": (True, False, True, "hinge"),
    "full": (True, True, True, "hinge"),
}


def get_config(variant: str = "full") -> ConfigDict:
    """64 px, half width, bfloat16; two, three and four discriminator updates for one of the generator by thirds of the run."""
    if variant not in RUNGS:
        raise UserError(f"projection_clevr:{variant}: use one of {', '.join(RUNGS)}")
    config = base.get_config("projection_gan")
    m = config.model
    m.projection, m.conditional_norm, m.label_maps, config.loss.gan = RUNGS[variant]
    m.gf = m.df = 32
    m.d_norm = "none" if variant == "wgan_gp" else "spectral"
    config.data.dir = "data/clevr64"
    config.data.prepare = "clevr --size 64 --count 22000 --test 2000"
    config.train.batch_size = 64
    config.train.kimg = 1200.0
    config.train.d_steps = ((0.0, 2), (400.0, 3), (800.0, 4))
    config.train.sample_kimg = config.train.checkpoint_kimg = 100.0
    config.evaluate.images = 2000
    config.device.precision = "mixed_bfloat16"
    return config
