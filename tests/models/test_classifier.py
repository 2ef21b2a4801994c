"""The classifiers: their networks, schedules and endpoints, and the loop that trains them."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import run, small_config, train_on_replicas
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs import classifier_cifar10, of_run
from holotf import augmentation, evaluate, models, train
from holotf.errors import UserError
from holotf.export import export
from holotf.models.classifier import NETWORKS, Network


def config_of(folder="", **changes):
    return small_config(folder, **{"model.name": "classifier", "model.dropout": 0.2, "model.spatial_dropout": 0.1, **changes})


def batch(n=8, size=32):
    rng = np.random.default_rng(0)
    return {"image": tf.constant(rng.integers(0, 256, (n, size, size, 3)), tf.uint8), "label": tf.constant(rng.integers(0, 3, n))}


@pytest.fixture
def precision():
    yield keras.mixed_precision.set_dtype_policy
    keras.mixed_precision.set_dtype_policy("float32")


def count(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def test_the_networks_count_as_their_layers():
    baseline = (25 * 3 * 6 + 6) + (25 * 6 * 16 + 16)
    baseline += (5 * 5 * 16 * 120 + 120) + (120 * 84 + 84) + (84 * 10 + 10)
    assert baseline == 62_006  # as PyTorch counts its tutorial's
    assert count(Network(NETWORKS["baseline"], 32, 10, 0.0, 0.0)) == baseline
    # The first of each pair has batch norm's scale and shift, no bias.
    improved = (9 * 3 * 32 + 2 * 32) + (9 * 32 * 64 + 64) + (9 * 64 * 128 + 2 * 128) + (9 * 128 * 128 + 128)
    improved += (9 * 128 * 256 + 2 * 256) + (9 * 256 * 256 + 256)
    improved += (4096 * 1024 + 1024) + (1024 * 512 + 512) + (512 * 10 + 10)
    network = Network(NETWORKS["improved"], 32, 10, 0.1, 0.05)
    assert count(network) == improved == 5_851_754
    moving = 2 * (32 + 128 + 256)
    assert sum(int(np.prod(v.shape)) for v in network.variables) == improved + moving


@pytest.mark.parametrize(("name", "size"), [("baseline", 16), ("baseline", 28), ("improved", 16), ("improved", 40)])
def test_other_sizes_of_image_have_networks(name, size):
    network = Network(NETWORKS[name], size, 3, 0.0, 0.0)
    assert network(tf.zeros([2, size, size, 3])).shape == (2, 3)


def test_dropout_is_drawn_at_its_rate_and_keeps_the_mean():
    network = Network(NETWORKS["improved"], 16, 3, 0.25, 0.5)
    drawn = network.draw_dropout(400, tf.constant([0, 1]))
    assert {place: factors.shape[1:].as_list() for place, factors in drawn.items()} == {
        "channels": [1, 1, 128],
        "flat": [1024],
        "last": [512],
    }
    for place, rate in (("channels", 0.5), ("flat", 0.25), ("last", 0.25)):
        factors = drawn[place].numpy()
        np.testing.assert_allclose(np.unique(factors), [0.0, 1 / (1 - rate)])
        assert np.mean(factors == 0) == pytest.approx(rate, abs=0.01)
    assert Network(NETWORKS["improved"], 16, 3, 0.0, 0.0).draw_dropout(4, tf.constant([0, 1])) == {}


def test_dropout_acts_in_training_alone():
    """What is served equals the network without dropout; a training step with it has another loss."""
    losses = []
    for rate in (0.0, 0.5):
        keras.utils.set_random_seed(0)
        model = models.build(config_of(**{"model.dropout": rate, "model.spatial_dropout": rate}))
        served = model.logits(batch()["image"]).numpy()
        np.testing.assert_array_equal(served, model.network(tf.cast(batch()["image"], tf.float32) / 127.5 - 1.0))
        np.testing.assert_array_equal(served, model.logits(batch()["image"]))
        losses.append((served, float(tf.function(model.train_step)(batch())["loss/class"])))
    np.testing.assert_array_equal(losses[0][0], losses[1][0])
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(batch()["label"], losses[0][0])
    assert losses[0][1] == pytest.approx(float(tf.reduce_mean(entropy)), rel=1e-5)
    assert abs(losses[1][1] - losses[0][1]) > 1e-3


def test_a_channel_is_dropped_whole_and_where_it_is_said():
    network = Network(NETWORKS["improved"], 16, 3, 0.0, 0.5)
    channels = tf.concat([tf.zeros([1, 1, 1, 64]), tf.fill([1, 1, 1, 64], 2.0)], axis=-1)
    x = tf.random.stateless_normal([1, 16, 16, 3], [0, 0])
    found = network(x, {"channels": channels})
    for block in network.blocks[:2]:
        x = block(x)
    assert x.shape == (1, 4, 4, 128)
    x = tf.reshape(network.blocks[2](x * channels), [1, -1])
    for layer in network.hidden:
        x = tf.nn.relu(layer(x))
    np.testing.assert_allclose(found, network.classify(x), rtol=1e-5)


def test_the_default_augmentation_is_none_and_others_reach_the_batch():
    model, given = models.build(config_of()), batch()
    assert model.augment(given) is given
    assert model.pictures(given) == {}
    model = models.build(config_of(**{"train.augmentation": "small"}))
    augmented = model.augment(given)
    assert augmented["label"] is given["label"]
    assert augmented["image"].dtype == tf.uint8
    changed = np.any(augmented["image"] != given["image"], axis=(1, 2, 3))
    assert 0 < changed.sum() <= 8
    np.testing.assert_array_equal(model.augment(given)["image"], augmented["image"])
    model.iteration.assign(1)
    assert np.any(model.augment(given)["image"] != augmented["image"])
    assert model.pictures(given)["augmentation"].shape[0] == augmentation.sheet("small", given["image"][0], [1, 0]).shape[0]


@pytest.mark.slow
def test_two_replicas_equal_one_with_dropout_and_augmentation():
    config = config_of(**{"model.network": "improved", "model.image_size": 16, "train.augmentation": "significant"})
    config.optim.optimizer, config.optim.lr = "sgd", 1e-2  # Adam's first steps make a whole rate of rounding noise
    results = []
    for replicas in (1, 2):
        model, logs = train_on_replicas(config, replicas, batch(size=16))
        results.append((logs, [v.numpy() for v in model.network.variables]))
    (one_logs, one), (two_logs, two) = results
    for a, b in zip(one_logs, two_logs, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_mixed_precision_keeps_logits_and_loss_float32(precision):
    precision("mixed_bfloat16")
    for name in NETWORKS:
        model = models.build(config_of(**{"model.network": name, "model.image_size": 16}))
        assert model.network.blocks[0].convs[0].compute_dtype == model.network.hidden[0].compute_dtype == "bfloat16"
        assert all(v.dtype == "float32" for v in model.network.variables)
        assert model.logits(batch(size=16)["image"]).dtype == tf.float32
        logs = tf.function(model.train_step)(batch(size=16))
        assert {v.dtype for v in logs.values()} == {tf.float32}
        assert np.isfinite([float(v) for v in logs.values()]).all()


# --- optimizers and schedules


def rates(model, updates):
    found = []
    for n in updates:
        model.class_optimizer.iterations.assign(n)
        found.append(model.learning_rates()["class"])
    return found


def test_the_rate_is_halved_after_each_epoch(colours):
    """96 images in batches of 8: an epoch has 12 updates, whatever the length of the run."""
    for kimg in (0.4, 0.96):
        steps = {"optim.lr": 0.1, "optim.decay": "step", "optim.decay_epochs": 1.0, "optim.decay_factor": 0.5}
        model = models.build(config_of(colours, **{"train.kimg": kimg, **steps}))
        np.testing.assert_allclose(rates(model, (0, 11, 12, 23, 24, 36)), [0.1, 0.1, 0.05, 0.05, 0.025, 0.0125], rtol=1e-5)


def test_the_rate_falls_to_zero_from_an_epoch_on(colours):
    model = models.build(config_of(colours, **{"train.kimg": 0.384, "optim.lr": 0.1, "optim.decay_epochs": 2.0}))  # 48 updates
    np.testing.assert_allclose(rates(model, (0, 24, 36, 47, 48)), [0.1, 0.1, 0.05, 0.1 / 24, 0.0], rtol=1e-5, atol=1e-9)
    model = models.build(config_of(colours, **{"train.kimg": 0.384, "optim.lr": 0.1, "optim.decay_epochs": 9.0}))
    np.testing.assert_allclose(rates(model, (0, 47)), [0.1, 0.1], rtol=1e-5)  # later than the run is long


def test_sgd_with_momentum_by_hand():
    """v = 0.5 v - lr g, w += v, with the gradients of two steps."""
    model = models.build(config_of(**{"optim.optimizer": "sgd", "optim.momentum": 0.5, "optim.lr": 0.1, "optim.decay_from": 1.0}))
    (variable, *_), before = model.network.classify.trainable_variables, model.network.classify.kernel.numpy()
    gradient = np.float32(np.random.default_rng(0).normal(size=before.shape))
    for _ in range(2):
        model.class_optimizer.apply([gradient if v is variable else tf.zeros(v.shape) for v in model.network.trainable_variables])
    np.testing.assert_allclose(variable, before - 0.1 * gradient - (0.05 * gradient + 0.1 * gradient), rtol=1e-4, atol=1e-6)


def test_the_experiments_build(colours):
    for variant, epochs in (("baseline", 10), ("improved", 20)):
        config = classifier_cifar10.get_config(variant)
        assert config.train.kimg == 50 * epochs
        config.data.dir = colours
        model = models.build(config)
        assert (model.iterations, model.class_names) == (1000 * epochs, ("blue", "green", "red"))
    with pytest.raises(UserError, match="classifier_cifar10:best: use one of baseline, improved"):
        classifier_cifar10.get_config("best")


# --- in the loop


COMMAND = [
    "--config=configs/classifier_cifar10.py:baseline", "--config.train.kimg=0.384", "--config.train.batch_size=8",
    "--config.train.log_kimg=0.008", "--config.train.sample_kimg=0.192", "--config.train.checkpoint_kimg=0.096",
    "--config.evaluate.kimg=0.096", "--config.train.augmentation=small", "--config.model.dropout=0.1", "--config.optim.lr=0.002",
    "--config.optim.decay_from=1",  # so that a run that is stopped early had the rates of a longer one
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(colours, tmp_path_factory):
    """(folder of a run of four epochs, what it printed)."""
    workdir = tmp_path_factory.mktemp("classifier")
    done = run(*COMMAND, f"--config.data.dir={colours}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def test_it_learns_colours(trained):
    workdir, _ = trained
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [96, 192, 288, 384]  # after each epoch
    assert lines[-1]["accuracy/top1"] == 1.0
    assert lines[-1]["cross_entropy"] < lines[0]["cross_entropy"]
    assert json.loads((workdir / "best" / "metric.json").read_text())["name"] == "accuracy/top1"


def test_tensorboard_has_it_all(trained):
    events = EventAccumulator(str(trained[0] / "events"), size_guidance={"tensors": 0}).Reload()
    steps = {tag: [e.step for e in events.Tensors(tag)] for tag in events.Tags()["tensors"]}
    for tag in ("loss/class", "accuracy/train", "grad_norm/class", "lr/class"):
        assert steps[tag] == [8 * i for i in range(1, 49)], tag
    for tag in ("accuracy/top1", "cross_entropy", "accuracy/class/red", "confusion"):
        assert steps[tag] == [96, 192, 288, 384], tag
    assert steps["augmentation"] == [192, 384]
    assert "misclassified" in steps


def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(trained, tmp_path):
    """In this process, after 12 of 48 iterations; uninterrupted in another."""
    for kimg in (0.096, 0.384):
        config = of_run.get_config(trained[0])
        config.train.kimg, config.evaluate.kimg = kimg, 0.0
        assert train.train(config, str(tmp_path)) == 0
    one, two = (tf.train.load_checkpoint(f"{folder}/checkpoints") for folder in (trained[0], tmp_path))
    names = [n for n in one.get_variable_to_shape_map() if n.startswith(("network", "class_optimizer", "progress"))]
    assert len(names) > 20
    for name in names:
        np.testing.assert_array_equal(one.get_tensor(name), two.get_tensor(name), err_msg=name)


def test_evaluate_prints_and_draws(trained):
    workdir, _ = trained
    done = run(f"--workdir={workdir}", "--mode=evaluate")
    assert done.returncode == 0, done.stderr
    assert f"{workdir}/pictures/confusion.png" in done.stdout
    assert json.loads((workdir / "metrics.json").read_text())["metrics"]["accuracy/class/red"] == 1.0
    assert json.loads((workdir / "saved_model" / "card.json").read_text())["metrics"]["metrics"]["accuracy/top1"] == 1.0


SCRIPT = """
import json, sys
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
image = tf.constant([[[[250, 60, 60]]], [[[60, 60, 250]]]], tf.uint8)
found = served.predict(tf.tile(image, [1, 32, 32, 1]))
default = served.signatures["serving_default"](images=tf.tile(image, [1, 32, 32, 1]))
assert default["classes"].numpy().tolist() == found["classes"].numpy().tolist()
print(json.dumps([[n.decode() for n in found["classes"].numpy()], found["probabilities"].numpy().tolist()]))
"""


def test_the_export_names_classes_in_another_process(trained):
    folder = str(trained[0] / "saved_model")
    done = subprocess.run([sys.executable, "-c", SCRIPT, folder], cwd="/", text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    names, probabilities = json.loads(done.stdout)
    assert names == ["red", "blue"]
    np.testing.assert_allclose(np.sum(probabilities, axis=1), 1.0, atol=1e-6)
    card = json.loads((trained[0] / "saved_model" / "card.json").read_text())
    assert card["classes"] == ["blue", "green", "red"]
    assert np.argmax(probabilities, axis=1).tolist() == [2, 0]
    assert card["endpoints"]["predict"]["outputs"]["classes"]["dtype"] == "string"
    assert card["endpoints"]["predict"]["default"]
    assert card["latent"] is card["views"] is None


def test_mirrored_strategy_trains_through_the_same_loop(colours, tmp_path):
    changes = {"device.strategy": "mirrored", "train.kimg": 0.024, "train.augmentation": "significant"}
    assert train.train(config_of(colours, **{"model.classes": (), **changes}), str(tmp_path)) == 0
    assert tf.train.latest_checkpoint(tmp_path / "checkpoints").endswith("ckpt-3")


def test_classes_are_those_of_the_data_or_of_the_config(colours, squares, tmp_path):
    assert models.build(config_of(colours, **{"model.classes": ()})).class_names == ("blue", "green", "red")
    assert models.build(config_of(colours)).class_names == ("red", "green", "blue")  # other names for as many
    assert models.build(config_of(squares, **{"model.classes": ()})).class_names == ("0", "1", "2")
    model = models.build(config_of(tmp_path / "gone"))  # an export is made without the data, too
    served = tf.saved_model.load(export(model, str(tmp_path / "saved_model")))
    assert served.predict(batch()["image"])["classes"].shape == (8,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.network": "resnet"}, r"model.network='resnet': use baseline, improved, ganin"),
        ({"model.image_size": 8}, r"model.image_size=8: use 16 or more"),
        ({"model.dropout": 1.0}, r"model.dropout=1: use 0 \(off\) to below 1"),
        ({"train.augmentation": "much"}, r"train.augmentation='much': use none, shift, small, significant"),
        ({"model.classes": ("a", "b")}, r"model.classes=\('a', 'b'\): the labels of .* are 3: blue, green, red"),
        ({"model.classes": ("a", "a", "b")}, r"model.classes=\('a', 'a', 'b'\): use names, each once"),
        (
            {"model.classes": (), "data.dir": "nowhere"},
            r"model.classes=\(\): data.dir='nowhere' does not exist",
        ),
        ({"optim.optimizer": "lion"}, r"optim.optimizer='lion': use adam or sgd"),
        ({"optim.momentum": 1.0}, r"optim.momentum=1: use 0 to below 1"),
        ({"optim.decay_epochs": -1.0}, r"optim.decay_epochs=-1: use epochs, or 0 for optim.decay_from"),
        ({"optim.decay_epochs": 1.0, "data.dir": "nowhere"}, r"optim.decay_epochs=1: data.dir='nowhere' does not exist"),
    ],
)
def test_impossible_configs_are_refused_by_name(colours, change, message):
    with pytest.raises(UserError, match=message):
        models.build(config_of(colours, **change))


def test_an_epoch_of_several_data_sets_is_refused(colours):
    config = config_of(colours, **{"optim.decay_epochs": 1.0})
    one = {key: value for key, value in config.data.items() if key != "sources"}
    with config.data.unlocked():
        config.data.sources = {"source": one, "target": one}
    with pytest.raises(UserError, match=r"optim.decay_epochs=1: several data sets have no one epoch; or use 0 and decay_from"):
        models.build(config)


def test_a_metric_that_is_not_measured_is_no_best(colours, tmp_path):
    config = config_of(colours, **{"model.classes": (), "evaluate.best": "fid"})
    message = r"evaluate.best='fid' cannot be measured with this model and these data: use one of accuracy/top1, cross_entropy"
    with pytest.raises(UserError, match=message):
        evaluate.in_training(models.build(config), config, str(tmp_path), 8)
