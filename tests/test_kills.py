"""Killed at any moment and started again: in the end a command has made what it makes undisturbed, and nothing else lies about.

The moments are those at which it touches a file (watched.py), drawn at random; the default suite tries a few of each command,
`HOLOTF_EXAMPLES=50 pytest tests/test_kills.py` so many.
"""

import json
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from conftest import DCGAN, ROOT, tree
from damage import count
from nursery import Program


def watched(folder, number, arguments):
    """(exit code, what it said) of a command that is killed at the so-manieth touch of a file in a folder; 0: never."""
    with Program(["tests/watched.py", str(folder), str(number), *arguments], ROOT, together=True) as program:
        text = program.communicate(300)[0]
        return program.returncode, text


def ended(folder, arguments):
    """How often a command that is let do its work touches files in a folder."""
    code, text = watched(folder, 0, arguments)
    assert code == 0, text
    return int(text.splitlines()[-1])


def moments(touches, kills):
    """So many of the touches, from 1."""
    return np.random.default_rng(0).integers(1, touches, count(kills), endpoint=True)


def killed(folder, touches, arguments, kills):
    """Runs a command so often, each time up to one of its touches; then lets it end."""
    for number in moments(touches, kills):
        code, text = watched(folder, number, arguments)
        assert code in (0, -signal.SIGKILL), text  # 0: with what was there already it had less to do
    ended(folder, arguments)


def names(folder):
    """The files of a run, but for its events, whose names say when they were begun."""
    return {name for name in tree(folder) if not name.startswith("events")}


@pytest.fixture(scope="module")
def undisturbed(squares, tmp_path_factory):
    """(a training of eight iterations that ended, how often it touched a file, its command but for the folder)."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    command = ["main.py", *DCGAN, f"--config.data.dir={squares}", "--config.train.kimg=0.064"]
    return workdir, ended(workdir, [*command, f"--workdir={workdir}"]), command


@pytest.mark.slow
def test_training_and_publishing(undisturbed, tmp_path):
    workdir, touches, command = undisturbed
    killed(tmp_path / "run", touches, [*command, f"--workdir={tmp_path}/run"], kills=2)
    assert names(tmp_path / "run") == names(workdir)
    ours, theirs = (tf.train.load_checkpoint(str(folder / "checkpoints")) for folder in (tmp_path / "run", workdir))
    variables = [name for name in theirs.get_variable_to_shape_map() if "save_counter" not in name]
    for name in variables:
        np.testing.assert_array_equal(ours.get_tensor(name), theirs.get_tensor(name), err_msg=name)
    pictures = [{k: v for k, v in tree(folder).items() if k.endswith(".png")} for folder in (tmp_path / "run", workdir)]
    assert pictures[0] == pictures[1]
    served = [tf.saved_model.load(str(folder / "saved_model")) for folder in (tmp_path / "run", workdir)]
    np.testing.assert_array_equal(*(each.sample(0, 2)["images"] for each in served))


def test_an_export_is_there_whole_or_not_at_all(undisturbed, tmp_path):
    workdir, *_ = undisturbed
    folder = shutil.copytree(workdir, tmp_path / "run", ignore=shutil.ignore_patterns("saved_model"))
    arguments = ["main.py", f"--workdir={folder}", "--mode=export"]
    for number in moments(ended(folder, arguments), kills=2):
        shutil.rmtree(folder / "saved_model")
        assert watched(folder, number, arguments)[0] == -signal.SIGKILL
        if (folder / "saved_model").exists():  # it had been renamed
            assert tree(folder / "saved_model").keys() == tree(workdir / "saved_model").keys()
        else:
            ended(folder, arguments)
            assert names(folder) == names(workdir)


def test_pictures(undisturbed, tmp_path):
    workdir, *_ = undisturbed
    folder = shutil.copytree(workdir, tmp_path / "run", ignore=shutil.ignore_patterns("pictures"))
    arguments = ["main.py", f"--workdir={folder}", "--mode=generate"]
    touches = ended(folder, arguments)
    killed(folder, touches, arguments, kills=2)
    assert names(folder) == names(workdir)


@pytest.mark.slow
def test_judging(undisturbed, extractor, tmp_path):
    workdir, *_ = undisturbed
    folders = [shutil.copytree(workdir, tmp_path / name) for name in ("one", "two")]
    commands = [
        [
            *("main.py", f"--workdir={folder}", "--mode=evaluate", f"--config.evaluate.extractor={extractor}"),
            *("--config.evaluate.images=90", f"--config.evaluate.cache={tmp_path}/cache-{folder.name}"),
        ]
        for folder in folders
    ]
    killed(tmp_path, ended(tmp_path, commands[0]), commands[1], kills=2)
    one, two = (json.loads((folder / "metrics.json").read_text())["metrics"] for folder in folders)
    assert one == two
    assert "kid/mean" in one
    assert names(folders[0]) == names(folders[1])
    caches = [{path.partition("-")[0] for path in tree(f"{tmp_path}/cache-{folder.name}")} for folder in folders]
    assert caches[0] == caches[1]


def test_preparing_data(tmp_path):
    command = ["-m", "data_prep", *["blocks", "--size", "16", "--count", "300", "--test", "100", "--workers", "0"], "--out"]
    killed(tmp_path, ended(tmp_path, [*command, str(tmp_path / "one")]), [*command, str(tmp_path / "two")], kills=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    assert tree(tmp_path / "two") == tree(tmp_path / "one")
