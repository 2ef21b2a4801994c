"""Street View House Numbers, cropped digits (32 px, RGB): train_32x32.mat and test_32x32.mat.

--source is the folder with both, from http://ufldl.stanford.edu/housenumbers. `catalogue svhn_cropped --size 32` gives the same
from the tfds catalogue.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep import labelled
from data_prep.formats import locate, read_mat
from data_prep.names import printable
from holotf.errors import UserError

if TYPE_CHECKING:
    from data_prep.build import ImageBuilder

FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
CITATION = (
    'Netzer, Y., Wang, T., Coates, A., Bissacco, A., Wu, B. and Ng, A.: "Reading digits in natural images with unsupervised '
    'feature learning". NIPS workshop, 2011'
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    labelled.add_size(parser)
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help=f"the folder with {' and '.join(FILES.values())}")


def builder(args: argparse.Namespace, data_dir: str | os.PathLike) -> "ImageBuilder":
    """Returns the tfds builder for the parsed flags; UserError names what is missing or broken."""
    digits = {split: read(locate(args.source, [name])) for split, name in FILES.items()}
    description = "Street View House Numbers, cropped digits, 32 px, RGB; for non-commercial use only."
    return labelled.build(args, data_dir, digits, name="svhn", description=description, citation=CITATION)


def read(path: Path) -> labelled.Labelled:
    """Reads one of the files: X uint8 [H, W, 3, N], y [N, 1] with 10 for the digit 0.

    Raises:
      UserError: it is broken, or holds something else.
    """
    images, labels = read_mat(path, ("X", "y"))
    if images.ndim != 4 or not np.isin(labels, range(1, 11)).all():
        found = ", ".join(map(str, np.unique(labels)[:12]))
        raise UserError(
            f"{printable(path)} holds X {list(images.shape)} and y of {found or 'nothing'}: use the files of cropped digits, X "
            "[32, 32, 3, N] and y of 1 to 10"
        )
    return labelled.labelled(np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels % 10, path)
