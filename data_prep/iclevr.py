"""The real i-CLEVR, where someone has it: a folder of its images with objects.json, train.json, test.json and new_test.json.

objects.json numbers the kinds ({"gray cube": 0, ...}); train.json says what each image shows ({"CLEVR_train_000000_0.png": ["gray
cube"], ...}); test.json and, where it is there, new_test.json list what a generator is to be asked for ([["gray cube"], ...]). The
images lie beside them or in one folder there. They come in series that add one object after the other (_0, _1, _2): 10% of the
series become the split test, by a hash of their name, so that none is in both.
"""

import argparse
import functools
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep import folder
from data_prep.archives import EXTENSIONS
from data_prep.conditions import CONDITIONS_FILE, conditions_text
from data_prep.folder import FILES_PER_TASK, parse_share
from data_prep.names import label_name, printable
from data_prep.splits import DEFAULT_TEST, Split, add_test_flag, hash_of, parse_part, test_below
from data_prep.work import Skipped
from holotf.errors import UserError
from holotf.images import parse_crop

if TYPE_CHECKING:
    from data_prep.build import ImageBuilder

LISTS = ("test", "new_test")  # each a file; the second may be missing
_MEND = "add it, or remove the entry"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    parser.add_argument(
        "--source", type=Path, required=True, metavar="DIR", help="holds the json files, and the images or a folder of them"
    )
    add_test_flag(parser, f"by a hash of the series' names (default {DEFAULT_TEST})".replace("%", "%%"))
    parser.add_argument("--crop", default="none", help="none: all of it, squashed to a square (default); center; H,W in pixels")
    parser.add_argument("--max-bad", default="0%", metavar="SHARE", help="stop where more images are damaged (default 0%%)")


def builder(args: argparse.Namespace, data_dir: str | os.PathLike) -> "ImageBuilder":
    """Returns the tfds builder for the parsed flags; UserError names the file and the entry that cannot be used."""
    import tensorflow_datasets as tfds

    from data_prep.build import ImageBuilder

    crop, max_bad = parse_crop(args.crop), parse_share("--max-bad", args.max_bad)
    test = parse_part("--test", DEFAULT_TEST if args.test is None else args.test)
    source = args.source.absolute()
    kinds = read_kinds(source / "objects.json")
    shown = read_shown(source / "train.json", kinds)
    root = find_images(source, shown)
    lists = {
        name: read_list(source / f"{name}.json", kinds) for name in LISTS if name == "test" or (source / f"{name}.json").exists()
    }
    series = {name: hash_of(name.rpartition("_")[0]) for name in shown}
    bound = test_below(sorted(set(series.values())), test)
    parts = {"train": [name for name in shown if series[name] >= bound], "test": [name for name in shown if series[name] < bound]}
    if not parts["train"]:
        raise UserError(f"{test} of {len(set(series.values()))} series of images leaves none to train on: use --test 0")
    return ImageBuilder(
        data_dir=data_dir,
        name="iclevr",
        description=(
            f"i-CLEVR, after CLEVR (Johnson et al. 2017), by holotf's data_prep.iclevr: crop {args.crop}, resized to {args.size} "
            f"px; test by a hash of the series' names, {test.text}."
        ),
        features={
            "image": tfds.features.Image(shape=(args.size, args.size, 3), encoding_format="png"),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=kinds)),
        },
        function=functools.partial(examples, source=source, root=root, size=args.size, crop=crop),
        splits={split: Split(_tasks(names, shown), len(names)) for split, names in parts.items()},
        workers=args.workers,
        beam=args.beam is not None,
        max_bad=max_bad,
        config="projection_clevr",
        files={CONDITIONS_FILE: conditions_text(lists)},
    )


def _tasks(names, shown):
    named = [(name, shown[name]) for name in names]
    return [named[start : start + FILES_PER_TASK] for start in range(0, len(named), FILES_PER_TASK)]


