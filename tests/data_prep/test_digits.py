"""The sources of digits on small files of their formats, written here: there is no network in a test."""

import bz2
import gzip
import io
import struct
import tarfile

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from PIL import Image

from data_prep import mnist_m
from data_prep.__main__ import main

RNG = np.random.default_rng(0)
SIDES = {"train": 30, "test": 10}


def idx(values):
    """An array of bytes as an IDX file."""
    return struct.pack(f">2xBB{values.ndim}I", 8, values.ndim, *values.shape) + values.tobytes()


def digits(count, side=28, channels=()):
    """Images whose first pixel is their number, labelled number % 10."""
    images = RNG.integers(0, 256, (count, side, side, *channels)).astype(np.uint8)
    images[:, 0, 0] = np.arange(count).reshape(-1, *[1] * len(channels))
    return images, (np.arange(count) % 10).astype(np.uint8)


@pytest.fixture
def idx_folder(tmp_path):
    """The four files of MNIST: train packed, test not; and what is in them."""
    folder, held = tmp_path / "raw", {}
    folder.mkdir()
    for split, name in (("train", "train"), ("test", "t10k")):
        images, labels = held[split] = digits(SIDES[split])
        for stem, values in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx(values)
            if split == "train":
                (folder / f"{name}-{stem}-ubyte.gz").write_bytes(gzip.compress(content))
            else:
                (folder / f"{name}-{stem}-ubyte").write_bytes(content)
    return folder, held


def prepare(name, tmp_path, *flags, workers=0):
    return main([name, "--out", str(tmp_path / "out"), "--workers", str(workers), *map(str, flags)])


def rows(tmp_path, split):
    """(images by the number in their first pixel, their labels) of what was written."""
    builder = tfds.builder_from_directory(tmp_path / "out")
    found = sorted(tfds.as_numpy(builder.as_dataset(split)), key=lambda row: int(row["image"][0, 0, 0]))
    return np.stack([row["image"] for row in found]), [int(row["label"]) for row in found]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files_packed_or_not_keep_their_pixels(name, idx_folder, tmp_path, capsys):
    folder, held = idx_folder
    assert prepare(name, tmp_path, "--source", folder, workers=1) == 0
    for split, (images, labels) in held.items():
        found, named = rows(tmp_path, split)
        np.testing.assert_array_equal(found, np.repeat(images[..., np.newaxis], 3, axis=-1))  # 28 px: nothing is resized
        assert named == labels.tolist()
    names = tfds.builder_from_directory(tmp_path / "out").info.features["label"].names
    assert names == [str(i) for i in range(10)] if name == "mnist" else names[9] == "Ankle boot"
    assert "--config configs/domains_digits.py --config.data.sources.source.dir=" in capsys.readouterr().out


def test_another_size(idx_folder, tmp_path):
    assert prepare("mnist", tmp_path, "--source", idx_folder[0], "--size", 32) == 0
    assert rows(tmp_path, "test")[0].shape == (10, 32, 32, 3)


def test_keras_npz_has_splits_of_its_own(tmp_path, capsys):
    (train, train_labels), (test, test_labels) = digits(30), digits(10)
    np.savez_compressed(tmp_path / "mnist.npz", x_train=train, y_train=train_labels, x_test=test, y_test=test_labels)
    assert prepare("mnist", tmp_path, "--source", tmp_path / "mnist.npz", "--test", "10%") == 2
    assert "--test 10%: --source has train, test: leave it out" in capsys.readouterr().err
    assert prepare("mnist", tmp_path, "--source", tmp_path / "mnist.npz") == 0
    np.testing.assert_array_equal(rows(tmp_path, "test")[0][..., 0], test)


def test_a_heap_is_cut_by_the_pixels_and_copies_stay_together(tmp_path):
    images, labels = digits(100)
    images, labels = np.tile(images, (2, 1, 1)), np.tile(labels, 2)
    np.savez(tmp_path / "heap.npz", image=images, label=labels)
    assert prepare("mnist", tmp_path, "--source", tmp_path / "heap.npz", "--test", "40") == 0
    train, test = ({image.tobytes() for image in rows(tmp_path, split)[0]} for split in ("train", "test"))
    assert not train & test
    assert len(train) + len(test) == 100
    assert len(rows(tmp_path, "test")[1]) == 40


