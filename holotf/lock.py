"""Who is at work in a folder: one at a time."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from holotf.errors import UserError

LOCK = "lock.json"


@contextlib.contextmanager
def locked(folder: str | os.PathLike, active: bool = True, field: str = "--workdir") -> Iterator[None]:
    """Keeps others out of a folder while something works in it; made if missing.

    The lock names process and host. One whose process is gone, as after a kill -9, is stale and gives way without a word.

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
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid())}
    try:
        os.makedirs(folder, exist_ok=True)
        with _alone(folder):
            _take(path, mine, field)
    except OSError as error:
        raise UserError(f"{field} {folder}: {error.strerror}; give a folder that can be written") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _take(path, mine, field):
    """Puts our lock where there is none, or a stale one."""
    temporary = f"{path}.tmp-{mine['pid']}"
    Path(temporary).write_text(json.dumps(mine), encoding="utf-8")
    try:
        try:
            os.link(temporary, path)  # fails where there is one, at one blow, on network file systems too
        except FileExistsError:
            _check_stale(path, mine, field)
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


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


def _check_stale(path, mine, field):
    """Finds out whose a lock is, and says so unless its owner is gone."""
    try:
        owner = json.loads(Path(path).read_text(encoding="utf-8"))
        pid, host, started = owner["pid"], owner["host"], owner["started"]
    except FileNotFoundError:  # released this moment
        return
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} cannot be read: remove it if nothing works in its folder") from None
    if host == mine["host"] and not _alive(pid, started):
        return
    folder, where = os.path.dirname(path), "" if host == mine["host"] else f" on {host} (if that is gone, remove {path})"
    raise UserError(f"{folder} is in use by process {pid}{where}: wait for it, stop it, or give another {field}")


def _alive(pid, started):
    """Whether the process that wrote a lock is still there, and not another one that was given its number."""
    try:
        os.kill(pid, 0)
    except PermissionError:  # it is another user's
        pass
    except (OSError, OverflowError, TypeError):
        return False
    return started is None or _started(pid) == started


def _started(pid):
    """When a process started, in the system's ticks, so that a pid that was given again is told from the first.

    -1 of one that has ended and was not yet waited for; None where the system does not say.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return -1 if state in "ZX" else int(fields[18])
