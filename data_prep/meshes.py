"""Real 3D models drawn from every side: a folder of meshes, or the furniture libraries of Sweet Home 3D.

`--source DIR` takes OBJ, GLB, glTF, PLY and STL files; `--library DIR` takes .sh3f files (Debian: sweethome3d-furniture), from
which --preset, --category and --name-regex choose. Each image shows one mesh, normalised to the unit sphere about the centre
of its bounding box, by a perspective camera that never cuts it. Example i depends on --seed, i and the list of meshes alone.
"""

import argparse
import functools
import math
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep import render
from data_prep.blocks import parse_range
from data_prep.images import encode
from holotf.errors import UserError

LIBRARY = "/usr/share/sweethome3d/furniture"
APT_LIBRARY = "apt install sweethome3d-furniture"
SUFFIXES = (".obj", ".glb", ".gltf", ".ply", ".stl")
EXAMPLES_PER_TASK = 32
LICENCES = {  # of Debian's sweethome3d-furniture, from its copyright file
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0-US",
    "Reallusion": "CC-BY-3.0-US",
    "Scopia": "CC-BY-3.0",
}


@dataclass(frozen=True)
class Preset:
    """A choice from the libraries whose meshes were looked at one by one, from four sides.

    Attributes:
      pattern: of the catalogue's "name | category", case-insensitive.
      without: mesh -> why it is left out.
    """

    pattern: str
    without: dict


PRESETS = {
    "chairs": Preset(
        r"chair",
        {
            "blendswap-cc-0/relaxChair": "a lounger; stands tipped in some versions of the catalogue",
            "blendswap-cc-0/deckChair": "a lounger",
            "blendswap-cc-0/foldingChair": "a stool: no back, no front",
            "blendswap-cc-by/chair_deck": "a sun lounger",
            "blendswap-cc-by/wheelchair": "a wheelchair",
            "katorlegaz/chair-ottoman": "two things: an armchair and its ottoman",
            "scopia/ext_chair": "the corner of a sofa",
            "scopia/beach_chair": "a sun lounger",
            "scopia/baby_high_chair": "a high chair with a tray",
            "scopia/ryokanChair": "no legs",
        },
    ),
    "cars": Preset(
        r"^(ford focus|concept sedan|vw new beetle|seat leon|peugeot|renault|suv|chevrolet|van|smart car)\b.*vehicles",
        {
            "katorlegaz/concept-sedan-02": "124,188 faces",
            "katorlegaz/concept-sedan-02-sport": "120,284 faces",
        },
    ),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    parser.add_argument(
        "--source", type=Path, metavar="DIR", help=f"a folder of meshes ({', '.join(SUFFIXES)}), searched to its depth"
    )
    parser.add_argument(
        "--library", type=Path, default=Path(LIBRARY), metavar="DIR", help=f"a folder of .sh3f files (default {LIBRARY})"
    )
    parser.add_argument("--preset", help=f"a choice from the library that was looked through: {', '.join(PRESETS)}")
    parser.add_argument("--category", default="", metavar="REGEX", help="of the library's categories")
    parser.add_argument(
        "--name-regex", default="", metavar="REGEX", help="of the meshes' names, in the library or below the folder"
    )
    parser.add_argument("--count", type=int, default=10_000, help="images (default 10000)")
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default 0)")
    parser.add_argument("--azimuth", default="0,360", metavar="LOW,HIGH", help="degrees, uniform (default 0,360)")
    parser.add_argument("--elevation", default="15,35", metavar="LOW,HIGH", help="degrees, uniform (default 15,35)")
    parser.add_argument(
        "--distance", default="3.5,3.5", metavar="LOW,HIGH", help="camera to object, in bounding radii (default 3.5,3.5)"
    )
    parser.add_argument("--stretch", type=float, metavar="FACTOR", help="each axis by up to this factor (default 1, presets 1.15)")
    parser.add_argument("--recolour", action=argparse.BooleanOptionalAction, help="random colours (default: with presets)")


