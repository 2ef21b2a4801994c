"""Convolutions of bfloat16 on the processor's matrix tiles (AMX) or vectors (AVX-512), by our own kernels.

Three ops, each of which is a gradient of the other two (native/kernels.cc), for taps t of a kernel W:

    spread   large[stride i + t - pad] += W[t] small[i]
    gather   small[i] = sum over t of W[t] large[stride i + t - pad]
    filter   W[t] = sum over i of large[stride i + t - pad] small[i]

oneDNN is at half its speed and less in transposed convolutions of many channels, in the gradients of a large kernel over a small
image, and it lays patches out in memory; on Intel's processors without tiles, its products of bfloat16 are at half the speed of
those of float32. Ours read the patches where they lie, and widen them to float32 where that is faster. On AMD's, where oneDNN
multiplies as fast as can be, spread and gather are its own.

Transposed convolutions of stride 2 take fewer products in float32, and in bfloat16 where there are no tiles: 9 for 16 in two
dimensions and 27 for 64 in three (Winograd 1980; Lavin and Gray, arXiv 1509.09308). Sums and differences of neighbours, rounded to
bfloat16 where that is what is multiplied, cost some precision: an error of 0.5 % in 2D and 0.7 % in 3D, root mean square, where
rounding the result alone is 0.17 %; in float32 it is below 4e-6.
"""

import itertools
import types

import tensorflow as tf

from holotf import native

_FORMATS = {4: "NHWC", 5: "NDHWC"}  # said, since the gradients of an eager 3D convolution ask for it
_LONG = 8  # positions along an axis: of a shorter one, laying out what Winograd's products take costs what they save
_NARROW = 16  # channels: with fewer on either side, most of a tile would be empty


def faster(x: tf.Tensor, kernel: tf.Tensor) -> types.ModuleType | None:
    """The op library where it is faster than oneDNN: for bfloat16 and as many channels as fill a tile; or None."""
    if x.dtype != tf.bfloat16 or min(kernel.shape[-2:]) < _NARROW:
        return None
    ops = native.kernels(x, kernel)
    return ops if ops and ops.convolutions else None


def faster_spread(x: tf.Tensor, kernel: tf.Tensor, stride: int) -> types.ModuleType | None:
    """The op library where `spread` is faster than oneDNN: where `faster`, and in float32 by fewer products; or None."""
    if ops := faster(x, kernel):
        return ops
    ops = native.kernels(x, kernel)
    return ops if ops and min(kernel.shape[-2:]) >= _NARROW and _fewer(x, kernel, stride, ops) else None


def faster_wide(x: tf.Tensor, kernel: tf.Tensor) -> types.ModuleType | None:
    """The op library where `gather_wide` is faster than oneDNN in float32: on tiles; or None."""
    ops = native.kernels(x, kernel)
    return ops if ops and ops.convolutions == "tiles" else None


def faster_enlarged(x: tf.Tensor, kernel: tf.Tensor) -> types.ModuleType | None:
    """The op library where `spread_enlarged` is faster than `spread`: for three taps, of bfloat16 without tiles; or None."""
    ops = faster(x, kernel)
    return ops if ops and kernel.shape[0] == 3 and ops.convolutions != "tiles" else None


def twice(kernel: tf.Tensor) -> tf.Tensor:
    """The kernel by which enlarging x 2 (nearest) and then convolving are one transposed convolution of stride 2.

    An input is met by two neighbours of the enlarged image, so each tap counts at two places: K[t] = k[t] + k[t - 1] along each
    axis, 4 taps from 3. Half to a third of the multiplications (Karras et al. 2018, arXiv 1710.10196, fuse likewise).

    Args:
      kernel: [taps.., O, I].

    Returns:
      [taps + 1.., O, I].
    """
    for axis in range(len(kernel.shape) - 2):
        ends = [[[0, 0]] * axis + [end] + [[0, 0]] * (len(kernel.shape) - axis - 1) for end in ([0, 1], [1, 0])]
        kernel = tf.pad(kernel, ends[0]) + tf.pad(kernel, ends[1])
    return kernel


