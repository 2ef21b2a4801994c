"""One model a file, found by its name: `config.model.name = "hologan"` is `holotf.models.hologan.build(config)`."""

import ast
import importlib
from pathlib import Path

from ml_collections import ConfigDict

from holotf.errors import require


def build(config: ConfigDict):
    """The model that `config.model.name` names: a `holotf.models.base.Learner`.

    A model is a module of this package with a function `build(config)`.

    Raises:
      UserError: there is no such model; the message names those there are.
    """
    name, found = config.model.name, names()
    require(name in found, "model.name", name, f"one of {', '.join(found)}")
    return importlib.import_module(f"{__name__}.{name}").build(config)


def names() -> list[str]:
    """Names of the models there are: the modules here that say what they build.

    The files are read, not imported: one that is broken stands in no other's way.
    """
    found = []
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        try:
            module = ast.parse(path.read_text(encoding="utf-8"))
        except SyntaxError:  # told when it is the one that is asked for
            found.append(path.stem)
            continue
        if any(isinstance(node, ast.FunctionDef) and node.name == "build" for node in module.body):
            found.append(path.stem)
    return found