def libsvm(values, labels):
    lines = [
        f"{label} " + " ".join(f"{i + 1}:{v:g}" for i, v in enumerate(row) if v) for row, label in zip(values, labels, strict=True)
    ]
    return "\n".join(lines).encode() + b"\n"


def test_usps_counts_from_one_and_leaves_zeros_out(tmp_path):
    values = np.round(RNG.uniform(-1, 1, (20, 256)), 3)
    values[:, 0], values[:, 1:40] = np.linspace(-1, 1, 20), 0.0
    (tmp_path / "usps.bz2").write_bytes(bz2.compress(libsvm(values, np.arange(20) % 10 + 1)))
    (tmp_path / "usps.t").write_bytes(libsvm(values[:5], [10, 9, 8, 7, 6]))
    assert prepare("usps", tmp_path, "--source", tmp_path, "--size", 16) == 0
    found, named = rows(tmp_path, "train")
    np.testing.assert_array_equal(found[..., 0], np.round((values + 1) * 127.5).reshape(-1, 16, 16))
    assert named == [i % 10 for i in range(20)]
    assert rows(tmp_path, "test")[1] == [9, 8, 7, 6, 5]


def test_svhn_turns_its_axes_and_ten_is_zero(tmp_path):
    for split in ("train", "test"):
        images, labels = digits(20, 32, (3,))
        labels = np.where(labels == 0, 10, labels)[:, np.newaxis]
        scipy.io.savemat(tmp_path / f"{split}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": labels}, do_compression=True)
    assert prepare("svhn", tmp_path, "--source", tmp_path, "--size", 32) == 0
    found, named = rows(tmp_path, "test")
    np.testing.assert_array_equal(found, images)
    assert named == [i % 10 for i in range(20)]


def test_scikit_learns_digits(tmp_path):
    pytest.importorskip("sklearn")
    assert prepare("digits", tmp_path) == 0
    builder = tfds.builder_from_directory(tmp_path / "out")
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sum(counts.values()) == 1797
    assert 120 < counts["test"] < 240
    image = next(iter(tfds.as_numpy(builder.as_dataset("test"))))["image"]
    assert image.shape == (28, 28, 3)
    assert image.max() > 200


# --- MNIST-M


