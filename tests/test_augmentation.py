"""Augmentation: what is drawn, and what each operation does to an image."""

import functools

import numpy as np
import pytest
import scipy.ndimage
import skimage.transform
import tensorflow as tf

from holotf import augmentation

SEED = tf.constant([3, 4])


@pytest.fixture(scope="module")
def images():
    """Smooth ones, with black around: what is moved loses nothing at the edge."""
    noise = np.random.default_rng(0).uniform(size=(6, 32, 32, 3))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 2, 2, 0))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    smooth *= np.pad(np.ones((20, 20)), 6)[..., np.newaxis]
    return tf.constant((255 * smooth).round(), tf.uint8)


def kind_with(name):
    return "shift" if name == "shift" else "significant"


def drawn_for(images, kind="significant", seed=SEED):
    return augmentation.draw(kind, len(images), *images.shape[1:3], seed)


def only(name, images, seed=SEED, **values):
    """One operation alone, on all; `values` by their place, as in value_0=0.5."""
    drawn = drawn_for(images, kind_with(name), seed)
    drawn["chosen"] = {other: tf.fill([len(images)], other == name) for other in drawn["chosen"]}
    if values:
        drawn["values"][name] = tf.repeat(tf.constant([list(values.values())], tf.float32), len(images), axis=0)
    return augmentation.apply(images, drawn)


def affine(images, scale_x=1.0, scale_y=1.0, x=0.0, y=0.0, rotation=0.0, shear=0.0):
    return only("affine", images, sx=scale_x, sy=scale_y, x=x, y=y, rotation=rotation, shear=shear)


def close(found, expected, levels=1):
    np.testing.assert_allclose(found.numpy().astype(int), np.asarray(expected).astype(int), atol=levels)


def test_what_was_chosen_for_no_image_is_the_identity(images):
    drawn = drawn_for(images)
    drawn["chosen"] = {name: tf.zeros_like(chosen) for name, chosen in drawn["chosen"].items()}
    np.testing.assert_array_equal(augmentation.apply(images, drawn), images)


@pytest.mark.parametrize("name", augmentation.RANGES)
def test_an_operation_changes_those_it_was_chosen_for_and_no_other(images, name):
    drawn, some = drawn_for(images, kind_with(name)), tf.constant([True, False] * 3)
    drawn["values"][name] = tf.repeat(np.float32(augmentation.RANGES[name])[:, 1][np.newaxis], 6, axis=0)
    drawn["chosen"] = {other: some & (other == name) for other in drawn["chosen"]}
    changed = np.any(augmentation.apply(images, drawn) != images, axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, some)


def test_small_chooses_each_for_half_of_the_images_and_independently():
    drawn = augmentation.draw("small", 4000, 8, 8, SEED)
    assert set(drawn["chosen"]) == set(drawn["values"]) == {"crop_pad", "affine"}
    assert drawn["fields"] == {}
    crop, turn = (drawn["chosen"][name].numpy() for name in ("crop_pad", "affine"))
    for share, expected in ((crop.mean(), 0.5), (turn.mean(), 0.5), ((crop & turn).mean(), 0.25)):
        assert share == pytest.approx(expected, abs=0.04)


def test_shift_moves_every_image_by_whole_pixels(images):
    drawn = drawn_for(images, "shift")
    assert set(drawn["chosen"]) == set(drawn["values"]) == {"shift"}
    moves = [(round(32 * float(x)), round(32 * float(y))) for x, y in drawn["values"]["shift"]]
    assert len(set(moves)) >= 5
    assert all(abs(d) <= 4 for move in moves for d in move)
    expected = [np.roll(image, move[::-1], (0, 1)) for image, move in zip(images, moves, strict=True)]  # all are black around
    np.testing.assert_array_equal(augmentation.apply(images, drawn), expected)
    seen = augmentation.apply(tf.fill([1, 32, 32, 3], tf.constant(255, tf.uint8)), drawn_for(images[:1], "shift"))
    assert int(tf.reduce_sum(tf.cast(seen == 0, tf.int32))) == 3 * (32 * 32 - (32 - abs(moves[0][0])) * (32 - abs(moves[0][1])))


def test_significant_chooses_none_to_five_looks_each_number_and_each_look_as_often():
    drawn = augmentation.draw("significant", 6000, 8, 8, SEED)
    looks = np.stack([drawn["chosen"][name] for name in augmentation.LOOKS])
    np.testing.assert_allclose(np.bincount(looks.sum(axis=0), minlength=10) / 6000, [1 / 6] * 6 + [0] * 4, atol=0.03)
    np.testing.assert_allclose(looks.mean(axis=1), 2.5 / 9, atol=0.03)


