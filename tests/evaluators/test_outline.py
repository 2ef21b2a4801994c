"""Windings made of real turntables: chairs of random boxes, drawn level and from far away."""

import numpy as np
import pytest

from data_prep import blocks, raycast
from holotf.evaluators import outlines

VIEWS = 24
K = np.arange(VIEWS)
GROUND = np.uint8([255, 255, 255])
SWING = 6 - np.abs(K - 12)  # 90 degrees to one side, through the front 90 to the other, and back


def chairs(elevation_deg, distance):
    """Silhouettes of twelve chairs on a turntable, [12, 24, 32, 32]."""
    sweeps, half_width = [], blocks.field_of_view(distance)
    for index in range(12):
        boxes, *_ = blocks.furniture("chair", np.random.default_rng([7, index]))
        sweeps.append([raycast.render(boxes, 15.0 * k, elevation_deg, distance, 32, half_width=half_width) for k in K])
    return outlines.silhouettes(np.array(sweeps), GROUND)


@pytest.fixture(scope="module")
def level():
    return chairs(0.0, 1000.0)


@pytest.fixture(scope="module")
def tilted():
    return chairs(25.0, 3.5)


def flickering(silhouettes):
    """As a bad generator draws them: each a pixel off."""
    rng, made = np.random.default_rng(0), np.empty_like(silhouettes)
    for place in np.ndindex(*silhouettes.shape[:2]):
        made[place] = np.roll(silhouettes[place], rng.integers(-1, 2, 2), axis=(0, 1))
    return made


@pytest.mark.parametrize("drawn", [lambda s: s, flickering], ids=["clean", "flickering"])
@pytest.mark.parametrize(
    ("steps", "expected"),
    [(K, 12), (-K, 12), (K + 5, 12), (0 * K, 0), (2 * K, 0), (3 * K, 0), (4 * K, 0), (K // 2, 0)],
    ids=["once", "backwards", "another zero", "frozen", "twice", "three times", "four times", "half"],
)
def test_only_one_turn_is_one_turn(level, tilted, steps, expected, drawn):
    views = steps % VIEWS
    once, _ = outlines.turns_once(drawn(level[:, views]), drawn(tilted[:, views]))
    assert once.sum() == expected


@pytest.mark.parametrize("swing", [SWING, 2 * SWING, SWING + 6], ids=["about the front", "all the way", "about a side"])
def test_a_swing_is_told_from_above(level, tilted, swing):
    """Not from level outlines alone: of chairs, whose left is like their right, those from behind are those from the front."""
    views = swing % VIEWS
    assert not outlines.turns_once(level[:, views], tilted[:, views])[0].any()
    if swing is SWING:
        assert outlines.turns_once(level[:, views])[0].all()


def test_a_real_turntables_opposite_outline_is_the_mirrored_one(level):
    overlaps = outlines.mirrored_overlaps(level)
    assert overlaps[:, VIEWS // 2].min() > 0.98
    assert (overlaps.argmax(axis=1) == VIEWS // 2).all()
    assert not outlines.turns_once(level)[1].any()


def test_what_is_round_is_counted_apart():
    """A disc looks alike from everywhere: it cannot be said to turn."""
    y, x = np.mgrid[:32, :32] - 15.5
    disc = np.broadcast_to(x**2 + y**2 < 100, (1, VIEWS, 32, 32))
    once, round_ = outlines.turns_once(disc, disc)
    assert not once[0]
    assert round_[0]


def test_overlap_by_hand():
    a, b = np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    a[0, 0], b[0, :, 0] = True, True  # a row and a column: one pixel of three
    np.testing.assert_allclose(outlines.overlap(a, b), [1 / 3, 1.0])


def test_silhouettes_differ_from_the_ground_in_any_channel():
    image = np.tile(GROUND, (1, 3, 1))
    image[0, 1] = [255, 255, 255 - outlines.DIFFERS]
    image[0, 2] = [255, 254 - outlines.DIFFERS, 255]
    assert outlines.silhouettes(image, GROUND).tolist() == [[False, False, True]]


def test_a_plain_ground_is_found_and_photographs_have_none():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 8, 8, 3), np.uint8)
    assert outlines.plain_ground(images) is None
    images[:, [0, -1]], images[:, :, [0, -1]] = [240, 10, 20], [240, 10, 20]
    images[:2, 0, 0] = 0  # an object that reaches a corner now and then
    assert outlines.plain_ground(images).tolist() == [240, 10, 20]
