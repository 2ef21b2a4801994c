"""Ray-cast furniture made of random boxes: no downloads, every view labelled.

Example i depends on --seed and i alone: neither on --count, --test nor on the number of workers. The objects of `train` are
number 0, 1, 2 and so on, those of `test` number 1,000,000,000 and on: no object changes sides, however many of either are asked
for. Each object stands in the unit sphere about the centre of its bounding box and is seen once, or --turntable times, by a
perspective camera whose field of view just holds that sphere at the smallest --distance: nothing is ever cut.
"""

import argparse
import functools
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep import raycast
from data_prep.splits import DEFAULT_TEST, Split, add_test_flag, parse_part
from holotf.errors import UserError
from holotf.images import encode

if TYPE_CHECKING:
    from data_prep.build import ImageBuilder

EXAMPLES_PER_TASK = 32
FIRST_OBJECT = {"train": 0, "test": 1_000_000_000, "unseen": 2_000_000_000}  # not the last of --count: those move with it
RANGES = {  # flag -> (default, what it is)
    "azimuth": ("0,360", "degrees, uniform; with an equals sign where it is negative: --azimuth=-60,60"),
    "elevation": ("15,35", "degrees, uniform, likewise"),
    "distance": ("3.5,3.5", "camera to object, in the object's bounding radii"),
}
PARTS = ("seat", "back", "legs")  # what the three colours of an example belong to: seat or board, back or sides, legs

# What an example can have: its attributes, by feature.
BACKS = ("none", "panel", "slats", "rungs", "hung")
LEGS = ("four", "rails", "sled", "column", "feet", "sides")
# Furniture-like colours, none near the white of the background. RGB in [0, 1].
COLOURS = {
    "red": (0.80, 0.24, 0.20),
    "orange": (0.90, 0.52, 0.18),
    "mustard": (0.88, 0.72, 0.22),
    "leaf": (0.42, 0.60, 0.28),
    "teal": (0.16, 0.52, 0.48),
    "blue": (0.22, 0.42, 0.72),
    "violet": (0.44, 0.32, 0.62),
    "rose": (0.78, 0.40, 0.54),
    "oak": (0.60, 0.42, 0.26),
    "walnut": (0.38, 0.24, 0.16),
    "slate": (0.34, 0.36, 0.40),
    "mist": (0.58, 0.68, 0.74),
}
_PALETTE = np.array(list(COLOURS.values()))
_WOODS_AND_METALS = np.array([8, 9, 10])  # of them


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    parser.add_argument("--kinds", default="chair", help=f"comma-separated: {', '.join(KINDS)} (default chair)")
    add_render_flags(parser, "by object")


def add_render_flags(parser: argparse.ArgumentParser, by: str, ranges: dict[str, tuple[str, str]] = RANGES) -> None:
    """Adds what every source that renders asks: how many images, from which seed, from where.

    Args:
      parser: gets the flags.
      by: how splits are cut, for the help.
      ranges: as RANGES.
    """
    parser.add_argument("--count", type=int, default=10_000, help="images of train and test together (default 10000)")
    add_test_flag(parser, f"{by} (default {DEFAULT_TEST}; with --turntable 0)".replace("%", "%%"))
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default 0)")
    for name, (default, about) in ranges.items():
        parser.add_argument(f"--{name}", default=default, metavar="LOW,HIGH", help=f"{about} (default {default})")
    parser.add_argument(
        "--turntable", type=int, default=1, metavar="K", help="K > 1: each object K times, at equal steps of azimuth (default 1)"
    )


