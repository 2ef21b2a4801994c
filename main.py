"""holotf: train, look at, and publish 3D-aware image generators. `python main.py --config configs/hologan_blocks.py`."""

import importlib
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from configs import of_run
from holotf import console
from holotf.errors import RunError, UserError, unusable, unwritten
from holotf.flags import check_config, define_shorthands, given, of_flags, spelled_out

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "FILE or FILE:variant. Default: the one that --workdir was made with, else configs/hologan_blocks.py."
)
MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", "generate", "analyse", "export", "serve"],
    "train prepares missing data, and ends with pictures and a SavedModel.",
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/CONFIG or runs/CONFIG_VARIANT if not given.")
define_shorthands()


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; what is wrong with them is one line and exit code 2."""
    config = given(argv, "config")
    if config is None:
        config = of_run.default(given(argv, "workdir"))
        argv = [argv[0], f"--config={config}", *argv[1:]]  # a default of the flag would meet overrides at import
    try:
        check_config(config)
        return flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        sys.exit(fail(of_flags(error, argv), 2))
    except KeyboardInterrupt:
        sys.exit(fail("interrupted", 130))


def main(argv: list[str]) -> int:
    """Dispatches to the verb. Bad input is one line and exit code 2; a run that broke off, one line and exit code 1."""
    if argv[1:]:
        return fail(f"unknown argument {argv[1]!r}: options start with --", 2)
    file, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    name = f"{Path(file).stem}_{variant}" if variant else Path(file).stem
    try:
        console.import_tensorflow()
        return importlib.import_module(f"holotf.{MODE.value}").run(CONFIG.value, WORKDIR.value or f"runs/{name}")
    except (UserError, RunError) as error:
        return fail(error, 2 if isinstance(error, UserError) else 1)
    except KeyboardInterrupt:
        return fail("interrupted; the same command again does what is left", 130)
    except Exception as error:
        if reason := unwritten(error) or unusable(error):
            return fail(f"{reason}; once that is mended, the same command again does what is left", 1)
        raise


def fail(reason: object, code: int) -> int:
    """Prints the reason on one line; returns the exit code."""
    print(f"error: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)
    sys.argv[:] = spelled_out(sys.argv)  # where config_flags reads overrides
    app.run(main, flags_parser=parse)
