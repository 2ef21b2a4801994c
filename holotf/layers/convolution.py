"""Convolutions as matrix products over patches, where oneDNN's own are slow.

oneDNN is at half its speed and less in the filter gradient of a large kernel over a small image and in transposed convolutions of
many channels. Each is a matrix product once the patches are laid out, which our kernels do at the speed of memory. Without the
kernels (holotf/native says when) these are TensorFlow's operations.
"""

import math

import keras
import tensorflow as tf

from holotf import native

# Where the products win (docs/performance.md): kernels of as many weights, over images of at most as many positions.
_WEIGHTS, _POSITIONS = 50_000, 1024
_FEW = 4  # output channels: no faster alone than oneDNN, but the input waits for its gradient as it came, in bfloat16
_PIECE = 16 << 20  # bytes of patches that are laid out at a time, where the batch can be parted so


def _spread(x, kernel, bias, stride, pad, kernels):
    """large[stride i + tap - pad] += W[tap] x[i]: one product gives every tap's share, and folding adds what overlaps.

    Args:
      x: [B, d.., I], of any type: it is kept for the gradient as it is, and cast to the kernel's each time.
      kernel: [taps.., O, I].
      bias: [O] float32.
      stride, pad: as in the formula.
      kernels: the op library.

    Returns:
      [B, stride d.., O], of the kernel's dtype.
    """
    outputs, inputs = kernel.shape[-2:]
    space = [stride * d for d in x.shape[1:-1]]
    settings = {"kernel": kernel.shape[0], "stride": stride, "pad": pad, "threads": native.threads()}

    def rows_of(x):
        return tf.reshape(tf.cast(x, kernel.dtype), [-1, inputs])  # [B,d..,I] -> [B*d..,I]

    @tf.custom_gradient
    def run(x, kernel, bias):
        matrix = tf.reshape(kernel, [-1, inputs])  # [taps..,O,I] -> [taps*O,I]
        pieces, done = _pieces(x.shape, matrix.shape[0] * kernel.dtype.size), []
        for part in tf.split(x, pieces):
            with tf.control_dependencies(done[-1:]):  # one after the other: all at once are the peak of a step's memory
                patches = tf.matmul(rows_of(part), matrix, transpose_b=True)  # [B*d..,taps*O]
            patches = tf.reshape(patches, [-1, *x.shape[1:-1], matrix.shape[0]])
            done.append(kernels.holotf_fold(patches=patches, bias=bias, **settings))
        large = tf.concat(done, axis=0)

        def gradient(upstream):
            dx, dkernel, dbias = [], 0.0, 0.0
            for part, above in zip(tf.split(x, pieces), tf.split(upstream, pieces), strict=True):
                with tf.control_dependencies([*dx[-1:], upstream]):  # likewise, and not cast or laid out in the forward pass
                    rows = rows_of(part)
                    patches, sums = kernels.holotf_unfold(large=above, **settings)  # [B*d..,taps*O], [B,O]
                patches = tf.ensure_shape(patches, [rows.shape[0], matrix.shape[0]])
                share = tf.matmul(rows, patches, transpose_a=True)  # [I,taps*O]: a third faster than [taps*O,I]
                dkernel += tf.cast(share, tf.float32)
                dbias += tf.reduce_sum(tf.ensure_shape(sums, [part.shape[0], outputs]), axis=0)
                with tf.control_dependencies([share]):  # else the layers below go on, and lay out their patches beside these
                    dx.append(tf.cast(tf.reshape(tf.matmul(patches, matrix), tf.shape(part)), x.dtype))
            dx, dkernel = tf.concat(dx, axis=0), tf.reshape(tf.transpose(tf.cast(dkernel, kernel.dtype)), kernel.shape)
            return tf.ensure_shape(dx, x.shape), dkernel, dbias

        return tf.ensure_shape(large, [x.shape[0], *space, outputs]), gradient

    return run(x, kernel, tf.cast(bias, tf.float32))


def _pieces(shape, bytes_a_row):
    """Into how many equal pieces a batch [B, d.., I] is parted, so that each has patches of at most `_PIECE`."""
    batch = shape[0] or 1
    wanted = math.ceil(math.prod([batch, *shape[1:-1]]) * bytes_a_row / _PIECE)
    return next(n for n in range(min(wanted, batch), batch + 1) if batch % n == 0)


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
        phased = tf.reshape(kernel[::-1, ::-1], [2, 2, 2, 2, outputs, inputs])  # [a,p,b,q,O,I]
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


