"""What augmentation, the rate's course and a deeper network do to a classifier: accuracy over seeds, time, and curves.

    python -m benchmarks.augmentation --seeds 3
    python -m benchmarks.augmentation --data data/mine --kimg 100 --only baseline small improved

Each run is `main.py` in OUT/augmentation/DATA/ROW-SEED, trained and then judged on the test images. What is finished is not done
again, and a killed run goes on from its checkpoint: give the same command again. The curves are OUT/augmentation-DATA.png, which
asks for matplotlib: pip install 'holotf[plot]'.
"""

import argparse
import json
import statistics
from pathlib import Path

from benchmarks import measure, runs

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
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (default 3)")
    parser.add_argument("--kimg", type=float, help="thousand images that each run is trained on; its config's if not given")
    args = parser.parse_args()
    folder, found, curves = args.out / "augmentation" / args.data.name, {}, {}
    overrides = {"data.dir": args.data} | ({} if args.kimg is None else {"train.kimg": args.kimg})
    with runs.alone(folder):
        for seed in range(args.seeds):  # a whole table after each seed
            for name in args.only:
                config, changes = ROWS[name]
                run = folder / f"{name}-{seed}"
                result = runs.judged(run, config, overrides | changes | {"seed": seed})
                found.setdefault(name, {})[run.name] = result
                curves.setdefault(name, []).append(curve(run))
            write(found, curves, args)


def curve(run: Path) -> dict[int, float]:
    """Test accuracy of a run after each of its evaluations: {images shown: accuracy}."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return {line["images"]: line[METRIC] for line in lines}


def row(name: str, results: dict[str, dict], curves: list[dict[int, float]]) -> dict[str, str | int]:
    """One line of the table, of {run: result}."""
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
        "kimg": f"{max(map(max, curves)) / 1000:g}",
        "train s": median("train_s"),
        "images/s": median("images_per_s"),
    }


def write(found: dict[str, dict], curves: dict[str, list[dict[int, float]]], args: argparse.Namespace) -> None:
    """Prints and writes the table and the curves of what there is so far."""
    rows = [row(name, results, curves[name]) for name, results in found.items()]
    name = f"augmentation-{args.data.name}"
    measure.report(name, rows, list(rows[0]), args.out, data=str(args.data), runs=found, curves=curves)
    draw(curves, args.out / f"{name}.png")


def draw(curves: dict[str, list[dict[int, float]]], path: Path) -> None:
    """Test accuracy over images shown: the median of the seeds, and a band from the worst to the best."""
    from matplotlib.figure import Figure  # here, since the table needs none

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, seeds in curves.items():
        shown = sorted(set.intersection(*map(set, seeds)))
        values = [[100 * seed[images] for seed in seeds] for images in shown]
        kimg = [images / 1000 for images in shown]
        (line,) = axes.plot(kimg, list(map(statistics.median, values)), marker=".", label=name)
        axes.fill_between(kimg, list(map(min, values)), list(map(max, values)), color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel="thousand images shown", ylabel="accuracy on test images, %")
    axes.legend()
    axes.grid(alpha=0.3)
    temporary = path.with_suffix(".tmp")
    figure.savefig(temporary, format="png", dpi=150)
    temporary.replace(path)


if __name__ == "__main__":
    main()
