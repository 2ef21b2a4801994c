"""HoloGAN on CelebA with the values the paper and its code give, at 64 px, or at 128 px as `hologan_celeba.py:128`.

    python -m data_prep folder --source img_align_celeba --crop 108,108 --size 64 --out data/celeba64
    python main.py --config configs/hologan_celeba.py
    python main.py --config configs/hologan_celeba.py:128        (data: --size 128 --out data/celeba128)

Not run here: the data set is not available here. Published, 64 px: KID x 100 = 2.87 +- 0.09.
Published: batch 32, one D and two G updates, Adam 1e-4 (128 px: 5e-5), beta 0.5 and 0.999, 50 epochs, decay from the 25th,
lambda_identity 1, at 128 px lambda_style 1, azimuth 220 to 320 and elevation 70 to 110 in the released code's convention, which are
-50 to 50 and -20 to 20 in ours. Ours: the average of the weights.
What it risks: the paper's projection unit can read the angle of the view, so nothing forces objects to turn with it
(docs/decisions/0005-compositing.md). data_prep keeps a tenth of the images for test; the length is that of the paper, in images.
"""

from ml_collections import ConfigDict

from configs import base
from holotf.errors import UserError

IMAGES = 202_599


def get_config(size: str = "64") -> ConfigDict:
    """The paper's CelebA experiment at `size` px: "64" or "128"."""
    if size not in ("64", "128"):
        raise UserError(f"configs/hologan_celeba.py:{size}: use :64 or :128")
    config = base.get_config("published")
    config.data.dir = f"data/celeba{size}"
    config.model.image_size = int(size)
    config.views.azimuth_deg = (-50.0, 50.0)
    config.views.elevation_deg = (-20.0, 20.0)
    config.train.kimg = 50 * IMAGES / 1000
    config.train.sample_kimg = config.train.checkpoint_kimg = 100.0
    if size == "128":
        config.optim.d_lr = config.optim.g_lr = 5e-5
        config.loss.lambda_style = 1.0
    return config
