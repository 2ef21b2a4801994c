"""What reads poses: its loss and its confidence by hand, the zero and the sense that are fitted, and an estimator that learns."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config

from configs import pose_factory
from holotf import data, evaluate, models, train
from holotf.errors import UserError
from holotf.evaluators import regressor
from holotf.evaluators.angles import Fit, fitted
from holotf.evaluators.pose_estimate import certainty
from holotf.export import export

OFFSET_DEG = 40.0


def config_of(folder="", name="pose_dann", **changes):
    config = small_config(**{"model.name": name, "evaluate.images": 200, **changes})
    for source in config.data.sources.values():
        source.dir = str(folder)
    return config


@pytest.fixture(scope="module")
def trained(furniture):
    """(config, model) that learnt poses of 480 images in a mirrored world with another zero: azimuths 40 degrees - their own."""
    config = config_of(furniture, **{"model.network": "ganin", "train.domains": "source", "optim.lr": 1e-3, "train.kimg": 5.0})
    config.train.batch_size, config.optim.decay_from = 32, 0.5
    source = data.open_sources(config.data)["source"]
    images, azimuth, elevation = map(tf.constant, regressor.labelled(source.builder, "train", "azimuth_deg", "elevation_deg"))
    model = models.initial(config)
    assert model.FEATURES == {"source": ("image", "azimuth_deg", "elevation_deg"), "target": ("image",)}

    @tf.function
    def step(rows):
        labels = {"azimuth_deg": OFFSET_DEG - tf.gather(azimuth, rows), "elevation_deg": tf.gather(elevation, rows)}
        return model.train_step({"source": {"image": tf.gather(images, rows), **labels}})

    rng = np.random.default_rng(0)
    for _ in range(model.iterations):
        logs = step(tf.constant(rng.choice(480, 32, replace=False)))
    assert set(logs) == {"loss/pose", "error/azimuth_deg", "grad_norm/pose"}
    return config, model


def test_the_loss_is_a_squared_distance_by_hand():
    model = models.build(config_of())
    outputs = np.array([[1.0, 0.0, 1.0], [0.3, -0.4, 0.5]], np.float32)
    labels = {"azimuth_deg": tf.constant([30.0, -45.0]), "elevation_deg": tf.constant([15.0, 30.0])}
    expected = 0.0
    for (c, s, e), azimuth, elevation in zip(outputs, (30.0, -45.0), (15.0, 30.0), strict=True):
        wanted = np.cos(np.radians(azimuth)), np.sin(np.radians(azimuth)), elevation / 30.0
        expected += ((c - wanted[0]) ** 2 + (s - wanted[1]) ** 2 + (e - wanted[2]) ** 2) / 2
    assert float(model.task_loss(labels, outputs)) == pytest.approx(expected, rel=1e-5)
    turned = {name: label + 360.0 * (name == "azimuth_deg") for name, label in labels.items()}
    assert float(model.task_loss(turned, outputs)) == pytest.approx(expected, rel=1e-4), "a whole turn is none"


def test_angles_wrap_and_confidence_is_a_length(monkeypatch):
    model = models.build(config_of(**{"export.azimuth_sense": -1, "export.azimuth_offset_deg": 10.0}))
    given = np.radians([179.0, -179.0, 0.0]), np.array([2.0, 0.5, 0.0])
    outputs = np.stack([given[1] * np.cos(given[0]), given[1] * np.sin(given[0]), [0.0, 1.0, -1.0]], axis=1).astype(np.float32)
    quality = model.task_quality({"azimuth_deg": tf.constant([-179.0, 179.0, 2.0])}, outputs)
    assert float(quality["error/azimuth_deg"]) == pytest.approx(2.0, abs=1e-3)
    monkeypatch.setattr(model, "outputs", lambda images: tf.constant(outputs))
    azimuth, elevation, confidence = model.poses(tf.zeros([3, 32, 32, 3], tf.uint8))
    np.testing.assert_allclose(azimuth, [179.0, -179.0, 0.0], atol=1e-3)
    np.testing.assert_allclose(elevation, [0.0, 30.0, -30.0], atol=1e-4)
    np.testing.assert_allclose(confidence, [1.0, 0.5, 0.0], atol=1e-6)
    served = model.endpoints()["predict"](tf.zeros([3, 32, 32, 3], tf.uint8))
    np.testing.assert_allclose(served["azimuth_deg"], [191.0, 189.0, 10.0], atol=1e-3)


@pytest.mark.parametrize("sense", [1, -1])
def test_a_known_zero_and_sense_are_recovered(sense):
    """Exactly without noise, off any number of images; and with noise no offset of a fine grid does better."""
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 360, 40)
    read = sense * (true - 300.0)
    for count in (3, 40):
        fit = fitted(read[:count], true[:count])
        assert fit.sense == sense
        assert fit.error_deg(read, true).max() < 1e-9
    noisy = read + rng.normal(0, 40, 40) + 180.0 * (rng.random(40) < 0.2)
    fit = fitted(noisy, true)
    error = fit.error_deg(noisy, true).mean()
    assert fit.sense == sense
    assert error <= min(Fit(s, o).error_deg(noisy, true).mean() for s in (1, -1) for o in np.arange(0, 360, 0.5)) + 1e-9
    whole_turns = noisy + 360.0 * rng.integers(-2, 3, 40)
    assert fitted(whole_turns, true).error_deg(whole_turns, true).mean() == pytest.approx(error)


def test_nothing_read_is_chance():
    true = np.arange(0.0, 360.0, 1.0)
    fit = fitted(np.full(360, 12.0), true)
    assert fit.error_deg(np.full(360, 12.0), true).mean() == pytest.approx(90.0)
    assert fitted(np.array([5.0]), np.array([350.0])).offset_deg == pytest.approx(-15.0)


def test_certainty_by_hand():
    """It is high where each is told surely, and not all alike."""
    round_the_circle, one = np.arange(0.0, 360.0, 90.0), np.ones(4)
    assert certainty(round_the_circle, one) == pytest.approx(1.0)
    assert certainty(round_the_circle, 0.25 * one) == pytest.approx(0.25)
    assert certainty(np.full(4, 30.0), one) == pytest.approx(0.0)


def test_an_estimator_learns_and_its_zero_and_sense_are_found(trained):
    config, model = trained
    metrics, notes, _ = evaluate.evaluate(model, config)
    found = {name.removeprefix("pose_estimate/"): value for name, value in metrics.items()}
    assert found["chance_azimuth_mae_deg"] > 80
    assert found["azimuth_mae_deg"] > 60, "as read, another world"
    assert found["open/azimuth_mae_deg"] < 60
    assert found["open/azimuth_mae_deg"] < found["fitted_50/azimuth_mae_deg"] < found["fitted_10/azimuth_mae_deg"] + 5
    assert found["fitted_50/sense_share"] == 1.0
    assert found["elevation_mae_deg"] < found["chance_elevation_mae_deg"]
    assert found["sure_azimuth_mae_deg"] < found["open/azimuth_mae_deg"], "it knows what it does not know"
    assert found["open/flip_share"] < 0.35
    (told,) = (note for note in notes if note.startswith("zero and sense fitted to all"))
    assert "azimuth_sense=-1" in told
    assert abs(float(told.rpartition("=")[2]) - OFFSET_DEG) < 20
    assert 0 <= found["a_distance"] <= 0.5, "the domains are one"
    assert 0 < found["certainty"] < 1


SCRIPT = """
import sys
import numpy as np, tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
found = served.predict(np.load(sys.argv[2]))
assert "holotf" not in sys.modules
np.savez(sys.argv[3], **found)
"""


@pytest.mark.slow
def test_another_process_predicts_in_the_labels_own_zero_and_sense(trained, tmp_path):
    config, model = trained
    builder = data.open_sources(config.data)["target"].builder
    images, azimuth, _ = regressor.labelled(builder, "test", "azimuth_deg", "elevation_deg", count=100)
    read, elevation, confidence = (values.numpy() for values in model.poses(tf.constant(images)))
    config.export.azimuth_sense, config.export.azimuth_offset_deg = -1, OFFSET_DEG
    try:
        export(model, str(tmp_path / "saved_model"))
    finally:
        config.export.azimuth_sense, config.export.azimuth_offset_deg = 1, 0.0
    np.save(tmp_path / "images.npy", images)
    arguments = [sys.executable, "-c", SCRIPT, *(str(tmp_path / name) for name in ("saved_model", "images.npy", "out.npz"))]
    done = subprocess.run(arguments, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    out = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(out["azimuth_deg"], (OFFSET_DEG - read) % 360.0, atol=1e-2)
    np.testing.assert_allclose(out["elevation_deg"], elevation, atol=1e-3)
    np.testing.assert_allclose(out["confidence"], confidence, atol=1e-4)
    assert Fit(1, 0.0).error_deg(out["azimuth_deg"], azimuth).mean() < 60, "it is off in no one's zero"


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["pose_dann", "pose_pixelda"])
def test_a_run_is_trained_resumed_judged_exported(estimator, furniture, tmp_path):
    """In this process: eight iterations at once, and in two goes, end bit for bit alike."""
    weights = []
    changes = {"optim.decay_from": 1.0} | ({"loss.schedule": "constant"} if estimator == "pose_dann" else {})
    for name, stops in (("one", (0.064,)), ("two", (0.032, 0.064))):
        for kimg in stops:
            config = config_of(furniture, estimator, **changes, **{"train.kimg": kimg})
            config.evaluate.kimg = 0.032 if name == "two" else 0.0
            assert train.train(config, str(tmp_path / name)) == 0
        reader = tf.train.load_checkpoint(str(tmp_path / name / "checkpoints"))
        parts = (*models.build(config).PARTS, "progress")
        names = [key for key in reader.get_variable_to_shape_map() if key.startswith(parts)]
        weights.append({key: reader.get_tensor(key) for key in names})
    assert len(weights[0]) > 20
    for key, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][key], err_msg=key)
    assert (tmp_path / "two" / "best" / "metric.json").exists()
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())["metrics"]
    assert {"pose_estimate/certainty", "pose_estimate/a_distance", "pose_estimate/open/azimuth_mae_deg"} <= set(metrics)
    served = tf.saved_model.load(str(tmp_path / "two" / "saved_model"))
    told = served.predict(np.zeros((3, 32, 32, 3), np.uint8))
    assert {name: values.shape for name, values in told.items()} == dict.fromkeys(
        ("azimuth_deg", "elevation_deg", "confidence"), (3,)
    )


def test_data_without_poses_cannot_be_learnt_from_and_say_so(colours, furniture):
    config = config_of(colours)
    with pytest.raises(UserError, match=r"the model needs 'azimuth_deg', and .* has image, label"):
        data.check(data.open_sources(config.data), models.build(config).FEATURES, 32, 8)
    config.data.sources.source.dir = furniture
    metrics, notes, _ = evaluate.evaluate(models.build(config), config)
    assert set(metrics) == {"pose_estimate/certainty", "pose_estimate/a_distance"}
    assert f"no errors of poses: {colours} has no azimuth_deg and elevation_deg" in notes


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("evaluate.pose_labels", (1, 50), r"evaluate.pose_labels=\(1, 50\): use numbers of images, each 2 or more"),
        ("evaluate.pose_draws", 0, r"evaluate.pose_draws=0: use 1 or more"),
        ("export.azimuth_sense", 0, r"export.azimuth_sense=0: use 1 or -1"),
        ("export.azimuth_offset_deg", float("nan"), r"export.azimuth_offset_deg=nan: use -360 to 360"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(key, value, message):
    config = config_of(**{key: value})
    check, given = (evaluate.check, config.evaluate) if key.startswith("evaluate") else (models.build, config)
    with pytest.raises(UserError, match=message):
        check(given)


def test_the_bounds_are_of_one_config():
    found = {variant: pose_factory.get_config(variant) for variant in pose_factory.VARIANTS}
    assert {variant: config.train.domains for variant, config in found.items()} == pose_factory.VARIANTS
    assert found["generated"].model == found["real"].model == found["dann"].model
    assert found["pixelda"].model.name == "pose_pixelda"
    with pytest.raises(UserError, match=r"pose_factory:both: use one of generated, dann, pixelda, real"):
        pose_factory.get_config("both")


def test_labelled_images_are_not_mirrored():
    config = config_of()
    config.data.sources.target.flip = True
    models.build(config)
    config.data.sources.source.flip = True
    with pytest.raises(UserError, match=r"data.sources.source.flip=True: use False: a mirrored image has another azimuth"):
        models.build(config)