def parse_render_flags(args: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Checks those flags and returns the camera's ranges by feature; UserError names a flag that makes no sense."""
    if not 1 <= args.count <= FIRST_OBJECT["test"]:
        raise UserError(f"--count {args.count}: use 1 or more, and at most {FIRST_OBJECT['test']}")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: use 0 or more")
    if args.turntable < 1 or args.count % args.turntable:
        raise UserError(f"--turntable {args.turntable} --count {args.count}: use 1 or more, and a count that is a multiple of it")
    return {
        "azimuth_deg": parse_range("--azimuth", args.azimuth, -360, 360),
        "elevation_deg": parse_range("--elevation", args.elevation, -90, 90),
        "distance": parse_range("--distance", args.distance, 1.2, 1000),
    }


def train_and_test(args: argparse.Namespace) -> dict[str, int]:
    """How many images of --count each of these splits gets; UserError where --test makes no sense."""
    default = DEFAULT_TEST if args.turntable == 1 else "0"
    test = parse_part("--test", default if args.test is None else args.test)
    if args.turntable == 1 or test.share is None:
        test_images = test.of(args.count)
    else:  # whole turns
        test_images = test.of(args.count // args.turntable, "turntables") * args.turntable
    check_turns(args.turntable, str(test), test_images)
    return {"train": args.count - test_images, "test": test_images}


def check_turns(turntable: int, given: str, images: int) -> None:
    """UserError where `images`, as `given` by a flag, are no whole number of turns."""
    if images % turntable:
        raise UserError(f"{given} --turntable {turntable}: use a multiple of {turntable} images")


def builder(args: argparse.Namespace, data_dir: str | os.PathLike) -> "ImageBuilder":
    """Returns the tfds builder for the parsed flags; UserError names a flag that makes no sense."""
    import tensorflow_datasets as tfds

    from data_prep.build import ImageBuilder

    kinds = tuple(args.kinds.split(","))
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--kinds {kind!r} is unknown: use {', '.join(KINDS)}")
    views = parse_render_flags(args)
    counts = train_and_test(args)
    number = tfds.features.Scalar(np.float32)
    return ImageBuilder(
        data_dir=data_dir,
        name="blocks",
        description=(
            f"Ray-cast furniture ({', '.join(kinds)}) of random boxes by holotf's data_prep.blocks: seed {args.seed}, "
            f"azimuth {args.azimuth} and elevation {args.elevation} degrees (the camera's), distance {args.distance} bounding "
            f"radii; {counts['test']} images of other objects are test. CC0."
        ),
        features={
            "image": tfds.features.Image(shape=(args.size, args.size, 3), encoding_format="png"),
            "azimuth_deg": number,
            "elevation_deg": number,
            "object": tfds.features.Scalar(np.int64),
            "kind": tfds.features.ClassLabel(names=[name for name in KINDS if name in kinds]),
            "colours": tfds.features.Tensor(shape=(len(PARTS), 3), dtype=np.uint8, doc=f"RGB of {', '.join(PARTS)}"),
            "back": tfds.features.ClassLabel(names=list(BACKS)),
            "legs": tfds.features.ClassLabel(names=list(LEGS)),
            **{f"{part}_colour": tfds.features.ClassLabel(names=list(COLOURS)) for part in PARTS},
        },
        function=functools.partial(examples, seed=args.seed, kinds=kinds, views=views, size=args.size, turntable=args.turntable),
        splits={split: Split(tasks_of(split, count, args.turntable), count) for split, count in counts.items()},
        workers=args.workers,
        beam=args.beam is not None,
        config="hologan_blocks",
    )


def tasks_of(split: str, count: int, turntable: int = 1) -> list[tuple[int, int]]:
    """The first index of each task of a split, and the one after its last."""
    first = FIRST_OBJECT[split] * turntable
    starts = range(first, first + count, EXAMPLES_PER_TASK)
    return [(start, min(start + EXAMPLES_PER_TASK, first + count)) for start in starts]


def parse_range(flag: str, text: str, lowest: float, highest: float) -> tuple[float, float]:
    """Reads `LOW,HIGH` with lowest <= LOW <= HIGH <= highest, or raises a UserError that names `flag`."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = np.nan, np.nan
    if not lowest <= low <= high <= highest:
        raise UserError(f"{flag} {text!r}: use LOW,HIGH with {lowest:g} <= LOW <= HIGH <= {highest:g}")
    return low, high


def turned(index: int, turntable: int, views: dict[str, tuple[float, float]]) -> tuple[int, dict[str, tuple[float, float]]]:
    """Which object example `index` shows, and the camera's ranges for it.

    One object an example; with a turntable of K > 1, K in a row show one, from azimuths at equal steps through the range.
    """
    shown, turn = divmod(index, turntable)
    if turntable > 1:
        low, high = views["azimuth_deg"]
        views = views | {"azimuth_deg": (low + (high - low) * turn / turntable,) * 2}
    return shown, views


def examples(task: tuple[int, int], **settings: Any) -> list[tuple[int, dict]]:
    """Returns (index, example) for index in range(*task), with the settings of `example`."""
    return [(index, example(index, **settings)) for index in range(*task)]


def example(
    index: int, seed: int, kinds: tuple[str, ...], views: dict[str, tuple[float, float]], size: int, turntable: int = 1
) -> dict:
    """Makes one object and draws one view of it.

    Args:
      index: which example; with `seed`, the only source of randomness.
      seed: of the data set.
      kinds: names among KINDS, equally likely.
      views: `azimuth_deg`, `elevation_deg` and `distance` (bounding radii) -> (low, high), uniform.
      size: pixels a side.
      turntable: as `turned` takes it.

    Returns:
      a dict of the features, the image as PNG bytes.
    """
    shown, views = turned(index, turntable, views)
    rng = np.random.default_rng([seed, shown])
    kind = kinds[rng.integers(len(kinds))]
    boxes, colours, attributes = furniture(kind, rng)
    azimuth_deg, elevation_deg, distance = (rng.uniform(*views[name]) for name in ("azimuth_deg", "elevation_deg", "distance"))
    pixels = raycast.render(boxes, azimuth_deg, elevation_deg, distance, size, half_width=field_of_view(views["distance"][0]))
    return {
        "image": encode(pixels, "png"),
        "azimuth_deg": np.float32(azimuth_deg),
        "elevation_deg": np.float32(elevation_deg),
        "object": shown,
        "kind": kind,
        "colours": np.round(colours * 255).astype(np.uint8),
        **attributes,
    }


def field_of_view(distance: float) -> float:
    """Returns the tangent of half the field of view that just holds the unit sphere, seen from `distance`."""
    return 1 / np.sqrt(distance**2 - 1)


def furniture(kind: str, rng: np.random.Generator) -> tuple[raycast.Boxes, np.ndarray, dict[str, str]]:
    """Makes a random piece of furniture.

    Returns:
      (its boxes, normalised to the unit sphere; its colours [3,3], PARTS x RGB in [0, 1]; its attributes by name: `back`, of BACKS,
      `legs`, of LEGS, and the colours of its parts, of COLOURS, each a little changed in what is drawn).
    """
    chosen, colours = _colours(rng)
    parts, styles = KINDS[kind](rng)
    boxes = raycast.Boxes(
        centres=np.array([part[1] for part in parts], np.float32),
        half_sizes=np.array([part[2] for part in parts], np.float32) / 2,
        rotations=np.stack([_about_x(part[3]) for part in parts]),
        colours=np.array([colours[PARTS.index(part[0])] for part in parts], np.float32),
    )
    names = {f"{part}_colour": list(COLOURS)[number] for part, number in zip(PARTS, chosen, strict=True)}
    return boxes.normalised(), colours, {"back": "none"} | styles | names


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of three of COLOURS, and the three a little changed [3,3].

    Seat and back differ, so that front and behind do; legs are wood or metal in half of the pieces.
    """
    chosen = rng.choice(len(_PALETTE), 3, replace=False)
    if rng.random() < 0.5:
        chosen[2] = _WOODS_AND_METALS[rng.integers(len(_WOODS_AND_METALS))]
    return chosen, np.clip(_PALETTE[chosen] + rng.uniform(-0.06, 0.06, (3, 3)), 0.08, 0.92)


def _about_x(lean_deg: float) -> np.ndarray:
    """The rotation that leans the top of a box backwards (toward -z) by `lean_deg`."""
    sin, cos = np.sin(np.radians(lean_deg)), np.cos(np.radians(lean_deg))
    return np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]], np.float32)


