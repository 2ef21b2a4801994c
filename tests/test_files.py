"""What is written is whole or not there, and what was there before stays until then; of what was killed nothing stays behind."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from holotf import files, processes


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
    assert os.listdir(place) == ["content"]
    with open(f"{place}/content", encoding="utf-8") as file:
        return file.read()


def test_a_whole_folder_takes_the_place_of_the_older_one(place):
    assert content(place) == "old"
    with files.new_folder(place) as folder:
        filled(folder, "new")
        assert os.path.exists(f"{place}/content"), "the older one stays while the new one is filled"
    assert content(place) == "new"


def test_a_trailing_slash_is_no_part_of_the_name(place):
    with files.new_folder(place + "/") as folder:
        filled(folder, "new")
    assert content(place) == "new"


def test_of_a_link_the_link_is_replaced_and_nothing_stays_beside_it(place, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("disk") / "folder"
    os.rename(place, elsewhere)
    os.symlink(elsewhere, place)
    with files.new_folder(place) as folder:
        filled(folder, "new")
    assert content(place) == "new"
    assert not os.path.islink(place)
    assert (elsewhere / "content").read_text(encoding="utf-8") == "old"


def test_what_is_to_stay_stays_even_if_it_comes_meanwhile(tmp_path):
    path = str(tmp_path / "place")

    def fill(meanwhile=lambda: None):
        with files.new_folder(path, replace=False) as folder:
            filled(folder, "mine")
            meanwhile()

    with pytest.raises(FileExistsError):
        fill(lambda: filled(path, "theirs"))
    assert content(path) == "theirs"
    shutil.rmtree(path)
    with pytest.raises(FileExistsError):
        fill(lambda: os.makedirs(path))
    assert os.listdir(tmp_path) == ["place"]
    assert os.listdir(path) == []
    os.rmdir(path)
    fill()
    assert content(path) == "mine"


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
        if target == place and "/.old-" not in source:
            raise OSError("no more names")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)

    def replace():
        with files.new_folder(place) as folder:
            filled(folder, "new")

    with pytest.raises(OSError, match="no more names"):
        replace()
    assert content(place) == "old"


KILLED = """
import os, signal, sys
from holotf import files

moment, place = sys.argv[1:]
kill, rename = lambda: os.kill(os.getpid(), signal.SIGKILL), os.rename

def renamed(*names):
    rename(*names)
    if moment == "between the renames":
        kill()

os.rename = renamed
if moment == "in a file":
    os.replace = lambda *names: kill()
    files.write(os.path.join(os.path.dirname(place), "note"), "half")
with files.new_folder(place) as folder:
    os.makedirs(folder)
    if moment == "while filling":
        kill()
    files.write(folder + "/content", "new")
"""


@pytest.mark.parametrize("moment", ["while filling", "between the renames", "in a file"])
def test_what_a_killed_process_left_is_gone_at_the_next_start_that_writes_there(place, moment):
    """And where it had set the older folder aside, that comes back."""
    died = subprocess.run([sys.executable, "-c", KILLED, moment, place], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    folder = os.path.dirname(place)
    assert any(name.startswith(".tmp-") for name in os.listdir(folder)), "there is something to clear away"
    assert os.path.exists(place) == (moment != "between the renames")
    files.write(f"{folder}/other", "")
    os.unlink(f"{folder}/other")
    assert content(place) == "old"


def test_what_is_set_aside_gives_way_to_what_is_there(place, tmp_path):
    with_pid = files._beside(place, "old").replace(f"-{os.getpid()}-", f"-{2**22 + 1}-")
    filled(with_pid, "older")
    files.sweep(tmp_path)
    assert content(place) == "old"


@pytest.mark.parametrize(
    "owner", [{}, {"pid": os.getppid()}, {"host": "elsewhere"}, {"host": "else-where.org"}, {"space": 1}], ids=str
)
def test_of_living_processes_and_of_other_hosts_nothing_is_touched(place, tmp_path, monkeypatch, owner):
    """Their processes' numbers may be free here, or another's."""
    stranger = {"pid": 2**22 + 1, "started": 1} if {"host", "space"} & set(owner) else {"started": processes._started(os.getppid())}
    owner = dataclasses.replace(processes.this(), **stranger | owner) if owner else processes.this()
    with monkeypatch.context() as patch:
        patch.setattr(processes, "this", lambda: owner)
        names = [files._beside(tmp_path / "place", kind) for kind in ("tmp", "old")]
    for name in names:
        filled(name, "theirs")
    os.rename(place, f"{place}-away")  # so that one that is set aside could come back
    files.write(tmp_path / "other", "")
    for name in names:
        with open(f"{name}/content", encoding="utf-8") as file:
            assert file.read() == "theirs"


@pytest.mark.parametrize("name", [".tmp-1", ".tmp-x-1-1-host~name", "tmp-1-1-1-host~name", ".tmpl", ".old-thesis~name"])
def test_what_only_looks_alike_is_not_touched(tmp_path, name):
    (tmp_path / name).mkdir()
    files.write(tmp_path / "other", "")
    assert (tmp_path / name).is_dir()
