"""The verb `analyse`: what did it learn? Asks the looks (holotf/looks) that fit a model and its data, and writes what they show."""

import importlib.util
import os
import sys
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from holotf import evaluate, evaluators, features, files, looks, pictures, run_folder
from holotf.errors import UserError, require
from holotf.evaluators import attributes
from holotf.evaluators.subject import Subject
from holotf.models.base import Learner
from holotf.summaries import Board


def run(config: ConfigDict, workdir: str) -> int:
    """The verb: pictures of the latest checkpoint into WORKDIR/analysis and TensorBoard, figures into analysis/figures.json."""
    check(config)
    run_folder.check_folders(workdir)
    model, folder = run_folder.restore(config, workdir), os.path.join(workdir, "analysis")
    os.makedirs(folder, exist_ok=True)
    board, images = Board(workdir, config), int(model.iteration.numpy()) * config.train.batch_size

    def show(shown):
        board.pictures({f"analysis/{name}": picture for name, picture in shown.items()}, images)
        print(*pictures.write(folder, {f"{name}.png": picture for name, picture in shown.items()}), sep="\n", flush=True)

    figures, notes, _ = analyse(model, config, show, board.project)
    board.scalars({f"analysis/{name}": value for name, value in figures.items()}, images)
    board.close()
    print(evaluate.table(figures, notes))
    path = os.path.join(folder, "figures.json")
    about = {"command": sys.argv, "analyse": config.analyse.to_dict(), "seed": config.seed, "images": images}
    files.write_json(path, {"figures": figures, "notes": notes} | about)
    print(f"\nFigures: {path}\nTensorBoard: tensorboard --logdir {os.path.join(workdir, 'events')}")
    return 0


def analyse(
    model: Learner,
    config: ConfigDict,
    show: Callable[[dict[str, np.ndarray]], None] | None = None,
    project: Callable[[dict, dict, np.ndarray], None] | None = None,
) -> tuple[dict[str, float], list[str], list[str]]:
    """Looks inside a model. The same seed gives the same figures.

    Args:
      model: a `holotf.models.base.Learner`.
      config: the experiment; `config.analyse` says how, `config.evaluate` with which extractor, unseen split and cache.
      show, project: as `Subject` takes them.

    Returns:
      (figures {path: float}, notes [str], alarms [str]), as `evaluate.evaluate` gives them.

    Raises:
      UserError: settings that make no sense.
    """
    check(config)
    subject = Subject(model, config, show, project)
    return evaluators.ask(looks.looks(config.analyse.looks), subject), subject.notes, subject.alarms


def check(config: ConfigDict) -> None:
    """Finds what is wrong with `config.analyse`, and with what it shares with `config.evaluate`. It builds nothing.

    Raises:
      UserError: no such look, reader or extractor, or numbers that make no sense.
    """
    settings, known = config.analyse, looks.names()
    for key, allowed in (("looks", f"names among {', '.join(known)}, or () for all"), ("attributes", "names, or () for all")):
        named = isinstance(settings[key], (tuple, list)) and all(isinstance(name, str) for name in settings[key])
        require(named and (key != "looks" or set(settings[key]) <= set(known)), f"analyse.{key}", settings[key], allowed)
    require(settings.images >= 16, "analyse.images", settings.images, "16 or more")
    require(settings.reader in attributes.READERS, "analyse.reader", settings.reader, " or ".join(attributes.READERS))
    if settings.reader == "neighbours" and importlib.util.find_spec("sklearn") is None:
        raise UserError("analyse.reader='neighbours' needs scikit-learn: pip install 'holotf[analyse]'")
    features.check(config.evaluate.extractor)
