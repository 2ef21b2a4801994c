"""The mesh source: from which files, in which splits; and what the data set carries. Pictures: as in test_render.py."""

import functools
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import run
from cubes import arguments, write_glb, write_library, write_obj

from data_prep import mesh, meshes, render
from data_prep.build import build
from data_prep.work import ordered_map
from holotf.errors import UserError

trimesh = pytest.importorskip("trimesh", reason="needs pip install 'holotf[render]'")

needs_library = pytest.mark.skipif(
    not list(meshes.LIBRARY.glob("*.sh3f")), reason="needs apt install sweethome3d-furniture (its .sh3f files)"
)


def test_the_command_writes_a_dataset_that_tfds_reads(child, tmp_path):
    """Also: a mesh too heavy and one that is no mesh are left out by name; CREDITS; --workers changes no example."""
    source = tmp_path / "source"
    write_obj(source, "cube")
    write_glb(source)
    (source / "broken.ply").write_text("not a mesh")
    trimesh.Trimesh(np.eye(3), np.zeros((mesh.MAX_FACES + 1, 3), int), process=False).export(source / "heavy.ply")
    words = ["--source", source, "--count", 7, "--seed", 3, "--test", 2]
    done = run("meshes", *words, "--size", 16, "--workers", 2, "--out", tmp_path / "out", module="data_prep")
    assert done.returncode == 0, done.stderr
    assert "left out: mesh broken.ply: cannot be read" in done.stderr
    assert "left out: mesh heavy.ply: 100001 faces: decimate it" in done.stderr
    dataset = tfds.builder_from_directory(tmp_path / "out")
    examples = list(tfds.as_numpy(dataset.as_dataset(split="train")))
    assert {name: split.num_examples for name, split in dataset.info.splits.items()} == {"train": 5, "test": 2}
    assert len(examples) == 5
    assert {example["mesh"] for example in examples} == {b"cube.glb", b"cube.obj"}
    assert all(example["image"].shape == (16, 16, 3) and example["image"].min() < 200 for example in examples)
    assert all(15 <= example["elevation_deg"] <= 35 for example in examples)
    credits = (tmp_path / "out" / "CREDITS").read_text()
    assert "cube.glb\tcreator unknown\tlicence unknown\tcube.glb\tall\n" in credits
    assert "broken.ply" in credits

    args = arguments(*words)
    args.size, args.workers, args.beam = 16, 0, None  # 0: still in a child, never beside TensorFlow
    build(functools.partial(meshes.builder, args), tmp_path / "alone")
    again = list(tfds.as_numpy(tfds.builder_from_directory(tmp_path / "alone").as_dataset(split="train")))
    for one, other in zip(examples, again, strict=True):
        assert {key: value.tolist() for key, value in one.items() if hasattr(value, "tolist")} == {
            key: value.tolist() for key, value in other.items() if hasattr(value, "tolist")
        }
        assert (one["mesh"], one["license"]) == (other["mesh"], other["license"])


def specs_of(count):
    return [mesh.MeshSpec(f"folder/mesh{number}", "") for number in range(count)]


def unseen(count, *words, images=100):
    return {spec.name for spec in meshes.unseen_of(specs_of(count), arguments(*words), images)}


def test_how_many_meshes_are_unseen():
    assert [len(unseen(count)) for count in (1, 11, 19, 20, 29, 49, 100)] == [0, 0, 0, 3, 3, 5, 10]
    assert len(unseen(49, "--unseen", 7)) == 7
    assert len(unseen(11, "--unseen", "20%")) == 2
    assert unseen(49, "--unseen", 0) == unseen(49, images=0) == unseen(49, "--turntable", 24) == set()


def test_new_meshes_move_few_between_seen_and_unseen():
    for count in (40, 100):
        before, after = unseen(count, "--unseen", "10%"), unseen(count + 1, "--unseen", "10%")
        assert len(before - after) <= 1
    before = unseen(100, "--unseen", 10)
    names = [f"{where}/mesh{number}" for where in ("a", "z") for number in range(10)]  # before and behind all others
    more = specs_of(100) + [mesh.MeshSpec(name, "") for name in names]
    after = {spec.name for spec in meshes.unseen_of(more, arguments("--unseen", 10), 1)}
    assert len(before - after) <= 4  # a sixth is expected
    one, other = specs_of(30), specs_of(30)[::-1]
    flags = arguments()
    assert meshes.unseen_of(one, flags, 1) == meshes.unseen_of(other, flags, 1), "their order is of no effect"


