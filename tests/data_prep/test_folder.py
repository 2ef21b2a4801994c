"""One's own images, from folders and archives, whole and damaged."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_prep.__main__ import main
from data_prep.folder import parse_share
from holotf.errors import UserError


def image_bytes(number, encoding="png", height=24, width=20):
    """An image whose colour says which one it is."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (number, 255 - number, 7)).save(stream, encoding)
    return stream.getvalue()


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def prepare(source, out, *flags):
    return main(["folder", "--source", str(source), "--out", str(out), "--size", "16", "--workers", "0", *map(str, flags)])


def rows(out):
    """(red value of the middle, label or None) of each example, sorted."""
    builder = tfds.builder_from_directory(out)
    label = dict(builder.info.features).get("label")
    found = tfds.as_numpy(builder.as_dataset(split="train"))
    return sorted((int(row["image"][8, 8, 0]), label.int2str(int(row["label"])) if label else None) for row in found)


CLASSES = {"cats/1.png": image_bytes(10), "cats/more/2.PNG": image_bytes(20), "dogs/3.bmp": image_bytes(30, "bmp")}


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


def test_train_and_test_folders(tmp_path, capsys):
    files = {f"train/{name}": content for name, content in CLASSES.items()} | {"test/cats/9.png": image_bytes(90)}
    source = write(tmp_path / "in", files)
    assert prepare(source, tmp_path / "out") == 2
    assert (
        "--source holds the splits test, train: choose one with --subdir train, or all with --subdir ." in capsys.readouterr().err
    )
    assert prepare(source, tmp_path / "out", "--subdir", "train") == 0
    assert rows(tmp_path / "out") == [(10, "cats"), (20, "cats"), (30, "dogs")]
    assert prepare(source, tmp_path / "all", "--subdir", ".") == 0
    assert rows(tmp_path / "all") == [(10, "cats"), (20, "cats"), (30, "dogs"), (90, "cats")]
    assert prepare(source, tmp_path / "none", "--subdir", "val") == 2
    assert "--subdir 'val' holds no image: use test, train" in capsys.readouterr().err


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
