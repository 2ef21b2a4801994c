"""Copies that were planted among the training images are counted and shown, each group beside the image that would stay."""

import numpy as np
import pytest
from conftest import small_config
from PIL import Image
from skimage import data

from data_prep.__main__ import main as prepare
from holotf import models
from holotf.evaluators.subject import Subject
from holotf.looks import duplicates

PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket", "moon", "page", "coins", "camera")
COPIES = {"astronaut": 2, "coffee": 1}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for name in PHOTOGRAPHS:
        image = Image.fromarray(getattr(data, name)()).convert("RGB")
        image.save(folder / f"{name}.png")
        for copy in range(COPIES.get(name, 0)):
            image.save(folder / f"{name}_{copy}.jpg", quality=60 + 20 * copy)
    assert prepare(["folder", f"--source={folder}", "--size=32", "--test=0", f"--out={folder / 'out'}"]) in (0, None)
    return str(folder / "out")


def test_planted_copies_are_found(photographs):
    config, shown = small_config(photographs, **{"model.name": "dcgan"}), {}
    subject = Subject(models.initial(config), config, shown.update)
    assert dict(duplicates.Look(subject).run()) == {"duplicates/share": 3 / 11, "duplicates/groups": 2.0}
    assert subject.notes == ["duplicates: 3 of 11 training images are near-duplicates of others, in 2 groups"]
    rows = shown["duplicates"].reshape(2, 128 + 15, 12, 128, 3).swapaxes(1, 2)[:, :, :128:4, ::4].astype(int)  # groups, columns
    for row, alike in zip(rows, (3, 2), strict=True):
        for tile in row[1:alike]:
            assert np.abs(tile - row[0]).mean() < 15
        assert row[alike:].min() == 255, "the rest is blank"
    assert np.abs(rows[0, 0] - rows[1, 0]).mean() > 30, "two photographs"


def test_where_there_are_none_there_is_no_sheet(photographs, monkeypatch):
    monkeypatch.setattr(duplicates.duplicates, "groups", lambda looks: [])
    config, shown = small_config(photographs, **{"model.name": "dcgan"}), {}
    found = dict(duplicates.Look(Subject(models.initial(config), config, shown.update)).run())
    assert (found, shown) == ({"duplicates/share": 0.0, "duplicates/groups": 0.0}, {})


def test_what_is_not_installed_is_said(squares, monkeypatch):
    monkeypatch.setattr(duplicates.duplicates, "missing", lambda: "needs imagehash (gone): pip install 'holotf[dedupe]'")
    config = small_config(squares, **{"model.name": "dcgan"})
    assert duplicates.Look(Subject(models.initial(config), config)).unfit() == (
        "no duplicates: it needs imagehash (gone): pip install 'holotf[dedupe]'"
    )
