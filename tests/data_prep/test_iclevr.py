"""The layout of i-CLEVR's files, tiny: read as it is, and what is wrong in it said with file and entry."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_prep.__main__ import main

KINDS = {"gray cube": 0, "red cube": 1, "blue sphere": 2, "cyan cylinder": 3}
SERIES = 20


def written(folder, inner="iclevr"):
    """Twenty series of three images of 32 x 24 px; pixel (0, 0) holds the series and the place in it."""
    (folder / inner).mkdir(parents=True, exist_ok=True)
    shown, names = {}, list(KINDS)
    for number in range(SERIES):
        for place in range(3):
            name = f"CLEVR_train_{number:06d}_{place}.png"
            image = np.zeros((24, 32, 4), np.uint8) + 255
            image[...] = (number, place, 7, 255)
            Image.fromarray(image).save(folder / inner / name)
            shown[name] = [names[(number + at) % 4] for at in range(place + 1)]
    write(folder, "objects", KINDS)
    write(folder, "train", shown)
    write(folder, "test", [["gray cube"], ["red cube", "blue sphere"]])
    write(folder, "new_test", [["cyan cylinder", "gray cube", "red cube"]])
    return folder


def write(folder, name, content):
    (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.fixture
def source(tmp_path):
    return written(tmp_path / "source")


def prepare(source, out, *flags):
    return main(["iclevr", "--source", str(source), "--out", str(out), "--size", "16", "--workers", "0", *map(str, flags)])


@pytest.mark.parametrize("inner", ["iclevr", "images", "."])
def test_images_labels_and_lists_are_read(tmp_path, inner):
    source, out = written(tmp_path / "source", inner), tmp_path / "out"
    assert prepare(source, out, "--test", "30%") == 0
    builder = tfds.builder_from_directory(out)
    names = builder.info.features["labels"].feature.names
    assert names == list(KINDS)
    series = {}
    for split in builder.info.splits:
        rows = list(tfds.as_numpy(builder.as_dataset(split=split)))
        for row in rows:
            number, place = (int(v) for v in row["image"][0, 0, :2])
            assert row["image"].shape == (16, 16, 3)
            assert [names[label] for label in row["labels"]] == read(source, "train")[f"CLEVR_train_{number:06d}_{place}.png"]
        series[split] = [int(row["image"][0, 0, 0]) for row in rows]
    assert len(series["train"]) + len(series["test"]) == 3 * SERIES
    assert not set(series["train"]) & set(series["test"]), "a series is in both"
    assert 1 <= len(set(series["test"])) <= 12
    lists = json.loads((out / "conditions.json").read_text())
    assert lists == {"test": read(source, "test"), "new_test": read(source, "new_test")}


def test_one_list_will_do_and_a_label_twice_is_one(source, tmp_path):
    (source / "new_test.json").unlink()
    write(source, "test", [["gray cube", "gray cube", "red cube"]])
    assert prepare(source, tmp_path / "out", "--test", 0) == 0
    assert json.loads((tmp_path / "out" / "conditions.json").read_text()) == {"test": [["gray cube", "red cube"]]}
    assert list(tfds.builder_from_directory(tmp_path / "out").info.splits) == ["train"]


def test_images_without_an_entry_are_counted(source, tmp_path, capsys):
    shown = read(source, "train")
    for place in range(2):
        del shown[f"CLEVR_train_000003_{place}.png"]
    write(source, "train", shown)
    assert prepare(source, tmp_path / "out", "--test", 0) == 0
    assert "2 images have no entry in train.json and are left out: CLEVR_train_000003_0.png" in capsys.readouterr().err
    assert tfds.builder_from_directory(tmp_path / "out").info.splits["train"].num_examples == 3 * SERIES - 2


IMAGE = "CLEVR_train_000003_1.png"
BROKEN = [
    ("objects", None, "objects.json is missing: put it there; it holds kinds with their numbers"),
    ("train", None, "train.json is missing: put it there"),
    ("test", None, "test.json is missing: put it there"),
    ("objects", "{", "objects.json is no JSON (Expecting property name"),
    ("objects", '{"gray cube": 0, "gray cube": 1}', "objects.json is no JSON ('gray cube' is there twice)"),
    ("objects", "[]", "objects.json holds nothing: it is to hold kinds"),
    ("objects", ["gray cube"], "objects.json holds something else"),
    ("objects", KINDS | {"red cube": 7}, "objects.json: 'red cube': its number is 7: use 0 to 3, each once"),
    ("objects", KINDS | {"red cube": 2}, "objects.json: 'red cube': its number is 2, as another's"),
    ("objects", KINDS | {"red cube": "1"}, "objects.json: 'red cube': its number is '1'"),
    ("objects", {"red, cube": 0}, "objects.json: 'red, cube': it is empty, or has a comma"),
    ("train", "nonsense", "train.json is no JSON"),
    ("train", {}, "train.json holds nothing"),
    (
        "train",
        {IMAGE: ["grey cube"]},
        f"train.json: '{IMAGE}': \"grey cube\" is not in objects.json: use one of it, such as gray cube",
    ),
    ("train", {IMAGE: []}, f"train.json: '{IMAGE}': [] is no list of labels"),
    ("train", {IMAGE: "gray cube"}, f"train.json: '{IMAGE}': \"gray cube\" is no list of labels"),
    ("train", {IMAGE: None}, f"train.json: '{IMAGE}': null is no list of labels"),
    ("train", {IMAGE: [["gray cube"]]}, f"train.json: '{IMAGE}': [\"gray cube\"] is not in objects.json"),
    (
        "train",
        {IMAGE: ["gray cube"], "CLEVR_train_9_0.png": ["red cube"]},
        "train.json: 'CLEVR_train_9_0.png': there is no such image in",
    ),
    ("train", {"CLEVR_train_9_0.png": ["red cube"]}, "train.json: 'CLEVR_train_9_0.png': there is no such image in"),
    ("test", [["gray cube"], ["blue cube"]], 'test.json: entry 1: "blue cube" is not in objects.json'),
    ("test", {"a": ["gray cube"]}, "test.json holds something else: it is to hold a list"),
    ("new_test", [["gray cube"], []], "new_test.json: entry 1: [] is no list of labels"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_what_is_wrong_is_one_line_with_file_and_entry(source, tmp_path, capsys, name, content, message):
    if content is None:
        (source / f"{name}.json").unlink()
    else:
        write(source, name, content)
    assert prepare(source, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {source}/")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_image_is_named_or_left_out(source, tmp_path, capsys):
    (source / "iclevr" / IMAGE).write_bytes(b"no image")
    assert prepare(source, tmp_path / "out", "--test", 0) == 2
    assert IMAGE in capsys.readouterr().err
    assert prepare(source, tmp_path / "out", "--test", 0, "--max-bad", "5%") == 0
    assert (tmp_path / "out" / "skipped.txt").read_text().startswith(IMAGE)
    assert tfds.builder_from_directory(tmp_path / "out").info.splits["train"].num_examples == 3 * SERIES - 1


def test_a_source_that_is_not_there(tmp_path, capsys):
    assert prepare(tmp_path / "nowhere", tmp_path / "out") == 2
    assert "nowhere/objects.json is missing" in capsys.readouterr().err
