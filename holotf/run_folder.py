"""The folder of a run: what made it, and the model that lies in it."""

import contextlib
import datetime
import fnmatch
import functools
import itertools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

import holotf
from holotf import data, devices, files, models, native, servable
from holotf.checkpoints import Checkpoints
from holotf.errors import UserError, brief
from holotf.models.base import Learner, Perceptive

CONFIG = "config.json"
FOLDERS = ("checkpoints", "events", "pictures", "analysis", "saved_model", "best")  # what a run makes in its own
# What may differ when a run goes on. Everything else would make it another experiment.
MAY_CHANGE = (
    "model.classes",  # names: how many there are, the checkpoint says
    "train.kimg",
    "train.log_kimg",
    "train.sample_kimg",
    "train.checkpoint_kimg",
    "train.keep_checkpoints",
    "train.resume_from",
    "data.dir",  # as long as the data set's fingerprint is the same
    "data.prepare",
    "data.sources.*.dir",  # likewise
    "data.sources.*.prepare",
    "analyse.*",
    "device.*",
    "evaluate.*",
    "export.*",
    "generate.*",
    "serve.*",
)
# Of a processor, what decides which kernels compute.
_CPU_FLAGS = {
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "bf16", "sve"),
}


# --- what made the run


def record(config: ConfigDict, workdir: str, sources: data.Source | dict[str, data.Source]) -> None:
    """Writes WORKDIR/config.json, under a temporary name first: config, command, versions, machine, data set, date (UTC).

    A run that goes on keeps what was written at its earlier starts, without config and data, under `earlier`.

    Args:
      config: the experiment.
      workdir: of the run.
      sources: what `data.open_sources` gave.
    """
    settings = config.to_dict()
    settings["train"]["resume_from"] = ""  # of one start, not of the run
    start = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "versions": versions(),
        "machine": _machine(),
    }
    before = _read(Path(workdir))
    earlier = [*before.get("earlier", ()), {key: before[key] for key in start if key in before}] if before else []
    told = {"config": settings, **start, "data": data.fingerprints(sources), "earlier": earlier}
    files.write_json(os.path.join(workdir, CONFIG), told)


def recorded(workdir: str) -> dict | None:
    """What `record` wrote of a run, of its `best`, or of the run whose export it is; None where there is nothing.

    Raises:
      UserError: it cannot be read.
    """
    folder = Path(workdir).absolute()
    told = _read(folder)
    if told is None and (folder.name == "best" or (folder / "saved_model.pb").exists()):
        told = _read(folder.parent)
    return told


def _read(folder):
    """config.json of a folder, with tuples where JSON has lists."""
    path = folder / CONFIG
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(told["config"]["model"]["name"], str):
            raise ValueError("it names no model")
        return told | {"config": _tuples(told["config"])}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} cannot be read ({brief(error)}): remove it, and give the experiment with --config") from error


def reconcile(config: ConfigDict, workdir: str, sources: data.Source | dict[str, data.Source] | None = None) -> None:
    """Compares a config with the one that made the run, if it was trained at all, and prints what has changed and may (MAY_CHANGE).

    Keys that the run's record has not, since versions add some, go through and are printed.

    Args:
      config: as given now.
      workdir: of the run.
      sources: what `data.open_sources` gave, to compare the data too.

    Raises:
      UserError: something differs that may not; the message names the keys with both values.
    """
    told = recorded(workdir)
    if told is None or not _trained(Path(workdir)):
        return
    before, now = (dict(flat(c)) for c in (told["config"], _tuples(config.to_dict())))
    differ = {key: (before.get(key), now.get(key)) for key in before | now if before.get(key) != now.get(key)}
    changed = {
        key: values
        for key, values in differ.items()
        if key in before and key in now and not any(fnmatch.fnmatchcase(key, pattern) for pattern in MAY_CHANGE)
    }
    for key in _other_data(told.get("data"), sources):
        changed[key] = (f"{before.get(key)} as it was", f"{now.get(key)} with other contents")
    if changed:
        listed = "; ".join(f"{key} was {was!r}, is {is_!r}" for key, (was, is_) in changed.items())
        raise UserError(f"{workdir} is another experiment: {listed}: give it as it was, or another --workdir")
    for key, (was, is_) in differ.items():
        if key != "train.resume_from":
            print(f"{key}: {was!r} -> {is_!r}" if key in before else f"{key}: this run has none yet -> {is_!r}")


def _trained(folder):
    """Whether there is anything of a training in a run's folder: where nothing was trained, any config may start."""
    holds_some = any((folder / "checkpoints").glob("[!.]*"))  # a hidden one was never finished
    return holds_some or any((folder / name).exists() for name in ("saved_model", "best", "saved_model.pb", "checkpoint"))


