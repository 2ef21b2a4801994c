"""The ray caster against a slow oracle, the conventions of view, and the furniture."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_prep import blocks, raycast
from data_prep.__main__ import main
from holotf.errors import UserError

RED, GREEN, BLUE, GREY = [*np.eye(3).tolist(), [0.5, 0.5, 0.5]]
VIEWS = {"azimuth_deg": (0, 360), "elevation_deg": (15, 35), "distance": (3.5, 3.5)}


def scene(*parts):
    """Boxes from (centre, edge lengths, colour), unrotated."""
    centres, sizes, colours = (np.array(column, np.float32) for column in zip(*parts, strict=True))
    return raycast.Boxes(centres, sizes / 2, np.stack([np.eye(3, dtype=np.float32)] * len(parts)), colours)


def mask(image, channel):
    """Where a pixel is mostly of one primary colour."""
    image = image.astype(int)
    return (image[..., channel] > 60) & (image[..., channel] > 2 * np.delete(image, channel, -1).max(-1))


def draw(boxes, azimuth_deg=0.0, elevation_deg=0.0, distance=4.0, size=64):
    return raycast.render(boxes, azimuth_deg, elevation_deg, distance, size, blocks.field_of_view(distance))


def oracle(boxes, azimuth_deg, elevation_deg, distance, size, half_width):
    """One ray at a time, in float64: which face of which box is nearest, by intersecting all six planes."""
    a, e = np.radians([azimuth_deg, elevation_deg])
    toward = np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
    right = np.cross([0, 1, 0], toward)
    right /= np.linalg.norm(right)
    up = np.cross(toward, right)
    eye = distance * toward
    colours = raycast.face_colours(boxes)
    image = np.full((size, size, 3), 255.0)
    for i in range(size):
        for j in range(size):
            x, y = (2 * (j + 0.5) / size - 1) * half_width, (1 - 2 * (i + 0.5) / size) * half_width
            ray, nearest = x * right + y * up - toward, np.inf
            for k in range(len(boxes.centres)):
                turn = boxes.rotations[k].astype(float)
                start, way = turn.T @ (eye - boxes.centres[k]), turn.T @ ray
                for axis in range(3):
                    for side in (-1, 1):
                        t = (side * boxes.half_sizes[k, axis] - start[axis]) / way[axis]
                        point = start + t * way
                        inside = np.delete(abs(point) <= boxes.half_sizes[k], axis).all()
                        if inside and 0 < t < nearest:
                            nearest = t
                            image[i, j] = 255 * colours[k, 2 * axis + (side > 0)]
    return image


@pytest.mark.parametrize("kind", ["chair", "armchair"])
def test_ray_caster_against_an_oracle(kind):
    for seed, azimuth_deg, elevation_deg in [(1, 37.0, 20.0), (2, 250.0, -35.0)]:
        boxes, *_ = blocks.furniture(kind, np.random.default_rng(seed))
        arguments = (azimuth_deg, elevation_deg, 3.0, 20, blocks.field_of_view(3.0))
        got, expected = raycast.render(boxes, *arguments, supersample=1), oracle(boxes, *arguments)
        wrong = (abs(got - expected) > 1).any(-1)
        assert (expected < 250).any(-1).mean() > 0.1
        assert wrong.mean() <= 0.005  # a ray along an edge may fall on either side in float32


def test_azimuth_elevation_and_up():
    # A grey body with a red mark on its right (+x), a blue one on its left, a green one in front (+z).
    body = [((0, 0, 0), (0.6, 0.6, 0.6), GREY)]
    marks = [((0.4, 0, 0), (0.2, 0.2, 0.2), RED), ((-0.4, 0, 0), (0.2, 0.2, 0.2), BLUE), ((0, 0, 0.4), (0.2, 0.2, 0.2), GREEN)]
    boxes = scene(*body, *marks)

    front = draw(boxes, azimuth_deg=0)
    columns = [np.nonzero(mask(front, channel))[1].mean() for channel in (0, 1, 2)]
    assert columns[0] > 40  # red, at +x, on the right
    assert columns[2] < 24  # blue on the left
    assert columns[1] == pytest.approx(31.5, abs=0.6)  # green ahead

    from_right = draw(boxes, azimuth_deg=90)  # the camera stands on the +x side
    assert mask(from_right, 0)[32, 32]  # red is nearest
    assert not mask(from_right, 2).any()  # blue is hidden behind the body
    assert np.nonzero(mask(from_right, 1))[1].mean() < 24  # and the front is on the left
    assert not mask(draw(boxes, azimuth_deg=180), 1).any()  # from behind, the front mark is hidden
    assert mask(draw(boxes, azimuth_deg=270), 2)[32, 32]

    # Elevation: a lid of another colour is seen from above only, and up is up in the image.
    lidded = scene(*body, ((0, 0.31, 0), (0.5, 0.02, 0.5), RED), ((0, -0.31, 0), (0.5, 0.02, 0.5), BLUE))
    above, below = draw(lidded, elevation_deg=30), draw(lidded, elevation_deg=-30)
    assert mask(above, 0).sum() > 100 > 0 == mask(above, 2).sum()
    assert np.nonzero(mask(above, 0))[0].mean() < 24
    assert mask(below, 2).sum() > 50 > 0 == mask(below, 0).sum()


def test_nearer_is_larger():
    boxes = scene(((0, 0, 0.5), (0.3, 0.3, 0.3), RED), ((0, 0.6, -0.5), (0.3, 0.3, 0.3), BLUE))
    image = draw(boxes, elevation_deg=10)
    assert mask(image, 0).sum() > 1.3 * mask(image, 2).sum() > 0


def test_a_face_keeps_its_colour_as_the_camera_turns_and_faces_differ():
    box = scene(((0, 0, 0), (1, 1, 1), (0.9, 0.9, 0.9)))
    tops = [draw(box, azimuth_deg, 60)[24, 32].tolist() for azimuth_deg in (0, 70, 200)]
    assert tops[0] == tops[1] == tops[2]
    brightness = np.sort(raycast.face_colours(box)[0, :, 0])
    assert np.diff(brightness).min() > 0.06
    assert brightness.argmax() == 5  # sorted; the top is the brightest:
    assert raycast.face_colours(box)[0, :, 0].argmax() == 3


def test_normalised_fits_the_unit_sphere():
    boxes, *_ = blocks.furniture("chair", np.random.default_rng(0))
    corners = boxes.corners().reshape(-1, 3)
    assert np.linalg.norm(corners, axis=-1).max() == pytest.approx(1, abs=1e-5)
    assert np.abs(corners.max(0) + corners.min(0)).max() < 1e-5


@pytest.mark.parametrize("kind", list(blocks.KINDS))
def test_every_kind_fills_the_frame_and_is_never_cut(kind):
    extents = []
    for index in range(24):
        rng = np.random.default_rng(index)
        corners = blocks.furniture(kind, rng)[0].corners().reshape(-1, 3)
        for distance, elevation_deg in [(3.5, rng.uniform(15, 35)), (1.2, rng.uniform(-90, 90))]:
            seen = corners @ raycast.camera_axes(rng.uniform(0, 360), elevation_deg).T
            at = seen[:, :2] / (distance - seen[:, 2:]) / blocks.field_of_view(distance)  # the frame is [-1, 1] x [-1, 1]
            assert abs(at).max() < 1 + 1e-5, (kind, index)
            if distance == 3.5:
                extents.append(np.ptp(at, axis=0).max() / 2)
    assert 0.75 < np.mean(extents) < 0.95


def test_front_back_left_and_right_of_a_chair_differ():
    for seed in range(8):
        boxes, *_ = blocks.furniture("chair", np.random.default_rng(seed))
        around = [draw(boxes, azimuth_deg, 25, 3.5, 32).astype(int) for azimuth_deg in (0, 90, 180, 270)]
        for one in range(4):
            for other in range(one):
                assert abs(around[one] - around[other]).mean() > 6, (seed, one, other)


def test_an_example_depends_on_seed_and_index_alone():
    one = blocks.example(7, 3, ("chair", "table"), VIEWS, 32)
    again = dict(blocks.examples((5, 9), seed=3, kinds=("chair", "table"), views=VIEWS, size=32))[7]
    assert one["image"] == again["image"]
    assert one["azimuth_deg"] == again["azimuth_deg"]
    assert one["back"] == again["back"]
    assert one["image"] != blocks.example(7, 4, ("chair", "table"), VIEWS, 32)["image"]


def test_a_turntable_shows_one_object_from_equal_steps_of_azimuth():
    made = [blocks.example(index, 3, ("chair", "table"), VIEWS, 32, turntable=4) for index in range(8)]
    assert [e["azimuth_deg"] for e in made] == [0, 90, 180, 270] * 2
    assert [e["object"] for e in made] == [0] * 4 + [1] * 4
    for name in ("kind", "elevation_deg"):
        assert [e[name] for e in made] == [e[name] for e in (made[0], made[4]) for _ in range(4)]
    assert (made[0]["colours"] != made[4]["colours"]).any()
    plain = blocks.example(1, 3, ("chair", "table"), VIEWS, 32)
    assert (plain["colours"] == made[4]["colours"]).all(), "the object is the one that the seed gives without a turntable"
    assert plain["elevation_deg"] == made[4]["elevation_deg"]


def test_views_are_uniform_in_their_ranges():
    views = {"azimuth_deg": (-30, 30), "elevation_deg": (10, 10), "distance": (3, 4)}
    made = [blocks.example(index, 0, ("stool",), views, 8) for index in range(200)]
    azimuth = np.array([example["azimuth_deg"] for example in made])
    assert -30 <= azimuth.min() < -25
    assert 25 < azimuth.max() <= 30
    assert {float(example["elevation_deg"]) for example in made} == {10.0}


def test_colours_are_those_of_the_parts():
    boxes, colours, _ = blocks.furniture("stool", np.random.default_rng(0))
    assert np.allclose(boxes.colours[-1], colours[0])  # the seat comes last
    assert np.allclose(boxes.colours[0], colours[2])  # and legs first


def test_attributes_are_those_of_the_parts():
    palette = np.array(list(blocks.COLOURS.values()))
    names = list(blocks.COLOURS)
    makes = {"back": set(), "legs": set()}
    for index in range(120):
        kind = list(blocks.KINDS)[index % 6]
        boxes, colours, attributes = blocks.furniture(kind, np.random.default_rng(index))
        for part, colour in zip(blocks.PARTS, colours, strict=True):
            named = palette[names.index(attributes[f"{part}_colour"])]
            assert abs(colour - named).max() <= 0.061, "as named, but for a little"
        has_back = (np.abs(boxes.colours - colours[1]).max(axis=1) < 1e-6).any()
        assert (attributes["back"] != "none") == (has_back and kind != "table"), "a table's drawer is no back"
        legs = (np.abs(boxes.colours - colours[2]).max(axis=1) < 1e-6).sum()
        if kind == "stool":
            assert legs == {"four": 4, "rails": 7, "sled": 6, "column": 3}[attributes["legs"]]
        for name, seen in makes.items():
            seen.add(attributes[name])
    assert makes == {"back": set(blocks.BACKS), "legs": set(blocks.LEGS)}


def test_ranges_are_read():
    assert blocks.parse_range("--azimuth", "-10,20.5", -360, 360) == (-10, 20.5)
    for text in ("5", "20,10", "a,b", "0,400", "nan,1"):
        with pytest.raises(UserError, match=r"--azimuth .*use LOW,HIGH with -360 <= LOW <= HIGH <= 360"):
            blocks.parse_range("--azimuth", text, -360, 360)


def rows(out):
    """split -> object -> PNG bytes."""
    builder = tfds.builder_from_directory(out)
    decoders = {"image": tfds.decode.SkipDecoding()}
    return {
        split: {int(row["object"]): row["image"] for row in tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders))}
        for split in builder.info.splits
    }


def prepare(out, *flags):
    assert main(["blocks", "--out", str(out), "--size", "16", "--workers", "0", *map(str, flags)]) == 0
    return rows(out)


def test_train_and_test_share_no_object_whatever_is_asked_for(tmp_path):
    asked = [("--count", 60), ("--count", 50, "--test", 20), ("--count", 90, "--test", "50%"), ("--count", 40, "--test", 0)]
    made = [prepare(tmp_path / str(number), *flags) for number, flags in enumerate(asked)]
    assert [{split: len(of) for split, of in one.items()} for one in made] == [
        {"train": 54, "test": 6},
        {"train": 30, "test": 20},
        {"train": 45, "test": 45},
        {"train": 40},
    ]
    train, test = [one["train"] for one in made], [one.get("test", {}) for one in made]
    assert not set().union(*train) & set().union(*test), "an object of some train is in some test"
    assert not {png for one in train for png in one.values()} & {png for one in test for png in one.values()}
    for one in (*train, *test):  # what is asked for less is the beginning of what is asked for more
        longest = max(train if one in train else test, key=len)
        assert one == {shown: longest[shown] for shown in one}


def test_train_is_what_was_drawn_before_there_were_splits(tmp_path):
    made = prepare(tmp_path / "out", "--count", 12, "--test", 4, "--seed", 3)
    kinds, views = ("chair",), VIEWS
    assert made["train"] == {index: blocks.example(index, 3, kinds, views, 16)["image"] for index in range(8)}
    assert list(sorted(made["test"])) == list(range(1_000_000_000, 1_000_000_004))


def test_a_turntable_is_train_alone_unless_asked(tmp_path):
    assert list(prepare(tmp_path / "plain", "--turntable", 4, "--count", 40)) == ["train"]
    made = prepare(tmp_path / "asked", "--turntable", 4, "--count", 40, "--test", "20%")
    assert {split: sorted(of) for split, of in made.items()} == {
        "train": list(range(8)),
        "test": [1_000_000_000, 1_000_000_001],
    }


def test_kinds_are_those_that_were_asked_for(tmp_path):
    prepare(tmp_path / "out", "--count", 4, "--kinds", "table,chair")
    features = tfds.builder_from_directory(str(tmp_path / "out")).info.features
    assert features["kind"].names == ["chair", "table"]
