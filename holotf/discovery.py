"""Components found by their name: the files of a package that define what is asked for."""

import ast
import functools
import importlib
import os
import sys
from pathlib import Path
from typing import Any


def modules(package: str | os.PathLike, defines: str) -> list[str]:
    """Names of the modules of a package that define a function or a class of a name.

    The files are read, not imported: one that is broken stands in no other's way.

    Args:
      package: the `__file__` of the package.
      defines: the name.

    Returns:
      Names in alphabetical order. A file that is no Python is among them: that is told when it is the one that is asked for.
    """
    found = []
    for path in sorted(Path(package).parent.glob("[!_]*.py")):
        try:
            body = ast.parse(path.read_text(encoding="utf-8")).body
        except SyntaxError:
            found.append(path.stem)
            continue
        if any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == defines for node in body):
            found.append(path.stem)
    return found


@functools.cache
def loaded(package: str, name: str, defines: str) -> Any | None:
    """What a module of a package defines, or None where it cannot be imported: said once, and in no other's way.

    Args:
      package: the `__name__` of the package.
      name: of the module.
      defines: the name of the function or class.
    """
    try:
        return getattr(importlib.import_module(f"{package}.{name}"), defines)
    except Exception as error:
        print(f"no {name}: {package}.{name} cannot be imported ({type(error).__name__}: {error})", file=sys.stderr)
        return None
