"""Weak scaling over processes on this machine: MultiWorkerMirroredStrategy, the same batch in each worker.

Each worker gets an equal share of the cores, so that one worker and several can be compared; the machine's cores bound the total.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile

from benchmarks import measure

_RATE = re.compile(r"RATE ([\d.]+)")
_WORKER = """
import sys, glob
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import tensorflow as tf
events = EventAccumulator(sys.argv[1] + "/events", size_guidance={"tensors": 0}).Reload()
rates = sorted(float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors("speed/images_per_s"))
print("RATE", rates[len(rates) // 2])
"""


def main() -> None:
    """Runs the benchmark."""
    parser = measure.parser(__doc__)
    parser.add_argument("--workers", default="1,2,4", help="numbers of processes, comma-separated (default 1,2,4)")
    parser.add_argument("--batch", type=int, default=16, help="images per worker and update (default 16)")
    parser.add_argument("--iterations", type=int, default=8, help="per log line; three lines are taken (default 8)")
    parser.add_argument("--data", default="data/blocks32")
    args = parser.parse_args()
    rows, first = [], None
    for workers in (int(w) for w in args.workers.split(",")):
        rate = run(workers, args.batch, args.iterations, args.data)
        first = first or rate / workers
        rows.append({"workers": workers, "images/s": f"{rate:.1f}", "of linear": f"{100 * rate / workers / first:.0f} %"})
    measure.report("scaling", rows, ["workers", "images/s", "of linear"], args.out, batch_per_worker=args.batch)


def run(workers: int, batch: int, iterations: int, data: str) -> float:
    """Images a second over all workers, each in a process of its own with one thread."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    cluster = {"worker": [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]}
    for s in sockets:
        s.close()
    kimg = workers * batch * iterations / 1000
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable, "main.py", "--config", "configs/hologan_blocks.py", f"--workdir={scratch}", f"--config.data.dir={data}",
            f"--config.train.batch_size={workers * batch}", f"--config.train.kimg={4 * kimg}", f"--config.train.log_kimg={kimg}",
            "--config.train.sample_kimg=1e6", "--config.train.checkpoint_kimg=1e6", "--config.device.threads=1",
            "--config.device.strategy=multi_worker", "--config.generate.seeds=(0,)", "--config.generate.frames=4",
        ]  # fmt: skip
        processes = []
        for index in range(workers):
            task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
            environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
            processes.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            )
        errors = [p.communicate()[1] for p in processes]
        if any(p.returncode for p in processes):
            raise SystemExit("\n".join(errors))
        done = subprocess.run([sys.executable, "-c", _WORKER, scratch], text=True, capture_output=True, check=True)
        return float(_RATE.search(done.stdout)[1])


if __name__ == "__main__":
    main()
