"""Adaptive instance normalisation: the latent sets scale and shift of every channel."""

import keras
import tensorflow as tf

from holotf.layers.initialisers import normal
from holotf.layers.normalise import instance_norm


class AdaIN(keras.layers.Layer):
    """y = leaky(s(z) (x - mean) / sqrt(variance + epsilon) + b(z)),  (s, b) = f(W z + c).

    Source: Huang and Belongie 2017 (arXiv 1703.06868), equation 8; HoloGAN, section 3.1: z reaches the network only here.

    Args:
      relu_map: f is a ReLU (the released code) or the identity (the paper).
      negative_slope: of the leaky ReLU that follows; 0 is a ReLU, 1 none.
      epsilon: added to the variance.
      stddev: of the first weights W. With z ~ U(-1, 1)^128 and a linear map, 0.02 gives scales of 1 +- 0.13, 0.1 of 1 +- 0.65.
    """

    def __init__(self, relu_map: bool, negative_slope: float, epsilon: float = 1e-8, stddev: float = 0.02, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.relu_map, self.negative_slope, self.epsilon, self.stddev = relu_map, negative_slope, epsilon, stddev

    def build(self, x_shape: tuple, z_shape: tuple) -> None:
        """Makes the weights."""
        initial = normal(self.stddev)
        self.channels = channels = x_shape[-1]

        # Deviation: with the linear map the scale starts around 1 (StyleGAN's practice), not around 0; the released code's
        # ReLU map starts as released.
        def bias(shape, dtype=None):
            return tf.concat([tf.fill([channels], 0.0 if self.relu_map else 1.0), tf.zeros([channels])], 0)

        self.kernel = self.add_weight(name="kernel", shape=(z_shape[-1], 2 * channels), initializer=initial, autocast=False)
        self.bias = self.add_weight(name="bias", shape=(2 * channels,), initializer=bias, autocast=False)

    def call(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """x [B, ..., C], z [B, Z] float32 -> x's shape and dtype."""
        style = z @ self.kernel + self.bias  # [B,2C]
        style = tf.nn.relu(style) if self.relu_map else style
        scale, shift = style[:, : self.channels], style[:, self.channels :]
        return instance_norm(x, scale, shift, epsilon=self.epsilon, negative_slope=self.negative_slope)
