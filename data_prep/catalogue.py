"""Any image data set of the tfds catalogue (celeb_a, cars196, lsun/bedroom, shapes3d, cifar10, mnist), made square and small.

It is downloaded where tfds has not prepared it yet; some (celeb_a from a browser, cars196) must be fetched by hand, and the
error says how. Class labels (`label`, and shapes3d's `label_orientation` and the like) are kept. The set's own splits are written
under their own names; where it has train only, or --split names what to take, the last 10% of that become test.
"""

import argparse
import concurrent.futures
import functools
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.names import printable
from data_prep.splits import DEFAULT_TEST, Split, add_test_flag, parse_part
from holotf.errors import UserError, brief
from holotf.images import Crop, encode, parse_crop, prepare

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

    from data_prep.build import ImageBuilder

EXAMPLES_PER_TASK = 256
Range = tuple[str, int, int]  # a split of the original, from which example to before which


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    parser.add_argument("name", metavar="NAME", help="the data set's name in the catalogue, with its config: lsun/bedroom")
    parser.add_argument(
        "--split", help="what to cut into train and test, in tfds notation, slices and sums too: train[:90%%] (default: all splits)"
    )
    add_test_flag(parser, f"the last of them (default: the set's own splits, or {DEFAULT_TEST})".replace("%", "%%"))
    parser.add_argument(
        "--data-dir", type=Path, help="where tfds keeps its data sets (default: $TFDS_DATA_DIR, ~/tensorflow_datasets)"
    )
    parser.add_argument(
        "--crop", default="center", help="center: the largest centred square (default); none; H,W: a centred H x W, in pixels"
    )
    parser.add_argument("--encoding", default="png", choices=("png", "jpeg"), help="png is lossless (default); jpeg is smaller")


def builder(args: argparse.Namespace, data_dir: str | os.PathLike) -> "ImageBuilder":
    """Returns the tfds builder for the parsed flags; UserError says what is unknown or missing."""
    import tensorflow_datasets as tfds

    from data_prep.build import ImageBuilder

    crop = parse_crop(args.crop)
    original = _prepared(args.name, args.data_dir)
    image_key = _image_key(original)
    label_keys = [key for key, feature in original.info.features.items() if isinstance(feature, tfds.features.ClassLabel)]
    parts = parts_of(original, args.split, args.test)
    features = {"image": tfds.features.Image(shape=(args.size, args.size, 3), encoding_format=args.encoding)}
    features |= {key: tfds.features.ClassLabel(names=original.info.features[key].names) for key in label_keys}
    return ImageBuilder(
        data_dir=data_dir,
        name=args.name.replace("/", "_").replace(":", "_").replace(".", "_"),
        description=(
            f"{original.info.full_name}, {args.split or ', '.join(parts)}, by holotf's data_prep.catalogue: crop {args.crop}, "
            f"resized to {args.size} px. The original's description: {original.info.description}"
        ),
        citation=original.info.citation,
        homepage=original.info.homepage,
        features=features,
        function=functools.partial(
            examples,
            folder=os.fspath(original.data_dir),
            image_key=image_key,
            label_keys=label_keys,
            size=args.size,
            crop=crop,
            encoding=args.encoding,
            threads=max(args.workers, 1),
        ),
        splits={split: Split(_tasks(ranges), _length(ranges)) for split, ranges in parts.items()},
        workers=0,  # reading needs TensorFlow, which is here already; PIL works in threads
        beam=args.beam is not None,
    )


