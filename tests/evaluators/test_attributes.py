"""Readers of attributes: what is to be seen is read, and how well is measured on images that were kept from them."""

import numpy as np
import pytest
from conftest import small_config

from holotf import models
from holotf.evaluators import attributes
from holotf.evaluators.subject import Subject

# Keras saves its variables through NumPy in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning:keras.*")


@pytest.fixture
def subject(colours, extractor, tmp_path):
    """Of 96 noisy images in three classes, and 24 that are not to be learnt from."""
    changes = {"evaluate.extractor": extractor, "evaluate.cache": str(tmp_path), "model.name": "dcgan"}

    def of(**more):
        config = small_config(colours, **changes | more)
        return Subject(models.build(config), config)

    return of


@pytest.mark.parametrize("kind", attributes.READERS)
def test_colours_are_read(subject, kind):
    judged = subject(**{"analyse.reader": kind})
    read = attributes.reader(judged)
    assert read.classes == {"label": ("blue", "green", "red")}
    assert read.judged_on == 24
    assert read.held_out["label"] > 0.9
    assert read.common["label"] == pytest.approx(1 / 3)
    image = np.random.default_rng(5).integers(0, 200, (2, 1, 32, 32, 3)).astype(np.uint8)
    image[..., 1] += 55
    np.testing.assert_array_equal(read(image)["label"], [1])


def test_a_classifier_is_trained_once(subject, monkeypatch):
    before = attributes.reader(subject()).held_out
    monkeypatch.setattr(attributes, "train", None)
    assert attributes.reader(subject()).held_out == before


def test_without_unseen_images_a_fifth_is_kept(subject, monkeypatch):
    monkeypatch.setattr(attributes, "EPOCHS", 1)
    assert attributes.reader(subject(**{"evaluate.split": "none"})).judged_on == 19


def test_several_sides_are_one_reading():
    """The surest side decides."""
    shares = {0: [0.9, 0.1], 1: [0.4, 0.6], 2: [0.4, 0.6]}
    reader = attributes.Reader({"x": ("a", "b")}, lambda images: {"x": np.array([shares[images[0, 0, 0, 0]]])}, {}, {}, 0)
    sides = np.arange(3, dtype=np.uint8)[:, np.newaxis, np.newaxis, np.newaxis, np.newaxis] * np.ones((1, 1, 1, 1, 3), np.uint8)
    assert reader(sides)["x"] == [0]
    assert reader(sides[1:])["x"] == [1]
