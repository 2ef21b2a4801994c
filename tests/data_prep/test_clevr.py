"""Scenes and their labels: what is said to be there is there, and what train may not show it does not."""

import io
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_prep import clevr
from data_prep.__main__ import main
from data_prep.blocks import FIRST_OBJECT, field_of_view
from data_prep.raycast import camera_axes
from data_prep.splits import parse_part

VIEWS = {"azimuth_deg": (-10, 10), "elevation_deg": (25, 32), "distance": (3.5, 3.5)}
TENTH = parse_part("--unseen", "10%")


def made(index, size=64, seed=0, objects=(1, 3), views=VIEWS, turntable=1, unseen=TENTH):
    return clevr.example(index, seed, unseen, objects, views, size, turntable)


def pixels(example):
    return np.asarray(Image.open(io.BytesIO(example["image"]))).astype(int)


def places(example, size):
    """Where the solids' centres are in the image, row and column, by the conventions of view."""
    right, up, backward = camera_axes(example["azimuth_deg"], example["elevation_deg"])
    away = example["positions"] - ([0, 0.15, 0] + 3.5 * backward)
    scale = size / 2 / (field_of_view(3.5) * -(away @ backward))
    return np.stack([size / 2 - (away @ up) * scale, size / 2 + (away @ right) * scale], axis=1)


def test_the_kinds_are_eight_colours_of_three_shapes():
    assert len(clevr.KINDS) == len(set(clevr.KINDS)) == 24
    assert clevr.KINDS[:2] == ("gray cube", "red cube")
    assert clevr.KINDS[8] == "gray sphere"
    assert clevr.KINDS[-1] == "yellow cylinder"


def test_each_label_has_its_colour_where_its_position_says():
    for index in range(60):
        example = made(index)
        image = pixels(example)
        for kind, place in zip(example["labels"], places(example, 64), strict=True):
            row, column = place.round().astype(int)
            assert 0 <= row < 64, index
            assert 0 <= column < 64, index
            patch = image[row - 6 : row + 7, column - 6 : column + 7].reshape(-1, 3)
            wanted = np.array(clevr.COLOURS[kind.split()[0]]) / 255
            chroma = patch / np.maximum(patch.sum(1, keepdims=True), 1)
            away = np.abs(chroma - wanted / wanted.sum()).sum(1)
            dark = patch.max(1) < 110 if kind.startswith("gray") else True
            assert (dark & (away < 0.25)).mean() > 0.15, (index, kind)


def test_no_two_solids_touch_and_all_are_inside_and_in_view():
    numbers = []
    for index in range(150):
        rng = np.random.default_rng(index)
        kinds = [clevr.KINDS[k] for k in rng.choice(24, 3, replace=False)]
        scene = clevr.arranged(kinds, rng, (5.0, 28.0, 3.5), field_of_view(3.5))
        assert scene.shapes == tuple(kind.split()[1] for kind in kinds)
        for a in range(3):
            for b in range(a):
                apart = np.linalg.norm(scene.centres[a] - scene.centres[b]) - scene.radii[a] - scene.radii[b]
                assert apart >= clevr.GAP - 1e-6
        tops = np.stack([np.linalg.norm(scene.centres, axis=1) + scene.radii, scene.heights - 0.15], axis=1)
        assert np.linalg.norm(tops, axis=1).max() <= 1, "inside the sphere that the field of view holds"
        numbers.append(clevr.solids.look(scene, 5.0, 28.0, 3.5, 64, field_of_view(3.5), 1).seen.min())
    assert min(numbers) >= clevr.SEEN
    assert np.mean(np.array(numbers) < 1) > 0.3, "some stand before others"


def test_an_example_depends_on_seed_and_index_alone():
    one, again = made(7), dict(clevr.examples((5, 9), seed=0, unseen=TENTH, objects=(1, 3), views=VIEWS, size=64))[7]
    assert one["image"] == again["image"]
    assert one["labels"] == again["labels"]
    assert one["image"] != made(7, seed=1)["image"]
    large = made(7, size=128)
    assert large["labels"] == one["labels"]
    np.testing.assert_array_equal(large["positions"], one["positions"])
    small = pixels(large).reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(small - pixels(one)).mean() < 2, "the same scene, larger"


def test_far_cameras_find_scenes_too():
    views = VIEWS | {"distance": (3.5, 1000.0)}
    assert all(made(index, size=8, views=views, objects=(1, 1))["labels"] for index in range(3))


def test_one_two_and_three_objects_are_equally_likely_and_views_uniform():
    found = [made(index, size=8) for index in range(300)]
    counts = np.bincount([len(example["labels"]) for example in found], minlength=4)
    assert counts[0] == 0
    assert (np.abs(counts[1:] - 100) < 30).all()
    azimuth = np.array([example["azimuth_deg"] for example in found])
    assert -10 <= azimuth.min() < -8
    assert 8 < azimuth.max() <= 10
    assert {len(made(index, size=8, objects=(1, 1))["labels"]) for index in range(20)} == {1}


