"""Images that an exported HoloGAN draws, each with the azimuth and the elevation it was asked for.

--model is an export, RUN/saved_model. Example i of a split shows an object of its own, from a view drawn uniformly from the ranges
that the export's card gives: a function of --seed and i, neither of --count nor of --test. Images have the export's size. The
labels are the generator's own: what it calls azimuth 0, and which way round it turns, nobody told it. The export's card and the
credits of what it learnt from lie beside the shards. TensorFlow works on all cores: --workers has no effect.
"""

import argparse
import functools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.blocks import FIRST_OBJECT
from data_prep.names import printable
from data_prep.splits import DEFAULT_TEST, Split, add_test_flag, parse_part
from holotf import console
from holotf.errors import UserError, brief
from holotf.images import encode

if TYPE_CHECKING:
    from data_prep.build import ImageBuilder

CARD, CREDITS = "card.json", "CREDITS"
FORMAT = 1  # of cards that are understood
PER_TASK = 64  # images made at once: always so many, since the last bit of one may depend on how many there are
COLUMNS = ("azimuth_deg", "elevation_deg", "scale", "x", "y", "z")  # of a view
ENDPOINTS = {"latents": {"seed"}, "generate": {"z", "azimuth_deg", "elevation_deg", "scale", "translation"}}
SEEDS = 2**31  # that `latents` takes


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    parser.set_defaults(size=None)
    parser.add_argument("--model", type=Path, required=True, metavar="EXPORT", help="RUN/saved_model of a HoloGAN")
    parser.add_argument("--count", type=int, default=10_000, help="images of train and test together (default 10000)")
    add_test_flag(parser, f"of other objects (default {DEFAULT_TEST})".replace("%", "%%"))
    parser.add_argument("--seed", type=int, default=0, help="of objects and views, 0 or more (default 0)")


def builder(args: argparse.Namespace, data_dir: str | os.PathLike) -> "ImageBuilder":
    """Returns the tfds builder for the parsed flags; UserError names a flag that makes no sense, or what is amiss."""
    import tensorflow_datasets as tfds

    from data_prep.build import ImageBuilder

    if not 1 <= args.count <= FIRST_OBJECT["test"]:
        raise UserError(f"--count {args.count}: use 1 or more, and at most {FIRST_OBJECT['test']}")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: use 0 or more")
    card = read_card(args.model)
    model, size = card["model"], card["model"]["image_size"]
    if args.size not in (None, size):
        raise UserError(f"--size {args.size}: {printable(args.model)} draws {size} px: leave it out")
    folder = os.fspath(args.model.absolute())
    _exported(folder)  # here, where what is wrong is one line
    test = parse_part("--test", DEFAULT_TEST if args.test is None else args.test).of(args.count)
    counts = {"train": args.count - test, "test": test}
    ranges = {name: tuple(card["views"]["ranges"][name]) for name in COLUMNS}
    number, training = tfds.features.Scalar(np.float32), card["training"]
    return ImageBuilder(
        data_dir=data_dir,
        name="generated",
        description=(
            f"Images drawn by {model['name']} (seed {training['seed']}, {training['kimg']:g} kimg; its card is {CARD}) by holotf's "
            f"data_prep.generated: seed {args.seed}, azimuth {_text(ranges['azimuth_deg'])} and elevation "
            f"{_text(ranges['elevation_deg'])} degrees, in the generator's own zero and sense; {test} images of other objects are "
            "test."
        ),
        features={
            "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
            "azimuth_deg": number,
            "elevation_deg": number,
            "object": tfds.features.Scalar(np.int64),
        },
        function=functools.partial(examples, model=folder, seed=args.seed, ranges=ranges),
        splits={split: Split(_tasks(split, count), count) for split, count in counts.items()},
        workers=0,
        beam=args.beam is not None,
        config="pose_factory",
        section="data.sources.source",
        files={CARD: json.dumps(card, indent=1) + "\n"} | _credits(card),
    )


