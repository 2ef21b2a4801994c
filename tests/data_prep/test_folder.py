"""One's own images, from folders and archives, whole and damaged."""

import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from own_images import CLASSES, image_bytes, prepare, rows, splits, write
from PIL import Image

from data_prep.folder import parse_share
from holotf.errors import UserError


def test_flat_folder_of_every_format(tmp_path):
    files = {f"{n}.{e}": image_bytes(n, f) for n, (e, f) in enumerate([("jpg", "jpeg"), ("jpeg", "jpeg"), ("png", "png")])}
    files |= {
        "3.webp": image_bytes(3, "webp"),
        "4.bmp": image_bytes(4, "bmp"),
        "notes.txt": b"",
        ".hidden.png": b"",
        "__MACOSX/a.png": b"",
    }
    assert prepare(write(tmp_path / "in", files), tmp_path / "out") == 0
    made = rows(tmp_path / "out")
    assert len(made) == 5
    assert all(abs(value - n) <= 12 and label is None for n, (value, label) in enumerate(made))


def test_class_folders_become_labels(tmp_path):
    # The outer folders hold everything and are no classes.
    source = write(tmp_path / "in", {f"download/v1/{name}": content for name, content in CLASSES.items()})
    assert prepare(source, tmp_path / "out") == 0
    assert rows(tmp_path / "out") == [(10, "cats"), (20, "cats"), (30, "dogs")]


def test_images_beside_class_folders_mean_no_classes(tmp_path):
    source = write(tmp_path / "in", CLASSES | {"4.png": image_bytes(40)})
    assert prepare(source, tmp_path / "out") == 0
    assert rows(tmp_path / "out") == [(10, None), (20, None), (30, None), (40, None)]


def test_archives_give_what_the_folder_gives(tmp_path):
    source = write(tmp_path / "in", CLASSES)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive, tarfile.open(tmp_path / "in.tar.gz", "w:gz") as tar:
        for name in reversed(CLASSES):
            archive.write(source / name, f"in/{name}")
        tar.add(source, "./in")
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        tar.add(source, "in")
    assert prepare(source, tmp_path / "out") == 0
    expected = (tmp_path / "out" / "folder-train.tfrecord-00000-of-00001").read_bytes()
    for name in ("in.zip", "in.tar.gz", "in.tar"):
        assert prepare(tmp_path / name, tmp_path / f"out-{name}", "--workers", 1) == 0
        assert (tmp_path / f"out-{name}" / "folder-train.tfrecord-00000-of-00001").read_bytes() == expected


OWN = {f"train/{name}": content for name, content in CLASSES.items()} | {
    "test/cats/9.png": image_bytes(90),
    "test/cats/copy of 1.png": CLASSES["cats/1.png"],  # taken as they are
    "Valid/dogs/8.png": image_bytes(80),
}


@pytest.mark.parametrize("outer", ["", "download/v1/"])
def test_train_test_and_val_folders_are_taken_as_they_are(outer, tmp_path):
    source = write(tmp_path / "in", {outer + name: content for name, content in OWN.items()})
    assert prepare(source, tmp_path / "out", "own") == 0
    assert splits(tmp_path / "out") == {"train": 3, "test": 2, "validation": 1}
    assert rows(tmp_path / "out") == [(10, "cats"), (20, "cats"), (30, "dogs")]
    assert rows(tmp_path / "out", "test") == [(10, "cats"), (90, "cats")]
    assert rows(tmp_path / "out", "validation") == [(80, "dogs")]


