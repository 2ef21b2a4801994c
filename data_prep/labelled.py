"""Small labelled images that fit in memory, as arrays -> a data set: what the sources of digits share."""

import argparse
import functools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data_prep.names import printable
from data_prep.splits import DEFAULT_TEST, Part, Split, add_test_flag, hash_of, parse_part, test_below
from holotf.errors import UserError
from holotf.images import encode, prepare

if TYPE_CHECKING:
    from data_prep.build import ImageBuilder

SIZE = 28  # px, where --size is not given: MNIST's own
DIGITS = tuple("0123456789")
EXAMPLES_PER_TASK = 256


class Labelled(NamedTuple):
    """Images and what they show: uint8 [N, H, W] (grey) or [N, H, W, 3], and int64 [N]."""

    images: np.ndarray
    labels: np.ndarray


def add_size(parser: argparse.ArgumentParser) -> None:
    """Makes SIZE the default of --size."""
    parser.set_defaults(size=SIZE)


def add_test(parser: argparse.ArgumentParser) -> None:
    """Adds --test, for sources that can come in one heap."""
    add_test_flag(parser, f"by a hash of the pixels (default: the source's own splits, or {DEFAULT_TEST})".replace("%", "%%"))


def labelled(images: np.ndarray, labels: np.ndarray, where: object, classes: int = len(DIGITS)) -> Labelled:
    """Checks what a file holds.

    Args:
      images: of it, uint8 [N, H, W] or [N, H, W, 3].
      labels: of it, numbers [N].
      where: the file, for the error.
      classes: how many there are.

    Raises:
      UserError: no images, or of another type or shape; not a label for each, or one out of range.
    """
    where, labels = printable(str(where)), np.asarray(labels).reshape(-1)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or 0 in images.shape:
        raise UserError(f"{where} holds {images.dtype} {list(images.shape)}: use bytes [N, H, W] or [N, H, W, 3]")
    if len(labels) != len(images):
        raise UserError(f"{where} has {len(images):,} images and {len(labels):,} labels: take both from one source")
    if labels.dtype.kind not in "biuf":
        raise UserError(f"{where} has labels of type {labels.dtype}: use numbers from 0 to {classes - 1}")
    whole = labels.astype(np.int64)
    if (bad := (whole != labels) | (whole < 0) | (whole >= classes)).any():
        row = int(bad.argmax())
        raise UserError(f"{where} labels image {row} {labels[row]:g}: use labels from 0 to {classes - 1}")
    return Labelled(images, whole)


def cut(heap: Labelled, test: str | None) -> dict[str, Labelled]:
    """Train and test of one heap, by a hash of each image's pixels: copies fall to one side.

    Args:
      heap: all of them.
      test: of --test; None for DEFAULT_TEST.
    """
    part = parse_part("--test", DEFAULT_TEST if test is None else test)
    if not part:
        return {"train": heap}
    hashes = [hash_of(image.tobytes()) for image in heap.images]
    bound = test_below(hashes, part)
    chosen = np.array([number < bound for number in hashes])
    if chosen.all():
        raise UserError(f"{part} of {len(chosen)} images leaves none to train on: use --test 0, or less")
    return {name: Labelled(heap.images[rows], heap.labels[rows]) for name, rows in (("train", ~chosen), ("test", chosen))}


def check_test(test: str | None, own: dict[str, Labelled]) -> dict[str, Labelled]:
    """The splits that a source has of its own; of --test, only 0 goes with them.

    Raises:
      UserError: another one.
    """
    part: Part | None = None if test is None else parse_part("--test", test)
    if part:
        raise UserError(f"{part}: --source has {', '.join(own)}: leave it out")
    return own if part is None else {"train": own["train"]}


def build(
    args: argparse.Namespace,
    data_dir: str | os.PathLike,
    splits: dict[str, Labelled],
    *,
    name: str,
    description: str,
    classes: tuple[str, ...] = DIGITS,
    change: Callable[[str, int, np.ndarray], np.ndarray] | None = None,
    section: str = "data.sources.source",
    **about: str,
) -> "ImageBuilder":
    """The tfds builder of labelled images.

    Args:
      args: the parsed flags.
      data_dir: as `ImageBuilder` takes it.
      splits: name -> what is in it.
      name: of the data set.
      description: what the images are and where they come from, without the size.
      classes: names of the labels.
      change: (split, number of the first, images) -> images, before they are resized; None leaves them.
      section: of the config, as `ImageBuilder` takes it.
      **about: citation, homepage.
    """
    import tensorflow_datasets as tfds

    from data_prep.build import ImageBuilder

    def tasks(split: str) -> Iterator[tuple]:
        images, labels = splits[split]
        for start in range(0, len(images), EXAMPLES_PER_TASK):
            rows = slice(start, start + EXAMPLES_PER_TASK)
            yield split, start, images[rows] if change is None else change(split, start, images[rows]), labels[rows]

    work = {split: Split(tasks(split), len(images)) for split, (images, _) in splits.items()}
    if args.beam is not None:
        work = {split: Split(list(cut_up), total) for split, (cut_up, total) in work.items()}
    return ImageBuilder(
        data_dir=data_dir,
        name=name,
        description=f"{description} By holotf's data_prep.{name}: RGB, resized to {args.size} px.",
        features={
            "image": tfds.features.Image(shape=(args.size, args.size, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=list(classes)),
        },
        function=functools.partial(examples, size=args.size),
        splits=work,
        workers=args.workers,
        beam=args.beam is not None,
        config="domains_digits",
        section=section,
        **about,
    )


def examples(task: tuple[str, int, np.ndarray, np.ndarray], size: int) -> list[tuple[str, dict]]:
    """Returns (key, example) for each image of the task, which is (split, number of the first, images, labels)."""
    from PIL import Image

    split, start, images, labels = task
    pairs = enumerate(zip(images, labels, strict=True), start)
    return [
        (f"{split}-{number}", {"image": encode(prepare(Image.fromarray(image), size, "none"), "png"), "label": int(label)})
        for number, (image, label) in pairs
    ]
