"""Meshes that cannot be used: each is named in one line, and the others are drawn."""

import json
import os
import struct
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import run
from cubes import arguments, write_glb, write_library, write_obj
from test_hostile import locked

from data_prep import mesh, meshes, render
from holotf.errors import UserError

pytest.importorskip("trimesh", reason="needs pip install 'holotf[render]'")


def obj(more="", mtl=""):
    """A writer of the cube as OBJ with lines appended to it and to its MTL."""

    def write(folder):
        path = write_obj(folder, lines=mtl)
        path.write_text(path.read_text() + more)
        return path

    return write


def glb(change):
    """A writer of the cube as GLB whose JSON `change` has changed."""

    def write(folder):
        path = write_glb(folder)
        data = path.read_bytes()
        (length,) = struct.unpack("<I", data[12:16])
        tree = json.loads(data[20 : 20 + length])
        change(tree)
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 4)
        rest = data[20 + length :]
        head = b"glTF" + struct.pack("<II", 2, 20 + len(text) + len(rest)) + struct.pack("<I", len(text)) + b"JSON"
        path.write_bytes(head + text + rest)
        return path

    return write


def singular(tree):
    for node in tree["nodes"]:
        if "mesh" in node:
            node["matrix"] = [0.0] * 15 + [1.0]


def fifo(folder):
    os.mkfifo(folder / "cube.obj")
    return folder / "cube.obj"


def nothing_finite(folder):
    path = write_obj(folder)
    path.write_text(path.read_text().replace("v 0.5", "v nan"))
    return path


BAD = {
    "a singular placement": glb(singular),
    "an accessor of no buffer": glb(lambda tree: tree["accessors"][0].update(bufferView=99)),
    "an accessor beyond its buffer": glb(lambda tree: tree["accessors"][0].update(count=10**6)),
    "an accessor of no type": glb(lambda tree: tree["accessors"][0].update(type="VEC9")),
    "a face of no vertex": obj("f 1/1 2/2 999/3\n"),
    "a face of words": obj("f one two three\n"),
    "a vertex of words": obj("v one two three\n"),
    "a colour of one number": obj(mtl="newmtl below\nKd 1\n"),
    "a colour of words": obj(mtl="newmtl below\nKd red green blue\n"),
    "an opacity of words": obj(mtl="newmtl below\nd glass\n"),
    "no number": nothing_finite,
    "a pipe": fifo,
}


@pytest.mark.parametrize("write", BAD.values(), ids=BAD)
@pytest.mark.filterwarnings("ignore")  # as in the worker that asks
def test_a_bad_mesh_is_one_line_or_is_drawn_without_what_is_bad(write, tmp_path):
    spec = mesh.MeshSpec("my/cube", str(write(tmp_path)))
    found = render.fault(spec)
    assert found.count("\n") == 0
    if found:
        assert found.startswith("mesh my/cube: ")
        assert found.endswith((": export it again as OBJ, GLB or PLY", ": leave it out"))
    else:
        assert np.isfinite(mesh.load(spec).points).all()


@pytest.mark.parametrize("name", ["a singular placement", "a face of no vertex", "an accessor of no buffer", "no number", "a pipe"])
@pytest.mark.filterwarnings("ignore")
def test_these_are_left_out(name, tmp_path):
    assert render.fault(mesh.MeshSpec("cube", str(BAD[name](tmp_path)))) != ""


def test_a_mesh_of_gigabytes_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(mesh, "MAX_FILE_BYTES", 100)
    assert "bytes are more than 100" in render.fault(mesh.MeshSpec("cube", str(write_obj(tmp_path))))
    _, spec = meshes.in_library(write_library(tmp_path / "library", {"plain": {}}))[0]
    assert "bytes are more than 100" in render.fault(spec)


def test_normals_that_are_no_numbers_are_taken_from_the_faces(tmp_path):
    lines = ["v 0 0 0", "v 1 0 0", "v 0 1 0", "v 0 0 1", *["vn nan nan nan"] * 4, "f 1//1 2//2 3//3", "f 1//1 3//3 4//4"]
    (tmp_path / "a.obj").write_text("\n".join(lines) + "\n")
    assert np.isfinite(mesh.load(mesh.MeshSpec("a", str(tmp_path / "a.obj"))).corners["normal"]).all()


def test_the_command_leaves_bad_meshes_out_and_draws_the_others(child, tmp_path):
    source = tmp_path / "source"
    for number, write in enumerate(BAD.values()):
        (source / str(number)).mkdir(parents=True)
        write(source / str(number))
    write_obj(source, "new\nline")
    (source / "new\nline.obj").write_text((source / "new\nline.obj").read_text().partition("mtl\n")[2])
    words = ["meshes", "--source", source, "--count", 40, "--size", 16, "--test", 0, "--workers", 2, "--out", tmp_path / "out"]
    done = run(*words, module="data_prep", timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    credits = (tmp_path / "out" / "CREDITS").read_text().splitlines()
    left_out = [line for line in credits if line.startswith("left out: mesh ")]
    drawn = [line.split("\t")[0] for line in credits if line.count("\t") == 4][1:]
    assert len(left_out) + len(drawn) == len(BAD) + 1
    assert "new\\nline.obj" in drawn
    assert {line for line in done.stderr.splitlines() if line.startswith("left out: ")} == set(left_out)
    rows = tfds.as_numpy(tfds.builder_from_directory(tmp_path / "out").as_dataset(split="train"))
    assert {row["mesh"].decode() for row in rows} == set(drawn)


def test_locked_folders_of_meshes_are_named(tmp_path, monkeypatch):
    write_obj(tmp_path / "open")
    write_obj(tmp_path / "shut")
    locked(monkeypatch, tmp_path / "shut")
    specs = meshes.find(arguments("--source", tmp_path))
    assert [spec.name for spec in specs] == ["open/cube.obj", "shut"]
    assert [render.fault(spec)[:60] for spec in specs] == ["", "mesh shut: cannot be read (ValueError: it is no file, or a fo"[:60]]
    with pytest.raises(UserError, match=r"none matches .* and 1 folders cannot be read, .*shut the first"):
        meshes.find(arguments("--source", tmp_path, "--name-regex", "chair"))
    locked(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\): give a folder that you may read"):
        meshes.find(arguments("--source", tmp_path))


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"height": "tall"}, "could not convert string to float: 'tall'"),
        ({"modelRotation": "1 0 0"}, "modelRotation has 3 numbers"),
    ],
)
def test_a_catalogue_with_a_bad_entry_is_one_line(entry, why, tmp_path):
    library = write_library(tmp_path / "library", {"plain": {}, "odd": entry})
    with pytest.raises(UserError) as caught:
        meshes.in_library(library)
    assert str(caught.value).startswith(f"--library {library}/some.sh3f: {meshes.CATALOGUE} says of lib/odd/odd.obj what cannot")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_member_that_is_not_there_is_one_line(tmp_path):
    library = write_library(tmp_path / "library", {"plain": {}, "gone": {"model": "/lib/gone/else.obj"}})
    faults = [render.fault(spec) for _, spec in meshes.in_library(library)]
    assert [bool(fault) for fault in faults] == [False, True]
    with zipfile.ZipFile(library / "some.sh3f") as archive:
        assert "lib/gone/else.obj" not in archive.namelist()
