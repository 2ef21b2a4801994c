"""Differentiable augmentation against loops, and through a GAN's step."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config

from holotf import diff_augment, models
from holotf.errors import UserError

X = np.random.default_rng(0).uniform(-1, 1, (5, 16, 16, 3)).astype(np.float32)


def test_color_by_hand():
    drawn = np.random.default_rng(1).uniform(size=(5, 3)).astype(np.float32)
    for image, (b, s, c), found in zip(X, drawn, diff_augment.color(tf.constant(X), drawn).numpy(), strict=True):
        y = image + b - 0.5
        y = y.mean(-1, keepdims=True) + 2 * s * (y - y.mean(-1, keepdims=True))
        np.testing.assert_allclose(found, y.mean() + (c + 0.5) * (y - y.mean()), atol=1e-5)
    same = diff_augment.color(tf.constant(X), tf.constant([[0.5, 0.5, 0.5]] * 5))
    np.testing.assert_allclose(same, X, atol=1e-5)


def test_translation_by_hand():
    drawn = np.int32([[0, 0], [2, 0], [-1, 0], [0, 2], [1, -2]])
    expected = np.zeros_like(X)
    for i, (down, right) in enumerate(drawn):
        for y in range(16):
            for x in range(16):
                if 0 <= y - down < 16 and 0 <= x - right < 16:
                    expected[i, y, x] = X[i, y - down, x - right]
    np.testing.assert_array_equal(diff_augment.translation(tf.constant(X), tf.constant(drawn)), expected)


def test_cutout_by_hand():
    drawn = np.int32([[8, 8], [0, 0], [16, 16], [3, 12], [16, 0]])
    expected = X.copy()
    for i, (y, x) in enumerate(drawn):
        expected[i, max(0, y - 4) : y + 4, max(0, x - 4) : x + 4] = 0
    np.testing.assert_array_equal(diff_augment.cutout(tf.constant(X), tf.constant(drawn)), expected)


def test_what_is_drawn_is_in_its_range_and_follows_from_the_seed():
    drawn = diff_augment.draw(("color", "translation", "cutout"), 500, 32, tf.constant([0, 1]))
    assert np.unique(drawn["translation"]).tolist() == list(range(-4, 5))
    assert np.unique(drawn["cutout"]).tolist() == list(range(33))
    assert (drawn["color"].numpy().min(), drawn["color"].numpy().max()) == pytest.approx((0, 1), abs=0.01)
    again = diff_augment.draw(("translation",), 500, 32, tf.constant([0, 1]))
    assert again.keys() == {"translation"}
    np.testing.assert_array_equal(again["translation"], drawn["translation"])


def test_the_discriminator_sees_augmented_images_and_the_generator_learns_through_them(monkeypatch):
    seen = []
    model = models.build(small_config(**{"model.name": "dcgan", "train.diff_augment": ("translation", "cutout")}))
    monkeypatch.setattr(diff_augment, "apply", lambda images, drawn: seen.append(drawn) or 0.0 * images)
    logs = tf.function(model.train_step)({"image": tf.ones([4, 32, 32, 3], tf.uint8)})
    assert len(seen) == 3  # real, made, and made in the generator's turn
    assert len({drawn["cutout"].ref() for drawn in seen}) == 3
    assert float(logs["grad_norm/g"]) == 0.0, "what D is shown no longer depends on the generator"
    model = models.build(small_config(**{"model.name": "dcgan", "train.diff_augment": ("translation", "cutout")}))
    monkeypatch.undo()
    assert float(tf.function(model.train_step)({"image": tf.ones([4, 32, 32, 3], tf.uint8)})["grad_norm/g"]) > 0.0


@pytest.mark.parametrize("policy", ["color", ("colour",), (1,)])
def test_bad_policies_are_named(policy):
    with pytest.raises(UserError, match=r"train.diff_augment=.*: use \(\) or some of \('color', 'translation', 'cutout'\)"):
        diff_augment.check(policy)
