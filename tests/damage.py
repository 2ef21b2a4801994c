"""Damage to files by a handful of operators, at places that hypothesis chooses, and what is promised of whoever reads them.

One line that says what is wrong and nothing written, or no harm done. Never a traceback, never a wrong result. The default suite
tries a few of each kind of thing, `HOLOTF_EXAMPLES=300 pytest tests/test_damaged_data.py tests/test_damaged_runs.py` so many.
"""

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st

from holotf.errors import UserError


def count(few):
    """How many examples are tried."""
    return int(os.environ.get("HOLOTF_EXAMPLES", few))


# --- the operators: (file, another, a place in [0, 1)) -> None


def truncate(path, other, place):
    os.truncate(path, int(place * path.stat().st_size))


def flip(path, other, place):
    """One bit."""
    content = bytearray(path.read_bytes())
    if content:
        bit = int(place * 8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)


def empty(path, other, place):
    os.truncate(path, 0)


def remove(path, other, place):
    path.unlink()


def swap(path, other, place):
    here, there = path.read_bytes(), other.read_bytes()
    path.write_bytes(there)
    other.write_bytes(here)


def rename(path, other, place):
    path.rename(path.with_name(f"x{path.name}"))


DAMAGES = st.lists(
    st.tuples(
        st.sampled_from([truncate, flip, empty, remove, swap, rename]), st.integers(0, 99), st.floats(0, 1, exclude_max=True)
    ),
    min_size=1,
    max_size=2,
)


def damage(folder, damages):
    for operator, number, place in damages:
        if files := sorted(path for path in folder.rglob("*") if path.is_file()):
            one, other = (files[n % len(files)] for n in (number, number + int(place * 1000)))
            hypothesis.note(f"{operator.__name__} {one.relative_to(folder)}, {other.relative_to(folder)} at {place:.3f}")
            operator(one, other, place)


def each(whole, judge, examples, **choices):
    """Judges so many damaged copies of a folder: `judge(folder, **drawn)`, in a folder that has nothing else in it."""

    unhurried = {"deadline": None, "suppress_health_check": list(hypothesis.HealthCheck)}
    as_they_come = {"derandomize": True, "database": None, "phases": [hypothesis.Phase.generate]}  # one or two: small enough

    @hypothesis.settings(max_examples=examples, **unhurried, **as_they_come)
    @hypothesis.given(DAMAGES, st.fixed_dictionaries(choices))
    def try_one(damages, drawn):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(shutil.copytree(whole, Path(place, "whole")))
            damage(folder, damages)
            judge(folder, **drawn)

    try_one()


# --- the promise


def said(text):
    """The one line of an error at the end of standard error; what it lists is indented below it."""
    lines = text.splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith("error: "))
    assert all(line.startswith("  ") for line in lines[start + 1 :]), text
    assert "Traceback" not in text
    return lines[start]


def tried(function, *arguments):
    """(what a function gives, None), or (None, the one line that it says of bad input)."""
    try:
        return function(*arguments), None
    except UserError as error:
        line = str(error)
    assert "\n" not in line
    return None, line
