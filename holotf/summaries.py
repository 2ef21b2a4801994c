"""What TensorBoard shows. The horizontal axis counts real images shown to the discriminator."""

import math
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict
from tensorboard.plugins import projector
from tensorboard.plugins.hparams import api as hparams

from holotf import files, pictures

SPRITE_PX = 8192  # a side of the picture of all thumbnails that the Projector takes, at most


class Board:
    """The event files of a run.

    Args:
      workdir: of the run; events lie in its folder `events`.
      config: the experiment, written as text and as an HParams entry.
      active: False writes nothing (workers that are not the chief).
    """

    def __init__(self, workdir: str, config: ConfigDict, active: bool = True):
        self._folder = os.path.join(workdir, "events")
        self._writer = tf.summary.create_file_writer(self._folder) if active else tf.summary.create_noop_writer()
        flat = {}
        for section, values in config.items():
            flat |= {f"{section}.{k}": v for k, v in values.items()} if hasattr(values, "items") else {section: values}
        with self._writer.as_default(step=0):
            rows = "\n".join(f"| {k} | `{v!r}` |" for k, v in flat.items())
            tf.summary.text("config", f"| key | value |\n|---|---|\n{rows}")
            if active:
                hparams.hparams({k: v if isinstance(v, (bool, int, float, str)) else repr(v) for k, v in flat.items()})

    def scalars(self, values: dict[str, float], images: int) -> None:
        """Writes {path: number} at `images`."""
        with self._writer.as_default(step=images):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def pictures(self, pictures: dict[str, np.ndarray], images: int) -> None:
        """Writes {name: uint8 [H, W, 3]} at `images`."""
        with self._writer.as_default(step=images):
            for name, picture in pictures.items():
                tf.summary.image(name, np.asarray(picture)[np.newaxis])
        self._writer.flush()

    def project(self, vectors: dict[str, np.ndarray], labels: dict[str, Sequence[str]], images: np.ndarray) -> None:
        """Gives the Projector points in spaces of many dimensions, in place of those that it had.

        Args:
          vectors: {space: [N, F]}.
          labels: {attribute: N words}.
          images: uint8 [N, H, W, 3], square, one for each point.
        """
        folder = os.path.join(self._folder, "projector")
        os.makedirs(folder, exist_ok=True)
        side = math.ceil(math.sqrt(len(images)))
        smaller = math.ceil(side * images.shape[1] / SPRITE_PX)  # of so many pixels a side, one
        thumbnails = images[:, ::smaller, ::smaller]
        blank = np.full((side * side - len(images), *thumbnails.shape[1:]), 255, np.uint8)
        sheet = pictures.grid(np.concatenate([thumbnails, blank]).reshape(side, side, *thumbnails.shape[1:]))
        pictures.write(folder, {"sprite.png": sheet})
        header = ["\t".join(labels)] if len(labels) > 1 else []  # the Projector takes one column without a header only
        files.write(os.path.join(folder, "labels.tsv"), "\n".join([*header, *map("\t".join, zip(*labels.values(), strict=True))]))
        told = projector.ProjectorConfig()
        for space, points in vectors.items():
            rows = "\n".join("\t".join(f"{value:.6g}" for value in point) for point in points)
            files.write(os.path.join(folder, f"{space}.tsv"), rows)
            entry = told.embeddings.add(tensor_name=space, tensor_path=f"projector/{space}.tsv")
            entry.metadata_path, entry.sprite.image_path = "projector/labels.tsv", "projector/sprite.png"
            entry.sprite.single_image_dim.extend(thumbnails.shape[2:0:-1])  # width, height
        projector.visualize_embeddings(self._folder, told)

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()
