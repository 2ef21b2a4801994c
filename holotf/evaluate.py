"""The judge: images as good as the real ones? and does the object, and nothing but the object, turn?"""

import functools
import hashlib
import json
import os
import sys

import numpy as np
from ml_collections import ConfigDict

from holotf import data
from holotf.checkpoint import restore
from holotf.errors import UserError
from holotf.evaluators import distribution, features, identity, pose
from holotf.models.base import Turnable

CHUNK = 64  # images drawn at once
BEST = {  # what `evaluate.best` may name, and which of two values is the better
    "kid/mean": min,
    "fid": min,
    "diversity": max,
    "identity/ratio": min,
    "pose/azimuth_mae_deg": min,
    "pose/coverage_deg": max,
    "pose/full_turn_share": max,
    "pose/monotonicity": max,
    "pose/correlation": max,
}
COLLAPSED = 0.5  # diversity below which the alarm goes
ALARM = "COLLAPSE"  # how its note begins


def run(config, workdir):
    """The verb `evaluate`: judges the latest checkpoint, prints a table and writes WORKDIR/metrics.json."""
    metrics, notes = evaluate(restore(config, workdir), config)
    print(table(metrics, notes))
    print(f"written: {write(metrics, notes, config, workdir)}")
    return 0


def in_training(model, config, workdir, images):
    """Judges a model in training: metrics.json as it stands, a line more in metrics.jsonl, an alarm on the screen.

    Args:
      model, config: as `evaluate` takes them.
      workdir: of the run.
      images: real ones shown so far.

    Returns:
      The metrics.

    Raises:
      UserError: as `evaluate`; `evaluate.best` names no metric.
    """
    metrics, notes = evaluate(model, config)
    if config.evaluate.best not in metrics:
        can = ", ".join(name for name in BEST if name in metrics)
        raise UserError(
            f"evaluate.best={config.evaluate.best!r} cannot be measured with this model and these data: use one of {can}"
        )
    write(metrics, notes, config, workdir)
    with open(os.path.join(workdir, "metrics.jsonl"), "a", encoding="utf-8") as file:
        file.write(json.dumps({"images": images} | metrics) + "\n")
    for note in notes:
        if note.startswith(ALARM):
            print(f"\n{note}", file=sys.stderr, flush=True)
    return metrics


def write(metrics, notes, config, workdir):
    """Writes WORKDIR/metrics.json, under a temporary name first; returns its path."""
    path = os.path.join(workdir, "metrics.json")
    temporary = f"{path}.tmp-{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump({"metrics": metrics, "notes": notes, "evaluate": config.evaluate.to_dict(), "seed": config.seed}, file, indent=1)
    os.replace(temporary, path)
    return path


def evaluate(model, config):
    """Judges a model on what `config.data` holds. The same seed gives the same figures.

    Args:
      model: a model with `draw` and `sample`; one with `sweep` and `latents` is judged on its turning too.
      config: the experiment; `config.evaluate` says how.

    Returns:
      (metrics {path: float}, notes [str]): what was measured, and what a reader of the figures has to know.

    Raises:
      UserError: no such extractor, or settings that make no sense.
    """
    check(config.evaluate)
    builder = data.open_folder(config.data)
    extractor = _extractor(config.evaluate.extractor)
    metrics, notes = _distribution(model, config, builder, extractor)
    if isinstance(model, Turnable):
        turning, said = _turning(model, config, builder, extractor)
        metrics, notes = metrics | turning, notes + said
    return metrics, notes


def check(settings):
    """Finds what is wrong with `config.evaluate`, before a training that ends with an evaluation.

    Raises:
      UserError: no such extractor or metric, or numbers that make no sense.
    """
    for name in ("images", "identities", "views"):
        if settings[name] < 2:
            raise UserError(f"evaluate.{name}={settings[name]}: use 2 or more")
    if settings.kimg < 0:
        raise UserError(f"evaluate.kimg={settings.kimg:g}: use 0 for none, or thousands of images")
    if settings.best not in BEST:
        raise UserError(f"evaluate.best={settings.best!r}: use one of {', '.join(BEST)}")
    _extractor(settings.extractor)


@functools.cache
def _extractor(name):
    return features.extractor(name)


def table(metrics, notes):
    """Metrics and notes as text."""
    width = max(map(len, metrics))
    return "\n".join([*(f"{name:<{width}}  {value:10.4g}" for name, value in metrics.items()), *(f"note: {n}" for n in notes)])


