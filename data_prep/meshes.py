"""Rendered 3D models, each from many sides: a folder of OBJ, GLB or PLY files, or Sweet Home 3D's furniture.

Example i depends on --seed, i and the list of meshes alone: neither on --count, --test nor on the number of workers. Example i
shows object i, or i // K with --turntable K, and object o is mesh o modulo their number. The objects of `train` are number 0 and
on, those of `test` (other views and colours of the same meshes) 1,000,000,000 and on, those of `unseen` (meshes that are in
neither, those of the lowest hash of their name) 2,000,000,000 and on. Each mesh stands in the unit sphere about the
centre of its bounding box; the field of view just holds that sphere at the smallest --distance, so nothing is ever cut. A file
CREDITS in the data set names every mesh, its creator and licence.
"""

import argparse
import functools
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep import render
from data_prep.blocks import FIRST_OBJECT, add_render_flags, check_turns, field_of_view, parse_render_flags, train_and_test
from data_prep.mesh import MeshSpec
from data_prep.names import printable
from data_prep.presets import PRESET_STRETCH, PRESETS
from data_prep.splits import Split, hash_of, parse_part
from data_prep.work import ordered_map
from holotf.errors import UserError

if TYPE_CHECKING:
    from data_prep.build import ImageBuilder

LIBRARY = Path("/usr/share/sweethome3d/furniture")  # where Debian's sweethome3d-furniture puts its .sh3f files
CATALOGUE = "PluginFurnitureCatalog.properties"
SUFFIXES = (".obj", ".glb", ".gltf", ".ply", ".stl")
EXAMPLES_PER_TASK = 256  # of one mesh, which is loaded once for them
UPRIGHT = {"y": ((1, 0, 0), (0, 1, 0), (0, 0, 1)), "z": ((1, 0, 0), (0, 0, 1), (0, -1, 0))}  # --up -> rotation rows
CREDITS_FILE = "CREDITS"
LICENCES = {  # of Debian's sweethome3d-furniture, from its copyright file; other libraries' catalogues name theirs
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0-US",
    "Reallusion": "CC-BY-3.0-US",
    "Scopia": "CC-BY-3.0",
}
UNSEEN_SHARE, UNSEEN_LEAST, UNSEEN_FROM = "10%", 3, 20  # --unseen by default: at least 3 meshes, none of fewer than 20


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    parser.add_argument("--preset", choices=sorted(PRESETS), help="a class of Sweet Home 3D's models, looked at one by one")
    parser.add_argument(
        "--source", type=Path, metavar="DIR", help=f"a folder of {', '.join(SUFFIXES)} files, searched to its depth"
    )
    parser.add_argument("--library", type=Path, metavar="PATH", help=f"a .sh3f file or a folder of them (default {LIBRARY})")
    parser.add_argument("--category", default="", metavar="REGEX", help="of the library's categories, e.g. 'office|living room'")
    parser.add_argument("--name-regex", default="", metavar="REGEX", help="of the meshes' names, in the library or in the folder")
    parser.add_argument("--up", choices=sorted(UPRIGHT), default="y", help="which axis of --source's files is up (default y)")
    parser.add_argument(
        "--yaw",
        type=float,
        default=0.0,
        metavar="DEGREES",
        help="turn every mesh about the vertical so that its front is +z; 90 takes +z to +x (default 0)",
    )
    add_render_flags(parser, "by image: other views of train's meshes")
    parser.add_argument(
        "--unseen",
        metavar="PART",
        help=(
            f"meshes kept from train and test, shown in the split unseen, as 10% or 5; 0 for none (default {UNSEEN_SHARE} of them, "
            f"at least {UNSEEN_LEAST}; none of fewer than {UNSEEN_FROM}, and none with --test 0 or --turntable)"
        ).replace("%", "%%"),
    )
    parser.add_argument("--unseen-count", type=int, metavar="N", help="images of unseen, beside --count (default: as many as test)")
    parser.add_argument(
        "--recolour",
        action=argparse.BooleanOptionalAction,
        help="change each material's colour at random (default: with --preset only)",
    )
    parser.add_argument(
        "--stretch",
        type=float,
        metavar="FACTOR",
        help=f"x, y and z each at random by up to this factor (default {PRESET_STRETCH} with --preset, else 1: none)",
    )