# Each piece is a list of (part, centre xyz, size xyz, lean_deg), standing on y = 0, its front toward +z, in about metres; and the
# styles of its legs and, where it has one, of its back.


def _upright(part: str, x: float, z: float, foot: float, top: float, width: float, depth: float) -> tuple:
    return part, (x, (foot + top) / 2, z), (width, top - foot, depth), 0.0


def _legs(
    rng: np.random.Generator, width: float, depth: float, top: float, styles: str = "four rails sled column"
) -> tuple[str, list]:
    """What carries a board of width x depth at height `top`: its style and its parts."""
    style = str(rng.choice(styles.split()))
    thick = rng.uniform(0.045, 0.08)
    inset = rng.uniform(0, 0.03) + thick / 2
    x, z = width / 2 - inset, depth / 2 - inset
    if style == "column":
        foot = rng.uniform(0.04, 0.06)
        spread = rng.uniform(0.75, 0.95)
        return style, [
            _upright("legs", 0, 0, 0, top, 1.4 * thick, 1.4 * thick),
            ("legs", (0, foot / 2, 0), (spread * width, foot, 1.3 * thick), 0.0),
            ("legs", (0, foot / 2, 0), (1.3 * thick, foot, spread * depth), 0.0),
        ]
    legs = [_upright("legs", sx * x, sz * z, 0, top, thick, thick) for sx in (-1, 1) for sz in (-1, 1)]
    if style == "rails":
        height = rng.uniform(0.25, 0.5) * top
        legs += [("legs", (sx * x, height, 0), (0.7 * thick, 0.7 * thick, 2 * z), 0.0) for sx in (-1, 1)]
        legs += [("legs", (0, height, -z), (2 * x, 0.7 * thick, 0.7 * thick), 0.0)]
    elif style == "sled":
        legs += [("legs", (sx * x, thick / 2, 0), (thick, thick, 2 * z + thick), 0.0) for sx in (-1, 1)]
    return style, legs


