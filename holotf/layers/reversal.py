"""The gradient-reversal layer."""

import tensorflow as tf


@tf.custom_gradient
def reverse(x: tf.Tensor, strength: tf.Tensor | float) -> tf.Tensor:
    """y = x, and dL/dx = -strength dL/dy: what descends behind it makes what lies before it ascend.

    Source: Ganin et al. 2016 (arXiv 1505.07818), equations 16 and 17.

    Args:
      x: any shape.
      strength: scalar; it has no gradient of its own.

    Returns:
      Tensor of x's shape and dtype.
    """

    def gradient(upstream):
        return -tf.cast(strength, upstream.dtype) * upstream, None

    return tf.identity(x), gradient