def read_card(folder: Path) -> dict:
    """The card of an export that turns.

    Raises:
      UserError: there is none, it cannot be read, is of a later format, or of a model that does not turn.
    """
    shown, path = f"--model {printable(folder)}", folder / CARD
    if not (folder / "saved_model.pb").exists():
        raise UserError(f"{shown} holds no SavedModel: name RUN/saved_model of a HoloGAN")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        later, name = card["format"] > FORMAT, card["model"]["name"]
        endpoints = {key: set(told["inputs"]) for key, told in card["endpoints"].items()}
        turns = card["views"] is not None
        if turns:
            drawn = [float(end) for column in COLUMNS for end in card["views"]["ranges"][column]]
            known = len(drawn) == 2 * len(COLUMNS) and np.isfinite(drawn).all() and card["model"]["image_size"] >= 8
            {key: card["training"][key] for key in ("seed", "kimg")}
            if not known:
                raise ValueError("its ranges or its size make no sense")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{printable(path)} cannot be read ({brief(error)}): export the run again") from error
    if later:
        raise UserError(f"{printable(path)} is of a later format, {card['format']}: use a later version of holotf")
    if not turns or any(endpoints.get(key) != inputs for key, inputs in ENDPOINTS.items()):
        raise UserError(f"{shown} is a {printable(name)}, which does not turn: name RUN/saved_model of a HoloGAN")
    return card


def examples(task: tuple[str, int, int], model: str, seed: int, ranges: dict[str, tuple[float, float]]) -> list[tuple[int, dict]]:
    """Draws objects, each from a view of its own.

    Args:
      task: (split, number of the first in it, how many).
      model: the export.
      seed: of the data set.
      ranges: (low, high) of each of COLUMNS, uniform.

    Returns:
      (number of the object, example) of each.
    """
    split, start, count = task
    numbers = FIRST_OBJECT[split] + start + np.arange(PER_TASK)
    views = np.stack([_view([seed, number], ranges) for number in numbers]).astype(np.float32)  # [N,6]
    first = int(np.random.default_rng([seed]).integers(SEEDS))
    images = _drawn(_exported(model), (first + numbers) % SEEDS, views)
    return [
        (int(number), {"image": encode(image, "png"), "azimuth_deg": view[0], "elevation_deg": view[1], "object": int(number)})
        for number, image, view in list(zip(numbers, images, views, strict=True))[:count]
    ]


def _tasks(split, count):
    return [(split, start, min(PER_TASK, count - start)) for start in range(0, count, PER_TASK)]


def _view(seed, ranges):
    rng = np.random.default_rng(seed)
    return [rng.uniform(*ranges[name]) for name in COLUMNS]


def _drawn(endpoints, seeds, views):
    """uint8 [N, H, W, 3] of the latents of seeds [N], in views [N, 6]."""
    import tensorflow as tf

    z = endpoints["latents"](seed=tf.constant(seeds, tf.int64))["z"]
    columns = {name: tf.constant(views[:, i]) for i, name in enumerate(COLUMNS[:3])}
    return endpoints["generate"](z=z, **columns, translation=tf.constant(views[:, 3:]))["images"].numpy()


@functools.cache
def _exported(folder):
    """The endpoints of an export; a process loads it once."""
    import tensorflow as tf

    try:
        with console.errors_only():
            loaded = tf.saved_model.load(folder)
        return {"loaded": loaded} | {name: loaded.signatures[name] for name in ENDPOINTS}
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise UserError(f"--model {printable(folder)} cannot be loaded ({brief(error)}): export the run again") from error


def _text(pair):
    return ",".join(f"{end:g}" for end in pair)


def _credits(card):
    """Credits of the data that the export learnt from: they hold for what is made of them."""
    found = [told["credits"] for told in card.get("data") or () if told.get("credits")]
    return {CREDITS: "\n".join(found)} if found else {}
