"""Imports go one way: docs/architecture.md, "Where things are"."""

import ast
import graphlib

from conftest import ROOT

PATHS = [path.relative_to(ROOT) for place in ("holotf", "data_prep") for path in ROOT.glob(f"{place}/**/*.py")]
MODULES = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in PATHS}
VERBS = ["train", "evaluate", "generate", "analyse", "export", "serve"]
# Of whom: what it may not import, at whatever level of a file.
BARRED = {
    "holotf.layers": ["holotf.models", "holotf.renderers", "holotf.evaluators", "holotf.looks", "holotf.data"],
    "holotf.renderers": ["holotf.models", "holotf.evaluators", "holotf.looks", "holotf.data"],
    "holotf.models": ["holotf.evaluators", "holotf.looks", "holotf.run_folder", *(f"holotf.{verb}" for verb in VERBS)],
    "holotf.evaluators": ["holotf.looks", *(f"holotf.{verb}" for verb in VERBS)],
    "holotf.serving": ["holotf.models", "holotf.layers", "holotf.data", "holotf.run_folder"],  # it needs the SavedModel alone
    "holotf": ["data_prep", "benchmarks", "tests"],
}
SHARED = ["holotf.errors", "holotf.console", "holotf.images", "holotf.duplicates"]  # what data_prep may have of holotf


def imported(name, at_import):
    """The modules of ours that a module imports: those that importing it does, or those inside of its functions, too."""
    found, todo = set(), [ast.parse((ROOT / MODULES[name]).read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{MODULES[name]}:{node.lineno}: relative"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & MODULES.keys()) | ({node.module} if inner - MODULES.keys() else set())
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not typing_only and not (at_import and isinstance(node, ast.FunctionDef)):
            todo += ast.iter_child_nodes(node)
    return (found & MODULES.keys()) - {name}


def under(module, package):
    return module == package or module.startswith(f"{package}.")


def test_no_module_imports_itself_by_way_of_others():
    order = graphlib.TopologicalSorter({name: imported(name, at_import=True) for name in MODULES})
    try:
        order.prepare()
    except graphlib.CycleError as error:
        raise AssertionError(" <- ".join(error.args[1])) from None


def test_what_lies_below_imports_nothing_from_above():
    wrong = [
        f"{MODULES[name]}: {found}"
        for name in MODULES
        for found in imported(name, at_import=False)
        for package, barred in BARRED.items()
        if under(name, package) and any(under(found, above) for above in barred)
    ]
    assert not wrong, "\n".join(wrong)


def test_data_preparation_shares_three_modules_with_the_rest():
    found = {name: imported(name, at_import=False) for name in MODULES if under(name, "data_prep")}
    wrong = [f"{MODULES[name]}: {f}" for name in found for f in found[name] if under(f, "holotf") and f not in SHARED]
    assert not wrong, "\n".join(wrong)
    assert {f for modules in found.values() for f in modules if under(f, "holotf")} == set(SHARED)
