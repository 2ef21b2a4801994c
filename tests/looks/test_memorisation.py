"""A generator that returns training images is caught, wholly or in part; one that does as held-out images do is not."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import small_config
from PIL import Image, ImageFilter

from holotf.evaluators import regressor
from holotf.evaluators.subject import Subject
from holotf.looks import memorisation
from holotf.models.base import Generative


class Album(Generative):
    """Makes the images it was given, one after the other."""

    def __init__(self, config, album):
        super().__init__(config)
        self.album = tf.constant(album)

    def draw(self, n, seed):
        return (tf.cast(tf.range(n) % len(self.album), tf.float32)[:, tf.newaxis],)

    def images(self, z):
        return tf.gather(self.album, tf.cast(z[:, 0], tf.int32))


@pytest.fixture(scope="module")
def real(furniture):
    """(train [480], test [160])"""
    builder = tfds.builder_from_directory(furniture)
    return tuple(regressor.labelled(builder, split)[0] for split in ("train", "test"))


@pytest.fixture
def looked(furniture, extractor, tmp_path):
    """look(album, **changes) -> (figures, subject, pictures), beside as many of the first test images."""

    def look(album, **changes):
        changes = {"evaluate.extractor": extractor, "evaluate.cache": str(tmp_path), "analyse.images": len(album)} | changes
        config, shown = small_config(furniture, **changes, **{"device.threads": 1}), {}
        subject = Subject(Album(config, album), config, shown.update)
        return dict(memorisation.Look(subject).run()), subject, shown

    return look


def caught(subject):
    (note,) = subject.notes
    assert subject.alarms == ([note] if "COPIES of training images" in note else [])
    assert subject.alarms or "no sign of copies" in note
    return bool(subject.alarms)


def test_copies_are_caught(looked, real):
    train, _ = real
    figures, subject, shown = looked(train[:80])
    assert caught(subject)
    assert figures["memorisation/pixels_distance"] < 0.01 < 5 < figures["memorisation/pixels_held_out_distance"]
    assert figures["memorisation/features_ct"] < -5
    assert figures["memorisation/features_closest"] == figures["memorisation/pixels_closest"] == 1.0
    tiles = shown["memorisation"][:128:4, :896:4].reshape(32, 7, 32, 3).swapaxes(0, 1)
    np.testing.assert_array_equal(tiles[0], tiles[1])
    np.testing.assert_array_equal(tiles[0], tiles[4])
    assert shown["memorisation_distances"].dtype == np.uint8


def test_a_few_copies_and_noisy_ones_are_caught(looked, real):
    train, test = real
    noisy = np.clip(train[:12] + np.random.default_rng(0).normal(0, 4, train[:12].shape), 0, 255).astype(np.uint8)
    figures, subject, _ = looked(np.concatenate([test[92:], noisy]))
    assert caught(subject)
    assert figures["memorisation/pixels_closest"] >= 12 / 80


def test_mirrored_copies_count_where_training_images_are_mirrored(looked, real):
    mirrored = real[0][:80, :, ::-1]
    figures, subject, _ = looked(mirrored, **{"data.flip": True})
    assert caught(subject)
    assert figures["memorisation/pixels_closest"] == 1.0
    assert looked(mirrored)[0]["memorisation/pixels_closest"] < 0.5, "a chair from the front is its own mirror image"


def test_held_out_images_are_no_copies_and_blur_does_not_make_them_so(looked, real):
    """The blurred ones are nearer to everything. (What the features of this extractor make of blur means nothing.)"""
    others = real[1][80:]
    figures, subject, _ = looked(others)
    assert not caught(subject)
    assert -3 < figures["memorisation/pixels_ct"] < 3
    blurred = np.stack([np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(2))) for image in others])
    figures, *_ = looked(blurred)
    assert figures["memorisation/pixels_distance"] < 0.95 * figures["memorisation/pixels_held_out_distance"]
    assert figures["memorisation/pixels_ct"] > 2
    assert figures["memorisation/pixels_closest_p"] > 0.1


def test_the_tail_is_counted_among_all_orders():
    """Of two samples and two held-out images drawn alike, the nearest is a sample in 3 of 6 orders, the two nearest are in one."""
    held_out = np.array([1.0, 2.0])
    assert memorisation.tail(np.array([0.0, 5.0]), held_out) == (0.5, pytest.approx(3 / 6))
    assert memorisation.tail(np.array([0.0, 0.5]), held_out) == (1.0, pytest.approx(1 / 6))
    assert memorisation.tail(np.array([1.0, 5.0]), held_out) == (0.0, pytest.approx(1.0)), "as near is not nearer"


def test_c_t_is_the_mean_of_the_cells_by_their_share():
    """By a naive count of pairs."""
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 9, 130).astype(float), rng.integers(0, 9, 90).astype(float)
    our_cells, their_cells = np.repeat([0, 1, 2], [60, 60, 10]), np.repeat([0, 1, 2], [20, 40, 30])
    total = 0.0
    for cell, share in ((0, 20), (1, 40)):  # the third has too few samples
        x, y = ours[our_cells == cell], theirs[their_cells == cell]
        u = sum((a > b) + 0.5 * (a == b) for a in x for b in y)
        total += share * (u - len(x) * len(y) / 2) / np.sqrt(len(x) * len(y) * (len(x) + len(y) + 1) / 12)
    assert memorisation.data_copying((ours, our_cells), (theirs, their_cells)) == pytest.approx(total / 60)
