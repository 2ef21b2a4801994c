"""What breaks a training off, data that go or a disk that is full, costs nothing that was trained; what can be said before, is."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import DCGAN, run, small_config, started

from holotf import checkpoints, data, models, run_folder
from holotf import train as loop
from holotf.checkpoints import Checkpoints
from holotf.errors import RunError, UserError


def replaced(shard, number, image):
    """Writes a shard anew with another image in one of its records."""
    examples = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(shard))]
    examples[number].features.feature["image"].bytes_list.value[:] = [image]
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for example in examples:
            writer.write(example.SerializeToString())


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_disk_that_fills_up_in_training_is_one_line_and_the_run_goes_on_when_there_is_room(squares, disk):
    folder, leave = disk
    leave(480_000)  # two checkpoints, and not the pictures beside them
    arguments = (*DCGAN, f"--config.data.dir={squares}", "--config.train.kimg=0.064")
    done = run(*arguments, "--config.train.sample_kimg=0.008", f"--workdir={folder}/run")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    latest = tf.train.latest_checkpoint(folder / "run" / "checkpoints")
    last = done.stderr.splitlines()[-1]
    assert re.search(rf"No space left on device, \d.\d MB are free, a checkpoint takes 0.2 MB; the last .* is {latest}$", last), (
        last
    )
    assert checkpoints.damage(latest) is None
    assert sorted(p.name for p in (folder / "run").iterdir()) == ["checkpoints", "config.json", "events"]
    (folder / "ballast").unlink()
    done = run(f"--workdir={folder}/run", "--config.train.sample_kimg=1")
    assert done.returncode == 0, done.stderr
    assert f"resumed from {latest}" in done.stdout


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_end_loses_no_training(squares, disk):
    folder, leave = disk
    config = small_config(squares)
    model = models.build(config)
    model.iteration.assign(model.iterations)
    last = Checkpoints(model, str(folder / "run")).save()
    run_folder.record(config, str(folder / "run"), data.open_sources(config.data))
    leave(900_000)  # for the pictures, and not for the export
    done = run(f"--workdir={folder}/run")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith(f"; the last whole checkpoint is {last}")
    assert (folder / "run" / "pictures").exists()
    assert not list((folder / "run").glob("*saved_model*"))
    assert checkpoints.damage(last) is None


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
