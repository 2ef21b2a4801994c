"""Convolutions and their layers, on our own kernels or by TensorFlow's operations: each picks what is faster here.

"Same" padding throughout. Kernels are float32 and so are their gradients, whatever the type of the arithmetic.
"""

import keras
import tensorflow as tf

from holotf.layers import tiles
from holotf.layers.initialisers import normal

_WEIGHTS, _POSITIONS = 50_000, 1024  # of the kernel, of the image: where the sub-pixel form is faster


class _Convolution(keras.layers.Layer):
    """What the layers share.

    Args:
      filters: output channels.
      kernel_size: of the square or cubic kernel.
      strides: in every direction; the class's STRIDES if not given.
      use_bias: whether one is added.
      kernel_initializer: of the kernel; N(0, 0.02) if not given.
    """

    STRIDES = 1

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int | None = None,
        use_bias: bool = True,
        kernel_initializer: keras.initializers.Initializer | None = None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.filters, self.kernel_size, self.use_bias = filters, kernel_size, use_bias
        self.strides = self.STRIDES if strides is None else strides
        self.kernel_initializer = kernel_initializer

    def build(self, input_shape: tuple) -> None:
        """Makes the weights."""
        shape, initial = self._kernel_shape(len(input_shape) - 2, input_shape[-1]), self.kernel_initializer or normal()
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=initial, autocast=False)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros", autocast=False)


class Conv2D(_Convolution):
    """`conv2d` with its weights. Arguments: filters, kernel_size, strides (1), use_bias, kernel_initializer."""

    def _kernel_shape(self, axes, channels):
        return (*[self.kernel_size] * axes, channels, self.filters)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[B, H, W, I] -> [B, H / strides, W / strides, filters] in the compute dtype."""
        return conv2d(x, self.kernel, self.bias, self.strides, self.compute_dtype)


class ConvTranspose(_Convolution):
    """`conv_transpose` with its weights, in two or three dimensions as its input has.

    Arguments: filters, kernel_size, strides (2), use_bias, kernel_initializer.
    """

    STRIDES = 2

    def _kernel_shape(self, axes, channels):
        return (*[self.kernel_size] * axes, self.filters, channels)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[B, d.., I] -> [B, strides d.., filters] in the compute dtype."""
        return conv_transpose(tf.cast(x, self.compute_dtype), self.kernel, self.bias, self.strides)


class UpConv(ConvTranspose):
    """Enlarges x 2 by repeating, then convolves with stride 1, in two or three dimensions as its input has.

    Every output meets as many taps as any other, which a transposed convolution's do not: its checkerboards (Odena et al. 2016)
    stay away. The kernel lies mirrored: y[j] = sum_s k[s] u[j + 1 - s] for the enlarged u and 3 taps.

    Args:
      filters: output channels.
      kernel_size: of the square or cubic kernel, odd.
      use_bias: whether one is added.
      kernel_initializer: of the kernel; N(0, 0.02) if not given.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        use_bias: bool = True,
        kernel_initializer: keras.initializers.Initializer | None = None,
        **kwargs,
    ):
        super().__init__(filters, kernel_size, 2, use_bias, kernel_initializer, **kwargs)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[B, d.., I] -> [B, 2 d.., filters] in the compute dtype."""
        return up_conv(tf.cast(x, self.compute_dtype), self.kernel, self.bias)


def conv2d(
    x: tf.Tensor,
    kernel: tf.Tensor | keras.Variable,
    bias: tf.Tensor | keras.Variable | None = None,
    strides: int = 1,
    dtype: tf.DType | str | None = None,
) -> tf.Tensor:
    """A convolution.

    Args:
      x: [B, H, W, I], H and W static.
      kernel: [k, k, I, O]; its gradient is of its type.
      bias: [O] float32, or None.
      strides: in both directions.
      dtype: of the arithmetic and of what comes out; None for x's.

    Returns:
      [B, H / strides, W / strides, O].
    """
    kernel, dtype = tf.convert_to_tensor(kernel), tf.as_dtype(dtype or x.dtype)
    if (x.dtype, dtype, strides) == (tf.bfloat16, tf.float32, 1):
        y = _wide(x, tf.cast(kernel, dtype))
    else:
        x = tf.cast(x, dtype)
        whole = kernel.shape[0] >= strides and not (x.shape[1] % strides or x.shape[2] % strides)
        if whole and (ops := tiles.faster(x, kernel)):
            return tiles.gather(x, kernel, tf.zeros(kernel.shape[-1]) if bias is None else bias, strides, ops)
        if strides == 1 and kernel.shape[:2] == [1, 1]:  # the product it is: its filter gradient is three times as fast
            y = tf.tensordot(x, tf.cast(kernel[0, 0], dtype), 1)  # matmul's filter gradient would be one product per image row
        else:
            y = tf.nn.conv2d(x, tf.cast(kernel, dtype), strides, "SAME")
    return y if bias is None else tf.nn.bias_add(y, tf.cast(bias, y.dtype))


def conv_transpose(
    x: tf.Tensor, kernel: tf.Tensor | keras.Variable, bias: tf.Tensor | keras.Variable | None = None, strides: int = 2
) -> tf.Tensor:
    """A transposed convolution, in two or three dimensions.

    Args:
      x: [B, d.., I], every axis of the space static.
      kernel: [taps.., O, I]; its gradient is of its type, the arithmetic of x's.
      bias: [O] float32, or None.
      strides: in every direction.

    Returns:
      [B, strides d.., O], of x's dtype.
    """
    kernel = tf.convert_to_tensor(kernel)
    if kernel.shape[0] >= strides and (ops := tiles.faster_spread(x, kernel, strides)):
        return tiles.spread(x, kernel, tf.zeros(kernel.shape[-2]) if bias is None else bias, strides, ops)
    kernel = tf.cast(kernel, x.dtype)
    if strides == 2 and _sub_pixel_is_faster(x, kernel):
        return _sub_pixel(x, kernel, tf.zeros(kernel.shape[-2]) if bias is None else bias)
    shape = tf.stack([tf.shape(x)[0], *(strides * d for d in x.shape[1:-1]), kernel.shape[-2]])
    y = tf.nn.conv_transpose(x, kernel, shape, strides, "SAME")
    return y if bias is None else tf.nn.bias_add(y, tf.cast(bias, x.dtype))


