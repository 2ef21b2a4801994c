"""Components found by their name: the files of a package that define what is asked for."""

import ast
import os
from pathlib import Path


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
