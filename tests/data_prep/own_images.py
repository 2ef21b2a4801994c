"""Folders of images for the tests of `data_prep folder`, and what came of them."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from data_prep.__main__ import main


def image_bytes(number, encoding="png", height=24, width=20):
    """An image whose colour says which one it is."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (number, 255 - number, 7)).save(stream, encoding)
    return stream.getvalue()


def saved(pixels, encoding="png", **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, encoding, **options)
    return stream.getvalue()


def made_up(number, size=96):
    """A made-up photograph: as in photographs, amplitudes fall with the frequency; [size, size, 3]."""
    waves = np.hypot(*np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96)))
    waves[0, 0] = np.inf
    noise = np.fft.fft2(np.random.default_rng(number).standard_normal((3, 96, 96)))
    pixels = np.fft.ifft2(noise / waves).real
    pixels = 128 + 40 * pixels / pixels.std()
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0).copy())  # [3,H,W] -> [H,W,3]
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def splits(out):
    return {name: split.num_examples for name, split in tfds.builder_from_directory(out).info.splits.items()}


def prepare(source, out, *flags):
    """Without a test split, unless a flag asks for it."""
    flags = flags if any(flag in flags for flag in ("--test", "own")) else ("--test", "0", *flags)
    flags = [flag for flag in flags if flag != "own"]
    return main(["folder", "--source", str(source), "--out", str(out), "--size", "16", "--workers", "0", *map(str, flags)])


def rows(out, split="train"):
    """(red value of the middle, label or None) of each example of a split, sorted."""
    builder = tfds.builder_from_directory(out)
    label = dict(builder.info.features).get("label")
    found = tfds.as_numpy(builder.as_dataset(split=split))
    return sorted((int(row["image"][8, 8, 0]), label.int2str(int(row["label"])) if label else None) for row in found)


CLASSES = {"cats/1.png": image_bytes(10), "cats/more/2.PNG": image_bytes(20), "dogs/3.bmp": image_bytes(30, "bmp")}
