"""What a run's folder promises: it says what made it, what is other than it was is refused, and nobody else works in it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import DCGAN, PUBLISHED, ROOT, SMALL, refused, run, small_config, started

from configs import base, of_run
from holotf import data, models, native, run_folder
from holotf.checkpoints import Checkpoints
from holotf.errors import UserError

BEFORE = ROOT / "tests" / "golden" / "run_0_1"


def test_a_run_says_what_made_it(finished, squares):
    told = json.loads((finished / "config.json").read_text())
    assert told["config"]["model"]["gf"] == 4
    assert told["command"][0] == "main.py"
    assert f"--config.data.dir={squares}" in told["command"]
    assert told["versions"]["tensorflow"] == tf.__version__
    assert set(told["versions"]) == {"holotf", "commit", "tensorflow", "keras", "numpy", "python"}
    assert told["machine"]["cores"] > 0
    assert set(told["machine"]) == {"cpu", "flags", "cores", "kernels", "gpus"}
    assert told["machine"]["kernels"] == native.described()
    (shard,) = Path(squares).glob("*.tfrecord*")
    assert told["data"]["splits"] == {"train": [96]}
    assert told["data"]["bytes"] == {"train": [shard.stat().st_size]}
    assert told["date"].endswith("+00:00")
    assert told["earlier"] == []
    assert run_folder.recorded(squares) is None


@pytest.mark.parametrize("name", base.SECTIONS)
def test_a_config_read_back_is_the_one_that_was_written(name, squares, tmp_path):
    config = base.get_config(name)
    config.seed, config.generate.seeds = 5, (3, 1, 4)
    for source in config.data.sources.values() or [config.data]:
        source.dir = squares
    run_folder.record(config, str(tmp_path), data.open_sources(config.data))
    read = of_run.get_config(str(tmp_path))
    assert read.to_dict() == config.to_dict()
    assert isinstance(read.generate.seeds, tuple)
    assert read.to_dict()["train"].get("d_steps", ((0.0, 1),)) == ((0.0, 1),)
    told = json.loads((tmp_path / "config.json").read_text())
    del told["config"]["train"]["keep_checkpoints"]  # as if it had come into being since then
    (tmp_path / "config.json").write_text(json.dumps(told))
    assert of_run.get_config(str(tmp_path)).to_dict() == config.to_dict()
    run_folder.reconcile(config, str(tmp_path))


def test_what_came_of_a_run_knows_it_too(copy, tmp_path):
    """Its export; its best, wherever that is taken; the export of its best."""
    config = run_folder.recorded(copy)["config"]
    assert run_folder.recorded(copy / "saved_model")["config"] == config
    assert run_folder.recorded(copy / "pictures") is None
    kept = Checkpoints(models.build(of_run.get_config(copy)), str(copy))
    assert kept.keep_best("fid", 1.0, min, beside=("config.json",))
    assert sorted(p.name for p in (copy / "best").iterdir()) == ["checkpoints", "config.json", "metric.json"]
    best = (copy / "best").rename(tmp_path / "elsewhere")
    assert run(f"--workdir={best}", "--mode=export").returncode == 0
    assert run_folder.recorded(best / "saved_model")["config"] == config
    done = run("--workdir", best / "saved_model", "--mode=generate")
    assert done.returncode == 0, done.stderr
    assert (best / "saved_model" / "pictures" / "samples.png").exists()


def test_a_config_that_is_damaged_is_said_and_a_way_on(copy, squares):
    """Once it is removed, the run is taken as one of the version before: with its config, which is then written."""
    path, way = copy / "config.json", "remove it, and give the experiment with --config"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", np.random.default_rng(0).bytes(len(whole)), b'{"config": {}}', b"[1, 2]"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"config.json cannot be read \(.*\): {way}"):
            of_run.get_config(str(copy))
    assert way in refused(copy)
    assert way in refused(copy, *DCGAN, f"--config.data.dir={squares}")
    path.unlink()
    assert "has no config.json" in refused(copy)
    done = run(f"--workdir={copy}", *DCGAN, f"--config.data.dir={squares}", "--config.train.kimg=0.08")
    assert done.returncode == 0, done.stderr
    assert "resumed from" in done.stdout
    assert run_folder.recorded(copy)["config"]["train"]["kimg"] == 0.08


def test_killed_and_resumed_by_the_workdir_alone_equals_uninterrupted_bit_for_bit(squares, tmp_path):
    arguments = (*DCGAN, f"--config.data.dir={squares}", "--config.train.kimg=0.24")
    process = started(*arguments, f"--workdir={tmp_path}/run")
    process.kill()
    process.communicate()
    resumed = run(f"--workdir={tmp_path}/run")
    assert resumed.returncode == 0, resumed.stderr
    reached = int(resumed.stdout.partition("ckpt-")[2].split()[0])
    assert 0 < reached < 30
    assert len(json.loads((tmp_path / "run" / "config.json").read_text())["earlier"]) == 1
    assert run(*arguments, f"--workdir={tmp_path}/straight").returncode == 0
    a, b = (tf.train.load_checkpoint(str(tmp_path / name / "checkpoints" / "ckpt-30")) for name in ("run", "straight"))
    names = [n for n in a.get_variable_to_shape_map() if n.endswith("VARIABLE_VALUE")]
    assert any(n.startswith("g_optimizer") for n in names)
    assert [n for n in names if not np.array_equal(a.get_tensor(n), b.get_tensor(n))] == []


@pytest.mark.slow
def test_the_workdir_alone_is_enough(copy):
    """To go on, for longer; the change is said, the rest is as it was."""
    done = run(f"--workdir={copy}", "--config.train.kimg=0.08")
    assert done.returncode == 0, done.stderr
    assert "train.kimg: 0.064 -> 0.08" in done.stdout
    assert f"resumed from {copy}/checkpoints/ckpt-8" in done.stdout
    assert "train.log_kimg" not in done.stdout
    assert tf.train.latest_checkpoint(copy / "checkpoints").endswith("ckpt-10")
    told = json.loads((copy / "config.json").read_text())
    assert told["config"]["train"]["kimg"] == 0.08
    assert [len(start["command"]) > 3 for start in told["earlier"]] == [True], "how it was begun is not forgotten"
    for mode in ("generate", "export"):
        shutil.rmtree(copy / "saved_model", ignore_errors=True)
        assert run(f"--workdir={copy}", f"--mode={mode}").returncode == 0


def test_what_would_make_it_another_experiment_is_refused(copy, squares):
    line = refused(copy, "--config.model.gf=8", "--config.train.batch_size=16")
    assert line.startswith(f"error: {copy} is another experiment: ")
    assert "model.gf was 4, is 8" in line
    assert "train.batch_size was 8, is 16" in line
    assert "give it as it was, or another --workdir" in line
    for change in (
        {"optim.g_lr": 1e-5},
        {"optim.decay_from": 0.9},
        {"seed": 1},
        {"loss.lambda_gp": 1.0},
        {"train.d_steps": ((0.0, 2),)},
    ):
        config = of_run.get_config(copy)
        with config.ignore_type():
            config.update_from_flattened_dict(change)
        with pytest.raises(UserError, match=rf"is another experiment: {next(iter(change))} was .*, is "):
            run_folder.reconcile(config, str(copy))
    other = shutil.copytree(squares, copy.parent / "other")
    assert run(f"--workdir={copy}", f"--config.data.dir={other}").returncode == 0, "the same data elsewhere"
    info = json.loads((other / "dataset_info.json").read_text())
    (other / "dataset_info.json").write_text(json.dumps(info | {"description": "others"}))
    assert "with other contents" in refused(copy, f"--config.data.dir={other}")
    config = of_run.get_config(copy)
    config.data.dir = str(other)
    with pytest.raises(UserError, match=r"data.dir was '.* as it was', is '.* with other contents'"):
        run_folder.restore(config, str(copy))
    run_folder.restore(config, str(copy), judged=False)  # pictures and exports do without the data


def test_a_run_of_which_nothing_was_trained_binds_nothing(copy, squares):
    """A first start that failed has recorded a config; what is started next may be any other."""
    config = small_config(squares, **{"model.name": "dcgan", "model.gf": 8})
    with pytest.raises(UserError, match=r"is another experiment: .*model.gf was 4, is 8"):
        run_folder.reconcile(config, str(copy))
    for folder in ("checkpoints", "saved_model"):
        shutil.rmtree(copy / folder)
    run_folder.reconcile(config, str(copy))


def test_each_of_several_data_sets_has_to_be_what_it_was(squares, tmp_path):
    config = small_config()
    one = {key: value for key, value in config.data.items() if key != "sources"}
    other = shutil.copytree(squares, tmp_path / "other")
    with config.data.unlocked():
        config.data.sources = {"a": one | {"dir": squares}, "b": one | {"dir": str(other)}}
    run_folder.record(config, str(tmp_path), data.open_sources(config.data))
    (tmp_path / "saved_model").mkdir()  # something was trained
    moved = other.rename(tmp_path / "moved")
    config.data.sources.b.dir = str(moved)
    run_folder.reconcile(config, str(tmp_path), data.open_sources(config.data))
    info = json.loads((moved / "dataset_info.json").read_text())
    (moved / "dataset_info.json").write_text(json.dumps(info | {"description": "others"}))
    with pytest.raises(
        UserError, match=r"another experiment: data.sources.b.dir was '.*other as it was', is '.*moved with other contents'"
    ):
        run_folder.reconcile(config, str(tmp_path), data.open_sources(config.data))


@pytest.mark.slow
def test_a_run_of_version_0_1_goes_on(squares, tmp_path):
    """It has no config.json: with its config it is taken as before, weight for weight, the optimizers' state too."""
    workdir = shutil.copytree(BEFORE, tmp_path / "run")
    widths = dict.fromkeys(("model.gf", "model.df", "model.z_dim"), 2)
    model = models.build(small_config(**PUBLISHED | widths, **{"loss.lambda_style": 1.0}))
    assert Checkpoints(model, str(workdir)).restore().endswith("ckpt-2")
    assert int(model.iteration.numpy()) == 2
    reader = tf.train.load_checkpoint(str(BEFORE / "checkpoints"))
    saved = {n.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE") for n in reader.get_variable_to_shape_map()}
    for part in model.PARTS:
        names = sorted(n for n in saved if n.startswith(f"{part}/"))
        assert len(names) == len(getattr(model, part).variables)
        for name, variable in zip(names, getattr(model, part).variables, strict=True):
            np.testing.assert_array_equal(variable.numpy(), reader.get_tensor(f"{name}/.ATTRIBUTES/VARIABLE_VALUE"), err_msg=name)
    wanted = np.load(BEFORE / "images.npy").astype(int)
    apart, by_chance = (
        np.abs(m.sample(*m.draw(2, [0, 0])).numpy().astype(int) - wanted) for m in (model, models.build(model.config))
    )
    # They are of a network of two iterations, nearly grey: of other weights no pixel is far off, either, but many are off.
    assert apart.max() <= 1
    assert np.mean(apart > 0) < 0.02
    assert np.mean(by_chance > 0) > 0.2
    line = refused(workdir)
    assert "has no config.json (it is no run, or one of version 0.1): give the experiment with --config" in line
    small = [a for a in SMALL if not a.startswith(("--config.model.gf", "--config.model.df", "--config.model.z_dim"))]
    given = [
        "--config=configs/base.py:published",
        *small,
        *(f"--config.{key}=2" for key in widths),
        "--config.loss.lambda_style=1.0",
    ]
    done = run(f"--workdir={workdir}", *given, f"--config.data.dir={squares}", "--config.train.kimg=0.032")
    assert done.returncode == 0, done.stderr
    assert f"resumed from {workdir}/checkpoints/ckpt-2" in done.stdout
    assert run_folder.recorded(workdir)["config"]["model"]["gf"] == 2


@pytest.mark.slow
def test_two_trainings_in_one_folder_are_refused(squares, tmp_path):
    """And the lock of one that was killed gives way without a word."""
    arguments = (
        *DCGAN,
        f"--config.data.dir={squares}",
        "--config.train.kimg=8",
        f"--workdir={tmp_path}/run",
    )
    first = started(*arguments)
    second = run(*arguments)
    assert second.returncode == 2
    last = second.stderr.splitlines()[-1]
    assert last == f"error: {tmp_path}/run is in use by process {first.pid}: wait for it, stop it, or give another --workdir"
    first.kill()
    first.communicate()
    assert (tmp_path / "run" / "lock.json").exists()
    reached = int(tf.train.latest_checkpoint(tmp_path / "run" / "checkpoints").rpartition("-")[2])
    again = run(*arguments, f"--config.train.kimg={(reached + 1) * 0.008}")
    assert again.returncode == 0, again.stderr
    assert not list((tmp_path / "run").glob("lock*"))


def test_a_run_is_read_without_its_data_where_its_classes_are_named(colours, tmp_path):
    """Its data told it how long an epoch is and what the classes are called."""
    changes = {"model.name": "classifier", "model.classes": (), "optim.decay_epochs": 1.0}
    config, workdir = small_config(colours, **changes), tmp_path / "run"
    workdir.mkdir()
    model = models.build(config)
    run_folder.record(config, str(workdir), data.open_sources(config.data))
    Checkpoints(model, str(workdir)).save()
    config.data.dir = str(tmp_path / "gone")
    with pytest.raises(UserError, match="or name the classes here"):
        run_folder.restore(config, str(workdir), judged=False)
    config.model.classes = tuple(model.class_names)
    read = run_folder.restore(config, str(workdir), judged=False)
    for a, b in zip(read.network.weights, model.network.weights, strict=True):
        np.testing.assert_array_equal(a, b)
