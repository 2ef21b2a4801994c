"""The training iteration: time, rate, memory, the share of the machine's ceiling; and a peer beside it, pair by pair.

    python -m benchmarks.step --peer SCRIPT --peer-python /path/to/python

Every measurement is a process of its own. A peer is a script that prints lines with "LABEL: X s/step Y img/s"; what it prints for
`fp32` is set against our float32, everything else against our mixed_bfloat16. Both sides give their fastest step: on a shared
machine the slower ones tell of the neighbours.
"""

import json
import os
import re
import resource
import shlex
import statistics
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

from benchmarks import measure
from holotf import devices, models

PRECISIONS = ("float32", "mixed_bfloat16")
_LINE = re.compile(r"(.+?): ([\d.]+) s/step")


def main() -> None:
    """Runs the benchmark."""
    parser = measure.parser(__doc__.partition("\n")[0])
    parser.add_argument(
        "--config",
        default="base:published",
        metavar="NAME[:VARIANT]",
        help="a file of configs/ (default base:published: HoloGAN as released, 64 px, gf = df = 64, 1 D + 2 G)",
    )
    parser.add_argument("--batch", type=int, help="images per update, instead of the config's")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=2, help="how often ours and the peer take turns (default 2)")
    parser.add_argument("--peer", help="script of a peer; it is given the argument `compile`")
    parser.add_argument("--peer-python", default=sys.executable, help="the Python the peer runs in")
    parser.add_argument("--no-kernels", action="store_true", help="do without our own CPU kernels, as where no C++ compiler is")
    parser.add_argument("--one", choices=PRECISIONS, help="measure this precision in this process and print JSON")
    args = parser.parse_args()
    if args.one:
        print("RESULT " + json.dumps(one(args.config, args.one, args.repeats, not args.no_kernels, args.batch)), flush=True)
        return
    ours, peers = {p: [] for p in PRECISIONS}, {}
    for _ in range(args.pairs if args.peer else 1):
        for precision in PRECISIONS:
            ours[precision].append(_run_one(args, precision))
        if args.peer:
            for label, *measured in _run_peer(args.peer_python, args.peer):
                peers.setdefault(label, []).append(measured)
    rows = [_row(precision, runs) for precision, runs in ours.items()]
    for label, runs in peers.items():
        against = ours["float32" if "fp32" in label else "mixed_bfloat16"]
        ratios = [s / run["fastest_s"] for (s, *_), run in zip(runs, against, strict=True)]
        rows.append(
            {
                "what": f"peer: {label}",
                "s/iteration": " / ".join(f"{s:.3f}" for s, *_ in runs),
                "peak GiB": f"{max(peak for _, peak, _ in runs):.2f}",
                "anonymous GiB": f"{max(anonymous for *_, anonymous in runs):.2f}",
                "ours is faster by": " / ".join(f"{r:.2f} x" for r in ratios),
            }
        )
    columns = [
        "what",
        "s/iteration",
        "median",
        "images/s",
        "GFLOP/iteration",
        "GFLOP/s",
        "of ceiling",
        "peak GiB",
        "anonymous GiB",
        "ours is faster by",
    ]
    measure.report("step", rows, columns, args.out, config=args.config, batch=args.batch, ours=ours, peers=peers)


def one(config: str, precision: str, repeats: int, kernels: bool = True, batch: int | None = None) -> dict:
    """Measures one precision in this process, `batch` images per update or as many as the config says.

    Returns:
      Dict: fastest_s, median_s, batch_size, flops and bytes by op type, ceilings, peak_gib (of the whole process), anonymous_gib
      (of that, what is not pages of files).
    """
    config = measure.config(config)
    config.device.precision, config.device.native_kernels = precision, kernels
    config.train.batch_size = batch or config.train.batch_size
    devices.configure(config.device)
    keras.utils.set_random_seed(config.seed)
    model = models.build(config)
    size, batch = config.model.image_size, config.train.batch_size
    images = {"image": tf.constant(np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)), tf.uint8)}
    step = tf.function(devices.compiled(config.device, 1, model.train_step), autograph=False)
    with measure.anonymous(os.getpid()) as anonymous:
        durations = measure.seconds(lambda: {k: float(v) for k, v in step(images).items()}, repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    flops, traffic = measure.work(step.get_concrete_function(images))
    return {
        "fastest_s": min(durations),
        "median_s": statistics.median(durations),
        "durations_s": durations,
        "batch_size": batch,
        "peak_gib": peak,
        "anonymous_gib": anonymous["gib"],
        "flops": flops,
        "bytes": traffic,
        "ceilings": measure.ceilings(),
    }


def _run_one(args, precision):
    command = [sys.executable, "-m", "benchmarks.step", "--config", args.config, "--one", precision, "--repeats", str(args.repeats)]
    command += ["--no-kernels"] if args.no_kernels else []
    command += ["--batch", str(args.batch)] if args.batch else []
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.rpartition("RESULT ")[2])


def _run_peer(python, script):
    """[(label, seconds of an iteration, peak GiB of the whole process, of which anonymous)] as the script printed them."""
    with subprocess.Popen([*shlex.split(python), script, "compile"], text=True, stdout=subprocess.PIPE) as process:
        with measure.anonymous(process.pid) as anonymous:
            text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{python} {script} failed with exit code {process.returncode}; what it needs is said above")
    return [(label.strip(), float(s), usage.ru_maxrss / 2**20, anonymous["gib"]) for label, s in _LINE.findall(text)]


def _row(precision, runs):
    best = min(runs, key=lambda r: r["fastest_s"])
    kind = precision.removeprefix("mixed_")
    flops = sum(best["flops"].values())
    ceiling = max(r["ceilings"][f"{k}_{kind}_gflops"] for r in runs for k in ("matmul", "conv"))
    rate = flops / best["fastest_s"] / 1e9
    return {
        "what": f"holotf {precision}",
        "s/iteration": " / ".join(f"{r['fastest_s']:.3f}" for r in runs),
        "median": " / ".join(f"{r['median_s']:.3f}" for r in runs),
        "images/s": f"{best['batch_size'] / best['fastest_s']:.1f}",
        "GFLOP/iteration": f"{flops / 1e9:.0f}",
        "GFLOP/s": f"{rate:.0f}",
        "of ceiling": f"{100 * rate / ceiling:.0f} % of {ceiling:.0f}",
        "peak GiB": f"{max(r['peak_gib'] for r in runs):.2f}",
        "anonymous GiB": f"{max(r['anonymous_gib'] for r in runs):.2f}",
    }


if __name__ == "__main__":
    main()
