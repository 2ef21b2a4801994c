"""`python -m data_prep`: real TFRecords, written whole or not at all, the same whoever writes them."""

import errno
import functools
import hashlib
import os
import pathlib
import pty
import re
import signal
import subprocess
import termios
import time

import psutil
import pytest
import tensorflow_datasets as tfds
from conftest import ROOT, command, run

from data_prep import build as build_module
from data_prep.__main__ import main, sources
from data_prep.work import ordered_map

SMALL = ["--size", "16", "--workers", "0"]


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in pathlib.Path(folder).iterdir()}


def examples(folder, split="train"):
    """The set of a split's examples: image bytes and azimuth."""
    builder = tfds.builder_from_directory(folder)
    rows = tfds.as_numpy(builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()}))
    return {(row["image"], float(row["azimuth_deg"])) for row in rows}


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def blocks(out, *flags):
    return main(["blocks", "--out", str(out), *SMALL, *map(str, flags)])


def test_a_standard_tfds_folder(tmp_path, capsys):
    out = tmp_path / "deep" / "blocks"
    assert blocks(out, "--count", 40, "--kinds", "chair,table", "--azimuth", "10,20") == 0
    assert left(out.parent) == ["blocks"]
    builder = tfds.builder_from_directory(out)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 36, "test": 4}
    assert builder.info.features["image"].shape == (16, 16, 3)
    kinds = set()
    for row in tfds.as_numpy(builder.as_dataset(split="train+test")):
        assert row["image"].shape == (16, 16, 3)
        assert 100 < row["image"].mean() < 255
        assert 10 <= row["azimuth_deg"] <= 20
        assert 15 <= row["elevation_deg"] <= 35
        assert row["colours"].shape == (3, 3)
        kinds.add(builder.info.features["kind"].int2str(int(row["kind"])))
    assert kinds == {"chair", "table"}
    printed = capsys.readouterr()
    assert re.search(rf"{out}: 40 examples in [\d.]+ s \(train 36, test 4\)\n", printed.out)
    assert f"python main.py --config configs/hologan_blocks.py --config.data.dir={out} --config.model.image_size=16" in printed.out
    assert "tmp-" not in printed.out + (out / "dataset_info.json").read_text()


def test_workers_do_not_change_a_byte(tmp_path):
    for workers in (0, 1, 2):
        assert blocks(tmp_path / str(workers), "--count", 100, "--workers", workers) == 0
    assert {"blocks-test.tfrecord-00000-of-00001", "blocks-train.tfrecord-00000-of-00001"} <= set(left(tmp_path / "0"))
    assert digests(tmp_path / "0") == digests(tmp_path / "1") == digests(tmp_path / "2")


def test_seed_and_count(tmp_path):
    assert blocks(tmp_path / "few", "--count", 20) == 0
    assert blocks(tmp_path / "many", "--count", 50) == 0
    assert blocks(tmp_path / "other", "--count", 20, "--seed", 1) == 0
    few, many, other = (examples(tmp_path / name) for name in ("few", "many", "other"))
    assert few < many
    assert not few & other


def test_finished_is_left_alone_and_overwrite_replaces(tmp_path, capsys):
    out = tmp_path / "data"
    assert blocks(out, "--count", 5) == 0
    before = digests(out)
    capsys.readouterr()
    assert blocks(out, "--count", 9) == 0
    assert "is finished already; --overwrite builds it anew" in capsys.readouterr().out
    assert digests(out) == before
    assert blocks(out, "--count", 9, "--test", 0, "--overwrite") == 0
    assert len(examples(out)) == 9
    assert left(tmp_path) == ["data"]


