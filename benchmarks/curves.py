"""What the evaluations of runs found in the course of training, and pictures of it."""

import json
import statistics
from pathlib import Path


def read(run: Path) -> dict[int, dict[str, float]]:
    """A run's evaluations in the order of training, {images shown: metrics}; of images judged twice, after a resume, the last."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    by_images = {line.pop("images"): line for line in lines}
    return {images: by_images[images] for images in sorted(by_images)}


def draw(curves: dict[str, list[dict[float, float]]], path: Path, x: str, y: str) -> None:
    """Curves of several seeds each as PNG: the median, and a band from the least to the greatest, where all seeds have a point.

    Args:
      curves: {name: a dict {x: y} for each seed}.
      path: of the PNG.
      x, y: what the axes say.
    """
    from matplotlib.figure import Figure  # here, since the tables need none

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, seeds in curves.items():
        shared = sorted(set.intersection(*map(set, seeds)))
        values = [[seed[at] for seed in seeds] for at in shared]
        (line,) = axes.plot(shared, list(map(statistics.median, values)), marker=".", label=name)
        axes.fill_between(shared, list(map(min, values)), list(map(max, values)), color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel=x, ylabel=y)
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    temporary = path.with_suffix(".tmp")
    figure.savefig(temporary, format="png", dpi=150)
    temporary.replace(path)
