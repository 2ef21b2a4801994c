"""Pictures from a trained generator: samples, sweeps and interpolations as PNG, GIF and MP4."""

import os
import re

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import conditions, files, inversion, surface, views
from holotf.errors import UserError, require
from holotf.models.base import Generative, Learner, Turnable, Volumetric
from holotf.models.conditional import Conditional
from holotf.pictures import captioned, depth_pictures, grid, sheet_and_film, write
from holotf.run_folder import restore


def run(config: ConfigDict, workdir: str) -> int:
    """The verb `generate`: pictures from the latest checkpoint into WORKDIR/pictures."""
    check(config.generate)
    model = restore(config, workdir, judged=False)
    if not isinstance(model, Generative):
        raise UserError(f"--mode generate: model.name={config.model.name!r} makes no images")
    check_labels(model)
    settings, folder = config.generate, os.path.join(workdir, "pictures")
    if settings.image:
        paths = inversion.turned(model, settings.image, settings.frames, folder)
    else:
        paths = generate(model, settings, folder)
    print(*paths, f"To have them in the browser: python main.py --workdir {workdir} --mode serve", sep="\n")
    return 0


def check(settings: ConfigDict) -> None:
    """Finds what is wrong with `config.generate`, before a training that ends with pictures.

    Raises:
      UserError: no seeds, or numbers that make no sense.
    """
    seeds = settings.seeds
    whole = isinstance(seeds, (tuple, list)) and len(seeds) and all(isinstance(s, int) and 0 <= s < 2**31 for s in seeds)
    require(whole, "generate.seeds", seeds, "one or more whole numbers from 0, such as (0, 1, 2, 3)")
    require(2 <= settings.frames <= 10_000, "generate.frames", settings.frames, "2 to 10000")


def check_labels(model: Learner) -> None:
    """Finds what is wrong with `generate.labels`, once the model is there that is to show them.

    Raises:
      UserError: the model is told no labels, or other ones.
    """
    if not (text := model.config.generate.labels):
        return
    if not isinstance(model, Conditional):
        raise UserError(f"--labels={text!r}: model.name={model.config.model.name!r} is told no labels: leave it out")
    conditions.parse(text, model.class_names, model.config.model.most_labels)


def generate(model: Generative, settings: ConfigDict, folder: str) -> list[str]:
    """Writes samples.png, and interpolation and, for a model that turns, sweep_{azimuth,elevation,scale} as .png, .gif and .mp4.

    A sheet has an object a row; a film shows all objects together. Of objects that have a density there are their depth, as
    depth_azimuth, the nearer the lighter, and meshes, object_SEED.glb, where what they need is installed. A model that is told
    labels gives conditions.png, a row for each condition; where `generate.labels` asks for some, all that follows shows them: one
    on the objects of all seeds, several on that of the first.

    Args:
      model: a `Generative` one, with the weights to show.
      settings: `config.generate`.
      folder: where the files go; made if missing.

    Returns:
      The paths written.
    """
    os.makedirs(folder, exist_ok=True)
    samples = model.sample(*model.draw(64, [settings.seeds[0], 0])).numpy()
    written = write(folder, {"samples.png": grid(samples.reshape(8, 8, *samples.shape[1:]))})
    latents, names = model.latents(settings.seeds), [str(seed) for seed in settings.seeds]
    if isinstance(model, Conditional):
        latents, names, sheet = _labelled(model, settings, latents, names)
        written += write(folder, {"conditions.png": sheet})
    if isinstance(model, Turnable):
        for name in ("azimuth_deg", "elevation_deg", "scale"):
            sweep = model.sweep(latents, name, settings.frames)
            closed = name == "azimuth_deg" and model.turns_fully
            film = sweep if closed else np.concatenate([sweep, sweep[:, ::-1]], axis=1)  # there and back
            written += sheet_and_film(folder, f"sweep_{name.removesuffix('_deg')}", sweep, film)
    if isinstance(model, Volumetric) and model.has_density:
        written += _solid(model, latents, names, settings, folder)
    path = model.interpolate(latents, settings.frames)  # [N,K,H,W,3], from each object to the next
    written += sheet_and_film(folder, "interpolation", path, path.reshape(1, -1, *path.shape[2:]))
    return written


def _labelled(model, settings, latents, names):
    """Latents and names of the objects that were asked for, if any were, else as they are; and the sheet of conditions."""
    asked = [(name,) for name in model.class_names]
    if settings.labels:
        asked = conditions.parse(settings.labels, model.class_names, model.config.model.most_labels)
    rows = conditions.rows(asked, model.class_names)
    images = model.sheet(rows, settings.seeds)  # [conditions,seeds,H,W,3]
    captions = ["\n".join(condition) if i == 0 else "" for condition in asked for i in range(images.shape[1])]
    sheet = captioned(images.reshape(-1, *images.shape[2:]), captions, images.shape[1])
    if settings.labels and asked[1:]:  # one z: what differs is what was asked for
        latents = model.labelled(tf.repeat(latents[:1], len(rows), axis=0), rows)
        names = [f"{i}_{re.sub('[^0-9A-Za-z]+', '_', '_'.join(condition))}" for i, condition in enumerate(asked)]
    elif settings.labels:
        latents = model.labelled(latents, rows)
    return latents, names, sheet


def _solid(model, latents, names, settings, folder):
    """Depth maps and meshes of objects that have a density; the paths written."""
    volumes = model.volume(latents)
    asked = views.sweep(model.config.views, "azimuth_deg", settings.frames)
    depths = np.stack([model.look(volume[np.newaxis], asked)[0].numpy() for volume in volumes])  # [N,K,h,w]
    film = depth_pictures(depths.reshape(-1, *depths.shape[2:]), model.config.model.image_size)
    film = film.reshape(*depths.shape[:2], *film.shape[1:])
    written = sheet_and_film(folder, "depth_azimuth", film, film)
    if not surface.available():
        print("no meshes: pip install 'holotf[mesh]'")
        return written
    asked = surface.photographed(model.config.views)
    for name, z, density in zip(names, latents, model.absorption(volumes).numpy(), strict=True):
        mesh = surface.mesh(density, model.sample(z[np.newaxis], asked).numpy(), asked)
        if mesh is not None:
            path = os.path.join(folder, f"object_{name}.glb")
            files.write(path, mesh)
            written.append(path)
    return written
