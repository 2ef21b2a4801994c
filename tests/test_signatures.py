"""Public functions and methods say what they take and give."""

import ast

from conftest import ROOT

FILES = [
    ROOT / "main.py",
    *(path for place in ("holotf", "data_prep", "configs", "benchmarks") for path in ROOT.glob(f"{place}/**/*.py")),
]


def public(node):
    """The functions and methods of a module or a class that others may call: what stands inside of a function is its own affair."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from public(child)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and (
            not child.name.startswith("_") or child.name == "__call__"
        ):
            yield child
        elif isinstance(child, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from public(child)


def unhinted(function):
    """What of a function has no hint: names of its parameters, and `return`."""
    taken = function.args
    parameters = [*taken.posonlyargs, *taken.args, taken.vararg, *taken.kwonlyargs, taken.kwarg]
    missing = [p.arg for p in parameters if p and p.annotation is None and p.arg not in ("self", "cls")]
    return missing + ["return"] * (function.returns is None)


def test_public_signatures_have_hints():
    bare = []
    for path in FILES:
        functions = public(ast.parse(path.read_text(encoding="utf-8")))
        bare += [f"{path.relative_to(ROOT)}:{f.lineno} {f.name}: {', '.join(m)}" for f in functions if (m := unhinted(f))]
    assert not bare, "no type hint:\n" + "\n".join(bare)
