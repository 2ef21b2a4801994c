"""The SavedModel: named, typed endpoints that run without this code."""

import os
import re
import tempfile
from collections.abc import Sequence

import tensorflow as tf
from ml_collections import ConfigDict

from holotf import card, files, onnx_model, servable, static_page, warm_up
from holotf.errors import UserError, require
from holotf.models.base import Learner
from holotf.run_folder import restore

FORMATS = ("saved_model", "web")


def run(config: ConfigDict, workdir: str) -> int:
    """The verb `export`: the latest checkpoint becomes WORKDIR/saved_model, or the next version in `export.dir`; or a web page."""
    settings = config.export
    check(settings)
    if settings.format == "web":
        return _page(config, workdir)
    folder = _version(settings, config.model.name) if settings.dir else os.path.join(workdir, "saved_model")
    ours = card.is_export(folder)
    if not ours:
        _check_free(folder)
    export(restore(config, workdir, judged=False), folder, workdir, replace=ours, endpoints=settings.endpoints)
    served = os.path.dirname(folder) if settings.dir else folder
    print(f"SavedModel: {folder}\nTo serve it: python -m holotf.serve --model {served}")
    return 0


def check(settings: ConfigDict) -> None:
    """Finds what is wrong with `config.export` of whatever model.

    Raises:
      UserError: no such format or type of weights, or a name that is none.
    """
    require(settings.format in FORMATS, "export.format", settings.format, " or ".join(FORMATS))
    require(settings.weights in onnx_model.WEIGHTS, "export.weights", settings.weights, " or ".join(onnx_model.WEIGHTS))
    usable = not settings.name or re.fullmatch(r"[\w-][\w.-]*", settings.name) is not None
    require(usable, "export.name", settings.name, "letters, digits, '-', '_' and '.'")


def _page(config, workdir):
    """The page without a server of a run, or of an export that `workdir` is: WORKDIR/web, or `export.dir`."""
    folder = config.export.dir or os.path.join(workdir, "web")
    static_page.check(folder)
    with tempfile.TemporaryDirectory() as scratch:
        source = workdir
        if not card.is_export(workdir):
            config.device.precision = "float32"  # as the browser computes
            source = export(restore(config, workdir, judged=False), os.path.join(scratch, config.model.name, "1"), workdir)
        print(static_page.said(folder, static_page.write(source, folder, config.export)))
    return 0


def export(model: Learner, folder: str, workdir: str | None = None, replace: bool = False, endpoints: Sequence[str] = ()) -> str:
    """Writes `model.servable()` as a SavedModel with its card (docs/exports.md), under a temporary name first.

    Args:
      model: a `holotf.models.base.Learner`.
      folder: the new SavedModel.
      workdir: of the run, whose metrics go into the card; None for a model that is of none.
      replace: whether an older one there gives way, once the new one is whole.
      endpoints: names of those to export; () for all.

    Returns:
      `folder`.

    Raises:
      UserError: the folder exists and is not to be replaced, or the model has no such endpoint.
    """
    if not replace:
        _check_free(folder)
    module, signatures = servable.only(endpoints, *model.servable())
    if model.loaded is not None and any(id(variable) not in model.loaded for variable in module.vars):
        raise UserError(
            f"{workdir or 'the model'} is an export of some endpoints, without the weights of others: give the folder of the run"
        )
    try:
        with files.new_folder(folder, replace) as temporary:
            tf.saved_model.save(module, temporary, signatures)
            warm_up.write(card.write(model, temporary, workdir)["endpoints"], temporary)
    except FileExistsError:
        _check_free(folder)  # another export has come first
        raise
    return folder


def _version(settings, model_name):
    """DIR/NAME/1, or the number after those that are there: as TensorFlow Serving reads them."""
    folder = os.path.join(settings.dir, settings.name or model_name)
    taken = [int(n) for n in os.listdir(folder) if n.isdecimal()] if os.path.isdir(folder) else []
    return os.path.join(folder, str(max(taken, default=0) + 1))


def _check_free(folder):
    if os.path.exists(folder):
        raise UserError(f"export folder {folder} exists: remove it first, or give --config.export.dir")
