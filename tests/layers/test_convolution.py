import numpy as np
import pytest
import tensorflow as tf

from holotf.layers.convolution import UpConv

pytestmark = pytest.mark.usefixtures("each_way")


def enlarged_then_convolved(x, kernel, bias):
    """As the layer's docstring says it: every axis repeated, a convolution with the mirrored kernel."""
    axes = len(x.shape) - 2
    for axis in range(1, axes + 1):
        x = tf.repeat(x, 2, axis=axis)
    mirrored = tf.linalg.matrix_transpose(tf.reverse(kernel, list(range(axes))))  # [3..,O,I] -> [3..,I,O]
    return (tf.nn.conv2d if axes == 2 else tf.nn.conv3d)(x, mirrored, [1] * (axes + 2), "SAME") + bias


@pytest.mark.parametrize("space", [(4, 5), (3, 4, 2)], ids=["2D", "3D"])
@pytest.mark.parametrize("channels", [(3, 5), (16, 32)], ids=["narrow", "wide"])
def test_enlarging_and_convolving_are_one_transposed_convolution(space, channels):
    """Output, and the gradients to input, kernel and bias."""
    inputs, outputs = channels
    rng, layer = np.random.default_rng(0), UpConv(outputs, 3)
    x = tf.constant(rng.normal(size=(2, *space, inputs)), tf.float32)
    layer(x)
    layer.bias.assign(rng.normal(size=outputs))
    variables = [x, layer.kernel.value, layer.bias.value]
    found = []
    for function in (lambda: layer(x), lambda: enlarged_then_convolved(*variables)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function()
            upstream = tf.constant(np.random.default_rng(1).normal(size=y.shape), tf.float32)
            total = tf.reduce_sum(y * upstream)
        found.append([y, *tape.gradient(total, variables)])
    for ours, plain in zip(*found, strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-4)
    assert found[0][0].shape == (2, *(2 * n for n in space), outputs)


def test_a_constant_stays_one_where_a_transposed_convolution_would_not():
    """No checkerboard: away from the border, equal inputs give equal outputs."""
    layer = UpConv(1, 3)
    y = layer(tf.ones([1, 6, 6, 4]))[0, 2:-2, 2:-2, 0]
    np.testing.assert_allclose(y, tf.fill(y.shape, y[0, 0]), atol=1e-6)
    assert abs(float(y[0, 0])) > 1e-3
