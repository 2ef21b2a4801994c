"""The tfds catalogue, stood in for by a small data set of this file's own: there is no network in a test."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_prep import catalogue
from data_prep.__main__ import main


class TinyCatalogueEntry(tfds.core.GeneratorBasedBuilder):
    """Grey images, 30 x 20, brighter in the middle 10 x 10; number i has value i."""

    VERSION = tfds.core.Version("1.2.3")

    def _info(self):
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 1)),
            "label": tfds.features.ClassLabel(names=["even", "odd"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features), citation="@tiny")

    def _split_generators(self, dl_manager):
        return {"train": self._rows(0, 40), "test": self._rows(40, 50)}

    _generate_examples = None

    def _rows(self, start, stop):
        for i in range(start, stop):
            image = np.full((30, 20, 1), i, np.uint8)
            image[10:20, 5:15] = i + 100
            yield i, {"id": str(i), "image": image, "label": i % 2}


class TwoPictures(tfds.core.GeneratorBasedBuilder):
    """Two images an example: which one is meant nobody can tell."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {name: tfds.features.Image(shape=(8, 8, 3)) for name in ("left", "right")}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {name: np.zeros((8, 8, 3), np.uint8) for name in ("left", "right")}


class NoNetwork(TwoPictures):
    """Its download fails as it does without a network."""

    def _split_generators(self, dl_manager):
        raise ConnectionError("Name or service not known")


def prepare(name, tmp_path, *flags):
    fixed = ["--out", str(tmp_path / "out"), "--data-dir", str(tmp_path / "tfds"), "--size", "16", "--workers", "2"]
    return main(["catalogue", name, *fixed, *flags])


def rows(tmp_path, split="train"):
    builder = tfds.builder_from_directory(tmp_path / "out")
    return builder, sorted(
        (int(row["image"][8, 8, 0]), int(row["label"])) for row in tfds.as_numpy(builder.as_dataset(split=split))
    )


class TrainAlone(TinyCatalogueEntry):
    """The same images in one split."""

    def _split_generators(self, dl_manager):
        return {"train": self._rows(0, 50)}


class NoTrain(TinyCatalogueEntry):
    """The same images, and nothing says what to train on."""

    def _split_generators(self, dl_manager):
        return {"whole": self._rows(0, 50)}


def test_a_catalogue_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "EXAMPLES_PER_TASK", 7)  # several tasks, the last one short
    assert prepare("tiny_catalogue_entry", tmp_path, "--crop", "10,10") == 0
    builder, made = rows(tmp_path)
    assert made == [(i + 100, i % 2) for i in range(40)]  # the crop leaves the bright middle; grey has become RGB
    assert rows(tmp_path, "test")[1] == [(i + 100, i % 2) for i in range(40, 50)]
    assert builder.info.features["image"].shape == (16, 16, 3)
    assert builder.info.features["label"].names == ["even", "odd"]
    assert builder.info.citation == "@tiny"
    assert "tiny_catalogue_entry/1.2.3" in builder.info.description


@pytest.mark.parametrize("split", ["train[10:20]+test[:3]", "test", "train[50%:]"])
def test_splits_in_tfds_notation(split, tmp_path):
    assert prepare("tiny_catalogue_entry", tmp_path, "--crop", "10,10", "--split", split, "--test", "0") == 0
    original = tfds.load("tiny_catalogue_entry", data_dir=tmp_path / "tfds", split=split, download=False)
    expected = sorted((int(row["image"][15, 10, 0]), int(row["label"])) for row in tfds.as_numpy(original))
    builder, made = rows(tmp_path)
    assert made == expected
    assert list(builder.info.splits) == ["train"]
    assert len(expected) >= 10


@pytest.mark.parametrize(
    ("name", "flags", "test"),
    [
        ("train_alone", [], 5),
        ("train_alone", ["--test", "8"], 8),
        ("tiny_catalogue_entry", ["--split", "test+train", "--test", "30%"], 15),  # cut inside the second of the two
        ("no_train", ["--split", "whole"], 5),
    ],
)
def test_without_splits_of_its_own_the_last_of_it_are_test(name, flags, test, tmp_path):
    assert prepare(name, tmp_path, "--crop", "10,10", *flags) == 0
    builder, train = rows(tmp_path)
    assert len(train) == 50 - test
    assert sorted(train + rows(tmp_path, "test")[1]) == [(i + 100, i % 2) for i in range(50)]
    assert sorted(builder.info.splits) == ["test", "train"]


def test_no_test_at_all_where_none_is_wanted(tmp_path):
    assert prepare("tiny_catalogue_entry", tmp_path, "--test", "0") == 0
    builder = tfds.builder_from_directory(tmp_path / "out")
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 40}


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("no_such_thing", [], "NAME 'no_such_thing': no such data set"),
        ("tiny_catalogue_entry", ["--split", "validation"], "--split 'validation': tiny_catalogue_entry has train, test"),
        ("tiny_catalogue_entry", ["--split", "train[:0]"], "--split 'train[:0]' of tiny_catalogue_entry is empty"),
        ("tiny_catalogue_entry", ["--split", "train+train"], "--split 'train+train' takes examples of train twice, from 0 on"),
        (
            "train_alone",
            ["--split", "train[:60%]+train[50%:]"],
            "--split 'train[:60%]+train[50%:]' takes examples of train twice, from 25 on: use slices",
        ),
        (
            "tiny_catalogue_entry",
            ["--test", "5"],
            "--test 5: tiny_catalogue_entry has train, test: leave it out, or cut one of them",
        ),
        ("train_alone", ["--test", "50"], "--test 50 of 50 images leaves none to train on: use at most 49"),
        ("train_alone", ["--test", "half"], "--test half: use a share below 100%"),
        ("no_train", [], "NAME 'no_train' has whole and no train: say what to train on with --split"),
        ("tiny_catalogue_entry", ["--crop", "0,1"], "--crop '0,1': use center, none or H,W"),
        ("two_pictures", [], "NAME 'two_pictures' has 2 images an example"),
        ("no_network", [], "NAME 'no_network': could not be downloaded or prepared"),
    ],
)
def test_errors_name_what_is_wrong(name, flags, message, tmp_path, capsys):
    assert prepare(name, tmp_path, *flags) == 2
    assert "error: " + message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
