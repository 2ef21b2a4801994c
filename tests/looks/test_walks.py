"""Walks between latents: where they lead, and how even they are."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config

from holotf import models
from holotf.evaluators.subject import Subject
from holotf.looks import made, walks


def test_a_spherical_walk_keeps_to_the_sphere_in_equal_angles():
    a, b = (tf.constant(np.random.default_rng(i).normal(size=7), tf.float64) for i in (0, 1))
    a, b = 3.0 * a / np.linalg.norm(a), 3.0 * b / np.linalg.norm(b)
    walk = walks.spherical(a, b, np.linspace(0, 1, 9)).numpy()
    np.testing.assert_allclose(walk[[0, -1]], [a, b], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(walk, axis=1), 3.0)
    angles = np.arccos(np.sum(walk[:-1] * walk[1:], axis=1) / 9.0)
    np.testing.assert_allclose(angles, np.arccos(np.sum(a * b) / 9.0) / 8)
    assert np.linalg.norm(walks.linear(a, b, np.array([0.5])).numpy()) < 2.9, "the straight way goes inside"


def test_where_there_is_no_arc_the_walk_is_straight():
    a, nothing = tf.constant([1.0, -2.0]), tf.zeros(2)
    for b, quarter in ((a, a), (-a, 0.5 * a), (nothing, 0.75 * a)):
        np.testing.assert_allclose(walks.spherical(a, b, np.array([0.0, 0.25])), [a, quarter], rtol=1e-6)


def test_the_largest_step_tells_a_jump_from_an_even_walk():
    even = np.arange(5, dtype=np.uint8)[:, np.newaxis, np.newaxis, np.newaxis] * np.full((1, 2, 2, 3), 10, np.uint8)
    assert walks.largest_step(even) == pytest.approx(1.0)
    jump = np.zeros((5, 2, 2, 3), np.uint8)
    jump[3:] = 200
    assert walks.largest_step(jump) == pytest.approx(4.0)
    assert walks.largest_step(np.zeros_like(jump)) == 1.0


@pytest.mark.parametrize(("name", "rows"), [("dcgan", 4), ("hologan", 5)])
def test_a_sheet_has_the_ways_of_each_pair(squares, name, rows):
    """And an object that turns is last seen from the last side, as the latent at the end of its walk."""
    config, shown = small_config(squares, **{"model.name": name}), {}
    model = models.initial(config)
    figures = dict(walks.Look(Subject(model, config, shown.update)).run())
    assert set(figures) == {"walks/linear_largest_step", "walks/spherical_largest_step"}
    assert all(1.0 <= value < 11.0 for value in figures.values())
    sheet = shown["walks"].reshape(walks.WALKS * rows, 128 + 15, 12, 128, 3).swapaxes(1, 2)[:, :, :128:4, ::4]  # rows, columns
    latents = model.latents(range(2))
    first, last = (model.sample(z[tf.newaxis], *model.resting(1)).numpy()[0] for z in latents)
    np.testing.assert_array_equal(sheet[0, 0], first)
    np.testing.assert_array_equal(sheet[0, -1], last)
    np.testing.assert_allclose(sheet[2, -1].astype(int), last, atol=1)
    assert np.any(sheet[1, -1] != last), "small steps end on the way"
    if name == "hologan":
        turned = model.sweep(latents[1:2], "azimuth_deg", 12)[0, -1]
        np.testing.assert_allclose(sheet[4, -1].astype(int), turned, atol=1)
        sides = made.from_all_sides(model, latents, "sides")
        np.testing.assert_array_equal(sides.swapaxes(0, 1), model.sweep(latents, "azimuth_deg", made.SIDES))
