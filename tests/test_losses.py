import math

import numpy as np
import pytest
import tensorflow as tf

from holotf import losses

REAL, FAKE = tf.constant([2.0, -3.0]), tf.constant([0.5, -3.0])


def softplus(x):
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        ("bce", (softplus(-2) + softplus(3) + softplus(0.5) + softplus(-3)) / 2, (softplus(-0.5) + softplus(3)) / 2),
        ("hinge", (0 + 4 + 1.5 + 0) / 2, 2.5 / 2),
        ("lsgan", (1 + 16 + 0.25 + 9) / 4, (0.25 + 16) / 4),
        ("wgan", -2.5 / 2 + 0.5, 2.5 / 2),
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


def test_r1_of_a_linear_critic_is_half_its_squared_slope():
    slope = tf.constant(np.full((1, 4, 4, 3), 3.0 / math.sqrt(48)), tf.float32)  # |gradient| = 3 everywhere
    penalty = losses.r1(lambda x: tf.reduce_sum(x * slope, [1, 2, 3]), tf.random.stateless_uniform([5, 4, 4, 3], [0, 0], -1, 1))
    assert float(penalty) == pytest.approx(4.5, rel=1e-5)


def test_r1_of_a_quadratic_critic_is_taken_at_the_real_images():
    """critic = |x|^2 / 2 has the gradient x, so the penalty is the mean of |x|^2 / 2: images of 12 values 1 and 2."""
    real = tf.constant([1.0, 2.0])[:, None, None, None] * tf.ones([2, 2, 2, 3])
    assert float(losses.r1(lambda x: tf.reduce_sum(tf.square(x), [1, 2, 3]) / 2, real)) == pytest.approx((6 + 24) / 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bce", (0.9 * (softplus(-2) + softplus(3)) + 0.1 * (softplus(2) + softplus(-3)) + softplus(0.5) + softplus(-3)) / 2),
        ("lsgan", (1.1**2 + 3.9**2 + 0.25 + 9) / 4),
    ],
)
def test_a_soft_label_is_one_sided(name, expected):
    assert float(getattr(losses, f"{name}_discriminator")(REAL, FAKE, label_real=0.9)) == pytest.approx(expected, rel=1e-6)


def test_gaussian_nll_sums_over_an_example_and_averages_over_the_batch():
    x, mean = tf.constant([[[1.0], [2.0], [0.0]], [[1.0], [0.0], [0.0]]]), tf.constant([[[0.0]] * 3, [[4.0], [0.0], [0.0]]])
    constant = 3 * (0.5 * math.log(2 * math.pi) + math.log(2.0))
    assert float(losses.gaussian_nll(x, mean, 2.0)) == pytest.approx(((1 + 4) / 8 + 9 / 8) / 2 + constant, rel=1e-6)


def test_kl_equals_its_closed_form_and_a_sample_mean():
    mean, deviation = np.array([[0.5, -1.0, 0.0], [0.0] * 3]), np.array([[0.5, 3.0, 1.0], [1.0] * 3])  # [B,Z]
    hand = (0.25 + 0.25 - 2 * math.log(0.5) - 1 + 1 + 9 - 2 * math.log(3.0) - 1) / 2  # the second example is N(0, I): 0
    given = [tf.constant(t, tf.float32) for t in (mean, 2 * np.log(deviation))]
    assert float(losses.kl_to_standard_normal(*given)) == pytest.approx(hand / 2, rel=1e-6)
    noise = np.random.default_rng(0).normal(size=(200_000, 1, 3))
    z = mean + deviation * noise
    log_ratio = (-(noise**2) / 2 - np.log(deviation) + z**2 / 2).sum(-1)  # log q(z) - log p(z), [N,2]
    assert float(losses.kl_to_standard_normal(*given)) == pytest.approx(log_ratio.mean(), abs=0.03)


def test_gradient_penalty_is_taken_between_real_and_fake():
    seen = []
    losses.gradient_penalty(
        lambda x: seen.append(x.numpy()) or tf.reduce_sum(x, [1, 2, 3]),
        tf.fill([1, 1, 1, 3], 2.0),
        tf.fill([1, 1, 1, 3], -4.0),
        tf.fill([1, 1, 1, 1], 0.75),
    )
    np.testing.assert_allclose(seen[0], 0.5)


