"""The judge as a whole, on small models and with a small extractor of its own."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import small_config

from holotf import evaluate, models, train
from holotf.checkpoints import Checkpoints
from holotf.errors import UserError
from holotf.evaluators.subject import Subject
from holotf.export import export
from holotf.run_folder import restore

# Keras saves its variables through NumPy in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning:keras.*")


@pytest.fixture
def config(squares, extractor, tmp_path):
    changes = {"extractor": extractor, "images": 90, "identities": 3, "views": 4, "cache": str(tmp_path / "cache"), "best": "fid"}
    return small_config(squares, **{f"evaluate.{k}": v for k, v in changes.items()})


def test_the_same_seed_gives_the_same_figures_and_another_does_not(config):
    model = models.build(config)
    metrics, notes, alarms = evaluate.evaluate(model, config)
    assert evaluate.evaluate(model, config) == (metrics, notes, alarms)
    assert {"kid/mean", "kid/std", "fid", "diversity", "identity/ratio", "identity/shuffled_ratio"} == set(metrics)
    assert any("no pose figures" in note for note in notes), "the squares have no labels"
    assert any("the data have no unseen split 'test'" in note for note in notes)
    assert not alarms
    config.seed = 1
    assert evaluate.evaluate(model, config)[0]["fid"] != metrics["fid"]


@pytest.mark.slow
def test_real_turntables_are_judged_beside_the_sweeps(config, squares):
    config.evaluate.turntables = "blocks --size 32 --turntable 4 --count 12 --workers 0"
    model = models.build(config)
    metrics, *_ = evaluate.evaluate(model, config)
    assert 0 < metrics["identity/real_ratio"] < 0.8 * metrics["identity/shuffled_ratio"], "chairs of three colours are told apart"
    (made,) = Path(config.evaluate.cache).glob("turntables-*")
    before = (made / "dataset_info.json").stat().st_mtime_ns
    assert evaluate.evaluate(model, config)[0] == metrics
    assert (made / "dataset_info.json").stat().st_mtime_ns == before, "they are drawn once"
    config.evaluate.turntables = "blocks --size 16 --turntable 4 --count 12 --workers 0"
    with pytest.raises(UserError, match=r"evaluate.turntables='blocks --size 16 .*' draws 16 px: add --size 32"):
        evaluate.evaluate(model, config)


def test_a_model_that_draws_one_image_sets_off_the_alarm(config, tmp_path, capsys):
    model = models.build(config)
    for v in model.ema_generator.variables:
        v.assign(0.0 * v)
    metrics = evaluate.in_training(model, config, str(tmp_path), 64)
    assert metrics["diversity"] == 0
    assert "COLLAPSE: made images are 0.00 times as diverse as real ones" in capsys.readouterr().err


def test_training_evaluates_records_and_keeps_the_best(config, tmp_path):
    config.evaluate.kimg = 0.032
    assert train.train(config, str(tmp_path)) == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [32, 64]
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"]["fid"] == lines[-1]["fid"]
    best = json.loads((tmp_path / "best" / "metric.json").read_text())
    assert best["value"] == min(line["fid"] for line in lines)
    iteration = 4 * (1 + int(np.argmin([line["fid"] for line in lines])))
    assert best["checkpoint"] == f"ckpt-{iteration}"
    model = models.build(config)
    assert Checkpoints(model, str(tmp_path / "best")).restore().endswith(f"ckpt-{iteration}")
    assert int(model.iteration.numpy()) == iteration


def test_an_evaluation_that_was_broken_off_is_made_up(config, tmp_path):
    config.evaluate.kimg = 0.032
    train.train(config, str(tmp_path))
    whole = (tmp_path / "metrics.jsonl").read_text()
    before = {name: (tmp_path / name).read_text() for name in ("metrics.json", "best/metric.json")}
    (tmp_path / "metrics.jsonl").write_text(whole.splitlines(keepends=True)[0])
    for name in before:
        (tmp_path / name).unlink()
    for _ in range(2):
        assert train.train(config, str(tmp_path)) == 0
        assert (tmp_path / "metrics.jsonl").read_text() == whole, "once"
    assert (tmp_path / "metrics.json").read_text() == before["metrics.json"]
    assert json.loads((tmp_path / "best" / "metric.json").read_text())["checkpoint"] == "ckpt-8"


@pytest.mark.parametrize("best", ["inversion/rmse", "probe/levels_accuracy", "pose/elevation_mae_deg", "pose/azimuth_mae_deg"])
def test_what_is_switched_off_is_no_best(config, furniture, best):
    config.data.dir, config.evaluate.best = str(furniture), best
    config.views.azimuth_deg, config.views.elevation_deg = (0.0, 90.0), (20.0, 20.0)
    model = models.build(config)
    with pytest.raises(
        UserError, match=f"evaluate.best='{best}' cannot be measured with .*: use one of kid/mean, fid, diversity, "
    ):
        evaluate.check_best(model, config)
    config.views.azimuth_deg, config.views.elevation_deg = (0.0, 360.0), (0.0, 40.0)
    config.evaluate.photos, config.evaluate.probe, config.evaluate.probe_label = 1, str(furniture), "kind"
    evaluate.check_best(models.build(config), config)


def test_images_that_were_trained_on_are_not_unseen(config):
    model = models.build(config)
    for trained, judged, unseen in (
        ("train", "train[90%:]", None),
        ("train[:90%]", "train[90%:]", "train[90%:]"),
        ("train[:90%]", "train[80%:]", None),
        ("train", "train[9", None),
    ):
        config.data.split, config.evaluate.split = trained, judged
        subject = Subject(model, config)
        assert subject.unseen_split == unseen
        assert subject.judged_splits == ([unseen] if unseen else []), "nor are those that read the labels judged on them"


def test_a_best_that_cannot_be_measured_is_said_before_the_training(config, tmp_path):
    config.evaluate.kimg, config.evaluate.best = 0.032, "accuracy/top1"
    with pytest.raises(UserError, match=r"evaluate.best='accuracy/top1' cannot be measured with .*: use one of .*kid/mean"):
        train.train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("probe", "/none", r"evaluate.probe='/none' is no data set"),
        ("extractor", "inception:none.h5", r"'none.h5' is not a file; set"),
        ("turntables", "blocks --size 16 --turntable 4 --count 12 --workers 0", r" draws 16 px: add --size 32"),
        ("turntables", "blocks --turntable 5 --count 12 --workers 0", r"evaluate.turntables=.*--turntable"),
    ],
)
def test_what_an_evaluation_would_lack_is_said_before_the_training(config, tmp_path, key, value, message):
    config.evaluate.kimg, config.evaluate[key] = 0.032, value
    with pytest.raises(UserError, match=message):
        train.train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    evaluate.check(config.evaluate)  # all that a training asks for which does not evaluate: it may be judged elsewhere


@pytest.mark.slow
def test_looking_at_the_settings_draws_nothing(config):
    """Turned on or off, evaluation in training leaves the first weights of a seed as they are."""
    keras.utils.set_random_seed(3)
    before = [weight.numpy() for weight in models.build(config).generator.weights]
    keras.utils.set_random_seed(3)
    evaluate.check(config.evaluate)
    for a, b in zip(before, models.build(config).generator.weights, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


@pytest.mark.slow
def test_an_export_is_judged_as_its_checkpoint_is(config, tmp_path):
    model = models.build(config)
    folder = export(model, str(tmp_path / "saved_model"))
    assert evaluate.evaluate(restore(config, folder), config) == evaluate.evaluate(model, config)
    config.model.gf = 2 * config.model.gf
    with pytest.raises(UserError, match=r"saved_model is of another architecture: weight 0 has shape \(.*\) there, \(.*\) here"):
        restore(config, folder)


def test_the_best_gives_way_only_to_a_better_one(squares, tmp_path):
    checkpoints = Checkpoints(models.build(small_config(squares)), str(tmp_path))
    checkpoints.save()
    kept = [checkpoints.keep_best("fid", v, min) for v in (3.0, 4.0, 3.0, 2.0)]
    assert kept == [True, False, False, True]
    assert [checkpoints.keep_best("diversity", v, max) for v in (0.5, 0.4, 0.6)] == [True, False, True], (
        "another metric starts anew"
    )
    assert not list(tmp_path.glob("*tmp*"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("images", 1, r"evaluate.images=1: use 2 or more"),
        ("kimg", -1.0, r"evaluate.kimg=-1: use 0 for none"),
        ("best", "beauty", r"evaluate.best='beauty': use one of accuracy/top1, cross_entropy, kid/mean, fid"),
        ("extractor", "eyes", r"evaluate.extractor='eyes': use efficientnet_lite0"),
    ],
)
def test_bad_settings_are_refused_before_the_training(config, tmp_path, key, value, message):
    config.evaluate.kimg = 0.032
    config.evaluate[key] = value
    with pytest.raises(UserError, match=message):
        train.train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