def builder(args: argparse.Namespace, data_dir: str | os.PathLike):
    """Returns the tfds builder for the parsed flags; UserError names a flag that makes no sense, or what to install."""
    import tensorflow_datasets as tfds

    from data_prep.build import ImageBuilder

    if args.beam is not None or args.workers < 1:
        flag = "--beam" if args.beam is not None else f"--workers {args.workers}"
        raise UserError(
            f"{flag}: meshes are drawn in processes of this machine without TensorFlow; use --workers 1 or more, no --beam"
        )
    for flag, value, lowest in (("--count", args.count, 1), ("--seed", args.seed, 0)):
        if value < lowest:
            raise UserError(f"{flag} {value}: use {lowest} or more")
    stretch = args.stretch if args.stretch is not None else (1.15 if args.preset else 1.0)
    if not 1 <= stretch <= 4:
        raise UserError(f"--stretch {stretch:g}: use 1 (none) to 4")
    ranges = {
        "azimuth_deg": parse_range("--azimuth", args.azimuth, -360, 360),
        "elevation_deg": parse_range("--elevation", args.elevation, -90, 90),
        "distance": parse_range("--distance", args.distance, 1.2, 1000),
    }
    specs = choose(args)
    recolour = args.recolour if args.recolour is not None else args.preset is not None
    numbers = [range(mesh, args.count, len(specs)) for mesh in range(len(specs))]
    tasks = [
        (spec, tuple(mine[start : start + EXAMPLES_PER_TASK]))
        for spec, mine in zip(specs, numbers, strict=True)
        for start in range(0, len(mine), EXAMPLES_PER_TASK)
    ]
    number = tfds.features.Scalar(np.float32)
    credits = "\n".join(f"{s.name}\t{s.creator or 'creator unknown'}\t{s.license or 'licence unknown'}" for s in specs)
    return ImageBuilder(
        data_dir=data_dir,
        name="meshes",
        description=(
            f"{len(specs)} meshes ({args.preset or args.source or args.library}) drawn by holotf's data_prep.meshes: seed {args.seed}, "
            f"azimuth {args.azimuth} and elevation {args.elevation} degrees (the camera's), distance {args.distance} bounding radii, "
            f"stretch {stretch:g}, {'recoloured' if recolour else 'own colours'}. Creators and licences: CREDITS."
        ),
        features={
            "image": tfds.features.Image(shape=(args.size, args.size, 3), encoding_format="png"),
            "azimuth_deg": number,
            "elevation_deg": number,
            "mesh": tfds.features.Text(),
            "creator": tfds.features.Text(),
            "license": tfds.features.Text(),
        },
        function=functools.partial(examples, seed=args.seed, ranges=ranges, size=args.size, stretch=stretch, recolour=recolour),
        tasks=tasks,
        total=args.count,
        workers=args.workers,
        files={"CREDITS": f"mesh\tcreator\tlicence\n{credits}\n"},
    )


def choose(args: argparse.Namespace) -> list[render.MeshSpec]:
    """Returns the meshes the flags name, sorted by name; UserError where there are none."""
    if args.source and args.preset:
        raise UserError(f"--preset {args.preset} chooses from the library: leave out --source, or use --name-regex")
    if args.preset and args.preset not in PRESETS:
        raise UserError(f"--preset {args.preset!r} is unknown: use {', '.join(PRESETS)}")
    patterns = {}
    for flag, text in (("--category", args.category), ("--name-regex", args.name_regex)):
        try:
            patterns[flag] = re.compile(text, re.IGNORECASE)
        except re.error as error:
            raise UserError(f"{flag} {text!r} is not a regular expression: {error}") from error
    if args.source:
        found = [("", spec) for spec in _in_folder(args.source)]
    else:
        found = library(args.library)
    if args.preset:
        preset = PRESETS[args.preset]
        found = [(c, s) for c, s in found if re.search(preset.pattern, c, re.IGNORECASE) and s.name not in preset.without]
    specs = [
        spec
        for catalogue, spec in found
        if patterns["--category"].search(catalogue.rpartition(" | ")[2])
        and (
            patterns["--name-regex"].search(spec.name)
            or patterns["--name-regex"].search(catalogue.rpartition(" | ")[0] or spec.name)
        )
    ]
    if not specs:
        raise UserError(
            f"no mesh of {args.source or args.library} is left of {len(found)}: widen --category, --name-regex or --preset"
        )
    return sorted(specs, key=lambda spec: spec.name)


