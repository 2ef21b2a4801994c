"""Bad input: one line with the fix, exit code 2, no traceback. In processes, as a user meets it."""

import os
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, SMALL, run

CASES = {
    "unknown key": (["--config.model.nme=x"], "--config.model.nme=x: the config has no 'nme'"),
    "unknown section": (["--config.modl.name=x"], "--config.modl.name=x: the config has no 'modl'"),
    "wrong type": (["--config.train.kimg=soon"], "--config.train.kimg=soon: could not convert string to float"),
    "no such config": (["--config=configs/none.py"], "configs/none.py"),
    "unknown variant": (["--config=configs/hologan_celeba.py:256"], "configs/hologan_celeba.py:256: use :64 or :128"),
    "unknown mode": (["--mode=fly"], "--mode=fly: value should be one of <train|evaluate|generate|analyse|export|serve>"),
    "stray argument": (["tarin"], "unknown argument 'tarin'"),
    "unknown model": (
        ["--config.model.name=cyclegan"],
        "model.name='cyclegan': use one of classifier, conditional_hologan, dann, dcgan",
    ),
    "impossible size": (["--config.model.image_size=48"], "model.image_size=48: use 32, 64 or 128"),
    "unknown strategy": (["--config.device.strategy=tpu"], "device.strategy='tpu': use auto, one, mirrored or multi_worker"),
    "unknown precision": (["--config.device.precision=float16"], "device.precision='float16': use float32 or mixed_bfloat16"),
    "empty batch": (["--config.train.batch_size=0"], "train.batch_size=0"),
    "no data": (["--config.data.dir=/none"], "data.dir='/none' does not exist; make it with: python -m data_prep folder"),
    "no number": (["--config.train.kimg=nan"], "train.kimg=nan: use a positive number"),
    "negative seed": (["--config.seed=-1"], "seed=-1: use 0 to 4294967295"),
    "no buffer": (["--config.data.shuffle_buffer=0"], "data.shuffle_buffer=0: use 1 (no shuffling) or more"),
    "half a range": (["--config.views.azimuth_deg=(0.0,)"], "views.azimuth_deg=(0): use (low, high) with low <= high"),
    "open quotes": (
        ["--config.data.dir=/none", "--config.data.prepare=blocks 'x"],
        'data.prepare="blocks \'x": No closing quotation: write it as on a command line',
    ),
    "nothing trained": (["--mode=generate"], "train first, or name the run, or its saved_model, with --workdir"),
    "nothing to export": (["--mode=export"], "train first, or name the run, or its saved_model, with --workdir"),
}


@pytest.mark.parametrize("case", CASES)
def test_errors(case, squares, tmp_path):
    arguments, expected = CASES[case]
    if not arguments[0].startswith("--config="):
        arguments = ["--config=configs/base.py", *SMALL, f"--config.data.dir={squares}", *arguments]
    done = run(*arguments, f"--workdir={tmp_path}")
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert expected in last
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("place", "arguments"), [("file", []), ("file/under", ["--mode=generate"]), ("x" * 300, None)])
def test_a_workdir_that_can_be_none_is_one_line(squares, tmp_path, place, arguments):
    """The last one without a config, which is then looked for in it."""
    (tmp_path / "file").write_text("nobody's run")
    given = ["--mode=evaluate"] if arguments is None else ["--config=configs/base.py", *SMALL, *arguments]
    done = run(*given, f"--config.data.dir={squares}", f"--workdir={tmp_path / place}")
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_that_cannot_be_written_is_one_line(copy):
    """Where what is written last does not go, and what stands there stays."""
    shutil.rmtree(copy / "pictures")
    (copy / "pictures").write_text("a file")
    done = run(f"--workdir={copy}", "--mode=generate")
    assert (done.returncode, (copy / "pictures").read_text()) == (1, "a file"), done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"error: {copy}/pictures: File exists; once that is mended, the same command again does what is left"
    )
    assert "Traceback" not in done.stderr


CONFIGS = {
    "def get_config(:": "line 1: SyntaxError: invalid syntax",
    "import nothing_here": "line 1: ModuleNotFoundError: No module named 'nothing_here'",
    "x = 1": "has no function get_config()",
    "def get_config():\n    return {}['gone']": "line 2: KeyError: 'gone'",
    "def get_config():\n    return 3": "get_config gives int, not ConfigDict: let it return what base.experiment(...) gives",
    "def get_config(variant):\n    pass": ".py:VARIANT, as its get_config wants it",
    None: "No such file or directory: give a file such as configs/hologan_blocks.py",
}


@pytest.mark.parametrize("content", CONFIGS)
def test_a_config_file_that_cannot_be_used_is_one_line(content, tmp_path):
    (tmp_path / "mine.py").write_text(content) if content is not None else None
    file = os.path.relpath(tmp_path / "mine.py", ROOT)  # as a user gives it
    done = run(f"--config={file}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: --config={file}: ")
    assert line.endswith(CONFIGS[content])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_a_data_set_whose_description_is_damaged_is_one_line(name, squares, tmp_path):
    folder = Path(shutil.copytree(squares, tmp_path / "data"))
    (folder / name).write_text("{")
    done = run("--config=configs/base.py", *SMALL, f"--config.data.dir={folder}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"data.dir={str(folder)!r}: dataset_info.json or features.json is damaged" in line
    assert not (tmp_path / "run").exists()
