"""Fashion-MNIST's pieces of clothing: its four IDX files, named as MNIST's.

--source is their folder; Debian's package dataset-fashion-mnist puts them into /usr/share/datasets/fashion-mnist, the default.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep import labelled
from data_prep.mnist import idx_splits

if TYPE_CHECKING:
    from data_prep.build import ImageBuilder

FOLDER = "/usr/share/datasets/fashion-mnist"
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CITATION = (
    'Xiao, H., Rasul, K. and Vollgraf, R.: "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms". '
    "arXiv 1708.07747, 2017"
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    labelled.add_size(parser)
    parser.add_argument(
        "--source", type=Path, default=Path(FOLDER), metavar="DIR", help="the folder of IDX files (default %(default)s)"
    )


def builder(args: argparse.Namespace, data_dir: str | os.PathLike) -> "ImageBuilder":
    """Returns the tfds builder for the parsed flags; UserError names what is missing or broken."""
    about = {"citation": CITATION, "homepage": "https://github.com/zalandoresearch/fashion-mnist"}
    description = "Fashion-MNIST, 28 px, grey; MIT licence."
    return labelled.build(
        args, data_dir, idx_splits(args.source), name="fashion_mnist", description=description, classes=CLASSES, **about
    )
