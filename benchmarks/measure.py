"""What every benchmark shares: the clock, the machine and its ceilings, the work that a graph holds, and the report."""

import argparse
import contextlib
import datetime
import importlib
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import files


def seconds(function: Callable[[], object], repeats: int = 7, warm_up: int = 2) -> list[float]:
    """Durations of `repeats` calls after `warm_up` ones; the function waits for its result itself."""
    for _ in range(warm_up):
        function()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return found


def settle(tensors: tf.Tensor | tuple | list | dict) -> None:
    """Waits until the tensors are there, without copying more than one number of each."""
    for t in tf.nest.flatten(tensors):
        tf.reshape(t, [-1])[:1].numpy()


def timed(function: Callable, *inputs: tf.Tensor, repeats: int = 7) -> list[float]:
    """Durations of a TensorFlow function, traced."""
    graph = tf.function(function, autograph=False)
    return seconds(lambda: settle(graph(*inputs)), repeats)


def spread(durations: Sequence[float], unit: float = 1e3) -> str:
    """Median, least and greatest as text, in milliseconds unless told."""
    return f"{statistics.median(durations) * unit:.1f} ({min(durations) * unit:.1f} to {max(durations) * unit:.1f})"


def config(name: str) -> ConfigDict:
    """What NAME or NAME:VARIANT of configs/ says."""
    file, *variant = name.split(":")
    return importlib.import_module(f"configs.{file}").get_config(*variant)


def machine() -> dict:
    """What was measured on: processor, cores, memory, GPUs, versions, date."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine()
    )
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": [d.name for d in tf.config.list_physical_devices("GPU")],
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def _lines(path):
    return Path(path).read_text(encoding="utf-8").splitlines() if os.path.exists(path) else []


@contextlib.contextmanager
def anonymous(pid: int) -> Iterator[dict[str, float]]:
    """The most memory a process holds that is not pages of files, looked at 100 times a second.

    The resident set counts every page of a library that was ever read, which the system takes back when it is short; this does not.

    Args:
      pid: of a process on this machine.

    Yields:
      Dict whose "gib" is that memory in GiB so far; 0 where there is no /proc.
    """
    found, over = {"gib": 0.0}, threading.Event()

    def look():
        while not over.wait(0.01):
            with contextlib.suppress(OSError):  # it has just ended
                for line in _lines(f"/proc/{pid}/status"):
                    if line.startswith("RssAnon:"):
                        found["gib"] = max(found["gib"], int(line.split()[1]) / 2**20)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def ceilings() -> dict[str, float]:
    """The machine's best here and now: {name: GFLOP/s or GB/s} of a large product, a large convolution and a copy."""
    found = {}
    for dtype in (tf.float32, tf.bfloat16):
        a = tf.cast(tf.random.normal([2048, 2048]), dtype)
        found[f"matmul_{dtype.name}_gflops"] = 2 * 2048**3 / min(timed(tf.matmul, a, a)) / 1e9
        x, w = (tf.cast(tf.random.normal(s), dtype) for s in ([32, 16, 16, 256], [3, 3, 256, 256]))
        work = 2 * 32 * 16 * 16 * 9 * 256 * 256
        found[f"conv_{dtype.name}_gflops"] = work / min(timed(lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), x, w)) / 1e9
    source = np.ones(32 << 20, np.float32)
    target = np.empty_like(source)
    found["copy_gbytes_per_s"] = 2 * source.nbytes / min(seconds(lambda: np.copyto(target, source))) / 1e9  # one core
    return {k: round(v, 1) for k, v in found.items()}


def work(concrete: tf.types.experimental.ConcreteFunction) -> tuple[dict[str, int], dict[str, int]]:
    """FLOPs and bytes of a traced function, op by op.

    A product or convolution counts two FLOPs a multiply-add; everything else counts none. Bytes are each op's inputs and outputs
    as if every op read and wrote memory, so fusion shows as fewer bytes. Ops of unknown shape count nothing.

    Args:
      concrete: a `tf.ConcreteFunction` whose shapes are static.

    Returns:
      ({op type: FLOPs}, {op type: bytes}).
    """
    flops, traffic = {}, {}
    graphs, seen = [concrete.graph], set()
    while graphs:
        graph = graphs.pop()
        for op in needed(graph):
            for name in (a.func.name for a in op.node_def.attr.values() if a.HasField("func")):
                inner = graph._get_function(name) if name not in seen else None  # no public way from a call to its body
                if inner is not None:
                    seen.add(name)
                    graphs.append(inner.graph)
            size = sum(_bytes(t) for t in (*op.inputs, *op.outputs))
            if op.type not in ("Placeholder", "Const", "Identity", "ReadVariableOp", "PartitionedCall", "StatefulPartitionedCall"):
                traffic[op.type] = traffic.get(op.type, 0) + size
            flops[op.type] = flops.get(op.type, 0) + flops_of(op)
    return {k: v for k, v in flops.items() if v}, traffic