def _distribution(model, config, builder, extractor):
    settings, split = config.evaluate, config.data.split
    count = min(settings.images, builder.info.splits[split].num_examples)
    size = min(CHUNK, count)
    stream = data.batches(data.open_sources(config.data), ("image",), config.model.image_size, size, config.seed)
    stream = (batch["image"].numpy() for batch in stream.take(-(-count // size)))
    shards = [os.fspath(p) for p in builder.info.splits[split].filepaths]
    key = features.content_key(extractor.name, shards, f"{split} {config.seed} {count} {size}")
    real = features.cached_features(extractor, stream, key, settings.cache)[:count]
    fake = np.concatenate([extractor(images) for images in _draws(model, count, config.seed)])[:count]
    mean, deviation = distribution.kid(real, fake, seed=config.seed)
    diversity = distribution.collapse(real, fake, seed=config.seed)
    notes = [f"KID x 100 and FID on {extractor.name}, {len(real)} real and {len(fake)} made images; not comparable to others'"]
    if diversity < COLLAPSED:
        notes.append(f"{ALARM}: made images are {diversity:.2f} times as diverse as real ones")
    metrics = {"kid/mean": 100 * mean, "kid/std": 100 * deviation, "fid": distribution.fid(real, fake), "diversity": diversity}
    return metrics, notes


def _draws(model, count, seed):
    for i in range(-(-count // CHUNK)):
        yield model.sample(*model.draw(CHUNK, [seed, 1 + i])).numpy()


def _turning(model, config, builder, extractor):
    settings = config.evaluate
    latents = model.latents(range(settings.identities))
    sweep = model.sweep(latents, "azimuth_deg", settings.views)  # [N,K,H,W,3]
    metrics = identity.identity_ratio(_features(extractor, sweep), config.seed)
    real, sides = _turntables(config)
    if real is not None:
        metrics["identity/real_ratio"] = identity.identity_ratio(_features(extractor, real), config.seed)["identity/ratio"]
    if not {"azimuth_deg", "elevation_deg"} <= set(builder.info.features):
        return metrics, [f"no pose figures: {config.data.dir} has no azimuth_deg and elevation_deg to learn from"]
    read = pose.regressor(builder, config.data.split, settings.cache, config.seed)
    metrics |= {f"pose/regressor_{name}": value for name, value in read.held_out.items()}
    notes = [
        f"poses read by a regressor with a held-out azimuth error of {read.held_out['azimuth_mae_deg']:.1f} degrees, "
        f"from {settings.identities} identities x {settings.views} views"
    ]
    if read.held_out["ambiguous_share"] > 0.05:
        share = 100 * read.held_out["ambiguous_share"]
        notes.append(f"azimuth is ambiguous here: {share:.0f} % of real images are misread by over 90 degrees")
    if model.turns_fully:
        scores, each = pose.azimuth_scores(read(sweep)[0], np.arange(settings.views) * 360.0 / settings.views)
        metrics |= scores
        if real is not None:
            judged, _ = pose.azimuth_scores(read(real)[0], sides)
            names = ("azimuth_mae_deg", "monotonicity", "coverage_deg", "full_turn_share")
            metrics |= {f"pose/real_{name}": judged[f"pose/{name}"] for name in names}
            notes.append(f"real: {len(real)} real objects x {len(sides)} views, judged in the same way")
        turns = ", ".join(f"{c:.0f}" for c in sorted(each["coverage_deg"]))
        notes.append(f"degrees covered by each identity's sweep, sorted: {turns}")
    else:
        notes.append("no azimuth figures: views.azimuth_deg does not go round")
    low, high = config.views.elevation_deg
    if high > low:
        tilted = model.sweep(latents, "elevation_deg", settings.views)
        metrics |= pose.elevation_scores(read(tilted)[1], np.linspace(low, high, settings.views))
    return metrics, notes


def _features(extractor, sweeps):
    """uint8 [N, K, H, W, 3] -> [N, K, F]."""
    return extractor(sweeps.reshape(-1, *sweeps.shape[2:])).reshape(*sweeps.shape[:2], -1)


def _turntables(config):
    """(uint8 [N, K, H, W, 3], azimuth_deg [K]) of real objects, drawn on the first use; (None, None) where the config has none."""
    arguments = config.evaluate.turntables
    if not arguments:
        return None, None
    name = hashlib.sha256(arguments.encode()).hexdigest()[:16]
    folder = os.path.join(config.evaluate.cache, f"turntables-{name}")
    data.prepare_missing(folder, arguments, "evaluate.turntables")
    real, sides = pose.turntables(data.open_folder(ConfigDict({"dir": folder, "prepare": arguments, "split": "train"})), "train")
    size = config.model.image_size
    if real.shape[2] != size:
        raise UserError(f"evaluate.turntables={arguments!r} draws {real.shape[2]} px: add --size {size}")
    return real, sides
