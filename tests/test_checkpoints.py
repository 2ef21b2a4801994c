"""Checkpoints: damage is said and not overwritten, what was written is read back, and an older one is gone on from by name."""

import glob
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import refused, run, small_config, tree

from configs import of_run
from holotf import checkpoints, models
from holotf.checkpoints import Checkpoints
from holotf.errors import RunError, UserError


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
    model, before = models.build(config), tree(copy / "checkpoints")
    newest = "ckpt-8" if file == "checkpoint" else "ckpt-6"
    with pytest.raises(UserError, match=rf"checkpoint.* newest whole one is {newest}; go on .*--config.train.resume_from={newest}"):
        Checkpoints(model, str(copy)).restore()
    assert tree(copy / "checkpoints") == before
    assert Checkpoints(model, str(copy)).restore(newest).endswith(newest)
    assert int(model.iteration.numpy()) == int(newest.partition("-")[2])


@pytest.mark.slow
def test_a_damaged_run_goes_on_from_the_checkpoint_that_is_named(copy, finished):
    truncate(copy / "checkpoints" / "ckpt-8.index")
    assert "is damaged" in refused(copy)
    assert "train.resume_from='ckpt-7': use one of ckpt-4, ckpt-6, ckpt-8" in refused(copy, "--config.train.resume_from=ckpt-7")
    again = (f"--workdir={copy}", "--config.train.resume_from=ckpt-6")
    done = run(*again)
    assert done.returncode == 0, done.stderr
    assert f"resumed from {copy}/checkpoints/ckpt-6" in done.stdout
    assert f"resumed from {copy}/checkpoints/ckpt-8" in run(*again).stdout, "the same command goes on"
    readers = [tf.train.load_checkpoint(str(folder / "checkpoints" / "ckpt-8")) for folder in (copy, finished)]
    for name in readers[0].get_variable_to_shape_map():
        if name.startswith("generator/"):
            np.testing.assert_array_equal(*(r.get_tensor(name) for r in readers))
    assert run(f"--workdir={copy}").returncode == 0, "the name was for that start alone"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "file"), [(os.unlink, "checkpoint"), (garbage, "ckpt-8.index"), (flip, "ckpt-8.data-00000-of-00001")]
)
def test_damage_is_one_line_at_the_command_line(copy, damage, file):
    """One of each file's; that every damage is found is shown above, in this process."""
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


def test_a_whole_newer_checkpoint_does_not_give_way_to_the_one_that_is_named(copy, squares, capsys):
    """So that a command with `train.resume_from` can be given again."""
    config = small_config(squares, **{"model.name": "dcgan", "train.checkpoint_kimg": 0.016, "train.kimg": 0.064})
    kept = Checkpoints(models.build(config), str(copy))
    assert kept.to_go_on_from("ckpt-4") == ""
    assert "ckpt-8 is whole and newer than ckpt-4" in capsys.readouterr().out
    assert [kept.to_go_on_from(name) for name in ("", "ckpt-8", "ckpt-7")] == ["", "ckpt-8", "ckpt-7"]
    truncate(copy / "checkpoints" / "ckpt-8.index")
    assert kept.to_go_on_from("ckpt-4") == "ckpt-4"


def test_what_others_than_the_chief_write_does_not_pile_up(squares, tmp_path):
    model = models.build(small_config(squares, **{"model.name": "dcgan"}))
    other = Checkpoints(model, str(tmp_path), chief=False)
    with other._scratch as scratch:
        other.save()
        first = sorted(os.listdir(scratch))
        model.iteration.assign_add(1)
        other.save()
        assert sorted(os.listdir(scratch)) == first
    assert not os.listdir(tmp_path)
