"""Guided backpropagation against a loop by hand."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config

from holotf import analyse, models
from holotf.evaluators.subject import Subject
from holotf.looks import guided

RNG = np.random.default_rng(0)


def test_gradients_pass_where_both_are_positive():
    """Two stages of 1x1 convolutions and leaky ReLU: the rule of Springenberg et al., pixel by pixel."""
    first, second = RNG.normal(size=(3, 5)).astype(np.float32), RNG.normal(size=(5, 2)).astype(np.float32)
    stages = [lambda x, w=w: tf.nn.leaky_relu(x @ w, 0.2) for w in (first, second)]
    images = RNG.integers(0, 256, (2, 3, 3, 3)).astype(np.uint8)
    found = guided.guided(stages)(images, 1)
    expected = np.zeros_like(found)
    for n, image in enumerate(images / 127.5 - 1.0):
        places = [(y, x) for y in range(3) for x in range(3)]
        hidden = {place: np.maximum(image[place] @ first, 0.2 * (image[place] @ first)) for place in places}
        best = max(places, key=lambda place: hidden[place] @ second[:, 1])
        if hidden[best] @ second[:, 1] > 0:
            back = second[:, 1] * (second[:, 1] > 0) * (hidden[best] > 0)
            expected[n, *best] = first @ back
    assert np.any(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_strongest_channels_come_with_what_excites_them():
    answers = RNG.uniform(size=(10, 8))
    answers[7, 3], answers[2, 5], answers[4, 5] = 9.0, 5.0, 4.0
    channels, excite = guided.strongest(answers)
    assert channels[:2].tolist() == [3, 5]
    assert excite[0, 0] == 7
    assert excite[1, :2].tolist() == [2, 4]


def test_half_of_the_gradient_is_counted_in_pixels():
    gradients = np.zeros((2, 4, 4, 3))
    gradients[0, 0, 0, 0] = 5.0
    gradients[1] = -1.0
    assert guided.half(gradients) == pytest.approx((1 / 16 + 8 / 16) / 2)


@pytest.mark.parametrize("name", ["dcgan", "vae", "hologan", "classifier"])
def test_a_sheet_stands_beside_the_untrained_one(squares, name):
    config, shown = small_config(squares, **{"model.name": name, "analyse.images": 20}), {}
    figures = dict(guided.Look(Subject(models.initial(config), config, shown.update)).run())
    assert figures["guided/half"] == figures["guided/untrained_half"] > 0, "this one was not trained either"
    halves = np.split(shown["guided"][:128], 2, axis=1)
    np.testing.assert_array_equal(*halves)


def test_what_has_no_last_relu_is_not_guided(squares):
    config = small_config(squares, **{"model.name": "projection_gan", "analyse.looks": ("guided",)})
    notes = analyse.analyse(models.initial(config), config)[1]
    assert notes == ["no guided: the levels of projection_gan do not end with a ReLU each"]
