import math

import numpy as np
import pytest
import tensorflow as tf

from holotf import losses

REAL, FAKE = tf.constant([2.0, -1.0]), tf.constant([0.5, -3.0])


def softplus(x):
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        ("bce", (softplus(-2) + softplus(1) + softplus(0.5) + softplus(-3)) / 2, (softplus(-0.5) + softplus(3)) / 2),
        ("hinge", (0 + 2 + 1.5 + 0) / 2, 2.5 / 2),
        ("lsgan", (1 + 4 + 0.25 + 9) / 4, (0.25 + 16) / 4),
        ("wgan", -2.5 / 2 - 0.5, 2.5 / 2),
    ],
)
def test_pairs_equal_hand_arithmetic(name, discriminator, generator):
    assert float(getattr(losses, f"{name}_discriminator")(REAL, FAKE)) == pytest.approx(discriminator, rel=1e-6)
    assert float(getattr(losses, f"{name}_generator")(FAKE)) == pytest.approx(generator, rel=1e-6)


def test_gradient_penalty_of_a_linear_critic_is_its_slopes_distance_from_one():
    slope = tf.constant(np.full((1, 4, 4, 3), 3.0 / math.sqrt(48)), tf.float32)  # |gradient| = 3 everywhere
    penalty = losses.gradient_penalty(
        lambda x: tf.reduce_sum(x * slope, [1, 2, 3]), tf.ones([2, 4, 4, 3]), tf.zeros([2, 4, 4, 3]), tf.fill([2, 1, 1, 1], 0.3)
    )
    assert float(penalty) == pytest.approx(4.0, rel=1e-5)


def test_gradient_penalty_is_taken_between_real_and_fake():
    seen = []
    losses.gradient_penalty(
        lambda x: seen.append(x.numpy()) or tf.reduce_sum(x, [1, 2, 3]),
        tf.ones([1, 1, 1, 3]),
        -tf.ones([1, 1, 1, 3]),
        tf.fill([1, 1, 1, 1], 0.75),
    )
    np.testing.assert_allclose(seen[0], 0.5)


def test_identity_is_the_mean_squared_error():
    assert float(losses.identity(tf.constant([[1.0, 0.0]]), tf.constant([[0.5, 0.5]]))) == pytest.approx(0.25)
