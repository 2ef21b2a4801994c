"""Linear probes: what is linear is found, what is noise is not, and untrained features are those of the same network."""

import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config

from holotf import evaluate, models
from holotf.errors import UserError
from holotf.evaluators import probe
from holotf.evaluators.subject import Subject


@pytest.fixture
def config(furniture, extractor, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "FEW", (20, 1000))
    monkeypatch.setattr(probe, "DRAWS", 2)
    changes = {"extractor": extractor, "probe": furniture, "probe_label": "kind", "cache": str(tmp_path / "cache")}
    changes |= {"images": 64, "best": "probe/levels_accuracy"}
    changes |= {}
    return small_config(
        furniture, **{"model.name": "dcgan", "device.threads": 1}, **{f"evaluate.{k}": v for k, v in changes.items()}
    )


def probed(config, model=None):
    subject = Subject(model or models.initial(config), config)
    return dict(probe.Judge(subject).run()), subject.notes


def test_the_classifier_is_where_the_penalised_loss_has_no_slope():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 5)).astype(np.float32)
    labels = (features @ rng.normal(size=(5, 3)) + rng.normal(size=(120, 3))).argmax(axis=1)
    classifier, strength = probe.fitted(features, labels, 0.1)
    assert strength == 0.1
    logits = features.astype(np.float64) @ classifier.coef_.T + classifier.intercept_
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope = (shares - np.eye(3)[labels]).T @ features / 120 + 0.1 * classifier.coef_
    assert np.abs(slope).max() < 2e-3 < np.abs(0.1 * classifier.coef_).max()


def test_the_penalty_is_as_strong_as_held_out_images_ask_for():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    told = np.where(labels, 1.0, -1.0)[:, np.newaxis] + 0.3 * rng.normal(size=(300, 20))
    noisy = np.concatenate([0.6 * told[:, :1], 3.0 * rng.normal(size=(300, 400))], axis=1)
    (_, weak), (_, strong) = (probe.fitted(x.astype(np.float32), labels) for x in (told, noisy))
    assert weak >= 1.0, "many features that agree: as soon as it is perfect nothing weaker is taken"
    assert strong <= weak
    random = rng.normal(size=(300, 30)).astype(np.float32)
    judge = rng.normal(size=(300, 30)).astype(np.float32)
    classifier, _ = probe.fitted(random, labels)
    assert abs(classifier.score(judge, labels) - 0.5) < 0.12, "nothing is to be told from noise"


def test_features_are_pooled_to_four_cells_a_side():
    x = np.random.default_rng(0).normal(size=(2, 8, 16, 3)).astype(np.float32)
    cells = x.reshape(2, 4, 2, 4, 4, 3).max(axis=(2, 4))  # [B,4,2,4,4,C] -> [B,4,4,C]
    np.testing.assert_array_equal(probe.pooled(tf.constant(x)), cells)
    volume = np.random.default_rng(1).normal(size=(2, 8, 8, 8, 3)).astype(np.float32)
    cells = volume.reshape(2, 4, 2, 4, 2, 4, 2, 3).max(axis=(2, 4, 6))
    np.testing.assert_array_equal(probe.pooled(tf.constant(volume)), cells)
    for small in (x[:, :2, :2], x[:, 0, 0]):
        np.testing.assert_array_equal(probe.pooled(tf.constant(small)), small)


def test_chairs_are_told_from_stools_and_an_untrained_network_is_probed_alike(config):
    metrics, (note,) = probed(config)
    assert "kind (2 classes)" in note
    assert "learnt from 480 images, judged on 160" in note
    spaces = ("pixels", "extractor", "levels", "untrained_levels")
    assert {name.removeprefix("probe/") for name in metrics} == {"chance"} | {
        f"{space}_{what}" for space in spaces for what in ("accuracy", "accuracy_20", "accuracy_20_std")
    }
    assert metrics["probe/levels_accuracy"] > 0.8 > 0.65 > metrics["probe/chance"], "a chair has a back"
    for what in ("accuracy", "accuracy_20"):
        assert metrics[f"probe/levels_{what}"] == metrics[f"probe/untrained_levels_{what}"], "this model was not trained either"


def test_what_is_no_models_is_probed_once(config, tmp_path, monkeypatch):
    model = models.initial(config)
    metrics, _ = probed(config, model)
    made = sorted(tmp_path.glob("cache/probe-*.json"))
    assert len(made) == 2
    told = json.loads(made[0].read_text())
    made[0].write_text(json.dumps(told | {"accuracy": 0.123}))
    for variable in model.discriminator.trainable_variables:
        variable.assign(variable + tf.random.stateless_normal(variable.shape, [0, 0], stddev=0.1))
    again, _ = probed(config, model)
    changed = {name for name in metrics if metrics[name] != again[name]}
    assert 0.123 in {again["probe/pixels_accuracy"], again["probe/extractor_accuracy"]}
    assert {"probe/untrained_levels_accuracy", "probe/untrained_levels_accuracy_20"}.isdisjoint(changed)
    assert any(name.startswith("probe/levels") for name in changed)


def test_it_is_asked_for_and_what_it_needs_is_said(config, squares):
    config.evaluate.probe = squares
    with pytest.raises(UserError, match=r"evaluate.probe_label='kind': use one of label"):
        probed(config)
    config.evaluate.probe = "/none"
    with pytest.raises(UserError, match=r"evaluate.probe='/none' is no data set: name a folder that data_prep wrote"):
        probed(config)
    config.evaluate.probe = ""
    assert probed(config) == ({}, [])
    assert not any(name.startswith("probe/") for name in evaluate.evaluate(models.initial(config), config)[0])


def test_what_is_learnt_from_is_not_judged_on(config):
    for split, splits in (("test", ("train", "test")), ("train", ("train[:80%]", "train[80%:]"))):
        config.evaluate.split = split
        task = probe.Task(Subject(models.initial(config), config))
        assert tuple(task.splits.values()) == splits


def test_images_of_another_size_are_refused(config, tmp_path):
    from data_prep.__main__ import main as prepare

    config.evaluate.probe = str(tmp_path / "small")
    assert prepare(["blocks", "--out", config.evaluate.probe, "--size", "16", "--count", "20", "--workers", "0"]) == 0
    with pytest.raises(UserError, match=r"evaluate.probe='.*small' has images of shape \(16, 16, 3\): prepare it with --size 32"):
        probed(config)
