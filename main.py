"""holotf: train, look at, and publish 3D-aware image generators. `python main.py --config configs/hologan_blocks.py`."""

import importlib
import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from holotf.errors import UserError

MODES = ("train", "generate", "export")
CONFIG = config_flags.DEFINE_config_file("config", "configs/hologan_blocks.py", "The experiment; FILE or FILE:variant.")
MODE = flags.DEFINE_enum("mode", "train", MODES, "train also ends with pictures and a SavedModel.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/<name of the config> if not given.")


def main(argv):
    """Dispatches to the verb; bad input is one line and exit code 2."""
    if argv[1:]:
        raise app.UsageError(f"unknown argument {argv[1]!r}: options start with --")
    logging.set_verbosity(logging.INFO)
    name = os.path.splitext(os.path.basename(config_flags.get_config_filename(flags.FLAGS["config"])))[0]
    verb = importlib.import_module(f"holotf.{MODE.value}")
    try:
        return verb.run(CONFIG.value, WORKDIR.value or os.path.join("runs", name))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    app.run(main)
