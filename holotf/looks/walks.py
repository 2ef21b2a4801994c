"""Walks from one latent to another: does each step change a little, or does one picture jump to the next?

Sudden jumps are a sign of a generator that knows pictures by heart. Source: Radford et al. 2015 (arXiv 1511.06434), section 6.1.
"""

import itertools
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import tensorflow as tf

from holotf import views
from holotf.evaluators import Evaluator
from holotf.looks import made
from holotf.models.base import Generative, Turnable
from holotf.pictures import SHEET_COLUMNS, captioned

WALKS = 3  # pairs of latents
SMALL = 0.1  # of the way, which the small steps go


class Look(Evaluator):
    """`walks/WAY_largest_step` of the ways `linear` and `spherical`; shows `walks`, rows of 12 images.

    The largest step is the largest difference from one image to the next over the mean one: 1 is an even walk, 11 a walk whose
    images change but once. Of each pair of latents there are the whole way and its first tenth, all from one side, and, of a model
    that turns, the whole way while the object turns.
    """

    MODEL = Generative
    ONE_SET = False
    BETTER: ClassVar = {f"walks/{way}_largest_step": min for way in ("linear", "spherical")}

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields them."""
        model, captions, inputs = self.subject.model, [], []
        for a, b in itertools.pairwise(model.latents(range(WALKS + 1))):
            for name, way in WAYS.items():
                for end, size in ((1.0, ""), (SMALL, f", {SMALL:.0%} of the way")):
                    inputs.append((way(a, b, np.linspace(0.0, end, SHEET_COLUMNS)), *model.resting(SHEET_COLUMNS)))
                    captions.append(name + size)
            if isinstance(model, Turnable):
                turning = views.sweep(model.config.views, "azimuth_deg", SHEET_COLUMNS)
                inputs.append((spherical(a, b, np.linspace(0.0, 1.0, SHEET_COLUMNS)), turning))
                captions.append("spherical, turning")
        walks = made.images(model, tuple(tf.concat(each, axis=0) for each in zip(*inputs, strict=True)), "walks")
        written = [caption if i == 0 else "" for caption in captions for i in range(SHEET_COLUMNS)]
        self.subject.show({"walks": captioned(walks, written, SHEET_COLUMNS)})
        walks = walks.reshape(len(captions), SHEET_COLUMNS, *walks.shape[1:])
        for name in WAYS:
            whole = [largest_step(walk) for walk, caption in zip(walks, captions, strict=True) if caption == name]
            yield f"walks/{name}_largest_step", float(np.mean(whole))


def linear(a: tf.Tensor, b: tf.Tensor, t: np.ndarray) -> tf.Tensor:
    """(1 - t) a + t b: latents [Z] and [Z], shares of the way [K] -> [K, Z]."""
    t = tf.constant(t, a.dtype)[:, tf.newaxis]
    return (1.0 - t) * a + t * b


def spherical(a: tf.Tensor, b: tf.Tensor, t: np.ndarray) -> tf.Tensor:
    """Along the arc, which does not come nearer to the origin than its ends: (sin((1 - t) w) a + sin(t w) b) / sin w.

    w is the angle between a and b; where it is next to 0 or 180 degrees, `linear`. Source: White 2016 (arXiv 1609.04468),
    section 2.

    Args:
      a, b: latents [Z].
      t: shares of the way [K].

    Returns:
      [K, Z].
    """
    first, last = (np.asarray(v, np.float64) for v in (a, b))
    lengths = np.linalg.norm(first) * np.linalg.norm(last)
    angle = np.arccos(np.clip(first @ last / lengths, -1.0, 1.0)) if lengths else 0.0
    if np.sin(angle) < 1e-6:
        return linear(a, b, t)
    t = np.asarray(t, np.float64)[:, np.newaxis]
    return tf.constant((np.sin((1.0 - t) * angle) * first + np.sin(t * angle) * last) / np.sin(angle), a.dtype)


def largest_step(walk: np.ndarray) -> float:
    """The largest root mean square difference from an image to the next over the mean one; 1 where nothing changes.

    Args:
      walk: uint8 [K, H, W, 3].

    Returns:
      1 to K - 1.
    """
    steps = np.sqrt(np.mean(np.diff(walk.astype(np.float64), axis=0) ** 2, axis=(1, 2, 3)))
    return float(steps.max() / steps.mean()) if steps.any() else 1.0


WAYS = {"linear": linear, "spherical": spherical}
