"""The config that a run recorded: `--config configs/of_run.py:RUN`, which `--workdir RUN` alone stands for."""

import os
from pathlib import Path

from ml_collections import ConfigDict

from configs import base
from holotf import console
from holotf.errors import UserError


def get_config(workdir: str | os.PathLike) -> ConfigDict:
    """What `workdir`/config.json holds; keys that came into being since then have their defaults."""
    console.import_tensorflow()
    from holotf import run_folder  # not above: it loads TensorFlow, and `main.py --help` need not

    told = run_folder.recorded(workdir)
    if told is None:
        raise UserError(f"{workdir} has no config.json (it is no run, or one of version 0.1): give the experiment with --config")
    settings = told["config"]
    return base.experiment(*base.SECTIONS.get(settings["model"]["name"], ()), settings)


def default(workdir: str | None) -> str:
    """The config of a command line that names none: that of the run in its --workdir, else hologan_blocks."""
    used = workdir and any(os.path.exists(os.path.join(workdir, name)) for name in ("config.json", "checkpoints", "saved_model.pb"))
    folder = Path(__file__).resolve().parent
    return f"{folder}/of_run.py:{workdir}" if used else f"{folder}/hologan_blocks.py"
