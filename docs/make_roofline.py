"""Draws docs/images/roofline.svg from a result of `python -m benchmarks.step`.

    python docs/make_roofline.py docs/benchmarks/step.json

Standard library only. Horizontally FLOPs per byte, as benchmarks/measure.py counts them; vertically GFLOP/s; both logarithmic.
"""

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path

PICTURE = Path(__file__).parent / "images" / "roofline.svg"
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 460, 80, 30, 30, 60
X_RANGE, Y_RANGE = (0.5, 500.0), (5.0, 3000.0)
INK, GRID = "#1f2933", "#d9e0e7"
COLOURS = {"float32": "#4f8fd0", "mixed_bfloat16": "#cf4b4b"}


def place(x: float, y: float) -> tuple[float, float]:
    """Data -> pixels."""
    across = math.log(x / X_RANGE[0]) / math.log(X_RANGE[1] / X_RANGE[0])
    up = math.log(y / Y_RANGE[0]) / math.log(Y_RANGE[1] / Y_RANGE[0])
    return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def line(points: Iterable[tuple[float, float]], colour: str, width: float = 1.5, dash: str = "") -> str:
    """A polyline through data points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in points))
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}"/>'


def text(x: float, y: float, words: object, anchor: str = "start", colour: str = INK, turn: str = "") -> str:
    """Words at pixels."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" transform="{turn}">{words}</text>'


def draw(result: dict) -> str:
    """The picture of a parsed step.json, as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for x in (1, 10, 100):
        parts += [line([(x, Y_RANGE[0]), (x, Y_RANGE[1])], GRID), text(place(x, 1)[0], HEIGHT - BOTTOM + 18, x, "middle")]
    for y in (10, 100, 1000):
        parts += [line([(X_RANGE[0], y), (X_RANGE[1], y)], GRID), text(LEFT - 8, place(1, y)[1] + 4, y, "end")]
    for precision, runs in result["ours"].items():
        colour, kind = COLOURS[precision], precision.removeprefix("mixed_")
        best = min(runs, key=lambda r: r["fastest_s"])
        bandwidth = max(r["ceilings"]["copy_gbytes_per_s"] for r in runs)
        ceiling = max(r["ceilings"][f"{k}_{kind}_gflops"] for r in runs for k in ("matmul", "conv"))
        roof = [(X_RANGE[0], max(bandwidth * X_RANGE[0], Y_RANGE[0])), (ceiling / bandwidth, ceiling), (X_RANGE[1], ceiling)]
        flops, traffic = sum(best["flops"].values()), sum(best["bytes"].values())
        x, y = flops / traffic, flops / best["fastest_s"] / 1e9
        px, py = place(x, y)
        parts += [
            line(roof, colour, 2),
            text(WIDTH - RIGHT - 4, place(1, ceiling)[1] - 6, f"{kind} products: {ceiling:.0f} GFLOP/s", "end", colour),
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="6" fill="{colour}"/>',
            text(px + 10, py + 4, f"one iteration, {kind}: {y:.0f} GFLOP/s", colour=colour),
        ]
    parts += [
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "FLOPs per byte read or written by the graph's operations", "middle"),
        text(0, 0, "GFLOP/s", "middle", turn=f"translate(24 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(draw(json.loads(Path(sys.argv[1]).read_text())))
