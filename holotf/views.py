"""The view: its columns, its ranges, how it is drawn and how it is swept. The one contract between configs, models and verbs."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from holotf.errors import UserError, require

COLUMNS = ("azimuth_deg", "elevation_deg", "scale", "x", "y", "z")  # degrees, the camera's; translation in half volumes
_STEEP = 50.0  # logits are so many times what is trained: Adam's small steps move a share from thirds to nothing in a thousand
# What an export takes; beyond, float32 no longer tells two angles apart, or nothing is seen. The ranges of training are narrower.
ACCEPTED = {"azimuth_deg": (-36000, 36000), "elevation_deg": (-360, 360), "scale": (0.01, 100), "translation": (-100, 100)}
WIDENED = {"azimuth_deg": 15.0, "elevation_deg": 15.0, "scale": 0.2}  # what a sweep adds to either side of a constant


def check(ranges: ConfigDict) -> None:
    """Finds what is wrong with `config.views`.

    Args:
      ranges: {column: (low, high)}.

    Raises:
      UserError: an invalid range, a scale that is not positive, or parts that cannot be.
    """
    for name in COLUMNS:
        pair = tuple(ranges[name])
        ordered = len(pair) == 2 and all(map(math.isfinite, pair)) and pair[0] <= pair[1]
        rule = "low > 0 and low <= high" if name == "scale" else "low <= high"
        shown = f"({', '.join(f'{v:g}' for v in pair)})"
        if not ordered or (name == "scale" and pair[0] <= 0):
            raise UserError(f"views.{name}={shown}: use (low, high) with {rule}")
    parts = ranges.azimuth_parts
    require(parts == 0 or parts >= 2, "views.azimuth_parts", parts, "0 for azimuths uniform in their range, or 2 or more")
    if parts and ranges.azimuth_deg[0] == ranges.azimuth_deg[1]:
        raise UserError(f"views.azimuth_parts={parts} with a constant views.azimuth_deg: use 0, or a range")


def meanings(ranges: ConfigDict) -> dict[str, dict]:
    """What an export's card says of the parts of a view, by name: the `range` of training, what it `accepts`, `unit`, `meaning`."""
    told = {
        "azimuth_deg": {"range": ranges.azimuth_deg, "unit": "degrees", "meaning": "camera's, round the vertical"},
        "elevation_deg": {"range": ranges.elevation_deg, "unit": "degrees", "meaning": "camera's; positive looks down"},
        "scale": {"range": ranges.scale, "unit": "1", "meaning": "of the object"},
        "translation": {
            "range": [ranges.x, ranges.y, ranges.z],
            "unit": "half volumes",
            "meaning": "x to the right, y up, z toward the viewer",
        },
    }
    return {name: about | {"accepts": list(ACCEPTED[name])} for name, about in told.items()}


def draw(ranges: ConfigDict, n: int, seed: tf.Tensor | Sequence[int]) -> tf.Tensor:
    """Views [n, 6] float32, uniform in their ranges, one per image. `seed` is [2] int32."""
    low, high = (tf.constant([ranges[name][end] for name in COLUMNS], tf.float32) for end in (0, 1))
    return low + tf.random.stateless_uniform([n, len(COLUMNS)], seed) * (high - low)


def shares(weights: tf.Tensor) -> tf.Tensor:
    """How often each of K equal parts of the azimuth's range is looked at: trained weights [K] -> [K], positive, of sum 1."""
    return tf.nn.softmax(_STEEP * weights)


def learnt(ranges: ConfigDict, weights: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
    """Views whose azimuths fall into equal parts of their range as often as `shares` says, by the quantiles of uniform ones.

    Differentiable in the weights, so that a generator can learn from which sides the data were photographed. Source: the idea is
    CAMPARI's (Niemeyer and Geiger 2021, arXiv 2103.17269), whose camera generator is a network.

    Args:
      ranges: `config.views`.
      weights: [K].
      views: [n, 6], their azimuths uniform in the range.

    Returns:
      [n, 6].
    """
    (low, high), share = ranges["azimuth_deg"], shares(weights)
    begins = tf.cumsum(share, exclusive=True)  # [K]
    uniform = (views[:, 0] - low) / (high - low)  # [n] in [0, 1)
    part = tf.searchsorted(begins, uniform, side="right") - 1
    within = tf.math.divide_no_nan(uniform - tf.gather(begins, part), tf.gather(share, part))
    within = tf.clip_by_value(within, 0.0, 1.0)  # rounding, where a share is next to nothing
    azimuth = low + (high - low) * (tf.cast(part, tf.float32) + within) / share.shape[0]
    return tf.concat([azimuth[:, tf.newaxis], views[:, 1:]], axis=1)


def resting(ranges: ConfigDict, n: int, **columns: float) -> tf.Tensor:
    """The view from the middle of the ranges, n times: [n, 6] float32; `columns` says where another value is wanted.

    Raises:
      UserError: there is no such column.
    """
    for name in columns:
        require(name in COLUMNS, "view", name, ", ".join(COLUMNS))
    return tf.constant([[columns.get(name, np.mean(ranges[name])) for name in COLUMNS]] * n, tf.float32)


def closes_circle(ranges: ConfigDict) -> bool:
    """Whether the azimuths go all the way round."""
    low, high = ranges["azimuth_deg"]
    return high - low >= 360.0


def sweep(ranges: ConfigDict, name: str, steps: int, **columns: float) -> tf.Tensor:
    """One property of the view runs through its range, in equal steps, while the others rest: [steps, 6] float32.

    A range that is a constant is widened, by 15 degrees or 20 %. Azimuths that close a circle leave its end out.

    Args:
      ranges: `config.views`.
      name: "azimuth_deg", "elevation_deg" or "scale".
      steps: how many values.
      **columns: as `resting` takes them.
    """
    low, high = ranges[name]
    if low == high:
        margin = WIDENED[name] * (high if name == "scale" else 1.0)
        low, high = low - margin, high + margin
    values = np.linspace(low, high, steps, endpoint=not (name == "azimuth_deg" and closes_circle(ranges)))
    views = resting(ranges, steps, **columns).numpy()
    views[:, COLUMNS.index(name)] = values
    return tf.constant(views)
