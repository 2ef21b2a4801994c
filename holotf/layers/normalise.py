"""Instance normalisation with its scale, shift and leaky ReLU folded into one multiply-add."""

import keras
import tensorflow as tf

from holotf.layers.island import fused


@fused
def _normalise(x, scale, shift, *, epsilon, negative_slope):
    precise = tf.float64 if x.dtype == tf.float64 else tf.float32
    axes = list(range(1, len(x.shape) - 1))
    spread = (-1, *(1,) * len(axes), x.shape[-1])  # [C] or [B,C] -> [.,1,..,1,C]
    wide = tf.cast(x, precise)
    mean = tf.reduce_mean(wide, axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(wide - mean), axes, keepdims=True)
    gain = tf.reshape(tf.cast(scale, precise), spread) * tf.math.rsqrt(variance + epsilon)
    y = (wide - mean) * gain + tf.reshape(tf.cast(shift, precise), spread)
    if negative_slope != 1.0:
        y = tf.maximum(y, negative_slope * y)
    return tf.cast(y, x.dtype)


def instance_norm(x, scale, shift, *, epsilon, negative_slope=1.0):
    """y = leaky(scale (x - mean) / sqrt(variance + epsilon) + shift), the moments over each sample's and channel's space.

    Statistics are float32 (float64 for float64 inputs) whatever the type of x. Source: Ulyanov et al. 2016 (arXiv 1607.08022),
    equation 4; with scale and shift from a latent it is AdaIN (Huang and Belongie 2017, equation 8).

    Args:
      x: [B, ..., C].
      scale, shift: [C], or [B, C] for a style per sample.
      epsilon: added to the variance.
      negative_slope: of the leaky ReLU that follows; 0 is a ReLU, 1 none.

    Returns:
      Tensor of x's shape and dtype.
    """
    return _normalise(x, scale, shift, epsilon=epsilon, negative_slope=negative_slope)


class InstanceNorm(keras.layers.Layer):
    """`instance_norm` with a learned scale and shift per channel.

    Args:
      negative_slope: of the leaky ReLU that follows; 0 is a ReLU, 1 none.
      epsilon: added to the variance.
    """

    def __init__(self, negative_slope=1.0, epsilon=1e-5, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.negative_slope, self.epsilon = negative_slope, epsilon

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=input_shape[-1:], initializer="ones", autocast=False)
        self.shift = self.add_weight(name="shift", shape=input_shape[-1:], initializer="zeros", autocast=False)

    def call(self, x):
        """[B, ..., C] -> the same shape and dtype."""
        return instance_norm(x, self.scale, self.shift, epsilon=self.epsilon, negative_slope=self.negative_slope)
