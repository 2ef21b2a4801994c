"""Images drawn by an export: what is said of a view is what was asked for, and nothing depends on how many there are."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import PUBLISHED, small_config

from data_prep import generated
from data_prep.__main__ import main
from holotf import models
from holotf.export import export


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(model, folder of its export): azimuths to one side only, elevations from above and below. Not to be written to."""
    views = {"views.azimuth_deg": (-90.0, 30.0), "views.elevation_deg": (-10.0, 40.0), "views.scale": (0.8, 1.2)}
    model = models.initial(small_config(**PUBLISHED | views))
    needed = {name: function for name, function in model.endpoints().items() if name in generated.ENDPOINTS}
    model.endpoints = lambda: needed  # each of the others takes a second to export
    folder = tmp_path_factory.mktemp("exported") / "saved_model"
    export(model, str(folder))
    card = json.loads((folder / "card.json").read_text())
    card["data"] = [{"credits": "chairs by A. Nonymous\n"}]
    (folder / "card.json").write_text(json.dumps(card))
    return model, folder


def made(folder, out, *flags):
    assert main(["generated", f"--model={folder}", f"--out={out}", *flags]) == 0
    return out


def read(out, split):
    return list(tfds.as_numpy(tfds.builder_from_directory(str(out)).as_dataset(split=split)))


def test_an_image_is_the_view_that_its_labels_say(exported, tmp_path):
    """Of another object each, drawn by the model itself."""
    model, folder = exported
    out = made(folder, tmp_path / "data", "--count=90", "--test=20", "--seed=3")
    splits = {split: read(out, split) for split in ("train", "test")}
    assert {split: len(found) for split, found in splits.items()} == {"train": 70, "test": 20}
    numbers = [example["object"] for found in splits.values() for example in found]
    assert len(set(numbers)) == 90
    assert sorted(e["object"] for e in splits["test"]) == list(range(10**9, 10**9 + 20))
    azimuth, elevation = (np.array([e[f"{n}_deg"] for e in splits["train"]]) for n in ("azimuth", "elevation"))
    assert -90 <= azimuth.min() < -60 and 0 < azimuth.max() <= 30  # noqa: PT018
    assert -10 <= elevation.min() < 0 and 30 < elevation.max() <= 40  # noqa: PT018

    start = int(np.random.default_rng([3]).integers(2**31))
    for example in splits["train"][:3] + splits["test"][:3]:
        rng = np.random.default_rng([3, example["object"]])
        view = [rng.uniform(*model.config.views[name]) for name in generated.COLUMNS]
        assert (example["azimuth_deg"], example["elevation_deg"]) == pytest.approx(view[:2], abs=1e-4)
        z = model.latents([(start + example["object"]) % 2**31])
        drawn = model.images(z, tf.constant([view], tf.float32))[0].numpy()
        assert np.abs(drawn.astype(int) - example["image"]).max() <= 1

    assert json.loads((out / "card.json").read_text()) == json.loads((folder / "card.json").read_text())
    assert (out / "CREDITS").read_text() == "chairs by A. Nonymous\n"
    assert "azimuth -90,30 and elevation -10,40 degrees" in tfds.builder_from_directory(str(out)).info.description


def test_a_longer_one_begins_with_a_shorter_one(exported):
    """Bit for bit, also where a last task is not full; another seed draws others."""
    model, folder = exported
    settings = {"model": str(folder), "ranges": {name: tuple(model.config.views[name]) for name in generated.COLUMNS}}
    few, many = (generated.examples(("train", 0, count), seed=0, **settings) for count in (3, 64))
    assert few == many[:3]
    assert [number for number, _ in generated.examples(("train", 64, 2), seed=0, **settings)] == [64, 65]
    assert generated.examples(("train", 0, 3), seed=1, **settings)[0][1]["image"] != few[0][1]["image"]


def refused(capsys, tmp_path, *flags):
    assert main(["generated", f"--out={tmp_path / 'data'}", *map(str, flags)]) == 2
    assert not (tmp_path / "data").exists()
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_cannot_be_is_one_line(exported, tmp_path, capsys):
    _, folder = exported
    assert "--model nowhere holds no SavedModel: name RUN/saved_model of a HoloGAN" in refused(capsys, tmp_path, "--model=nowhere")
    for flag, message in (
        ("--size=64", f"--size 64: {folder} draws 32 px: leave it out"),
        ("--count=0", "--count 0: use 1 or more"),
        ("--seed=-1", "--seed -1: use 0 or more"),
        ("--test=100%", "--test 100%: leaves none to train on"),
    ):
        assert message in refused(capsys, tmp_path, f"--model={folder}", flag)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "is of a later format, 2: use a later version of holotf"),
        ({"model": {"name": "dcgan"}, "views": None}, "is a dcgan, which does not turn: name RUN/saved_model of a HoloGAN"),
        ({"views": {"ranges": {"azimuth_deg": [0, 360]}}}, "card.json cannot be read ('elevation_deg'): export the run again"),
        ({"endpoints": {}}, "is a hologan, which does not turn"),
        (None, "card.json cannot be read (Expecting value"),
    ],
)
def test_a_card_that_will_not_do_is_one_line(exported, tmp_path, capsys, change, message):
    copy = tmp_path / "saved_model"
    copy.mkdir()
    (copy / "saved_model.pb").touch()
    card = json.loads((exported[1] / "card.json").read_text())
    (copy / "card.json").write_text("" if change is None else json.dumps(card | change))
    assert message in refused(capsys, tmp_path, f"--model={copy}")


def test_a_damaged_export_is_one_line(exported, tmp_path, capsys):
    copy = shutil.copytree(exported[1], tmp_path / "saved_model")
    (copy / "saved_model.pb").write_bytes(b"no protobuf")
    line = refused(capsys, tmp_path, f"--model={copy}")
    assert f"--model {copy} cannot be loaded (" in line
    assert "export the run again" in line
