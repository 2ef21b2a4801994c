"""HoloGAN that is told labels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config, train_on_replicas

from holotf import evaluate, models
from holotf.errors import UserError
from holotf.evaluators import labels, regressor
from holotf.evaluators.subject import Subject
from holotf.export import export

NAMES = ("chair", "stool", "table")


def config_of(folder="", **changes):
    return small_config(folder, **{"model.name": "conditional_hologan", "model.classes": NAMES, **changes})


def batch(n=8):
    images = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3))
    return {"image": tf.constant(images, tf.uint8), "kind": tf.range(n, dtype=tf.int64) % 3}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = models.build(config_of())
    for v in model.ema_generator.variables:
        v.assign(v * 3.0)
    return model


def test_the_label_sets_what_and_the_view_from_where(model):
    """The label makes another volume before any turn; the view does not reach it. Absent labels are one more, "none"."""
    latents = model.labelled(model.latents([3]), np.eye(3, dtype=np.float32)[:1])
    others = [model.labelled(latents, row[np.newaxis]) for row in (*np.eye(3, dtype=np.float32)[1:], np.zeros(3, np.float32))]
    for other in others:
        assert np.any(model.volume(latents) != model.volume(other))
        np.testing.assert_array_equal(model.parts(other)[0], model.parts(latents)[0])
    sweep = model.sweep(tf.concat([latents, others[0]], axis=0), "azimuth_deg", 4)
    assert sweep.shape == (2, 4, 32, 32, 3)
    assert np.all(np.any(sweep[0] != sweep[1], axis=(1, 2, 3)))


def test_what_it_feeds_is_hologans(model):
    """z, and the mean of the embeddings, by hand."""
    embeddings = model.ema_generator.embed.kernel.numpy()
    latents, asked = model.draw(2, [5, 0])
    z, labels = model.parts(latents)
    fed = np.concatenate([z, labels.numpy() @ embeddings[:3]], axis=1)
    np.testing.assert_allclose(
        model.ema_generator(latents, asked), model.ema_generator.within(tf.constant(fed), asked), rtol=1e-4, atol=1e-5
    )
    one = models.build(config_of())
    assert np.std(one.generator.embed.kernel) == pytest.approx(3**-0.5, rel=0.2), "as loud as z"


def test_the_logit_is_hologans_and_the_projection(model):
    images, labels = tf.random.stateless_uniform([2, 32, 32, 3], [0, 0], -1.0, 1.0), tf.constant([[1.0, 0, 0], [0, 0, 1]])
    plain, told = model.discriminator(images), model.discriminator(images, labels)
    features = plain["features"].numpy().sum(axis=(1, 2))
    embedding = model.discriminator.projection.embedding.normalised_kernel().numpy()
    expected = plain["logits"] + np.sum(features * embedding[[0, 2]], axis=1)
    np.testing.assert_allclose(told["logits"], expected, rtol=1e-4)
    np.testing.assert_array_equal(told["z_hat"], plain["z_hat"])
    assert plain["z_hat"].shape == (2, 8), "it reads z, not labels"


@pytest.mark.slow
def test_two_replicas_equal_one():
    config = config_of(**{"train.mismatched_labels": True, "loss.lambda_labels": 0.5})
    config.optim.optimizer, config.optim.d_lr, config.optim.g_lr = "sgd", 1e-3, 1e-3
    (one, one_logs), (two, two_logs) = (train_on_replicas(config, replicas, batch()) for replicas in (1, 2))
    assert {"loss/identity", "loss/azimuth", "loss/d_labels", "loss/g_labels"} <= set(one_logs[0])
    for a, b in zip(one_logs, two_logs, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
    for part in ("generator", "discriminator"):
        for a, b in zip(getattr(one, part).variables, getattr(two, part).variables, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=a.path)


def test_singular_vectors_move_once_an_update(model):
    """A layer that is counted twice would move twice."""
    layers = [*model.discriminator.within.convs, model.discriminator.projection.embedding]
    found = {id(layer) for layer in model.discriminator._flatten_layers()}
    assert len([layer for layer in model.discriminator.layers]) == 2
    assert all(id(layer) in found for layer in layers)


@pytest.mark.slow
def test_the_export_turns_what_it_is_told_by_name(model, tmp_path):
    served = tf.saved_model.load(export(model, str(tmp_path / "saved_model")))
    z = served.latents_by_name(tf.constant([1, 1], tf.int64), tf.constant(["chair", ""]))["z"]
    np.testing.assert_array_equal(z[:, 8:], [[1, 0, 0], [0, 0, 0]])
    view = [tf.zeros([2]), tf.fill([2], 20.0), tf.ones([2]), tf.zeros([2, 3])]
    images = served.generate(z, *view)["images"]
    np.testing.assert_allclose(
        tf.cast(served.render(served.volume(z)["volume"], z, *view)["images"], tf.int32), tf.cast(images, tf.int32), atol=1
    )
    assert served.encode(images)["z"].shape == (2, 11)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras saves its variables so
def test_it_is_judged_from_all_sides(furniture, extractor, tmp_path, monkeypatch):
    """Whatever a model draws, the classifier is trained, each kind is asked for, and sweeps are read."""
    monkeypatch.setattr(regressor, "HELD_OUT", 50)
    changes = {"evaluate.extractor": extractor, "evaluate.cache": str(tmp_path), "evaluate.images": 12, "model.classes": ()}
    config = config_of(furniture, **changes, **{"evaluate.identities": 2, "evaluate.views": 4})
    model = models.build(config)
    assert model.class_names == ("chair", "stool")
    metrics, _, _ = evaluate.evaluate(model, config)
    assert {"labels/single/top_k", "labels/sweep/top_k", "labels/azimuth_shift_deg", "labels/judge/test/top_k"} <= set(metrics)
    assert 0 <= metrics["labels/single/class/chair"] <= 1


def test_only_objects_whose_label_changes_tell_what_another_label_turns(furniture, monkeypatch):
    """Of three with the labels a, a, b, in turn, the second keeps its own."""
    config = config_of(furniture, **{"model.classes": (), "evaluate.identities": 3, "evaluate.views": 4})
    model = models.build(config)
    subject, read = Subject(model, config), iter((np.zeros((3, 4)), np.array([[20.0], [90.0], [40.0]]) * np.ones((3, 4))))
    monkeypatch.setattr(subject, "reader", lambda: lambda images: (next(read), None))

    def told(rows):
        subject.latents = model.labelled(model.latents(range(3)), np.float32(rows))
        subject.__dict__.pop("sweep", None)
        return dict(labels.Judge(subject)._turning(lambda images: np.zeros((len(images), 2))))

    assert told([[1, 0], [1, 0], [0, 1]])["labels/azimuth_shift_deg"] == 30.0
    assert set(told([[1, 0]] * 3)) == {"labels/sweep/top_k"}


def test_bad_values_are_named():
    with pytest.raises(UserError, match=r"model.label_dim=0: use 1 or more"):
        models.build(config_of(**{"model.label_dim": 0}))