def _back(rng: np.random.Generator, width: float, z: float, foot: float, height: float, lean_deg: float) -> tuple[str, list]:
    """A backrest whose lower edge's middle is at (0, foot, z), leaning back: its style and its parts."""
    style = str(rng.choice(["panel", "panel", "slats", "rungs", "hung"]))
    thick = rng.uniform(0.045, 0.08)
    sin, cos = np.sin(np.radians(lean_deg)), np.cos(np.radians(lean_deg))

    def piece(part: str, x: float, up: float, size_x: float, size_up: float, scale: float = 1.0) -> tuple:
        return part, (x, foot + up * cos, z - up * sin), (size_x, size_up, scale * thick), lean_deg

    if style == "panel":
        return style, [piece("back", 0, height / 2, width, height)]
    post = rng.uniform(0.05, 0.075)
    posts = [piece("legs", side * (width - post) / 2, height / 2, post, height) for side in (-1, 1)]
    if style == "hung":
        part_height = rng.uniform(0.5, 0.65) * height
        return style, [*posts, piece("back", 0, height - part_height / 2, width - 2 * post, part_height, 0.8)]
    if style == "rungs":
        count = rng.integers(2, 5)
        rung = height / (count + rng.uniform(0.6, 1.2) * count)
        tops = height - rung / 2 - np.arange(count) * (height - rung / 2) / count
        return style, posts + [piece("back", 0, up, width - 2 * post, rung, 0.7) for up in tops]
    rail = rng.uniform(0.18, 0.28) * height
    count = rng.integers(2, 5)
    slat = (width - 2 * post) / (2 * count + 1)
    at = (np.arange(count) - (count - 1) / 2) * 2 * slat
    return style, [*posts, piece("back", 0, height - rail / 2, width, rail, 1.05)] + [
        piece("back", x, (height - rail) / 2, slat, height - rail, 0.6) for x in at
    ]


def _chair(rng: np.random.Generator) -> tuple[list, dict[str, str]]:
    width, depth = rng.uniform(0.42, 0.60), rng.uniform(0.42, 0.56)
    seat_top, seat_thick = rng.uniform(0.40, 0.54), rng.uniform(0.05, 0.11)
    back_height = rng.uniform(0.42, 0.68)
    legs, parts = _legs(rng, width, depth, seat_top - seat_thick)
    parts.append(("seat", (0, seat_top - seat_thick / 2, 0), (width, seat_thick, depth), 0.0))
    back_width = width * rng.uniform(0.85, 1.0)
    back, rest = _back(rng, back_width, -depth / 2 + 0.035, seat_top - seat_thick / 2, back_height, rng.uniform(0, 12))
    return parts + rest, {"legs": legs, "back": back}


