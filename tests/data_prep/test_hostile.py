"""Images among what is none: odd names, locked folders, links, pipes and bombs. Nothing is dropped without a word."""

import io
import os
import socket
import struct
import tarfile
import zipfile
import zlib

import pytest
import tensorflow_datasets as tfds
from conftest import run
from own_images import CLASSES, image_bytes, made_up, prepare, rows, saved, splits, write
from PIL import Image

from data_prep import archives
from data_prep.names import label_name, normalised, printable
from holotf.images import open_image

GOOD = {f"{number:03}.png": image_bytes(number) for number in range(6)}
SOME_BAD = ("--max-bad", "60%")


def skipped(out):
    """name -> reason, of skipped.txt."""
    return dict(line.split("\t") for line in (out / "skipped.txt").read_text().split("\n")[:-1])


def error_of(capsys):
    """The one line on stderr, without progress bars."""
    error = capsys.readouterr().err.rpartition("\r")[2]
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def locked(monkeypatch, *folders):
    """These folders cannot be listed, as for a user without the right to (root may always)."""
    scandir = os.scandir

    def refusing(path="."):
        if str(path) in map(str, folders):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


def test_a_locked_folder_is_listed_and_counted(tmp_path, monkeypatch, capsys):
    source = write(tmp_path / "in", CLASSES | {"birds/5.png": image_bytes(50)})
    locked(monkeypatch, source / "birds", source / "cats" / "more")
    assert prepare(source, tmp_path / "out") == 2
    assert "2 of 4 inputs could not be used" in capsys.readouterr().err
    assert prepare(source, tmp_path / "out", *SOME_BAD) == 0
    assert rows(tmp_path / "out") == [(10, "cats"), (30, "dogs")]
    assert skipped(tmp_path / "out") == {
        name: "the folder cannot be read (Permission denied), nor what is in it" for name in ("birds/", "cats/more/")
    }
    assert prepare(source, tmp_path / "cats", *SOME_BAD, "--classes", "cats") == 0
    assert list(skipped(tmp_path / "cats")) == ["cats/more/"]
    assert prepare(source, tmp_path / "dogs", "--subdir", "dogs") == 0
    assert not (tmp_path / "dogs" / "skipped.txt").exists()


def test_a_locked_source_is_an_error(tmp_path, monkeypatch, capsys):
    source = write(tmp_path / "in", CLASSES)
    locked(monkeypatch, source)
    assert prepare(source, tmp_path / "out") == 2
    assert f"--source {source} cannot be read (Permission denied)" in error_of(capsys)


def tar_of(path, members, mode="w"):
    """Writes a tar of (name, content) and of (name, type, what it links to)."""
    with tarfile.open(path, mode) as tar:
        for name, content, *linked in members:
            info = tarfile.TarInfo(name)
            if linked:
                info.type, info.linkname = content, linked[0]
            else:
                info.size = len(content)
            tar.addfile(info, None if linked else io.BytesIO(content))
    return path


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
def test_links_in_a_tar_are_read_and_what_is_no_file_is_listed(suffix, tmp_path):
    members = [
        ("cats/early.png", tarfile.LNKTYPE, "dogs/3.bmp"),  # before what it leads to
        ("./blob", CLASSES["cats/1.png"]),
        ("dogs/3.bmp", CLASSES["dogs/3.bmp"]),
        ("cats/hard.png", tarfile.LNKTYPE, "blob"),
        ("cats/soft.png", tarfile.SYMTYPE, "../dogs/chain.png"),
        ("dogs/chain.png", tarfile.SYMTYPE, "./3.bmp"),
        ("cats/lost.png", tarfile.SYMTYPE, "/etc/nowhere.png"),
        ("cats/round.png", tarfile.SYMTYPE, "round.png"),
        ("cats/pipe.png", tarfile.FIFOTYPE, ""),
        ("cats/folder.png", tarfile.DIRTYPE, ""),
        ("../outside.png", image_bytes(1)),
        ("readme.txt", tarfile.FIFOTYPE, ""),
    ]
    source = tar_of(tmp_path / "in.tar", members, f"w:{suffix[1:]}")
    assert prepare(source, tmp_path / "out", *SOME_BAD) == 0
    assert rows(tmp_path / "out") == [(10, "cats"), (30, "cats"), (30, "cats"), (30, "dogs"), (30, "dogs")]
    assert skipped(tmp_path / "out") == {
        "../outside.png": "its name leads out of the archive: pack it anew",
        "cats/lost.png": "a link to etc/nowhere.png, which is no file in the archive",
        "cats/pipe.png": "a FIFO or a device, and no file",
        "cats/round.png": "a link to cats/round.png, which is no file in the archive",
    }


