"""The mesh source: what is drawn from where, in which colours, from which files; and what the data set carries.

pytest has imported TensorFlow, and Mesa's renderer crashes beside it: every picture here comes from a child process.
"""

import argparse
import concurrent.futures
import functools
import io
import multiprocessing
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import run
from PIL import Image

from data_prep import mesh, meshes, raycast, render
from data_prep.blocks import field_of_view
from data_prep.build import build
from data_prep.work import ordered_map
from holotf.errors import UserError

trimesh = pytest.importorskip("trimesh", reason="needs pip install 'holotf[render]'")

# The unit cube's faces: name -> outward normal, colour. Four corners counter-clockwise from outside, lower left first.
FACES = {
    "front": ((0, 0, 1), (1.0, 0.0, 0.0)),
    "behind": ((0, 0, -1), (0.0, 1.0, 0.0)),
    "right": ((1, 0, 0), (0.0, 0.0, 1.0)),
    "left": ((-1, 0, 0), (1.0, 0.0, 1.0)),
    "top": ((0, 1, 0), (1.0, 1.0, 0.0)),
    "below": ((0, -1, 0), (0.0, 1.0, 1.0)),
}
SEEN_FROM = [("front", 0, 0), ("right", 90, 0), ("behind", 180, 0), ("left", 270, 0), ("top", 0, 90), ("below", 0, -90)]
needs_library = pytest.mark.skipif(
    not list(meshes.LIBRARY.glob("*.sh3f")), reason="needs apt install sweethome3d-furniture (its .sh3f files)"
)


def quad(normal):
    """[4, 3]: the corners of the cube's face, as seen from outside: lower left, lower right, upper right, upper left."""
    normal = np.array(normal, float)
    up = np.array([0, 0, -normal[1]]) if normal[1] else np.array([0, 1.0, 0])
    right = np.cross(up, normal)
    return np.array([normal - right - up, normal + right - up, normal + right + up, normal - right + up]) / 2


def write_obj(folder, name="cube", texture=None, sides=FACES, lines=""):
    """A cube as OBJ and MTL, a material a face; `texture` replaces the front's colour."""
    obj, mtl = [f"mtllib {name}.mtl", "vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"], []
    for number, (side, (normal, colour)) in enumerate(sides.items()):
        mtl += [f"newmtl {side}", "Kd {} {} {}".format(*colour)]
        if texture and side == "front":
            mtl += [f"map_Kd {texture}"]
        obj += ["v {} {} {}".format(*corner) for corner in quad(normal)] + [f"usemtl {side}"]
        obj += ["f " + " ".join(f"{4 * number + k}/{k}" for k in (1, 2, 3, 4))]
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{name}.obj").write_text("\n".join(obj) + "\n")
    (folder / f"{name}.mtl").write_text("\n".join(mtl) + "\n" + lines)
    return folder / f"{name}.obj"


def write_glb(folder):
    """The same cube as GLB, a PBR material a face."""
    scene = trimesh.Scene()
    for side, (normal, colour) in FACES.items():
        material = trimesh.visual.material.PBRMaterial(name=side, baseColorFactor=[*colour, 1.0])
        visual = trimesh.visual.TextureVisuals(uv=np.zeros((4, 2)), material=material)
        scene.add_geometry(trimesh.Trimesh(quad(normal), [[0, 1, 2], [0, 2, 3]], visual=visual, process=False))
    scene.export(folder / "cube.glb")
    return folder / "cube.glb"


def write_ply(folder):
    """The same cube as PLY, coloured vertices."""
    corners = np.concatenate([quad(normal) for normal, _ in FACES.values()])
    faces = [[4 * n + a, 4 * n + b, 4 * n + c] for n in range(6) for a, b, c in ((0, 1, 2), (0, 2, 3))]
    colours = np.repeat([[*(255 * np.array(colour)), 255] for _, colour in FACES.values()], 4, 0).astype(np.uint8)
    trimesh.Trimesh(corners, faces, vertex_colors=colours, process=False).export(folder / "cube.ply")
    return folder / "cube.ply"


