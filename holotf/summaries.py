"""What TensorBoard shows. The horizontal axis counts real images shown to the discriminator."""

import os

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict
from tensorboard.plugins.hparams import api as hparams


class Board:
    """The event files of a run.

    Args:
      workdir: of the run; events lie in its folder `events`.
      config: the experiment, written as text and as an HParams entry.
      active: False writes nothing (workers that are not the chief).
    """

    def __init__(self, workdir: str, config: ConfigDict, active: bool = True):
        self._writer = tf.summary.create_file_writer(os.path.join(workdir, "events")) if active else tf.summary.create_noop_writer()
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

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()
