import numpy as np
import pytest
import tensorflow as tf

from holotf.layers.adain import AdaIN
from holotf.layers.normalise import InstanceNorm, batch_norm, instance_norm, leaky_relu

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("each_way")


def reference(x, scale, shift, epsilon, slope, together=False):
    axes = tuple(range(0 if together else 1, x.ndim - 1))
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    wide = (-1,) + (1,) * (x.ndim - 2) + (x.shape[-1],)
    y = (x - mean) / np.sqrt(var + epsilon) * scale.reshape(wide) + shift.reshape(wide)
    return np.where(y > 0, y, slope * y)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_the_leaky_relu_and_its_gradient(slope):
    x = tf.constant([-3.0, -0.5, 0.5, 2.0])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = leaky_relu(x, slope)
        dx = tape.gradient(y, x, 2.0 * x)  # what a gradient penalty differentiates again
    np.testing.assert_array_equal(y, np.float32([-3 * slope, -0.5 * slope, 0.5, 2]))
    np.testing.assert_allclose(dx, 2 * x * np.float32([slope, slope, 1, 1]))
    np.testing.assert_allclose(outer.gradient(dx, x), 2 * np.float32([slope, slope, 1, 1]))


@pytest.mark.parametrize("together", [False, True], ids=["instance", "batch"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 2), (2, 2, 3, 2, 2)])
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_equals_numpy_and_numeric_gradients_in_float64(together, shape, per_sample, slope):
    x = RNG.normal(3.0, 2.0, shape)
    scale, shift = RNG.normal(size=(2, *((shape[0],) if per_sample else ()), shape[-1]))
    weight = RNG.normal(size=shape)

    def f(x, scale, shift):
        settings = {"epsilon": 1e-5, "negative_slope": slope}
        return batch_norm(x, scale, shift, **settings)[0] if together else instance_norm(x, scale, shift, **settings)

    np.testing.assert_allclose(f(x, scale, shift), reference(x, scale, shift, 1e-5, slope, together), atol=1e-10)
    inputs = [tf.constant(t) for t in (x, scale, shift)]
    analytic, numeric = tf.test.compute_gradient(lambda *t: tf.reduce_sum(f(*t) * weight), inputs, delta=1e-6)
    for a, n in zip(analytic, numeric, strict=True):
        np.testing.assert_allclose(a, n, atol=1e-6)


def test_second_derivatives_as_a_gradient_penalty_needs_them():
    x, scale, shift = (tf.constant(t) for t in (RNG.normal(size=(2, 4, 4, 2)), RNG.normal(size=2), RNG.normal(size=2)))

    def penalty(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(instance_norm(x, scale, shift, epsilon=1e-3, negative_slope=0.2) ** 3)
        return tf.reduce_sum(tf.square(tape.gradient(y, x)))

    (analytic,), (numeric,) = tf.test.compute_gradient(penalty, [x], delta=1e-6)
    np.testing.assert_allclose(analytic, numeric, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_batch_norm_tells_the_moments_that_it_used(dtype):
    x = tf.cast(RNG.normal(3.0, [2.0, 0.1, 1e-4], (4, 5, 6, 3)), dtype)
    _, mean, variance = batch_norm(x, tf.ones(3), tf.zeros(3), epsilon=1e-5)
    seen = tf.cast(x, tf.float64).numpy()
    np.testing.assert_allclose(mean, seen.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, seen.var((0, 1, 2)), rtol=1e-5, atol=1e-11)


def test_statistics_of_bfloat16_features_are_float32():
    x = tf.cast(100.0 + RNG.normal(size=(1, 32, 32, 1)), tf.bfloat16)  # a bfloat16 sum of 1,024 values near 100 would be far off
    y = tf.cast(instance_norm(x, tf.ones(1), tf.zeros(1), epsilon=0.0), tf.float32)
    assert y.dtype == tf.float32
    assert abs(float(tf.reduce_mean(y))) < 2e-3
    assert float(tf.math.reduce_std(y)) == pytest.approx(1.0, abs=5e-3)


def test_a_constant_channel_stays_finite_and_becomes_the_shift():
    y = instance_norm(tf.fill([1, 4, 4, 2], 7.3), tf.ones(2), tf.constant([0.5, 2.0]), epsilon=1e-8)
    np.testing.assert_allclose(y, np.broadcast_to([0.5, 2.0], (1, 4, 4, 2)), atol=2e-2)


def test_instance_norm_layer_starts_as_plain_normalisation():
    layer = InstanceNorm()
    y = layer(tf.constant(RNG.normal(5, 3, (2, 8, 8, 3)), tf.float32))
    np.testing.assert_allclose(tf.reduce_mean(y, [1, 2]), 0.0, atol=1e-5)
    np.testing.assert_allclose(tf.math.reduce_std(y, [1, 2]), 1.0, atol=1e-3)
    assert len(layer.trainable_variables) == 2


@pytest.mark.parametrize("relu_map", [False, True])
def test_adain_takes_scale_and_shift_from_the_latent(relu_map):
    layer = AdaIN(relu_map=relu_map, negative_slope=1.0)
    x = tf.constant(RNG.normal(2, 3, (4, 6, 6, 6, 5)), tf.float32)
    z = tf.constant(RNG.uniform(-1, 1, (4, 8)), tf.float32)
    y = layer(x, z)
    style = z.numpy() @ layer.kernel.numpy() + layer.bias.numpy()
    style = np.maximum(style, 0) if relu_map else style
    np.testing.assert_allclose(tf.reduce_mean(y, [1, 2, 3]), style[:, 5:], atol=1e-5)
    np.testing.assert_allclose(tf.math.reduce_std(y, [1, 2, 3]), np.abs(style[:, :5]), atol=1e-3)
    assert tuple(layer.kernel.shape) == (8, 10)
