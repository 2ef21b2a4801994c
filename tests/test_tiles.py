"""Convolutions on the processor's matrix tiles or vectors, against TensorFlow's.

`test_native.py` runs this file on those that the processor's own build does not use, emulated tiles among them; by hand,
`CXX="g++ -DHOLOTF_EMULATE_TILES" python -m pytest tests/test_tiles.py`.
"""

import functools
import os

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from test_native import RNG, assert_close, random, second_order, value_and_gradients

from holotf import native
from holotf.layers import convolution, tiles

EXAMPLES = int(os.environ.get("HOLOTF_EXAMPLES", "25"))  # more on demand
pytestmark = [
    pytest.mark.skipif(not getattr(native.kernels(), "convolutions", ""), reason="our convolutions need vectors of 512 bits"),
    pytest.mark.usefixtures("on_tiles"),
]


@pytest.fixture
def on_tiles(monkeypatch):
    """Convolutions take the way of the tiles however few their channels are."""
    monkeypatch.setattr(tiles, "_NARROW", 1)


def whole(*shape):
    """Small whole numbers: every product and sum of them is exact, in bfloat16 and float32."""
    return tf.cast(RNG.integers(-2, 3, shape), tf.bfloat16)


def assert_equal(function, *inputs):
    """Our kernels against TensorFlow's operations in float32, rounded to bfloat16 at the end, bit for bit."""

    def weigh(rng, size):
        return rng.integers(-2, 3, size)

    ours = value_and_gradients(function, inputs, weigh)
    with native.off():
        theirs = value_and_gradients(function, [tf.cast(t, tf.float32) for t in inputs], weigh)
    for a, b, like in zip(ours, theirs, [inputs[0], *inputs], strict=True):
        assert np.abs(b).max() > 0
        np.testing.assert_array_equal(a, tf.cast(tf.cast(b, like.dtype), tf.float32))


# Channels: fewer than a strip, some strips, more than a block of 16 strips.
@pytest.mark.parametrize("outputs", [7, 70])
@pytest.mark.parametrize(
    ("space", "taps", "inputs"),
    [
        ((5, 6), 4, 9),
        ((4, 3, 5), 3, 40),
        ((3, 3), 2, 530),
        ((3, 3), 5, 33),
        ((17, 18), 4, 32),
        ((8, 10), 4, 70),  # these by Winograd's products, where they are
        ((34, 8), 4, 33),
        ((8, 8, 10), 4, 9),
        ((8, 8), 4, 530),
    ],
)
def test_transposed_convolution(space, taps, inputs, outputs):
    kernel, bias = whole(*[taps] * len(space), outputs, inputs), tf.cast(whole(outputs), tf.float32)
    assert_equal(convolution.conv_transpose, whole(2, *space, inputs), kernel, bias)


@pytest.mark.parametrize("outputs", [9, 70])
@pytest.mark.parametrize(("taps", "inputs", "strides"), [(4, 9, 1), (3, 70, 1), (5, 9, 2), (4, 530, 2), (2, 40, 2), (1, 70, 1)])
def test_convolution(taps, inputs, outputs, strides):
    kernel = whole(taps, taps, inputs, outputs)
    assert_equal(lambda *a: convolution.conv2d(*a, tf.zeros(outputs), strides), whole(3, 8, 10, inputs), kernel)


@pytest.mark.parametrize("strides", [1, 2])
def test_convolution_with_a_bias(strides):
    """Of so few products that no sum is rounded: oneDNN's are before the bias is added, ours after it."""
    kernel, bias = whole(3, 3, 9, 33), tf.cast(whole(33), tf.float32)
    assert_equal(lambda *a: convolution.conv2d(*a, strides), whole(3, 8, 10, 9), kernel, bias)


SIZES = st.integers(1, 70)  # up to three strips


@hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(
    st.booleans(),
    st.lists(st.integers(1, 5), min_size=2, max_size=3),
    st.sampled_from([(1, 1), (3, 1), (4, 1), (2, 2), (3, 2), (4, 2), (5, 2), (3, 3)]),
    st.integers(1, 3),
    SIZES,
    SIZES,
)
def test_random_shapes(transposed, space, window, batch, inputs, outputs):
    """The value and the gradient to the image are rounded to bfloat16 once, the gradient to the kernel never."""
    taps, strides = window
    if not transposed:
        space = [strides * n for n in space[:2]]
    channels = (outputs, inputs) if transposed else (inputs, outputs)
    x, kernel = random(batch, *space, inputs, dtype=tf.bfloat16), random(*[taps] * len(space), *channels, dtype=tf.bfloat16)
    function = convolution.conv_transpose if transposed else convolution.conv2d

    def weigh(rng, size):
        return rng.integers(-127, 128, size) / 64  # exact in bfloat16

    assert_close(
        lambda x, kernel: function(x, kernel, strides=strides),
        x,
        tf.cast(kernel, tf.float32),
        tolerance=(4e-3, 4e-3, 2e-6),
        measured=functools.partial(value_and_gradients, weigh=weigh),
    )


