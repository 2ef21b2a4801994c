"""The view: its columns, its ranges, how it is drawn and how it is swept. The one contract between configs, models and verbs."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from holotf.errors import UserError, require

COLUMNS = ("azimuth_deg", "elevation_deg", "scale", "x", "y", "z")  # degrees, the camera's; translation in half volumes
WIDENED = {"azimuth_deg": 15.0, "elevation_deg": 15.0, "scale": 0.2}  # what a sweep adds to either side of a constant


def check(ranges: ConfigDict) -> None:
    """Finds what is wrong with `config.views`.

    Args:
      ranges: {column: (low, high)}.

    Raises:
      UserError: a range that is none, or a scale that is not positive.
    """
    for name in COLUMNS:
        pair = tuple(ranges[name])
        ordered = len(pair) == 2 and all(map(math.isfinite, pair)) and pair[0] <= pair[1]
        rule = "low > 0 and low <= high" if name == "scale" else "low <= high"
        shown = f"({', '.join(f'{v:g}' for v in pair)})"
        if not ordered or (name == "scale" and pair[0] <= 0):
            raise UserError(f"views.{name}={shown}: use (low, high) with {rule}")


def draw(ranges: ConfigDict, n: int, seed: tf.Tensor | Sequence[int]) -> tf.Tensor:
    """Views [n, 6] float32, uniform in their ranges, one per image. `seed` is [2] int32."""
    low, high = (tf.constant([ranges[name][end] for name in COLUMNS], tf.float32) for end in (0, 1))
    return low + tf.random.stateless_uniform([n, len(COLUMNS)], seed) * (high - low)


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