def test_a_broken_header_in_the_middle_of_a_tar_is_not_its_end(tmp_path, capsys):
    source = tar_of(tmp_path / "in.tar", [*GOOD.items()])
    data = bytearray(source.read_bytes())
    data[data.index(b"003.png")] ^= 0xFF
    source.write_bytes(data)
    assert prepare(source, tmp_path / "out") == 2
    assert "breaks off or is damaged (no file begins at byte 3072): copy it again" in error_of(capsys)


ODD = {"new\nline.png": "new\\nline.png", "tab\t.png": "tab\\t.png", "u\u2028.png": "u\\u2028.png", "b\\n.png": "b\\\\n.png"}


@pytest.mark.parametrize("flags", [[], ["--beam", "--runner=DirectRunner"]])
def test_odd_names_take_one_line_each_where_they_are_listed(flags, tmp_path, capsys):
    files = GOOD | dict.fromkeys(ODD, b"not an image") | {"nice\nname.png": image_bytes(9)}
    assert prepare(write(tmp_path / "in", files), tmp_path / "out", *SOME_BAD, *flags) == 0
    assert sorted(skipped(tmp_path / "out")) == sorted(ODD.values())
    assert "4 of 11 inputs skipped: see skipped.txt" in capsys.readouterr().err
    assert splits(tmp_path / "out") == {"train": 7}


def test_odd_names_of_near_duplicates_take_one_line_a_group(tmp_path):
    files = {"a\nb.png": saved(made_up(1)), "c\td.png": saved(made_up(1)), "e.png": saved(made_up(2))}
    assert prepare(write(tmp_path / "in", files), tmp_path / "out", "--dedupe") == 0
    assert (tmp_path / "out" / "duplicates.txt").read_text() == "a\\nb.png\tc\\td.png\n"


def test_odd_class_folders_keep_their_labels(tmp_path, capsys):
    files = {"a\nb/1.png": 10, " /2.png": 20, "cats/3.png": 30, " cats/4.png": 40, "zebras/5.png": 50}
    source = write(tmp_path / "in", {name: image_bytes(red) for name, red in files.items()})
    assert prepare(source, tmp_path / "out") == 0
    expected = [(10, "a\\nb"), (20, "\\x20"), (30, "cats"), (40, "\\x20cats"), (50, "zebras")]
    assert rows(tmp_path / "out") == expected
    assert prepare(source, tmp_path / "two", "--classes", "a\\nb,\\x20cats") == 0
    assert rows(tmp_path / "two") == [expected[0], expected[3]]
    capsys.readouterr()
    assert prepare(source, tmp_path / "none", "--classes", "birds") == 2
    assert "--source has \\x20, \\x20cats, a\\nb, cats, zebras" in error_of(capsys)


def test_no_two_names_become_one():
    names = ["a\nb", "a\\nb", "a\\\\nb", "a b", "a\u00a0b", " ab", "ab ", "ab", " ", "  ", "\udcff", "\\udcff"]
    assert len({printable(name) for name in names}) == len({label_name(name) for name in names}) == len(names)
    for name in names:
        assert label_name(name).encode()
        assert label_name(name).strip() == label_name(name)
        assert len(printable(name).splitlines()) == 1


def test_a_slash_and_a_backslash_are_two_names(tmp_path):
    files = {"a/1.png": image_bytes(10), "a\\1.png": image_bytes(20)}
    assert prepare(write(tmp_path / "in", files), tmp_path / "out") == 0
    assert rows(tmp_path / "out") == [(10, None), (20, None)]


def test_names_in_a_zip_are_read_however_they_are_written(tmp_path):
    names = {"./cats/1.png": 10, "cats/../dogs/2.png": 20, "/dogs//3.png": 30, "../4.png": 40, "cats/../../5.png": 50}
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name, red in names.items():
            archive.writestr(name, image_bytes(red))
        archive.mkdir("cats/folder.png")
    for workers in (0, 1):
        assert prepare(tmp_path / "in.zip", tmp_path / str(workers), *SOME_BAD, "--workers", workers) == 0
        assert rows(tmp_path / str(workers)) == [(10, "cats"), (20, "dogs"), (30, "dogs")]
        assert skipped(tmp_path / str(workers)) == dict.fromkeys(
            ["../4.png", "../5.png"], "its name leads out of the archive: pack it anew"
        )


def test_normalised_names():
    for name in ("a/b", "./a/b", "/a/b", "a//b", "a/c/../b", "//a/./b", "x/../../x/../a/b"[5:]):
        assert normalised(name).removeprefix("../") == "a/b"
    assert normalised("a/../../b") == normalised("/../b") == "../b"


