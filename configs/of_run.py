"""The config that a run recorded: `--config configs/of_run.py:RUN`, which `--workdir RUN` alone stands for."""

from ml_collections import ConfigDict

from holotf import run_folder
from holotf.errors import UserError


def get_config(workdir):
    """What `workdir`/config.json holds."""
    told = run_folder.recorded(workdir)
    if told is None:
        raise UserError(f"{workdir} has no config.json (it is no run, or one of version 0.1): give the experiment with --config")
    return ConfigDict(told["config"])
