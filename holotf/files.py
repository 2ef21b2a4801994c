"""Files and folders that are whole or not there."""

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator

from holotf import processes
from holotf.processes import Process

# Under which name something lies until it is whole, or until what takes its place is: whose it is, and what it will be, or was.
_NAME = re.compile(r"\.(tmp|old)-(\d+)-(\d*)-(\d*)-([^~]*)~(.+)", re.DOTALL)


@contextlib.contextmanager
def temporary(path: str | os.PathLike) -> Iterator[str]:
    """A name beside `path` to write to and then to rename; what still has it at the end is removed.

    It says whose it is. What processes that were killed have left in the same folder is cleared away first.

    Yields:
      The name, with its folder. Nothing has it yet.
    """
    sweep(os.path.dirname(path))
    name = _beside(path, "tmp")
    try:
        yield name
    finally:
        _remove(name)


def write(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes text or bytes under a temporary name and then renames it: a reader finds the old file or the new one."""
    with temporary(path) as name:
        with open(name, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.replace(name, path)


def write_json(path: str | os.PathLike, content: dict | list) -> None:
    """`write`, of JSON."""
    write(path, json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def new_folder(path: str | os.PathLike, replace: bool = True) -> Iterator[str]:
    """A folder to fill, which takes the place of `path` once it is whole; whatever fails, an older one there stays.

    Of a link the link itself is replaced.

    Of a process that is killed between the two renames, `sweep` brings the older one back.

    Args:
      path: the folder.
      replace: whether an older one there gives way.

    Yields:
      Path of the folder under its temporary name; it does not exist yet.

    Raises:
      FileExistsError: one is there and is to stay, even one that came while this was filled.
    """
    path = os.fspath(path).rstrip("/") or "/"
    with temporary(path) as name:
        yield name
        old = _beside(path, "old")
        if replace and os.path.exists(path):
            os.rename(path, old)
        try:
            if not replace and os.path.lexists(path):  # a rename would take the place of an empty folder
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            os.rename(name, path)
        except OSError as error:
            if os.path.exists(old):
                os.rename(old, path)
            if error.errno == errno.ENOTEMPTY:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
            raise
        _remove(old)


def sweep(folder: str | os.PathLike) -> None:
    """Clears away what lies under temporary names of processes that have ended; of others, and of other hosts, nothing.

    A folder that its process had set aside to put another in its place comes back where it did not get that far.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir(folder or "."):
            if (parts := _NAME.fullmatch(name)) and _owner(*parts.groups()[1:5]).has_ended:
                left, path = (os.path.join(folder, n) for n in (name, parts[6]))
                if parts[1] == "old" and not os.path.lexists(path):
                    os.rename(left, path)
                _remove(left)


def _beside(path, kind):
    me, (folder, name) = processes.this(), os.path.split(path)
    numbers = "-".join("" if n is None else str(n) for n in (me.pid, me.started, me.space))
    return os.path.join(folder, f".{kind}-{numbers}-{me.host}~{name}")


def _owner(pid, started, space, host):
    return Process(int(pid), int(started) if started else None, host, int(space) if space else None)


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)
