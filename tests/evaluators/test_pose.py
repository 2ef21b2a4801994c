"""Known answers: what a turntable, a swing, a frozen picture, shuffled views and a mirrored world score."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_prep import blocks, raycast
from data_prep.__main__ import main as prepare
from holotf.errors import UserError
from holotf.evaluators import pose, regressor
from holotf.evaluators.angles import wrap
from holotf.evaluators.identity import identity_ratio

VIEWS = 24
ASKED = np.arange(VIEWS) * 360.0 / VIEWS
SWING = np.abs((np.arange(VIEWS) + 6) % VIEWS - 12) * 15.0 - 90.0  # left, right, left: -90 to 90 and back


def turntable(index, azimuths, size=32):
    """One chair of random boxes from each azimuth: uint8 [len(azimuths), size, size, 3]."""
    boxes, *_ = blocks.furniture("chair", np.random.default_rng([7, index]))
    half_width = blocks.field_of_view(3.5)
    return np.stack([raycast.render(boxes, a, 25.0, 3.5, size, half_width=half_width) for a in azimuths])


@pytest.fixture(scope="module")
def read():
    """A regressor trained for seconds: it need not be good, since its own error is known."""
    rng = np.random.default_rng(0)
    azimuths, elevations = rng.uniform(0, 360, 2200), rng.uniform(15, 35, 2200)
    half_width, images = blocks.field_of_view(3.5), []
    for i, (azimuth, elevation) in enumerate(zip(azimuths, elevations, strict=True)):
        boxes, *_ = blocks.furniture("chair", np.random.default_rng([0, i]))
        images.append(raycast.render(boxes, azimuth, elevation, 3.5, 32, half_width=half_width))
    return regressor.train(np.stack(images), azimuths, elevations, epochs=6)


@pytest.fixture(scope="module")
def turntables():
    return np.stack([turntable(i, ASKED) for i in range(12)])


def test_turntables_are_read_object_by_object_and_side_by_side(tmp_path):
    flags = ["--size", "32", "--count", "12", "--turntable", "4", "--elevation", "25,25", "--seed", "7", "--workers", "0"]
    assert prepare(["blocks", "--out", str(tmp_path / "turning"), *flags]) == 0
    images, azimuth_deg = regressor.turntables(tfds.builder_from_directory(tmp_path / "turning"), "train")
    assert azimuth_deg.tolist() == [0, 90, 180, 270]
    for shown, sweep in enumerate(images):
        for side, image in zip(azimuth_deg, sweep, strict=True):
            rng = np.random.default_rng([7, shown])
            boxes, *_ = blocks.furniture(("chair",)[rng.integers(1)], rng)
            expected = raycast.render(boxes, side, 25.0, 3.5, 32, half_width=blocks.field_of_view(3.5))
            np.testing.assert_array_equal(image, expected)


def test_what_is_no_turntable_is_refused(tmp_path):
    assert prepare(["blocks", "--out", str(tmp_path / "data"), "--size", "32", "--count", "3", "--workers", "0"]) == 0
    builder = tfds.builder_from_directory(tmp_path / "data")
    with pytest.raises(UserError, match="does not show every object from the same sides: make it with data_prep's --turntable"):
        regressor.turntables(builder, "train")


def scores(read, sweeps, asked=ASKED):
    return pose.azimuth_scores(read(sweeps)[0], asked)[0]


def test_real_turntables_turn(read, turntables):
    assert read.held_out["azimuth_mae_deg"] < 25
    found = scores(read, turntables)
    assert found["sign"] == 1
    assert found["coverage_deg"] > 340
    assert found["full_turn_share"] > 0.9
    assert found["monotonicity"] > 0.85
    assert found["correlation"] > 0.8
    assert found["azimuth_mae_deg"] < 1.5 * read.held_out["azimuth_mae_deg"] + 2


def test_elevation_is_read(read):
    boxes, *_ = blocks.furniture("chair", np.random.default_rng([7, 0]))
    asked = np.linspace(15, 35, 9)
    sweep = [raycast.render(boxes, 40, e, 3.5, 32, half_width=blocks.field_of_view(3.5)) for e in asked]
    found = pose.elevation_scores(read(np.stack(sweep)[None])[1], asked)
    assert found["elevation_correlation"] > 0.8
    assert found["elevation_mae_deg"] < 5


def test_a_swing_covers_nothing(read):
    found = scores(read, np.stack([turntable(i, SWING) for i in range(6)]))
    assert abs(found["coverage_deg"]) < 60
    assert found["full_turn_share"] == 0
    assert 0.3 < found["monotonicity"] < 0.7


def test_a_frozen_picture_scores_nothing(read, turntables):
    found = scores(read, turntables[:, :1].repeat(VIEWS, axis=1))
    assert found["coverage_deg"] == 0
    assert found["monotonicity"] == 0
    assert found["azimuth_mae_deg"] == pytest.approx(90, abs=1)
    assert abs(found["correlation"]) < 0.05


def test_shuffled_views_do_not_correlate(read, turntables):
    rng = np.random.default_rng(0)
    found = scores(read, np.stack([sweep[rng.permutation(VIEWS)] for sweep in turntables]))
    assert abs(found["correlation"]) < 0.15


def test_a_mirrored_world_flips_the_sign_and_nothing_else(read, turntables):
    straight, mirrored = scores(read, turntables), scores(read, turntables[:, :, :, ::-1])
    assert mirrored["sign"] == -1
    assert mirrored["coverage_deg"] > 330
    assert mirrored["azimuth_mae_deg"] == pytest.approx(straight["azimuth_mae_deg"], abs=6)


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_by_hand(sign):
    """Two perfect sweeps whose zeros lie 100 and 140 degrees off: one offset (120) is fitted, 20 degrees are left."""
    found, each = pose.azimuth_scores(wrap(sign * ASKED + np.array([[100.0], [140.0]])), ASKED)
    assert found["sign"] == sign
    assert found["azimuth_mae_deg"] == pytest.approx(20)
    assert found["offset_spread_deg"] == pytest.approx(20)
    assert found["coverage_deg"] == pytest.approx(360)
    assert found["monotonicity"] == 1
    np.testing.assert_allclose(each["offset_deg"], [-20, 20], atol=1e-9)
    one = pose.azimuth_scores(wrap(sign * ASKED + 100.0)[None], ASKED)[0]
    assert one["correlation"] == pytest.approx(1)


@pytest.mark.parametrize(("rounds", "share"), [(1, 1), (2, 0), (-2, 0), (0, 0)])
def test_only_one_round_is_a_full_turn(rounds, share):
    """Objects that turn twice while the view turns once cover 720 degrees, and that is no full turn; in whichever sense."""
    found, each = pose.azimuth_scores(wrap(rounds * ASKED + 30.0)[None], ASKED)
    np.testing.assert_allclose(np.abs(each["coverage_deg"]), abs(rounds) * 360, atol=1e-9)
    assert found["full_turn_share"] == share


def test_angles_wrap():
    np.testing.assert_allclose(wrap([180, -180, 190, -190, 540, 0]), [180, 180, -170, 170, 180, 0])


def test_symmetric_objects_are_called_ambiguous():
    """A reader that takes every other front for a back."""
    truth = np.linspace(0, 350, 36)

    def read(images):
        return truth + 180.0 * (np.arange(36) % 2), np.zeros(36)

    assert regressor.judge_regressor(read, np.zeros(36), truth, np.zeros(36))["ambiguous_share"] == 0.5


def test_identity_ratio_tells_objects_from_views():
    rng = np.random.default_rng(0)
    objects, views = rng.normal(size=(40, 1, 8)), rng.normal(size=(1, 6, 8))
    same = identity_ratio(objects + 10 * views)  # every object looks different from every side, all in the same way
    assert same["identity/ratio"] == pytest.approx(0, abs=1e-12)
    assert same["identity/shuffled_ratio"] == pytest.approx(5 / 6, abs=0.05)
    assert identity_ratio(rng.normal(size=(40, 6, 8)))["identity/ratio"] == pytest.approx(5 / 6, abs=0.05)
