"""Who is at work in a folder: one at a time."""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from holotf import files, processes
from holotf.errors import UserError
from holotf.processes import Process

LOCK = "lock.json"


@contextlib.contextmanager
def locked(folder: str | os.PathLike, active: bool = True, field: str = "--workdir") -> Iterator[None]:
    """Keeps others out of a folder while something works in it; made if missing.

    The lock names its process (`Process`). One whose process is gone, as after a kill -9, is stale and gives way without a word.

    Args:
      folder: of a run, or of a benchmark's runs.
      active: False does nothing (workers that are not the chief).
      field: the option that named the folder, for the messages.

    Raises:
      UserError: someone else is at work there, or the folder cannot be made.
    """
    if not active:
        yield
        return
    path = os.path.join(folder, LOCK)
    try:
        os.makedirs(folder, exist_ok=True)
        with _alone(folder):
            _take(path, processes.this(), field)
    except OSError as error:
        raise UserError(f"{field} {folder}: {error.strerror}; give a folder that can be written") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _take(path, mine, field):
    """Puts our lock where there is none, or a stale one."""
    with files.temporary(path) as temporary:
        Path(temporary).write_text(json.dumps(dataclasses.asdict(mine)), encoding="utf-8")
        try:
            os.link(temporary, path)  # fails where there is one, at one blow, on network file systems too
        except FileExistsError:
            _check_stale(path, field)
            os.replace(temporary, path)


@contextlib.contextmanager
def _alone(folder):
    """The kernel's lock for the moment of taking ours: of several that find the same stale lock, one takes its place."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # file systems without such locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_stale(path, field):
    """Finds out whose a lock is, and says so unless its owner is gone."""
    try:
        owner = Process(**json.loads(Path(path).read_text(encoding="utf-8")))
        if owner.has_ended:
            return
    except FileNotFoundError:  # released this moment
        return
    except (ValueError, TypeError):
        raise UserError(f"{path} cannot be read: remove it if nothing works in its folder") from None
    folder, where = os.path.dirname(path), "" if owner.is_near else f" on {owner.host} (if that is gone, remove {path})"
    raise UserError(f"{folder} is in use by process {owner.pid}{where}: wait for it, stop it, or give another {field}")
