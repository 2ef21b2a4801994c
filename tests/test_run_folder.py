"""What a run's folder promises: it says what made it, nobody else works in it, and damage is said, not overwritten."""

import glob
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import DCGAN, PUBLISHED, ROOT, SMALL, run, small_config, started, tree

from configs import base, of_run
from holotf import checkpoints, data, models, run_folder
from holotf import train as loop
from holotf.checkpoints import Checkpoints
from holotf.errors import RunError, UserError

BEFORE = ROOT / "tests" / "golden" / "run_0_1"


@pytest.fixture(scope="module")
def finished(squares, tmp_path_factory):
    """A run of eight iterations with checkpoints 4, 6 and 8."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    done = run(*DCGAN, f"--config.data.dir={squares}", "--config.train.kimg=0.064", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def refused(workdir, *arguments):
    """The one line with which a command ends, after which the folder is as it was."""
    before = tree(workdir)
    done = run(f"--workdir={workdir}", *arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert tree(workdir) == before
    return done.stderr.splitlines()[-1]


def test_a_run_says_what_made_it(finished, squares):
    told = json.loads((finished / "config.json").read_text())
    assert told["config"]["model"]["gf"] == 4
    assert told["command"][0] == "main.py"
    assert f"--config.data.dir={squares}" in told["command"]
    assert told["versions"]["tensorflow"] == tf.__version__
    assert set(told["versions"]) == {"holotf", "commit", "tensorflow", "keras", "numpy", "python"}
    assert told["machine"]["cores"] > 0
    assert set(told["machine"]) == {"cpu", "flags", "cores", "gpus"}
    (shard,) = Path(squares).glob("*.tfrecord*")
    assert told["data"]["splits"] == {"train": [96]}
    assert told["data"]["bytes"] == {"train": [shard.stat().st_size]}
    assert told["date"].endswith("+00:00")
    assert told["earlier"] == []
    assert run_folder.recorded(squares) is None


@pytest.mark.parametrize("name", base.SECTIONS)
def test_a_config_read_back_is_the_one_that_was_written(name, squares, tmp_path):
    config = base.get_config(name)
    config.seed, config.data.dir, config.generate.seeds = 5, squares, (3, 1, 4)
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


def garbage_json(path):
    path.write_text(json.dumps({"config": {}}))


def a_list(path):
    path.write_text("[1, 2]")


def test_a_config_that_is_damaged_is_said_and_a_way_on(copy, squares):
    """Once it is removed, the run is taken as one of the version before: with its config, which is then written."""
    path, way = copy / "config.json", "remove it, and give the experiment with --config"
    whole = path.read_bytes()
    for damage in (truncate, empty, garbage, garbage_json, a_list):
        path.write_bytes(whole)
        damage(path)
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
    arguments = (*DCGAN, f"--config.data.dir={squares}", "--config.train.kimg=0.4")
    process = started(*arguments, f"--workdir={tmp_path}/run")
    process.kill()
    process.communicate()
    resumed = run(f"--workdir={tmp_path}/run")
    assert resumed.returncode == 0, resumed.stderr
    reached = int(resumed.stdout.partition("ckpt-")[2].split()[0])
    assert 0 < reached < 50
    assert len(json.loads((tmp_path / "run" / "config.json").read_text())["earlier"]) == 1
    assert run(*arguments, f"--workdir={tmp_path}/straight").returncode == 0
    a, b = (tf.train.load_checkpoint(str(tmp_path / name / "checkpoints" / "ckpt-50")) for name in ("run", "straight"))
    names = [n for n in a.get_variable_to_shape_map() if n.endswith("VARIABLE_VALUE")]
    assert any(n.startswith("g_optimizer") for n in names)
    assert [n for n in names if not np.array_equal(a.get_tensor(n), b.get_tensor(n))] == []


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


def truncate(path):
    os.truncate(path, os.path.getsize(path) // 2)


def empty(path):
    os.truncate(path, 0)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def garbage(path):
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [truncate, empty, flip, garbage, os.unlink])
@pytest.mark.parametrize("file", ["checkpoint", "ckpt-8.index", "ckpt-8.data-00000-of-00001"])
def test_damage_is_said_and_nothing_is_overwritten(copy, squares, damage, file):
    """The newest whole one is named, and goes on from there."""
    if (damage, file) == (flip, "checkpoint"):
        pytest.skip("a flipped byte of a text may leave it readable")
    damage(copy / "checkpoints" / file)
    config = small_config(squares, **{"model.name": "dcgan", "train.checkpoint_kimg": 0.016, "train.kimg": 0.064})
    before = tree(copy / "checkpoints")
    newest = "ckpt-8" if file == "checkpoint" else "ckpt-6"
    with pytest.raises(UserError, match=rf"checkpoint.* newest whole one is {newest}; go on .*--config.train.resume_from={newest}"):
        Checkpoints(models.build(config), str(copy)).restore()
    assert tree(copy / "checkpoints") == before
    model = models.build(config)
    assert Checkpoints(model, str(copy)).restore(newest).endswith(newest)
    assert int(model.iteration.numpy()) == int(newest.partition("-")[2])


def test_a_damaged_run_goes_on_from_the_checkpoint_that_is_named(copy, finished):
    truncate(copy / "checkpoints" / "ckpt-8.index")
    assert "is damaged" in refused(copy)
    assert "train.resume_from='ckpt-7': use one of ckpt-4, ckpt-6, ckpt-8" in refused(copy, "--config.train.resume_from=ckpt-7")
    done = run(f"--workdir={copy}", "--config.train.resume_from=ckpt-6")
    assert done.returncode == 0, done.stderr
    assert f"resumed from {copy}/checkpoints/ckpt-6" in done.stdout
    readers = [tf.train.load_checkpoint(str(folder / "checkpoints" / "ckpt-8")) for folder in (copy, finished)]
    for name in readers[0].get_variable_to_shape_map():
        if name.startswith("generator/"):
            np.testing.assert_array_equal(*(r.get_tensor(name) for r in readers))
    assert run(f"--workdir={copy}").returncode == 0, "the name was for that start alone"


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, empty, flip, garbage, os.unlink])
@pytest.mark.parametrize("file", ["checkpoint", "ckpt-8.index", "ckpt-8.data-00000-of-00001"])
def test_damage_is_one_line_at_the_command_line(copy, damage, file):
    if (damage, file) == (flip, "checkpoint"):
        pytest.skip("a flipped byte of a text may leave it readable")
    damage(copy / "checkpoints" / file)
    newest = "ckpt-8" if file == "checkpoint" else "ckpt-6"
    for mode in ("train", "generate"):
        assert f"go on from it with --config.train.resume_from={newest}" in refused(copy, f"--mode={mode}")


@pytest.mark.parametrize("left", ["*.data*", "checkpoint"])
def test_all_checkpoints_damaged(copy, squares, left):
    """Their data alone are left, or the file alone that names them."""
    kept = set(copy.glob(f"checkpoints/{left}"))
    for path in set(copy.glob("checkpoints/*")) - kept:
        path.unlink()
    with pytest.raises(UserError, match="no whole checkpoint is left; give another --workdir"):
        Checkpoints(models.build(small_config(squares, **{"model.name": "dcgan"})), str(copy)).restore()


def test_where_an_older_one_was_gone_on_from_it_is_kept_and_those_after_it_go(copy):
    model = models.build(of_run.get_config(copy))
    kept = Checkpoints(model, str(copy), keep=2)
    kept.restore("ckpt-4")
    model.iteration.assign(5)
    kept.save()
    assert [p.rpartition("/")[2] for p in kept.found()] == ["ckpt-4", "ckpt-5"]
    assert kept.restore().endswith("ckpt-5")


def test_a_kill_before_a_checkpoint_counts_leaves_the_one_before(squares, tmp_path, monkeypatch):
    """It lies in a folder of its own until it was read back."""
    model = models.build(small_config(squares))
    kept = Checkpoints(model, str(tmp_path))

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", lambda *a, **k: None)  # what is killed clears nothing away
    monkeypatch.setattr(checkpoints, "damage", killed)
    with pytest.raises(KeyboardInterrupt):
        kept.save()
    monkeypatch.undo()
    assert kept.restore() is None, "the first was being written: a beginning"
    first = kept.save()
    model.iteration.assign(1)
    monkeypatch.setattr(shutil, "rmtree", lambda *a, **k: None)
    monkeypatch.setattr(checkpoints, "damage", killed)
    with pytest.raises(KeyboardInterrupt):
        kept.save()
    monkeypatch.undo()
    assert (kept.found(), kept.restore()) == ([first], first)
    model.iteration.assign(1)
    kept.save()
    assert len(kept.found()) == 2
    assert sorted(os.listdir(kept.folder))[0] == "checkpoint", "what was left is cleared away"


def test_what_was_written_is_read_back_before_older_ones_go(squares, tmp_path, monkeypatch):
    model = models.build(small_config(squares))
    kept = Checkpoints(model, str(tmp_path), keep=1)
    first = kept.save()
    model.iteration.assign(1)
    monkeypatch.setattr(checkpoints, "damage", lambda path: checkpoints.Damage(path, "a bit fell over"))
    with pytest.raises(RunError, match=rf"ckpt-1 was written and cannot be read back \(a bit fell over\); .* is {first}"):
        kept.save()
    monkeypatch.undo()
    assert checkpoints.damage(first) is None
    assert Checkpoints(model, str(tmp_path)).restore() == first
    model.iteration.assign(1)
    kept.save()
    assert not glob.glob(f"{first}.*"), "one is kept"


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


def replaced(shard, number, image):
    """Writes a shard anew with another image in one of its records."""
    examples = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(shard))]
    examples[number].features.feature["image"].bytes_list.value[:] = [image]
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for example in examples:
            writer.write(example.SerializeToString())


def test_a_shard_that_goes_in_training_costs_nothing_that_was_trained(squares, tmp_path):
    """And once it is back, the run goes on by its workdir alone."""
    folder = Path(shutil.copytree(squares, tmp_path / "squares"))
    (shard,) = folder.glob("*.tfrecord*")
    arguments = (*DCGAN, f"--config.data.dir={folder}", "--config.train.checkpoint_kimg=0.4")
    process = started(*arguments, "--config.train.kimg=80", f"--workdir={tmp_path}/run")
    shard.rename(tmp_path / "aside")
    text, code = process.communicate(timeout=300)[0], process.returncode
    assert code == 2, text
    assert "Traceback" not in text
    last = text.splitlines()[-1]
    assert last.startswith(f"error: {shard} is gone: copy it again from its source, or prepare {folder} again; {tmp_path}/run/")
    assert last.endswith(" was written, the same command then goes on from it")
    latest = tf.train.latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert latest in last
    assert checkpoints.damage(latest) is None
    (tmp_path / "aside").rename(shard)
    reached = int(latest.rpartition("-")[2])
    assert reached % 50, "it was not the one of the fiftieth iteration"
    done = run(f"--workdir={tmp_path}/run", f"--config.train.kimg={(reached + 1) * 0.008}")
    assert done.returncode == 0, done.stderr
    assert f"resumed from {latest}" in done.stdout


@pytest.mark.parametrize("shape", [None, (16, 16, 3)])
def test_a_bad_record_of_the_first_batch_is_said_too(squares, tmp_path, shape):
    folder = Path(shutil.copytree(squares, tmp_path / "squares"))
    (shard,) = folder.glob("*.tfrecord*")
    replaced(shard, 1, b"not an image" if shape is None else tf.io.encode_png(np.zeros(shape, np.uint8)).numpy())
    what = "holds no image in record 1" if shape is None else r"holds an image of shape \(16, 16, 3\) in record 1"
    with pytest.raises(UserError, match=rf"{shard.name} {what}: copy it .*; the last whole checkpoint is none yet"):
        loop.train(small_config(folder, **{"data.shuffle_buffer": 1}), str(tmp_path / "run"))
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("what", ["gone", "no image"])
def test_data_that_break_in_training_cost_nothing_that_was_trained(squares, tmp_path, monkeypatch, what):
    """A checkpoint is written, then one line says which shard, or which record."""
    folder = Path(shutil.copytree(squares, tmp_path / "squares"))
    (shard,) = folder.glob("*.tfrecord*")
    config = small_config(
        folder, **{"train.kimg": 8.0, "train.checkpoint_kimg": 8.0, "data.shuffle_buffer": 1, "train.sample_kimg": 8.0}
    )
    if what == "no image":
        replaced(shard, 60, b"not an image")
        expected = rf"{shard.name} holds no image in record 60: copy it again"
    else:
        settle = loop._settle
        monkeypatch.setattr(loop, "_settle", lambda *a: shard.unlink(missing_ok=True) or settle(*a))  # after the first iteration
        expected = rf"{shard.name} is gone: copy it again"
    with pytest.raises(UserError, match=expected + r".*ckpt-\d+ was written, the same command then goes on from it"):
        loop.train(config, str(tmp_path / "run"))
    latest = tf.train.latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoints.damage(latest) is None
    assert not (tmp_path / "run" / "lock.json").exists()


@pytest.fixture
def disk(tmp_path):
    """A disk of 24 MiB, and a function that leaves so many bytes of it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: that takes root and the right to mount")

    def leave(free):
        (folder / "ballast").unlink(missing_ok=True)
        (folder / "ballast").write_bytes(bytes(shutil.disk_usage(folder).free - free))

    yield folder, leave
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_the_last_whole_checkpoint(squares, disk):
    folder, leave = disk
    model = models.build(small_config(squares))
    kept = Checkpoints(model, str(folder / "run"))
    first = kept.save()
    leave(100_000)
    model.iteration.assign(1)
    said = r"No space left on device, 0.\d MB are free, a checkpoint takes 0.6 MB; the last whole checkpoint is"
    with pytest.raises(RunError, match=rf"ckpt-1 could not be written: {said} {first}"):
        kept.save()
    with pytest.raises(RunError, match=rf"run: {said} {first}"):
        kept.check_room()
    assert tf.train.latest_checkpoint(folder / "run" / "checkpoints") == first
    assert checkpoints.damage(first) is None
    assert kept.found() == [first]
    assert sorted(os.listdir(kept.folder)) == ["checkpoint", "ckpt-0.data-00000-of-00001", "ckpt-0.index"], "what was begun is gone"