def gradients(count, height=40, width=50):
    """Photographs in which a pixel tells where it lies and in which."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return [np.stack([y, x, np.full_like(y, 60 * i)], axis=-1) for i in range(count)]


def test_a_digit_lies_on_a_patch_by_absolute_difference(idx_folder, tmp_path):
    folder, held = idx_folder
    (tmp_path / "photos").mkdir()
    for i, photo in enumerate(gradients(3)):
        Image.fromarray(photo).save(tmp_path / "photos" / f"{i}.png")
    assert prepare("mnist_m", tmp_path, "--source", folder, "--photos", tmp_path / "photos") == 0
    builder = tfds.builder_from_directory(tmp_path / "out")
    seen = set()
    by_label = {label: held["test"][0][i].astype(int) for i, label in enumerate(held["test"][1])}
    for row in tfds.as_numpy(builder.as_dataset("test")):
        digit, image = by_label[int(row["label"])], row["image"].astype(int)
        matches = [
            (i, y, x)
            for i, photo in enumerate(gradients(3))
            for y in range(13)
            for x in range(23)
            if np.array_equal(image, np.abs(photo[y : y + 28, x : x + 28].astype(int) - digit[..., np.newaxis]))
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 10


def test_patches_follow_from_seed_split_and_number_alone():
    images, photos = digits(20)[0], gradients(3)
    whole = mnist_m.blended("train", 0, images, photos, 0)
    np.testing.assert_array_equal(mnist_m.blended("train", 7, images[7:], photos, 0), whole[7:])
    for split, seed in (("test", 0), ("train", 1)):
        assert not np.array_equal(mnist_m.blended(split, 0, images, photos, seed), whole)


def test_photographs_of_an_archive_of_which_some_cannot_be_used(tmp_path, capsys):
    large = Image.fromarray(RNG.integers(0, 256, (600, 1200, 3)).astype(np.uint8))
    small = Image.fromarray(np.zeros((20, 90, 3), np.uint8))
    with tarfile.open(tmp_path / "photos.tgz", "w:gz") as archive:
        for name, image in (("b/large.png", large), ("a/small.png", small), ("broken.jpg", None)):
            stream = io.BytesIO(b"no image")
            if image is not None:
                image.save(stream, "png")
            member = tarfile.TarInfo(name)
            member.size = len(stream.getvalue())
            archive.addfile(member, io.BytesIO(stream.getvalue()))
    (photo,) = mnist_m.photos_of(tmp_path / "photos.tgz", 28)
    assert photo.shape == (241, 481, 3)  # as large as BSDS500's
    assert "2 of 3 photographs left out: unreadable, or smaller than 28 px" in capsys.readouterr().err


def test_scikit_images_own_photographs():
    pytest.importorskip("skimage")
    photos = mnist_m.own_photos()
    assert len(photos) == len(mnist_m.OWN)
    assert all(max(photo.shape) <= 481 and min(photo.shape[:2]) > 28 and photo.shape[2] == 3 for photo in photos)


# --- what is broken


def spoil(folder, name, change):
    """Writes a changed file in place of one, unpacked where it was packed; returns its name."""
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(change(gzip.decompress(content)) if content[:2] == b"\x1f\x8b" else change(content))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train-images-idx3-ubyte.gz", lambda c: c[:-5], "has 23,515 bytes of data where its header says 23,520"),
        ("train-images-idx3-ubyte.gz", lambda c: c[:9], "breaks off in its header"),
        ("train-images-idx3-ubyte.gz", lambda c: b"\x89PNG" + c, "is no IDX file of bytes"),
        ("train-images-idx3-ubyte.gz", lambda c: b"", "is no IDX file of bytes"),
        ("train-images-idx3-ubyte.gz", lambda c: gzip.compress(c)[:-200], "breaks off or is damaged"),
        ("t10k-labels-idx1-ubyte", lambda c: idx(np.zeros(9, np.uint8)), "has 10 images and 9 labels: take both from one source"),
        ("t10k-labels-idx1-ubyte", lambda c: idx(np.full(10, 11, np.uint8)), "labels image 0 11: use labels from 0 to 9"),
        ("t10k-images-idx3-ubyte", lambda c: idx(np.zeros([10, 784], np.uint8)), "holds uint8 [10, 784]: use bytes [N, H, W]"),
        ("t10k-images-idx3-ubyte", lambda c: idx(np.zeros([0, 28, 28], np.uint8)), "holds uint8 [0, 28, 28]: use bytes"),
    ],
)
def test_a_broken_idx_file_is_named_with_its_fault(name, change, message, idx_folder, tmp_path, capsys):
    folder, _ = idx_folder
    spoil(folder, name, change)
    assert prepare("mnist", tmp_path, "--source", folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    stem = "t10k-images-idx3-ubyte" if name.startswith("t10k") else name  # labels are told with their images
    assert line.startswith(f"error: {folder}/{stem} {message}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds nothing: use an npz with x_train, y_train, x_test and y_test, or with image and label"),
        ({"image": np.zeros([3, 28, 28], np.uint8)}, "holds image: use an npz with"),
        ({"image": np.zeros([3, 28, 28]), "label": [1, 2, 3]}, "holds float64 [3, 28, 28]: use bytes"),
        ({"image": np.zeros([2, 28, 28], np.uint8), "label": [0.5, 1]}, "labels image 0 0.5: use labels from 0 to 9"),
        ({"image": np.zeros([2, 28, 28], np.uint8), "label": ["0", "1"]}, "has labels of type <U1: use numbers from 0 to 9"),
        ({"image": np.zeros([2, 28, 28], np.uint8), "label": np.array([None, 1])}, "is no whole npz file (ValueError"),
    ],
)
def test_an_npz_with_something_else_in_it_is_named(arrays, message, tmp_path, capsys):
    np.savez(tmp_path / "some.npz", **arrays)
    assert prepare("mnist", tmp_path, "--source", tmp_path / "some.npz") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/some.npz {message}")


def test_mnist_m_wants_grey_digits_and_photographs_that_hold_them(tmp_path, capsys):
    image = np.zeros([20, 28, 40, 3], np.uint8)
    np.savez(tmp_path / "colour.npz", image=image, label=np.arange(20) % 10)
    assert prepare("mnist_m", tmp_path, "--source", tmp_path / "colour.npz") == 2
    assert "holds images in colour: use grey ones [N, H, W]" in capsys.readouterr().err
    np.savez(tmp_path / "wide.npz", image=image[..., 0], label=np.arange(20) % 10)
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros([30, 30, 3], np.uint8)).save(tmp_path / "photos" / "small.png")
    assert prepare("mnist_m", tmp_path, "--source", tmp_path / "wide.npz", "--photos", tmp_path / "photos") == 2
    assert "has no photograph of 40 px or more" in capsys.readouterr().err


def by_message(value):
    """The name of a test's parameter; what a file holds is none, and may say when it was made."""
    return value if isinstance(value, str) else "file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1 1:0.5\n2 257:1\n", "has no example of 256 features in line 2 (ValueError: an index beyond 256): copy it again"),
        (b"1 1:0.5\none 1:0.5\n", "has no example of 256 features in line 2 (ValueError: could not convert"),
        (b"1 1:0.5\n2\n", "has no example of 256 features in line 2"),
        (b"1 1:0.5\n2 1:2.5\n", "has values beyond [-1, 1] in example 2: use LIBSVM's scaled files"),
        (b"1 1:0.5\n2 1:nan\n", "has values beyond [-1, 1] in example 2"),
        (b"0 1:0.5\n", "labels image 0 -1: use labels from 0 to 9"),
        (b"\xff\xfe", "is no text of LIBSVM's kind"),
        (b"", "holds uint8 [0, 16, 16]: use bytes"),
        (bz2.compress(b"1 1:0.5\n" * 999)[:-10], "breaks off or is damaged"),
    ],
    ids=by_message,
)
def test_a_broken_libsvm_file_is_named_with_its_line(content, message, tmp_path, capsys):
    (tmp_path / "usps.bz2").write_bytes(content)
    assert prepare("usps", tmp_path, "--source", tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/usps.bz2 {message}")


def mat(**arrays):
    stream = io.BytesIO()
    scipy.io.savemat(stream, arrays)
    return stream.getvalue()


X, Y = np.zeros([32, 32, 3, 4], np.uint8), np.array([[10], [1], [2], [3]], np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (mat(X=X), "has no y: use a file with X, y"),
        (mat(X=X, y=Y * 0), "holds X [32, 32, 3, 4] and y of 0: use the files of cropped digits"),
        (mat(X=X[..., 0], y=Y), "holds X [32, 32, 3] and y of 1, 2, 3, 10: use the files of cropped digits"),
        (mat(X=X.astype(float), y=Y), "holds float64 [4, 32, 32, 3]: use bytes"),
        (mat(X=X, y=Y[:3]), "has 4 images and 3 labels"),
        (mat(X=X, y=Y)[:3000], "is no whole MATLAB file"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400), "is of MATLAB's version 7.3: use the files of cropped"),
        (b"nothing of the kind", "is no whole MATLAB file"),
    ],
    ids=by_message,
)
def test_a_broken_mat_file_is_named_with_its_fault(content, message, tmp_path, capsys):
    (tmp_path / "train_32x32.mat").write_bytes(content)
    assert prepare("svhn", tmp_path, "--source", tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/train_32x32.mat {message}")


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("mnist", ["--source", "none"], "--source none is no folder: give the folder with train-images-idx3-ubyte.gz or"),
        ("mnist", ["--source", "."], "--source . has no train-images-idx3-ubyte.gz: give the folder with"),
        ("usps", ["--source", "."], "--source . has no usps.bz2: give the folder with usps.bz2 or usps"),
        ("usps", ["--source", 300 * "a"], f"--source {300 * 'a'} is no folder: give the folder with usps.bz2 or usps"),
        ("svhn", ["--source", "."], "--source . has no train_32x32.mat: give the folder with train_32x32.mat"),
        ("mnist", ["--source", "none.npz"], "none.npz cannot be read (No such file or directory)"),
        ("mnist_m", ["--source", "raw", "--photos", "none"], "--photos none does not exist: give a folder, a zip or a tar"),
        ("mnist_m", ["--source", "raw", "--photos", "raw"], "--photos raw has no photograph of 28 px or more"),
        ("mnist_m", ["--source", "raw", "--seed", "-1"], "--seed -1: use 0 or more"),
        ("digits", ["--test", "half"], "--test half: use a share below 100%"),
    ],
)
def test_what_is_missing_is_named(name, flags, message, idx_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prepare(name, tmp_path, *flags) == 2
    assert f"error: {message}" in capsys.readouterr().err