def up_conv(x: tf.Tensor, kernel: tf.Tensor | keras.Variable, bias: tf.Tensor | keras.Variable | None = None) -> tf.Tensor:
    """Enlarging x 2 by repeating, and a convolution of stride 1, as one transposed convolution.

    Args:
      x: [B, d.., I], every axis of the space static.
      kernel: [k.., O, I], k odd, mirrored (`UpConv`); its gradient is of its type, the arithmetic of x's.
      bias: [O] float32, or None.

    Returns:
      [B, 2 d.., O], of x's dtype.
    """
    kernel = tf.convert_to_tensor(kernel)
    if ops := tiles.faster_enlarged(x, kernel):
        return tiles.spread_enlarged(x, kernel, tf.zeros(kernel.shape[-2]) if bias is None else bias, ops)
    return conv_transpose(x, tiles.twice(kernel), bias)


def _wide(x, kernel):
    """A convolution of stride 1 in the kernel's type, float32, whose input waits for its gradient as it came, in bfloat16."""
    if ops := tiles.faster_wide(x, kernel):
        return tiles.gather_wide(x, kernel, ops)

    @tf.custom_gradient
    def run(x, kernel):
        settings = {"strides": [1, 1, 1, 1], "padding": "SAME"}

        def gradient(upstream):
            with tf.control_dependencies([upstream]):  # else the forward pass's copy is kept for it
                wide = tf.cast(x, kernel.dtype)
            dkernel = tf.raw_ops.Conv2DBackpropFilter(input=wide, filter_sizes=tf.shape(kernel), out_backprop=upstream, **settings)
            dx = tf.raw_ops.Conv2DBackpropInput(input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, **settings)
            return tf.cast(dx, x.dtype), dkernel

        return tf.nn.conv2d(tf.cast(x, kernel.dtype), kernel, 1, "SAME"), gradient

    return run(x, kernel)


@tf.function(jit_compile=True, autograph=False)
def _interleave(phases, bias):
    """y[2 m + p, 2 n + q] = phases[m + p, n + q, p, q] + bias: [B, H+1, W+1, 2, 2, O] -> [B, 2 H, 2 W, O]."""
    batch, height, width, outputs = tf.shape(phases)[0], phases.shape[1] - 1, phases.shape[2] - 1, phases.shape[-1]
    corners = [phases[:, p : height + p, q : width + q, p, q] for p in (0, 1) for q in (0, 1)]  # [B,H,W,O] each
    y = tf.reshape(tf.stack(corners, axis=3), [batch, height, width, 2, 2, outputs])
    y = tf.transpose(y, [0, 1, 3, 2, 4, 5])  # [B,H,W,2,2,O] -> [B,H,2,W,2,O]
    return tf.reshape(y, [batch, 2 * height, 2 * width, outputs]) + tf.cast(bias, phases.dtype)


def _sub_pixel(x, kernel, bias):
    """A 4x4 transposed convolution of stride 2 as one 2x2 convolution that gives all four phases of the output.

    Output 2 m + p meets input m + p - 1 with tap 3 - p and input m + p with tap 1 - p: tap 3 - (2 a + p) for a = 0, 1. The weights
    and the arithmetic are the same; oneDNN's convolutions are faster than its transposed ones. Source: Shi et al. 2016
    (arXiv 1609.07009).
    """
    outputs, inputs = kernel.shape[-2:]

    @tf.custom_gradient
    def run(x, kernel, bias):
        phased = tf.reshape(tf.reverse(kernel, [0, 1]), [2, 2, 2, 2, outputs, inputs])  # [a,p,b,q,O,I]
        phased = tf.reshape(tf.transpose(phased, [0, 2, 5, 1, 3, 4]), [2, 2, inputs, 4 * outputs])  # [a,b,I,p*q*O]
        phases = tf.nn.conv2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), phased, 1, "VALID")  # [B,H+1,W+1,p*q*O]
        y = _interleave(tf.reshape(phases, [-1, *phases.shape[1:3], 2, 2, outputs]), bias)

        def gradient(upstream):
            dkernel = tf.raw_ops.Conv2DBackpropFilter(
                input=upstream, filter_sizes=tf.shape(kernel), out_backprop=x, strides=[1, 2, 2, 1], padding="SAME"
            )
            dbias = tf.reduce_sum(tf.cast(upstream, bias.dtype), axis=[0, 1, 2])
            return tf.nn.conv2d(upstream, kernel, 2, "SAME"), dkernel, dbias

        return tf.ensure_shape(y, [x.shape[0], 2 * x.shape[1], 2 * x.shape[2], outputs]), gradient

    return run(x, kernel, tf.cast(bias, tf.float32))


def _sub_pixel_is_faster(x, kernel):
    """On a CPU, for 4x4 kernels of many weights over small images."""
    large = kernel.shape.num_elements() >= _WEIGHTS and x.shape[1:-1].num_elements() <= _POSITIONS
    return large and kernel.shape[:-2] == [4, 4] and not tf.config.list_physical_devices("GPU")