def test_a_disk_that_fills_up_in_training_is_one_line_and_the_run_goes_on_when_there_is_room(squares, disk):
    folder, leave = disk
    leave(1_700_000)  # two checkpoints, and not the pictures beside them
    arguments = ("--config=configs/base.py", *SMALL, f"--config.data.dir={squares}", "--config.train.kimg=0.064")
    done = run(*arguments, "--config.train.sample_kimg=0.008", f"--workdir={folder}/run")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    latest = tf.train.latest_checkpoint(folder / "run" / "checkpoints")
    last = done.stderr.splitlines()[-1]
    assert re.search(rf"No space left on device, \d.\d MB are free, a checkpoint takes 0.6 MB; the last .* is {latest}$", last), (
        last
    )
    assert checkpoints.damage(latest) is None
    assert sorted(p.name for p in (folder / "run").iterdir()) == ["checkpoints", "config.json", "events"]
    (folder / "ballast").unlink()
    done = run(f"--workdir={folder}/run", "--config.train.sample_kimg=1")
    assert done.returncode == 0, done.stderr
    assert f"resumed from {latest}" in done.stdout


def test_a_disk_that_is_full_at_the_end_loses_no_training(copy, disk):
    folder, leave = disk
    shutil.copytree(copy, folder / "run", ignore=shutil.ignore_patterns("pictures", "saved_model", "ckpt-4*", "ckpt-6*"))
    leave(800_000)  # for the pictures, and not for the export
    done = run(f"--workdir={folder}/run")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith(f"; the last whole checkpoint is {folder}/run/checkpoints/ckpt-8")
    assert not list((folder / "run").glob("*saved_model*"))


def test_what_stands_in_the_way_of_the_end_is_said_at_the_start(squares, tmp_path):
    (tmp_path / "saved_model").write_text("mine")
    with pytest.raises(UserError, match=r"saved_model is no folder, and the run is to make one there: move it, or give another"):
        loop.train(small_config(squares), str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["saved_model"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("generate.seeds", (), r"generate.seeds=\(\): use one or more whole numbers"),
        ("generate.seeds", (-1,), r"generate.seeds=\(-1,\): use one or more whole numbers"),
        ("generate.frames", 0, r"generate.frames=0: use 2 to 10000"),
        ("generate.frames", 1, r"generate.frames=1: use 2 to 10000"),
        ("evaluate.images", 1, r"evaluate.images=1: use 2 or more"),
    ],
)
def test_what_the_end_needs_is_checked_at_the_start(squares, tmp_path, key, value, message):
    with pytest.raises(UserError, match=message):
        loop.train(small_config(squares, **{key: value}), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
