"""The server under load on loopback: requests a second, latency, with and without batching and kept objects.

    python -m benchmarks.serving
    python -m benchmarks.serving --model runs/mine/saved_model --clients 1 8 64 --requests 256

Each request is one view of one of a few objects; a client waits for its answer before it asks again. `predict` is TensorFlow
Serving's JSON, `image` a PNG. Without batching each view is worked on alone; without kept objects its volume is made anew. The
clients are threads of this process on the same machine, so their own work counts too. Every answer is compared with a direct call
of the export; one that is wrong ends the benchmark with exit code 1, after the table. It asks for pip install 'holotf[serve]'.
"""

import contextlib
import http.client
import io
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from benchmarks import measure
from configs import base
from holotf import export, models
from holotf.serving import exported, pictures

OBJECTS = 8  # seeds that are asked for in turn
# {(batching, kept objects): options of the server}
SETTINGS = {
    ("on", "on"): {},
    ("on", "off"): {"volumes_mib": 0},
    ("off", "on"): {"batch": 1, "wait_ms": 0},
    ("off", "off"): {"batch": 1, "wait_ms": 0, "volumes_mib": 0},
}
COLUMNS = ["asked", "batching", "kept objects", "clients", "requests/s", "p50 ms", "p95 ms", "p99 ms", "wrong"]


def main() -> None:
    """Runs the benchmark."""
    parser = measure.parser(__doc__.partition("\n")[0])
    parser.add_argument("--model", help="an export of a model that turns (default: a new one of configs/base.py)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=256, help="of each line of the table (default 256)")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.model or export.export(models.build(base.get_config()), f"{scratch}/saved_model")
        asked = Asked(exported.Exported(folder), args.requests)
        for (batching, kept), options in SETTINGS.items():
            with serving(folder, {"queue": max(args.clients) + 1, **options}) as address:
                for what, clients in itertools.product(asked.kinds, args.clients):
                    measured = load(address, asked.kinds[what], asked.expected, clients)
                    rows.append({"asked": what, "batching": batching, "kept objects": kept, "clients": clients, **measured})
    measure.report(
        "serving", rows, COLUMNS, args.out, model=args.model or "configs/base.py, 64 px, untrained", requests=args.requests
    )
    if any(row["wrong"] for row in rows):
        raise SystemExit("error: answers differ from the direct call")


class Asked:
    """What is asked for: so many views, and what the export itself answers.

    Attributes:
      kinds: {"predict" or "image": a list of (method, path below the model, body or None)}.
      expected: uint8 [n, H, W, 3].
    """

    def __init__(self, model: exported.Exported, n: int):
        if not model.card["views"]:
            raise SystemExit("error: --model: this model does not turn: give the export of one that does")
        generate, latents = (model.endpoints[name] for name in ("generate", "latents"))
        seeds = np.arange(n) % OBJECTS
        z = latents({"seed": np.arange(OBJECTS)})["z"][seeds]
        rests = pictures.image({}, model).others
        views = {key: value.repeat(n, axis=0) for key, value in rests.items()}
        low, high = model.card["views"]["ranges"]["azimuth_deg"]
        views["azimuth_deg"] = np.linspace(low, high, n, endpoint=False, dtype=np.float32)
        rows = [{"z": z[i], **{key: value[i] for key, value in views.items()}} for i in range(n)]
        self.expected = np.concatenate([generate({key: value[np.newaxis] for key, value in row.items()})["images"] for row in rows])
        bodies = [json.dumps({"inputs": {key: [value.tolist()] for key, value in row.items()}}) for row in rows]
        paths = [f"/image?seed={seed}&azimuth_deg={view}" for seed, view in zip(seeds, views["azimuth_deg"], strict=True)]
        self.kinds = {
            "predict": [("POST", ":predict", body) for body in bodies],
            "image": [("GET", path, None) for path in paths],
        }


@contextlib.contextmanager
def serving(folder: str, options: dict[str, float]) -> Iterator[str]:
    """The address of the model, on a server in a process of its own."""
    words = [f"--{key}={value}" for key, value in {"model": folder, "port": 0, **options}.items()]
    with subprocess.Popen([sys.executable, "-m", "holotf.serve", *words], stdout=subprocess.PIPE, text=True) as server:
        try:
            ready = next((line for line in server.stdout if "/v1/models/" in line), None)
            if ready is None:
                raise SystemExit("error: the server did not start")
            yield ready.split()[-1]
        finally:
            server.terminate()


def load(address: str, asked: Sequence[tuple], expected: np.ndarray, clients: int) -> dict[str, str | int]:
    """Asks for everything once, unmeasured, and then again by so many clients at a time.

    Args:
      address: of the model: http://HOST:PORT/v1/models/NAME.
      asked: of `Asked.kinds`.
      expected: uint8 [n, H, W, 3], what the answers have to be.
      clients: that ask at once.

    Returns:
      The last columns of the table; "wrong" counts answers of both rounds.
    """
    first, _, _ = _round(address, asked, clients)
    answers, latencies, wall_s = _round(address, asked, clients)
    p50, p95, p99 = (statistics.quantiles(latencies, n=100, method="inclusive")[p - 1] for p in (50, 95, 99))
    return {
        "requests/s": f"{len(asked) / wall_s:.0f}",
        **{f"{name} ms": f"{value * 1e3:.1f}" for name, value in (("p50", p50), ("p95", p95), ("p99", p99))},
        "wrong": wrong(first, expected) + wrong(answers, expected),
    }


def _round(address, asked, clients):
    """(answers, seconds of each, seconds of all)."""
    host, _, path = address.removeprefix("http://").partition("/")
    todo, answers, latencies = iter(list(enumerate(asked))), [None] * len(asked), [0.0] * len(asked)
    lock, ready = threading.Lock(), threading.Barrier(clients + 1, timeout=60)

    def client():
        with contextlib.closing(http.client.HTTPConnection(host, timeout=300)) as connection:
            connection.connect()
            ready.wait()
            while True:
                with lock:
                    i, (method, below, body) = next(todo, (None, (None, None, None)))
                if i is None:
                    return
                start = time.perf_counter()
                connection.request(method, f"/{path}{below}", body)
                response = connection.getresponse()
                answers[i] = response.status, response.read()
                latencies[i] = time.perf_counter() - start

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return answers, latencies, time.perf_counter() - start


def wrong(answers: Sequence[tuple[int, bytes] | None], expected: np.ndarray) -> int:
    """How many of the answers are not what a direct call gives, to one level: in a batch of another size, sums round otherwise."""
    return sum(not _right(answer, image) for answer, image in zip(answers, expected, strict=True))


def _right(answer, image):
    if answer is None or answer[0] != 200:
        return False
    if answer[1].startswith(b"\x89PNG"):
        found = np.asarray(Image.open(io.BytesIO(answer[1])).convert("RGB"))
    else:
        found = np.array(json.loads(answer[1])["outputs"])[0]
    return found.shape == image.shape and np.abs(found.astype(int) - image.astype(int)).max() <= 1


if __name__ == "__main__":
    main()
