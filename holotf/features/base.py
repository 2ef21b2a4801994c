"""What every feature extractor is, and what they share."""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from holotf.errors import UserError


class Extractor:
    """uint8 images [N, H, W, 3] -> float32 features [N, F], whatever Keras' dtype policy is.

    Attributes:
      name: of the extractor, its weights included.
      classify: the same images -> float32 logits [N, 1000] of ImageNet's classes; None where there are none.
    """

    def __init__(
        self,
        name: str,
        forward: Callable[[tf.Tensor], tf.Tensor],
        classify: Callable[[tf.Tensor], tf.Tensor] | None = None,
        batch_size: int = 64,
    ):
        self.name, self.batch_size = name, batch_size
        self._forward = _traced(forward).get_concrete_function()  # here, so that what is no extractor fails here
        self.classify = None if classify is None else functools.partial(self._run, _traced(classify))

    def __call__(self, images: tf.Tensor | np.ndarray) -> tf.Tensor:
        """Features [N, F], F static.

        Raises:
          UserError: images that are not uint8 [N, H, W, 3] with N >= 1.
        """
        return self._run(self._forward, images)

    def _run(self, function, images):
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
            raise UserError(f"images of shape {images.shape} and type {images.dtype}: extractors take uint8 [N, H, W, 3], N >= 1")
        starts = range(0, len(images), self.batch_size)
        return np.concatenate([function(tf.constant(images[i : i + self.batch_size])).numpy() for i in starts])


def _traced(forward):
    # One graph for every size of batch and image; without autograph a UserError passes as it is.
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
    return tf.function(lambda images: tf.cast(forward(images), tf.float32), signature, autograph=False)


def resized(images: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, height, width, 3] in [0, 255], bilinear, antialiased where it shrinks."""
    return tf.image.resize(tf.cast(images, tf.float32), [height, width], antialias=True)


@contextlib.contextmanager
def float32_layers() -> Iterator[None]:
    """Keras layers made inside are float32 throughout."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def digest(path: str | os.PathLike) -> bytes:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def pooled(features: tf.Tensor) -> tf.Tensor:
    """[N, F] as it is, [N, h, w, F] averaged over space."""
    features = tf.cast(features, tf.float32)
    if features.shape.rank == 4:
        features = tf.reduce_mean(features, [1, 2])
    if features.shape.rank != 2:
        raise UserError(f"the extractor gives features of shape {tuple(features.shape)}: use one that gives [N, F] or [N, h, w, F]")
    return features
