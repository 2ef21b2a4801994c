"""From one domain to another: DANN and PixelDA between their bounds, over seeds.

    python -m benchmarks.domains --seeds 3
    python -m benchmarks.domains --source data/usps32 --target data/mnist_m32 --only source dann target --share 0.5

Each run is `main.py` in OUT/domains/SOURCE-TARGET/METHOD-SEED, trained and then judged, in a process of its own. What is finished
is not done again, and a killed run goes on from its checkpoint: give the same command again.

Accuracy is on the target's test images. The checkpoint of each run is the one that `domain/information` likes best, which reads no
label of the target; beside it stand the last one, and the one that its labels would have chosen.
"""

import argparse
import math
import statistics
from pathlib import Path

from benchmarks import curves, measure, runs

METHODS = ("source", "dann", "pixelda", "target")  # variants of configs/domains_digits.py, between the two bounds
CRITERION, METRIC = "domain/information", "accuracy/top1"
SHOWN = {"A-distance": "domain/a_distance", "source": "domain/source_accuracy"}  # columns of the chosen checkpoint


def main() -> None:
    """Runs what is asked for."""
    parser = measure.parser(__doc__.partition("\n")[0])
    for domain, kind in (("source", "mnist"), ("target", "mnist_m")):
        parser.add_argument(f"--{domain}", type=Path, default=Path(f"data/{kind}32"), help="a folder that data_prep wrote, 32 px")
    runs.add_flags(parser, METHODS)
    parser.add_argument("--share", type=float, default=1.0, help="of the configs' train.kimg to train on (default 1: all)")
    args = parser.parse_args()
    pair = f"{args.source.name}-{args.target.name}"
    folder, methods = args.out / "domains" / pair, {method: experiment(method, args.share) for method in args.only}
    overrides = {f"data.sources.{name}.dir": getattr(args, name) for name in ("source", "target")}
    for found in runs.of_seeds(folder, methods, args.seeds, overrides):
        write(pair, {method: with_choices(folder, results) for method, results in found.items()}, args)


def experiment(method: str, share: float) -> tuple[str, dict[str, object]]:
    """(config, what of it is changed) of a method that trains for a share of its usual length."""
    config = f"domains_digits:{method}"
    return config, {} if share == 1 else {"train.kimg": share * measure.config(config).train.kimg}


def with_choices(folder: Path, results: dict[str, dict]) -> dict[str, dict]:
    """{run: result}, and to each result its `choices`."""
    return {run: result | {"choices": choices(list(curves.read(folder / run).values()))} for run, result in results.items()}


def choices(found: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """The evaluation of the checkpoint that is taken: `chosen` without the target's labels, `last`, and `labels` with them."""
    return {
        "chosen": max(found, key=lambda line: line[CRITERION]),
        "last": found[-1],
        "labels": max(found, key=lambda line: line[METRIC]),
    }


def rows(found: dict[str, dict[str, dict]]) -> list[dict[str, str | int]]:
    """The table, of {method: {run: result}}: a method a row, accuracies in %."""
    told = {}
    for method, results in found.items():
        picked = {name: [r["choices"][name][METRIC] for r in results.values()] for name in ("chosen", "last", "labels")}
        least, middle, most = (100 * of(picked["chosen"]) for of in (min, statistics.median, max))
        told[method] = {
            "method": method,
            "worst": f"{least:.1f}",
            "median": f"{middle:.1f}",
            "best": f"{most:.1f}",
            "of the gap": middle,
            "last": f"{100 * statistics.median(picked['last']):.1f}",
            "by labels": f"{100 * statistics.median(picked['labels']):.1f}",
        }
        for column, metric in SHOWN.items():
            values = [r["choices"]["chosen"][metric] for r in results.values() if metric in r["choices"]["chosen"]]
            told[method][column] = f"{statistics.median(values):.2f}" if values else ""
        told[method] |= {"runs": len(results), "train s": f"{statistics.median(r['train_s'] for r in results.values()):.0f}"}
    low, high = (told[bound]["of the gap"] if bound in told else math.nan for bound in ("source", "target"))
    for row in told.values():
        closed = (row["of the gap"] - low) / (high - low) if high > low else math.nan
        row["of the gap"] = "" if math.isnan(closed) else f"{100 * closed:.0f}"
    return list(told.values())


def write(pair: str, found: dict[str, dict[str, dict]], args: argparse.Namespace) -> None:
    """Prints and writes the table of what there is so far."""
    table = rows(found)
    measure.report(f"domains-{pair}", table, list(table[0]), args.out, source=str(args.source), target=str(args.target), runs=found)


if __name__ == "__main__":
    main()