def examples(task: list[tuple[str, list[str]]], **settings: Any) -> list[tuple[str, dict | Skipped]]:
    """Returns (name, example) for each (name, labels) of the task, with the settings of `folder.examples`."""
    made = folder.examples([(name, None, None) for name, _ in task], encoding="png", **settings)
    return [
        (name, one if isinstance(one, Skipped) else one | {"labels": labels})
        for (name, labels), (_, one) in zip(task, made, strict=True)
    ]


def read_kinds(path: Path) -> list[str]:
    """The kinds of objects.json, {kind: number}, in the order of their numbers."""
    found = _read(path, dict, 'kinds with their numbers, such as {"gray cube": 0}')
    for kind, number in found.items():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(found):
            raise _wrong(path, repr(kind), f"its number is {number!r}: use 0 to {len(found) - 1}, each once")
        if kind != label_name(kind) or not kind or "," in kind:
            raise _wrong(path, repr(kind), "it is empty, or has a comma, a control sign or a blank at its end: name it otherwise")
    kinds = sorted(found, key=found.get)
    for number, kind in enumerate(kinds):
        if found[kind] != number:
            raise _wrong(path, repr(kind), f"its number is {found[kind]}, as another's: use 0 to {len(found) - 1}, each once")
    return kinds


def read_shown(path: Path, kinds: list[str]) -> dict[str, list[str]]:
    """What train.json says: {image: its kinds}."""
    found = _read(path, dict, 'images with what they show, such as {"CLEVR_train_000000_0.png": ["gray cube"]}')
    return {name: _checked(path, repr(name), labels, kinds) for name, labels in found.items()}


def read_list(path: Path, kinds: list[str]) -> list[list[str]]:
    """A list of conditions: [[kind, ...], ...]."""
    found = _read(path, list, 'a list of what is to be asked for, such as [["gray cube"]]')
    return [_checked(path, f"entry {number}", labels, kinds) for number, labels in enumerate(found)]


def find_images(source: Path, shown: dict[str, list[str]]) -> str:
    """The folder that holds the images, as a path from `source`: "" or ending in a slash; all that are named must be there."""
    first, path = next(iter(shown)), source / "train.json"
    inner = sorted(f"{entry.name}/" for entry in os.scandir(source) if entry.is_dir())
    root = next((root for root in ("", *inner) if (source / root / first).is_file()), None)
    if root is None:
        raise _wrong(path, repr(first), f"there is no such image in {printable(source)}, nor in a folder there: {_MEND}")
    there = set(os.listdir(source / root))
    if missing := [name for name in shown if name not in there]:
        more = f" ({len(missing)} are missing)" if missing[1:] else ""
        raise _wrong(path, repr(missing[0]), f"there is no such image in {printable(source / root)}{more}: {_MEND}")
    if unnamed := sorted(name for name in there - set(shown) if name.lower().endswith(EXTENSIONS)):
        print(f"{len(unnamed)} images have no entry in train.json and are left out: {printable(unnamed[0])} ...", file=sys.stderr)
    return root


def _read(path: Path, kind: type, what: str) -> Any:
    """What a JSON file holds, an object or a list, and not an empty one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except FileNotFoundError:
        raise UserError(f"{printable(path)} is missing: put it there; it holds {what}") from None
    except OSError as error:
        raise UserError(f"{printable(path)} cannot be read ({error.strerror}): it is to hold {what}") from error
    except ValueError as error:
        raise UserError(f"{printable(path)} is no JSON ({printable(str(error))}): it is to hold {what}") from error
    if not isinstance(found, kind) or not found:
        raise UserError(f"{printable(path)} holds {'nothing' if not found else 'something else'}: it is to hold {what}")
    return found


def _once(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _checked(path, entry, labels, kinds):
    """The kinds of an entry, each once."""
    if not isinstance(labels, list) or not labels:
        raise _wrong(path, entry, f"{json.dumps(labels)} is no list of labels: give one, such as [{json.dumps(kinds[0])}]")
    for label in labels:
        if label not in kinds:
            raise _wrong(path, entry, f"{json.dumps(label)} is not in objects.json: use one of it, such as {kinds[0]}")
    return list(dict.fromkeys(labels))


def _wrong(path, entry, why):
    return UserError(f"{printable(path)}: {printable(entry)}: {printable(why)}")
