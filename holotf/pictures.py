"""Pictures and films as files: sheets as PNG, films as GIF and MP4."""

import os
from collections.abc import Sequence

import imageio.v3 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from holotf import files

FRAME_MS = 60
SHOWN_PX = 128  # smaller images are enlarged by whole factors, pixel by pixel
SHEET_COLUMNS = 12
FONT_PX = 11
NUMBERED, NAMED = 20, 100  # classes of a confusion matrix that leave room for numbers, and for names
PLANE_PX, DOT_PX = 512, 5  # of a scatter picture: its side, and a point's


def grid(images: np.ndarray) -> np.ndarray:
    """Tiles images into one picture: [rows, columns, H, W, 3] -> [rows H, columns W, 3]."""
    rows, columns, height, width, channels = images.shape
    # [R,C,H,W,3] -> [R,H,C,W,3] -> [R*H,C*W,3]
    return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def captioned(images: np.ndarray, captions: Sequence[str], columns: int) -> np.ndarray:
    """Tiles images into one picture, each enlarged by a whole factor and with a caption of one or more lines below.

    Args:
      images: uint8 [N, H, W, 3].
      captions: N of them; what is too wide for its tile is cut off.
      columns: images in a row; the last row is filled up with white.

    Returns:
      uint8 picture.
    """
    scale = max(1, SHOWN_PX // images.shape[2])
    images = images.repeat(scale, 1).repeat(scale, 2)
    lines = max((caption.count("\n") + 1 for caption in captions if caption), default=0)
    room = np.full((len(images), lines * (FONT_PX + 4), *images.shape[2:]), 255, np.uint8)
    for tile, caption in zip(room, captions, strict=True):
        if lines:
            tile[:] = _written(tile, [(2, 1, caption)])
    tiles = np.concatenate([images, room], axis=1)
    tiles = np.concatenate([tiles, np.full((-len(tiles) % columns, *tiles.shape[1:]), 255, np.uint8)])
    return grid(tiles.reshape(-1, columns, *tiles.shape[1:]))


def confusion(counts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """A confusion matrix: a row for each true class, a column for each predicted one, darker for a greater share of the row.

    Args:
      counts: [K, K] integers.
      names: of the K classes.

    Returns:
      uint8 picture; the numbers stand in it for up to 20 classes, the names beside it for up to 100.
    """
    font = ImageFont.load_default(FONT_PX)
    cell = next(px for px, most in ((4 * FONT_PX, NUMBERED), (FONT_PX + 3, NAMED), (3, np.inf)) if len(names) <= most)
    names = names if len(names) <= NAMED else []
    side_px = min(16 * FONT_PX, 8 + int(max(map(font.getlength, names), default=0)))
    middles = [(i + 0.5) * cell for i in range(len(counts))]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = 255 - (shares[..., np.newaxis] * (255 - np.array([8, 48, 107]))).astype(np.uint8)  # white to dark blue
    table = shades.repeat(cell, 0).repeat(cell, 1)
    if len(counts) <= NUMBERED:
        for ink, places in (((0, 0, 0), shares <= 0.5), ((255, 255, 255), shares > 0.5)):
            numbers = [(middles[j], middles[i], str(counts[i, j])) for i, j in np.argwhere(places & (counts > 0))]
            table = _written(table, [(x - font.getlength(n) / 2, y - FONT_PX / 2 - 2, n) for x, y, n in numbers], ink)
    side = np.full((len(table), side_px, 3), 255, np.uint8)
    side = _written(side, [(2, y - FONT_PX / 2 - 2, name) for y, name in zip(middles, names, strict=False)])
    head = np.pad(np.rot90(side), [(0, 0), (side_px, 0), (0, 0)], constant_values=255)  # to be read upwards
    return np.concatenate([head, np.concatenate([side, table], axis=1)])


def scatter(points: np.ndarray, groups: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Points in a plane, each group in a colour of its own, with the groups' names beside them.

    Args:
      points: [N, 2], of any unit: the picture holds them all.
      groups: int [N], of each point which of the names is its own.
      names: of the groups; those beyond 100 are not written.

    Returns:
      uint8 picture.
    """
    hues = np.arange(len(names)) * (256 / len(names))
    shades = [Image.new("HSV", (1, 1), (int(hue), 200, 220 if i % 2 else 160)) for i, hue in enumerate(hues)]
    colours = [shade.convert("RGB").getpixel((0, 0)) for shade in shades]
    low, high = points.min(axis=0), points.max(axis=0)
    places = (points - low) / max(float((high - low).max()), 1e-12) * (PLANE_PX - 2 * DOT_PX) + DOT_PX
    canvas = Image.new("RGB", (PLANE_PX, PLANE_PX), "white")
    draw = ImageDraw.Draw(canvas)
    for (x, y), group in zip(places, groups, strict=True):
        draw.ellipse([x - DOT_PX / 2, y - DOT_PX / 2, x + DOT_PX / 2, y + DOT_PX / 2], fill=colours[group])
    key = np.full((PLANE_PX, 12 * FONT_PX, 3), 255, np.uint8)
    line = min(2 * FONT_PX, PLANE_PX / max(len(names), 1))
    for i, (name, colour) in enumerate(zip(names[:NAMED], colours, strict=False)):
        key = _written(key, [(FONT_PX, i * line, name)], colour)
    return np.concatenate([np.asarray(canvas), key], axis=1)


def depth_pictures(depths: np.ndarray, size: int) -> np.ndarray:
    """Depths float32 [N, h, w] in [-1, 1] -> grey pictures, uint8 [N, size, size, 3], enlarged bilinearly; nearer is lighter."""
    large = np.stack([Image.fromarray(depth).resize((size, size), Image.Resampling.BILINEAR) for depth in depths])
    grey = np.round((np.clip(np.nan_to_num(large, nan=-1.0), -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
    return grey[..., np.newaxis].repeat(3, axis=-1)


def _written(picture, words, ink=(0, 0, 0)):
    """A uint8 picture with words on it: [(x, y, text)], in px from the top left."""
    canvas = Image.fromarray(np.ascontiguousarray(picture))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT_PX)
    for x, y, text in words:
        draw.text((x, y), text, ink, font)
    return np.asarray(canvas)


def sheet_and_film(folder: str, name: str, sweep: np.ndarray, film: np.ndarray) -> list[str]:
    """Writes a sweep as NAME.png, an object a row, and a film of all objects together as NAME.gif and NAME.mp4.

    Args:
      folder: where the files go.
      name: theirs, without a suffix.
      sweep: uint8 [N, K, H, W, 3]; at most 12 of the K are shown.
      film: uint8 [N, frames, H, W, 3].

    Returns:
      The paths.
    """
    columns = np.linspace(0, sweep.shape[1], min(SHEET_COLUMNS, sweep.shape[1]), endpoint=False).astype(int)
    across = next(
        n for n in range(int(np.ceil(np.sqrt(2 * len(film)))), 0, -1) if len(film) % n == 0
    )  # about twice as wide as high
    film = film.reshape(-1, across, *film.shape[1:])  # [rows,across,frames,H,W,3]
    scale = max(1, SHOWN_PX // film.shape[3])
    frames = np.stack([grid(film[:, :, k]).repeat(scale, 0).repeat(scale, 1) for k in range(film.shape[2])])
    return write(folder, {f"{name}.png": grid(sweep[:, columns]), f"{name}.gif": frames, f"{name}.mp4": frames})


def write(folder: str, pictures: dict[str, np.ndarray]) -> list[str]:
    """Writes {file name, below folders or not: uint8 picture or frames}, each under a temporary name first; returns the paths."""
    paths = []
    for name, pixels in pictures.items():
        path, options = os.path.join(folder, name), {}
        if name.endswith(".gif"):
            options = {"duration": FRAME_MS, "loop": 0}
        elif name.endswith(".mp4"):
            options = {"fps": 1000 / FRAME_MS, "codec": "libx264", "pixelformat": "yuv420p", "macro_block_size": 2}
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with files.temporary(path) as temporary:
            imageio.imwrite(temporary, pixels, **options)
            os.replace(temporary, path)
        paths.append(path)
    return paths