def test_names_that_are_not_utf8_are_listed(tmp_path):
    source = write(tmp_path / "in", GOOD)
    for name in (b"caf\xe9.png", b"stra\xdfe/1.png"):
        path = os.fsencode(source) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(image_bytes(7))
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        tar.add(source, "in")
    for made_of in (source, tmp_path / "in.tar"):
        out = tmp_path / f"out-{made_of.name}"
        assert prepare(made_of, out, *SOME_BAD, "--test", "2") == 0
        assert {name.removeprefix("in/"): why for name, why in skipped(out).items()} == dict.fromkeys(
            ["caf\\udce9.png", "stra\\udcdfe/1.png"], "its name is not UTF-8: rename it"
        )


def test_a_source_that_is_not_utf8_is_read(tmp_path):
    source = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    os.mkdir(source)
    with open(source + "/1.png", "wb") as file:
        file.write(image_bytes(1))
    assert prepare(source, tmp_path / "out") == 0
    assert "caf\\udce9" in tfds.builder_from_directory(tmp_path / "out").info.description


def test_what_is_no_regular_file_is_listed_and_not_waited_for(tmp_path, monkeypatch):
    source = write(tmp_path / "in", GOOD)
    os.mkfifo(source / "pipe.png")
    (source / "null.png").symlink_to("/dev/null")
    (source / "gone.png").symlink_to("nowhere")
    monkeypatch.chdir(source)  # A socket's path is short.
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket.png")
        done = run(
            "folder", "--source", source, "--out", tmp_path / "out", "--size", 16, "--workers", 0, *SOME_BAD,
            module="data_prep", timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = skipped(tmp_path / "out")
    assert found.pop("gone.png").startswith("FileNotFoundError: ")
    assert found == {
        "null.png": "a device, and no file",
        "pipe.png": "a FIFO, and no file",
        "socket.png": "a socket, and no file",
    }


def test_a_source_that_is_a_pipe_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = run("folder", "--source", tmp_path / "pipe", "--out", tmp_path / "out", module="data_prep", timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: --source {tmp_path}/pipe is a FIFO: give a folder, a zip or a tar")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def png_of(width, height):
    """A PNG that says it is so large; the pixels are not there."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_large_files_are_listed_and_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 100_000)
    files = GOOD | {"zeros.png": bytes(100_001)}
    source = write(tmp_path / "in", files)
    tar_of(tmp_path / "in.tar", [*files.items()], "w:gz")
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    read = []
    for name in ("in", "in.tar", "in.zip"):
        with monkeypatch.context() as patch:
            patch.setattr(archives, "UnusableError", lambda reason: read.append(reason) or KeyError(reason))
            assert prepare(tmp_path / name, tmp_path / f"a-{name}", *SOME_BAD) == 0
        assert prepare(tmp_path / name, tmp_path / f"out-{name}", *SOME_BAD) == 0
        assert skipped(tmp_path / f"out-{name}") == {"zeros.png": "100,001 bytes: more than 100,000 are not unpacked"}
    assert len(read) == 3
    assert source.exists()


def test_a_zip_that_lies_about_its_sizes_unpacks_no_more_than_it_said(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", bytes(50_000_000))
        for name, content in GOOD.items():
            archive.writestr(name, content)
    data = (tmp_path / "in.zip").read_bytes()
    (tmp_path / "in.zip").write_bytes(data.replace(struct.pack("<I", 50_000_000), struct.pack("<I", 5_000)))
    assert prepare(tmp_path / "in.zip", tmp_path / "out", *SOME_BAD) == 0
    assert list(skipped(tmp_path / "out")) == ["zeros.png"]


@pytest.mark.parametrize(("width", "height"), [(30_000, 6_000), (40_000, 40_000)])
def test_images_of_very_many_pixels_are_listed_and_not_decoded(width, height, tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda image: 1 / (image.width < 1000))
    source = write(tmp_path / "in", {"bomb.png": png_of(width, height), "small.png": png_of(20, 20)})
    with pytest.raises(Image.DecompressionBombError):
        open_image((source / "bomb.png").read_bytes())
    assert open_image((source / "small.png").read_bytes()).size == (20, 20)
    monkeypatch.undo()
    write(source, GOOD)
    (source / "small.png").unlink()
    done = run("folder", "--source", source, "--out", tmp_path / "out", "--size", 16, "--workers", 0, *SOME_BAD, module="data_prep")
    assert done.returncode == 0, done.stderr
    assert "DecompressionBomb" in skipped(tmp_path / "out")["bomb.png"]
    assert "Warning" not in done.stderr