def _armchair(rng: np.random.Generator) -> tuple[list, dict[str, str]]:
    width, depth = rng.uniform(0.60, 0.85), rng.uniform(0.55, 0.75)
    arm = rng.uniform(0.07, 0.15)
    if rng.random() < 0.5:  # upholstered: arms and back are solid down to the low base
        base, seat_top = rng.uniform(0.05, 0.14), rng.uniform(0.36, 0.46)
        arm_top, back_top = seat_top + rng.uniform(0.14, 0.24), seat_top + rng.uniform(0.38, 0.58)
        back_thick = rng.uniform(0.10, 0.18)
        x, z = width / 2 - 0.06, depth / 2 - 0.06
        parts = [_upright("legs", sx * x, sz * z, 0, base, 0.07, 0.07) for sx in (-1, 1) for sz in (-1, 1)]
        parts.append(_upright("seat", 0, back_thick / 2, base, seat_top, width - 2 * arm, depth - back_thick))
        parts += [_upright("back", side * (width - arm) / 2, 0, base, arm_top, arm, depth) for side in (-1, 1)]
        parts.append(_upright("back", 0, (back_thick - depth) / 2, base, back_top, width - 2 * arm, back_thick))
        return parts, {"legs": "feet", "back": "panel"}
    seat_top, seat_thick = rng.uniform(0.40, 0.48), rng.uniform(0.06, 0.12)
    arm_top = seat_top + rng.uniform(0.18, 0.26)
    legs, parts = _legs(rng, width, depth, seat_top - seat_thick, "four rails sled")
    parts.append(("seat", (0, seat_top - seat_thick / 2, 0), (width, seat_thick, depth), 0.0))
    for side in (-1, 1):
        x = side * (width / 2 - 0.03)
        parts.append(("legs", (x, arm_top, 0), (0.06, 0.05, depth), 0.0))
        parts.append(_upright("legs", x, depth / 2 - 0.05, seat_top, arm_top, 0.05, 0.05))
    foot = seat_top - seat_thick / 2
    back, rest = _back(rng, width - 0.12, -depth / 2 + 0.035, foot, rng.uniform(0.45, 0.65), rng.uniform(0, 14))
    return parts + rest, {"legs": legs, "back": back}


def _stool(rng: np.random.Generator) -> tuple[list, dict[str, str]]:
    side, depth = rng.uniform(0.34, 0.46), rng.uniform(0.30, 0.46)
    top, thick = rng.uniform(0.45, 0.80), rng.uniform(0.05, 0.12)
    legs, parts = _legs(rng, side, depth, top - thick)
    return [*parts, ("seat", (0, top - thick / 2, 0), (side, thick, depth), 0.0)], {"legs": legs}


def _table(rng: np.random.Generator) -> tuple[list, dict[str, str]]:
    width, depth = rng.uniform(0.9, 1.5), rng.uniform(0.6, 0.9)
    top, thick = rng.uniform(0.45, 0.78), rng.uniform(0.04, 0.09)
    legs, parts = _legs(rng, width, depth, top - thick)
    parts.append(("seat", (0, top - thick / 2, 0), (width, thick, depth), 0.0))
    if rng.random() < 0.5:  # A drawer, at the front only.
        parts.append(("back", (0, top - thick - 0.08, depth / 4), (0.5 * width, 0.16, depth / 2 - 0.02), 0.0))
    return parts, {"legs": legs}


def _bench(rng: np.random.Generator) -> tuple[list, dict[str, str]]:
    width, depth = rng.uniform(0.9, 1.5), rng.uniform(0.36, 0.5)
    top, thick = rng.uniform(0.40, 0.50), rng.uniform(0.05, 0.10)
    legs, parts = _legs(rng, width, depth, top - thick, "four rails sled")
    parts.append(("seat", (0, top - thick / 2, 0), (width, thick, depth), 0.0))
    if rng.random() >= 0.6:
        return parts, {"legs": legs}
    back, rest = _back(rng, width, -depth / 2 + 0.035, top - thick / 2, rng.uniform(0.34, 0.5), rng.uniform(0, 12))
    return parts + rest, {"legs": legs, "back": back}


def _shelf(rng: np.random.Generator) -> tuple[list, dict[str, str]]:
    width, depth, height = rng.uniform(0.6, 1.0), rng.uniform(0.26, 0.42), rng.uniform(0.9, 1.5)
    thick = rng.uniform(0.04, 0.06)
    parts = [_upright("legs", side * (width - thick) / 2, 0, 0, height, thick, depth) for side in (-1, 1)]
    boards = np.linspace(0.06, height - thick / 2, rng.integers(3, 6))
    parts += [("seat", (0, y, 0), (width - 2 * thick, thick, depth), 0.0) for y in boards]
    parts.append(_upright("back", 0, -depth / 2 + 0.012, 0, height, width - thick, 0.02))  # closed behind, open in front
    return parts, {"legs": "sides", "back": "panel"}


KINDS = {"chair": _chair, "armchair": _armchair, "stool": _stool, "table": _table, "bench": _bench, "shelf": _shelf}
