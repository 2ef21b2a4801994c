"""HoloGAN's Table 1 on your images: every model for the same number of images, judged by one extractor and one protocol.

    python -m benchmarks.table1 --data data/blocks32 --kimg 64 --seeds 2

Each run is `main.py` in OUT/table1/DATA/KIMG/CONFIG-SEED, trained and then evaluated. What is finished is not done again, and a
killed run goes on from its checkpoint: give the same command again. MODEL=CONFIG takes another config for a model, as in
`--models dcgan hologan=hologan_chairs`.
"""

from pathlib import Path

from ml_collections import ConfigDict

from benchmarks import measure, runs
from holotf import data

CONFIGS = {
    "dcgan": "dcgan_blocks",
    "lsgan": "dcgan_blocks:lsgan",
    "wgan_gp": "dcgan_blocks:wgan_gp",
    "vae": "vae_blocks",
    "hologan": "hologan_blocks",
}
# Nguyen-Phuoc et al. 2019, Table 1: KID x 100 on Inception's features, 64 px.
PUBLISHED = {
    "dcgan": ("1.81 ± 0.09", "6.36 ± 0.16", "4.78 ± 0.11"),
    "lsgan": ("1.77 ± 0.06", "6.72 ± 0.19", "4.99 ± 0.13"),
    "wgan_gp": ("1.63 ± 0.09", "9.43 ± 0.24", "15.57 ± 0.29"),
    "hologan": ("2.87 ± 0.09", "1.54 ± 0.07", "2.16 ± 0.09"),
}


def main() -> None:
    """Runs the benchmark."""
    parser = measure.parser(__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder that data_prep wrote")
    parser.add_argument("--models", nargs="+", default=list(CONFIGS), metavar="MODEL[=CONFIG]", help=f"of {', '.join(CONFIGS)}")
    parser.add_argument("--kimg", type=float, default=64.0, help="thousand real images that each model sees (default 64)")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (default 3)")
    parser.add_argument("--images", type=int, default=5000, help="real ones and made ones that are compared (default 5000)")
    args = parser.parse_args()
    size = data.open_folder(ConfigDict({"dir": str(args.data), "prepare": "", "split": "train"})).info.features["image"].shape[0]
    configs = {}
    for choice in args.models:
        model, _, config = choice.partition("=")
        if model not in CONFIGS:
            parser.error(f"--models {choice}: use {', '.join(CONFIGS)}, or one of them with =CONFIG")
        configs[model] = config or CONFIGS[model]
    overrides = {
        "data.dir": args.data, "data.prepare": "", "train.kimg": args.kimg, "model.image_size": size,
        "evaluate.kimg": 0.0, "evaluate.images": args.images,
    }  # fmt: skip
    found = {model: [] for model in configs}
    folder = args.out / "table1" / args.data.name
    with runs.alone(folder):
        for seed in range(args.seeds):  # a whole table after each seed
            for model, config in configs.items():
                run = folder / f"{args.kimg:g}kimg" / f"{config.replace(':', '-')}-{seed}"
                found[model].append(runs.judged(run, config, overrides | {"seed": seed}))
    rows = [row(model, results) for model, results in found.items()]
    columns = list(dict.fromkeys(key for r in rows for key in r))
    measure.report(
        f"table1-{args.data.name}",
        rows,
        columns,
        args.out,
        runs=found,
        configs=configs,
        kimg=args.kimg,
        images=args.images,
        data=str(args.data),
    )


def row(model: str, results: list[dict]) -> dict[str, str]:
    """One line of the table: means over the seeds; KID with its spread, over seeds where there are several."""

    def mean(name):
        values = [r["metrics"][name] for r in results if name in r["metrics"]]
        return sum(values) / len(values) if values else None

    def text(name, form):
        return "" if mean(name) is None else format(mean(name), form)

    kids = [r["metrics"]["kid/mean"] for r in results]
    spread = (max(kids) - min(kids)) / 2 if len(kids) > 1 else mean("kid/std")
    celeba, chairs, cars = PUBLISHED.get(model, ("", "", ""))
    return {
        "model": model,
        "KID x 100": f"{mean('kid/mean'):.2f} ± {spread:.2f}",
        "FID": text("fid", ".1f"),
        "diversity": text("diversity", ".2f"),
        "identity": text("identity/ratio", ".2f"),
        "azimuth MAE": text("pose/azimuth_mae_deg", ".1f"),
        "full turns": text("pose/full_turn_share", ".0%"),
        "train s": f"{sum(r['train_s'] for r in results) / len(results):.0f}",
        "images/s": f"{sum(r['images_per_s'] for r in results) / len(results):.0f}",
        "peak GiB": f"{max(r['peak_gib'] for r in results):.2f}",
        "| published: CelebA": f"| {celeba}",
        "Chairs": chairs,
        "Cars": cars,
    }


if __name__ == "__main__":
    main()
