"""Differentiable augmentation of all that a discriminator sees, real and made alike, through which the generator learns too.

Source: Zhao et al. 2020 (arXiv 2006.10738), section 3.2 and appendix B, with the ranges of their code.
"""

from collections.abc import Sequence

import tensorflow as tf

from holotf.errors import require

MOVED, CUT = 0.125, 0.5  # shares of the image: the farthest translation; the side of the square that is cut out


def check(policy: Sequence[str]) -> None:
    """Finds what is wrong with `train.diff_augment`.

    Raises:
      UserError: it is no tuple of names, or holds one that there is not.
    """
    fits = isinstance(policy, (tuple, list)) and all(isinstance(p, str) and p in POLICIES for p in policy)
    require(fits, "train.diff_augment", policy, f"() or some of {tuple(POLICIES)!r}")


def draw(policy: Sequence[str], n: int, size: int, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """What `apply` is to do to each of `n` images.

    Args:
      policy: names of POLICIES.
      n: images.
      size: theirs, in px.
      seed: [2] int32.

    Returns:
      {policy: [n, numbers]}: of `color` brightness, saturation and contrast; of `translation` the px down and to the right; of
      `cutout` the middle of the square, px from the top and from the left.
    """
    drawn = {}
    for i, name in enumerate(POLICIES):
        seed_here, farthest = tf.random.fold_in(seed, i), round(MOVED * size)
        if name in policy and name == "color":
            drawn[name] = tf.random.stateless_uniform([n, 3], seed_here)
        elif name in policy:
            low, high = (-farthest, farthest + 1) if name == "translation" else (0, size + 1)
            drawn[name] = tf.random.stateless_uniform([n, 2], seed_here, low, high, tf.int32)
    return drawn


def apply(images: tf.Tensor, drawn: dict[str, tf.Tensor]) -> tf.Tensor:
    """What `draw` gave, done to the images it was drawn for: [B, H, W, 3] float32 around [-1, 1] -> the same, differentiable."""
    for name, change in POLICIES.items():
        images = change(images, drawn[name]) if name in drawn else images
    return images


def color(images: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    """Brightness x + b - 1/2, saturation about each pixel's mean times 2 s, contrast about the image's mean times c + 1/2."""
    brightness, saturation, contrast = (t[:, tf.newaxis, tf.newaxis] for t in tf.split(drawn, 3, axis=1))  # [B,1,1,1]
    images += brightness - 0.5
    grey = tf.reduce_mean(images, axis=3, keepdims=True)
    images = grey + 2.0 * saturation * (images - grey)
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    return mean + (contrast + 0.5) * (images - mean)


def translation(images: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    """Moved down and to the right; what comes in is 0."""
    for axis, moved in ((1, drawn[:, 0]), (2, drawn[:, 1])):
        size = images.shape[axis]
        wanted = tf.range(size) - moved[:, tf.newaxis]  # [B,size], from where
        inside = tf.cast((wanted >= 0) & (wanted < size), images.dtype)
        images = tf.gather(images, tf.clip_by_value(wanted, 0, size - 1), axis=axis, batch_dims=1)
        images *= inside[:, :, tf.newaxis, tf.newaxis] if axis == 1 else inside[:, tf.newaxis, :, tf.newaxis]
    return images


def cutout(images: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    """0 in a square of half the side, whose middle may lie at the edge."""
    size = images.shape[1]
    half = round(CUT * size) // 2
    rows, columns = (tf.range(size) - drawn[:, i, tf.newaxis] for i in (0, 1))  # [B,size]
    rows, columns = ((t >= -half) & (t < half) for t in (rows, columns))
    cut = rows[:, :, tf.newaxis, tf.newaxis] & columns[:, tf.newaxis, :, tf.newaxis]
    return tf.where(cut, 0.0, images)


POLICIES = {"color": color, "translation": translation, "cutout": cutout}
