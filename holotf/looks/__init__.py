"""Looks inside a model, one a file, found by its name: a module here with a class `Look`, an `Evaluator`.

A look says what it needs of the model and the data, as a judge does, and shows pictures; what it counts on the way it yields.
`--mode analyse` takes those that fit and says why others do not.
"""

import importlib.util

from holotf import discovery
from holotf.evaluators import Evaluator

EXTRA = ("sklearn", "matplotlib")  # what some looks import, where they need it


def names() -> list[str]:
    """Names of the looks there are."""
    return discovery.modules(__file__, "Look")


def looks(wanted: tuple[str, ...] = ()) -> dict[str, type[Evaluator]]:
    """{name: its `Look`}, of those wanted, () for all, that can be imported."""
    found = {name: discovery.loaded(__name__, name, "Look") for name in wanted or names()}
    return {name: look for name, look in found.items() if look}


def missing(name: str) -> str | None:
    """Why a look that imports what EXTRA names cannot be taken here, or None."""
    absent = [package for package in EXTRA if importlib.util.find_spec(package) is None]
    return f"no {name}: it needs {' and '.join(absent)}: pip install 'holotf[analyse]'" if absent else None
