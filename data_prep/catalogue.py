"""Any image data set of the tfds catalogue (celeb_a, cars196, lsun/bedroom, shapes3d, cifar10, mnist), made square and small.

It is downloaded where tfds has not prepared it yet; some (celeb_a from a browser, cars196) must be fetched by hand, and the
error says how. Class labels (`label`, and shapes3d's `label_orientation` and the like) are kept.
"""

import argparse
import concurrent.futures
import functools
import itertools
import os
from pathlib import Path

from data_prep.images import Crop, encode, parse_crop, prepare
from holotf.errors import UserError

EXAMPLES_PER_TASK = 256


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    parser.add_argument("name", metavar="NAME", help="the data set's name in the catalogue, with its config: lsun/bedroom")
    parser.add_argument("--split", default="train", help="in tfds notation, slices and sums too: train[:90%%] (default train)")
    parser.add_argument(
        "--data-dir", type=Path, help="where tfds keeps its data sets (default: $TFDS_DATA_DIR, ~/tensorflow_datasets)"
    )
    parser.add_argument(
        "--crop", default="center", help="center: the largest centred square (default); none; H,W: a centred H x W, in pixels"
    )
    parser.add_argument("--encoding", default="png", choices=("png", "jpeg"), help="png is lossless (default); jpeg is smaller")


def builder(args: argparse.Namespace, data_dir: str | os.PathLike):
    """Returns the tfds builder for the parsed flags; UserError says what is unknown or missing."""
    import tensorflow_datasets as tfds

    from data_prep.build import ImageBuilder

    crop = parse_crop(args.crop)
    original = _prepared(args.name, args.data_dir)
    image_key = _image_key(original)
    label_keys = [key for key, feature in original.info.features.items() if isinstance(feature, tfds.features.ClassLabel)]
    try:
        ranges = tfds.core.ReadInstruction.from_spec(args.split).to_absolute(original.info.splits)
    except Exception as error:  # tfds raises ValueError, AssertionError or KeyError, each with a paragraph.
        raise UserError(f"--split {args.split!r}: {args.name} has {', '.join(original.info.splits)}") from error
    tasks = []
    for part in ranges:
        start, stop = part.from_ or 0, original.info.splits[part.splitname].num_examples if part.to is None else part.to
        cuts = [*range(start, stop, EXAMPLES_PER_TASK), stop]
        tasks += [(part.splitname, low, high) for low, high in itertools.pairwise(cuts)]
    if not tasks:
        raise UserError(f"--split {args.split!r} of {args.name} is empty: name a larger slice")
    features = {"image": tfds.features.Image(shape=(args.size, args.size, 3), encoding_format=args.encoding)}
    features |= {key: tfds.features.ClassLabel(names=original.info.features[key].names) for key in label_keys}
    return ImageBuilder(
        data_dir=data_dir,
        name=args.name.replace("/", "_").replace(":", "_").replace(".", "_"),
        description=(
            f"{original.info.full_name}, split {args.split}, by holotf's data_prep.catalogue: crop {args.crop}, resized to "
            f"{args.size} px. The original's description: {original.info.description}"
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
        tasks=tasks,
        total=sum(stop - start for _, start, stop in tasks),
        workers=0,  # Reading needs TensorFlow, which is here already; PIL works in threads.
        beam=args.beam is not None,
    )


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
    try:
        original.download_and_prepare()
    except Exception as error:  # Downloading fails in as many ways as there are networks.
        raise UserError(
            f"NAME {name!r}: could not be downloaded or prepared in {original.data_dir} ({type(error).__name__}: "
            f"{str(error).strip()}): connect to the network, or prepare it elsewhere with tfds and name its place with --data-dir"
        ) from error
    return original


def _image_key(original) -> str:
    import tensorflow_datasets as tfds

    keys = [key for key, feature in original.info.features.items() if isinstance(feature, tfds.features.Image)]
    if "image" in keys or len(keys) == 1:
        return "image" if "image" in keys else keys[0]
    raise UserError(f"NAME {original.name!r} has {len(keys) or 'no'} images an example: use a data set with one")


def examples(
    task: tuple[str, int, int],
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

    original = tfds.builder_from_directory(folder)
    read = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)  # In the order written: keys name positions.
    rows = tfds.as_numpy(original.as_dataset(f"{split}[{start}:{stop}]", read_config=read, shuffle_files=False))
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(example, enumerate(rows, start)))
