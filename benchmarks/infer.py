"""A turning sequence of 36 views from a SavedModel, in a process without our model code: images a second."""

import json
import subprocess
import sys
import tempfile

_CLIENT = """
import json, sys, time
import numpy as np, tensorflow as tf
folder, views, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
served = tf.saved_model.load(folder).signatures["generate"]
z = tf.constant(np.random.default_rng(0).uniform(-1, 1, (1, served.structured_input_signature[1]["z"].shape[1])), tf.float32)
column = lambda values: tf.constant(np.broadcast_to(values, [views]).copy(), tf.float32)
feeds = dict(z=z, azimuth_deg=column(np.arange(views) * 360 / views), elevation_deg=column(20),
             scale=column(1), translation=tf.zeros([views, 3]))
durations = []
for _ in range(repeats + 2):
    start = time.perf_counter()
    served(**feeds)["images"].numpy()
    durations.append(time.perf_counter() - start)
print("RESULT", json.dumps(durations[2:]))
"""


def main() -> None:
    """Runs the benchmark."""
    from benchmarks import measure
    from configs import base
    from holotf import devices, export, models

    parser = measure.parser(__doc__)
    parser.add_argument("--saved-model", help="an exported model (default: a new one of configs/base.py:published in bfloat16)")
    parser.add_argument("--views", type=int, default=36)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.saved_model
        if not folder:
            config = base.get_config("published")
            config.device.precision = "mixed_bfloat16"
            devices.configure(config.device)
            folder = export.export(models.build(config), f"{scratch}/saved_model")
        done = subprocess.run(
            [sys.executable, "-c", _CLIENT, folder, str(args.views), str(args.repeats)], text=True, capture_output=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr)
    durations = json.loads(done.stdout.rpartition("RESULT ")[2])
    rate = args.views / sorted(durations)[len(durations) // 2]
    row = {
        "what": args.saved_model or "configs/base.py:published, mixed_bfloat16",
        "ms a sequence": measure.spread(durations),
        "images/s": f"{rate:.1f}",
        "of real time at 25 images/s": f"{rate / 25:.1f} x",
    }
    measure.report("infer", [row], list(row), args.out)


if __name__ == "__main__":
    main()