def _in_folder(folder: Path) -> list[render.MeshSpec]:
    if not folder.is_dir():
        raise UserError(f"--source {folder} is not a folder: name one with {', '.join(SUFFIXES)} files")
    paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES]
    return [render.MeshSpec(str(p.relative_to(folder).with_suffix("")), str(p)) for p in paths]


def library(folder: Path) -> list[tuple[str, render.MeshSpec]]:
    """Reads the catalogues of a folder's .sh3f files: ("name | category", mesh) of each."""
    files = sorted(folder.glob("*.sh3f")) if folder.is_dir() else []
    if not files:
        raise UserError(f"--library {folder} holds no .sh3f files: {APT_LIBRARY}, or name a folder of meshes with --source")
    found = []
    for path in files:
        with zipfile.ZipFile(path) as archive:
            text = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")  # as Java's .properties are
        entries: dict[str, dict[str, str]] = {}
        for key, number, value in re.findall(r"^(\w+)#(\d+)\s*=\s*(.*?)\s*$", text, re.MULTILINE):
            entries.setdefault(number, {})[key] = value
        for entry in entries.values():
            member = entry["model"].strip("/")
            stem, _, last = member.rsplit(".", 1)[0].rpartition("/")
            rotation = np.array(entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split(), float).reshape(3, 3)
            spec = render.MeshSpec(
                name=stem if stem.rpartition("/")[2] == last else f"{stem}/{last}",
                path=str(path),
                member=member,
                creator=entry.get("creator", ""),
                license=LICENCES.get(path.stem, ""),
                rotation=tuple(map(tuple, rotation.tolist())),
                size=tuple(float(entry[k]) for k in ("width", "height", "depth")),
            )
            found.append((f"{entry['name']} | {entry['category']}", spec))
    return found


def examples(task, seed: int, ranges: dict, size: int, stretch: float, recolour: bool) -> list[tuple[int, dict]]:
    """Draws one mesh's examples; runs in a process without TensorFlow.

    Args:
      task: (mesh, indices of its examples).
      seed: of the data set; with an index, the only source of randomness.
      ranges: azimuth_deg, elevation_deg, distance (bounding radii) -> (low, high), uniform.
      size: pixels a side.
      stretch: largest factor an axis is stretched or shrunk by; 1 is none.
      recolour: whether materials get random colours.

    Returns:
      [(index, example)].
    """
    spec, indices = task
    mesh, canvas = _loaded(spec), render.renderer(size)
    canvas.upload(mesh)
    half_fov_rad = math.asin(1 / ranges["distance"][0])  # just holds the unit sphere from the nearest distance
    made = []
    for index in indices:
        rng = np.random.default_rng([seed, index])
        azimuth_deg, elevation_deg, distance = (rng.uniform(*ranges[k]) for k in ("azimuth_deg", "elevation_deg", "distance"))
        factors = np.exp(rng.uniform(-1, 1, 3) * math.log(stretch))
        rows = render.recolour_rows(rng, mesh.materials) if recolour else None
        pixels = canvas.draw(render.View(azimuth_deg, elevation_deg, distance), half_fov_rad, factors, rows)
        example = {"azimuth_deg": np.float32(azimuth_deg), "elevation_deg": np.float32(elevation_deg)}
        example |= {"mesh": spec.name, "creator": spec.creator, "license": spec.license, "image": encode(pixels, "png")}
        made.append((index, example))
    return made


@functools.lru_cache(maxsize=2)
def _loaded(spec: render.MeshSpec) -> render.Mesh:
    return render.load(spec)
