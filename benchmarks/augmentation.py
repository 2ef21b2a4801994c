"""What augmentation, the rate's course and a deeper network do to a classifier: accuracy over seeds, time, and curves.

    python -m benchmarks.augmentation --seeds 3
    python -m benchmarks.augmentation --data data/mine --kimg 100 --only baseline small improved

Each run is `main.py` in OUT/augmentation/DATA/ROW-SEED, trained and then judged on the test images. What is finished is not done
again, and a killed run goes on from its checkpoint: give the same command again. The curves are OUT/augmentation-DATA.png, which
asks for matplotlib: pip install 'holotf[plot]'.
"""

import argparse
import statistics
from pathlib import Path

from benchmarks import curves, measure, runs

# {row: (config, what it changes)}: each but the last changes one thing of the baseline.
ROWS = {
    "baseline": ("classifier_cifar10:baseline", {}),
    "small": ("classifier_cifar10:baseline", {"train.augmentation": "small"}),
    "significant": ("classifier_cifar10:baseline", {"train.augmentation": "significant"}),
    "halved": (
        "classifier_cifar10:baseline",
        {"optim.decay": "step", "optim.decay_epochs": 1.0, "optim.decay_factor": 0.5},
    ),
    "improved": ("classifier_cifar10:improved", {}),
}
METRIC = "accuracy/top1"


def main() -> None:
    """Runs the study."""
    parser = measure.parser(__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data/cifar32"), help="a folder that data_prep wrote, with labels")
    runs.add_flags(parser, list(ROWS))
    parser.add_argument("--kimg", type=float, help="thousand images that each run is trained on; its config's if not given")
    args = parser.parse_args()
    folder = args.out / "augmentation" / args.data.name
    overrides = {"data.dir": args.data} | ({} if args.kimg is None else {"train.kimg": args.kimg})
    for found in runs.of_seeds(folder, {name: ROWS[name] for name in args.only}, args.seeds, overrides):
        write(found, {name: [by_images(folder / run) for run in results] for name, results in found.items()}, args)


def by_images(run: Path) -> dict[int, float]:
    """{images shown: accuracy on the test images} of a run."""
    return {images: metrics[METRIC] for images, metrics in curves.read(run).items()}


def row(name: str, results: dict[str, dict], accuracies: list[dict[int, float]]) -> dict[str, str | int]:
    """One line of the table, of {run: result} and of each run's test accuracies, {images shown: accuracy}."""
    config, changes = ROWS[name]
    found = [100 * result["metrics"][METRIC] for result in results.values()]

    def median(what):
        return f"{statistics.median(result[what] for result in results.values()):.0f}"

    return {
        "row": name,
        "config": config,
        "changes": ", ".join(f"{key}={value}" for key, value in changes.items()),
        "worst %": f"{min(found):.1f}",
        "median %": f"{statistics.median(found):.1f}",
        "best %": f"{max(found):.1f}",
        "runs": len(found),
        "kimg": f"{max(map(max, accuracies)) / 1000:g}",
        "train s": median("train_s"),
        "images/s": median("images_per_s"),
    }


def write(found: dict[str, dict], accuracies: dict[str, list[dict[int, float]]], args: argparse.Namespace) -> None:
    """Prints and writes the table and the curves of what there is so far."""
    rows = [row(name, results, accuracies[name]) for name, results in found.items()]
    title = f"augmentation-{args.data.name}"
    measure.report(title, rows, list(rows[0]), args.out, data=str(args.data), runs=found, curves=accuracies)
    lines = {
        name: [{images / 1000: 100 * value for images, value in seed.items()} for seed in seeds]
        for name, seeds in accuracies.items()
    }
    curves.draw(lines, args.out / f"{title}.png", "thousand images shown", "accuracy on test images, %")


if __name__ == "__main__":
    main()
