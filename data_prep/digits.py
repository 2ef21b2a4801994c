"""scikit-learn's handwritten digits (1,797 of them, 8 px, grey), which come with the package.

They are the test part of UCI's "Optical recognition of handwritten digits". They have no splits: 10% become test, by a hash of
their pixels.
"""

import argparse
import os
from typing import TYPE_CHECKING

import numpy as np

from data_prep import labelled
from holotf.errors import UserError

if TYPE_CHECKING:
    from data_prep.build import ImageBuilder

CITATION = 'Alpaydin, E. and Kaynak, C.: "Optical recognition of handwritten digits". UCI Machine Learning Repository, 1998'


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    labelled.add_size(parser)
    labelled.add_test(parser)


def builder(args: argparse.Namespace, data_dir: str | os.PathLike) -> "ImageBuilder":
    """Returns the tfds builder for the parsed flags; UserError says what is missing."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(f"digits needs scikit-learn ({error}): pip install 'holotf[digits]'") from error
    found = load_digits()
    images = np.round(found.images * (255 / 16)).astype(np.uint8)  # 0 to 16 -> 0 to 255
    digits = labelled.cut(labelled.labelled(images, found.target, "scikit-learn"), args.test)
    return labelled.build(
        args, data_dir, digits, name="digits", description="scikit-learn's digits, 8 px, grey.", citation=CITATION
    )
