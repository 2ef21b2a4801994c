"""Windings made of real turntables: chairs of random boxes, drawn level and from far away."""

import numpy as np
import pytest

from data_prep import blocks, raycast
from holotf.evaluators import outlines

VIEWS = 24
K = np.arange(VIEWS)
GROUND = np.uint8([255, 255, 255])


@pytest.fixture(scope="module")
def turning():
    """Silhouettes of twelve chairs, [12, 24, 32, 32]."""
    sweeps = []
    for index in range(12):
        boxes, _ = blocks.furniture("chair", np.random.default_rng([7, index]))
        half_width = blocks.field_of_view(1000.0)
        sweeps.append([raycast.render(boxes, a, 0.0, 1000.0, 32, half_width=half_width) for a in K * 360.0 / VIEWS])
    return outlines.silhouettes(np.array(sweeps), GROUND)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (K, 12),
        (-K, 12),
        (K + 5, 12),
        (0 * K, 0),
        (2 * K, 0),
        (3 * K, 0),
        (4 * K, 0),
        (K // 2, 0),
    ],
    ids=["once", "backwards", "another zero", "frozen", "twice", "three times", "four times", "half"],
)
def test_only_one_turn_is_one_turn(turning, steps, expected):
    once, _ = outlines.turns_once(outlines.mirrored_overlaps(turning[:, steps % VIEWS]))
    assert once.sum() == expected


def test_a_real_turntables_opposite_outline_is_the_mirrored_one(turning):
    overlaps = outlines.mirrored_overlaps(turning)
    assert overlaps[:, VIEWS // 2].min() > 0.98
    assert (overlaps.argmax(axis=1) == VIEWS // 2).all()
    assert not outlines.turns_once(overlaps)[1].any()


def test_what_is_round_is_counted_apart():
    """A disc looks alike from everywhere: it cannot be said to turn."""
    y, x = np.mgrid[:32, :32] - 15.5
    disc = np.broadcast_to(x**2 + y**2 < 100, (1, VIEWS, 32, 32))
    once, round_ = outlines.turns_once(outlines.mirrored_overlaps(disc))
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
