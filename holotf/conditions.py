"""What images are to show, by name: as a person writes it, as rows of 0 and 1, and in lists beside the data."""

import json
import os
from collections.abc import Sequence

import numpy as np

from holotf.errors import UserError, brief

FILE = "conditions.json"  # which data_prep writes: data_prep/conditions.py


def parse(text: str, names: Sequence[str], most: int, field: str = "--labels") -> list[tuple[str, ...]]:
    """Conditions, as "red cube, blue sphere; green cylinder" has two.

    Args:
      text: names, separated by commas; conditions by semicolons.
      names: those there are.
      most: that an image may show.
      field: for the error.

    Raises:
      UserError: no condition, an unknown name, the same one twice, or too many.
    """
    found = [tuple(name.strip() for name in part.split(",")) for part in text.split(";") if part.strip()]
    if not found:
        raise UserError(f"{field}={text!r}: name what is to be shown, such as {names[0]!r}")
    for condition in found:
        check(condition, names, f"{field}={text!r}")
        if len(condition) > most:
            raise UserError(f"{field}={text!r}: {', '.join(condition)!r} are {len(condition)}: the model shows {most} at most")
    return found


def check(condition: Sequence[str], names: Sequence[str], where: str) -> None:
    """Finds what is wrong with a condition.

    Raises:
      UserError: an unknown name, or the same one twice; `where` is said first.
    """
    for name in condition:
        if name not in names:
            raise UserError(f"{where}: there is no {name!r}: use some of {', '.join(names)}")
        if list(condition).count(name) > 1:
            raise UserError(f"{where}: {name!r} is there twice: name it once")


def rows(conditions: Sequence[Sequence[str]], names: Sequence[str]) -> np.ndarray:
    """Conditions as float32 [N, K], 1 for what is to be shown; their names must be known."""
    return np.array([[name in condition for name in names] for condition in conditions], np.float32).reshape(-1, len(names))


def read(folder: str | os.PathLike, names: Sequence[str]) -> dict[str, list[tuple[str, ...]]]:
    """The lists beside the data, {list: conditions}; none where there is no file.

    Args:
      folder: of the data set.
      names: those there are.

    Raises:
      UserError: a file that holds something else, or a condition of unknown names.
    """
    path = os.path.join(folder, FILE)
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
        lists = {name: [tuple(map(str, condition)) for condition in conditions] for name, conditions in told.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path} holds no lists of conditions ({brief(error)}): prepare the data again") from error
    for name, conditions in lists.items():
        for number, condition in enumerate(conditions):
            check(condition, names, f"{path}: {name}: entry {number}")
    return {name: conditions for name, conditions in lists.items() if conditions}
