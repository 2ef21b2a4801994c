"""Copies of an image fall to one side of a cut, and near-duplicates are found and left out."""

import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import run
from own_images import made_up, prepare, saved, splits, write
from PIL import Image

from data_prep.__main__ import main


def textured(number, height=24, width=20):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def pngs(out, split):
    """The distinct images of a split, as PNG bytes, and how many examples there are."""
    builder = tfds.builder_from_directory(out)
    found = [
        row["image"] for row in builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()}).as_numpy_iterator()
    ]
    return set(found), len(found)


@pytest.mark.parametrize("test", ["30%", "20"])
def test_copies_under_other_names_and_encodings_fall_to_one_side(test, tmp_path):
    files = {}
    for number in range(60):
        pixels = textured(number)
        turned = Image.Exif()
        turned[0x0112] = 6  # stands upright when turned by a quarter
        files[f"{number:02}.png"] = saved(pixels)
        files[f"copy {99 - number}.bmp"] = saved(pixels, "bmp")
        files[f"{number}.webp"] = saved(pixels, "webp", lossless=True, exact=True)
        files[f"turned {number}.png"] = saved(np.rot90(pixels), exif=turned)
    assert prepare(write(tmp_path / "in", files), tmp_path / "out", "--test", test) == 0
    (train, trained), (held, tested) = pngs(tmp_path / "out", "train"), pngs(tmp_path / "out", "test")
    assert not train & held
    assert (len(train) + len(held), trained + tested) == (60, 240)
    assert (trained, tested) == (4 * len(train), 4 * len(held))
    assert tested == 20 if test == "20" else 40 <= tested <= 104


def test_the_side_depends_on_the_pixels_alone(tmp_path):
    """Not on names, on other images, on --size, on the archive's order or on --workers."""
    write(tmp_path / "in", {f"{number:02}.png": saved(textured(number)) for number in range(70)})
    write(tmp_path / "fewer", {f"{99 - number}.bmp": saved(textured(number), "bmp") for number in range(40)})
    with tarfile.open(tmp_path / "in.tar.gz", "w:gz") as tar:
        for number in reversed(range(70)):
            tar.add(tmp_path / "in" / f"{number:02}.png", f"{number:02}.png")
    flags = ["--test", "30%", "--size", "20", "--crop", "none"]
    assert prepare(tmp_path / "in", tmp_path / "0", *flags) == 0
    assert prepare(tmp_path / "in", tmp_path / "2", *flags, "--workers", 2) == 0
    assert prepare(tmp_path / "in.tar.gz", tmp_path / "tar", *flags, "--workers", 1) == 0
    assert prepare(tmp_path / "fewer", tmp_path / "few", *flags) == 0
    shards = [f"folder-{split}.tfrecord-00000-of-00001" for split in ("train", "test")]
    for shard in shards:
        assert (tmp_path / "0" / shard).read_bytes() == (tmp_path / "2" / shard).read_bytes()
        assert (tmp_path / "0" / shard).read_bytes() == (tmp_path / "tar" / shard).read_bytes()
    assert splits(tmp_path / "0")["test"] >= 10
    for split in ("train", "test"):
        assert pngs(tmp_path / "few", split)[0] < pngs(tmp_path / "0", split)[0]
    assert prepare(tmp_path / "in", tmp_path / "large", *flags, "--size", "32") == 0
    assert splits(tmp_path / "large") == splits(tmp_path / "0")


def near_duplicates():
    """12 photographs, three of them with copies."""
    files = {f"{number:02}.png": saved(made_up(number)) for number in range(12)}
    files |= {"b.jpg": saved(made_up(3), "jpeg", quality=80), "c.png": saved(made_up(3, 48)), "larger.png": saved(made_up(5, 192))}
    return files | {"a.png": saved(np.clip(made_up(7).astype(int) + 12, 0, 255).astype(np.uint8))}


@pytest.mark.parametrize("workers", [0, 2])
def test_dedupe_keeps_the_largest_and_then_the_first_of_each_group(workers, tmp_path, capsys):
    source = write(tmp_path / "in", near_duplicates())
    assert prepare(source, tmp_path / "out", "--test", "3", "--dedupe", "--workers", workers) == 0
    assert (tmp_path / "out" / "duplicates.txt").read_text() == "03.png\tb.jpg\tc.png\n07.png\ta.png\nlarger.png\t05.png\n"
    assert "4 near-duplicates left out, of 3 images, see duplicates.txt" in capsys.readouterr().err
    assert splits(tmp_path / "out") == {"train": 9, "test": 3}
    assert prepare(source, tmp_path / "all", "--test", "0") == 0
    assert splits(tmp_path / "all") == {"train": 16}
    assert not (tmp_path / "all" / "duplicates.txt").exists()


def test_dedupe_leaves_no_near_duplicate_in_two_given_splits(tmp_path):
    names = dict(zip(near_duplicates(), ["train", "test"] * 8, strict=True))
    source = write(tmp_path / "in", {f"{names[name]}/{name}": content for name, content in near_duplicates().items()})
    assert prepare(source, tmp_path / "out", "own", "--dedupe") == 0
    groups = [line.split("\t") for line in (tmp_path / "out" / "duplicates.txt").read_text().splitlines()]
    assert sorted(sorted(name.split("/")[1] for name in group) for group in groups) == [
        ["03.png", "b.jpg", "c.png"],
        ["05.png", "larger.png"],
        ["07.png", "a.png"],
    ]
    assert any(len({name.split("/")[0] for name in group}) == 2 for group in groups), "some group lies in both"
    assert sum(splits(tmp_path / "out").values()) == 12


def test_dedupe_without_any_says_so(tmp_path, capsys):
    source = write(tmp_path / "in", {f"{number:02}.png": saved(made_up(number)) for number in range(5)})
    assert prepare(source, tmp_path / "out", "--dedupe") == 0
    assert "0 near-duplicates left out, of 0 images\n" in capsys.readouterr().err
    assert not (tmp_path / "out" / "duplicates.txt").exists()


@pytest.mark.slow
def test_beam_cuts_and_dedupes_alike(tmp_path):
    source = write(tmp_path / "in", near_duplicates() | {f"x{number}.png": saved(textured(number)) for number in range(20)})
    arguments = ["folder", "--source", source, "--size", 16, "--test", "30%", "--dedupe"]
    done = run(*arguments, "--out", tmp_path / "beam", "--beam", "--runner=DirectRunner", module="data_prep")
    assert done.returncode == 0, done.stderr[-3000:]
    assert main([*map(str, arguments), "--workers", "0", "--out", str(tmp_path / "local")]) == 0
    for split in ("train", "test"):
        assert pngs(tmp_path / "beam", split) == pngs(tmp_path / "local", split)
    assert sorted(path.name for path in (tmp_path / "beam").iterdir()) == sorted(
        path.name for path in (tmp_path / "local").iterdir()
    )
    assert (tmp_path / "beam" / "duplicates.txt").read_bytes() == (tmp_path / "local" / "duplicates.txt").read_bytes()
