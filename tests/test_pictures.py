"""Pictures with words: where the images, the words and the counts stand."""

import imageio.v3 as imageio
import numpy as np
import pytest

from holotf import pictures

FONT = pictures.FONT_PX


def test_captions_stand_below_their_images_and_the_last_row_is_filled_up():
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    sheet = pictures.captioned(images, ["one", "", "two\nlines", "", "five"], columns=2)
    height = 128 + 2 * (FONT + 4)
    assert sheet.shape == (3 * height, 2 * 128, 3)
    tiles = sheet.reshape(3, height, 2, 128, 3).swapaxes(1, 2).reshape(6, height, 128, 3)
    for tile, image in zip(tiles, images, strict=False):
        np.testing.assert_array_equal(tile[:128], image.repeat(2, 0).repeat(2, 1))
    written = [np.any(tile[128:] < 128) for tile in tiles]
    assert written == [True, False, True, False, True, False]
    assert np.any(tiles[2][128 + FONT + 4 :] < 128), "the second line"
    assert not np.any(tiles[0][128 + FONT + 4 :] < 255)
    assert (tiles[5] == 255).all()


def test_without_any_caption_there_is_no_room_for_one():
    images = np.zeros((2, 256, 256, 3), np.uint8)
    assert pictures.captioned(images, ["", ""], columns=2).shape == (256, 512, 3)


@pytest.mark.parametrize(("classes", "cell"), [(2, 44), (10, 44), (30, 14), (130, 3)])
def test_a_confusion_matrix_is_dark_where_a_row_is(classes, cell):
    """Shares of the row, not counts: a rare class that is always taken for another stands out."""
    counts = np.zeros((classes, classes), int)
    counts[0, 0], counts[1, 0] = 1000, 3
    picture = pictures.confusion(counts, [f"class {i}" for i in range(classes)])
    side = len(picture) - classes * cell
    assert picture.shape == (side + classes * cell, side + classes * cell, 3)
    corners = picture[side::cell, side::cell].astype(int).sum(axis=-1)  # beside the numbers
    assert corners[0, 0] == corners[1, 0] < 200
    corners[:2, 0] = 3 * 255
    assert (corners == 3 * 255).all()
    for names in (picture[side:, :side], picture[:side, side:]):
        assert np.any(names < 128) == (classes <= pictures.NAMED)
    numbers = picture[side : side + cell, side : side + cell]
    assert np.any(numbers != numbers[0, 0]) == (classes <= pictures.NUMBERED)


def test_what_is_nearer_is_lighter_and_enlarged_bilinearly():
    depths = np.random.default_rng(0).uniform(-1, 1, (2, 4, 4)).astype(np.float32)
    made = pictures.depth_pictures(depths, 12)
    assert (made.shape, made.dtype) == ((2, 12, 12, 3), np.uint8)
    assert (made[..., 0] == made[..., 2]).all()
    levels = np.round((depths + 1) * 127.5)
    np.testing.assert_allclose(made[:, 1::3, 1::3, 0], levels, atol=1)  # the middles of the small picture's pixels
    np.testing.assert_allclose(made[:, 1, 2, 0], levels[:, 0, :2] @ [2 / 3, 1 / 3], atol=1)
    np.testing.assert_array_equal(pictures.depth_pictures(np.full((1, 2, 2), 7, np.float32), 4), 255)
    np.testing.assert_array_equal(pictures.depth_pictures(np.full((1, 2, 2), np.nan, np.float32), 4), 0)


def test_pictures_lie_in_the_folders_that_their_names_say(tmp_path):
    picture = np.full([8, 8, 3], 7, np.uint8)
    paths = pictures.write(str(tmp_path / "made"), {"sheet.png": picture, "confusion/single.png": picture})
    assert paths == [str(tmp_path / "made" / name) for name in ("sheet.png", "confusion/single.png")]
    for path in paths:
        np.testing.assert_array_equal(imageio.imread(path), picture)