def parts_of(original: "tfds.core.DatasetBuilder", split: str | None, test: str | None) -> dict[str, list[Range]]:
    """Which ranges of the original's splits make up each split here.

    Args:
      original: its tfds builder.
      split: of --split; None: the set's own.
      test: of --test; None: the set's own, or DEFAULT_TEST of the one there is.
    """
    import tensorflow_datasets as tfds

    own = original.info.splits
    if split is None and "train" not in own:
        raise UserError(f"NAME {original.name!r} has {', '.join(own)} and no train: say what to train on with --split")
    part = parse_part("--test", DEFAULT_TEST if test is None else test)
    if split is None and len(own) > 1:
        if test is not None and part:
            raise UserError(f"{part}: {original.name} has {', '.join(own)}: leave it out, or cut one of them with --split train")
        return {name: [(name, 0, info.num_examples)] for name, info in own.items() if test is None or name == "train"}
    try:
        ranges = tfds.core.ReadInstruction.from_spec(split or "train").to_absolute(own)
    except Exception as error:  # tfds raises ValueError, AssertionError or KeyError, each with a paragraph.
        raise UserError(f"--split {split!r}: {original.name} has {', '.join(own)}") from error
    ends = [own[part.splitname].num_examples if part.to is None else part.to for part in ranges]
    ranges = [(part.splitname, part.from_ or 0, end) for part, end in zip(ranges, ends, strict=True)]
    if not _length(ranges):
        raise UserError(f"--split {split!r} of {original.name} is empty: name a larger slice")
    for (name, _, before), (other, start, _) in itertools.pairwise(sorted(ranges)):
        if name == other and start < before:
            raise UserError(f"--split {split!r} takes examples of {name} twice, from {start} on: use slices that do not overlap")
    left = _length(ranges) - part.of(_length(ranges))
    parts = {"train": [], "test": []}
    for name, start, stop in ranges:
        cut = min(stop, start + left)
        parts["train"].append((name, start, cut))
        parts["test"].append((name, cut, stop))
        left -= cut - start
    return {name: [part for part in ranges if part[1] < part[2]] for name, ranges in parts.items()}


def _length(ranges: list[Range]) -> int:
    return sum(stop - start for _, start, stop in ranges)


def _tasks(ranges: list[Range]) -> list[Range]:
    tasks = []
    for name, start, stop in ranges:
        cuts = [*range(start, stop, EXAMPLES_PER_TASK), stop]
        tasks += [(name, low, high) for low, high in itertools.pairwise(cuts)]
    return tasks


def _prepared(name: str, data_dir: Path | None):
    """The tfds builder of a catalogue data set, downloaded and prepared if it is not yet."""
    import tensorflow_datasets as tfds

    try:
        original = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise UserError(
            f"NAME {name!r}: no such data set ({first_line}): see https://www.tensorflow.org/datasets/catalog, or --data-dir"
        ) from error
    except Exception as error:  # a damaged one makes tfds and protobuf raise whatever it makes them raise
        raise _damaged(name, data_dir, error) from error
    try:
        original.download_and_prepare()
    except Exception as error:  # downloading fails in as many ways as there are networks
        raise UserError(
            f"NAME {name!r}: could not be downloaded or prepared in {original.data_dir} ({type(error).__name__}: "
            f"{str(error).strip()}): connect to the network, or prepare it elsewhere with tfds and name its place with --data-dir"
        ) from error
    return original


def _damaged(name: str, place: str | os.PathLike | None, error: Exception) -> UserError:
    shown = printable(place or "~/tensorflow_datasets")
    return UserError(f"NAME {name!r} cannot be read as it lies in {shown} ({brief(error)}): remove it, and it is prepared again")


def _image_key(original) -> str:
    import tensorflow_datasets as tfds

    keys = [key for key, feature in original.info.features.items() if isinstance(feature, tfds.features.Image)]
    if "image" in keys or len(keys) == 1:
        return "image" if "image" in keys else keys[0]
    raise UserError(f"NAME {original.name!r} has {len(keys) or 'no'} images an example: use a data set with one")


def examples(
    task: Range,
    folder: str,
    image_key: str,
    label_keys: list[str],
    size: int,
    crop: Crop,
    encoding: str,
    threads: int,
) -> list[tuple[str, dict]]:
    """Returns (key, example) for the examples start to stop of a split; task is (split, start, stop)."""
    import tensorflow_datasets as tfds
    from PIL import Image

    split, start, stop = task

    def example(pair):
        index, original = pair
        pixels = original[image_key]
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        labels = {key: int(original[key]) for key in label_keys}
        return f"{split}-{index}", {"image": encode(prepare(image, size, crop), encoding), **labels}

    try:
        original = tfds.builder_from_directory(folder)
        read = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)  # in the order written: keys name positions
        rows = tfds.as_numpy(original.as_dataset(f"{split}[{start}:{stop}]", read_config=read, shuffle_files=False))
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            return list(pool.map(example, enumerate(rows, start)))
    except Exception as error:  # as in `_prepared`
        raise _damaged(Path(folder).parent.name, folder, error) from error