def spread(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, stride: int, ops: types.ModuleType) -> tf.Tensor:
    """A transposed convolution; of stride 2 with four taps, by fewer products in float32, and in bfloat16 where there are no tiles.

    Args:
      x: [B, d.., I] bfloat16; float32 where fewer products do.
      kernel: [taps.., O, I]; its gradient is of its type.
      bias: [O] float32.
      stride: as in the formula.
      ops: the op library.

    Returns:
      [B, stride d.., O], of x's dtype.
    """
    window, (outputs, inputs) = _window(kernel, stride), kernel.shape[-2:]
    fewer = _fewer(x, kernel, stride, ops)

    def forward(x, kernel, bias):
        if fewer:
            return ops.holotf_winograd_spread(x=x, weights=tf.cast(kernel, tf.float32), bias=bias, threads=window["threads"])
        return _to_large(x, tf.cast(kernel, x.dtype), bias, window, ops)

    def to_input(upstream, kernel):
        if fewer:
            kernel = tf.cast(kernel, tf.float32)
            return ops.holotf_winograd_gather(x=upstream, weights=kernel, bias=tf.zeros(inputs), threads=window["threads"])
        with tf.control_dependencies([upstream]):  # cast anew: a copy that waited would be a generator's whole weight
            weights = tf.cast(kernel, upstream.dtype)
        return _to_small(upstream, weights, None, window, ops)

    @tf.custom_gradient
    def run(x, kernel, bias):
        large = forward(x, kernel, bias)

        def gradient(upstream):
            dkernel, dbias = _filter(upstream, x, kernel, stride, ops, fewer), _of_bias(upstream, ops)
            with tf.control_dependencies([dkernel]):  # else upstream and x stay in memory while the layers below go on
                dx = native.differentiable(to_input, lambda g, k: _gather(g, tf.cast(k, g.dtype), stride))(upstream, kernel)
            return tf.ensure_shape(dx, x.shape), dkernel, dbias

        return tf.ensure_shape(large, [x.shape[0], *(stride * d for d in x.shape[1:-1]), outputs]), gradient

    return run(x, kernel, tf.cast(bias, tf.float32))


def spread_enlarged(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, ops: types.ModuleType) -> tf.Tensor:
    """`spread` of stride 2 by a kernel that is `twice` one of three taps, by fewer products.

    Along each axis, with s = k[0] + k[1] + k[2], y[2 m] = k[2] (x[m - 1] - x[m]) + s x[m] and
    y[2 m + 1] = s x[m] + k[0] (x[m + 1] - x[m]): three products for two outputs of two taps each. The gradient of x[m] is

        k[0] (dy[2 m - 1] - dy[2 m + 1]) + s (dy[2 m] + dy[2 m + 1]) + k[2] (dy[2 m + 2] - dy[2 m]),

    and the kernel's gradient is of the same three.

    Args:
      x: [B, d.., I] bfloat16.
      kernel: [3.., O, I]; its gradient is of its type.
      bias: [O] float32.
      ops: the op library.

    Returns:
      [B, 2 d.., O] bfloat16.
    """
    axes, (outputs, inputs), threads = len(x.shape) - 2, kernel.shape[-2:], native.threads()
    products = {"kernel": 1, "stride": 1, "pad": 0, "threads": threads}

    def along(tensor, axis, mixed):
        return tf.stack(mixed(*tf.unstack(tensor, axis=axis)), axis=axis)

    def gradients(upstream, x, kernel):
        seen = ops.holotf_differences(large=upstream, threads=threads)
        seen = tf.ensure_shape(seen, [*x.shape[:-1], 3**axes * outputs])
        dkernel = tf.reshape(ops.holotf_filter_gradient(large=seen, small=x, **products), kernel.shape)
        summed = tf.cast(kernel, tf.float32)
        for axis in range(axes):
            dkernel = along(dkernel, axis, lambda first, s, last: [first + s, s, last + s])
            summed = along(summed, axis, lambda first, middle, last: [first, first + middle + last, last])
        weights = tf.cast(tf.reshape(summed, [*[1] * axes, 3**axes * outputs, inputs]), x.dtype)
        with tf.control_dependencies([dkernel]):
            dx = _to_small(seen, weights, None, products, ops)
        return tf.ensure_shape(dx, x.shape), tf.cast(dkernel, kernel.dtype), _of_bias(upstream, ops)

    def formula(upstream, x, kernel):
        fused = twice(tf.cast(kernel, x.dtype))
        dkernel = _correlation(upstream, x, fused.shape, 2)
        for axis in range(axes):
            dkernel = along(dkernel, axis, lambda *taps: [a + b for a, b in itertools.pairwise(taps)])
        return _gather(upstream, fused, 2), tf.cast(dkernel, kernel.dtype), tf.reduce_sum(_sums(upstream), axis=0)

    @tf.custom_gradient
    def run(x, kernel, bias):
        large = ops.holotf_enlarge(x=x, weights=tf.cast(kernel, tf.float32), bias=bias, threads=threads)

        def gradient(upstream):
            return native.differentiable(gradients, formula)(upstream, x, kernel)

        return tf.ensure_shape(large, [x.shape[0], *(2 * d for d in x.shape[1:-1]), outputs]), gradient

    return run(x, kernel, tf.cast(bias, tf.float32))


