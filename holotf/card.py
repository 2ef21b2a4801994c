"""card.json: what an export can do, what it was made of, and how good it was found. docs/exports.md says what may be relied on."""

import datetime
import json
import os
import re
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from holotf import data, files, run_folder, views
from holotf.errors import UserError
from holotf.models.base import Generative, Learner, Turnable
from holotf.models.classifying import Classifying
from holotf.models.conditional import Conditional

CARD = "card.json"
FORMAT = 1  # a reader refuses a higher one
DRAWS = 4096  # latents from which their distribution is read


def write(model: Learner, folder: str, workdir: str | None = None) -> dict:
    """Writes the card beside saved_model.pb and into assets.extra, where TensorFlow lets files of one's own lie; returns it.

    Args:
      model: what was exported.
      folder: the SavedModel.
      workdir: of the run, for its data and metrics; None for a model that is of none.
    """
    _write(told := card(model, folder, workdir), folder)
    return told


def _write(told, folder):
    text = json.dumps(told, indent=1) + "\n"
    os.makedirs(os.path.join(folder, "assets.extra"), exist_ok=True)
    for path in (CARD, os.path.join("assets.extra", CARD)):
        files.write(os.path.join(folder, path), text)


def is_export(folder: str) -> bool:
    """Whether a folder is a SavedModel."""
    return os.path.exists(os.path.join(folder, "saved_model.pb"))


def renew(model: Learner, folder: str, workdir: str) -> bool:
    """Writes new metrics into the card of an export of these weights: a run is judged after it was published.

    Args:
      model: what was judged: the run's, or the export itself.
      folder: the SavedModel.
      workdir: whose metrics.json it is.

    Returns:
      Whether it did; not where there is no card that can be read and written, or it is of other weights.
    """
    try:
        told = json.loads(Path(folder, CARD).read_text(encoding="utf-8"))
        same = os.path.samefile(folder, workdir) or told["training"]["iteration"] == int(model.iteration.numpy())
        if told["format"] != FORMAT or not same:
            return False
        _write(told | {"metrics": _metrics(workdir)}, folder)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def card(model: Learner, folder: str, workdir: str | None = None) -> dict:
    """What `write` writes."""
    config = model.config
    return {
        "format": FORMAT,
        "model": config.model.to_dict(),
        "endpoints": endpoints(model, folder),
        "latent": _latent(model) if isinstance(model, Generative) else None,
        "classes": list(model.class_names) if isinstance(model, (Classifying, Conditional)) else None,
        "views": _views(config.views) if isinstance(model, Turnable) else None,
        "training": {
            "seed": config.seed,
            "iteration": int(model.iteration.numpy()),
            "kimg": int(model.iteration.numpy()) * config.train.batch_size / 1000,
            "command": _command(workdir),
        },
        "data": _data(config.data),
        "metrics": _metrics(workdir),
        "versions": run_folder.versions(),
        "date": _utc(datetime.datetime.now().timestamp()),
    }


def endpoints(model: Learner, folder: str) -> dict:
    """{name: inputs and outputs} as the SavedModel itself has them; what is known of a name is added: range, unit, meaning."""
    proto = saved_model_pb2.SavedModel.FromString(Path(folder, "saved_model.pb").read_bytes())
    found = {n: s for n, s in proto.meta_graphs[0].signature_def.items() if not n.startswith("__")}
    about = model.meanings()

    def told(tensors):
        return {
            name: {
                "dtype": tf.dtypes.as_dtype(t.dtype).name,
                "shape": ["n" if d.size < 0 else d.size for d in t.tensor_shape.dim],
                **about.get(name, {}),
            }
            for name, t in sorted(tensors.items())
        }

    # TensorFlow names the default's tensors anew: it is known by its inputs and outputs.
    default = tuple(map(told, (found["serving_default"].inputs, found["serving_default"].outputs)))
    each = {name: (told(s.inputs), told(s.outputs)) for name, s in sorted(found.items()) if name != "serving_default"}
    return {name: {"inputs": i, "outputs": o, "default": (i, o) == default} for name, (i, o) in each.items()}


def _latent(model):
    """How latents are drawn: their length, how many labels they end with, the distribution that many draws of the model's show."""
    latents = model.draw(DRAWS, [0, 0])[0]
    z = (model.parts(latents)[0] if isinstance(model, Conditional) else latents).numpy()
    uniform = np.abs(z).max() <= 1.0 and abs(z.std() * np.sqrt(3.0) - 1.0) < 0.02
    normal = np.abs(z).max() > 3.0 and abs(z.std() - 1.0) < 0.02
    name = "uniform in [-1, 1]" if uniform else "standard normal" if normal else "other"
    told = {"z_dim": latents.shape[-1], "distribution": name, "range": [-1.0, 1.0] if uniform else None}
    return told | ({"labels": latents.shape[-1] - z.shape[-1]} if isinstance(model, Conditional) else {})


def _views(ranges):
    return {"ranges": {name: ranges[name] for name in views.COLUMNS}, "azimuth_closes_circle": views.closes_circle(ranges)}


def _data(settings):
    """Of each data set: what it is called and of which bytes, whose it is, and under which licence it may be used."""
    try:
        sources = data.open_sources(settings, whole=False)
        named = sources if isinstance(sources, dict) else {"": sources}
        return [
            data.fingerprint(source)
            | {
                "source": name or None,
                "description": source.builder.info.description,
                "citation": source.builder.info.citation or None,
                "licence": source.builder.info.as_proto.redistribution_info.license or None,
                "credits": _text(Path(source.settings.dir, "CREDITS")),
            }
            for name, source in named.items()
        ]
    except UserError:  # an export is made without them, too
        return []


def _command(workdir):
    """The words that started the run, but for its folder; None where they are not known."""
    told = run_folder.recorded(workdir) if workdir else None
    if told is None:
        return None
    words = zip(["", *told["command"]], told["command"], strict=False)  # each behind the one before it
    return [word for before, word in words if not re.match(r"--?workdir(=|$)", word) and not re.fullmatch(r"--?workdir", before)]


def _metrics(workdir):
    """metrics.json of the run, where it can be read and is not older than its weights."""
    path = Path(workdir or "", "metrics.json")
    weights = Path(workdir or "", "checkpoints").glob("*.index")
    if workdir is None or not path.exists() or path.stat().st_mtime < max((w.stat().st_mtime for w in weights), default=0):
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        kept = {key: told.get(key) for key in ("metrics", "notes", "evaluate", "seed")}
    except (OSError, ValueError, AttributeError):  # damaged: none, as before a run is judged
        return None
    return kept | {"date": _utc(path.stat().st_mtime)}


def _text(path):
    return path.read_text(encoding="utf-8") if path.exists() else None


def _utc(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
