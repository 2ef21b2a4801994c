"""`--out` and `--source` in places of every kind: links, odd names, and where nothing can be read or written."""

import os
import pathlib
import tempfile
import zipfile

import pytest
import tensorflow_datasets as tfds
from own_images import image_bytes, prepare, write
from test_build import blocks, digests, left
from test_hostile import error_of

from data_prep import build as build_module

GOOD = {f"{number}.png": image_bytes(number) for number in range(4)}


@pytest.mark.parametrize("name", ["a[1]", "[!x]*?", "{b}", "new\nline", "-x y'", "data.tmp-x"])
def test_odd_names_leave_nothing_behind(name, tmp_path, capsys):
    folder = tmp_path / "in [brackets]*"
    folder.mkdir()
    (folder / f".{name}.tmp-dead").mkdir()  # as kill -9 leaves it
    assert blocks(folder / name, "--count", 20) == 0
    assert left(folder) == [name]
    assert "tmp-dead" not in capsys.readouterr().err
    before = digests(folder / name)
    (folder / name).rename(folder / f".{name}.tmp-dead-old")  # ... between the two renames
    assert blocks(folder / name, "--count", 30) == 0
    assert "is finished already" in capsys.readouterr().out
    assert digests(folder / name) == before
    assert blocks(folder / name, "--count", 30, "--overwrite") == 0
    assert left(folder) == [name]
    (folder / name).rename(tmp_path / "plain")
    assert tfds.builder_from_directory(tmp_path / "plain").info.splits.total_num_examples == 30


def test_what_belongs_to_another_name_is_left(tmp_path):
    others = [".data.tmp-x.tmp-abc", ".dataset.tmp-abc", ".data[1].tmp-abc"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / ".data.tmp-file").write_text("no folder")
    assert blocks(tmp_path / "data", "--count", 20) == 0
    assert left(tmp_path) == sorted([*others, ".data.tmp-file", "data"])


@pytest.mark.parametrize("there", [False, True])
def test_a_link_stays_and_what_it_leads_to_is_written(there, tmp_path, capsys):
    (tmp_path / "disk").mkdir()
    if there:
        assert blocks(tmp_path / "disk" / "data", "--count", 20) == 0
    (tmp_path / "link").symlink_to("disk/data")
    (tmp_path / "loop").symlink_to("loop")
    assert blocks(tmp_path / "link", "--count", 30, "--overwrite") == 0
    assert (tmp_path / "link").readlink() == pathlib.Path("disk/data")
    assert left(tmp_path / "disk") == ["data"]
    assert left(tmp_path) == ["disk", "link", "loop"]
    assert tfds.builder_from_directory(tmp_path / "link").info.splits.total_num_examples == 30
    assert f"--config.data.dir={tmp_path}/link " in capsys.readouterr().out
    assert blocks(tmp_path / "loop", "--count", 30) == 2
    assert error_of(capsys) == f"error: --out {tmp_path}/loop is a link that leads to itself: use another name\n"


def test_a_link_to_something_else_is_not_touched(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to("mine")
    assert blocks(tmp_path / "link", "--count", 30, "--overwrite") == 2
    assert f"--out {tmp_path}/link exists and is not a dataset: name a new folder, or remove it" in error_of(capsys)
    assert left(tmp_path) == ["link", "mine"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("file", "exists and is not a dataset: name a new folder"),
        ("file/below", "cannot be written (File exists): name a folder"),
        ("file/far/below", "cannot be written (Not a directory): name a folder"),
        ("x" * 256, "cannot be written (File name too long): name a folder"),
        ("x" * 250, "cannot be written (File name too long): name a folder"),  # with what the hidden folder's name has more
        ("new/" + "x" * 256 + "/data", "cannot be written (File name too long): name a folder"),
        ("/proc/new/data", "cannot be written (No such file or directory): name a folder"),
        (os.fsdecode(b"caf\xe9"), "tfds takes no path that is not UTF-8 or has ** in it: use another"),
        ("**", "tfds takes no path that is not UTF-8 or has ** in it: use another"),
    ],
)
def test_an_out_that_cannot_be_written_is_one_line(name, why, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for flags in ([], ["--overwrite"]):
        assert blocks(tmp_path / name, "--count", 20, *flags) == 2
        assert why in error_of(capsys)
        assert left(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def refusing(*arguments, **keywords):
    raise PermissionError(13, "Permission denied", "somewhere")


def test_a_read_only_place_is_one_line(tmp_path, monkeypatch, capsys):
    """Root may write everywhere: the file system's answer is made up."""
    monkeypatch.setattr(tempfile, "mkdtemp", refusing)
    assert blocks(tmp_path / "new" / "data", "--count", 20) == 2
    assert f"--out {tmp_path}/new/data cannot be written (Permission denied): name a folder" in error_of(capsys)
    assert left(tmp_path) == []


def test_folders_made_for_a_build_that_fails_go_with_it(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    assert prepare(write(tmp_path / "in", {"1.png": b""}), tmp_path / "there" / "new" / "deep" / "data") == 2
    assert left(tmp_path / "there") == []
    monkeypatch.setattr(build_module.ImageBuilder, "finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        blocks(tmp_path / "a" / "b" / "data", "--count", 9)
    assert left(tmp_path) == ["in", "there"]


def zip_of(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (GOOD | {"é.png": image_bytes(5)}).items():
            archive.writestr(name, content)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: data[: len(data) // 2], "is neither a folder nor a whole zip or tar(.gz): check it, or copy it again"),
        (lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x03"), "breaks off or is damaged (Bad magic number"),
        (
            lambda data: data.replace(b"PK\x01\x02\x14\x03\x14", b"PK\x01\x02\x14\x03\xff"),
            "breaks off or is damaged (zip file",
        ),
        (lambda data: data.replace("é".encode(), b"\xff\xff"), "breaks off or is damaged ('utf-8' codec can't decode"),
    ],
)
def test_a_damaged_zip_is_one_line(damage, why, tmp_path, capsys):
    source = tmp_path / "in.zip"
    source.write_bytes(damage(zip_of(source)))
    assert prepare(source, tmp_path / "out") == 2
    assert f"--source {source} {why}" in error_of(capsys)
    assert left(tmp_path) == ["in.zip"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("file", "is neither a folder nor a whole zip or tar(.gz)"),
        ("file/below", "cannot be read (Not a directory): give a folder, a zip or a tar"),
        ("x" * 256, "cannot be read (File name too long): give a folder, a zip or a tar"),
        ("loop", "cannot be read (Too many levels of symbolic links): give a folder"),
        ("/dev/null", "is a device: give a folder, a zip or a tar(.gz) of images"),
        ("gone", "does not exist: give a folder, a zip or a tar(.gz) of images"),
        ("two\nlines", "two\\nlines does not exist: give a folder"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_line(name, why, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    assert prepare(tmp_path / name, tmp_path / "new" / "out") == 2
    assert why in error_of(capsys)
    assert left(tmp_path) == ["file", "loop"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_source_that_may_not_be_read_is_one_line(tmp_path, capsys):
    zip_of(tmp_path / "in.zip")
    (tmp_path / "in.zip").chmod(0)
    assert prepare(tmp_path / "in.zip", tmp_path / "out") == 2
    assert "cannot be read (Permission denied)" in error_of(capsys)