def test_a_turntable_shows_one_scene_from_equal_steps():
    views = VIEWS | {"azimuth_deg": (0, 360)}
    found = [made(index, views=views, turntable=4) for index in range(8)]
    assert [e["azimuth_deg"] for e in found] == [0, 90, 180, 270] * 2
    for four in (found[:4], found[4:]):
        assert (
            len({tuple(e["labels"]) for e in four})
            == len({e["elevation_deg"] for e in four})
            == len({e["object"] for e in four})
            == 1
        )
        np.testing.assert_array_equal(four[0]["positions"], four[3]["positions"])
        assert len({e["image"] for e in four}) == 4
    assert found[0]["object"] != found[4]["object"]


def test_a_tenth_of_each_number_of_objects_is_unseen_and_all_kinds_are_seen():
    found = clevr.combinations(0, TENTH, 1, 3)
    for number, (total, kept) in {1: (24, 2), 2: (276, 28), 3: (2024, 202)}.items():
        assert len(found.unseen[number]) == kept
        assert len(found.seen[number]) == total - kept
        assert not set(found.seen[number]) & set(found.unseen[number])
    assert {kind for pool in found.seen.values() for kinds in pool for kind in kinds} == set(range(24))
    assert clevr.combinations(1, TENTH, 1, 3).unseen != found.unseen
    assert clevr.combinations(0, TENTH, 1, 1).unseen == {}, "a kind that is seen nowhere cannot be learnt"
    assert found.unseen[3][:3] == [(0, 12, 13), (1, 5, 16), (4, 10, 18)], "the same on every machine, for ever"


def test_scenes_of_unseen_have_unseen_combinations_and_no_others():
    found = clevr.combinations(0, TENTH, 1, 3)
    for split, pools in (("train", found.seen), ("test", found.seen), ("unseen", found.unseen)):
        for index in range(FIRST_OBJECT[split], FIRST_OBJECT[split] + 60):
            kinds = tuple(sorted(clevr.KINDS.index(kind) for kind in made(index, size=8)["labels"]))
            assert kinds in pools[len(kinds)]


def prepare(out, *flags):
    assert main(["clevr", "--out", str(out), "--size", "16", "--workers", "0", *map(str, flags)]) == 0
    builder = tfds.builder_from_directory(out)
    names = builder.info.features["labels"].feature.names
    rows = {}
    for split in builder.info.splits:
        found = tfds.as_numpy(builder.as_dataset(split=split))
        rows[split] = [(tuple(names[label] for label in row["labels"]), row) for row in found]
    return names, rows, json.loads((out / "conditions.json").read_text())


def test_a_folder_holds_labels_positions_views_and_lists(tmp_path, capsys):
    names, rows, lists = prepare(tmp_path / "out", "--count", 60, "--test", 20)
    assert "train on it: python main.py --config configs/projection_clevr.py" in capsys.readouterr().out
    assert tuple(names) == clevr.KINDS
    assert {split: len(found) for split, found in rows.items()} == {"train": 40, "test": 20, "unseen": 20}
    for labels, row in rows["train"]:
        assert row["positions"].shape == (len(labels), 3)
        assert np.abs(row["azimuth_deg"]) <= 10
        assert row["image"].shape == (16, 16, 3)
    drawn = {frozenset(labels) for split in ("train", "test") for labels, _ in rows[split]}
    unseen = {frozenset(labels) for labels, _ in rows["unseen"]}
    assert not drawn & unseen
    assert set(lists) == {"test", "unseen"}
    for conditions in lists.values():
        assert [len(condition) for condition in conditions] == [1] * 32 + [2] * 32 + [3] * 32
        assert {name for condition in conditions for name in condition} <= set(names)
    assert not {frozenset(c) for c in lists["test"]} & {frozenset(c) for c in lists["unseen"]}
    seen = clevr.combinations(0, TENTH, 1, 3).seen
    assert all(tuple(sorted(map(clevr.KINDS.index, c))) in seen[len(c)] for c in lists["test"])


def test_nothing_is_unseen_where_nothing_is_kept(tmp_path):
    _, rows, lists = prepare(tmp_path / "all", "--count", 12, "--test", 4, "--unseen", 0)
    assert set(rows) == {"train", "test"}
    assert set(lists) == {"test"}
    _, rows, lists = prepare(tmp_path / "single", "--count", 12, "--test", 4, "--objects", "1,1")
    assert set(rows) == {"train", "test"}
    assert set(map(len, lists["test"])) == {1}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--objects", "0,3"], "--objects '0,3': use LOW,HIGH with 1 <= LOW <= HIGH <= 3"),
        (["--objects", "1,4"], "--objects '1,4': use LOW,HIGH with 1 <= LOW <= HIGH <= 3"),
        (["--objects", "1.5,3"], "--objects '1.5,3': use whole numbers"),
        (["--unseen", "100%"], "--unseen 100%: leaves none to train on"),
        (["--unseen", "24"], "--unseen 24 of 24 combinations of 1 leaves none to train on: use at most 23"),
        (["--unseen", "99.9%"], "--unseen 99.9% of 24 combinations of 1 leaves none to train on"),
        (["--unseen", "96%", "--objects", "1,2"], "more kinds would be in no image of train: use less"),
        (["--seed", "-1"], "--seed -1: use 0 or more"),
        (["--elevation", "30,20"], "--elevation '30,20': use LOW,HIGH"),
    ],
)
def test_bad_flags_are_named(flags, message, tmp_path, capsys):
    assert main(["clevr", "--out", str(tmp_path / "x"), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
