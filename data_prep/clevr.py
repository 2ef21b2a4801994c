"""Scenes of one to three cubes, spheres and cylinders in eight colours, as in CLEVR, ray-cast: no downloads, everything labelled.

Example i depends on --seed, --objects, --unseen, the view's flags and i alone. Of all combinations of kinds some (--unseen) are
kept from train and test and shown in the split unseen; conditions.json lists combinations of either sort, for a generator to be
asked for. The scenes of train are number 0 and on, those of test 1,000,000,000 and on, those of unseen 2,000,000,000 and on.
Solids stand on the ground, apart from each other, each for the most part in view (with --turntable, from the first side), and no
kind is there twice.
"""

import argparse
import functools
import itertools
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data_prep import solids
from data_prep.blocks import (
    FIRST_OBJECT,
    RANGES,
    add_render_flags,
    field_of_view,
    parse_range,
    parse_render_flags,
    tasks_of,
    train_and_test,
    turned,
)
from data_prep.conditions import CONDITIONS_FILE, conditions_text
from data_prep.raycast import camera_axes
from data_prep.splits import Part, Split, hash_of, parse_part
from holotf.errors import UserError
from holotf.images import encode

if TYPE_CHECKING:
    from data_prep.build import ImageBuilder

COLOURS = {  # sRGB. Source: CLEVR's image_generation/data/properties.json (Johnson et al. 2017, arXiv 1612.06890)
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
KINDS = tuple(f"{colour} {shape}" for shape in ("cube", "sphere", "cylinder") for colour in COLOURS)
MOST = 3  # objects in an image
LISTED = 32  # conditions of each number of objects in a list
RADII = (0.23, 0.26)  # of a solid's footprint, in radii of the scene
GAP = 0.12  # between two of them, at least
SEEN = 0.6  # share of a solid that no other may hide
LAMP_AZIMUTH_DEG, LAMP_ELEVATION_DEG = (-60.0, -40.0), (42.0, 52.0)
_FARTHEST = 0.92  # of a footprint's edge from the middle: the top of what stands there is inside the unit sphere
_LOOK_PX = 64  # at which is looked whether all are in view, whatever the size of the images
_SUPERSAMPLE = 2
_LINEAR = {colour: ((np.array(rgb) / 255 + 0.055) / 1.055) ** 2.4 for colour, rgb in COLOURS.items()}  # all above 0.04
_VIEWS = RANGES | {
    "azimuth": ("-10,10", "degrees, uniform; with an equals sign where it is negative: --azimuth=-60,60"),
    "elevation": ("25,32", "degrees, uniform"),
    "distance": ("3.5,3.5", "camera to the middle of the scene, in the scene's radii"),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    parser.add_argument(
        "--objects", default=f"1,{MOST}", metavar="LOW,HIGH", help=f"in an image, equally likely, 1 to {MOST} (default 1,{MOST})"
    )
    parser.add_argument(
        "--unseen",
        default="10%",
        metavar="PART",
        help=(
            "combinations of each number of objects that are kept from train and test, as 10% or 20 (single kinds only where they "
            "can be seen beside others); their split, unseen, has as many images as test, beside --count (default 10%)"
        ).replace("%", "%%"),
    )
    add_render_flags(parser, "by scene", _VIEWS)


def builder(args: argparse.Namespace, data_dir: str | os.PathLike) -> "ImageBuilder":
    """Returns the tfds builder for the parsed flags; UserError names a flag that makes no sense."""
    import tensorflow_datasets as tfds

    from data_prep.build import ImageBuilder

    views = parse_render_flags(args)
    counts = train_and_test(args)
    low, high = parse_range("--objects", args.objects, 1, MOST)
    if low != int(low) or high != int(high):
        raise UserError(f"--objects {args.objects!r}: use whole numbers")
    unseen = parse_part("--unseen", args.unseen)
    found = combinations(args.seed, unseen, int(low), int(high))
    if lost := sorted(set(KINDS) - {KINDS[kind] for pool in found.seen.values() for kinds in pool for kind in kinds}):
        raise UserError(f"{unseen}: {lost[0]} and {len(lost) - 1} more kinds would be in no image of train: use less")
    counts["unseen"] = counts["test"] if found.unseen else 0
    number = tfds.features.Scalar(np.float32)
    return ImageBuilder(
        data_dir=data_dir,
        name="clevr",
        description=(
            f"Ray-cast scenes of {args.objects} cubes, spheres and cylinders in eight colours by holotf's data_prep.clevr, after "
            f"CLEVR: seed {args.seed}, azimuth {args.azimuth} and elevation {args.elevation} degrees (the camera's), distance "
            f"{args.distance} radii of the scene; {args.unseen} of the combinations of kinds are in the split unseen alone. CC0."
        ),
        features={
            "image": tfds.features.Image(shape=(args.size, args.size, 3), encoding_format="png"),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=list(KINDS))),
            "positions": tfds.features.Tensor(
                shape=(None, 3),
                dtype=np.float32,
                doc="of the solids' centres, in the order of labels, radii of the scene",
            ),
            "azimuth_deg": number,
            "elevation_deg": number,
            "object": tfds.features.Scalar(np.int64, doc="number of the scene"),
        },
        function=functools.partial(
            examples,
            seed=args.seed,
            unseen=unseen,
            objects=(int(low), int(high)),
            views=views,
            size=args.size,
            turntable=args.turntable,
        ),
        splits={split: Split(tasks_of(split, count, args.turntable), count) for split, count in counts.items()},
        workers=args.workers,
        beam=args.beam is not None,
        config="projection_clevr",
        files={CONDITIONS_FILE: conditions_text(lists(args.seed, found))},
    )


