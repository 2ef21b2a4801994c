"""MNIST's handwritten digits: LeCun's four IDX files, Keras' mnist.npz, or an npz with image and label.

--source is the folder with train-images-idx3-ubyte.gz and the other three (packed or not), or the npz file. Where that has no
splits of its own (image and label alone), 10% of the digits become test, by a hash of their pixels. `catalogue mnist --crop none
--size 28` gives the same from the tfds catalogue.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep import labelled
from data_prep.formats import locate, read_idx, read_npz
from data_prep.labelled import Labelled
from data_prep.names import printable
from holotf.errors import UserError

if TYPE_CHECKING:
    from data_prep.build import ImageBuilder

CITATION = 'LeCun, Y., Cortes, C. and Burges, C.: "The MNIST database of handwritten digits". http://yann.lecun.com/exdb/mnist'


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    labelled.add_size(parser)
    parser.add_argument("--source", type=Path, required=True, metavar="PATH", help="the folder of IDX files, or an .npz file")
    labelled.add_test(parser)


def builder(args: argparse.Namespace, data_dir: str | os.PathLike) -> "ImageBuilder":
    """Returns the tfds builder for the parsed flags; UserError names what is missing or broken."""
    digits = splits(args.source, args.test)
    return labelled.build(args, data_dir, digits, name="mnist", description="MNIST, 28 px, grey.", citation=CITATION)


def splits(source: Path, test: str | None) -> dict[str, Labelled]:
    """MNIST's digits, split -> those in it.

    Args:
      source: a folder of IDX files, or an npz file.
      test: of --test, where the source has no splits of its own.

    Raises:
      UserError: a file is missing or broken, or --test makes no sense.
    """
    if source.suffix != ".npz":
        return labelled.check_test(test, idx_splits(source))
    found = read_npz(source)
    if {"x_train", "y_train", "x_test", "y_test"} <= set(found):
        own = {split: labelled.labelled(found[f"x_{split}"], found[f"y_{split}"], source) for split in ("train", "test")}
        return labelled.check_test(test, own)
    if {"image", "label"} <= set(found):
        return labelled.cut(labelled.labelled(found["image"], found["label"], source), test)
    raise UserError(
        f"{printable(source)} holds {', '.join(found) or 'nothing'}: use an npz with x_train, y_train, x_test and y_test, or with "
        "image and label"
    )


def idx_splits(folder: Path) -> dict[str, Labelled]:
    """The splits of a folder with IDX files named as MNIST's: also Fashion-MNIST's.

    Raises:
      UserError: one of the four is missing or broken.
    """
    found = {}
    for split, name in (("train", "train"), ("test", "t10k")):
        images, labels = (
            locate(folder, [f"{name}-{stem}{dot}{end}" for dot in "-." for end in (f"{kind}-ubyte.gz", f"{kind}-ubyte")])
            for stem, kind in (("images", "idx3"), ("labels", "idx1"))
        )
        found[split] = labelled.labelled(read_idx(images), read_idx(labels), images)
    return found
