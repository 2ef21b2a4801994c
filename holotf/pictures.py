"""Pictures and films as files: sheets as PNG, films as GIF and MP4."""

import os

import imageio.v3 as imageio
import numpy as np

from holotf import files

FRAME_MS = 60
SHOWN_PX = 128  # smaller images are enlarged by whole factors, pixel by pixel
SHEET_COLUMNS = 12


def grid(images: np.ndarray) -> np.ndarray:
    """Tiles images into one picture: [rows, columns, H, W, 3] -> [rows H, columns W, 3]."""
    rows, columns, height, width, channels = images.shape
    # [R,C,H,W,3] -> [R,H,C,W,3] -> [R*H,C*W,3]
    return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


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
    """Writes {file name: uint8 picture or frames}, each under a temporary name first; returns the paths."""
    paths = []
    for name, pixels in pictures.items():
        path, options = os.path.join(folder, name), {}
        if name.endswith(".gif"):
            options = {"duration": FRAME_MS, "loop": 0}
        elif name.endswith(".mp4"):
            options = {"fps": 1000 / FRAME_MS, "codec": "libx264", "pixelformat": "yuv420p", "macro_block_size": 2}
        with files.temporary(path) as temporary:
            imageio.imwrite(temporary, pixels, **options)
            os.replace(temporary, path)
        paths.append(path)
    return paths
