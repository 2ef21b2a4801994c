"""Files that are whole or not there."""

import contextlib
import json
import os


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


def write_json(path: str, content) -> None:
    """`write`, of JSON."""
    write(path, json.dumps(content, indent=1) + "\n")