def test_splits_below_subdir_and_one_of_them_and_all_as_one(tmp_path, capsys):
    files = {f"small/{name}": content for name, content in OWN.items()} | {"large/x.png": image_bytes(1)}
    source = write(tmp_path / "in", files)
    assert prepare(source, tmp_path / "small", "own", "--subdir", "small") == 0
    assert splits(tmp_path / "small") == {"train": 3, "test": 2, "validation": 1}
    assert prepare(source, tmp_path / "train", "--subdir", "small/train") == 0
    assert rows(tmp_path / "train") == [(10, "cats"), (20, "cats"), (30, "dogs")]
    assert prepare(source / "small", tmp_path / "all", "--subdir", ".", "--test", 3) == 0
    both = rows(tmp_path / "all"), rows(tmp_path / "all", "test")
    assert sorted(both[0] + both[1]) == [(10, "cats"), (10, "cats"), (20, "cats"), (30, "dogs"), (80, "dogs"), (90, "cats")]
    assert not set(both[0]) & set(both[1])
    assert prepare(source / "small", tmp_path / "only", "--test", 0) == 0
    assert splits(tmp_path / "only") == {"train": 3}
    assert prepare(source / "small", tmp_path / "none", "--subdir", "val") == 2
    assert "--subdir 'val' holds no image: use Valid, test, train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "flags", "message"),
    [
        ({}, ["--test", "10%"], "--test 10%: --source has test, train, validation: leave it out, or add --subdir train"),
        (
            {"spare/1.png": b""},
            ["own"],
            "--source holds the splits Valid, test, train, and beside them spare: choose one with --subdir",
        ),
        ({"1.png": b""}, ["own"], "--source holds the splits Valid, test, train, and beside them 1.png: choose one"),
        ({}, ["own", "--classes", "cats,horses"], "--classes 'horses': --source has cats, dogs"),
        ({"only": b""}, ["own", "--classes", "lions"], "has no image left to train on: take in more --classes"),
        (None, ["own"], "--source holds the splits Valid, test and no train: choose one with --subdir test, or take all as one"),
    ],
)
def test_splits_that_are_not_clear_are_named(more, flags, message, tmp_path, capsys):
    files = {name: content for name, content in OWN.items() if more is not None or not name.startswith("train")} | (more or {})
    if "lions" in flags:
        files |= {"test/lions/7.png": image_bytes(70)}
    assert prepare(write(tmp_path / "in", files), tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_classes_picks_some(tmp_path, capsys):
    files = OWN | {"train/birds/5.png": image_bytes(50), "test/birds/6.png": image_bytes(60)}
    source = write(tmp_path / "in", files)
    assert prepare(source, tmp_path / "one", "own", "--classes", "birds") == 0
    assert rows(tmp_path / "one") == [(50, None)]  # one class is no label
    assert rows(tmp_path / "one", "test") == [(60, None)]
    assert splits(tmp_path / "one") == {"train": 1, "test": 1}
    for flags in (["--classes", "birds,dogs"], ["--classes", "birds", "--classes", "dogs"]):
        assert prepare(source, tmp_path / "two", "own", *flags, "--overwrite") == 0
        assert rows(tmp_path / "two") == [(30, "dogs"), (50, "birds")]
        assert rows(tmp_path / "two", "validation") == [(80, "dogs")]
    (source / "train" / "birds" / os.fsdecode(b"caf\xe9.png")).write_bytes(image_bytes(70))
    assert prepare(source, tmp_path / "listed", "--subdir", ".", "--classes", "birds", "--max-bad", "50%") == 0
    assert "not UTF-8" in (tmp_path / "listed" / "skipped.txt").read_text()
    assert prepare(source / "train" / "cats", tmp_path / "none", "--classes", "cats") == 2
    assert "--classes 'cats': --source has no class folders" in capsys.readouterr().err


def test_unreadable_files_of_all_splits_are_counted_together(tmp_path, capsys):
    source = write(tmp_path / "in", {f"train/{name}": content for name, content in damaged(50).items()})
    write(source, {f"test/{n:03}.png": image_bytes(n) for n in range(49)} | {"test/bad.png": b""})
    assert prepare(source, tmp_path / "out", "own", "--max-bad", "3%") == 2
    assert "4 of 103 inputs could not be used, more than --max-bad 3.00% allows" in capsys.readouterr().err
    assert prepare(source, tmp_path / "out", "own", "--max-bad", "4%") == 0
    assert splits(tmp_path / "out") == {"train": 50, "test": 49}
    lines = (tmp_path / "out" / "skipped.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["test/bad.png", "train/cut.jpg", "train/empty.png", "train/text.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if "skipped" in path.name) == ["skipped.txt"]


def test_unreadable_files_in_a_cut_by_share_are_listed_too(tmp_path):
    assert prepare(write(tmp_path / "in", damaged(97)), tmp_path / "out", "--max-bad", "3%", "--test", 10) == 0
    assert splits(tmp_path / "out") == {"train": 87, "test": 10}
    assert len((tmp_path / "out" / "skipped.txt").read_text().splitlines()) == 3


def test_a_split_of_damaged_files_alone_is_named(tmp_path, capsys):
    files = {f"train/{n:03}.png": image_bytes(n) for n in range(50)} | {"test/bad.png": b""}
    assert prepare(write(tmp_path / "in", files), tmp_path / "out", "own", "--max-bad", "10%") == 2
    assert "error: none of 1 inputs of the split test could be used: mend or remove them" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_share_that_takes_everything_is_named(tmp_path, capsys):
    assert prepare(write(tmp_path / "in", {"1.png": image_bytes(1)}), tmp_path / "out", "--test", "99.99%") == 2
    assert "--test 99.99% of 1 images leaves none to train on: add images, or use --test 0" in capsys.readouterr().err
    assert prepare(tmp_path / "in", tmp_path / "out", "--test", "1") == 2
    assert "--test 1 of 1 images leaves none to train on" in capsys.readouterr().err


def damaged(good):
    """`good` readable images and three that are not."""
    whole = image_bytes(5, "jpeg", 200, 200)
    bad = {"cut.jpg": whole[: len(whole) // 2], "empty.png": b"", "text.png": b"not an image"}
    return {f"{n:03}.png": image_bytes(n) for n in range(good)} | bad


def test_unreadable_files_are_skipped_and_listed(tmp_path, capsys):
    source = write(tmp_path / "in", damaged(97))
    assert prepare(source, tmp_path / "out", "--max-bad", "3%") == 0
    lines = (tmp_path / "out" / "skipped.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["cut.jpg", "empty.png", "text.png"]
    assert "truncated" in lines[0]
    assert "cannot identify image file" in lines[1]
    assert "3 of 100 inputs skipped: see skipped.txt" in capsys.readouterr().err
    assert len(rows(tmp_path / "out")) == 97


def test_too_many_unreadable_files_stop_with_the_list_and_leave_nothing(tmp_path, capsys):
    source = write(tmp_path / "in", damaged(97))
    assert prepare(source, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "error: 3 of 100 inputs could not be used, more than --max-bad 1.00% allows" in error
    assert "cut.jpg" in error
    assert "text.png" in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_nothing_readable_stops_whatever_max_bad_says(tmp_path, capsys):
    assert prepare(write(tmp_path / "in", damaged(0)), tmp_path / "out", "--max-bad", "100%") == 2
    assert "3 of 3 inputs could not be used" in capsys.readouterr().err


def test_crop_and_jpeg(tmp_path):
    middle = np.zeros((40, 40, 3), np.uint8)
    middle[10:30, 10:30] = [200, 100, 50]
    (tmp_path / "in").mkdir()
    Image.fromarray(middle).save(tmp_path / "in" / "a.png")
    assert prepare(tmp_path / "in", tmp_path / "out", "--crop", "20,20", "--encoding", "jpeg") == 0
    builder = tfds.builder_from_directory(tmp_path / "out")
    (raw,) = tfds.as_numpy(builder.as_dataset(split="train", decoders={"image": tfds.decode.SkipDecoding()}))
    image = Image.open(io.BytesIO(raw["image"]))
    assert image.format == "JPEG"
    assert abs(np.asarray(image).astype(int) - [200, 100, 50]).max() < 8


def test_a_link_to_another_class_leaves_that_its_name(tmp_path):
    source = write(tmp_path / "in", CLASSES)
    (source / "best").symlink_to(source / "cats")
    (source / "dogs" / "best").symlink_to("../cats/more")
    elsewhere = write(tmp_path / "elsewhere", {"4.png": image_bytes(40)})
    (source / "birds").symlink_to(elsewhere)
    hidden = write(source / ".store", {"5.png": image_bytes(50)})
    (source / "fish").symlink_to(hidden)
    assert prepare(source, tmp_path / "out") == 0
    assert rows(tmp_path / "out") == [(10, "cats"), (20, "cats"), (30, "dogs"), (40, "birds"), (50, "fish")]


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("thumbs/9.png", image_bytes(90))
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for name, content in (CLASSES | {"thumbs.zip": packed.getvalue()}).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert prepare(tmp_path / "photos.tar", tmp_path / "out") == 0
    assert [number for number, _ in rows(tmp_path / "out")] == [10, 20, 30]


def test_a_share_of_bad_files_is_met_exactly(tmp_path):
    files = {f"{number}.png": image_bytes(number) if number >= 29 else b"" for number in range(100)}
    assert prepare(write(tmp_path / "in", files), tmp_path / "out", "--max-bad", "29%") == 0
    assert len(rows(tmp_path / "out")) == 71


def test_a_link_to_a_folder_above_is_followed_once(tmp_path):
    source = write(tmp_path / "in", CLASSES)
    (source / "cats" / "loop").symlink_to(source)
    assert prepare(source, tmp_path / "out") == 0
    assert len(rows(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        (None, [], "does not exist: give a folder, a zip or a tar(.gz)"),
        ("folder", [], "holds no image: it needs files ending in .jpg"),
        (b"PK\x03\x04 half a zip", [], "is neither a folder nor a whole zip or tar(.gz)"),
        ("half a tar", [], "breaks off or is damaged"),
        ("folder", ["--crop", "big"], "--crop 'big': use center, none or H,W"),
        ("folder", ["--max-bad", "200%"], "--max-bad '200%': use a share"),
        ("tar", ["--beam", "--runner=DirectRunner"], "unpack it, or make it a zip, for --beam"),
    ],
)
def test_bad_sources_and_flags_are_named(content, flags, message, tmp_path, capsys):
    source = tmp_path / "in"
    if content == "folder":
        source.mkdir()
    elif content in ("tar", "half a tar"):
        write(tmp_path / "files", {f"{n}.png": np.random.default_rng(n).bytes(5000) for n in range(20)})
        with tarfile.open(source, "w:gz") as tar:
            tar.add(tmp_path / "files", "files")
        if content == "half a tar":
            source.write_bytes(source.read_bytes()[:50_000])
    elif content:
        source.write_bytes(content)
    assert prepare(source, tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_shares_are_read():
    assert parse_share("--max-bad", "1%") == parse_share("--max-bad", "0.01") == 0.01
    for text in ("-1%", "x", "1.5", "nan"):
        with pytest.raises(UserError, match="--max-bad"):
            parse_share("--max-bad", text)
