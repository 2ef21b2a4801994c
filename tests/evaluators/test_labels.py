"""The judge of what was asked for: figures by hand, on images that a fake model draws right, wrong, or all alike."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config

from holotf import conditions, data, evaluate, models
from holotf.errors import UserError
from holotf.evaluators import labeller, labels, networks
from holotf.evaluators.subject import Subject

LABELS = np.float32([[1, 0, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1]])


def test_perfect_and_wrong_readings_by_hand():
    assert labeller.judge(LABELS, LABELS) == {"top_k": 1.0, "exact": 1.0}
    assert labeller.judge(np.float32([[0, 1, 0, 0], [1, 0, 0, 1], [0.1, 0.9, 0, 0.05]]), LABELS) == {"top_k": 2 / 6, "exact": 0.0}
    weak = 0.3 * LABELS  # the right ones are the most probable, and none is above one half
    assert labeller.judge(weak, LABELS) == {"top_k": 1.0, "exact": 0.0}
    more = np.where(LABELS > 0, 0.9, 0.6)  # all the rest is seen, too
    assert labeller.judge(more, LABELS) == {"top_k": 1.0, "exact": 0.0}


def test_a_missed_label_is_shared_by_those_that_were_read_instead():
    found = np.array([[False, True, False, False], [False, False, True, True], [True, True, False, True]])
    expected = np.zeros((4, 4))
    expected[0, 1] += 1  # 0 read as 1
    expected[2, 2], expected[1, 3] = 1, 1
    expected[0, 0], expected[3, 3], expected[2, 1] = 1, 1, 1
    counts = labeller.confusion(found, LABELS)
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(counts.sum(axis=1), LABELS.sum(axis=0))
    both = labeller.confusion(np.array([[True, True, False, False]]), np.float32([[0, 0, 1, 1]]))
    np.testing.assert_array_equal(both[2:], [[0.5, 0.5, 0, 0]] * 2)


class Reads(keras.layers.Layer):
    """Probabilities that an image carries: those of label k in pixel (0, k), 0 or 255."""

    def call(self, images):
        return (images[:, 0, :24, 0] + 1.0) / 2.0


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A SavedModel that reads them."""
    path = tmp_path_factory.mktemp("classifier") / "reads"
    images = keras.Input((32, 32, 3))
    keras.Model(images, Reads()(images)).export(path, verbose=False)
    return str(path)


@pytest.fixture
def model(scenes, classifier, extractor, tmp_path):
    changes = {"evaluate.classifier": classifier, "evaluate.extractor": extractor, "evaluate.cache": str(tmp_path)}
    sizes = {"model.classes": (), "model.most_labels": 2, "evaluate.images": 128}
    return models.build(small_config(scenes, **{"model.name": "projection_gan"}, **sizes, **changes))


@pytest.mark.parametrize(("shift", "share"), [(0, 1.0), (1, 0.0)])
def test_images_right_and_wrong(model, scenes, monkeypatch, shift, share):
    """Of the conditions each kind is drawn, or the one after it: of single ones none is then right."""

    def sample(latents):
        labels = tf.roll(model.parts(latents)[1], shift, axis=1)[:, tf.newaxis, :, tf.newaxis]
        noise = tf.random.stateless_uniform([labels.shape[0], 32, 32, 3], [0, 0], 0, 256, tf.int32)
        told = tf.tile(tf.cast(labels * 255.0, tf.int32), [1, 1, 1, 3])
        return tf.cast(tf.concat([tf.pad(told, [[0, 0], [0, 0], [0, 8], [0, 0]]), noise[:, 1:]], axis=1), tf.uint8)

    monkeypatch.setattr(model, "sample", sample)
    shown = {}
    metrics, notes, _ = evaluate.evaluate(model, model.config, shown.update)
    lists = conditions.read(scenes, model.class_names)
    assert set(lists) == {"test", "unseen"}
    for name, asked in lists.items():
        rows = conditions.rows(asked, model.class_names) > 0
        right = (np.roll(rows, shift, axis=1) & rows).sum() / rows.sum()
        assert metrics[f"labels/{name}/top_k"] == pytest.approx(right)
        assert metrics[f"labels/{name}/exact"] == share
        assert np.isfinite(metrics[f"labels/{name}/kid/1"])
        assert np.isfinite(metrics[f"labels/{name}/kid/2"])
        assert f"labels/{name}/kid/3" not in metrics
        kinds = [key for key in metrics if key.startswith(f"labels/{name}/class/")]
        assert len(kinds) == rows.any(axis=0).sum()
    assert {"confusion/test", "confusion/unseen"} <= set(shown)
    own = metrics["labels/judge/test/top_k"]
    assert f"its own top-k accuracy on real images: {own:.3f} (test)" in "\n".join(notes)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras saves its variables so
def test_the_classifier_is_trained_once_and_kept(model, scenes, monkeypatch, tmp_path):
    monkeypatch.setattr(labeller, "LEAST", 40)
    builder = data.open_folder(model.config.data)
    ask = (builder, "train", ["test", "unseen"], "labels", 24, str(tmp_path / "kept"))
    one = labeller.labeller(*ask)
    monkeypatch.setattr(networks, "train", None)
    two = labeller.labeller(*ask)
    images, labels = labeller.labelled(builder, "test", "labels", 24)
    assert labels.shape == (16, 24)
    assert set(labels.sum(axis=1)) <= {1.0, 2.0}
    np.testing.assert_array_equal(one(images), two(images))
    assert one.held_out == two.held_out == {name: one.held_out[name] for name in ("test", "unseen")}
    assert one.held_out["test"] == pytest.approx(labeller.judge(one(images), labels))
    monkeypatch.undo()
    with pytest.raises(UserError, match="has 48 images: a classifier of labels needs at least 200"):
        labeller.labeller(*ask[:-1], str(tmp_path / "other"))


@pytest.mark.parametrize("path", ["nothing.keras", "setup.py", "docs"])
def test_a_classifier_that_is_none_is_named_before_training(path, squares):
    config = small_config(squares, **{"evaluate.classifier": path})
    with pytest.raises(UserError, match=f"evaluate.classifier='{path}': use a .keras file or a SavedModel folder"):
        evaluate.check(config.evaluate)


def test_one_that_gives_no_probabilities_is_named(model, extractor):
    model.config.evaluate.classifier = extractor  # of 8 features
    with pytest.raises(UserError, match=r"evaluate.classifier=.* gives \[16, 8\] from .*: it is to give probabilities \[N, 24\]"):
        evaluate.evaluate(model, model.config)


def test_data_without_labels_are_not_judged(squares, extractor):
    changes = {"model.name": "projection_gan", "evaluate.extractor": extractor, "evaluate.images": 4}
    config = small_config(squares, **changes)
    metrics, notes, _ = evaluate.evaluate(models.build(config), config)
    assert f"no labels: {squares} have no labels 'labels'" in notes
    assert not [name for name in metrics if name.startswith("labels/")]


def test_lists_that_are_not_there_are_no_best(model, scenes, squares):
    judge = labels.Judge(Subject(model, model.config))
    assert judge.measures() == [f"labels/{name}/{metric}" for name in ("test", "unseen") for metric in ("top_k", "exact")]
    model.config.data.dir = squares
    assert judge.measures() == ["labels/single/top_k", "labels/single/exact"]
