"""Runs of `main.py` that benchmarks ask for: trained, judged, remembered; what is finished is not done again."""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks import measure
from holotf import files, run_folder
from holotf.errors import UserError
from holotf.lock import locked


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps a second benchmark out of a folder of runs; bad input, and a folder that is in use, are one line and exit code 2.

    Raises:
      SystemExit: so.
    """
    try:
        with locked(folder, field="--out"):
            yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def add_flags(parser: argparse.ArgumentParser, rows: Sequence[str], usual: Sequence[str] | None = None) -> None:
    """The flags of a table of rows over seeds, --only and --seeds; `usual`: the rows if --only is not given, all if None."""
    told = ", ".join(rows)
    parser.add_argument("--only", nargs="+", default=list(usual or rows), choices=rows, metavar="ROW", help=f"of {told}")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (default 3)")


def of_seeds(
    folder: Path, rows: dict[str, tuple[str, dict[str, object]]], seeds: int, overrides: dict[str, object]
) -> Iterator[dict[str, dict[str, dict]]]:
    """Trains and judges every row with every seed, `judged` in FOLDER/ROW-SEED; nobody else works in the folder meanwhile.

    Args:
      folder: of the runs.
      rows: {row: (config, what it changes of it)}.
      seeds: how many, from 0.
      overrides: of all rows; a row's own changes take precedence.

    Yields:
      {row: {run: result}}, a whole table after each seed.

    Raises:
      SystemExit: as `alone` and `judged` do.
    """
    found = {row: {} for row in rows}
    with alone(folder):
        for seed in range(seeds):
            for row, (config, changes) in rows.items():
                run = f"{row}-{seed}"
                found[row][run] = judged(folder / run, config, overrides | changes | {"seed": seed})
            yield found


def judged(folder: Path, config: str, overrides: dict[str, object]) -> dict:
    """Trains a config and judges it, or reads what was found before with the same overrides.

    A killed run goes on from its checkpoint when it is asked for again.

    Args:
      folder: the run's --workdir.
      config: NAME or NAME:VARIANT of a file in configs/.
      overrides: {dotted key: value} of the config.

    Returns:
      Dict: overrides, metrics, notes, train_s (at the median rate), images_per_s, peak_gib, machine, `settings` of the config.

    Raises:
      SystemExit: the run failed, or the config has changed since it was trained; its own message stands above. Or the folder holds
        a run of another length.
    """
    record, wanted = folder / "result.json", {key: str(value) for key, value in overrides.items()}
    before = json.loads(record.read_text()) if record.exists() else {}
    told = settings(config, wanted)
    if before.get("overrides") == wanted and not changed(before.get("settings", {}), told):
        return before
    _check_length(folder, float((told | wanted)["train.kimg"]))
    name, _, variant = config.partition(":")
    command = [
        *(sys.executable, "main.py", f"--config=configs/{name}.py" + (f":{variant}" if variant else ""), f"--workdir={folder}"),
        *(f"--config.{key}={value}" for key, value in wanted.items()),
    ]
    peak = _run(command)
    _run([*command, "--mode=evaluate"])
    seconds, rate = _speed(folder / "events")
    found = json.loads((folder / "metrics.json").read_text())
    result = {"overrides": wanted, "metrics": found["metrics"], "notes": found["notes"], "machine": measure.machine()}
    result |= {"train_s": seconds, "images_per_s": rate, "peak_gib": peak, "settings": told}
    files.write_json(record, result)
    return result


def looked_into(folder: Path, looks: Sequence[str]) -> dict:
    """Looks inside a run that was judged as `--mode analyse` does, or reads what was found before.

    Args:
      folder: as `judged` was given it.
      looks: names of looks.

    Returns:
      What `judged` returned, with `analysis/...` among the metrics, further notes, and the `looks` taken.

    Raises:
      SystemExit: it failed, and its own message stands above; or the run is another place's, known by its figures alone.
    """
    record = folder / "result.json"
    result = json.loads(record.read_text())
    if missing := tuple(sorted(set(looks) - set(result.get("looks", ())))):
        if not (folder / run_folder.CONFIG).exists():
            raise SystemExit(f"{folder}: of this run there are the figures alone (--known), and no look inside: leave out --looks")
        _run([sys.executable, "main.py", f"--workdir={folder}", "--mode=analyse", f"--config.analyse.looks={missing!r}"])
        found = json.loads((folder / "analysis" / "figures.json").read_text())
        result["metrics"] |= {f"analysis/{name}": value for name, value in found["figures"].items()}
        result["notes"] += [note for note in found["notes"] if note not in result["notes"]]
        result["looks"] = sorted({*result.get("looks", ()), *missing})
        files.write_json(record, result)
    return result


def _check_length(folder, kimg):
    """A run's rates fall to its end: neither does a longer one stand for a shorter one, nor is it its beginning."""
    made = folder / run_folder.CONFIG
    before = json.loads(made.read_text())["config"]["train"]["kimg"] if made.exists() else kimg
    if before != kimg:
        raise SystemExit(f"{folder} holds a run of {before:g} thousand images, not of {kimg:g}: remove it, or give another --out")


def settings(config: str, overrides: Container[str]) -> dict[str, object]:
    """{dotted key: value} of a config as its file in configs/ has it today, in JSON's types, but for what is overridden."""
    told = json.loads(json.dumps(measure.config(config).to_dict()))
    return {key: value for key, value in run_folder.flat(told) if key not in overrides}


def changed(before: dict[str, object], now: dict[str, object]) -> list[str]:
    """What two such dicts say differently; keys that one of them lacks, since versions add some, do not count."""
    return [f"{key} was {before[key]}, is {now[key]}" for key in before if key in now and before[key] != now[key]]


def take_over(folder: Path, result: dict) -> None:
    """Remembers what `judged` found elsewhere as if it had been found here, unless something was."""
    record = folder / "result.json"
    if not record.exists():
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(record, result)


def _run(command):
    """Runs it to its end; returns the peak memory in GiB."""
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(command, env=environment) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}; the same command of the table goes on from here")
    return usage.ru_maxrss / 2**20


def _speed(events):
    """(seconds of training at the median rate, that rate in images/s): however often the run was broken off or held up."""
    log = EventAccumulator(str(events), size_guidance={"tensors": 0}).Reload().Tensors("speed/s_per_kimg")
    by_step = {e.step: float(tf.make_ndarray(e.tensor_proto)) for e in log}
    median = statistics.median_low(by_step.values())
    return median * max(by_step) / 1000, 1000 / median