@pytest.fixture(scope="module")
def child():
    """submit(function, *arguments) runs in one process without TensorFlow; skips where it has no EGL."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:

        def submit(function, *arguments):
            return pool.submit(function, *arguments).result(timeout=300)

        try:
            submit(render.probe, 32)
        except UserError as error:
            pytest.skip(str(error))
        yield submit


def drawing(azimuth_deg=0.0, elevation_deg=0.0, distance=3.5, stretch=1.0, recolour=False, size_px=32, seed=0):
    """`render.examples` for one view, or for a range of them (low, high)."""
    ranges = {"azimuth_deg": azimuth_deg, "elevation_deg": elevation_deg, "distance": distance}
    ranges = {key: value if isinstance(value, tuple) else (value, value) for key, value in ranges.items()}
    return functools.partial(
        render.examples, seed=seed, recolour=recolour, size_px=size_px, half_width=float(field_of_view(ranges["distance"][0])),
        ranges=ranges | {"stretch": (1 / stretch, stretch)},
    )  # fmt: skip


def picture(child, spec, index=0, **changes):
    """uint8 [32, 32, 3]."""
    if not isinstance(spec, mesh.MeshSpec):
        spec = mesh.MeshSpec("cube", str(spec))
    [(_, example)] = child(drawing(**changes), (spec, [index]))
    return pixels_of(example)


def pixels_of(example):
    return np.asarray(Image.open(io.BytesIO(example["image"])))


def lit(colour, normal):
    """What a colour becomes on a surface: black and white pulled in, Lambert wrapped round. [3], 0 to 255."""
    shade = raycast.AMBIENT + (1 - raycast.AMBIENT) * (1 + np.dot(normal, raycast.SUN)) / 2
    return 255 * shade * (render.BLACKEST + (render.WHITEST - render.BLACKEST) * np.array(colour))


@pytest.mark.parametrize("write", [write_obj, write_glb, write_ply])
def test_each_side_is_seen_from_where_it_faces_in_its_own_colour(child, tmp_path, write):
    path = write(tmp_path)
    for side, azimuth_deg, elevation_deg in SEEN_FROM:
        normal, colour = FACES[side]
        seen = picture(child, path, azimuth_deg=azimuth_deg, elevation_deg=elevation_deg)
        np.testing.assert_allclose(seen[16, 16], lit(colour, normal), atol=2, err_msg=f"{side} in the middle")
        others = [name for name in FACES if name != side]
        for other in others:  # square on, perspective hides all of them
            strange = np.abs(seen - lit(FACES[other][1], FACES[other][0])).max(-1) < 3
            assert not strange.any(), f"{other} seen from {azimuth_deg}, {elevation_deg}"


def test_what_is_at_the_right_and_at_the_top_is_drawn_there(child, tmp_path):
    picture_45 = picture(child, write_obj(tmp_path), azimuth_deg=45, elevation_deg=30)
    rows, columns = {}, {}
    for side in ("front", "right", "top"):
        normal, colour = FACES[side]
        rows[side], columns[side] = (x.mean() for x in np.nonzero(np.abs(picture_45 - lit(colour, normal)).max(-1) < 6))
    assert columns["front"] < 16 < columns["right"]  # from between them, +z lies to the left of +x
    assert rows["top"] < min(rows["front"], rows["right"])


@pytest.mark.parametrize("view", [(0, 0), (37, 20), (200, -50), (300, 85)])
def test_the_outline_is_the_ray_casters(child, tmp_path, view):
    """Two renderers that share no line of projection: same camera, same field of view, same frame."""
    cube = raycast.Boxes(np.zeros((1, 3), "f4"), np.full((1, 3), 0.5, "f4"), np.eye(3, dtype="f4")[None], np.zeros((1, 3), "f4"))
    traced = raycast.render(cube.normalised(), *view, 3.5, 32, half_width=field_of_view(3.5))
    drawn = picture(child, write_obj(tmp_path), azimuth_deg=view[0], elevation_deg=view[1])
    inside_traced, inside_drawn = traced.mean(-1) < 128, np.abs(drawn.astype(int) - 255).max(-1) > 127
    assert 200 < inside_traced.sum() < 700
    assert (inside_traced != inside_drawn).sum() <= 12  # of some 100 pixels on the outline


def test_a_texture_stands_upright_and_its_own_brightness_counts(child, tmp_path):
    corners = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], np.uint8)  # [row, column, RGB]
    Image.fromarray(corners.repeat(8, 0).repeat(8, 1)).save(tmp_path / "four.png")
    sides = FACES | {"front": ((0, 0, 1), (0.2, 0.2, 0.2))}  # exporters write any diffuse beside a texture
    seen = picture(child, write_obj(tmp_path, texture="four.png", sides=sides))
    for row in (0, 1):
        for column in (0, 1):
            expected = lit(corners[row, column] / 255, (0, 0, 1))
            np.testing.assert_allclose(seen[12 + 8 * row, 12 + 8 * column], expected, atol=4)


def test_glass_lets_what_is_behind_it_through(child, tmp_path):
    sides = {"front": FACES["front"], "behind": FACES["behind"]}
    path = write_obj(tmp_path, sides=sides)
    path.with_suffix(".mtl").write_text("newmtl front\nKd 1 0 0\nd 0.25\nnewmtl behind\nKd 0 1 0\n")
    seen = picture(child, path)[16, 16]
    # The green wall is seen from its inner side: its normal is turned to the camera.
    np.testing.assert_allclose(seen, 0.25 * lit((1, 0, 0), (0, 0, 1)) + 0.75 * lit((0, 1, 0), (0, 0, 1)), atol=3)


def test_nothing_is_cut_however_it_is_stretched(child, tmp_path):
    spec = mesh.MeshSpec("cube", str(write_obj(tmp_path)))
    made = child(drawing((0, 360), (-90, 90), (1.3, 4.0), stretch=3.0), (spec, list(range(40))))
    for _, example in made:
        edge = np.concatenate([pixels_of(example)[i] for i in (0, -1)] + [pixels_of(example)[:, i] for i in (0, -1)])
        assert edge.min() > 200  # a corner that touches the frame may grey a pixel; a cut one fills it


def test_recolouring_changes_colours_and_leaves_the_outline(child, tmp_path):
    path = write_obj(tmp_path)
    plain = picture(child, path, azimuth_deg=40, elevation_deg=20)
    seen = [picture(child, path, index, azimuth_deg=40, elevation_deg=20, recolour=True) for index in range(4)]
    middles = np.array([image[18, 20] for image in seen], int)
    assert np.abs(middles[:, None] - middles[None]).max(-1)[np.triu_indices(4, 1)].min() > 8
    for image in seen:
        assert ((image.min(-1) < 250) != (plain.min(-1) < 250)).sum() <= 6


def test_an_example_depends_on_seed_and_index_alone(child, tmp_path):
    specs = [mesh.MeshSpec(name, str(write_obj(tmp_path, name))) for name in ("a", "b", "c")]
    draw = drawing((0, 360), (15, 35), stretch=1.2, recolour=True)

    def made(count, run):
        return dict(pair for part in run(draw, list(meshes.tasks_of(specs, count))) for pair in part)

    def one_by_one(function, tasks):
        return [child(function, task) for task in tasks]

    one, more = made(6, one_by_one), made(9, one_by_one)
    two = made(6, functools.partial(ordered_map, workers=2))
    assert one == two
    assert one == {index: more[index] for index in range(6)}
    assert {index: example["mesh"] for index, example in one.items()} == dict(enumerate("abcabc"))
    [(_, other)] = child(drawing((0, 360), (15, 35), stretch=1.2, recolour=True, seed=1), (specs[0], [0]))
    assert other["azimuth_deg"] != one[0]["azimuth_deg"]


def test_a_turntable_shows_one_object_from_equal_steps_of_azimuth(child, tmp_path):
    specs = [mesh.MeshSpec(name, str(write_obj(tmp_path, name))) for name in ("a", "b")]
    draw = functools.partial(drawing((0, 360), (15, 35), stretch=1.2, recolour=True), turntable=3)
    made = dict(pair for task in meshes.tasks_of(specs, 9, 3) for pair in child(draw, task))
    assert [made[i]["azimuth_deg"] for i in range(9)] == [0, 120, 240] * 3
    assert [made[i]["object"] for i in range(9)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [made[i]["mesh"] for i in range(9)] == list("aaabbbaaa")
    assert len({made[i]["elevation_deg"] for i in range(9)}) == 3


def test_no_drawing_process_has_tensorflow(child):
    loaded = child(eval, "sorted(__import__('sys').modules)")
    assert "moderngl" in loaded
    assert not {"tensorflow", "tensorflow_datasets"} & set(loaded)


def write_library(folder, entries):
    """A Sweet Home 3D library of cubes: name -> further catalogue lines without their number."""
    folder.mkdir(exist_ok=True)
    lines = ["license=Free \\u00A9 someone"]
    with zipfile.ZipFile(folder / "some.sh3f", "w") as archive:
        for number, (name, more) in enumerate(entries.items(), 1):
            path = write_obj(folder / name, name)
            for file in (path, path.with_suffix(".mtl")):
                archive.write(file, f"lib/{name}/{file.name}")
            entry = {"name": name.title(), "category": "Toys", "model": f"/lib/{name}/{name}.obj", "creator": "Zo\\u00EB"}
            entry |= {"width": 50, "depth": 50, "height": 50} | more
            lines += [f"{key}#{number}={value}" for key, value in entry.items()]
        archive.writestr(meshes.CATALOGUE, "\n".join(lines).encode("latin-1"))
    return folder


def arguments(*words):
    parser = argparse.ArgumentParser()
    meshes.add_flags(parser)
    return parser.parse_args(list(map(str, words)))


def test_a_library_gives_name_creator_licence_rotation_and_size(child, tmp_path):
    quarter = "0 0 1 0 1 0 -1 0 0"  # takes +z to +x
    entries = {"plain": {}, "turned": {"modelRotation": quarter}, "tall": {"height": 200}}
    library = write_library(tmp_path / "library", entries)
    by_name = {spec.name: spec for spec in meshes.find(arguments("--library", library))}
    assert sorted(by_name) == ["lib/plain", "lib/tall", "lib/turned"]
    assert by_name["lib/plain"].creator == "Zoë"
    assert by_name["lib/plain"].license == "Free © someone"
    red = lit(*FACES["front"][::-1])
    assert np.abs(picture(child, by_name["lib/turned"], azimuth_deg=90)[16, 16] - lit((1, 0, 0), (1, 0, 0))).max() < 3
    assert np.abs(picture(child, by_name["lib/plain"])[16, 16] - red).max() < 3
    inside = picture(child, by_name["lib/tall"]).min(-1) < 200
    assert inside.any(1).sum() > 3 * inside.any(0).sum()  # 4 times as high as wide
    assert [spec.name for spec in meshes.find(arguments("--library", library, "--name-regex", "^T", "--category", "toy"))] == [
        "lib/tall",
        "lib/turned",
    ]


def test_up_and_yaw_stand_a_folder_of_meshes_right(child, tmp_path):
    write_obj(tmp_path)
    [spec] = meshes.find(arguments("--source", tmp_path, "--yaw", 90))
    np.testing.assert_allclose(picture(child, spec, azimuth_deg=90)[16, 16], lit((1, 0, 0), (1, 0, 0)), atol=2)
    [spec] = meshes.find(arguments("--source", tmp_path, "--up", "z"))
    np.testing.assert_allclose(picture(child, spec, elevation_deg=90)[16, 16], lit((1, 0, 0), (0, 1, 0)), atol=2)


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
