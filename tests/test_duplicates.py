"""Near-duplicates: what is one photograph and what is two, and how the search grows."""

import io
import re
import sys
import time

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from skimage import data

from data_prep.__main__ import main as prepare
from holotf import duplicates
from holotf.duplicates import DISTANCE, Look, groups, look_of

PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket", "page", "moon")


def photograph(name):
    return Image.fromarray(getattr(data, name)()).convert("RGB")


def saved_again(image, encoding, **options):
    stream = io.BytesIO()
    image.save(stream, encoding, **options)
    return Image.open(stream).convert("RGB")


COPIES = {
    "jpeg 90": lambda image: saved_again(image, "jpeg", quality=90),
    "jpeg 40": lambda image: saved_again(image, "jpeg", quality=40),
    "webp 60": lambda image: saved_again(image, "webp", quality=60),
    "half": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "128 px": lambda image: image.resize((128, 128 * image.height // image.width), Image.Resampling.LANCZOS),
    "larger": lambda image: image.resize((image.width * 3 // 2, image.height * 3 // 2), Image.Resampling.BILINEAR),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.85),
    "brighter": lambda image: image.point(lambda value: min(value + 15, 255)),
}


@pytest.fixture(scope="module")
def looks():
    return {name: look_of(photograph(name)) for name in PHOTOGRAPHS}


def bits_apart(one, other):
    return (int.from_bytes(one.bits, "big") ^ int.from_bytes(other.bits, "big")).bit_count()


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_a_near_duplicate(copy, looks):
    for name, look in looks.items():
        copied = look_of(COPIES[copy](photograph(name)))
        assert groups([look, copied]) == [[0, 1]], (name, bits_apart(look, copied))


def test_different_photographs_are_not(looks):
    pairs = [(one, other) for one in looks for other in looks if one < other]
    assert min(bits_apart(looks[one], looks[other]) for one, other in pairs) > 5 * DISTANCE
    assert groups(list(looks.values())) == []


def test_mirrored_turned_and_cropped_images_are_others(looks):
    image = photograph("astronaut")
    others = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), image.rotate(90), image.crop((50, 50, 450, 450))]
    assert groups([looks["astronaut"], *map(look_of, others)]) == []


def test_one_shape_in_two_colours_is_two_images():
    def shirt(colour):
        pixels = np.full((96, 96, 3), 255, np.uint8)
        pixels[20:80, 30:66] = colour
        pixels[24:44, 14:82] = colour
        return look_of(Image.fromarray(pixels))

    red, blue, dark_red = shirt((200, 30, 30)), shirt((30, 30, 200)), shirt((180, 27, 27))
    assert bits_apart(red, blue) <= DISTANCE, "the hash alone takes them for one"
    assert groups([red, blue, dark_red]) == [[0, 2]]


def flipped(look, places):
    bits = np.unpackbits(np.frombuffer(look.bits, np.uint8))
    bits[places] ^= 1
    return look._replace(bits=np.packbits(bits).tobytes())


def look_of_bits(bits):
    return Look(np.packbits(bits).tobytes(), bytes(32))


def test_no_pair_within_the_distance_is_missed():
    rng = np.random.default_rng(1)
    for _ in range(300):
        look = look_of_bits(rng.integers(0, 2, 256, np.uint8))
        assert groups([look, flipped(look, rng.choice(256, DISTANCE, replace=False))]) == [[0, 1]]
        assert groups([look, flipped(look, rng.choice(256, DISTANCE + 1, replace=False))]) == []
    # The worst case for buckets: a bit in every band but one.
    look = look_of_bits(rng.integers(0, 2, 256, np.uint8))
    for band in range(DISTANCE + 1):
        assert groups([look, flipped(look, [other for other in range(DISTANCE + 1) if other != band])]) == [[0, 1]]


def test_no_two_that_are_kept_are_near_duplicates_and_chains_do_not_run_away():
    start = look_of_bits(np.zeros(256, np.uint8))
    chain = [start]
    for step in range(5):
        chain.append(flipped(chain[-1], range(10 * step, 10 * step + 10)))
    assert groups(chain) == [[0, 1], [2, 3], [4, 5]]  # one and the next are 10 bits apart, one and the next but one 20


@pytest.mark.slow
def test_two_hundred_thousand_images_take_seconds():
    # Every eighth bit is mostly the same, which makes buckets somewhat fuller than photographs do; a tenth are copies.
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (180_000, 256), np.uint8)
    bits[:, ::8] = rng.random((180_000, 32)) < 0.15
    looks = [look_of_bits(row) for row in bits]
    looks += [flipped(look, rng.choice(256, 8, replace=False)) for look in looks[:20_000]]
    start_s = time.process_time()
    found = groups(looks)
    assert time.process_time() - start_s < 120
    assert [[group[0], group[-1]] for group in found] == [[number, 180_000 + number] for number in range(20_000)]


def test_what_is_not_installed_is_named(monkeypatch, tmp_path, capsys):
    assert duplicates.missing() is None
    monkeypatch.setitem(sys.modules, "imagehash", None)
    assert prepare(["folder", f"--source={tmp_path}", "--size=32", "--dedupe", f"--out={tmp_path / 'out'}"]) == 2
    assert re.fullmatch(r"error: --dedupe needs imagehash \(.*\): pip install 'holotf\[dedupe\]'\n", capsys.readouterr().err)
