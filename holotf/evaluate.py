"""The judge: asks the evaluators (holotf/evaluators) that fit a model and its data, and writes down what they say."""

import json
import os
import sys
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from holotf import card, evaluators, features, files, pictures
from holotf.errors import UserError, require
from holotf.evaluators.subject import Subject
from holotf.models.base import Learner, Turnable
from holotf.run_folder import restore


def run(config: ConfigDict, workdir: str) -> int:
    """The verb `evaluate`: judges the latest checkpoint, prints a table and writes WORKDIR/metrics.json, and pictures if any."""
    check(config.evaluate)
    model, shown = restore(config, workdir), {}
    metrics, notes, _ = evaluate(model, config, shown.update)
    print(table(metrics, notes))
    print(f"\nMetrics: {write(metrics, notes, config, workdir)}")
    if shown:
        folder = os.path.join(workdir, "pictures")
        os.makedirs(folder, exist_ok=True)
        for path in pictures.write(folder, {f"{name}.png": picture for name, picture in shown.items()}):
            print(path)
    exported = workdir if card.is_export(workdir) else os.path.join(workdir, "saved_model")
    if card.renew(model, exported, workdir):
        print(f"They stand in {os.path.join(exported, card.CARD)}, too. To serve it: python -m holotf.serve --model {exported}")
    elif not os.path.exists(exported):
        print(f"To publish it: python main.py --workdir {workdir} --mode export")
    return 0


def in_training(
    model: Learner, config: ConfigDict, workdir: str, images: int, show: Callable[[dict[str, np.ndarray]], None] | None = None
) -> dict[str, float]:
    """Judges a model in training: metrics.json as it stands, a line more in metrics.jsonl, alarms on the screen.

    Args:
      model, config, show: as `evaluate` takes them.
      workdir: of the run.
      images: real ones shown so far.

    Returns:
      The metrics.

    Raises:
      UserError: as `evaluate`; `evaluate.best` names no metric that can be measured here.
    """
    metrics, notes, alarms = evaluate(model, config, show)
    _check_best(config, [name for name in evaluators.better() if name in metrics])
    write(metrics, notes, config, workdir)
    with open(os.path.join(workdir, "metrics.jsonl"), "a", encoding="utf-8") as file:
        file.write(json.dumps({"images": images} | metrics) + "\n")
    for alarm in alarms:
        print(f"\n{alarm}", file=sys.stderr, flush=True)
    return metrics


def was_judged(workdir: str, images: int) -> bool:
    """Whether `in_training` has judged a run after so many images."""
    path = os.path.join(workdir, "metrics.jsonl")
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as file:
        return any(line.startswith(f'{{"images": {images},') for line in file)


def check_best(model: Learner, config: ConfigDict, chief: bool = True) -> None:
    """Finds out before a training that evaluates whether it can: `evaluate.best` measured, with its model, data and extractor.

    The chief of several workers draws the real turntables here, where they are not there.

    Raises:
      UserError: it cannot.
    """
    features.check_weights(config.evaluate.extractor)
    subject = Subject(model, config)
    asked = evaluators.fitting(evaluators.judges(), subject)
    _check_best(config, [name for judge in asked for name in judge.measures()])
    if chief and isinstance(model, Turnable):
        _ = subject.turntables


def _check_best(config, can):
    if (best := config.evaluate.best) not in can:
        use = f"use one of {', '.join(can)}" if can else "use evaluate.kimg=0, nothing can"
        raise UserError(f"evaluate.best={best!r} cannot be measured with this model and these data: {use}")


def write(metrics: dict[str, float], notes: list[str], config: ConfigDict, workdir: str) -> str:
    """Writes WORKDIR/metrics.json, under a temporary name first; returns its path."""
    path = os.path.join(workdir, "metrics.json")
    told = {"metrics": metrics, "notes": notes, "evaluate": config.evaluate.to_dict(), "seed": config.seed}
    files.write_json(path, told)
    return path


def evaluate(
    model: Learner, config: ConfigDict, show: Callable[[dict[str, np.ndarray]], None] | None = None
) -> tuple[dict[str, float], list[str], list[str]]:
    """Judges a model on what `config.data` holds. The same seed gives the same figures.

    Args:
      model: a `holotf.models.base.Learner`.
      config: the experiment; `config.evaluate` says how.
      show: function of {name: uint8 [H, W, 3]} that shows pictures, where they are to be seen.

    Returns:
      (metrics {path: float}, notes [str], alarms [str]): what was measured, what a reader of the figures has to know, and what of
      that is to be seen at once.

    Raises:
      UserError: no such extractor, or settings that make no sense.
    """
    check(config.evaluate)
    subject = Subject(model, config, show)
    return evaluators.ask(evaluators.judges(), subject), subject.notes, subject.alarms


def check(settings: ConfigDict) -> None:
    """Finds what is wrong with `config.evaluate`, before a training that ends with an evaluation. It builds nothing.

    Raises:
      UserError: no such extractor or metric, or numbers that make no sense.
    """
    for name in ("images", "identities", "views"):
        require(settings[name] >= 2, f"evaluate.{name}", settings[name], "2 or more")
    require(0 <= settings.kimg < float("inf"), "evaluate.kimg", settings.kimg, "0 for none, or thousands of images")
    known = evaluators.better()
    require(settings.best in known, "evaluate.best", settings.best, f"one of {', '.join(known)}")
    features.check(settings.extractor)
    for judge in evaluators.judges().values():
        judge.check(settings)


def table(metrics: dict[str, float], notes: list[str]) -> str:
    """Metrics and notes as text."""
    width = max(map(len, metrics), default=0)
    return "\n".join([*(f"{name:<{width}}  {value:10.4g}" for name, value in metrics.items()), *(f"note: {n}" for n in notes)])
