"""Damaged images, archives, meshes, data sets and config files (tests/damage.py)."""

import contextlib
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import ROOT, small_config, tree
from cubes import arguments, write_glb, write_library, write_obj, write_ply
from damage import count, each, said, tried
from PIL import Image

from data_prep import mesh, meshes, render
from data_prep.__main__ import main as data_prep
from holotf import data, flags

# As in a process of its own: what libraries warn of is no error there.
pytestmark = pytest.mark.filterwarnings("ignore")


def prepared(folder, *words):
    """Whether data_prep makes DIR/out of what it is given; where it does not, one line says why and nothing is written."""
    before, shown = tree(folder.parent), io.StringIO()
    with contextlib.redirect_stderr(shown):
        code = data_prep([*map(str, words), "--out", str(folder.parent / "out"), "--size", "16", "--workers", "0", "--test", "0"])
    after = tree(folder.parent)
    assert {path: digest for path, digest in after.items() if not path.startswith("out/")} == before, "the source is as it was"
    if code:
        assert code == 2
        said(shown.getvalue())
        assert os.listdir(folder.parent) == [folder.name]
    return code == 0


def reds(out):
    """Of each example in a data set, its colour: which image it is of."""
    return [int(row["image"][8, 8, 0]) for row in tfds.as_numpy(tfds.builder_from_directory(out).as_dataset(split="train"))]


# --- images, in folders and archives


def png(number):
    stream = io.BytesIO()
    Image.new("RGB", (20, 20), (number, 255 - number, 7)).save(stream, "png")
    return stream.getvalue()


IMAGES = {f"{('cats', 'dogs')[number % 2]}/{number:02}.png": png(number) for number in range(12)}


def packed(folder, kind):
    """The images as DIR/in, a folder or an archive."""
    folder.mkdir()
    if kind == "in":
        for name, content in IMAGES.items():
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / kind / name).write_bytes(content)
    elif kind == "in.zip":
        with zipfile.ZipFile(folder / kind, "w") as archive:
            for name, content in IMAGES.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(folder / kind, f"w:{kind.rpartition('tar')[2][1:]}") as archive:
            for name, content in IMAGES.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return folder


@pytest.mark.parametrize("kind", ["in", "in.zip", "in.tar", "in.tar.gz", "in.tar.xz"])
def test_images(kind, tmp_path):
    """Each is in the data set as it was, or in skipped.txt; or nothing is."""
    whole = {content: number for number, content in enumerate(IMAGES.values())}

    def judge(folder, max_bad):
        if not prepared(folder, "folder", "--source", folder / kind, "--max-bad", max_bad):
            return
        out = folder.parent / "out"
        made, skipped = reds(out), out / "skipped.txt"
        assert set(made) <= set(whole.values())
        listed = len(skipped.read_text().splitlines()) if skipped.exists() else 0
        assert listed == 0 or max_bad != "1%"
        if kind == "in":
            there = [path.read_bytes() for path in folder.rglob("*.png")]
            assert {whole[content] for content in there if content in whole} <= set(made)
            assert len(made) + listed == len(there)
        else:
            # A name in a zip's list has no checksum: a bit of it may make another file of an image.
            assert len(made) + listed >= len(IMAGES) - (kind == "in.zip")

    each(packed(tmp_path / "whole", kind), judge, count(6), max_bad=st.sampled_from(["1%", "90%"]))


# --- meshes


def cubes(folder, kind):
    if kind == "library":
        return write_library(folder, {"plain": {}, "turned": {"modelRotation": "0 0 1 0 1 0 -1 0 0"}, "tall": {"height": 200}})
    folder.mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / "red.png")
    write_obj(folder, "textured", texture="red.png")
    for write in (write_obj, write_glb, write_ply):
        write(folder)
    return folder


@pytest.mark.parametrize("kind", ["folder", "library"])
def test_meshes(kind, tmp_path):
    """Each loads, all its numbers finite, or one line says why not; those of whole files load."""
    pytest.importorskip("trimesh", reason="needs pip install 'holotf[render]'")
    whole = cubes(tmp_path / "whole", kind)
    digests = set(tree(whole).values())

    def judge(folder):
        specs, _ = tried(meshes.find, arguments("--source" if kind == "folder" else "--library", folder))
        damaged = {path for path, digest in tree(folder).items() if digest not in digests}
        for spec in specs or ():
            fault = render.fault(spec)
            assert "\n" not in fault
            if fault:
                assert damaged or kind == "folder", fault  # a mesh that was renamed to another kind's name is none of it
            else:
                loaded = mesh.load(spec)
                assert np.isfinite(loaded.points).all()
                assert np.isfinite(loaded.corners["normal"]).all()

    each(whole, judge, count(25))


# --- data sets


@pytest.fixture(scope="module")
def images(squares):
    """Of the whole data set, by number."""
    found = next(iter(data.batches(data.open_sources(small_config(squares).data), ("image",), 32, 96, 0)))["image"].numpy()
    return {int(image[0, 0, 0]): image for image in found}


def test_data_sets(squares, images):
    """All images come as they were; or one line says what is damaged, before the first or when it is met."""

    def judge(folder):
        sources, line = tried(data.open_sources, small_config(folder).data)
        stream, line = (None, line) if line else tried(data.batches, sources, ("image",), 32, 8, 0)
        if line:
            return
        try:
            found = np.concatenate([batch["image"] for batch in stream.take(12).as_numpy_iterator()])
        except tf.errors.OpError:
            line = data.damage(sources)
            assert line.startswith(str(folder))
            assert "\n" not in line
            return
        assert sorted(found[:, 0, 0, 0]) == sorted(images)
        assert all(np.array_equal(image, images[image[0, 0, 0]]) for image in found)

    each(squares, judge, count(15))


def test_data_sets_of_the_catalogue(squares, tmp_path):
    whole, wanted = Path(squares).parents[1], []

    def judge(folder):
        if prepared(folder, "catalogue", "squares", "--data-dir", folder):
            assert sorted(reds(folder.parent / "out")) == wanted

    assert prepared(Path(shutil.copytree(whole, tmp_path / "whole")), "catalogue", "squares", "--data-dir", whole)
    wanted += sorted(reds(tmp_path / "out"))

    each(whole, judge, count(5))


def test_config_files(tmp_path):
    (tmp_path / "whole").mkdir()
    shutil.copy(ROOT / "configs" / "hologan_celeba.py", tmp_path / "whole" / "mine.py")
    each(tmp_path / "whole", lambda folder: tried(flags.check_config, f"{folder}/mine.py:64"), count(25))