@pytest.mark.parametrize(
    ("words", "images", "message"),
    [
        (["--unseen", 30], 100, "--unseen 30 of 30 meshes leaves none to train on: use at most 29"),
        (["--unseen", 60], 100, "--unseen 60 of 30 meshes leaves none"),
        (["--unseen", "100%"], 100, "--unseen 100%: leaves none to train on: use a share below 100%"),
        (["--unseen", "some"], 100, "--unseen some: use a share"),
        (["--unseen", 3], 0, "--unseen 3: no images are asked of these meshes: add --unseen-count or --test"),
        (["--unseen", 0, "--unseen-count", 5], 5, "--unseen-count 5: none of 30 meshes is unseen: add --unseen"),
    ],
)
def test_unseen_that_cannot_be_is_named(words, images, message):
    with pytest.raises(UserError) as caught:
        unseen(30, *words, images=images)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def rows_of(folder):
    """split -> object -> (mesh, PNG bytes)."""
    dataset = tfds.builder_from_directory(folder)
    decoders = {"image": tfds.decode.SkipDecoding()}
    return {
        split: {
            int(row["object"]): (row["mesh"].decode(), row["image"])
            for row in tfds.as_numpy(dataset.as_dataset(split=split, decoders=decoders))
        }
        for split in dataset.info.splits
    }


@pytest.mark.slow
def test_test_shows_other_views_of_the_same_meshes_and_unseen_other_meshes(child, tmp_path):
    for number in range(5):
        write_obj(tmp_path / "source", f"cube{number}")
    words = ["meshes", "--source", tmp_path / "source", "--size", 16, "--recolour", "--unseen", 2, "--workers", 2]
    for out, more in {"out": ["--count", 18, "--test", 6], "more": ["--count", 26, "--test", 8, "--unseen-count", 3]}.items():
        done = run(*words, *more, "--out", tmp_path / out, module="data_prep")
        assert done.returncode == 0, done.stderr
    made, more = rows_of(tmp_path / "out"), rows_of(tmp_path / "more")
    assert {split: len(of) for split, of in made.items()} == {"train": 12, "test": 6, "unseen": 6}
    assert {split: len(of) for split, of in more.items()} == {"train": 18, "test": 8, "unseen": 3}
    names = {split: {mesh for mesh, _ in of.values()} for split, of in made.items()}
    assert names["train"] == names["test"]
    assert len(names["unseen"]) == 2
    assert names["train"] | names["unseen"] == {f"cube{number}.obj" for number in range(5)}
    assert not names["train"] & names["unseen"]
    for of in made.values():
        shown = sorted({mesh for mesh, _ in of.values()})
        assert {number: mesh for number, (mesh, _) in of.items()} == {number: shown[number % len(shown)] for number in of}
    images = [image for of in made.values() for _, image in of.values()]
    assert len(set(images)) == len(images), "no picture is in two splits, or twice in one"
    for split in made:  # what is asked for less is the beginning of what is asked for more
        few, many = sorted((made[split], more[split]), key=len)
        assert few == {shown: many[shown] for shown in few}
    credits = [line.split("\t") for line in (tmp_path / "out" / "CREDITS").read_text().splitlines() if "\t" in line][1:]
    assert {line[0] for line in credits if line[-1] == "unseen"} == names["unseen"]
    assert {line[0] for line in credits if line[-1] == "all but unseen"} == names["train"]
    description = tfds.builder_from_directory(tmp_path / "out").info.description
    assert f"Meshes of the split unseen alone: {', '.join(sorted(names['unseen']))}." in description


