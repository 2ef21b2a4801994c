"""Layers that are told labels: places that labels take, conditional batch normalisation, projection."""

import keras
import tensorflow as tf

from holotf.layers.normalise import BatchNorm
from holotf.layers.spectral import SpectralDense


def places(labels: tf.Tensor, most: int) -> tf.Tensor:
    """Which of an image's places each label takes: [B, K] of 0 and 1 -> [B, K + 1]; the last are those that none takes.

    Of `most` places an image of fewer labels leaves some empty, and "none" is a label of its own: so [red, blue] of three places
    is told from [red] and from [blue] alone.
    """
    return tf.concat([labels, tf.nn.relu(most - tf.reduce_sum(labels, axis=1, keepdims=True))], axis=1)


def shares(labels: tf.Tensor, most: int) -> tf.Tensor:
    """The same as shares of 1, by which what belongs to each label is averaged: [B, K] -> [B, K + 1]."""
    taken = places(labels, most)
    return taken / tf.reduce_sum(taken, axis=1, keepdims=True)


def join_maps(x: tf.Tensor, labels: tf.Tensor, most: int) -> tf.Tensor:
    """Adds `places` as constant maps: x [B, H, W, C], labels [B, K] -> [B, H, W, C + K + 1] of x's dtype.

    Source: Reed et al. 2016 (arXiv 1605.05396), section 4.1, who repeat a condition over space.
    """
    taken = tf.cast(places(labels, most), x.dtype)[:, tf.newaxis, tf.newaxis]  # [B,1,1,K+1]
    return tf.concat([x, tf.repeat(tf.repeat(taken, x.shape[1], axis=1), x.shape[2], axis=2)], axis=3)


class ConditionalBatchNorm(BatchNorm):
    """Batch normalisation whose scale and shift are the labels' own, averaged over the places of an image.

    y = leaky(scale (x - mean) / sqrt(variance + epsilon) + shift), (scale, shift) = sum_l share_l (scale_l, shift_l).
    Source: de Vries et al. 2017 (arXiv 1707.00683); Miyato and Koyama 2018 (arXiv 1802.05637), section 5: one label an image.

    Args:
      classes: K; "none" is one more.
      negative_slope, momentum, epsilon: as of `BatchNorm`.
    """

    def __init__(self, classes: int, negative_slope: float, **kwargs):
        super().__init__(negative_slope, **kwargs)
        self.classes = classes

    def build(self, x_shape: tuple, shares_shape: tuple) -> None:
        """Makes the weights and the moving averages."""
        shape = (self.classes + 1, x_shape[-1])
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones", autocast=False)
        self.shift = self.add_weight(name="shift", shape=shape, initializer="zeros", autocast=False)
        self._build_moving(x_shape[-1:])

    def call(self, x: tf.Tensor, shares: tf.Tensor, training: bool = False) -> tf.Tensor:
        """x [B, H, W, C], `shares` [B, K + 1] float32 -> x's shape and dtype."""
        return self._normalised(x, shares @ self.scale, shares @ self.shift, training)


class Projection(keras.Model):
    """mean over the places l of an image of <V_l, phi>, V being normalised by its spectral norm.

    Source: Miyato and Koyama 2018 (arXiv 1802.05637), equation 3, for one label; the mean over several is ours.

    Args:
      classes: K; "none" is one more.
      most: places of an image.
      features: length of phi.
    """

    def __init__(self, classes: int, most: int, features: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.most = most
        self.embedding = SpectralDense(features, use_bias=False, dtype="float32")
        self.embedding.build((None, classes + 1))

    def call(self, features: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """phi [B, F], labels [B, K] float32 -> [B] float32."""
        told = self.embedding(shares(labels, self.most))  # [B,F], the mean of the V_l
        return tf.reduce_sum(told * tf.cast(features, tf.float32), axis=1)