def _other_data(before, sources):
    """Keys of the data sets whose fingerprint is not what it was; what an older record does not tell is not compared."""
    if before is None or sources is None:
        return []
    now = data.fingerprints(sources)
    if isinstance(sources, dict):
        pairs = {f"data.sources.{name}.dir": (before.get(name), found) for name, found in now.items()}
    else:
        pairs = {"data.dir": (before, now)}
    return [k for k, (was, is_) in pairs.items() if was is None or any(was[key] != is_.get(key) for key in was)]


def flat(section: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of all that sections in sections hold."""
    for key, value in section.items():
        yield from flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def _tuples(value):
    """JSON's lists as the tuples they were."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@functools.cache
def versions() -> dict:
    """Of this package, with the git commit where there is one, and of what it stands on."""
    root = Path(holotf.__file__).resolve().parents[1]
    git = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    return {
        "holotf": holotf.__version__,
        "commit": commit,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _machine():
    """Processor, its flags that matter, cores that this process may use, what does the CPU's work, GPUs."""
    lines = {}
    if os.path.exists("/proc/cpuinfo"):
        pairs = (line.partition(":") for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines())
        lines = {key.strip(): value.strip() for key, _, value in pairs}
    gpus = tf.config.list_physical_devices("GPU")
    return {
        "cpu": lines.get("model name") or platform.processor() or platform.machine(),
        "flags": sorted(_CPU_FLAGS & set((lines.get("flags") or lines.get("Features") or "").split())),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "kernels": native.described(),
        "gpus": [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus],
    }


# --- what lies in it


def check_folders(workdir: str) -> None:
    """Finds out at the start whether the folders that a run makes can be made, among them those of its end.

    Raises:
      UserError: one of them is something else, or cannot be written.
    """
    for path in (os.path.join(workdir, name) for name in FOLDERS):
        if os.path.lexists(path) and not os.path.isdir(path):
            raise UserError(f"{path} is no folder, and the run is to make one there: move it, or give another --workdir")
        if os.path.isdir(path) and not os.access(path, os.W_OK | os.X_OK):
            raise UserError(f"{path} cannot be written: make it writable (chmod u+wx), or give another --workdir")


def restore(config: ConfigDict, workdir: str, judged: bool = True) -> Learner:
    """The model of a run as its latest checkpoint left it, or as it was exported.

    Args:
      config: the experiment that made it.
      workdir: of the run, or a SavedModel of `--mode export`, which holds what is served: averages, no optimizers.
      judged: whether the run's data are to be used, and so have to be what they were.

    Raises:
      UserError: there is no checkpoint, or it is of another architecture; config or data are not the run's.
    """
    devices.configure(config.device)
    reconcile(config, workdir, data.open_sources(config.data, whole=False) if judged and recorded(workdir) else None)
    epochs, config.optim.decay_epochs = config.optim.decay_epochs, 0.0  # how long one is only the data say, and nothing is updated
    try:
        model = models.build(config)
    finally:
        config.optim.decay_epochs = epochs
    if os.path.exists(os.path.join(workdir, "saved_model.pb")):
        _load_export(model, workdir)
    elif Checkpoints(model, workdir).restore(config.train.resume_from) is None:
        raise UserError(f"no checkpoint in {workdir}: train first, or name the run, or its saved_model, with --workdir")
    return model


def _load_export(model, folder):
    try:
        loaded = tf.saved_model.load(folder)
        found, names = getattr(loaded, "vars", ()), [name for name in loaded.signatures if name != "serving_default"]
    except Exception as error:  # a damaged one makes TensorFlow and protobuf raise whatever it makes them raise
        raise UserError(f"{folder} cannot be loaded ({brief(error)}): export it again, or give another --workdir") from error
    module, signatures = model.servable()
    wanted = module.vars
    if len(found) != len(wanted) and not signatures.keys() <= {"serving_default", *names}:  # `export.endpoints`
        wanted = servable.only([name for name in names if name in signatures], module, signatures)[0].vars
        eyes = getattr(model, model.EYES).variables if isinstance(model, Perceptive) else ()
        if {id(v) for v in module.vars} - {id(v) for v in wanted} - {id(v.value) for v in eyes}:
            raise UserError(
                f"{folder} has the endpoints {', '.join(sorted(names))} alone, and not all weights: give the run's folder"
            )
    shapes = ([tuple(v.shape) for v in variables] for variables in (wanted, found))
    for i, (here, there) in enumerate(itertools.zip_longest(*shapes)):
        if here != there:
            raise UserError(
                f"{folder} is of another architecture: weight {i} has shape {there or 'none'} there, {here or 'none'} here; "
                "use the config that made it"
            )
    for mine, theirs in zip(wanted, found, strict=True):
        mine.assign(theirs)
    model.loaded = frozenset(map(id, wanted))
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, OverflowError):  # of a card that is not there, or damaged
        told = json.loads(Path(folder, "card.json").read_text(encoding="utf-8"))
        model.iteration.assign(told["training"]["iteration"])
