"""One config over seeds and roundings: the worst, the median and the best of every metric.

    python -m benchmarks.study --config configs/hologan_blocks.py --seeds 3 --roundings 2
    python -m benchmarks.study --config configs/hologan_chairs.py --set model.rgb_skip=False --set train.kimg=32 --name no_skip
    python -m benchmarks.study --config configs/hologan_blocks.py --looks arithmetic memorisation    # of runs that are there, too

Adversarial training amplifies what parts two runs, be it the seed or the last bit of a product: a figure of one run is an anecdote.
The second rounding of each seed does without our kernels (`device.native_kernels`), which changes no formula.

Each run is `main.py` in OUT/study/NAME/seed-S[-plain], trained and then judged, in a process of its own. What is finished is not
done again, and a killed run goes on from its checkpoint: give the same command again. One study at a time works in OUT/study/NAME.
`--known study-NAME.json` goes on elsewhere: it takes over the runs of a table that this command wrote, each with its machine.
"""

import argparse
import json
import re
import statistics
from pathlib import Path

from benchmarks import measure, runs
from holotf import evaluators, looks

BETTER = evaluators.better() | {f"analysis/{name}": side for look in looks.looks().values() for name, side in look.BETTER.items()}
SMALLER_IS_BETTER = {name for name, better in BETTER.items() if better is min} | {"train_s"}
ERRORS = re.compile(r".*(_mae_deg|_median_deg|_spread_deg|_shift_deg|flip_share|/kid/\d+)")  # that no judge calls better or worse


def main() -> None:
    """Runs the study."""
    parser = measure.parser(__doc__.partition("\n")[0])
    parser.add_argument("--config", required=True, metavar="FILE[:VARIANT]", help="a file in configs/")
    parser.add_argument(
        "--set", action="append", default=[], type=setting, metavar="KEY=VALUE", help="changes the config; may repeat"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (default 3)")
    parser.add_argument("--roundings", type=int, default=2, choices=[1, 2], help="2: each seed with and without our kernels")
    inside = {"choices": looks.names(), "metavar": "LOOK"}
    parser.add_argument("--looks", nargs="+", default=[], **inside, help="inside each run, as --mode analyse takes them")
    parser.add_argument("--name", help="of the study; its config's if not given")
    parser.add_argument("--known", type=Path, metavar="FILE", help="a table of this config, JSON, whose runs are not done again")
    args = parser.parse_args()
    file, _, variant = args.config.partition(":")
    config = Path(file).stem + (f":{variant}" if variant else "")
    name = args.name or config.replace(":", "-")
    results, known = {}, {}
    if args.known:
        try:
            table = json.loads(args.known.read_text())
            of, known, settings = (table["config"], table["changes"]), table["runs"], table.get("settings", {})
        except (OSError, ValueError, KeyError, TypeError):
            parser.error(f"--known {args.known}: give a study-NAME.json that this command wrote")
        if of != (config, dict(args.set)):
            parser.error(f"--known {args.known}: a table of {of[0]} with {of[1]}, not of {config} with {dict(args.set)}")
        if changed := runs.changed(settings, runs.settings(config, of[1])):
            parser.error(f"--known {args.known}: {config} has changed since: {'; '.join(changed)}")
    with runs.alone(args.out / "study" / name):
        for run, result in known.items():
            runs.take_over(args.out / "study" / name / run, result | {"settings": settings})
        for rounding in range(args.roundings):
            for seed in range(args.seeds):
                run = f"seed-{seed}" + ("-plain" if rounding else "")
                overrides = dict(args.set) | {"seed": seed, "device.native_kernels": not rounding}
                results[run] = runs.judged(args.out / "study" / name / run, config, overrides)
                if args.looks:
                    results[run] = runs.looked_into(args.out / "study" / name / run, args.looks)
                write(name, config, dict(args.set), results, args.out)


def setting(text: str) -> tuple[str, str]:
    """KEY=VALUE -> (KEY, VALUE)."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r}: use KEY=VALUE, such as train.kimg=32")
    return key, value


def write(name: str, config: str, changes: dict[str, str], results: dict[str, dict], out: Path) -> None:
    """Prints and writes the table of what there is so far."""
    rows = [{"metric": metric} | summary(metric, values) for metric, values in collected(results).items()]
    told = {run: {key: value for key, value in result.items() if key != "settings"} for run, result in results.items()}
    extra = {"config": config, "changes": changes, "settings": runs.settings(config, changes), "runs": told}
    measure.report(f"study-{name}", rows, list(rows[0]), out, **extra)


def collected(results: dict[str, dict]) -> dict[str, dict[str, float]]:
    """{run: result} -> {metric: {run: value}}, the time of training among them."""
    found = {}
    for run, result in results.items():
        for metric, value in (result["metrics"] | {"train_s": result["train_s"]}).items():
            found.setdefault(metric, {})[run] = value
    return found


def summary(metric: str, values: dict[str, float]) -> dict[str, str | int]:
    """Worst, median and best of {run: value}, and whose the worst is. Where neither end is better, the least comes first."""
    ordered = sorted(values, key=values.get, reverse=metric in SMALLER_IS_BETTER or ERRORS.fullmatch(metric) is not None)
    worst, best = ordered[0], ordered[-1]
    return {
        "worst": f"{values[worst]:.4g}",
        "median": f"{statistics.median(values.values()):.4g}",
        "best": f"{values[best]:.4g}",
        "worst run": worst,
        "runs": len(values),
    }


if __name__ == "__main__":
    main()
