"""card.json: what an export can do, what it was made of, and how good it was found. docs/exports.md says what may be relied on."""

import datetime
import json
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from holotf import data, files, run_folder, views
from holotf.errors import UserError
from holotf.models.base import SAMPLES, Classifying, Generative, Learner, Turnable
from holotf.models.conditional import Conditional
from holotf.models.posing import Posing

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
    about = _about(model)

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


def _about(model):
    """{input or output: range, unit, meaning} of the names that endpoints share."""
    about = {
        "images": {"range": [0, 255], "meaning": "RGB, rows from the top"},
        "seed": {"range": [0, 2**31 - 1], "meaning": "the same seed, and n where there is one, give the same"},
        "n": {"range": [1, SAMPLES], "meaning": "how many images"},
        "classes": {"meaning": "the most probable class, by name"},
        "probabilities": {"range": [0.0, 1.0], "meaning": "of each class, in the order of `classes`"},
        "z": {"meaning": "latent: see `latent`"},
        "names": {"meaning": "what is to be shown, of `classes`, separated by commas"},
        "labels": {"range": [0.0, 1.0], "meaning": "of each of `classes`: 1 for what is to be shown"},
        "noise": {"range": [-1.0, 1.0], "meaning": "uniform: what an adapted image has that its source does not tell"},
        "volume": {
            "meaning": "an object before any turn: slices from the near one, rows from the top, columns from the left, features"
        },
    }
    if isinstance(model, Posing):
        about |= {
            "azimuth_deg": {"range": [0.0, 360.0], "unit": "degrees", "meaning": "camera's, in the zero and sense of the labels"},
            "elevation_deg": {"unit": "degrees", "meaning": "camera's; positive looks down"},
            "confidence": {"range": [0.0, 1.0], "meaning": "length of the azimuth's mean direction: 0 where nothing is told"},
        }
    if isinstance(model, Turnable):
        ranges = model.config.views
        about |= {
            "azimuth_deg": {"range": ranges.azimuth_deg, "unit": "degrees", "meaning": "camera's, round the vertical"},
            "elevation_deg": {"range": ranges.elevation_deg, "unit": "degrees", "meaning": "camera's; positive looks down"},
            "scale": {"range": ranges.scale, "unit": "1", "meaning": "of the object"},
            "translation": {
                "range": [ranges.x, ranges.y, ranges.z],
                "unit": "half volumes",
                "meaning": "x to the right, y up, z toward the viewer",
            },
        }
        for name, (least, most) in views.ACCEPTED.items():
            about[name]["accepts"] = [least, most]
    return about


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
