"""Your own images: a folder, a zip or a tar(.gz) of jpg, jpeg, png, webp or bmp files, with or without a folder per class.

With two or more class folders (after outer folders that hold everything are passed over) each image carries its folder as
`label`. Images are turned upright (EXIF), made RGB on white, cropped, and resized with antialiasing. What cannot be read is
listed in skipped.txt beside the shards.

Folders train, test and val (or valid, validation) become the splits train, test and validation. Where there are none, 10% of the
images become test, by a hash of their pixels: copies of an image, whatever their names and lossless encodings, fall to one side.
"""

import argparse
import contextlib
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from data_prep.archives import EXTENSIONS, File, Listing, UnusableError, content_of, listing, tar_files
from data_prep.names import label_name, printable
from data_prep.splits import DEFAULT_TEST, Part, Split, add_test_flag, hash_of, parse_part, test_below
from data_prep.work import Skipped, ordered_map
from holotf import console, duplicates
from holotf.errors import UserError
from holotf.images import Crop, encode, open_image, parse_crop, prepare, to_rgb

if TYPE_CHECKING:
    from data_prep.build import ImageBuilder

FILES_PER_TASK = 32
BYTES_PER_TASK = 32 * 2**20  # of what comes out of a tar: several tasks wait in memory at a time
DUPLICATES_FILE = "duplicates.txt"
_ENDINGS = ", ".join(EXTENSIONS)
_SPLITS = {"train": "train", "test": "test", "val": "validation", "valid": "validation", "validation": "validation"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    parser.add_argument("--source", type=Path, required=True, metavar="PATH", help="a folder, .zip, .tar, .tar.gz or .tar.xz")
    parser.add_argument("--subdir", metavar="DIR", help="use only this folder inside it, e.g. train; . for all of it as one")
    parser.add_argument("--classes", action="append", metavar="A,B", help="only images in these class folders (default: all)")
    add_test_flag(parser, f"by a hash of the pixels (default: the source's own splits, or {DEFAULT_TEST})".replace("%", "%%"))
    parser.add_argument(
        "--dedupe", action="store_true", help=f"keep one of each group of near-duplicates, and list them in {DUPLICATES_FILE}"
    )
    parser.add_argument(
        "--crop", default="center", help="center: the largest centred square (default); none; H,W: a centred H x W, in pixels"
    )
    parser.add_argument("--encoding", default="png", choices=("png", "jpeg"), help="png is lossless (default); jpeg is smaller")
    parser.add_argument("--max-bad", default="1%", metavar="SHARE", help="stop where more than this is unreadable (default 1%%)")


def builder(args: argparse.Namespace, data_dir: str | os.PathLike) -> "ImageBuilder":
    """Returns the tfds builder for the parsed flags; UserError names a flag or a source that makes no sense."""
    import tensorflow_datasets as tfds

    from data_prep.build import ImageBuilder

    crop, max_bad = parse_crop(args.crop), parse_share("--max-bad", args.max_bad)
    test = parse_part("--test", DEFAULT_TEST if args.test is None else args.test)
    if args.dedupe and (reason := duplicates.missing()):
        raise UserError(f"--dedupe {reason}")
    found = find(args, test)
    parts, files = share_out(found, test, args.dedupe, args.workers)
    work = {split: Split(found.tasks(names), len(names)) for split, names in parts.items()}
    if found.unusable:  # of no known split: counted and listed with train
        tasks, total = work["train"]
        work["train"] = Split(itertools.chain(_chunks(found.unusable), tasks), total + len(found.unusable))
    if args.beam is not None:
        work = {split: Split(list(tasks), total) for split, (tasks, total) in work.items()}
    features = {"image": tfds.features.Image(shape=(args.size, args.size, 3), encoding_format=args.encoding)}
    if found.labels:
        features["label"] = tfds.features.ClassLabel(names=sorted(set(found.labels.values())))
    return ImageBuilder(
        data_dir=data_dir,
        name="folder",
        description=(
            f"Images of {printable(found.source.name)}/{printable(found.root)} by holotf's data_prep.folder: crop {args.crop}, "
            f"resized to {args.size} px; "
            f"split {'as its folders are' if found.splits else f'by a hash of the pixels, test {test.text}'}."
        ),
        features=features,
        function=functools.partial(
            examples, source=found.source, root=found.root, size=args.size, crop=crop, encoding=args.encoding
        ),
        splits=work,
        workers=args.workers,
        beam=args.beam is not None,
        max_bad=max_bad,
        files=files,
    )


@dataclass(frozen=True)
class Found:
    """The images of a source.

    Attributes:
      source: a folder, a zip or a tar.
      root: the folder all of them lie in, "" or ending in a slash.
      names: relative to root, sorted.
      labels: name -> class; {} where there are no classes.
      splits: name -> split, where the source has splits of its own; else {}.
      unusable: items of a task, of what cannot even be named or entered; by their path from the source.
      contents: as in `Listing`.
    """

    source: Path
    root: str
    names: list[str]
    labels: dict[str, str]
    splits: dict[str, str]
    unusable: list[File]
    contents: dict[str, str] | None

    def tasks(self, names: list[str]) -> Iterator[list]:
        """These of the images as tasks of `examples` and `seen_in`."""
        if self.contents is not None:
            return _chunks(tar_files(self.source, self.root, names, self.labels, self.contents))
        return _chunks((name, self.labels.get(name), None) for name in names)


def find(args: argparse.Namespace, test: Part) -> Found:
    """What the flags name; UserError where that makes no sense."""
    source, shown = args.source.absolute(), printable(args.source)
    there = listing(source)
    if not there.names:
        some = next((f": {printable(name)} and its like cannot be used ({why})" for name, why in there.unusable.items()), "")
        raise UserError(f"--source {shown} holds no image{some or f': it needs files ending in {_ENDINGS}'}")
    if there.contents is not None and args.beam is not None:
        raise UserError(f"--source {shown} can only be read from front to back: unpack it, or make it a zip, for --beam")
    root, names = choose(there.names, args.subdir)
    splits = {} if args.subdir == "." else own_splits(names)
    below_splits = args.subdir == "." or bool(splits)
    labels = classes(names, below_splits)
    if splits and args.test is not None:
        if test:
            raise UserError(f"{test}: --source has {', '.join(sorted(set(splits.values())))}: leave it out, or add --subdir train")
        names = [name for name in names if splits[name] == "train"]
    wanted = [name for words in args.classes or () for name in words.split(",")]
    unusable = [(name, None, Skipped(why)) for name, why in _asked_for(there, root, args.subdir, wanted, below_splits)]
    if wanted:
        names, labels = only_classes(names, labels, wanted)
    return Found(source, root, names, labels, splits, unusable, there.contents)


def _asked_for(there: Listing, root: str, subdir: str | None, wanted: list[str], below_splits: bool) -> list[tuple[str, str]]:
    """Of what cannot be used, path and reason of what --subdir and --classes do not leave out."""
    kept = []
    for name, why in there.unusable.items():
        inside = name.startswith(root)
        parts = name[len(root) if inside else 0 :].split("/")[below_splits:-1]
        if (inside or subdir in (None, ".")) and not (wanted and parts and label_name(parts[0]) not in wanted):
            kept.append((name, why))
    return kept


def share_out(found: Found, test: Part, dedupe: bool, workers: int) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Which images are in which split, and what is to be said of those that are in none.

    Args:
      found: the images.
      test: of --test; of no effect where the source has splits of its own.
      dedupe: whether near-duplicates are left out.
      workers: as `ordered_map` takes it.

    Returns:
      split -> names; and the files to lie beside the shards, name -> text.
    """
    names, seen, files = found.names, {}, {}
    if dedupe or (test and not found.splits):
        look = functools.partial(seen_in, source=found.source, root=found.root, dedupe=dedupe)
        seen = look_through(look, found.tasks(names), len(names), workers)
    if dedupe:
        groups = duplicate_groups(seen)
        dropped = {name for _, *others in groups for name in others}
        names = [name for name in names if name not in dropped]
        seen = {name: one for name, one in seen.items() if name not in dropped}
        files = {DUPLICATES_FILE: duplicates_text(groups)} if groups else {}
        where = f", see {DUPLICATES_FILE}" if groups else ""
        print(f"{len(dropped)} near-duplicates left out, of {len(groups)} images{where}", file=sys.stderr)
    if found.splits:
        parts = {split: [name for name in names if found.splits[name] == split] for split in dict.fromkeys(_SPLITS.values())}
    else:
        parts = cut(names, seen, test)
    if not parts["train"]:
        raise UserError(
            f"--source {printable(found.source)} has no image left to train on: take in more --classes, or --subdir . for all as "
            "one"
        )
    return parts, files


def parse_share(flag: str, text: str) -> float:
    """Reads `1%` or `0.01` as 0.01, or raises a UserError that names `flag`."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"{flag} {text!r}: use a share from 0% to 100%, for example 1%")
    return share


def choose(names: list[str], subdir: str | None) -> tuple[str, list[str]]:
    """Finds what the data set is made of.

    Args:
      names: of all images in the source.
      subdir: the folder asked for, as a path from the source or from below its outer folders; `.` for all; None where not said.

    Returns:
      root: the folder all of them lie in, "" or ending in a slash.
      names: relative to root, sorted.
    """
    root = _outer_folders(names)
    if subdir not in (None, "."):
        asked = PurePosixPath(subdir).as_posix().strip("/") + "/"
        roots = [r for r in (asked, root + asked) if any(name.startswith(r) for name in names)]
        if not roots:
            tops = sorted({name[len(root) :].split("/")[0] for name in names if "/" in name[len(root) :]})
            raise UserError(f"--subdir {subdir!r} holds no image: use {', '.join(map(printable, tops)) if tops else '.'}")
        inside = [name[len(roots[0]) :] for name in names if name.startswith(roots[0])]
        deeper = _outer_folders(inside)
        return roots[0] + deeper, [name[len(deeper) :] for name in inside]
    return root, [name[len(root) :] for name in names]


def own_splits(names: list[str]) -> dict[str, str]:
    """Returns name -> split, of images that lie in folders train, test, val; {} where there are not two such folders.

    Raises:
      UserError: there are such folders but no train, or others beside them.
    """
    tops = {name: name.split("/")[0] for name in names if "/" in name}
    there = sorted({top for top in tops.values() if top.lower() in _SPLITS})
    if len(there) < 2:
        return {}
    beside = sorted({tops.get(name, name) for name in names} - set(there))
    without = "" if any(_SPLITS[top.lower()] == "train" for top in there) else " and no train"
    if beside or without:
        more = f" and {len(beside) - 1} more" if beside[1:] else ""
        beside = f", and beside them {printable(beside[0])}{more}" if beside else ""
        raise UserError(
            f"--source holds the splits {', '.join(there)}{without}{beside}: choose one with --subdir {there[-1]}, or take all as "
            "one with --subdir ."
        )
    return {name: _SPLITS[top.lower()] for name, top in tops.items()}


def _outer_folders(names: list[str]) -> str:
    """The folders that hold everything, outermost first: "" or a path that ends in a slash."""
    first, last = min(names).split("/")[:-1], max(names).split("/")[:-1]  # in sorted order these two speak for all
    pairs = zip(first, last, strict=False)
    return "".join(one + "/" for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def classes(names: list[str], below_splits: bool) -> dict[str, str]:
    """Returns name -> class, which is the first folder; {} where there are no classes.

    Args:
      names: of the images.
      below_splits: where all first folders are splits, the class is the second.
    """
    parts = {name: name.split("/") for name in names}
    depth = 1 if below_splits and {part[0].lower() for part in parts.values()} <= set(_SPLITS) else 0
    if any(len(part) < depth + 2 for part in parts.values()):
        return {}  # some image lies in no class folder
    labels = {name: label_name(part[depth]) for name, part in parts.items()}
    return labels if len(set(labels.values())) > 1 else {}


def only_classes(names: list[str], labels: dict[str, str], wanted: list[str]) -> tuple[list[str], dict[str, str]]:
    """The names and labels of the classes `wanted`; a single class is no label."""
    there = sorted(set(labels.values()))
    for name in wanted:
        if name not in there:
            listed = ", ".join(there[:20]) + (f" and {len(there) - 20} more" if there[20:] else "")
            raise UserError(f"--classes {name!r}: --source has {listed or 'no class folders'}")
    names = [name for name in names if labels[name] in wanted]
    return names, {name: labels[name] for name in names} if len(set(wanted)) > 1 else {}


class Seen(NamedTuple):
    """What a first look at an image's pixels gives: their hash, their number, and with --dedupe what they look like."""

    content: int
    pixels: int
    look: duplicates.Look | None


def look_through(function: Callable, tasks: Iterable, total: int, workers: int) -> dict[str, Seen]:
    """Looks at all images, on all cores; those that cannot be read are not in the result."""
    results = ordered_map(function, tasks, workers)
    seen = {}
    with contextlib.closing(results), console.progress(total=total, desc="folder: looking", unit=" images") as progress:
        for result in results:
            seen |= {name: one for name, one in result if one is not None}
            progress.update(len(result))
    return seen


def seen_in(task: list[File], source: Path, root: str, dedupe: bool) -> list[tuple[str, Seen | None]]:
    """Returns (name, what was seen) for each item of the task, as `examples` takes it; None where it cannot be read."""
    return [(name, _seen(name, content, source, root, dedupe)) for name, _, content in task]


def _seen(name: str, content: bytes | None, source: Path, root: str, dedupe: bool) -> Seen | None:
    try:
        with open_image(content_of(name, content, source, root)) as image:
            image = to_rgb(image)
        look = duplicates.look_of(image) if dedupe else None
        return Seen(hash_of(str(image.size), image.tobytes()), image.width * image.height, look)
    except Exception:  # as in `_example`, which says why
        return None


def duplicate_groups(seen: dict[str, Seen]) -> list[list[str]]:
    """Groups of near-duplicates by name, the one to keep first: the largest image, and of these the first by name."""
    names = sorted(seen, key=lambda name: (-seen[name].pixels, name))
    return sorted([names[place] for place in group] for group in duplicates.groups([seen[name].look for name in names]))


def duplicates_text(groups: list[list[str]]) -> str:
    """The text of duplicates.txt: a group a line, the image kept and then, after tabs, those left out."""
    return "".join("\t".join(map(printable, [kept, *sorted(others)])) + "\n" for kept, *others in groups)


def cut(names: list[str], seen: dict[str, Seen], test: Part) -> dict[str, list[str]]:
    """Train and test of one heap of images, by the hash of their pixels; what could not be read stays in train."""
    if not test or not seen:
        return {"train": names}
    bound = test_below([one.content for one in seen.values()], test)
    chosen = {name for name, one in seen.items() if one.content < bound}
    if len(chosen) == len(seen):
        raise UserError(f"{test} of {len(seen)} images leaves none to train on: add images, or use --test 0")
    return {"train": [name for name in names if name not in chosen], "test": [name for name in names if name in chosen]}


def _chunks(items: Iterable[File]) -> Iterator[list[File]]:
    chunk, size = [], 0
    for item in items:
        chunk.append(item)
        size += len(item[2]) if isinstance(item[2], bytes) else 0
        if len(chunk) == FILES_PER_TASK or size > BYTES_PER_TASK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def examples(task: list[File], source: Path, root: str, size: int, crop: Crop, encoding: str) -> list[tuple[str, dict | Skipped]]:
    """Returns (name, example) for each item of the task.

    Args:
      task: (name, label, content) of each file; label is None where there are no classes, content where it is still to be read.
      source: a folder or a zip; a tar's files come with their content.
      root: the folder inside the source that names are relative to.
      size: pixels a side.
      crop: as in `holotf.images.crop_box`.
      encoding: png or jpeg.
    """
    return [(name, _example(name, label, content, source, root, size, crop, encoding)) for name, label, content in task]


def _example(name, label, content, source, root, size, crop, encoding) -> dict | Skipped:
    try:
        with open_image(content_of(name, content, source, root)) as image:
            pixels = prepare(image, size, crop)
    except UnusableError as error:
        return Skipped(str(error))
    except Exception as error:  # A damaged file makes PIL's readers raise whatever it makes them raise.
        return Skipped(f"{type(error).__name__}: {error}"[:200])
    example = {"image": encode(pixels, encoding)}
    return example if label is None else example | {"label": label}
