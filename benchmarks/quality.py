"""Time to quality: seconds of training until a generator is as good as asked for, of several configs.

    python -m benchmarks.quality --data data/blocks32 --seeds 3
    python -m benchmarks.quality --data data/blocks32 --only ours dcgan --bar kid/mean=15 --bar pose/agreed_turn_share=0.958

Each run is `main.py` in OUT/quality/DATA/ROW-SEED, judged every --every thousand images in training. It is there at the first
evaluation that meets all bars, or of a model that cannot turn those that it can be asked about. Seconds are those of training
alone, at the median rate: give it a machine that does nothing else. What is finished is not done again, and a killed run goes on
from its checkpoint: give the same command again. The curves of KID over seconds are OUT/quality-DATA.png, which asks for
matplotlib: pip install 'holotf[plot]'.
"""

import argparse
import math
import statistics
from pathlib import Path

from benchmarks import curves, measure, runs
from configs import base
from holotf import evaluators

PUBLISHED = {f"{section}.{key}": value for section, values in base.PUBLISHED.items() for key, value in values.items()}
ROWS = {  # {row: (config, what it changes)}, at the same width, rates and number of images
    "ours": ("hologan_blocks", {}),
    "published": ("hologan_blocks", PUBLISHED),
    "dcgan": ("dcgan_blocks", {}),
}
BARS = (("kid/mean", 15.0), ("pose/agreed_turn_share", 46 / 48))
SHOWN = "kid/mean"


def main() -> None:
    """Runs what is asked for."""
    parser = measure.parser(__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data/blocks32"), help="what data_prep blocks wrote, 32 px")
    runs.add_flags(parser, list(ROWS))
    parser.add_argument("--kimg", type=float, default=64.0, help="thousand images that each run is trained on (default 64)")
    parser.add_argument("--every", type=float, default=8.0, help="thousand images from one evaluation to the next (default 8)")
    parser.add_argument("--images", type=int, default=2000, help="made ones that KID is taken of (default 2000)")
    parser.add_argument("--bar", action="append", type=bar, metavar="METRIC=VALUE", help="to be met; may repeat")
    args = parser.parse_args()
    bars, folder = dict(args.bar or BARS), args.out / "quality" / args.data.name
    overrides = {"data.dir": args.data, "train.kimg": args.kimg, "evaluate.kimg": args.every, "evaluate.images": args.images}
    for found in runs.of_seeds(folder, {name: ROWS[name] for name in args.only}, args.seeds, overrides):
        write({name: with_evaluations(folder, results) for name, results in found.items()}, bars, args)


def bar(text: str) -> tuple[str, float]:
    """METRIC=VALUE -> (METRIC, VALUE); which end is the better one the metric knows."""
    metric, _, value = text.partition("=")
    if metric not in evaluators.better():
        raise argparse.ArgumentTypeError(f"{text!r}: use METRIC=VALUE, the metric one of {', '.join(evaluators.better())}")
    try:
        return metric, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: use METRIC=VALUE, such as kid/mean=15") from None


def with_evaluations(folder: Path, results: dict[str, dict]) -> dict[str, dict]:
    """{run: result}, and to each result its `evaluations`."""
    return {
        run: result | {"evaluations": timed(curves.read(folder / run), result["images_per_s"])} for run, result in results.items()
    }


def timed(evaluations: dict[int, dict[str, float]], images_per_s: float) -> list[dict[str, float]]:
    """A run's evaluations with the seconds of training before each, in their order."""
    return [{"seconds": images / images_per_s, "images": images} | metrics for images, metrics in evaluations.items()]


def reached(evaluations: list[dict[str, float]], bars: dict[str, float]) -> dict[str, float] | None:
    """The first evaluation that meets all bars of what was measured; None where none does."""
    better = evaluators.better()

    def meets(metrics):
        return all(metrics[name] == better[name](metrics[name], bars[name]) for name in asked(metrics, bars))

    return next(filter(meets, evaluations), None)


def asked(metrics: dict[str, float], bars: dict[str, float]) -> list[str]:
    """The bars whose metric was measured.

    Raises:
      SystemExit: none was.
    """
    measured = [name for name in bars if name in metrics]
    if not measured:
        raise SystemExit(f"error: none of {', '.join(bars)} was measured: use --bar with one of {', '.join(metrics)}")
    return measured


def row(name: str, results: dict[str, dict], bars: dict[str, float]) -> dict[str, str | int]:
    """One line of the table, of {run: result}: a run that never gets there counts as infinitely long."""
    there = [reached(result["evaluations"], bars) for result in results.values()]
    seconds = [math.inf if e is None else e["seconds"] for e in there]
    kimg = [math.inf if e is None else e["images"] / 1000 for e in there]
    at_end = [result["evaluations"][-1][SHOWN] for result in results.values()]
    return {
        "row": name,
        "bars": len(asked(next(iter(results.values()))["evaluations"][-1], bars)),
        "reached": f"{sum(map(math.isfinite, seconds))} of {len(seconds)}",
        "worst s": told(max(seconds)),
        "median s": told(statistics.median(seconds)),
        "median kimg": told(statistics.median(kimg)),
        "images/s": told(statistics.median(result["images_per_s"] for result in results.values())),
        "KID at the end, worst": f"{max(at_end):.1f}",
        "median": f"{statistics.median(at_end):.1f}",
    }


def told(value: float) -> str:
    """A whole number; "never" for infinity."""
    return f"{value:.0f}" if math.isfinite(value) else "never"


def write(found: dict[str, dict], bars: dict[str, float], args: argparse.Namespace) -> None:
    """Prints and writes the table and the curves of what there is so far."""
    rows, title = [row(name, results, bars) for name, results in found.items()], f"quality-{args.data.name}"
    measure.report(title, rows, list(rows[0]), args.out, data=str(args.data), bars=bars, runs=found)
    lines = {name: [_line(r["evaluations"], results) for r in results.values()] for name, results in found.items()}
    curves.draw(lines, args.out / f"{title}.png", "seconds of training", "KID x 100")


def _line(evaluations, results):
    """{seconds at the median rate of the row's runs: KID}, so that all seeds have their points at the same seconds."""
    rate = statistics.median(result["images_per_s"] for result in results.values())
    return {e["images"] / rate: e[SHOWN] for e in evaluations}


if __name__ == "__main__":
    main()
