"""Every convolution of an iteration that our kernels do, and each of its gradients, beside TensorFlow's operation for the same.

    python -m benchmarks.layers --config hologan_chairs [--precision float32] [--batch 32]

The rows are the operations of the traced iteration, so that each layer is measured at its own size; the two ways take turns, and
each gives its fastest of them.
"""

import collections
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from benchmarks import measure
from holotf import devices, models, native
from holotf.layers import tiles

KINDS = {  # by op: (its name in the library, its inputs, what TensorFlow does instead)
    "HolotfGather": ("holotf_gather", ("large", "weights"), "gather"),
    "HolotfSpread": ("holotf_spread", ("small", "weights"), "spread"),
    "HolotfFilterGradient": ("holotf_filter_gradient", ("large", "small"), "filter gradient"),
    "HolotfEnlarge": ("holotf_enlarge", ("x", "weights"), "spread"),
    "HolotfWinogradSpread": ("holotf_winograd_spread", ("x", "weights"), "spread"),
    "HolotfWinogradGather": ("holotf_winograd_gather", ("x", "weights"), "gather"),
    "HolotfWinogradFilter": ("holotf_winograd_filter", ("large", "small"), "filter gradient"),
}
WINOGRAD = {"kernel": 4, "stride": 2, "pad": 1}  # of ops that do not say it; three taps of `enlarge` are four (`tiles.twice`)
FORMATS = {2: "NHWC", 3: "NDHWC"}


class Layer(NamedTuple):
    """An operation: its kind, the shapes and types of its first two inputs, and how its kernel moves."""

    kind: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtypes: tuple[tf.DType, tf.DType]
    kernel: int
    stride: int
    pad: int
    gflop: float


def main() -> None:
    """Runs the benchmark."""
    parser = measure.parser(__doc__.partition("\n")[0])
    parser.add_argument("--config", default="base:published", metavar="NAME[:VARIANT]", help="a file of configs/")
    parser.add_argument("--batch", type=int, help="images per update, instead of the config's")
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), help="instead of the config's")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    rows = [row(layer, count, args.repeats) for layer, count in layers(args.config, args.precision, args.batch).items()]
    if not rows:
        raise SystemExit("our kernels do no convolution of it here: there is nothing to compare")
    measure.report("layers", rows, list(rows[0]), args.out, config=args.config, precision=args.precision, batch=args.batch)


def layers(config: str, precision: str | None = None, batch: int | None = None) -> collections.Counter[Layer]:
    """{operation: how often an iteration does it}, in the config's precision and of its images per update where not told."""
    config = measure.config(config)
    config.device.precision = precision or config.device.precision
    config.train.batch_size = batch or config.train.batch_size
    devices.configure(config.device)
    keras.utils.set_random_seed(0)
    model, size = models.build(config), config.model.image_size
    images = {"image": tf.constant(np.zeros((config.train.batch_size, size, size, 3), np.uint8))}
    graph = tf.function(model.train_step, autograph=False).get_concrete_function(images).graph
    found = collections.Counter()
    for op in measure.needed(graph):
        if op.type not in KINDS:
            continue
        shapes = tuple(tuple(t.shape) for t in list(op.inputs)[:2])
        window = {key: op.get_attr(key) if key in op.node_def.attr else at for key, at in WINOGRAD.items()}
        if window["pad"] == (window["kernel"] - window["stride"]) // 2:  # as TensorFlow's "SAME"
            dtypes = tuple(t.dtype for t in list(op.inputs)[:2])
            found[Layer(op.type, shapes, dtypes, **window, gflop=measure.flops_of(op) / 1e9)] += 1
    return found


def row(layer: Layer, count: int, repeats: int) -> dict[str, Any]:
    """One line of the table."""
    inputs = [
        tf.cast(tf.random.stateless_normal(shape, [i, 0]), dtype)
        for i, (shape, dtype) in enumerate(zip(layer.shapes, layer.dtypes, strict=True))
    ]
    ours, theirs = (tf.function(function, autograph=False) for function in ways(layer))
    durations = [[], []]
    for turn in range(repeats):
        for way, function in enumerate((ours, theirs)):
            (taken,) = measure.seconds(lambda function=function: measure.settle(function(*inputs)), 1, 2 * (turn == 0))
            durations[way].append(taken)
    fastest, other = map(min, durations)
    return {
        "operation": layer.kind.removeprefix("Holotf"),
        "shapes": ", ".join("x".join(map(str, shape)) for shape in layer.shapes),
        "kernel, stride": f"{layer.kernel}, {layer.stride}",
        "times": count,
        "ours ms": f"{1e3 * fastest:.2f}",
        "TensorFlow's ms": f"{1e3 * other:.2f}",
        "GFLOP/s": f"{layer.gflop / fastest:.0f}",
        "faster by": f"{other / fastest:.2f}",
    }


def ways(layer: Layer) -> tuple[Callable, Callable]:
    """(ours, TensorFlow's), functions of the operation's two inputs."""
    name, named, like = KINDS[layer.kind]
    ours = getattr(native.kernels(), name)
    first, second = layer.shapes
    axes = len(first) - 2
    moves = {"strides": [1, *[layer.stride] * axes, 1], "padding": "SAME"}

    def gather(large, weights):
        return getattr(tf.raw_ops, f"Conv{axes}D")(input=large, filter=tf.cast(weights, large.dtype), **moves)

    def spread(small, weights):
        weights = tf.cast(tiles.twice(weights) if layer.kind == "HolotfEnlarge" else weights, small.dtype)
        shape = [first[0], *(layer.stride * d for d in first[1:-1]), second[-2]]
        return tf.nn.conv_transpose(small, weights, shape, layer.stride, "SAME", FORMATS[axes])

    def filter_gradient(large, small):
        backward = {2: tf.raw_ops.Conv2DBackpropFilter, 3: tf.raw_ops.Conv3DBackpropFilterV2}[axes]
        shape = [*[layer.kernel] * axes, first[-1], second[-1]]
        return backward(input=large, filter_sizes=shape, out_backprop=small, **moves)

    settings = {"threads": native.threads()}
    if layer.kind in ("HolotfGather", "HolotfSpread", "HolotfFilterGradient"):
        settings |= {key: getattr(layer, key) for key in WINOGRAD}
    if "weights" in named:
        settings["bias"] = tf.zeros(second[-1 if like == "gather" else -2])
    theirs = {"gather": gather, "spread": spread, "filter gradient": filter_gradient}[like]
    return lambda *inputs: ours(**dict(zip(named, inputs, strict=True)), **settings), theirs


if __name__ == "__main__":
    main()
