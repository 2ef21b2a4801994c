"""The command line: what is wrong with a config file, or with a flag, on one line."""

import importlib.util
import inspect
import sys
import traceback
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from holotf.errors import UserError

SHORTHANDS = {"labels": "generate.labels", "format": "export.format"}  # flags that stand for a key of the config


def given(argv: list[str], name: str) -> str | None:
    """The value of a flag as it is written on a command line, the last one; None where it is not there."""
    value = None
    for word, following in zip(argv[1:], [*argv[2:], None], strict=True):
        flag, equals, text = word.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            value = text if equals else following
    return value


def define_shorthands() -> None:
    """Defines them, for --help."""
    for name, key in SHORTHANDS.items():
        flags.DEFINE_string(name, None, f"The same as --config.{key}, which configs/base.py explains.")


def spelled_out(argv: list[str]) -> list[str]:
    """A command line whose shorthands are written as what they stand for: --labels as --config.generate.labels."""
    words, found = iter(argv), []
    for word in words:
        flag, equals, text = word.partition("=")
        name = flag.removeprefix("-").removeprefix("-")
        if flag.startswith("-") and name in SHORTHANDS:
            word = f"--config.{SHORTHANDS[name]}={text if equals else next(words, '')}"
        found.append(word)
    return found


def check_config(flag: str) -> None:
    """Finds what is wrong with a config file, which the flag's own reader tells in fifty lines.

    Args:
      flag: FILE or FILE:variant, as `--config` is given.

    Raises:
      UserError: no such file, it cannot be imported, or its `get_config` fails or gives no config.
    """
    file, colon, variant = flag.partition(":")
    module = _module(file)
    if not callable(getattr(module, "get_config", None)):
        raise UserError(f"--config={flag}: {file} has no function get_config()")
    arguments = [variant] if colon else []
    try:
        inspect.signature(module.get_config).bind(*arguments)
    except TypeError:
        use = f"{file} without a variant" if colon else f"{file}:VARIANT"
        raise UserError(f"--config={flag}: use {use}, as its get_config wants it") from None
    try:
        config = module.get_config(*arguments)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--config={flag}: {_told(error, file)}") from error
    if not isinstance(config, ConfigDict):
        what = f"get_config gives {type(config).__name__}, not ConfigDict"
        raise UserError(f"--config={flag}: {what}: let it return what base.experiment(...) gives")


def _module(file):
    if not file:
        raise UserError("--config= is empty: give a file such as configs/hologan_blocks.py, or leave it out")
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"--config={file}: {error.strerror}: give a file such as configs/hologan_blocks.py") from error
    spec = importlib.util.spec_from_file_location("checked_config", file)
    if spec is None:
        raise UserError(f"--config={file}: is no .py file: give one such as configs/hologan_blocks.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--config={file}: {_told(error, file)}") from error
    finally:
        del sys.modules[spec.name]
    return module


def _told(error, file):
    """What was raised, and at which line of the file, on one line."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == Path(file).resolve()
    ]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    place = f"line {line}: " if line else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{place}{type(error).__name__}: {text}".split())


def of_flags(error: Exception, argv: list[str]) -> str:
    """What absl's and ml_collections' errors say, on one line, with the flag as it was written.

    Args:
      error: what parsing raised.
      argv: the command line.
    """
    reason = str(error.args[0] if error.args else error).replace("\\n", " ").replace("\\", "").replace("''", "'")
    reason = " ".join(reason.split()).rpartition("UserError: ")[2]  # a config's own error, out of its traceback
    if isinstance(error, (AttributeError, KeyError)):
        missing = reason.split("'")[1] if "'" in reason else reason  # of the key only its last part: find where it was written
        given = [a for a in argv if a.startswith("--config.") and missing in a.partition("=")[0].split(".")]
        reason = f"{given[0] if given else missing}: the config has no {reason}"
    return reason
