import keras
import numpy as np
import pytest
import tensorflow as tf

from holotf.layers.convolution import Conv2D, ConvTranspose, UpConv
from holotf.layers.spectral import SpectralConv2D

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


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("strides", [1, 2, 3])
def test_every_layer_takes_strides_and_a_bias_or_none(strides, use_bias):
    keras.utils.set_random_seed(0)
    x = tf.random.stateless_normal([2, 6, 12, 5], [0, 0])
    settings = {"strides": strides, "use_bias": use_bias}
    for layer, reference in (
        (Conv2D(4, 3, **settings), lambda k: tf.nn.conv2d(x, k, strides, "SAME")),
        (
            SpectralConv2D(4, 3, **settings),
            lambda k: tf.nn.conv2d(x, k / tf.linalg.svd(tf.reshape(k, [-1, 4]))[0][0], strides, "SAME"),
        ),
        (
            ConvTranspose(4, 3, **settings),
            lambda k: tf.nn.conv2d_transpose(x, k, [2, 6 * strides, 12 * strides, 4], strides, "SAME"),
        ),
    ):
        layer.build(x.shape)
        if isinstance(layer, SpectralConv2D):
            layer.update_u(100)
        names = {v.name for v in layer.trainable_variables}
        assert names == ({"kernel", "bias"} if use_bias else {"kernel"})
        expected = reference(layer.kernel.value)
        if use_bias:
            layer.bias.assign([1.0, 2.0, 3.0, 4.0])
            expected += layer.bias.value
        np.testing.assert_allclose(layer(x), expected, rtol=1e-3, atol=1e-3)  # power iteration comes near
