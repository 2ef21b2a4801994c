"""Convolutions, by our own kernels where the processor multiplies matrices of bfloat16 (AMX), by TensorFlow's operations elsewhere.

oneDNN is at half its speed and less in transposed convolutions of many channels, in the gradients of a large kernel over a small
image, and it lays patches out in memory. Ours read the patches where they lie (holotf/native says when there are kernels).
"""

import keras
import tensorflow as tf

from holotf import native

_WEIGHTS, _POSITIONS = 50_000, 1024  # of the kernel, of the image: where the sub-pixel form is faster
_NARROW = 16  # channels: with fewer on either side, most of a tile would be empty


def _window(kernel, stride):
    """What our kernels have to know: large[stride i + tap - pad] meets small[i] by W[tap]."""
    taps = kernel.shape[0]
    return {"kernel": taps, "stride": stride, "pad": (taps - stride) // 2, "threads": native.threads()}


def _tiles(x, kernel):
    """The op library if it can convolve these here and now, and is faster, or None."""
    if x.dtype != tf.bfloat16 or min(kernel.shape[-2:]) < _NARROW:
        return None
    kernels = native.kernels(x, kernel)
    return kernels if hasattr(kernels, "holotf_gather") else None


def _spread(x, kernel, bias, stride, kernels):
    """large[stride i + tap - pad] += W[tap] x[i]: a transposed convolution.

    Args:
      x: [B, d.., I] bfloat16.
      kernel: [taps.., O, I]; its gradient is of its type.
      bias: [O] float32.
      stride: as in the formula.
      kernels: the op library.

    Returns:
      [B, stride d.., O] bfloat16.
    """
    window, (outputs, inputs) = _window(kernel, stride), kernel.shape[-2:]

    @tf.custom_gradient
    def run(x, kernel, bias):
        large = kernels.holotf_spread(small=x, weights=tf.cast(kernel, x.dtype), bias=bias, **window)

        def gradient(upstream):
            with tf.control_dependencies([upstream]):  # cast anew: a copy that waited would be a generator's whole weight
                weights = tf.cast(kernel, x.dtype)
            dkernel = kernels.holotf_filter_gradient(large=upstream, small=x, **window)
            sums = kernels.holotf_sums(x=upstream, threads=window["threads"])  # [B,O]
            with tf.control_dependencies([dkernel]):  # else upstream and x stay in memory while the layers below go on
                dx = kernels.holotf_gather(large=upstream, weights=weights, bias=tf.zeros(inputs), out=x.dtype, **window)
            dbias = tf.reduce_sum(tf.ensure_shape(sums, [x.shape[0], outputs]), axis=0)
            return tf.ensure_shape(dx, x.shape), _like(dkernel, kernel), dbias

        return tf.ensure_shape(large, [x.shape[0], *(stride * d for d in x.shape[1:-1]), outputs]), gradient

    return run(x, kernel, tf.cast(bias, tf.float32))


def _gather(x, kernel, stride, kernels):
    """y[i] = sum over taps of W[tap] x[stride i + tap - pad]: a convolution, and the adjoint of `_spread`.

    Args:
      x: [B, stride d.., I] bfloat16.
      kernel: [taps.., I, O]; its gradient is of its type.
      stride: as in the formula.
      kernels: the op library.

    Returns:
      [B, d.., O] bfloat16.
    """
    window, (inputs, outputs) = _window(kernel, stride), kernel.shape[-2:]

    @tf.custom_gradient
    def run(x, kernel):
        weights = tf.cast(kernel, x.dtype)
        small = kernels.holotf_gather(large=x, weights=weights, bias=tf.zeros(outputs), out=x.dtype, **window)

        def gradient(upstream):
            dx = kernels.holotf_spread(small=upstream, weights=weights, bias=tf.zeros(inputs), **window)
            with tf.control_dependencies([dx]):  # not the other way: the generator's updates do without the discriminator's dkernel
                dkernel = kernels.holotf_filter_gradient(large=x, small=upstream, **window)
            return tf.ensure_shape(dx, x.shape), _like(dkernel, kernel)

        return tf.ensure_shape(small, [x.shape[0], *(d // stride for d in x.shape[1:-1]), outputs]), gradient

    return run(x, kernel)


def _like(gradient, kernel):
    return tf.cast(tf.reshape(gradient, kernel.shape), kernel.dtype)


def _parts(x, count):
    """float32 as `count` bfloat16 parts, side by side along the last axis, of 8 bits of it each: the sum of three is all of it."""
    parts = []
    for _ in range(count):
        parts.append(tf.cast(x, tf.bfloat16))
        x = x - tf.cast(parts[-1], x.dtype)
    return tf.concat(parts, axis=-1)


def _kept_on_tiles(x, kernel, kernels):
    """`_kept` by our kernels: the kernel's and the gradient's parts fill channels of a tile that few outputs would leave empty."""
    window, (inputs, outputs) = _window(kernel, 1), kernel.shape[-2:]

    @tf.custom_gradient
    def run(x, kernel):
        y = kernels.holotf_gather(large=x, weights=_parts(kernel, 3), bias=tf.zeros(3 * outputs), out=tf.float32, **window)

        def gradient(upstream):
            # x sees the gradient through the taps in reverse: fewer patches to lay out than when the gradient sees x
            seen = {**window, "pad": window["kernel"] - 1 - window["pad"]}
            dkernel = kernels.holotf_filter_gradient(large=_parts(upstream, 3), small=x, **seen)
            dkernel = tf.reduce_sum(tf.reshape(dkernel, [*kernel.shape[:-2], 3, outputs, inputs]), axis=-3)
            dkernel = tf.linalg.matrix_transpose(tf.reverse(dkernel, [0, 1]))
            two = _parts(upstream, 2)
            high, low = tf.split(_parts(kernel, 2), 2, axis=-1)
            with tf.control_dependencies([dkernel]):  # (a + b)(high + low)
                dx = kernels.holotf_spread(
                    small=tf.concat([two, two], axis=-1),
                    weights=tf.concat([high, high, low, low], axis=-1),
                    bias=tf.zeros(inputs),
                    **window,
                )
            return tf.ensure_shape(dx, x.shape), dkernel

        y = tf.reshape(y, [-1, *x.shape[1:-1], 3, outputs])
        return tf.ensure_shape(tf.reduce_sum(y, axis=-2), [x.shape[0], *x.shape[1:-1], outputs]), gradient

    return run(x, kernel)


def _kept(x, kernel):
    """A convolution of stride 1 in the kernel's type, float32, whose input waits for its gradient as it came, in bfloat16."""
    if hasattr(kernels := native.kernels(x, kernel), "holotf_gather"):
        return _kept_on_tiles(x, kernel, kernels)

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


def conv_transpose(x, kernel, bias):
    """A transposed convolution, "same" padding, stride 2, in two or three dimensions.

    Args:
      x: [B, d.., I], every axis of the space static.
      kernel: [taps.., O, I]; its gradient is of its type, the arithmetic of x's.
      bias: [O] float32.

    Returns:
      [B, 2 d.., O], of x's dtype.
    """
    kernel = tf.convert_to_tensor(kernel)
    if kernels := _tiles(x, kernel):
        return _spread(x, kernel, bias, 2, kernels)
    kernel = tf.cast(kernel, x.dtype)
    if _sub_pixel_is_faster(x, kernel):
        return _sub_pixel(x, kernel, bias)
    shape = tf.stack([tf.shape(x)[0], *(2 * d for d in x.shape[1:-1]), kernel.shape[-2]])
    return tf.nn.bias_add(tf.nn.conv_transpose(x, kernel, shape, 2, "SAME"), tf.cast(bias, x.dtype))


def conv2d(x, kernel, bias, strides=1, dtype=None):
    """A convolution, "same" padding.

    Args:
      x: [B, H, W, I], H and W static.
      kernel: [k, k, I, O]; its gradient is of its type.
      bias: [O] float32.
      strides: in both directions.
      dtype: of the arithmetic and of what comes out; None for x's.

    Returns:
      [B, H / strides, W / strides, O].
    """
    kernel, dtype = tf.convert_to_tensor(kernel), tf.as_dtype(dtype or x.dtype)
    if (x.dtype, dtype, strides) == (tf.bfloat16, tf.float32, 1):
        y = _kept(x, tf.cast(kernel, dtype))
    else:
        x = tf.cast(x, dtype)
        known = kernel.shape[0] >= strides and not (x.shape[1] % strides or x.shape[2] % strides)
        if known and (kernels := _tiles(x, kernel)):
            y = _gather(x, kernel, strides, kernels)
        elif strides == 1 and kernel.shape[:2] == [1, 1]:  # the product it is: its filter gradient is three times as fast
            y = tf.tensordot(x, tf.cast(kernel[0, 0], dtype), 1)  # matmul's filter gradient would be one product per image row
        else:
            y = tf.nn.conv2d(x, tf.cast(kernel, dtype), strides, "SAME")
    return tf.nn.bias_add(y, tf.cast(bias, y.dtype))


class _Convolution(keras.layers.Layer):
    def __init__(self, filters, kernel_size, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.filters, self.kernel_size = filters, kernel_size

    def _make(self, shape):
        normal = keras.initializers.RandomNormal(stddev=0.02)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=normal, autocast=False)
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros", autocast=False)


class ConvTranspose(_Convolution):
    """`conv_transpose` with its weights, in two or three dimensions as its input has.

    Args:
      filters: output channels.
      kernel_size: of the square or cubic kernel.
    """

    def build(self, input_shape):
        """Makes the weights."""
        self._make((*[self.kernel_size] * (len(input_shape) - 2), self.filters, input_shape[-1]))

    def call(self, x):
        """[B, d.., I] -> [B, 2 d.., filters] in the compute dtype."""
        x = tf.cast(x, self.compute_dtype)
        return conv_transpose(x, self.kernel, self.bias)


def twice(kernel, axes):
    """The kernel by which enlarging x 2 (nearest) and then convolving are one transposed convolution of stride 2.

    An input is met by two neighbours of the enlarged image, so each tap counts at two places: K[t] = k[t] + k[t - 1] along each
    axis, 4 taps from 3. Half to a third of the multiplications (Karras et al. 2018, arXiv 1710.10196, fuse likewise).

    Args:
      kernel: [taps.., O, I].
      axes: how many axes of taps it has.

    Returns:
      [taps + 1.., O, I].
    """
    for axis in range(axes):
        ends = [[[0, 0]] * axis + [end] + [[0, 0]] * (len(kernel.shape) - axis - 1) for end in ([0, 1], [1, 0])]
        kernel = tf.pad(kernel, ends[0]) + tf.pad(kernel, ends[1])
    return kernel


class UpConv(ConvTranspose):
    """Enlarges x 2 by repeating, then convolves ("same" padding), in two or three dimensions as its input has.

    Every output meets as many taps as any other, which a transposed convolution's do not: its checkerboards (Odena et al. 2016)
    stay away. The kernel lies mirrored: y[j] = sum_s k[s] u[j + 1 - s] for the enlarged u and 3 taps.

    Args:
      filters: output channels.
      kernel_size: of the square or cubic kernel, odd.
    """

    def call(self, x):
        """[B, d.., I] -> [B, 2 d.., filters] in the compute dtype."""
        x = tf.cast(x, self.compute_dtype)
        return conv_transpose(x, twice(self.kernel.value, len(x.shape) - 2), self.bias)


class Conv2D(_Convolution):
    """`conv2d` of stride 1 with its weights.

    Args:
      filters: output channels.
      kernel_size: of the square kernel.
    """

    def build(self, input_shape):
        """Makes the weights."""
        self._make((self.kernel_size, self.kernel_size, input_shape[-1], self.filters))

    def call(self, x):
        """[B, H, W, I] -> [B, H, W, filters] in the compute dtype."""
        return conv2d(x, self.kernel, self.bias, dtype=self.compute_dtype)