def test_a_critic_without_slope_has_a_gradient_penalty_that_is_a_number():
    slope, images = tf.Variable(0.0), tf.ones([1, 2, 2, 3])
    with tf.GradientTape() as tape:
        penalty = losses.gradient_penalty(lambda x: slope * tf.reduce_sum(x, [1, 2, 3]), images, images, tf.ones([1, 1, 1, 1]))
    assert float(penalty) == pytest.approx(1.0, abs=1e-5)
    assert math.isfinite(tape.gradient(penalty, slope))


def test_identity_is_the_mean_squared_error():
    assert float(losses.identity(tf.constant([[1.0, 0.0]]), tf.constant([[0.5, 0.5]]))) == pytest.approx(0.25)


def test_elevation_is_the_squared_distance_in_the_range():
    read = tf.constant([-1.0, 0.5, 0.0])
    assert float(losses.elevation(tf.constant([10.0, 20.0, 30.0]), read, 10.0, 30.0)) == pytest.approx((0 + 0.25 + 1) / 3, abs=1e-6)


def test_azimuth_is_the_squared_distance_on_the_circle():
    """Read right, twice, read as nothing, read as the opposite side; and 720 degrees is 0."""
    read = tf.constant([[0.0, 1.0], [-1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    assert float(losses.azimuth(tf.constant([90.0, 180.0, 200.0, 720.0]), read)) == pytest.approx((0 + 0 + 1 + 4) / 4, abs=1e-5)


def test_labels_are_read_each_for_itself_and_summed():
    read = tf.constant([[2.0, -3.0, 0.5], [0.0, 1.0, -1.0]])
    expected = (softplus(-2) + softplus(-3) + softplus(-0.5) + softplus(0) + softplus(1) + softplus(1)) / 2
    assert float(losses.labels(tf.constant([[1.0, 0, 1], [0, 0, 1]]), read)) == pytest.approx(expected, rel=1e-6)


def test_opacity_is_the_light_that_is_lost_on_straight_ways_from_in_front_and_from_the_side():
    absorption = np.zeros((2, 3, 4, 5), np.float32)  # [B,D,H,W]
    absorption[1, 0, 1, 2] = absorption[1, 2, 1, 2] = np.log(2.0)  # two voxels behind each other: a quarter passes
    front, side = 0.75 / (4 * 5), 2 * 0.5 / (3 * 4)  # of H W ways, and of D H
    np.testing.assert_allclose(losses.opacity(tf.constant(absorption)), [0.0, (front + side) / 2], rtol=1e-6)


def test_pairwise_content_by_a_loop_over_pairs():
    """Within the mask, half the mean squared difference of differences, over all pairs of values."""
    rng = np.random.default_rng(0)
    image, adapted = rng.normal(size=(2, 3, 4, 4, 2)).astype(np.float32)
    mask = (rng.random((3, 4, 4, 1)) < 0.5).astype(np.float32)
    mask[2] = 0
    each = []
    for a, b, m in zip(image, adapted, mask, strict=True):
        d = (a - b)[m[..., 0] > 0].ravel()
        each.append(sum((p - q) ** 2 for p in d for q in d) / (2 * len(d) ** 2) if len(d) else 0.0)
    assert float(losses.pairwise_content(image, adapted, mask)) == pytest.approx(np.mean(each), rel=1e-5)
    assert float(losses.pairwise_content(image, image + 0.3, mask)) == pytest.approx(0.0, abs=1e-6)
    alone = np.eye(16, dtype=np.float32)[:3].reshape(3, 4, 4, 1)
    assert float(losses.pairwise_content(image[..., :1], adapted[..., :1], alone)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("gan", "label_real", "expected"),
    [("bce", 1.0, (0.75, 0.5)), ("hinge", 1.0, (0.75, 0.5)), ("lsgan", 1.0, (0.5, 0.75)), ("lsgan", 0.5, (0.75, 0.5))],
)
def test_accuracies_have_their_boundary_half_way(gan, label_real, expected):
    real, fake = tf.constant([2.0, 0.4, 0.6, -1.0]), tf.constant([-2.0, -0.1, 0.4, 0.7])
    found = losses.accuracies(gan, real, fake, label_real)
    assert (float(found["accuracy/real"]), float(found["accuracy/fake"])) == expected


def test_a_critic_has_no_accuracy():
    assert losses.accuracies("wgan", REAL, FAKE) == {}
