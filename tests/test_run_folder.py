"""What a run's folder promises: it says what made it, nobody else works in it, and damage is said, not overwritten."""

import glob
import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import PUBLISHED, ROOT, SMALL, command, run, small_config

from holotf import checkpoints, models, run_folder
from holotf import train as loop
from holotf.checkpoints import Checkpoints
from holotf.errors import UserError

BEFORE = ROOT / "tests" / "golden" / "run_0_1"


def tree(folder):
    """{path: digest of the content} of all files in a folder."""
    files = (p for p in Path(folder).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def finished(squares, tmp_path_factory):
    """A run of eight iterations with checkpoints 4, 6 and 8."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    done = run(
        "--config=configs/base.py", *SMALL, f"--config.data.dir={squares}", "--config.train.kimg=0.064", f"--workdir={workdir}"
    )
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
    assert told["versions"]["tensorflow"] == tf.__version__
    assert told["machine"]["cores"] > 0
    assert told["data"]["splits"] == {"train": [96]}
    assert run_folder.recorded(finished)["config"]["views"]["azimuth_deg"] == (0.0, 360.0), "tuples come back as tuples"
    assert run_folder.recorded(finished / "saved_model")["config"] == run_folder.recorded(finished)["config"]
    assert run_folder.recorded(squares) is None


def test_the_workdir_alone_is_enough(copy):
    """To go on, for longer; the change is said, the rest is as it was."""
    done = run(f"--workdir={copy}", "--config.train.kimg=0.08")
    assert done.returncode == 0, done.stderr
    assert "train.kimg: 0.064 -> 0.08" in done.stdout
    assert f"resumed from {copy}/checkpoints/ckpt-8" in done.stdout
    assert tf.train.latest_checkpoint(copy / "checkpoints").endswith("ckpt-10")
    assert json.loads((copy / "config.json").read_text())["config"]["train"]["kimg"] == 0.08
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


def test_a_run_of_version_0_1_goes_on(tmp_path):
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
    line = refused(workdir)
    assert "has no config.json (it is no run, or one of version 0.1): give the experiment with --config" in line


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


@pytest.fixture(scope="module")
def model(squares):
    return models.build(small_config(squares))


@pytest.mark.parametrize("damage", [truncate, empty, flip, garbage, os.unlink])
@pytest.mark.parametrize("file", ["checkpoint", "ckpt-8.index", "ckpt-8.data-00000-of-00001"])
def test_damage_is_said_and_nothing_is_overwritten(copy, model, damage, file):
    """The newest whole one is named, and goes on from there."""
    if (damage, file) == (flip, "checkpoint"):
        pytest.skip("a flipped byte of a text may leave it readable")
    damage(copy / "checkpoints" / file)
    before = tree(copy / "checkpoints")
    newest = "ckpt-8" if file == "checkpoint" else "ckpt-6"
    with pytest.raises(UserError, match=rf"checkpoint.* newest whole one is {newest}; go on .*--config.train.resume_from={newest}"):
        Checkpoints(model, str(copy)).restore()
    assert tree(copy / "checkpoints") == before
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


def test_all_checkpoints_damaged(copy, model):
    for index in glob.glob(f"{copy}/checkpoints/*.index"):
        os.unlink(index)
    with pytest.raises(UserError, match="no whole checkpoint is left; give another --workdir"):
        Checkpoints(model, str(copy)).restore()


def test_what_was_written_is_read_back_before_older_ones_go(model, tmp_path, monkeypatch):
    model.iteration.assign(0)
    kept = Checkpoints(model, str(tmp_path), keep=1)
    first = kept.save()
    model.iteration.assign(1)
    monkeypatch.setattr(checkpoints, "damage", lambda path: checkpoints.Damage(path, "a bit fell over"))
    with pytest.raises(checkpoints.RunError, match=rf"ckpt-1 was written and cannot be read back \(a bit fell over\): .* {first}"):
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
        "--config=configs/base.py",
        *SMALL,
        f"--config.data.dir={squares}",
        "--config.train.kimg=8",
        f"--workdir={tmp_path}/run",
    )
    first = subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 300
    while not (tmp_path / "run" / "checkpoints" / "checkpoint").exists() and time.monotonic() < deadline:
        assert first.poll() is None
        time.sleep(0.1)
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


def test_a_lock_of_another_host_or_of_a_pid_that_was_given_again(tmp_path):
    lock = tmp_path / "lock.json"
    mine = {"pid": os.getppid(), "host": run_folder.socket.gethostname(), "started": 1}  # a living process, started at another time
    lock.write_text(json.dumps(mine))
    with run_folder.locked(str(tmp_path)):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    lock.write_text(json.dumps(mine | {"host": "elsewhere"}))
    with pytest.raises(UserError, match=r"is in use by process \d+ on elsewhere \(if that is gone, remove .*lock.json\)"):
        run_folder.locked(str(tmp_path)).__enter__()
    lock.write_text("no lock")
    with pytest.raises(UserError, match=r"lock.json cannot be read: remove it if nothing works in its folder"):
        run_folder.locked(str(tmp_path)).__enter__()


@pytest.mark.parametrize("what", ["gone", "no image"])
def test_data_that_break_in_training_cost_nothing_that_was_trained(squares, tmp_path, monkeypatch, what):
    """A checkpoint is written, then one line says which shard, or which record."""
    folder = Path(shutil.copytree(squares, tmp_path / "squares"))
    (shard,) = folder.glob("*.tfrecord*")
    config = small_config(
        folder, **{"train.kimg": 8.0, "train.checkpoint_kimg": 8.0, "data.shuffle_buffer": 1, "train.sample_kimg": 8.0}
    )
    if what == "no image":
        examples = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(shard))]
        examples[60].features.feature["image"].bytes_list.value[:] = [b"not an image"]
        with tf.io.TFRecordWriter(str(shard)) as writer:
            for example in examples:
                writer.write(example.SerializeToString())
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


def test_a_full_disk_leaves_the_last_whole_checkpoint(model, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        model.iteration.assign(0)
        kept = Checkpoints(model, str(disk / "run"))
        first = kept.save()
        (disk / "ballast").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 100_000))
        model.iteration.assign(1)
        with pytest.raises(checkpoints.RunError, match=rf"no space left: a checkpoint takes \d+ MB, 0 MB are free; .* {first}"):
            kept.save()
        assert tf.train.latest_checkpoint(disk / "run" / "checkpoints") == first
        assert checkpoints.damage(first) is None
        assert kept.found() == [first], "what was begun is gone"
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("generate.seeds", (), r"generate.seeds=\(\): use one or more whole numbers"),
        ("generate.seeds", (-1,), r"generate.seeds=\(-1,\): use one or more whole numbers"),
        ("generate.frames", 0, r"generate.frames=0: use 2 to 10000"),
        ("evaluate.images", 1, r"evaluate.images=1: use 2 or more"),
    ],
)
def test_what_the_end_needs_is_checked_at_the_start(squares, tmp_path, key, value, message):
    with pytest.raises(UserError, match=message):
        loop.train(small_config(squares, **{key: value}), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