class Combinations(NamedTuple):
    """Combinations of kinds, by their number: {number: [(places in KINDS, rising)]}, in an order that --seed decides.

    Attributes:
      seen: those of train and test.
      unseen: those that are kept from them; numbers of which none are kept are not there.
    """

    seen: dict[int, list[tuple[int, ...]]]
    unseen: dict[int, list[tuple[int, ...]]]


@functools.cache
def combinations(seed: int, unseen: Part, low: int, high: int) -> Combinations:
    """All combinations of `low` to `high` kinds, and which of them train and test do not show."""
    found = Combinations({}, {})
    for number in range(low, high + 1):
        every = sorted(
            itertools.combinations(range(len(KINDS)), number),
            key=lambda kinds: (hash_of(str(seed), *(KINDS[kind] for kind in kinds)), kinds),
        )
        kept = 0 if number == high == 1 else unseen.of(len(every), f"combinations of {number}")
        found.seen[number] = every[kept:]
        if kept:
            found.unseen[number] = every[:kept]
    return found


def lists(seed: int, found: Combinations) -> dict[str, list[list[str]]]:
    """Conditions to ask for: `test`, combinations that train shows, and `unseen`, which it does not.

    Each has as many of every number of objects, so that one object counts as much as three; where there are fewer combinations,
    they come again.
    """

    def drawn(pools):
        chosen = [itertools.islice(itertools.cycle(pool), LISTED) for _, pool in sorted(pools.items())]
        return [[KINDS[kind] for kind in kinds] for kinds in itertools.chain(*chosen)]

    return {"test": drawn(found.seen)} | ({"unseen": drawn(found.unseen)} if found.unseen else {})


def examples(task: tuple[int, int], **settings: Any) -> list[tuple[int, dict]]:
    """Returns (index, example) for index in range(*task), with the settings of `example`."""
    return [(index, example(index, **settings)) for index in range(*task)]


def example(
    index: int,
    seed: int,
    unseen: Part,
    objects: tuple[int, int],
    views: dict[str, tuple[float, float]],
    size: int,
    turntable: int = 1,
) -> dict:
    """Makes one scene and draws one view of it.

    Args:
      index: which example; with `seed`, the only source of randomness.
      seed: of the data set.
      unseen: which part of the combinations train and test do not show.
      objects: the least and the most in an image.
      views: `azimuth_deg`, `elevation_deg` and `distance` (radii of the scene) -> (low, high), uniform.
      size: pixels a side.
      turntable: as `blocks.turned` takes it.

    Returns:
      a dict of the features, the image as PNG bytes.
    """
    shown, ranges = turned(index, turntable, views)
    rng = np.random.default_rng([seed, shown])
    found = combinations(seed, unseen, *objects)
    pools = found.unseen if shown >= FIRST_OBJECT["unseen"] else found.seen
    pool = pools[rng.choice(sorted(pools))]
    kinds = [KINDS[kind] for kind in pool[rng.integers(len(pool))]]
    along, *others = rng.random(3)
    first = turned(shown * turntable, turntable, views)[1]  # the side from which all of them are in view
    first_deg, azimuth_deg = (_at(along, r["azimuth_deg"]) for r in (first, ranges))
    elevation_deg, distance = (_at(u, views[name]) for u, name in zip(others, ("elevation_deg", "distance"), strict=True))
    half_width = field_of_view(views["distance"][0])
    scene = arranged(kinds, rng, (first_deg, elevation_deg, views["distance"][0]), half_width)  # so near that none is too small
    lamp_deg = rng.uniform(*LAMP_AZIMUTH_DEG), rng.uniform(*LAMP_ELEVATION_DEG)
    view = solids.look(scene, azimuth_deg, elevation_deg, distance, size, half_width, _SUPERSAMPLE)
    return {
        "image": encode(solids.shade(scene, view, camera_axes(*lamp_deg)[2]), "png"),
        "labels": kinds,
        "positions": scene.middles,
        "azimuth_deg": np.float32(azimuth_deg),
        "elevation_deg": np.float32(elevation_deg),
        "object": shown,
    }


def _at(share, ends):
    return ends[0] + share * (ends[1] - ends[0])


def arranged(kinds: list[str], rng: np.random.Generator, view: tuple[float, float, float], half_width: float) -> solids.Solids:
    """Solids of these kinds at random places inside the unit sphere, drawn until none touches or hides too much of another.

    Args:
      kinds: names among KINDS.
      rng: the source of randomness.
      view: azimuth_deg, elevation_deg and distance from which they are to be seen.
      half_width: as `solids.look` takes it.
    """
    colours, shapes = zip(*(kind.split() for kind in kinds), strict=True)
    albedo = np.array([_LINEAR[colour] for colour in colours], np.float32)
    while True:
        radii = rng.uniform(*RADII, len(kinds)).astype(np.float32)
        away = np.sqrt(rng.random(len(kinds))) * (_FARTHEST - radii)
        angle = rng.uniform(0, 2 * np.pi, len(kinds))
        centres = (away[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)).astype(np.float32)
        turns_deg = rng.uniform(0, 90, len(kinds)).astype(np.float32)
        made = solids.Solids(shapes, centres, radii, turns_deg, albedo)
        apart = np.linalg.norm(centres[:, None] - centres, axis=-1) - radii[:, None] - radii
        if (apart + 10 * np.eye(len(kinds)) < GAP).any():
            continue
        if solids.look(made, *view, _LOOK_PX, half_width, 1).seen.min() >= SEEN:
            return made