def gather(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, stride: int, ops: types.ModuleType) -> tf.Tensor:
    """A convolution, the adjoint of `spread`.

    Args:
      x: [B, stride d.., I] bfloat16.
      kernel: [taps.., I, O]; its gradient is of its type.
      bias: [O] float32.
      stride: as in the formula.
      ops: the op library.

    Returns:
      [B, d.., O] bfloat16.
    """
    window, outputs = _window(kernel, stride), kernel.shape[-1]

    @tf.custom_gradient
    def run(x, kernel, bias):
        weights = tf.cast(kernel, x.dtype)
        small = _to_small(x, weights, bias, window, ops)

        def to_input(upstream, kernel):
            return _to_large(upstream, kernel, None, window, ops)

        def gradient(upstream):
            dx = native.differentiable(to_input, lambda *pair: _spread(*pair, stride))(upstream, weights)
            with tf.control_dependencies([dx]):  # not the other way: the generator's updates do without the discriminator's dkernel
                dkernel, dbias = _filter(x, upstream, kernel, stride, ops), _of_bias(upstream, ops)
            return tf.ensure_shape(dx, x.shape), dkernel, dbias

        return tf.ensure_shape(small, [x.shape[0], *(d // stride for d in x.shape[1:-1]), outputs]), gradient

    return run(x, kernel, tf.cast(bias, tf.float32))


def gather_wide(x: tf.Tensor, kernel: tf.Tensor, ops: types.ModuleType) -> tf.Tensor:
    """A 2D convolution of stride 1 in float32 of a bfloat16 image, which waits for its gradient as it came.

    The kernel, and the gradient, are split into parts of bfloat16, which fill channels of a tile that few outputs would leave
    empty.

    Args:
      x: [B, H, W, I] bfloat16.
      kernel: [k, k, I, O] float32.
      ops: the op library.

    Returns:
      [B, H, W, O] float32.
    """
    window, (inputs, outputs) = _window(kernel, 1), kernel.shape[-2:]

    def gradients(x, kernel, upstream):
        # x sees the gradient through the taps in reverse: fewer patches to lay out than when the gradient sees x
        seen = {**window, "pad": window["kernel"] - 1 - window["pad"]}
        dkernel = ops.holotf_filter_gradient(large=_split(upstream, 3), small=x, **seen)
        dkernel = tf.reduce_sum(tf.reshape(dkernel, [*kernel.shape[:-2], 3, outputs, inputs]), axis=-3)
        dkernel = tf.linalg.matrix_transpose(tf.reverse(dkernel, [0, 1]))
        two = _split(upstream, 2)
        high, low = tf.split(_split(kernel, 2), 2, axis=-1)
        with tf.control_dependencies([dkernel]):  # (a + b)(high + low)
            dx = ops.holotf_spread(
                small=tf.concat([two, two], axis=-1),
                weights=tf.concat([high, high, low, low], axis=-1),
                bias=tf.zeros(inputs),
                **window,
            )
        return tf.ensure_shape(dx, x.shape), dkernel

    def formula(x, kernel, upstream):
        return tf.cast(_spread(upstream, kernel, 1), x.dtype), _correlation(x, upstream, kernel.shape, 1)

    @tf.custom_gradient
    def run(x, kernel):
        y = ops.holotf_gather_wide(large=x, weights=_split(kernel, 3), bias=tf.zeros(3 * outputs), **window)
        y = tf.reduce_sum(tf.reshape(y, [-1, *x.shape[1:-1], 3, outputs]), axis=-2)

        def gradient(upstream):
            return native.differentiable(gradients, formula)(x, kernel, upstream)

        return tf.ensure_shape(y, [x.shape[0], *x.shape[1:-1], outputs]), gradient

    return run(x, kernel)


def _fewer(x, kernel, stride, ops):
    """Whether a transposed convolution is one of fewer products; tiles multiply bfloat16 faster than differences are laid out."""
    fits = stride == 2 and kernel.shape[0] == 4 and all(d % 2 == 0 and d >= _LONG for d in x.shape[1:-1])
    return fits and bool(ops.convolutions) and (x.dtype == tf.float32 or ops.convolutions != "tiles")


def _window(kernel, stride):
    """What the ops have to know of a kernel."""
    taps = kernel.shape[0]
    return {"kernel": taps, "stride": stride, "pad": (taps - stride) // 2, "threads": native.threads()}


def _to_small(large, weights, bias, window, ops):
    """`gather` by whichever is faster: oneDNN where it multiplies pairs as fast as can be. The bias may be None."""
    if ops.convolutions == "vectors of bfloat16":
        return _biased(_gather(large, weights, window["stride"]), bias)
    return ops.holotf_gather(large=large, weights=weights, bias=tf.zeros(weights.shape[-1]) if bias is None else bias, **window)


def _to_large(small, weights, bias, window, ops):
    """`spread`, likewise."""
    if ops.convolutions == "vectors of bfloat16":
        return _biased(_spread(small, weights, window["stride"]), bias)
    return ops.holotf_spread(small=small, weights=weights, bias=tf.zeros(weights.shape[-2]) if bias is None else bias, **window)


def _biased(y, bias):
    return y if bias is None else tf.nn.bias_add(y, tf.cast(bias, y.dtype))


def _filter(large, small, kernel, stride, ops, fewer=False):
    """The gradient of a kernel [taps.., of large, of small], of its shape and type, summed in float32."""
    window = _window(kernel, stride)

    def run(large, small):
        if fewer:
            dkernel = ops.holotf_winograd_filter(large=large, small=small, threads=window["threads"])
        else:
            dkernel = ops.holotf_filter_gradient(large=large, small=small, **window)
        return tf.cast(tf.reshape(dkernel, kernel.shape), kernel.dtype)

    def formula(large, small):
        return tf.cast(_correlation(large, small, kernel.shape, stride), kernel.dtype)

    return native.differentiable(run, formula)(large, small)


def _of_bias(upstream, ops):
    """The gradient of a bias, [O] float32."""
    if upstream.dtype == tf.bfloat16:
        sums = native.differentiable(lambda g: ops.holotf_sums(x=g, threads=native.threads()), _sums)(upstream)  # [B, O]
    else:
        sums = _sums(upstream)
    return tf.reduce_sum(tf.ensure_shape(sums, [upstream.shape[0], upstream.shape[-1]]), axis=0)


def _split(x, count):
    """float32 as `count` bfloat16 parts, side by side along the last axis, of 8 bits of it each: the sum of three is all of it."""
    parts = []
    for _ in range(count):
        parts.append(tf.cast(x, tf.bfloat16))
        x = x - tf.cast(parts[-1], x.dtype)
    return tf.concat(parts, axis=-1)


# The formulas of the ops, in TensorFlow's operations: what they are differentiated by.


def _sums(x):
    return tf.reduce_sum(tf.cast(x, tf.float32), axis=list(range(1, len(x.shape) - 1)))


def _gather(large, kernel, stride):
    return tf.nn.convolution(large, kernel, stride, "SAME", _FORMATS[len(large.shape)])


def _spread(small, kernel, stride):
    shape = tf.stack([tf.shape(small)[0], *(stride * d for d in small.shape[1:-1]), kernel.shape[-2]])
    return tf.nn.conv_transpose(small, kernel, shape, stride, "SAME", _FORMATS[len(small.shape)])


def _correlation(large, small, shape, stride):
    large, small, kernel = tf.cast(large, tf.float32), tf.cast(small, tf.float32), tf.zeros(shape)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = _gather(large, kernel, stride)
    return tape.gradient(y, kernel, small)
