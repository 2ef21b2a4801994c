"""Tests that can fail: a file is changed in one place at a time, and its tests are asked whether they notice.

    pip install cosmic-ray
    python tests/mutants.py holotf/losses.py tests/test_losses.py
    python tests/mutants.py holotf/layers/rigid.py tests/layers/test_rigid.py --jobs 2 --out runs/mutants

The changes are cosmic-ray's operators, one of each kind: + for -, < for <=, `and` for `or`, a number by one, a condition denied, a
loop without a turn, an exception that is another. Each is made in a copy of the project and judged by a process of its own, a
fork of one that has imported TensorFlow. A change that no test notices is printed and written to OUT/FILE.json: a test is missing,
or what was changed makes no difference.
"""

import argparse
import concurrent.futures
import difflib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray import plugins
from cosmic_ray.mutating import mutate_code
from nursery import Program

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = (".git", ".venv*", "data", "runs", "__pycache__", ".pytest_cache", ".hypothesis", "*.egg-info")
SWAPS = {"Add": "Sub", "Sub": "Add", "Mul": "Div", "Div": "Mul", "FloorDiv": "Mul", "Mod": "FloorDiv", "Pow": "Mul"}
COMPARISONS = {"Eq": "NotEq", "NotEq": "Eq", "Lt": "LtE", "LtE": "Lt", "Gt": "GtE", "GtE": "Gt", "Is": "IsNot", "IsNot": "Is"}
OPERATORS = (
    *(f"core/ReplaceBinaryOperator_{a}_{b}" for a, b in SWAPS.items()),
    *(f"core/ReplaceComparisonOperator_{a}_{b}" for a, b in COMPARISONS.items()),
    *("core/ReplaceAndWithOr", "core/ReplaceOrWithAnd", "core/AddNot", "core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue"),
    *("core/NumberReplacer", "core/ZeroIterationForLoop", "core/ReplaceBreakWithContinue", "core/ReplaceContinueWithBreak"),
    *("core/ExceptionReplacer", "core/ReplaceUnaryOperator_USub_UAdd", "core/ReplaceUnaryOperator_Delete_Not"),
)


def main() -> int:
    """Judges the tests of one file; the exit code is 1 where a change went unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", help="to be changed, such as holotf/losses.py")
    parser.add_argument("tests", nargs="+", help="files of tests that should notice")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th change, for a sample")
    parser.add_argument("--out", type=Path, default=Path("runs/mutants"), metavar="DIR", help="where the JSON goes")
    args = parser.parse_args()
    source = (ROOT / args.file).read_text(encoding="utf-8")
    asked = list(mutants(source))[:: args.every]
    with tempfile.TemporaryDirectory(prefix="holotf-mutants-") as folder:
        copies = [shutil.copytree(ROOT, Path(folder, str(i)), ignore=shutil.ignore_patterns(*LEFT_OUT)) for i in range(args.jobs)]
        begun = time.monotonic()
        if (ended := judged(copies[0], args.tests, 1200)) != "survived":
            raise SystemExit(f"error: the tests of {args.file} fail as it is ({ended}): mend them first")
        limit = 10 * (time.monotonic() - begun) + 30
        found = list(_all(asked, args, copies, limit))
    survived = [one for one in found if one["outcome"] == "survived"]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{args.file.replace('/', '.')}.json").write_text(
        json.dumps({"file": args.file, "tests": args.tests, "mutants": found})
    )
    print(f"{args.file}: {len(found) - len(survived)} of {len(found)} changes noticed")
    return 1 if survived else 0


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """(what was changed, as a diff of one line; the changed source) for each change, none twice."""
    seen = {source}
    for name in OPERATORS:
        operator, occurrence = plugins.get_operator(name)(), 0
        while (changed := mutate_code(source, operator, occurrence)) is not None:
            occurrence += 1
            if changed not in seen:
                seen.add(changed)
                lines = difflib.unified_diff(source.splitlines(), changed.splitlines(), n=0, lineterm="")
                yield "\n".join(list(lines)[2:]), changed


def judged(copy: Path, tests: list[str], limit: float) -> str:
    """`noticed`, `survived` or `endless`: what the tests say of a copy of the project."""
    with Program(["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests], copy) as program:
        try:
            program.communicate(limit)
        except subprocess.TimeoutExpired:
            return "endless"
        return "noticed" if program.returncode else "survived"


def _all(asked, args, copies, limit):
    """What became of each change, in their order."""
    free = list(copies)

    def one(change):
        diff, changed = change
        copy = free.pop()
        path = copy / args.file
        path.write_text(changed, encoding="utf-8")
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)  # it tells sources apart by seconds
        outcome = judged(copy, args.tests, limit)
        free.append(copy)
        return {"diff": diff, "outcome": outcome}

    with concurrent.futures.ThreadPoolExecutor(len(copies)) as pool:
        for i, result in enumerate(pool.map(one, asked), 1):
            print(
                f"{i} of {len(asked)}: {result['outcome']}\n{result['diff']}" if result["outcome"] == "survived" else f"{i}",
                flush=True,
            )
            yield result


if __name__ == "__main__":
    sys.exit(main())
