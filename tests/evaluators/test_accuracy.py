"""Accuracy: counted by hand, on the whole test split and on it alone."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config
from PIL import Image

from data_prep.__main__ import main
from holotf import data, evaluate, models
from holotf.evaluators import accuracy
from holotf.evaluators.subject import Subject


def config_of(folder, **changes):
    return small_config(folder, **{"model.name": "classifier", "model.classes": (), **changes})


@pytest.fixture
def model(colours, monkeypatch):
    """It compares the means of the channels, and takes red for green. The classes are blue, green, red, by name."""
    model = models.build(config_of(colours))

    def logits(images):
        red, green, blue = tf.unstack(tf.reduce_mean(tf.cast(images, tf.float32), axis=(1, 2)), axis=1)
        return tf.stack([blue, tf.maximum(red, green), tf.zeros_like(red)], axis=1) / 10.0  # never red

    monkeypatch.setattr(model, "logits", logits)
    return model


def test_figures_by_hand(colours, model):
    """Eight test images of each class; of red ones the green channel's logit is the highest, and none is called red."""
    shown = {}
    metrics, notes, alarms = evaluate.evaluate(model, config_of(colours, **{"data.flip": True}), shown.update)
    assert {k: v for k, v in metrics.items() if k.startswith("accuracy")} == {
        "accuracy/top1": 16 / 24,
        "accuracy/class/blue": 1.0,
        "accuracy/class/green": 1.0,
        "accuracy/class/red": 0.0,
    }
    assert "accuracy on the 24 images of test" in notes
    assert not alarms
    assert shown.keys() == {"confusion", "misclassified"}
    counts, nats, mistakes = accuracy.look(Subject(model, config_of(colours, **{"data.flip": True})), "test")
    np.testing.assert_array_equal(counts, [[8, 0, 0], [0, 8, 0], [0, 8, 0]])
    assert metrics["cross_entropy"] == pytest.approx(nats / 24)
    assert [(true, found) for _, true, found, _ in mistakes] == [(2, 1)] * 8
    sure = [probability for probability, *_ in mistakes]
    assert sure == sorted(sure, reverse=True)
    reds = {np.asarray(Image.open(path)).tobytes() for path in Path(colours).parent.glob("source/test/red/*.png")}
    assert {image.tobytes() for *_, image in mistakes} == reds, "not mirrored, as training images are"


def test_cross_entropy_by_hand(colours, model):
    source = Subject(model, config_of(colours)).source.of("test")
    batch = next(iter(data.batches(source, ("image", "label"), 32, 24, 0)))
    images, labels = batch["image"].numpy().astype(float), batch["label"].numpy()
    red, green, blue = images.mean((1, 2)).T
    logits = np.stack([blue, np.maximum(red, green), 0 * red], axis=1) / 10
    expected = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(24), labels])
    assert evaluate.evaluate(model, config_of(colours))[0]["cross_entropy"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("chunk", [5, 7, 24])
def test_every_image_counts_once_however_many_are_looked_at_at_once(colours, model, monkeypatch, chunk):
    monkeypatch.setattr(accuracy, "CHUNK", chunk)
    counts, *_ = accuracy.look(Subject(model, config_of(colours)), "test")
    np.testing.assert_array_equal(counts.sum(axis=1), [8, 8, 8])


def test_without_a_test_split_it_says_what_it_measured(squares):
    config = config_of(squares)
    metrics, notes, _ = evaluate.evaluate(models.build(config), config)
    assert 0 <= metrics["accuracy/top1"] <= 1
    assert "the data have no unseen split 'test': accuracy is on images that the model was trained on" in notes


def test_data_without_labels_have_no_accuracy(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for i in range(8):
        tf.io.write_file(str(source / f"{i}.png"), tf.io.encode_png(tf.fill([32, 32, 3], tf.cast(i, tf.uint8))))
    assert main(["folder", f"--source={source}", f"--out={tmp_path / 'data'}", "--size=32", "--workers=0", "--test=0"]) == 0
    config = small_config(tmp_path / "data", **{"model.name": "classifier"})
    metrics, notes, _ = evaluate.evaluate(models.build(config), config)
    assert metrics == {}
    assert f"no accuracy: {tmp_path / 'data'} has no labels" in notes