def conv_transpose(x, kernel, bias):
    """A transposed convolution, "same" padding, stride 2, in two or three dimensions.

    Args:
      x: [B, d.., I], every axis of the space static.
      kernel: [taps.., O, I], of x's dtype.
      bias: [O] float32.

    Returns:
      [B, 2 d.., O], of x's dtype.
    """
    worthwhile = kernel.shape.num_elements() >= _WEIGHTS and x.shape[1:-1].num_elements() <= _POSITIONS
    if worthwhile and (kernels := native.kernels(x)):
        return _spread(x, kernel, bias, 2, (kernel.shape[0] - 2) // 2, kernels)
    if worthwhile and kernel.shape[:-2] == [4, 4] and not tf.config.list_physical_devices("GPU"):
        return _sub_pixel(x, kernel, bias)
    shape = tf.stack([tf.shape(x)[0], *(2 * d for d in x.shape[1:-1]), kernel.shape[-2]])
    return tf.nn.bias_add(tf.nn.conv_transpose(x, kernel, shape, 2, "SAME"), tf.cast(bias, x.dtype))


def conv2d(x, kernel, bias, strides=1):
    """A convolution, "same" padding.

    Args:
      x: [B, H, W, I], H and W static.
      kernel: [k, k, I, O]; x is cast to its type.
      bias: [O] float32.
      strides: in both directions.

    Returns:
      [B, H / strides, W / strides, O], of the kernel's dtype.
    """
    taps, (inputs, outputs) = kernel.shape[0], kernel.shape[-2:]
    if strides == 1 and outputs <= _FEW < inputs and (kernels := native.kernels(x, kernel)):
        # Read backwards, a convolution of stride 1 spreads its input too.
        flipped = tf.transpose(kernel[::-1, ::-1], [0, 1, 3, 2])  # [k,k,I,O] -> [k,k,O,I]
        return _spread(x, flipped, bias, 1, taps - 1 - (taps - 1) // 2, kernels)
    x = tf.cast(x, kernel.dtype)
    positions = x.shape[1] * x.shape[2] // strides**2
    worthwhile = (
        kernel.shape.num_elements() >= _WEIGHTS
        and positions <= _POSITIONS
        and strides == 2
        and not (x.shape[1] % 2 or x.shape[2] % 2)
    )
    if worthwhile and (kernels := native.kernels(x)):
        y = _with_product_gradient(x, kernel, strides, kernels)
    else:
        y = tf.nn.conv2d(x, kernel, strides, "SAME")
    return tf.nn.bias_add(y, tf.cast(bias, x.dtype))


def _with_product_gradient(x, kernel, strides, kernels):
    """The convolution with dW = patches(x)^T dy."""
    settings = {"kernel": kernel.shape[0], "stride": strides, "pad": (kernel.shape[0] - strides) // 2, "threads": native.threads()}

    @tf.custom_gradient
    def run(x, kernel):
        def gradient(upstream):
            columns = kernel.shape[:-1].num_elements()
            pieces, dkernel, done = _pieces(upstream.shape, columns * kernel.dtype.size), 0.0, [upstream]
            for part, above in zip(tf.split(x, pieces), tf.split(upstream, pieces), strict=True):
                with tf.control_dependencies(done[-1:]):  # as above
                    patches, _ = kernels.holotf_unfold(large=part, **settings)  # [B*h*w,taps*I]
                rows = tf.reshape(above, [-1, kernel.shape[-1]])  # [B,h,w,O] -> [B*h*w,O]
                patches = tf.ensure_shape(patches, [rows.shape[0], columns])
                done.append(tf.matmul(patches, rows, transpose_a=True))
                dkernel += tf.cast(done[-1], tf.float32)
            dkernel = tf.cast(tf.reshape(dkernel, kernel.shape), kernel.dtype)
            with tf.control_dependencies([dkernel]):
                dx = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, strides=[1, strides, strides, 1], padding="SAME"
                )
            return tf.ensure_shape(dx, x.shape), dkernel

        return tf.nn.conv2d(x, kernel, strides, "SAME"), gradient

    return run(x, kernel)


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
        return conv_transpose(x, tf.cast(self.kernel, x.dtype), self.bias)


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
        return conv2d(x, tf.cast(self.kernel, self.compute_dtype), self.bias)
