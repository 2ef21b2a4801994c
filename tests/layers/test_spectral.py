"""Spectral normalisation: what the compared layers of tests/parity do not show."""

import numpy as np
import pytest
import tensorflow as tf

from holotf.layers import spectral

RNG = np.random.default_rng(0)


def plain(kernel, u, v):
    return kernel / spectral.sigma(kernel, u, v)


@pytest.mark.parametrize("shape", [(5, 5, 3, 7), (40, 6)], ids=["convolution", "dense"])
def test_the_fused_gradient_is_that_of_the_quotient(shape):
    kernel, upstream = (tf.constant(RNG.normal(size=shape), tf.float32) for _ in range(2))
    u, v = spectral.power_iteration(kernel, tf.constant(RNG.normal(size=(1, shape[-1])), tf.float32))
    found = []
    for function in (spectral.normalised, plain):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            out = function(kernel, u, v)
        found.append((out, tape.gradient(out, kernel, upstream)))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6 * np.abs(theirs).max())


def test_a_penalty_on_the_gradient_of_an_input_reaches_the_kernel():
    kernel, x = tf.constant(RNG.normal(size=(4, 3)), tf.float32), tf.constant(RNG.normal(size=(2, 4)), tf.float32)
    u, v = spectral.power_iteration(kernel, tf.ones([1, 3]))
    found = []
    for function in (spectral.normalised, plain):
        with tf.GradientTape() as outer:
            outer.watch(kernel)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(tf.tanh(x @ function(kernel, u, v)))
            penalty = tf.reduce_sum(inner.gradient(y, x) ** 2)
        found.append(outer.gradient(penalty, kernel))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)
