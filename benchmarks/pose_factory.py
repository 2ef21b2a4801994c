"""A HoloGAN as a factory of labelled views: how well poses of real images are read by what learnt from its images.

    python -m benchmarks.pose_factory --run runs/hologan_blocks
    python -m benchmarks.pose_factory --run runs/hologan_chairs --target data/chairs64 --only generated dann real --kimg 64

RUN/saved_model draws as many images as --count says, and each row of the table is a pose estimator, `main.py` in
OUT/pose_factory/RUN-DIGEST/ROW-SEED, trained and then judged, in a process of its own. What is finished is not done again, and a
killed run goes on from its checkpoint: give the same command again. DIGEST is of the export's weights.

Errors are of azimuths on the target's test images, in degrees. `as read` does without a fit. What learns from a generator's
images learns the generator's zero and sense; these are fitted to K labelled images of the target (columns 10 and 50: means over 100
draws of so many), or, where there are none, left open: the column 0 has them fitted to the judged images themselves, the best
that any zero and sense would do, and needs their labels to be told. The rows real-K learn from K labelled images alone.
"""

import hashlib
import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import measure, runs
from holotf.errors import UserError

LABELS = (10, 50)
FEW = tuple(f"real-{count}" for count in LABELS)
ROWS = ("generated", "dann", "pixelda", *FEW, "real")
USUAL = tuple(row for row in ROWS if row != "pixelda")
COLUMNS = {
    "as read": "azimuth_mae_deg",
    "0": "open/azimuth_mae_deg",
    **{str(count): f"fitted_{count}/azimuth_mae_deg" for count in LABELS},
    "median, 0": "open/azimuth_median_deg",
    "surer half, 0": "sure_azimuth_mae_deg",
    "flipped %, 0": "open/flip_share",
    "elevation": "elevation_mae_deg",
    "A-distance": "a_distance",
}


def main() -> None:
    """Runs what is asked for."""
    parser = measure.parser(__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="folder of a trained HoloGAN")
    parser.add_argument("--target", type=Path, default=Path("data/blocks32"), help="real images with poses, that data_prep wrote")
    parser.add_argument("--count", type=int, default=12_500, help="images that are drawn, a fifth of them test (default 12500)")
    runs.add_flags(parser, ROWS, USUAL)
    parser.add_argument("--kimg", type=float, default=160.0, help="thousand images of each domain to train on (default 160)")
    args = parser.parse_args()
    try:
        folder = args.out / "pose_factory" / f"{args.run.absolute().name}-{digest(args.run / 'saved_model')}"
    except UserError as error:
        parser.error(str(error))
    with runs.alone(folder):
        source = drawn(args.run / "saved_model", args.count, folder)
    overrides = {"data.sources.source.dir": source, "data.sources.target.dir": args.target, "model.image_size": size(source)}
    for found in runs.of_seeds(folder, {row: experiment(row, args.kimg) for row in args.only}, args.seeds, overrides):
        table = rows(found)
        about = {"run": str(args.run), "target": str(args.target), "runs": found}
        measure.report(f"pose_factory-{folder.name}", table, list(table[0]), args.out, **about)


def digest(exported: Path) -> str:
    """Of an export's weights, eight characters.

    Raises:
      UserError: there is no export.
    """
    parts = sorted((exported / "variables").glob("variables.data-*"))
    if not parts:
        raise UserError(f"--run {exported.parent}: {exported} holds no SavedModel: train it, or use --mode export")
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:8]


def drawn(exported: Path, count: int, folder: Path) -> Path:
    """The data set that an export draws, made where it is missing."""
    out = folder / f"generated-{count}"
    flags = [f"--model={exported}", f"--count={count}", "--test=20%", f"--out={out}"]
    command = [sys.executable, "-m", "data_prep", "generated", *flags]
    if code := subprocess.run(command, check=False).returncode:
        raise SystemExit(code)
    return out


def size(data: Path) -> int:
    """Of its images, px."""
    features = json.loads((data / "features.json").read_text(encoding="utf-8"))["featuresDict"]["features"]
    return int(features["image"]["image"]["shape"]["dimensions"][0])


def experiment(row: str, kimg: float) -> tuple[str, dict[str, object]]:
    """(config, what of it is changed) of a row.

    Few labels are all in one batch, or nearly so, and are learnt by heart in a quarter of the updates.
    """
    if row not in FEW:
        return f"pose_factory:{row}", {"train.kimg": kimg, "data.sources.target.split": "train"}
    count = int(row.removeprefix("real-"))
    batch = min(count, 32)
    few = {"train.batch_size": batch, "train.kimg": kimg / 4 * batch / 32, "data.sources.target.split": f"train[:{count}]"}
    return "pose_factory:real", few | {"train.checkpoint_kimg": 1e6, "train.sample_kimg": 1e6}


def rows(found: dict[str, dict[str, dict]]) -> list[dict[str, str | int]]:
    """The table, of {row: {run: result}}: medians over runs, the worst of what a row is judged by, and chance.

    What learns from labels has their zero and sense, and is judged as it is read, the others with both open (column 0).
    """
    told = []
    for name, results in found.items():
        metrics = [result["metrics"] for result in results.values()]
        row = {"row": name}
        for column, metric in COLUMNS.items():
            values = [m[f"pose_estimate/{metric}"] for m in metrics if f"pose_estimate/{metric}" in m]
            row[column] = _shown(values, 100 if "share" in metric else 1, 2 if metric == "a_distance" else 1)
            if column == "0":
                judged = COLUMNS["as read" if name.startswith("real") else column]
                row["worst"] = f"{max(m[f'pose_estimate/{judged}'] for m in metrics):.1f}"
        told.append(row | {"runs": len(results), "train s": f"{statistics.median(r['train_s'] for r in results.values()):.0f}"})
    chance = next(iter(next(iter(found.values())).values()))["metrics"]
    azimuth, elevation = (f"{chance[f'pose_estimate/chance_{name}_mae_deg']:.1f}" for name in ("azimuth", "elevation"))
    return [*told, dict.fromkeys(told[0], "") | {"row": "chance", "0": azimuth, "elevation": elevation}]


def _shown(values, factor, places):
    return f"{factor * statistics.median(values):.{places}f}" if values else ""


if __name__ == "__main__":
    main()
