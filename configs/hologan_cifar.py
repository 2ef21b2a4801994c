"""HoloGAN on CIFAR-10: ten kinds of thing at 32 px, where one 3D prior for all does not fit. A row of Table 1, not a showpiece.

    python main.py --config configs/hologan_cifar.py
    python -m benchmarks.table1 --data data/cifar32 --kimg 64 --seeds 1 --models dcgan lsgan wgan_gp vae hologan=hologan_cifar

Data      `catalogue cifar10` downloads it; where only images are at hand:
          python -m data_prep folder --source ARCHIVE --size 32 --out data/cifar32     (train/ and test/ become the splits)
Result    with the projection unit of version 0.1, 64 kimg, seed 0, 2 cores, 2026-11-22: KID x 100 of 14.5 (DCGAN: 27.1),
          textures and no things; 17 minutes beside other work: docs/results.md
          With the compositing renderer, which it now has from hologan_blocks, on automobiles alone: 15.0 after 64 kimg, a body of
          the car's colour and no car: docs/results.md, "Photographs". On all ten kinds 15.5 after 192 kimg in batches of 8
Views are narrow, as for any photographs taken from the front.
"""

from ml_collections import ConfigDict

from configs import hologan_blocks


def get_config() -> ConfigDict:
    """As the box chairs, 32 px, with narrow views; the pose regressor has no labels here."""
    config = hologan_blocks.get_config()
    config.data.dir = "data/cifar32"
    config.data.prepare = "catalogue cifar10 --crop none --size 32"
    config.train.batch_size, config.train.kimg = 32, 64.0  # as it was run
    config.views.azimuth_deg = (-45.0, 45.0)
    config.views.elevation_deg = (-15.0, 15.0)
    config.evaluate.best = "kid/mean"
    config.evaluate.turntables = ""
    return config
