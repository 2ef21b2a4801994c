"""The folder of a run: what made it, who is at work in it, and the model that lies in it."""

import contextlib
import datetime
import functools
import itertools
import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import holotf
from holotf import data, devices, models
from holotf.checkpoints import Checkpoints
from holotf.errors import UserError

CONFIG = "config.json"
LOCK = "lock.json"
# What may differ when a run goes on: these keys, and those that begin so. Everything else would make it another experiment.
MAY_CHANGE = (
    "train.kimg",
    "train.log_kimg",
    "train.sample_kimg",
    "train.checkpoint_kimg",
    "train.keep_checkpoints",
    "train.resume_from",
    "data.dir",  # as long as the data set's fingerprint is the same
    "data.prepare",
    "device.",
    "evaluate.",
    "generate.",
)


# --- what made the run


def record(config, workdir: str, sources) -> None:
    """Writes WORKDIR/config.json, under a temporary name first: config, command, versions, processor, data set.

    Args:
      config: the experiment.
      workdir: of the run.
      sources: what `data.open_sources` gave.
    """
    settings = config.to_dict()
    settings["train"]["resume_from"] = ""  # of one start, not of the run
    fingerprints = {n: data.fingerprint(s) for n, s in sources.items()} if isinstance(sources, dict) else data.fingerprint(sources)
    told = {
        "config": settings,
        "command": sys.argv,
        "versions": _versions(),
        "machine": {
            "cpu": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "gpus": len(tf.config.list_physical_devices("GPU")),
        },
        "data": fingerprints,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    path = os.path.join(workdir, CONFIG)
    temporary = f"{path}.tmp-{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(told, file, indent=1)
    os.replace(temporary, path)


def recorded(workdir: str) -> dict | None:
    """What `record` wrote of a run, of its `best`, or of the run whose export it is; None where there is nothing.

    Raises:
      UserError: it cannot be read.
    """
    for folder in (Path(workdir), Path(workdir).parent):
        path = folder / CONFIG
        if path.exists() and (folder == Path(workdir) or Path(workdir).name in ("saved_model", "best")):
            try:
                told = json.loads(path.read_text(encoding="utf-8"))
                return told | {"config": _tuples(told["config"])}
            except (ValueError, KeyError, OSError) as error:
                raise UserError(f"{path} cannot be read ({error}): give the experiment with --config") from error
    return None


def reconcile(config, workdir: str, sources=None) -> None:
    """Compares a config with the one that made the run, and prints what has changed and may.

    Keys that only one of them has, since versions add and remove some, are not compared.

    Args:
      config: as given now.
      workdir: of the run.
      sources: what `data.open_sources` gave, to compare the data too.

    Raises:
      UserError: something differs that may not; the message names the keys with both values.
    """
    told = recorded(workdir)
    if told is None:
        return
    before, now = (dict(_flat(c)) for c in (told["config"], config.to_dict()))
    differ = {key: (before[key], now[key]) for key in before if key in now and before[key] != now[key]}
    changed = {key: values for key, values in differ.items() if not key.startswith(MAY_CHANGE)}
    if sources is not None and not isinstance(sources, dict) and (data.fingerprint(sources) != told["data"]):
        changed["data.dir"] = (f"{before['data.dir']} as it was", f"{now['data.dir']} with other contents")
    if changed:
        listed = "; ".join(f"{key} was {was!r}, is {is_!r}" for key, (was, is_) in changed.items())
        raise UserError(f"{workdir} is another experiment: {listed}: give it as it was, or another --workdir")
    for key, (was, is_) in differ.items():
        if key != "train.resume_from":
            print(f"{key}: {was!r} -> {is_!r}")


def _flat(section, prefix=""):
    for key, value in section.items():
        yield from _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def _tuples(value):
    """JSON's lists as the tuples they were."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@functools.cache
def _versions():
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


def _processor():
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


# --- who is at work in it


@contextlib.contextmanager
def locked(folder: str, active: bool = True):
    """Keeps others out of a folder while something works in it; made if missing.

    The lock names process and host. One whose process is gone, as after a kill -9, is stale and gives way.

    Args:
      folder: of a run.
      active: False does nothing (workers that are not the chief).

    Raises:
      UserError: someone else is at work there, or the folder cannot be made.
    """
    if not active:
        yield
        return
    path = os.path.join(folder, LOCK)
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid())}
    temporary = f"{path}.tmp-{os.getpid()}"
    try:
        os.makedirs(folder, exist_ok=True)
        Path(temporary).write_text(json.dumps(mine), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--workdir {folder}: {error.strerror}; give a folder that can be written") from error
    try:
        for _ in range(2):
            try:
                os.link(temporary, path)  # fails where there is one, at one blow
                break
            except FileExistsError:
                _give_way(path, mine)
        else:
            raise UserError(f"{folder} was taken this moment by another process: wait for it, or give another --workdir")
    finally:
        os.unlink(temporary)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _give_way(path, mine):
    """Removes a stale lock, or says whose it is."""
    try:
        owner = json.loads(Path(path).read_text(encoding="utf-8"))
        pid, host, started = owner["pid"], owner["host"], owner["started"]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, OSError):
        raise UserError(f"{path} cannot be read: remove it if nothing works in its folder") from None
    if host == mine["host"] and (pid == mine["pid"] or _started(pid) != started):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    folder, where = os.path.dirname(path), "" if host == mine["host"] else f" on {host} (if that is gone, remove {path})"
    raise UserError(f"{folder} is in use by process {pid}{where}: wait for it, stop it, or give another --workdir")


def _started(pid):
    """When a process started, in the system's ticks, so that a pid that was given again is told from the first; None if gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


# --- the model that lies in it


def restore(config, workdir: str):
    """The model of a run as its latest checkpoint left it, or as it was exported.

    Args:
      config: the experiment that made it.
      workdir: of the run, or a SavedModel of `--mode export`, which holds what is served: averages, no optimizers.

    Raises:
      UserError: there is no checkpoint, or it is of another architecture.
    """
    devices.configure(config.device)
    reconcile(config, workdir)
    model = models.build(config)
    if os.path.exists(os.path.join(workdir, "saved_model.pb")):
        _load_export(model, workdir)
    elif Checkpoints(model, workdir).restore(config.train.resume_from) is None:
        raise UserError(f"no checkpoint in {workdir}: train first, or name the run, or its saved_model, with --workdir")
    return model


def _load_export(model, folder):
    wanted, found = model.servable()[0].vars, getattr(tf.saved_model.load(folder), "vars", ())
    shapes = ([tuple(v.shape) for v in variables] for variables in (wanted, found))
    for i, (here, there) in enumerate(itertools.zip_longest(*shapes)):
        if here != there:
            raise UserError(
                f"{folder} is of another architecture: weight {i} has shape {there or 'none'} there, {here or 'none'} here; "
                "use the config that made it"
            )
    for mine, theirs in zip(wanted, found, strict=True):
        mine.assign(theirs)
