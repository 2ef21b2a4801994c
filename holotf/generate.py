"""Pictures from a trained generator: sheets, sweeps and interpolations as PNG, GIF and MP4."""

import os

import imageio.v3 as imageio
import numpy as np

from holotf.checkpoint import restore

FRAME_MS = 60
SHOWN_PX = 128  # smaller images are enlarged by whole factors, pixel by pixel
SHEET_COLUMNS = 12


def run(config, workdir):
    """The verb `generate`: pictures from the latest checkpoint into WORKDIR/pictures."""
    for path in generate(restore(config, workdir), config.generate, os.path.join(workdir, "pictures")):
        print(path)
    return 0


def grid(images):
    """Tiles images into one picture: [rows, columns, H, W, 3] -> [rows H, columns W, 3]."""
    rows, columns, height, width, channels = images.shape
    # [R,C,H,W,3] -> [R,H,C,W,3] -> [R*H,C*W,3]
    return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def overview(model, real, objects=8):
    """What TensorBoard shows of a model in training.

    Args:
      model: one with a method `sweep` gets its sweeps too, one with `reconstruct` its reconstructions.
      real: uint8 [B, H, W, 3] tensor.
      objects: rows of a sweep.

    Returns:
      {name: uint8 [H, W, 3]}: "samples" (left fresh ones, right real ones), a "sweep/..." for azimuth and elevation, and
      "reconstructions" (rows of real ones, each with its reconstructions below).
    """
    side = int(np.sqrt(len(real)))
    fresh = model.sample(*model.draw(side * side, [int(model.iteration.numpy()) % 2**31, 0])).numpy()
    halves = [grid(t[: side * side].reshape(side, side, *t.shape[1:])) for t in (fresh, real.numpy())]
    pictures = {"samples": np.concatenate(halves, axis=1)}
    if hasattr(model, "sweep"):
        for name in ("azimuth_deg", "elevation_deg"):
            pictures[f"sweep/{name}"] = grid(model.sweep(model.latents(range(objects)), name, SHEET_COLUMNS))
    if hasattr(model, "reconstruct"):
        pairs = np.stack([real.numpy(), model.reconstruct(real).numpy()])[:, : side * side]  # [2,R*R,H,W,3]
        rows = pairs.reshape(2, side, side, *real.shape[1:]).swapaxes(0, 1)  # [2,R,R,H,W,3] -> [R,2,R,H,W,3]
        pictures["reconstructions"] = grid(rows.reshape(2 * side, side, *real.shape[1:]))
    return pictures


def generate(model, settings, folder):
    """Writes samples.png, and interpolation and, for a model that turns, sweep_{azimuth,elevation,scale} as .png, .gif and .mp4.

    A sheet has an object a row; a film shows all objects together.

    Args:
      model: with the weights to show.
      settings: `config.generate`.
      folder: where the files go; made if missing.

    Returns:
      The paths written.
    """
    os.makedirs(folder, exist_ok=True)
    samples = model.sample(*model.draw(64, [settings.seeds[0], 0])).numpy()
    written = _write(folder, {"samples.png": grid(samples.reshape(8, 8, *samples.shape[1:]))})
    latents = model.latents(settings.seeds)
    if hasattr(model, "sweep"):
        for name in ("azimuth_deg", "elevation_deg", "scale"):
            sweep = model.sweep(latents, name, settings.frames)
            closed = name == "azimuth_deg" and model.turns_fully
            film = sweep if closed else np.concatenate([sweep, sweep[:, ::-1]], axis=1)  # there and back
            written += _sheet_and_film(folder, f"sweep_{name.removesuffix('_deg')}", sweep, film)
    path = model.interpolate(latents, settings.frames)  # [N,K,H,W,3], from each object to the next
    written += _sheet_and_film(folder, "interpolation", path, path.reshape(1, -1, *path.shape[2:]))
    return written


def _sheet_and_film(folder, name, sweep, film):
    """`sweep` [N, K, H, W, 3] as a sheet, `film` [N, frames, H, W, 3] as GIF and MP4."""
    columns = np.linspace(0, sweep.shape[1], min(SHEET_COLUMNS, sweep.shape[1]), endpoint=False).astype(int)
    across = next(
        n for n in range(int(np.ceil(np.sqrt(2 * len(film)))), 0, -1) if len(film) % n == 0
    )  # about twice as wide as high
    film = film.reshape(-1, across, *film.shape[1:])  # [rows,across,frames,H,W,3]
    scale = max(1, SHOWN_PX // film.shape[3])
    frames = np.stack([grid(film[:, :, k]).repeat(scale, 0).repeat(scale, 1) for k in range(film.shape[2])])
    return _write(folder, {f"{name}.png": grid(sweep[:, columns]), f"{name}.gif": frames, f"{name}.mp4": frames})


def _write(folder, pictures):
    """Writes {file name: uint8 picture or frames}, each under a temporary name first; returns the paths."""
    paths = []
    for name, pixels in pictures.items():
        path, options = os.path.join(folder, name), {}
        if name.endswith(".gif"):
            options = {"duration": FRAME_MS, "loop": 0}
        elif name.endswith(".mp4"):
            options = {"fps": 1000 / FRAME_MS, "codec": "libx264", "pixelformat": "yuv420p", "macro_block_size": 2}
        temporary = os.path.join(folder, f".{os.getpid()}.{name}")
        imageio.imwrite(temporary, pixels, **options)
        os.replace(temporary, path)
        paths.append(path)
    return paths