def builder(args: argparse.Namespace, data_dir: str | os.PathLike) -> "ImageBuilder":
    """Returns the tfds builder for the parsed flags; UserError names a flag that makes no sense, or what is to be installed."""
    import tensorflow_datasets as tfds

    from data_prep.build import ImageBuilder

    views = parse_render_flags(args)
    counts = train_and_test(args)
    counts["unseen"] = counts["test"] if args.unseen_count is None else args.unseen_count
    if counts["unseen"] < 0:
        raise UserError(f"--unseen-count {args.unseen_count}: use 0 or more")
    check_turns(args.turntable, f"--unseen-count {counts['unseen']}", counts["unseen"])
    recolour = args.preset is not None if args.recolour is None else args.recolour
    stretch = (PRESET_STRETCH if args.preset else 1.0) if args.stretch is None else args.stretch
    if not 1 <= stretch <= 4:
        raise UserError(f"--stretch {stretch:g}: use 1 (none) to 4")
    ranges = views | {"stretch": (1 / stretch, stretch)}
    workers = max(args.workers, 1)  # never in this process: it has imported TensorFlow
    specs = find(args)
    unseen_of(specs, args, counts["unseen"])  # said at once where it cannot be
    # Asked before the build begins, so that what is not installed is said in one line.
    next(ordered_map(render.probe, [args.size], 1))
    left_out = []
    if not args.preset:  # a preset's meshes are known to load
        faults = list(ordered_map(render.fault, specs, workers))
        left_out = [fault for fault in faults if fault]
        specs = [spec for spec, fault in zip(specs, faults, strict=True) if not fault]
        for fault in left_out:
            print(f"left out: {fault}", file=sys.stderr)
        if not specs:
            raise UserError(f"none of the {len(left_out)} meshes can be used; the first: {left_out[0]}")
    unseen = unseen_of(specs, args, counts["unseen"])
    seen = [spec for spec in specs if spec not in unseen]
    counts["unseen"] = counts["unseen"] if unseen else 0

    origin = args.preset or printable(args.source or args.library or LIBRARY)
    text, number = tfds.features.Text(), tfds.features.Scalar(np.float32)
    function = functools.partial(render.examples, seed=args.seed, ranges=ranges, recolour=recolour, size_px=args.size,
                                 half_width=float(field_of_view(ranges["distance"][0])), turntable=args.turntable)  # fmt: skip
    return ImageBuilder(
        data_dir=data_dir,
        name="meshes",
        description=(
            f"Renders of {len(specs)} meshes by holotf's data_prep.meshes ({origin}): seed "
            f"{args.seed}, azimuth {args.azimuth} and elevation {args.elevation} degrees (the camera's), distance {args.distance} "
            f"bounding radii, {'random' if recolour else 'original'} colours, stretch {stretch:g}. Each mesh's creator and "
            f"licence are in {CREDITS_FILE} and in the examples. "
            + (f"Meshes of the split unseen alone: {', '.join(spec.name for spec in unseen)}." if unseen else "")
        ),
        features={
            "image": tfds.features.Image(shape=(args.size, args.size, 3), encoding_format="png"),
            "azimuth_deg": number,
            "elevation_deg": number,
            "object": tfds.features.Scalar(np.int64),
            "mesh": text,
            "creator": text,
            "license": text,
        },
        function=function if args.beam is None else functools.partial(_in_own_process, function),
        splits={
            split: Split(list(tasks_of(unseen if split == "unseen" else seen, count, args.turntable, FIRST_OBJECT[split])), count)
            for split, count in counts.items()
        },
        workers=workers,
        beam=args.beam is not None,
        files={CREDITS_FILE: credits_of(seen, unseen, left_out)},
    )


def _in_own_process(function, task):
    """Beam's workers have imported TensorFlow; the drawing has a process of its own beside each."""
    return next(ordered_map(function, [task], 1))