@pytest.mark.parametrize("name", augmentation.RANGES)
def test_what_is_drawn_fills_its_range(name):
    values = augmentation.draw(kind_with(name), 2000, 2, 2, SEED)["values"][name].numpy()
    low, high = np.transpose(augmentation.RANGES[name])
    span = high - low
    assert (values >= low - 1e-6).all()
    assert (values <= high + 1e-6).all()
    np.testing.assert_allclose(values.min(axis=0), low, atol=0.01 * span.max())
    np.testing.assert_allclose(values.max(axis=0), high, atol=0.01 * span.max())
    np.testing.assert_allclose(values.mean(axis=0), (low + high) / 2, atol=0.03 * span.max())
    apart = np.corrcoef(values.T) - np.eye(len(low)) if len(low) > 1 else np.zeros(1)
    assert np.abs(apart).max() < 0.1


def test_the_same_seed_gives_the_same_images_and_another_does_not(images):
    def augmented(seed):
        return augmentation.apply(images, drawn_for(images, seed=seed)).numpy()

    np.testing.assert_array_equal(augmented(SEED), augmented(SEED))
    traced = tf.function(lambda seed: augmentation.apply(images, drawn_for(images, seed=seed)))
    close(traced(SEED), augmented(SEED))
    assert np.any(augmented(SEED) != augmented(SEED + 1), axis=(1, 2, 3)).sum() >= 4


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_exact(images, quarters):
    """Clockwise is negative in tf.image."""
    np.testing.assert_array_equal(affine(images, rotation=-90.0 * quarters), tf.image.rot90(images, quarters))


def test_translation_moves_by_shares_of_the_image(images):
    moved = affine(images, x=0.125, y=-0.0625)  # 4 px to the right, 2 up
    np.testing.assert_array_equal(moved, np.roll(images, (-2, 4), (1, 2)))


def test_affine_maps_as_scikit_image_does(images):
    scale, x, y, rotation, shear = (1.2, 0.85), 0.1, -0.05, 30.0, 12.0
    about = skimage.transform.AffineTransform(translation=(-15.5, -15.5))
    itself = skimage.transform.AffineTransform(translation=(32 * x, 32 * y))
    # Its own shear is a tangent, ours an angle: by the formula.
    r, s = np.radians(rotation), np.radians(shear)
    itself.params[:2, :2] = [[scale[0] * np.cos(r), -scale[1] * np.sin(r + s)], [scale[0] * np.sin(r), scale[1] * np.cos(r + s)]]
    whole = about + itself + about.inverse
    expected = [skimage.transform.warp(image, whole.inverse, order=1, preserve_range=True) for image in images.numpy()]
    close(affine(images, *scale, x, y, rotation, shear), np.round(expected))


def test_padding_and_cutting_are_resizes_of_the_padded_and_of_the_cut(images):
    """By half of the width on the right, and an eighth off the top: rows 4 to 31 fill the height, columns 0 to 47 the width."""
    found = only("crop_pad", images, left=0.0, right=0.5, top=-0.125, bottom=0.0)
    grown = np.pad(images, [(0, 0), (0, 0), (0, 16), (0, 0)])[:, 4:].astype(np.float32)
    rows, columns = (np.arange(32) + 0.5) * 28 / 32 - 0.5, (np.arange(32) + 0.5) * 48 / 32 - 0.5
    places = np.meshgrid(rows, columns, indexing="ij")
    expected = [[scipy.ndimage.map_coordinates(image[..., c], places, order=1) for c in range(3)] for image in grown]
    expected = np.round(np.transpose(expected, (0, 2, 3, 1)))  # [B,C,H,W] -> [B,H,W,C]
    close(found[:, 1:], expected[:, 1:])  # the first row's taps reach to what was cut off


def test_a_blur_is_the_gaussians(images):
    x = tf.cast(images, tf.float32) / 255.0
    found = augmentation.blur(x, tf.fill([6], 1.2)).numpy()
    expected = scipy.ndimage.gaussian_filter(x.numpy(), (0, 1.2, 1.2, 0), mode="reflect", radius=(0, 3, 3, 0))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(augmentation.blur(x, tf.zeros([6])), x, atol=1e-6)