def needed(graph: tf.Graph) -> list[tf.Operation]:
    """The operations of a function's graph that what it returns or does needs; the others are not run."""
    found, waiting = {}, [*(t.op for t in graph.outputs), *graph.control_outputs]
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found[op.name] = op
            waiting += [*(t.op for t in op.inputs), *op.control_inputs]
    return list(found.values())


def _elements(tensor):
    return tensor.shape.num_elements() or 0 if tensor.shape.rank is not None else 0


def _bytes(tensor):
    return _elements(tensor) * max(tensor.dtype.size or 0, 0)


def flops_of(op: tf.Operation) -> int:
    """FLOPs of one operation of static shapes; 0 for what neither multiplies matrices nor convolves."""
    if op.type in ("MatMul", "BatchMatMulV2"):
        axis = -2 if op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x") else -1
        return 2 * _elements(op.outputs[0]) * (op.inputs[0].shape[axis] or 0)
    if op.type in ("Conv2D", "Conv3D"):  # every output position meets the kernel [.., I, O]
        return 2 * _elements(op.outputs[0]) * _elements(op.inputs[1]) // op.inputs[1].shape[-1]
    if op.type in ("Conv2DBackpropInput", "Conv3DBackpropInputV2"):  # upstream [B,..,O], kernel
        return 2 * _elements(op.inputs[2]) * _elements(op.inputs[1]) // op.inputs[1].shape[-1]
    if op.type in ("Conv2DBackpropFilter", "Conv3DBackpropFilterV2"):  # upstream [B,..,O], gradient [.., I, O]
        return 2 * _elements(op.inputs[2]) * _elements(op.outputs[0]) // op.outputs[0].shape[-1] if _elements(op.outputs[0]) else 0
    if op.type in ("HolotfGather", "HolotfGatherWide", "HolotfSpread"):  # [B,..,C], kernel [.., C, N] or [.., N, C]
        image, kernel = op.inputs[:2]
        apart = 1 if op.type == "HolotfSpread" else op.get_attr("stride")  # the kernel meets the small side's positions
        return 2 * _elements(image) // image.shape[-1] // apart ** (image.shape.rank - 2) * _elements(kernel)
    if op.type == "HolotfFilterGradient":  # [B, large.., C], [B, small.., N]
        large, small = op.inputs
        return 2 * _elements(small) * op.get_attr("kernel") ** (large.shape.rank - 2) * large.shape[-1]
    if op.type in ("HolotfEnlarge", "HolotfWinogradSpread"):  # x [B, small.., C], kernel [.., N, C]
        image, kernel = op.inputs[:2]
        return 2 * _elements(image) * 3 ** (image.shape.rank - 2) * kernel.shape[-2]
    if op.type == "HolotfWinogradGather":  # x [B, large.., C], kernel [.., C, N]
        image, kernel = op.inputs[:2]
        return 2 * _elements(image) // 2 ** (image.shape.rank - 2) * 3 ** (image.shape.rank - 2) * kernel.shape[-1]
    if op.type == "HolotfWinogradFilter":  # [B, large.., C], [B, small.., N]
        large, small = op.inputs
        return 2 * _elements(small) * 3 ** (large.shape.rank - 2) * large.shape[-1]
    return 0


def table(rows: list[dict], columns: list[str]) -> str:
    """Rows (dicts) as aligned text."""
    cells = [columns, *([str(row.get(c, "")) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)


def parser(about: str) -> argparse.ArgumentParser:
    """An argument parser with the flag that all benchmarks have."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--out", type=_folder, default=Path("runs/benchmarks"), metavar="DIR", help="where the JSON goes")
    return made


def _folder(text):
    if os.path.exists(text) and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text} is a file; name a folder, there or not")
    return Path(text)


def report(name: str, rows: list[dict], columns: list[str], out: Path, **more: Any) -> None:
    """Prints the table and writes it with its machine as OUT/NAME.json, under a temporary name first."""
    about = machine()
    print(f"\n{name}: {about['cpu']}, {about['cores']} cores, TensorFlow {about['tensorflow']}, {about['date']}")
    print(table(rows, columns), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    files.write_json(path, {"machine": about, **more, "rows": rows})
    print(f"written: {path}")
