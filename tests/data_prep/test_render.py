"""What is drawn of a mesh: from where, in which colours, and that nothing else decides it.

pytest has imported TensorFlow, and Mesa's renderer crashes beside it: every picture here comes from a child process.
"""

import functools
import io

import numpy as np
import pytest
from cubes import FACES, arguments, write_glb, write_library, write_obj, write_ply
from PIL import Image

from data_prep import mesh, meshes, raycast, render
from data_prep.blocks import field_of_view
from data_prep.work import ordered_map

pytest.importorskip("trimesh", reason="needs pip install 'holotf[render]'")

SEEN_FROM = [("front", 0, 0), ("right", 90, 0), ("behind", 180, 0), ("left", 270, 0), ("top", 0, 90), ("below", 0, -90)]


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
