"""Images that a model makes, some at a time."""

import numpy as np
import tensorflow as tf

from holotf import console, views
from holotf.models.base import Generative, Turnable

CHUNK = 64  # images made at once
SIDES = 4  # from which an object that turns is looked at


def images(model: Generative, inputs: tuple, what: str) -> np.ndarray:
    """What a model makes of inputs as `draw` gives them: uint8 [N, H, W, 3]. `what` is a name, for the bar."""
    count, parts = len(inputs[0]), []
    with console.progress(total=count, desc=what, unit=" images") as bar:
        for start in range(0, count, CHUNK):
            rows = np.arange(start, start + CHUNK) % count  # the last chunk is filled up: one size, one graph
            parts.append(model.sample(*(tf.gather(t, rows) for t in inputs)).numpy()[: count - start])
            bar.update(len(parts[-1]))
    return np.concatenate(parts)


def from_all_sides(model: Generative, latents: tf.Tensor, what: str) -> np.ndarray:
    """Each latent at rest; of a model that turns, from four sides in equal steps of its azimuths.

    Args:
      model: a `Generative` one.
      latents: [N, Z].
      what: a name, for the bar.

    Returns:
      uint8 [sides, N, H, W, 3].
    """
    count = len(latents)
    if isinstance(model, Turnable):
        sides = views.sweep(model.config.views, "azimuth_deg", SIDES)
        rests = [(tf.repeat(side[tf.newaxis], count, axis=0),) for side in sides]
    else:
        rests = [model.resting(count)]
    return np.stack([images(model, (latents, *rest), what) for rest in rests])