@pytest.mark.parametrize(
    ("look", "numbers", "kernel"),
    [
        (augmentation.sharpen, (1.0, 0.75), [[-1, -1, -1], [-1, 8.75, -1], [-1, -1, -1]]),
        (augmentation.sharpen, (0.5, 1.0), [[-0.5, -0.5, -0.5], [-0.5, 5.0, -0.5], [-0.5, -0.5, -0.5]]),
        (augmentation.emboss, (1.0, 2.0), [[-3, -2, 0], [-2, 1, 2], [0, 2, 3]]),
    ],
)
def test_filters_by_hand(images, look, numbers, kernel):
    x = images.numpy().astype(np.float64) / 255.0
    found = look(tf.constant(x, tf.float32), *(tf.fill([6], number) for number in numbers))
    correlate = functools.partial(scipy.ndimage.correlate, weights=np.array(kernel), mode="reflect")
    expected = np.stack([np.stack([correlate(image[..., c]) for c in range(3)], axis=-1) for image in x])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_looks_of_one_pixel_by_hand():
    pixel = tf.constant([[[[0.8, 0.4, 0.2]]]])
    one = functools.partial(tf.fill, [1])
    np.testing.assert_allclose(augmentation.brightness(pixel, one(0.1)), [[[[0.9, 0.5, 0.3]]]], rtol=1e-5)
    np.testing.assert_allclose(augmentation.contrast(pixel, one(2.0)), [[[[1.1, 0.3, -0.1]]]], atol=1e-6)
    grey = 0.2989 * 0.8 + 0.587 * 0.4 + 0.114 * 0.2
    np.testing.assert_allclose(augmentation.greyscale(pixel, one(0.5)), (pixel + grey) / 2, rtol=1e-4)
    # A third of a turn: red is green's, green is blue's, blue is red's.
    np.testing.assert_allclose(augmentation.hue_saturation(pixel, one(1 / 3), one(0.0)), [[[[0.2, 0.8, 0.4]]]], atol=1e-5)
    # Saturation is 1 - 0.2 / 0.8; at 1 the least is 0, the value stays.
    np.testing.assert_allclose(augmentation.hue_saturation(pixel, one(0.0), one(0.25))[0, 0, 0, ::2], [0.8, 0.0], atol=1e-5)


def test_noise_and_dropout_are_of_the_size_they_say():
    grey = tf.fill([2, 64, 64, 3], 0.5)
    field = tf.random.stateless_normal([2, 64, 64, 3], SEED)
    noisy = augmentation.noise(grey, tf.constant([0.01, 0.05]), field).numpy() - 0.5
    np.testing.assert_allclose(noisy.std(axis=(1, 2, 3)), [0.01, 0.05], rtol=0.05)
    field = tf.random.stateless_uniform([2, 64, 64, 1], SEED)
    black = augmentation.pixel_dropout(grey, tf.constant([0.01, 0.1]), field).numpy() == 0
    np.testing.assert_allclose(black.mean(axis=(1, 2, 3)), [0.01, 0.1], atol=0.01)
    np.testing.assert_array_equal(black.all(axis=-1), black.any(axis=-1))  # whole pixels


def test_what_is_too_light_or_too_dark_is_white_or_black():
    """uint8 would wrap round."""
    ends = tf.constant(np.stack([np.zeros((8, 8, 3)), np.full((8, 8, 3), 255)]), tf.uint8)
    np.testing.assert_array_equal(only("contrast", ends, factor=2.0), ends)
    np.testing.assert_array_equal(only("brightness", ends, change=0.1)[1], ends[1])
    np.testing.assert_array_equal(only("brightness", ends, change=-0.1)[0], ends[0])


def test_the_sheet_has_a_row_for_each_and_the_image_on_the_left(images):
    sheet = augmentation.sheet("significant", images[0], SEED, columns=3)
    rows, side = len(augmentation.RANGES), 128  # all but shift, and all together
    height = len(sheet) // rows
    assert sheet.shape == (rows * height, 3 * side, 3)
    enlarged = np.repeat(np.repeat(images[0], 4, 0), 4, 1)
    for row in range(rows):
        tiles = np.split(sheet[row * height : row * height + side], 3, axis=1)
        np.testing.assert_array_equal(tiles[0], enlarged)
        assert any(np.any(tile != enlarged) for tile in tiles[1:]), row
    assert augmentation.sheet("small", images[0], SEED, columns=3).shape[0] == 3 * height
