"""Attributes that are directions move alone, two that are one direction together, as a reader says that is known to be right."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config

from holotf.errors import UserError
from holotf.evaluators import attributes
from holotf.evaluators.subject import Subject
from holotf.looks import arithmetic
from holotf.models.base import Generative


class Painter(Generative):
    """The first coordinate decides the colour (two of them), the second how bright it is; entangled: the first that, too."""

    entangled = False

    def draw(self, n, seed):
        return (tf.random.stateless_uniform([n, 8], seed, -1.0, 1.0),)

    def images(self, z):
        red = tf.cast(z[:, 0] > 0, tf.int32)
        bright = red if self.entangled else tf.cast(z[:, 1] > 0, tf.int32)
        pixels = (100 + 100 * bright)[:, tf.newaxis] * tf.one_hot(1 - red, 3, dtype=tf.int32)  # [N,3]
        return tf.cast(tf.tile(pixels[:, tf.newaxis, tf.newaxis], [1, 32, 32, 1]), tf.uint8)


def reads(images):
    """Both attributes of the painter's pictures, from their first pixel."""
    pixel = images[:, 0, 0].astype(int)
    return {"colour": np.eye(2)[(pixel[:, 0] > 0).astype(int)], "bright": np.eye(2)[(pixel.max(axis=1) > 150).astype(int)]}


@pytest.fixture
def looked(squares, monkeypatch):
    def look(entangled):
        known = {"colour": ("green", "red"), "bright": ("dark", "light")}
        reader = attributes.Reader(known, reads, dict.fromkeys(known, 1.0), dict.fromkeys(known, 0.5), 100)
        monkeypatch.setattr(attributes, "reader", lambda subject: reader)
        config, shown = small_config(squares, **{"analyse.images": 600}), {}
        model = Painter(config)
        model.entangled = entangled
        subject = Subject(model, config, shown.update)
        return dict(arithmetic.Look(subject).run()), subject.notes, shown

    return look


def test_directions_move_what_they_are_of_alone(looked):
    figures, notes, shown = looked(entangled=False)
    for name in ("colour", "bright"):
        assert figures[f"arithmetic/{name}_moved"] > 0.9
        assert figures[f"arithmetic/{name}_kept"] > 0.9
        assert figures[f"arithmetic/{name}_noise_moved"] < 0.35
        assert any(f"arithmetic: {name}, 200 cases" in note and "right on 100% of 100 images" in note for note in notes)
    assert shown["arithmetic"].shape == (2 * (128 + 30), 12 * 128, 3)


def test_what_is_one_direction_moves_together(looked):
    figures, *_ = looked(entangled=True)
    assert figures["arithmetic/colour_moved"] > 0.9
    assert figures["arithmetic/colour_both"] == 0.0


def test_means_are_of_one_half_and_cases_of_the_other():
    latents = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    values = np.repeat([[0, 1, 2, 1]], 30, axis=0).reshape(-1)
    values[8:60][values[8:60] == 2] = 0  # two members of 2 are too few
    cases = arithmetic.Cases(latents, values, 0)
    assert set(cases.means) == {0, 1}
    np.testing.assert_allclose(cases.means[1], latents[:60][values[:60] == 1].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(cases.objects, 60 + np.flatnonzero(values[60:] != 2))
    np.testing.assert_array_equal(cases.targets, 1 - cases.sources)
    toward = cases.means[1] - cases.means[0]
    np.testing.assert_allclose(cases.differences, np.where(cases.targets[:, np.newaxis], toward, -toward), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(cases.noise, axis=1), np.linalg.norm(toward), rtol=1e-5)
    assert len(arithmetic.Cases(latents, np.zeros(120, int), 0).objects) == 0, "one value cannot change"


def test_what_a_model_is_told_stays():
    latents = np.random.default_rng(0).normal(size=(120, 5)).astype(np.float32)
    values = np.repeat([0, 1], 60)[np.random.default_rng(1).permutation(120)]
    cases = arithmetic.Cases(latents, values, 0, told=2)
    for moves in (cases.differences, cases.noise):
        np.testing.assert_array_equal(moves[:, 3:], 0.0)
        assert np.all(moves[:, :3] != 0.0)
    np.testing.assert_allclose(*(np.linalg.norm(moves, axis=1) for moves in (cases.noise, cases.differences)), rtol=1e-5)


def test_shares_are_counted_case_by_case():
    before = {"a": np.array([0, 0, 0, 0]), "b": np.array([1, 1, 1, 1])}
    after = {"a": np.array([1, 1, 1, 0]), "b": np.array([1, 1, 0, 1])}
    assert arithmetic.shares(before, after, "a", np.array([1, 2, 1, 1])) == {"moved": 0.5, "kept": 0.75, "both": 0.25}


def test_an_attribute_that_is_none_is_named(squares):
    config = small_config(squares, **{"analyse.attributes": ("legs",)})
    with pytest.raises(UserError, match=r"analyse.attributes=\('legs',\): legs is no ClassLabel of .*squares.*: use label"):
        arithmetic.Look(Subject(Painter(config), config)).unfit()
