"""Orientation, channels, crops and sizes, each on an image whose pixels say where they came from."""

import io

import numpy as np
import pytest
from PIL import Image

from holotf.errors import UserError
from holotf.images import crop_box, encode, parse_crop, prepare, to_rgb


def stored(image, encoding="png", **options):
    """The image as a file and back, as a source would meet it."""
    stream = io.BytesIO()
    image.save(stream, encoding, **options)
    return Image.open(io.BytesIO(stream.getvalue()))


def quarters(height, width):
    """Red top left, green top right, blue bottom left, black bottom right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2, 0] = 255
    pixels[: height // 2, width // 2 :, 1] = 255
    pixels[height // 2 :, : width // 2, 2] = 255
    return pixels


def test_exif_orientation_is_applied():
    upright = quarters(8, 12)
    turned = Image.fromarray(np.rot90(upright).copy())  # as a camera held on its side stores it
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to see it upright"
    assert np.array_equal(np.asarray(to_rgb(stored(turned, exif=exif))), upright)


def test_transparency_lies_on_white():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = [200, 0, 0, 255]
    pixels[0, 1] = [200, 0, 0, 0]
    pixels[1, 0] = [0, 0, 0, 51]  # one fifth black: 255 * 4 / 5
    rgb = np.asarray(to_rgb(stored(Image.fromarray(pixels))))
    assert rgb[0, 0].tolist() == [200, 0, 0]
    assert rgb[0, 1].tolist() == [255, 255, 255]
    assert rgb[1, 0].tolist() == [204, 204, 204]


def test_a_palette_with_transparency_lies_on_white():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    rgb = np.asarray(to_rgb(stored(image, transparency=1)))
    assert rgb.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_grey_becomes_rgb_and_16_bits_become_8():
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    assert np.array_equal(np.asarray(to_rgb(stored(Image.fromarray(grey)))), np.repeat(grey[..., None], 3, -1))
    deep = grey.astype(np.uint16) * 257
    assert np.array_equal(np.asarray(to_rgb(stored(Image.fromarray(deep))))[..., 0], grey)
    dim = np.array([[0, 255]], np.uint16)  # which its own maximum does not make bright
    assert np.asarray(to_rgb(stored(Image.fromarray(dim))))[..., 0].tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("crop", "box"),
    [
        ("none", (0, 0, 178, 218)),
        ("center", (0, 20, 178, 198)),
        ((108, 108), (35, 55, 143, 163)),  # CelebA's
        ((300, 100), (39, 0, 139, 218)),  # as much of it as there is
    ],
)
def test_crop_boxes_of_a_celeba_image(crop, box):
    assert crop_box(178, 218, crop) == box


def test_crop_height_comes_before_width():
    pixels = prepare(Image.fromarray(quarters(40, 60)), 8, (40, 20))
    assert pixels.shape == (8, 8, 3)
    # 40 high, 20 wide about the middle: all four quarters are still there, each a quarter of the square.
    assert pixels[1, 1].argmax() == 0
    assert pixels[1, 6].argmax() == 1
    assert pixels[6, 1].argmax() == 2
    assert pixels[6, 6].max() < 40


def test_nothing_outside_the_crop_shows():
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[10:30, 10:30] = 200
    assert (prepare(Image.fromarray(pixels), 16, (20, 20)) == 200).all()


def test_resize_is_antialiased():
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255  # one pixel wide: anything that picks pixels gives black or white
    small = prepare(Image.fromarray(stripes), 32)
    assert abs(small.astype(int) - 127.5).max() < 12


def test_an_image_of_the_right_size_is_untouched():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert np.array_equal(prepare(Image.fromarray(pixels), 32), pixels)


def test_encodings():
    pixels = quarters(16, 16)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode(pixels, "png")))), pixels)
    jpeg = Image.open(io.BytesIO(encode(pixels, "jpeg")))
    assert jpeg.format == "JPEG"
    assert abs(np.asarray(jpeg).astype(int) - pixels).max() < 8


def test_crop_is_read():
    assert parse_crop("center") == "center"
    assert parse_crop("108,90") == (108, 90)
    for text in ("108", "0,5", "middle", "1,2,3"):
        with pytest.raises(UserError, match=r"--crop .*use center, none or H,W"):
            parse_crop(text)
