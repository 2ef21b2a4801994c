"""What is written is whole or not there, and what was there before stays until then."""

import os

import pytest

from holotf import files


def filled(folder, text):
    os.makedirs(folder)
    files.write(f"{folder}/content", text)


@pytest.fixture
def place(tmp_path):
    path = str(tmp_path / "place")
    with files.new_folder(path) as folder:
        filled(folder, "old")
        assert not os.path.exists(path)
    return path


def content(place):
    assert sorted(os.listdir(os.path.dirname(place))) == ["place"], "nothing is left beside it"
    with open(f"{place}/content", encoding="utf-8") as file:
        return file.read()


def test_a_whole_folder_takes_the_place_of_the_older_one(place):
    assert content(place) == "old"
    with files.new_folder(place) as folder:
        filled(folder, "new")
        assert os.path.exists(f"{place}/content"), "the older one stays while the new one is filled"
    assert content(place) == "new"


def test_a_failure_in_filling_leaves_the_older_one(place):
    def half():
        with files.new_folder(place) as folder:
            filled(folder, "half")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        half()
    assert content(place) == "old"


def test_a_failure_in_the_last_rename_puts_the_older_one_back(place, monkeypatch):
    rename = os.rename

    def failing(source, target):
        if target == place and "old" not in source:
            raise OSError("no more names")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)

    def replace():
        with files.new_folder(place) as folder:
            filled(folder, "new")

    with pytest.raises(OSError, match="no more names"):
        replace()
    assert content(place) == "old"
