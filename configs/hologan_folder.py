"""HoloGAN on your own images: the place to start from.

    python -m data_prep folder --source YOUR_IMAGES --size 64 --out data/mine
    python main.py --config configs/hologan_folder.py --config.data.dir=data/mine --workdir runs/mine

What to set, in order of effect:
  views.azimuth_deg    the range your photographs cover: (-50.0, 50.0) for faces, (0.0, 360.0) for things seen from all sides
  views.elevation_deg  likewise; the range of the camera's height
  train.kimg           how long; 500 is a first look at a few thousand images, the paper trains CelebA for 10,000
  model.gf, model.df   width; 32 is four times faster than 64, which is the paper's
  loss.lambda_elevation  1 where objects turn but do not tilt: a head of the discriminator that reads the elevation off made images
  model.z_dim          16, with loss.lambda_identity=4 and model.adain_stddev=0.28, if made objects differ in
                       colour alone (tried on hologan_chairs only): docs/decisions/0006-few-latents.md
  train.batch_size     8 instead of 32 on a CPU: better pictures after as many images, which take little longer (as in
                       hologan_blocks and hologan_chairs): docs/decisions/0007-small-batches.md
  data.flip            mirrored copies; only where left and right do not matter (docs/conventions.md)
Not run as it stands: the data are yours. The values are ours.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """64 px, half width; all sides, from a little above."""
    config = base.get_config()
    config.data.dir = "data/folder64"
    config.model.gf = config.model.df = 32
    config.optim.d_lr = config.optim.g_lr = 2e-4
    config.train.checkpoint_kimg = 10.0
    config.device.precision = "mixed_bfloat16"
    return config