@pytest.mark.slow
def test_a_turntable_of_the_command_is_train_alone_and_shows_every_mesh(child, tmp_path):
    for number in range(22):
        write_obj(tmp_path / "source", f"cube{number}")
    words = ["meshes", "--source", tmp_path / "source", "--size", 16, "--turntable", 2, "--count", 44, "--workers", 1]
    done = run(*words, "--out", tmp_path / "out", module="data_prep")
    assert done.returncode == 0, done.stderr
    made = rows_of(tmp_path / "out")
    assert list(made) == ["train"]
    assert len({mesh for mesh, _ in made["train"].values()}) == 22


@needs_library
@pytest.mark.parametrize("preset", meshes.PRESETS)
def test_a_preset_decides_about_every_candidate(preset):
    preset = meshes.PRESETS[preset]
    candidates = set()
    for entry, spec in meshes.in_library(meshes.LIBRARY):
        if meshes._pattern("", preset.candidates).search(f"{entry['name']} | {entry['category']}"):
            candidates.add(spec.name)
            assert spec.creator
            assert spec.license in meshes.LICENCES.values()
    assert candidates == set(preset.meshes) | set(preset.left_out)
    assert not set(preset.meshes) & set(preset.left_out)
    assert len(set(preset.meshes)) == len(preset.meshes)


@needs_library
def test_the_presets_load_and_every_chair_has_its_back_behind():
    specs = {name: meshes.find(arguments("--preset", name)) for name in meshes.PRESETS}
    for spec in specs["cars"]:
        assert render.fault(spec) == ""
    for spec in specs["chairs"]:
        points = mesh.load(spec).points
        upper = points[points[:, 1] > np.quantile(points[:, 1], 0.9)]
        # The top of the back is at -z, so the knees go to +z (a Chesterfield's arms are as high, hence so near 0).
        assert upper[:, 2].mean() < -0.01, spec.name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--preset: nothing is named"),
        (["--source", "/nowhere"], "--source /nowhere: no such folder"),
        (["--source", "/nowhere", "--preset", "cars"], "--preset cars: it does not go with --source"),
        (["--library", "/nowhere"], "--library /nowhere: no .sh3f file there: apt install sweethome3d-furniture"),
        (["--library", "setup.py"], "--library setup.py: not a Sweet Home 3D library"),
        (["--name-regex", "("], "--name-regex '(': not a regular expression"),
        (["--preset", "chairs", "--up", "z"], "--up z: it belongs to --source"),
    ],
)
def test_bad_flags_are_named(words, message, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(UserError) as caught:
        meshes.find(arguments(*words))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_filters_that_match_nothing_say_what_there_is(tmp_path):
    library = write_library(tmp_path / "library", {"plain": {}})
    with pytest.raises(UserError, match=r"none of 1 meshes .* their categories: Toys"):
        meshes.find(arguments("--library", library, "--category", "boats"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"of 0 .* files none matches"):
        meshes.find(arguments("--source", tmp_path / "empty"))


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--count", 0], "--count 0"), (["--seed", -1], "--seed -1"), (["--stretch", 0.5], "--stretch 0.5: use 1"),
     (["--turntable", 3], "--turntable 3 --count 10000: use 1 or more, and a count that is a multiple"),
     (["--distance", "1,2"], "--distance '1,2'"), (["--elevation", "0,91"], "--elevation '0,91'")],
)  # fmt: skip
def test_numbers_out_of_range_are_named(words, message, tmp_path):
    write_obj(tmp_path)
    args = arguments("--source", tmp_path, *words)
    args.size, args.workers, args.beam = 16, 1, None
    with pytest.raises(UserError) as caught:
        meshes.builder(args, tmp_path)
    assert str(caught.value).startswith(message)


def test_without_egl_or_the_extra_it_says_what_to_install(child, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/nowhere")
        patch.setenv("__EGL_VENDOR_LIBRARY_DIRS", "/nowhere")
        with pytest.raises(UserError, match=r"no OpenGL through EGL .*: apt install libegl1"):
            next(ordered_map(render.probe, [16], 1))
    for module in ("moderngl", "trimesh"):
        (tmp_path / f"{module}.py").write_text(f"raise ImportError('No module named {module}')")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path)
            with pytest.raises(UserError, match=rf"No module named {module}: pip install 'holotf\[render\]'"):
                next(ordered_map(render.probe, [16], 1))
        (tmp_path / f"{module}.py").unlink()
