"""Files and folders that are whole or not there."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator


def write(path: str, text: str) -> None:
    """Writes text under a temporary name and then renames it: a reader finds the old file or the new one."""
    temporary = f"{path}.tmp-{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def write_json(path: str, content: dict) -> None:
    """`write`, of JSON."""
    write(path, json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def new_folder(path: str) -> Iterator[str]:
    """A folder to fill, which takes the place of `path` once it is whole; whatever fails, an older one there stays.

    Yields:
      Path of the folder under its temporary name; it does not exist yet.
    """
    temporary, old = f"{path}.tmp-{os.getpid()}", f"{path}.tmp-old-{os.getpid()}"
    try:
        yield temporary
        if os.path.exists(path):
            os.rename(path, old)
        try:
            os.rename(temporary, path)
        except OSError:
            if os.path.exists(old):
                os.rename(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
