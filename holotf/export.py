"""The SavedModel: named, typed endpoints that run without this code."""

import os

import tensorflow as tf
from ml_collections import ConfigDict

from holotf import card, files
from holotf.errors import UserError
from holotf.models.base import Learner
from holotf.run_folder import restore


def run(config: ConfigDict, workdir: str) -> int:
    """The verb `export`: the latest checkpoint becomes WORKDIR/saved_model."""
    folder = os.path.join(workdir, "saved_model")
    _check_free(folder)
    print(f"SavedModel: {export(restore(config, workdir, judged=False), folder, workdir)}")
    return 0


def export(model: Learner, folder: str, workdir: str | None = None, replace: bool = False) -> str:
    """Writes `model.servable()` as a SavedModel with its card (docs/exports.md), under a temporary name first.

    Args:
      model: a `holotf.models.base.Learner`.
      folder: the new SavedModel.
      workdir: of the run, whose metrics go into the card; None for a model that is of none.
      replace: whether an older one there gives way, once the new one is whole.

    Returns:
      `folder`.

    Raises:
      UserError: the folder exists and is not to be replaced.
    """
    if not replace:
        _check_free(folder)
    module, signatures = model.servable()
    with files.new_folder(folder) as temporary:
        # Nobody trains what is served: the gradients of our layers would only make it larger.
        tf.saved_model.save(module, temporary, signatures, tf.saved_model.SaveOptions(experimental_custom_gradients=False))
        card.write(model, temporary, workdir)
    return folder


def _check_free(folder):
    if os.path.exists(folder):
        raise UserError(f"export folder {folder} exists: remove it first, or give another --workdir")
