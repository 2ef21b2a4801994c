"""The SavedModel: named, typed endpoints that run without this code."""

import os
import shutil

import tensorflow as tf

from holotf.errors import UserError


def export(model, folder):
    """Writes `model.servable()` as a SavedModel, under a temporary name first.

    Args:
      model: a GAN.
      folder: the new SavedModel.

    Returns:
      `folder`.

    Raises:
      UserError: the folder exists.
    """
    if os.path.exists(folder):
        raise UserError(f"export folder {folder} exists: remove it, or name another with --export_dir")
    module, signatures = model.servable()
    temporary = f"{folder.rstrip('/')}.tmp-{os.getpid()}"
    try:
        tf.saved_model.save(module, temporary, signatures)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