def test_a_failed_overwrite_keeps_the_old(tmp_path, monkeypatch):
    out = tmp_path / "data"
    assert blocks(out, "--count", 5) == 0
    before = digests(out)
    monkeypatch.setattr(build_module.ImageBuilder, "finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        blocks(out, "--count", 9, "--overwrite")
    assert digests(out) == before
    assert left(tmp_path) == ["data"]


def test_killed_between_the_two_renames(tmp_path, capsys):
    out = tmp_path / "data"
    assert blocks(out, "--count", 5) == 0
    before = digests(out)
    out.rename(tmp_path / ".data.tmp-abc-old")  # as kill -9 leaves it: the old one aside, the new one not yet there
    (tmp_path / ".data.tmp-abc").mkdir()
    assert blocks(out, "--count", 9) == 0
    assert "is finished already" in capsys.readouterr().out
    assert digests(out) == before
    assert left(tmp_path) == ["data"]


def meanwhile(monkeypatch, happening):
    """What happens while a build is at work, just before it is done."""
    finish = build_module.ImageBuilder.finish

    def interrupted(builder, folder):
        monkeypatch.setattr(build_module.ImageBuilder, "finish", finish)
        happening()
        finish(builder, folder)

    monkeypatch.setattr(build_module.ImageBuilder, "finish", interrupted)


def test_what_comes_to_its_place_during_a_build_is_not_touched(tmp_path, monkeypatch, capsys):
    out = tmp_path / "data"

    def write_a_thesis():
        out.mkdir()
        (out / "thesis.txt").write_text("mine")

    meanwhile(monkeypatch, write_a_thesis)
    assert blocks(out, "--count", 5) == 2
    assert re.search(r"--out .*data appeared while this was built, and is not a dataset: name", capsys.readouterr().err)
    assert left(out) == ["thesis.txt"]
    assert left(tmp_path) == ["data"]


def test_of_two_builds_the_first_to_finish_stays(tmp_path, monkeypatch, capsys):
    out = tmp_path / "data"
    meanwhile(monkeypatch, lambda: blocks(out, "--count", 7, "--test", 0))
    assert blocks(out, "--count", 5, "--test", 0) == 0
    assert "was finished by another build meanwhile" in capsys.readouterr().out
    assert len(examples(out)) == 7
    meanwhile(monkeypatch, lambda: blocks(out, "--count", 6, "--test", 0, "--overwrite"))
    assert blocks(out, "--count", 5, "--test", 0, "--overwrite") == 0
    assert len(examples(out)) == 5
    assert left(tmp_path) == ["data"]


def test_a_full_disk_and_a_killed_worker_are_one_line(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise RuntimeError("writing") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(build_module.ImageBuilder, "finish", full)
    assert blocks(tmp_path / "data", "--count", 5) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "No space left on device; nothing is left behind: make room, or name another --out"
    monkeypatch.setattr(build_module.ImageBuilder, "finish", lambda *_: list(ordered_map(kill_itself, [0], 1)))
    assert blocks(tmp_path / "data", "--count", 5) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "a worker was killed, perhaps for want of memory; nothing is left behind: use fewer --workers"
    assert left(tmp_path) == []


def kill_itself(_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_kill_9_in_mid_build_then_the_same_command(tmp_path):
    out = tmp_path / "data"
    arguments = ["blocks", "--out", out, "--size", 16, "--count", 2000, "--test", 1500, "--workers", 2]
    terminal, other = pty.openpty()
    termios.tcsetwinsize(other, (25, 100))
    process = subprocess.Popen(command(*arguments, module="data_prep"), cwd=ROOT, stderr=other, stdout=subprocess.DEVNULL)
    os.close(other)
    bar = b""
    while not re.search(rb"test: [^\r]* (5[1-9]\d|[6-9]\d\d|1\d{3})/2000", bar):  # tqdm's count: train is written, and some of test
        read = os.read(terminal, 4096)
        assert read, bar.decode()
        bar += read
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    os.close(terminal)
    assert not out.exists()
    (temporary,) = left(tmp_path)
    assert temporary.startswith(".data.tmp-")
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive  # workers leave with their parent

    assert run(*arguments, module="data_prep").returncode == 0
    assert left(tmp_path) == ["data"]
    assert tfds.builder_from_directory(out).info.splits.total_num_examples == 2000


@pytest.mark.parametrize("wait_s", [0.0, 1.5])  # while the workers start; while they work
def test_ctrl_c_leaves_nothing(wait_s, tmp_path):
    arguments = ["blocks", "--out", tmp_path / "data", "--size", 64, "--count", 100_000, "--workers", 2]
    # A session of its own, so that Ctrl-C reaches the whole foreground group, workers too, as in a terminal.
    process = subprocess.Popen(
        command(*arguments, module="data_prep"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job ignores Ctrl-C and hands that down: as in the foreground, whatever started the tests.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline_s = time.monotonic() + 60
    while not any(path.name == "train-skipped.txt" for path in tmp_path.rglob("*")):
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    time.sleep(wait_s)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; nothing is left behind" in errors
    assert "Traceback" not in errors
    assert left(tmp_path) == []


def test_another_run_at_work_is_not_disturbed(tmp_path):
    out = tmp_path / "data"
    with build_module._temporary_sibling(out) as busy:
        assert blocks(out, "--count", 5) == 0
        assert busy.exists()
    assert left(tmp_path) == ["data"]


@pytest.mark.slow
def test_beam_with_two_workers_writes_the_same_examples(tmp_path):
    arguments = ["blocks", "--size", 16, "--count", 100, "--test", 30, "--kinds", "chair,bench"]
    options = "--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing"
    done = run(*arguments, "--out", tmp_path / "beam", "--beam", options, module="data_prep")
    assert done.returncode == 0, done.stderr[-3000:]
    assert main([*map(str, arguments), "--workers", "0", "--out", str(tmp_path / "local")]) == 0
    for split in ("train", "test"):
        assert examples(tmp_path / "beam", split) == examples(tmp_path / "local", split)
    assert not examples(tmp_path / "beam", "train") & examples(tmp_path / "beam", "test")
    assert left(tmp_path) == ["beam", "local"]
    assert left(tmp_path / "beam") == left(tmp_path / "local")


def test_beam_not_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "apache_beam.options.pipeline_options", None)
    assert blocks(tmp_path / "data", "--count", 5, "--beam", "--runner=DirectRunner") == 2
    assert "error: --beam needs Apache Beam" in capsys.readouterr().err
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense", "--out", "x"], "SOURCE 'nonsense' is unknown: use blocks, "),
        (["build", "--out", "x"], "SOURCE 'build' is unknown"),  # a helper is not a source
        (["blocks", "--out", "gs://bucket/x"], "--out gs:/bucket/x: use a path in a file system"),
        (["blocks", "--out", "x", "--size", "5"], "--size 5: use 8 to 4096"),
        (["blocks", "--out", "x", "--workers", "-1"], "--workers -1: use"),
        (["blocks", "--out", "x", "--kinds", "sofa"], "--kinds 'sofa' is unknown: use chair, "),
        (["blocks", "--out", "x", "--count", "0"], "--count 0: use 1 or more"),
        (["blocks", "--out", "x", "--seed", "-1"], "--seed -1: use 0 or more"),
        (["blocks", "--out", "x", "--test", "100%"], "--test 100%: leaves none to train on: use a share below 100%"),
        (["blocks", "--out", "x", "--test", "-1"], "--test -1: use a share below 100% such as 10%, a number such as 1000, or 0"),
        (["blocks", "--out", "x", "--test", "abc"], "--test abc: use a share"),
        (["blocks", "--out", "x", "--count", "8", "--test", "8"], "--test 8 of 8 images leaves none to train on: use at most 7"),
        (["blocks", "--out", "x", "--count", "1", "--test", "60%"], "--test 60% of 1 images leaves none to train on"),
        (
            ["blocks", "--out", "x", "--turntable", "8", "--count", "80", "--test", "9"],
            "--test 9 --turntable 8: use a multiple of 8",
        ),
        (["blocks", "--out", "x", "--azimuth", "0,400"], "--azimuth '0,400': use LOW,HIGH"),
        (["blocks", "--out", "x", "--distance", "1,2"], "--distance '1,2': use LOW,HIGH with 1.2"),
    ],
)
def test_bad_flags_are_named(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert left(tmp_path) == []


def test_out_that_is_something_else_is_not_touched(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for flags in ([], ["--overwrite"]):
        assert blocks(tmp_path / "mine", "--count", 5, *flags) == 2
        assert "exists and is not a dataset" in capsys.readouterr().err
    assert left(tmp_path) == ["mine"]
    assert left(tmp_path / "mine") == ["thesis.txt"]


def test_exit_code_and_no_traceback_of_the_real_command(tmp_path):
    words = command("blocks", "--out", tmp_path / "x", "--kinds", "sofa", module="data_prep")
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --kinds 'sofa' is unknown")
    assert "Traceback" not in done.stderr


def test_sources_are_found_by_name(capsys):
    assert {"blocks", "folder", "catalogue"} <= set(sources())
    assert not {"build", "work", "images", "raycast"} & set(sources())
    for source, line in sources().items():
        assert line, source
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"  {source} " in printed for source in sources())
