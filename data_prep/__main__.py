"""`python -m data_prep SOURCE --out DIR`: finds the source by its name, reads its flags, builds.

Spawned workers import this module again, so nothing here imports TensorFlow before it is needed.
"""

import argparse
import ast
import importlib
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from data_prep.work import cores
from holotf import console
from holotf.errors import UserError, unwritten


def sources() -> dict[str, str]:
    """Returns name -> first line of the docstring, of each module here that defines `add_flags` and `builder`.

    The files are read, not imported: a source whose libraries are not installed must not stand in another's way.
    """
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        try:
            module = ast.parse(path.read_text(encoding="utf-8"))
        except SyntaxError as error:
            print(f"no {path.stem}: {path} is no Python ({error})", file=sys.stderr)
            continue
        if {"add_flags", "builder"} <= {node.name for node in module.body if isinstance(node, ast.FunctionDef)}:
            found[path.stem] = (ast.get_docstring(module) or "").partition("\n")[0]
    return found


def main(argv: list[str] | None = None) -> int:
    """Runs the command line `argv` and returns the exit code: 0 done, 1 broken off, 2 bad input, 130 interrupted."""
    argv = _glue_beam(sys.argv[1:] if argv is None else list(argv))
    try:
        _run(argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing is left behind", file=sys.stderr)
        return 130
    except BrokenProcessPool:
        print("a worker was killed, perhaps for want of memory; nothing is left behind: use fewer --workers", file=sys.stderr)
        return 1
    except Exception as error:
        if (reason := unwritten(error)) is None:
            raise
        print(f"{reason}; nothing is left behind: make room, or name another --out", file=sys.stderr)
        return 1
    return 0


def _run(argv: list[str]) -> None:
    found = sources()
    width = max(map(len, found)) + 2
    about = "\n".join(f"  {name:<{width}}{line}" for name, line in found.items())
    parser = argparse.ArgumentParser(
        prog="python -m data_prep",
        description="Raw images or 3D models to TFRecords that tfds and holotf read.",
        epilog=f"sources:\n{about}\n\n`python -m data_prep SOURCE --help` shows a source's flags.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="one of those below")
    name = parser.parse_args(argv[:1]).source
    if name not in found:
        raise UserError(f"SOURCE {name!r} is unknown: use {', '.join(found)}")

    source = importlib.import_module(f"data_prep.{name}")
    parser = argparse.ArgumentParser(prog=f"python -m data_prep {name}", description=source.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_common_flags(parser)
    source.add_flags(parser)
    args = parser.parse_args(argv[1:])
    _check_common_flags(args)

    console.import_tensorflow()
    from data_prep.build import build  # imports tfds

    build(lambda data_dir: source.builder(args, data_dir), args.out, args.overwrite, args.beam)


def _add_common_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="becomes the tfds folder")
    parser.add_argument("--size", type=int, default=64, metavar="PIXELS", help="images are SIZE x SIZE (default %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished DIR once the new one is complete")
    parser.add_argument("--workers", type=int, default=cores(), metavar="N", help="processes (default: one a core)")
    parser.add_argument(
        "--beam",
        metavar="OPTIONS",
        help="build on an Apache Beam runner with these options, e.g. '--runner=FlinkRunner --flink_master=HOST:8081'",
    )


def _check_common_flags(args: argparse.Namespace) -> None:
    if args.size is not None and not 8 <= args.size <= 4096:
        raise UserError(f"--size {args.size}: use 8 to 4096 pixels (the models take 32, 64 or 128)")
    if args.workers < 0:
        raise UserError(f"--workers {args.workers}: use 1 or more, or 0 to work in this process alone")


def _glue_beam(argv: list[str]) -> list[str]:
    """Writes `--beam X` as `--beam=X`, since argparse takes an X that begins with dashes for another flag."""
    glued = []
    for word in argv:
        if glued and glued[-1] == "--beam":
            glued[-1] = f"--beam={word}"
        else:
            glued.append(word)
    return glued


if __name__ == "__main__":
    sys.exit(main())
