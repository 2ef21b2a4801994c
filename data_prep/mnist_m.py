"""MNIST-M: MNIST's digits blended onto patches of colour photographs by absolute difference, |patch - digit|.

--source is MNIST, as `mnist` takes it. --photos is a folder, a zip or a tar of photographs; where it is not given,
scikit-image's own. The authors (Ganin et al. 2016) used BSDS500: --photos BSR_bsds500.tgz. A patch has the digit's size and lies
anywhere in any of the photographs; which one follows from --seed, the split and the digit's number alone. Photographs are first
reduced to BSDS500's size (481 px, the longer side), so that a patch of a large one is no plain colour.
"""

import argparse
import functools
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep import labelled, mnist
from data_prep.archives import content_of, listing, tar_files
from data_prep.names import printable
from holotf.errors import UserError
from holotf.images import open_image, to_rgb

if TYPE_CHECKING:
    from data_prep.build import ImageBuilder

PHOTO_PX = 481  # longer side, BSDS500's
MOST_PHOTOS = 500  # as many as BSDS500 has; of more, so many at even steps of their names
OWN = ("astronaut", "chelsea", "coffee", "rocket", "stereo_motorcycle", "immunohistochemistry")  # of skimage.data
CITATION = (
    'Ganin, Y., Ustinova, E., Ajakan, H., Germain, P., Larochelle, H., Laviolette, F., Marchand, M. and Lempitsky, V.: "Domain-'
    'adversarial training of neural networks". JMLR 17(59), 2016'
)
_STREAM = {"train": 0, "test": 1}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    mnist.add_flags(parser)
    parser.add_argument("--photos", type=Path, metavar="PATH", help="a folder, .zip or .tar(.gz) (default: scikit-image's own)")
    parser.add_argument("--seed", type=int, default=0, help="of the patches, 0 or more (default 0)")


def builder(args: argparse.Namespace, data_dir: str | os.PathLike) -> "ImageBuilder":
    """Returns the tfds builder for the parsed flags; UserError names what is missing or broken."""
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: use 0 or more")
    digits = mnist.splits(args.source, args.test)
    if any(heap.images.ndim > 3 for heap in digits.values()):
        raise UserError(f"--source {printable(args.source)} holds images in colour: use grey ones [N, H, W], as MNIST's are")
    side = max(max(heap.images.shape[1:]) for heap in digits.values())
    photos = own_photos() if args.photos is None else photos_of(args.photos, side)
    described = "scikit-image" if args.photos is None else printable(args.photos.name)
    return labelled.build(
        args,
        data_dir,
        digits,
        name="mnist_m",
        description=f"MNIST blended onto patches of {len(photos)} photographs of {described} by absolute difference.",
        change=functools.partial(blended, photos=photos, seed=args.seed),
        section="data.sources.target",
        citation=CITATION,
    )


def blended(split: str, start: int, digits: np.ndarray, photos: list[np.ndarray], seed: int) -> np.ndarray:
    """|patch - digit|, each digit on a patch of its own. Source: Ganin et al. 2016, section 5.2.4.

    Args:
      split: train or test.
      start: number of the first digit in it.
      digits: uint8 [N, H, W].
      photos: uint8 [height, width, 3] each, no smaller than a digit.
      seed: of the patches.

    Returns:
      uint8 [N, H, W, 3].
    """
    return np.stack([_blend(digit, photos, [seed, _STREAM[split], start + i]) for i, digit in enumerate(digits)])


def _blend(digit, photos, seed):
    rng, (height, width) = np.random.default_rng(seed), digit.shape
    photo = photos[rng.integers(len(photos))]
    y, x = (rng.integers(length - side + 1) for length, side in zip(photo.shape, digit.shape, strict=False))
    patch = photo[y : y + height, x : x + width].astype(np.int16)
    return np.abs(patch - digit[..., np.newaxis]).astype(np.uint8)


def own_photos() -> list[np.ndarray]:
    """Photographs that come with scikit-image: uint8 [height, width, 3] each.

    Raises:
      UserError: it is not installed.
    """
    from PIL import Image

    try:
        from skimage import data
    except ImportError as error:
        raise UserError(f"without --photos, mnist_m needs scikit-image ({error}): pip install 'holotf[digits]'") from error
    loaded = {name: getattr(data, name)() for name in OWN}
    loaded["stereo_motorcycle"] = loaded["stereo_motorcycle"][0]  # the left one of a pair, whose depths come with it
    return [_reduced(Image.fromarray(pixels)) for pixels in loaded.values()]


def photos_of(source: Path, side: int) -> list[np.ndarray]:
    """The photographs of a folder, a zip or a tar that can be read and hold a digit; the others are counted on the screen.

    Args:
      source: the folder or archive.
      side: of a digit, the longer one, px.

    Returns:
      uint8 [height, width, 3] each.

    Raises:
      UserError: there is none, or the source cannot be read.
    """
    there = listing(source, "--photos")
    step = max(1, -(-len(there.names) // MOST_PHOTOS))
    names, photos = there.names[::step], []
    for name, content in _contents(source, names, there.contents):
        try:
            with open_image(content_of(name, content, source, "")) as image:
                photo = _reduced(to_rgb(image))
        except Exception:  # a damaged file makes PIL's readers raise whatever it makes them raise
            continue
        photos += [photo] if min(photo.shape[:2]) >= side else []
    if not photos:
        raise UserError(f"--photos {printable(source)} has no photograph of {side} px or more: give a folder or archive with some")
    if left_out := len(names) - len(photos):
        print(f"{left_out} of {len(names)} photographs left out: unreadable, or smaller than {side} px", file=sys.stderr)
    return photos


def _contents(source: Path, names: list[str], contents: dict[str, str] | None) -> Iterator[tuple]:
    """(name, content) of each, in order of names; content None where it is still to be read."""
    if contents is None:
        return zip(names, itertools.repeat(None))
    return iter(sorted((name, content) for name, _, content in tar_files(source, "", names, {}, contents)))


def _reduced(image) -> np.ndarray:
    image.thumbnail((PHOTO_PX, PHOTO_PX))
    return np.asarray(image)