def test_a_sum_of_nothing_is_zero():
    """The gradient to the kernel of an empty batch."""
    ops, images = native.kernels(), {"large": tf.zeros([0, 4, 8, 40], tf.bfloat16), "small": tf.zeros([0, 2, 4, 33], tf.bfloat16)}
    np.testing.assert_array_equal(
        ops.holotf_filter_gradient(**images, kernel=4, stride=2, pad=1, threads=2), np.zeros([16 * 40, 33])
    )
    wide = {name: tf.cast(image, tf.float32) for name, image in images.items()}
    np.testing.assert_array_equal(ops.holotf_winograd_filter(**wide, threads=2), np.zeros([16 * 40, 33]))


# Strips of 32 channels that fill no block evenly, and images enough to be shared out along the depth.
@pytest.mark.parametrize(("space", "outputs", "inputs"), [((64, 72), 150, 180), ((16, 16), 20, 330), ((24, 16, 16), 70, 90)])
def test_the_gradient_of_a_kernel_in_blocks(space, outputs, inputs):
    ops, (large, small) = native.kernels(), (whole(5, *space, outputs), whole(5, *(d // 2 for d in space), inputs))
    images = {"large": tf.cast(large, tf.float32), "small": tf.cast(small, tf.float32)}
    expected = tiles._correlation(large, small, [*[4] * len(space), outputs, inputs], 2)
    for threads in (1, 3):
        found = tf.reshape(ops.holotf_winograd_filter(**images, threads=threads), expected.shape)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("function", [convolution.conv2d, convolution.conv_transpose])
def test_a_kernel_that_does_not_reach_the_next_step_is_left_to_tensorflow(function):
    assert_close(lambda *t: function(*t, strides=3), random(2, 6, 6, 9, dtype=tf.bfloat16), random(2, 2, 9, 9), tolerance=1e-2)


@pytest.mark.parametrize(
    ("op", "inputs", "message"),
    [
        ("gather", {"large": (2, 4, 4, 8), "weights": (4, 3, 8, 5), "bias": (5,)}, r"input 1 is \[4,3,8,5\], not \[4,4,8,5\]"),
        ("gather", {"large": (2, 4, 4, 8), "weights": (4, 4, 8, 5), "bias": (1, 5)}, r"a bias is \[1,5\], not \[N\]"),
        ("gather", {"large": (2, 4, 5, 8), "weights": (4, 4, 8, 5), "bias": (5,)}, r"cannot be parted by stride 2"),
        ("gather", {"large": (2, 8), "weights": (4, 4, 8, 5), "bias": (5,)}, r"not of one to three dimensions"),
        ("spread", {"small": (2, 4, 4, 8), "weights": (4, 4, 8, 5), "bias": (5,)}, r"input 1 is \[4,4,8,5\], not \[4,4,5,8\]"),
        ("spread", {"small": (2, 4, 4, 0), "weights": (4, 4, 5, 0), "bias": (5,)}, r"without channels"),
        ("filter_gradient", {"large": (2, 4, 4, 8), "small": (3, 2, 2, 5)}, r"input 1 is \[3,2,2,5\], not \[2,2,2,5\]"),
        ("filter_gradient", {"large": (2, 4, 4, 8), "small": (2, 2, 5)}, r"images are \[2,4,4,8\] and \[2,2,5\]"),
    ],
)
def test_what_a_kernel_cannot_work_on_is_said_and_not_read_beyond(op, inputs, message):
    tensors = {name: tf.zeros(shape, tf.float32 if name == "bias" else tf.bfloat16) for name, shape in inputs.items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        getattr(native.kernels(), f"holotf_{op}")(**tensors, kernel=4, stride=2, pad=1, threads=2)


@pytest.mark.parametrize(
    ("op", "inputs", "message"),
    [
        ("winograd_spread", {"x": (2, 4, 4, 8), "weights": (4, 4, 8, 5), "bias": (5,)}, r"input 1 is \[4,4,8,5\], not \[4,4,5,8\]"),
        ("winograd_spread", {"x": (2, 4, 3, 8), "weights": (4, 4, 5, 8), "bias": (5,)}, r"\[2,4,3,8\] cannot be parted by 2"),
        ("winograd_spread", {"x": (2, 4, 4, 8), "weights": (4, 4, 5, 8), "bias": (2, 5)}, r"a bias is \[2,5\], not \[N\]"),
        ("winograd_gather", {"x": (2, 4, 4, 8), "weights": (4, 4, 5, 8), "bias": (5,)}, r"input 1 is \[4,4,5,8\], not \[4,4,8,5\]"),
        ("winograd_gather", {"x": (2, 4, 6, 8), "weights": (4, 4, 8, 5), "bias": (5,)}, r"\[2,4,6,8\] cannot be parted by 4"),
        ("winograd_gather", {"x": (2, 8), "weights": (4, 4, 8, 5), "bias": (5,)}, r"not of one to three dimensions"),
        ("winograd_filter", {"large": (2, 4, 4, 8), "small": (3, 2, 2, 5)}, r"input 1 is \[3,2,2,5\], not \[2,2,2,5\]"),
        ("winograd_filter", {"large": (2, 4, 4, 8), "small": (2, 2, 5)}, r"input 1 is \[2,2,5\], not \[2,2,2,5\]"),
        ("enlarge", {"x": (2, 4, 4, 8), "weights": (4, 4, 5, 8), "bias": (5,)}, r"input 1 is \[4,4,5,8\], not \[3,3,5,8\]"),
        ("differences", {"large": (2, 4, 5, 8)}, r"\[2,4,5,8\] cannot be parted by stride 2"),
        ("differences", {"large": (2, 8)}, r"not of one to three dimensions"),
        ("sums", {"x": (8,)}, r"x is \[8\], not \[B, ..., C\]"),
    ],
)
def test_fewer_products_of_what_does_not_fit_are_none(op, inputs, message):
    if op == "enlarge" and native.kernels().convolutions == "tiles":
        pytest.skip("tiles do without it")
    run = getattr(native.kernels(), f"holotf_{op}")
    of_bfloat16 = op in ("enlarge", "differences", "sums")
    tensors = {
        name: tf.zeros(shape, tf.bfloat16 if of_bfloat16 and name in ("x", "large") else tf.float32)
        for name, shape in inputs.items()
    }
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        run(**tensors, threads=2)


@pytest.mark.parametrize("outputs", [7, 70])
@pytest.mark.parametrize(("space", "inputs"), [((5, 6), 9), ((4, 3, 5), 40), ((1, 7), 530), ((16, 9), 33)])
def test_enlarging_and_convolving(space, inputs, outputs):
    kernel, bias = whole(*[3] * len(space), outputs, inputs), tf.cast(whole(outputs), tf.float32)
    assert_equal(convolution.up_conv, whole(2, *space, inputs), kernel, bias)


def test_differences_are_those_of_the_formula():
    large = whole(3, 6, 4, 19)
    padded = np.pad(tf.cast(large, tf.float32), [[0, 0], [1, 1], [1, 1], [0, 0]])
    before, even, odd, after = ([slice(i, i + 2 * n, 2) for n in (3, 2)] for i in range(4))
    pairs = [(before, odd, -1), (even, odd, 1), (after, even, -1)]  # along one axis, and of that along the other
    expected = np.stack(
        [
            (padded[:, a[0]] + sign * padded[:, b[0]])[:, :, c[1]] + other * (padded[:, a[0]] + sign * padded[:, b[0]])[:, :, d[1]]
            for a, b, sign in pairs
            for c, d, other in pairs
        ],
        axis=3,
    )
    for threads in (1, 3):
        found = native.kernels().holotf_differences(large=large, threads=threads)
        np.testing.assert_array_equal(tf.cast(found, tf.float32), expected.reshape(3, 3, 2, 9 * 19))


def test_the_kernels_do_convolve():
    """Each by what is fastest: by vectors Winograd's products, and by those of pairs oneDNN's where these do not help."""

    def ours(function, *shapes, dtype=tf.bfloat16):
        traced = tf.function(lambda *t: value_and_gradients_of(function, *t))
        graph = traced.get_concrete_function(*(tf.TensorSpec(shape, dtype) for shape in shapes)).graph
        return {op.type.removeprefix("Holotf") for op in graph.get_operations() if op.type.startswith("Holotf")} - {"Sums"}

    def value_and_gradients_of(function, *inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = function(*inputs)
        return y, tape.gradient(y, inputs)

    def transposed(x, kernel):
        return convolution.conv_transpose(x, kernel, tf.zeros(9))

    way = native.kernels().convolutions
    products = set() if way == "vectors of bfloat16" else {"Gather", "Spread"}
    few = {"WinogradSpread", "WinogradGather", "WinogradFilter"}
    assert ours(transposed, (1, 8, 8, 8), (4, 4, 9, 8), dtype=tf.float32) == few
    assert ours(transposed, (1, 8, 6, 8), (4, 4, 9, 8), dtype=tf.float32) == set()
    assert ours(transposed, (1, 8, 8, 8), (4, 4, 9, 8)) == (few if way != "tiles" else products | {"FilterGradient"})
    assert ours(transposed, (1, 8, 6, 8), (4, 4, 9, 8)) == products | {"FilterGradient"}
    assert ours(transposed, (1, 8, 8, 8), (5, 5, 9, 8)) == products | {"FilterGradient"}
    assert ours(lambda *t: convolution.conv2d(*t, tf.zeros(9), 2), (1, 8, 8, 8), (4, 4, 8, 9)) == products | {"FilterGradient"}
    enlarged = {"Enlarge", "Differences", "FilterGradient"} | products - {"Spread"}
    assert ours(lambda *t: convolution.up_conv(*t, tf.zeros(9)), (1, 4, 4, 8), (3, 3, 9, 8)) == (
        enlarged if way != "tiles" else products | {"FilterGradient"}
    )
    assert ours(lambda *t: convolution.up_conv(*t, tf.zeros(9)), (1, 8, 8, 8), (3, 3, 9, 8), dtype=tf.float32) == few


@pytest.mark.parametrize(
    ("dtype", "space", "error"),
    [(tf.bfloat16, (8, 16), 0.006), (tf.bfloat16, (8, 8, 8), 0.009), (tf.float32, (8, 16), 2e-6), (tf.float32, (8, 8, 8), 4e-6)],
)
def test_fewer_products_are_nearly_as_precise(dtype, space, error):
    """Root mean squares of the errors beside those of the values, against float64; rounding a bfloat16 alone is 0.0017."""
    x, up = random(4, *space, 64, dtype=dtype), random(4, *(2 * d for d in space), 32, dtype=dtype)

    def measured(function, kernel, dtype):
        inputs = [tf.cast(x, dtype), tf.cast(kernel, tf.float64 if dtype == tf.float64 else tf.float32)]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = function(*inputs)
        return [tf.cast(t, tf.float64) for t in (y, *tape.gradient(y, inputs, tf.cast(up, dtype)))]

    for function, taps in ((convolution.conv_transpose, 4), (convolution.up_conv, 3)):
        kernel = random(*[taps] * len(space), 32, 64)
        ours = measured(function, kernel, dtype)
        with native.off():
            exact = measured(function, kernel, tf.float64)
        for a, b in zip(ours, exact, strict=True):
            assert tf.norm(a - b) < error * tf.norm(b)


@pytest.mark.skipif(getattr(native.kernels(), "convolutions", "") != "tiles", reason="without tiles it is TensorFlow's")
def test_a_convolution_of_float32_is_one_on_tiles_of_bfloat16():
    x, kernel, bias = random(2, 8, 8, 33, dtype=tf.bfloat16), random(4, 4, 33, 3), random(3)

    def convolve(x, kernel, bias):
        return convolution.conv2d(x, kernel, bias, dtype=tf.float32 if x.dtype == tf.bfloat16 else x.dtype)

    assert_close(convolve, x, kernel, bias, tolerance=(2e-6, 4e-3, 2e-6, 2e-6))


def test_convolutions_on_tiles_can_be_differentiated_twice():
    twice = {"tolerance": 0.02, "measured": second_order}
    x, kernel = whole(2, 4, 6, 3) / 4, random(5, 5, 3, 4) / 4
    assert_close(lambda *t: convolution.conv2d(*t, strides=2), x, kernel, **twice)
    assert_close(lambda *t: convolution.conv2d(*t, dtype=tf.float32), x, kernel, **twice)
    assert_close(convolution.conv_transpose, x, random(5, 5, 4, 3) / 4, random(4), **twice)
    assert_close(convolution.up_conv, x, random(3, 3, 4, 3) / 4, random(4), **twice)
    assert_close(convolution.conv_transpose, whole(2, 2, 3, 2, 3) / 4, random(3, 3, 3, 4, 3) / 4, random(4), **twice)


def test_the_gradient_of_a_kernel_is_never_rounded_to_bfloat16():
    x, kernel, up = random(2, 8, 8, 32, dtype=tf.bfloat16), random(4, 4, 32, 32), random(2, 4, 4, 32, dtype=tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = convolution.conv2d(x, kernel, tf.zeros(32), 2)
    exact = tf.nn.conv2d(
        tf.transpose(tf.cast(x, tf.float64), [3, 1, 2, 0]),
        tf.transpose(tf.cast(up, tf.float64), [1, 2, 0, 3]),
        1,
        [[0, 0], [1, 1], [1, 1], [0, 0]],
        dilations=2,
    )
    np.testing.assert_allclose(tape.gradient(y, kernel, up), tf.transpose(exact, [1, 2, 0, 3]), atol=1e-4)


def test_sums_do_not_depend_on_the_number_of_threads():
    large, small = random(5, 16, 16, 40, dtype=tf.bfloat16), random(5, 8, 8, 70, dtype=tf.bfloat16)
    one, many = (
        native.kernels().holotf_filter_gradient(large=large, small=small, kernel=5, stride=2, pad=1, threads=t) for t in (1, 3)
    )
    np.testing.assert_array_equal(one, many)
