"""The input pipeline alone: images a second from TFRecords, against what a training step consumes."""

import tempfile
import time

import numpy as np
import tensorflow_datasets as tfds

from benchmarks import measure
from configs import base
from holotf import data


class Noise(tfds.core.GeneratorBasedBuilder):
    """PNG images that compress as photographs do: smooth noise."""

    VERSION = tfds.core.Version("1.0.0")
    count, size = 4096, 64

    def _info(self):
        features = tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(self.size, self.size, 3), encoding_format="png")}
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        rng = np.random.default_rng(0)
        for i in range(self.count):
            coarse = rng.integers(0, 256, (self.size // 4, self.size // 4, 3))
            fine = rng.integers(-8, 8, (self.size, self.size, 3))
            yield i, {"image": np.clip(coarse.repeat(4, 0).repeat(4, 1) + fine, 0, 255).astype(np.uint8)}


def main() -> None:
    """Runs the benchmark."""
    parser = measure.parser(__doc__)
    parser.add_argument("--data", help="a folder that data_prep wrote (default: 4,096 made-up images of 64 px)")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        config = base.get_config().data
        config.dir = args.data or _made(scratch)
        stream = iter(data.batches(data.open_sources(config), ("image",), args.size, args.batch, seed=0))
        for _ in range(20):
            next(stream)
        durations = []
        for _ in range(7):
            start = time.perf_counter()
            for _ in range(50):
                next(stream)
            durations.append((time.perf_counter() - start) / 50)
    rates = sorted(args.batch / d for d in durations)
    row = {
        "what": args.data or f"made-up PNG, {args.size} px",
        "images/s": f"{rates[3]:.0f} ({rates[0]:.0f} to {rates[-1]:.0f})",
        "ms a batch": measure.spread(durations),
    }
    measure.report("input", [row], ["what", "images/s", "ms a batch"], args.out)


def _made(folder):
    builder = Noise(data_dir=folder)
    builder.download_and_prepare()
    return str(builder.data_path)


if __name__ == "__main__":
    main()