def unseen_of(specs: list[MeshSpec], args: argparse.Namespace, images: int) -> list[MeshSpec]:
    """The meshes that are kept from train and test: those of the lowest hash of their name, so that new meshes move few.

    Args:
      specs: all meshes.
      args: the flags; of them --unseen, --unseen-count and --turntable.
      images: how many the split unseen is to have.
    """
    if args.unseen is None:
        none = len(specs) < UNSEEN_FROM or images == 0 or (args.turntable > 1 and args.unseen_count is None)
        number = 0 if none else max(UNSEEN_LEAST, parse_part("--unseen", UNSEEN_SHARE).of(len(specs)))
    else:
        number = parse_part("--unseen", args.unseen).of(len(specs), "meshes")
    if number and not images:
        raise UserError(
            f"--unseen {args.unseen}: no images are asked of these meshes: add --unseen-count or --test, or leave it out"
        )
    if args.unseen_count and not number:
        raise UserError(
            f"--unseen-count {args.unseen_count}: none of {len(specs)} meshes is unseen: add --unseen with their number"
        )
    lowest = sorted(specs, key=lambda spec: (hash_of(spec.name), spec.name))[:number]
    return sorted(lowest, key=lambda spec: spec.name)


def tasks_of(specs: list[MeshSpec], count: int, turntable: int = 1, first_object: int = 0) -> Iterator[tuple[MeshSpec, list[int]]]:
    """Yields (mesh, indices of the examples that show it): object o is mesh o modulo their number."""
    for place, spec in enumerate(specs):
        first = first_object + (place - first_object) % len(specs)
        objects = range(first, first_object + count // turntable, len(specs))
        indices = [turntable * shown + turn for shown in objects for turn in range(turntable)]
        for start in range(0, len(indices), EXAMPLES_PER_TASK):
            yield spec, indices[start : start + EXAMPLES_PER_TASK]


def find(args: argparse.Namespace) -> list[MeshSpec]:
    """The meshes that the flags name, sorted by name."""
    category, name = _pattern("--category", args.category), _pattern("--name-regex", args.name_regex)
    if args.source is not None:
        for flag, value in (("--preset", args.preset), ("--category", args.category), ("--library", args.library)):
            if value:
                raise UserError(f"{flag} {value}: it does not go with --source {args.source}: leave one of them out")
        return in_folder(args.source, name, args.up, args.yaw)
    if args.up != "y":
        raise UserError(f"--up {args.up}: it belongs to --source; the library's models stand upright")
    if not (args.preset or args.library or args.category or args.name_regex):
        raise UserError("--preset: nothing is named: use --preset, --source, --library, --category or --name-regex")
    folder = args.library or LIBRARY
    library = in_library(folder, args.yaw)
    if args.preset:
        wanted = PRESETS[args.preset].meshes
        missing = sorted(set(wanted) - {spec.name for _, spec in library})
        if missing:
            raise UserError(
                f"--library {folder}: {len(missing)} meshes of --preset {args.preset} are not there (first {missing[0]}): "
                "apt install sweethome3d-furniture, and leave --library out"
            )
        library = [(entry, spec) for entry, spec in library if spec.name in wanted]
    specs = [
        spec
        for entry, spec in library
        if category.search(entry.get("category", "")) and (name.search(entry.get("name", "")) or name.search(spec.name))
    ]
    if not specs:
        categories = ", ".join(sorted({entry.get("category", "") for entry, _ in library}))
        raise UserError(
            f"--category {args.category!r} --name-regex {args.name_regex!r}: none of {len(library)} meshes of {folder} "
            f"matches both; their categories: {categories}"
        )
    return sorted(specs, key=lambda spec: spec.name)


def _pattern(flag: str, text: str) -> re.Pattern:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise UserError(f"{flag} {text!r}: not a regular expression ({error})") from error


def in_folder(folder: Path, name: re.Pattern, up: str = "y", yaw_deg: float = 0.0) -> list[MeshSpec]:
    """The mesh files in a folder and those inside it, named by their path from there."""
    shown = printable(folder)
    if not os.path.isdir(folder):
        raise UserError(f"--source {shown}: no such folder")
    locked = []

    def failed(error: OSError) -> None:
        if error.filename is None or Path(error.filename) == folder:
            raise UserError(f"--source {shown} cannot be read ({error.strerror}): give a folder that you may read") from error
        locked.append(Path(error.filename))  # it cannot be loaded, and is left out and named with the meshes that cannot

    walked = os.walk(folder, onerror=failed)
    found = sorted(Path(inside, file) for inside, _, files in walked for file in files)
    found = [path for path in found if path.suffix.lower() in SUFFIXES]
    wanted = [path for path in found if name.search(path.relative_to(folder).as_posix())]
    if not wanted:
        raise UserError(
            f"--source {shown}: of {len(found)} {', '.join(SUFFIXES)} files none matches --name-regex {name.pattern!r}"
            + (f", and {len(locked)} folders cannot be read, {printable(locked[0])} the first" if locked else "")
        )
    return [
        MeshSpec(printable(path.relative_to(folder).as_posix()), str(path), rotation=UPRIGHT[up], yaw_deg=yaw_deg)
        for path in wanted + locked
    ]


def in_library(path: Path, yaw_deg: float = 0.0) -> list[tuple[dict[str, str], MeshSpec]]:
    """Every model of a Sweet Home 3D library with its catalogue entry.

    A mesh's name is its path in the ZIP, without the last part where that repeats the folder: "scopia/chair3".
    """
    archives = sorted(path.glob("*.sh3f")) if os.path.isdir(path) else [path]
    archives = [archive for archive in archives if os.path.isfile(archive)]
    if not archives:
        raise UserError(f"--library {printable(path)}: no .sh3f file there: apt install sweethome3d-furniture, or name another")
    found = []
    for archive in archives:
        try:
            with zipfile.ZipFile(archive) as opened:
                head, entries = parse_catalogue(opened.read(CATALOGUE))
        except Exception as error:  # zipfile has its own, and struct's, zlib's and Unicode's beside them.
            raise UserError(
                f"--library {printable(archive)}: not a Sweet Home 3D library ({printable(str(error))}): copy it again, or name "
                "another"
            ) from error
        for entry in entries:
            found.append((entry, _in_catalogue(entry, head, archive, yaw_deg)))
    return found


def _in_catalogue(entry: dict[str, str], head: dict[str, str], archive: Path, yaw_deg: float) -> MeshSpec:
    """The mesh of one entry of an archive's catalogue; `head` is what the catalogue says of all of them."""
    member = entry["model"].strip("/")
    folder, _, stem = member.rpartition(".")[0].rpartition("/")
    try:
        numbers = [float(word) for word in entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split()]
        size = tuple(float(entry[key]) for key in ("width", "height", "depth"))
        if len(numbers) != 9:
            raise ValueError(f"modelRotation has {len(numbers)} numbers")
    except (KeyError, ValueError) as error:
        raise UserError(
            f"--library {printable(archive)}: {CATALOGUE} says of {printable(member)} what cannot be read ({error}): width, height "
            "and depth are a number each, modelRotation is 9"
        ) from error
    return MeshSpec(
        name=printable(folder if folder.rpartition("/")[2] == stem else f"{folder}/{stem}"),
        path=str(archive),
        member=member,
        creator=" ".join(entry.get("creator", "").split()),
        license=LICENCES.get(archive.stem) or " ".join(entry.get("license", head.get("license", "")).split()),
        rotation=tuple(tuple(numbers[row : row + 3]) for row in (0, 3, 6)),
        size=size,
        yaw_deg=yaw_deg,
    )


def parse_catalogue(data: bytes) -> tuple[dict[str, str], list[dict[str, str]]]:
    r"""Reads a Java properties file of `key#number=value` lines: the keys without a number, and one dict for each number.

    Only models are kept (entries with a `model`); Latin-1 with \uXXXX escapes, as Java writes it.
    """
    head, entries = {}, {}
    for line in data.decode("latin-1").splitlines():
        match = re.match(r"\s*(\w+)(?:#(\d+))?\s*=\s*(.*)", line)
        if match:
            key, number, value = match.groups()
            value = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), value).strip()
            (head if number is None else entries.setdefault(int(number), {}))[key] = value
    return head, [entries[number] for number in sorted(entries) if "model" in entries[number]]


def credits_of(seen: list[MeshSpec], unseen: list[MeshSpec], left_out: list[str]) -> str:
    """The text of CREDITS: one line for each mesh with its creator, licence and splits, then what was left out and why."""
    lines = [
        "The images show these 3D models, stretched and recoloured where the data set's description says so.",
        "Licences that ask for attribution (CC-BY) ask it of the images too: keep this file with them.",
        "",
        "mesh\tcreator\tlicence\tfile\tsplit",
    ]
    for spec in sorted([*seen, *unseen], key=lambda spec: spec.name):
        creator, licence = spec.creator or "creator unknown", spec.license or "licence unknown"
        split = "unseen" if spec in unseen else "all but unseen" if unseen else "all"
        lines.append("\t".join([spec.name, creator, licence, printable(Path(spec.path).name), split]))
    lines += ["", *(f"left out: {fault}" for fault in left_out)] if left_out else []
    return "\n".join(lines) + "\n"
