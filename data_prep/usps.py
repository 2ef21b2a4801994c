"""The US Postal Service's handwritten digits (16 px, grey), as LIBSVM's page has them: usps.bz2 and usps.t.bz2.

--source is the folder with both, from https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html#usps.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep import labelled
from data_prep.formats import locate, read_libsvm
from data_prep.names import printable
from holotf.errors import UserError

if TYPE_CHECKING:
    from data_prep.build import ImageBuilder

SIDE = 16  # px
CITATION = 'Hull, J.: "A database for handwritten text recognition research". IEEE TPAMI 16(5), 1994'


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    labelled.add_size(parser)
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="the folder with usps.bz2 and usps.t.bz2")


def builder(args: argparse.Namespace, data_dir: str | os.PathLike) -> "ImageBuilder":
    """Returns the tfds builder for the parsed flags; UserError names what is missing or broken."""
    digits = {split: read(locate(args.source, [name, name.removesuffix(".bz2")])) for split, name in FILES.items()}
    return labelled.build(args, data_dir, digits, name="usps", description="USPS, 16 px, grey.", citation=CITATION)


FILES = {"train": "usps.bz2", "test": "usps.t.bz2"}


def read(path: Path) -> labelled.Labelled:
    """Reads one of the two files: labels 1 to 10 are the digits 0 to 9, values from -1 to 1 black to white.

    Raises:
      UserError: it is broken, or holds other values.
    """
    labels, values = read_libsvm(path, SIDE * SIDE)
    if (bad := ~(np.abs(values) <= 1)).any():
        row = int(bad.any(axis=1).argmax())
        raise UserError(f"{printable(path)} has values beyond [-1, 1] in example {row + 1}: use LIBSVM's scaled files")
    images = np.round((values + 1) * 127.5).astype(np.uint8).reshape(-1, SIDE, SIDE)  # [N,256] -> [N,H,W]
    return labelled.labelled(images, labels - 1, path)
