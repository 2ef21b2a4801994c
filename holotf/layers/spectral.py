"""Spectral normalisation: a layer whose weight is divided by its largest singular value."""

import keras
import tensorflow as tf

from holotf.layers.convolution import conv2d
from holotf.layers.initialisers import normal


def power_iteration(kernel: tf.Tensor, u: tf.Tensor, iterations: int = 1) -> tuple[tf.Tensor, tf.Tensor]:
    """Estimates of the first singular vectors: v = u W^T / |u W^T|, u = v W / |v W|.

    Source: Miyato et al. 2018 (arXiv 1802.05957), algorithm 1.

    Args:
      kernel: [..., out] float32, read as the matrix W [rest, out].
      u: [1, out] float32, the estimate so far.
      iterations: how many.

    Returns:
      (u [1, out], v [1, rest]).
    """
    matrix = tf.reshape(kernel, [-1, kernel.shape[-1]])
    for _ in range(iterations):
        v = tf.math.l2_normalize(tf.matmul(u, matrix, transpose_b=True))
        u = tf.math.l2_normalize(tf.matmul(v, matrix))
    return u, v


def sigma(kernel: tf.Tensor, u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """The spectral norm v W u^T (a scalar), differentiable in the kernel; u and v are constants (Miyato et al., equation 9)."""
    matrix = tf.reshape(kernel, [-1, kernel.shape[-1]])
    return tf.squeeze(tf.matmul(tf.matmul(tf.stop_gradient(v), matrix), tf.stop_gradient(u), transpose_b=True))


def normalised(kernel: tf.Tensor | keras.Variable, u: tf.Tensor | keras.Variable, v: tf.Tensor | keras.Variable) -> tf.Tensor:
    """kernel / sigma(kernel, u, v), u and v being constants, with a gradient that keeps no copy of the kernel and makes fewer.

    dW = (G - (sum G W / sigma) v^T u) / sigma for a gradient G of the quotient (Miyato et al., equation 12).
    """

    @tf.custom_gradient
    def run(kernel, u, v):
        norm = sigma(kernel, u, v)

        def gradient(upstream):
            direction = tf.reshape(tf.transpose(v) * u, kernel.shape)
            return (upstream - tf.reduce_sum(upstream * kernel) / norm * direction) / norm, None, None

        return kernel / norm, gradient

    return run(*(tf.convert_to_tensor(t) for t in (kernel, u, v)))


class SpectralNorm(keras.layers.Layer):
    """Base of layers whose weight is kernel / sigma(kernel), in float32 whatever the compute type.

    The iteration is explicit: `update_u` advances it, once per discriminator update; a call never does, so a forward pass has
    no side effect and real, fake and the generator's updates all see one and the same weight.

    Args:
      use_bias: whether there is one.
    """

    def __init__(self, use_bias: bool = True, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.use_bias = use_bias

    def build_kernel(self, shape: tuple) -> None:
        """Makes kernel [..., out], bias [out] and the singular vectors u [1, out] and v [1, rest]."""
        initial = normal()
        rest = tf.TensorShape(shape[:-1]).num_elements()
        state = {"trainable": False, "autocast": False, "aggregation": "only_first_replica"}
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=initial, autocast=False)
        self.bias = self.add_weight(name="bias", shape=shape[-1:], initializer="zeros") if self.use_bias else None
        self.u = self.add_weight(name="u", shape=(1, shape[-1]), initializer=initial, **state)
        self.v = self.add_weight(name="v", shape=(1, rest), initializer="zeros", **state)
        self.update_u()

    def update_u(self, iterations: int = 1) -> None:
        """Advances the power iteration."""
        u, v = power_iteration(self.kernel.value, self.u.value, iterations)
        self.u.assign(u)
        self.v.assign(v)

    def normalised_kernel(self) -> tf.Tensor:
        """kernel / sigma."""
        return normalised(self.kernel, self.u, self.v)


def update_spectral_norms(network: keras.Model) -> None:
    """One power iteration of every spectrally normalised layer that a network holds, itself or in networks that it holds."""
    for layer in network.layers:
        if isinstance(layer, SpectralNorm):
            layer.update_u()
        elif isinstance(layer, keras.Model):
            update_spectral_norms(layer)


class SpectralConv2D(SpectralNorm):
    """A 2D convolution, "same" padding, with a spectrally normalised kernel.

    Args:
      filters: output channels.
      kernel_size: of the square kernel.
      strides: in both directions.
      use_bias: whether one is added.
    """

    def __init__(self, filters: int, kernel_size: int, strides: int = 1, use_bias: bool = True, **kwargs):
        super().__init__(use_bias, **kwargs)
        self.filters, self.kernel_size, self.strides = filters, kernel_size, strides

    def build(self, input_shape: tuple) -> None:
        """Makes the weights."""
        self.build_kernel((self.kernel_size, self.kernel_size, input_shape[-1], self.filters))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[B, H, W, C] -> [B, H / strides, W / strides, filters] in the compute dtype."""
        x = tf.cast(x, self.compute_dtype)
        return conv2d(x, self.normalised_kernel(), self.bias, self.strides)


class SpectralDense(SpectralNorm):
    """A dense layer with a spectrally normalised kernel.

    Args:
      units: output features.
      use_bias: whether one is added.
    """

    def __init__(self, units: int, use_bias: bool = True, **kwargs):
        super().__init__(use_bias, **kwargs)
        self.units = units

    def build(self, input_shape: tuple) -> None:
        """Makes the weights."""
        self.build_kernel((input_shape[-1], self.units))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[B, features] -> [B, units] in the compute dtype."""
        x = tf.cast(x, self.compute_dtype)
        y = x @ tf.cast(self.normalised_kernel(), x.dtype)
        return tf.nn.bias_add(y, tf.cast(self.bias, y.dtype)) if self.use_bias else y
