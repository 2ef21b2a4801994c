"""The view: azimuths whose distribution is learnt, and arcs of the circle."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config

from holotf import models, views
from holotf.errors import UserError
from holotf.evaluators import azimuths
from holotf.evaluators.angles import arc

RANGES = small_config(**{"views.azimuth_deg": (-90.0, 270.0)}).views


def drawn(weights, n=4096):
    return views.learnt(RANGES, tf.constant(weights, tf.float32), views.draw(RANGES, n, [0, 1]))


def test_azimuths_start_uniform_and_the_other_columns_never_change():
    plain = views.draw(RANGES, 4096, [0, 1])
    np.testing.assert_allclose(drawn([0.0] * 6), plain, atol=1e-3)
    np.testing.assert_array_equal(drawn([0.1, 0, 0, -0.1, 0, 0])[:, 1:], plain[:, 1:])


def test_each_part_of_the_range_gets_its_share():
    weights = np.float32([0.02, 0.0, -0.05, 0.01])
    azimuth = drawn(weights)[:, 0].numpy()
    found, _ = np.histogram(azimuth, bins=4, range=(-90, 270))
    np.testing.assert_allclose(found / len(azimuth), views.shares(weights), atol=0.02)
    assert found.sum() == len(azimuth), "none falls out of the range"


def test_the_gradient_is_that_of_finite_differences():
    weights, step = np.float32([0.01, -0.02, 0.0, 0.015]), 1e-4

    def mean_cosine(w):
        return tf.reduce_mean(tf.cos(drawn(w)[:, 0] * np.pi / 180))

    variable = tf.constant(weights)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = tf.reduce_mean(tf.cos(views.learnt(RANGES, variable, views.draw(RANGES, 4096, [0, 1]))[:, 0] * np.pi / 180))
    gradient = tape.gradient(value, variable).numpy()
    for k in range(4):
        nudge = step * np.eye(4, dtype=np.float32)[k]
        difference = float(mean_cosine(weights + nudge) - mean_cosine(weights - nudge)) / (2 * step)
        assert gradient[k] == pytest.approx(difference, rel=0.05, abs=0.05)
    assert np.abs(gradient).max() > 1


def test_the_generators_update_moves_the_shares_and_the_average_follows():
    model = models.build(small_config(**{"views.azimuth_parts": 8}))
    batch = {"image": tf.cast(tf.random.stateless_uniform([8, 32, 32, 3], [0, 0], 0, 256, tf.int32), tf.uint8)}
    model.train_step(batch)
    moved, average = model.generator.azimuth_weights.numpy(), model.ema_generator.azimuth_weights.numpy()
    assert np.ptp(moved) > 0
    assert np.ptp(average) > 0
    model.ema_generator.azimuth_weights.assign([1.0] + [-1.0] * 7)  # the first eighth alone
    assert model.draw(64, [0, 0])[1][:, 0].numpy().max() <= 45.0


@pytest.mark.parametrize("last", [-0.5, -2.5])
def test_a_share_of_next_to_nothing_gives_no_azimuth_out_of_the_range(last):
    """The largest uniform numbers there are meet parts that rounding leaves nothing of."""
    largest = np.tile(views.draw(RANGES, 1, [0, 1]).numpy(), [64, 1])
    largest[:, 0] = np.nextafter(np.float32(270), np.float32(0), dtype=np.float32)
    for k in range(200):
        weights = np.random.default_rng(k).normal(size=8).astype(np.float32) * 0.05
        weights[-1] = weights.max() + last
        azimuth = views.learnt(RANGES, tf.constant(weights), tf.constant(largest))[:, 0].numpy()
        assert np.all((azimuth >= -90) & (azimuth <= 270)), weights


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views.azimuth_parts": 1}, r"views.azimuth_parts=1: use 0 for azimuths uniform in their range, or 2 or more"),
        ({"views.azimuth_parts": 8, "views.azimuth_deg": (3.0,)}, r"views.azimuth_deg=\(3\): use \(low, high\)"),
        ({"views.azimuth_parts": 8, "views.azimuth_deg": (5.0, 5.0)}, r"views.azimuth_parts=8 with a constant views.azimuth_deg"),
    ],
)
def test_parts_that_cannot_be(changes, message):
    with pytest.raises(UserError, match=message):
        models.build(small_config(**changes))


@pytest.mark.parametrize(
    ("angles", "share", "expected"),
    [
        (np.arange(360), 0.9, 323),
        (np.arange(360) / 3 - 60, 1.0, 119.67),
        ([350, 10, -5, 365], 1.0, 20),
        ([0, 0, 0, 180], 0.75, 0),
        ([17], 0.9, 0),
    ],
)
def test_the_shortest_arc(angles, share, expected):
    assert arc(angles, share) == pytest.approx(expected, abs=0.01)


def test_the_judge_says_which_arc_was_learnt():
    """A model that looks at a quarter of the circle alone, and one that does not learn it."""
    model = models.build(small_config(**{"views.azimuth_parts": 8}))
    model.ema_generator.azimuth_weights.assign([1.0, 1.0] + [-1.0] * 6)
    subject = SimpleNamespace(model=model, config=model.config, poses_known=False)
    assert dict(azimuths.Judge(subject).run())["azimuths/arc_deg"] == pytest.approx(81, abs=2)
    subject.config = small_config()
    assert not list(azimuths.Judge(subject).run())
