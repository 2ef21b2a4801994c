import numpy as np
import pytest
import tensorflow as tf

from holotf.layers.enlarge import METHODS, bicubic, enlarge

X = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype(np.float32)


def test_nearest_repeats():
    np.testing.assert_array_equal(enlarge(tf.constant(X), "nearest"), X.repeat(2, axis=1).repeat(2, axis=2))


def test_bicubic_is_tensorflows_away_from_the_edges():
    expected = tf.image.resize(X, [16, 12], "bicubic")
    np.testing.assert_allclose(enlarge(tf.constant(X), "bicubic")[:, 3:-3, 3:-3], expected[:, 3:-3, 3:-3], atol=1e-5)


def test_bicubic_keeps_what_is_even_and_lines_straight():
    matrix = bicubic(8)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose((matrix @ np.arange(8))[3:-3], np.arange(16)[3:-3] / 2 - 0.25, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_types_stay(method):
    assert enlarge(tf.cast(X, tf.bfloat16), method).dtype == tf.bfloat16
