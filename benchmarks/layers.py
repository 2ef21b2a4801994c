"""Every convolution of an iteration that our kernels do, and each of its gradients, beside TensorFlow's operation for the same.

    python -m benchmarks.layers --config hologan_chairs

The rows are the operations of the traced iteration, so that each layer is measured at its own size; the two ways take turns, and
each gives its fastest of them.
"""

import collections
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from benchmarks import measure
from holotf import devices, models, native

KINDS = ("HolotfGather", "HolotfSpread", "HolotfFilterGradient")
FORMATS = {2: "NHWC", 3: "NDHWC"}


class Layer(NamedTuple):
    """An operation: its kind, the shapes and types of its first two inputs, and how its kernel moves."""

    kind: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtype: tf.DType
    kernel: int
    stride: int
    pad: int
    gflop: float


def main() -> None:
    """Runs the benchmark."""
    parser = measure.parser(__doc__.partition("\n")[0])
    parser.add_argument("--config", default="base:published", metavar="NAME[:VARIANT]", help="a file of configs/")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    rows = [row(layer, count, args.repeats) for layer, count in layers(args.config).items()]
    if not rows:
        raise SystemExit("our kernels do no convolution of it here: there is nothing to compare")
    measure.report("layers", rows, list(rows[0]), args.out, config=args.config)


def layers(config: str) -> collections.Counter[Layer]:
    """{operation: how often an iteration does it}."""
    name, *variant = config.split(":")
    config = importlib.import_module(f"configs.{name}").get_config(*variant)
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
        window = {key: op.get_attr(key) for key in ("kernel", "stride", "pad")}
        if window["pad"] == (window["kernel"] - window["stride"]) // 2:  # as TensorFlow's "SAME"
            found[Layer(op.type, shapes, op.inputs[0].dtype, **window, gflop=measure.flops_of(op) / 1e9)] += 1
    return found


def row(layer: Layer, count: int, repeats: int) -> dict[str, Any]:
    """One line of the table."""
    inputs = [tf.cast(tf.random.stateless_normal(s, [i, 0]), layer.dtype) for i, s in enumerate(layer.shapes)]
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
    window = {key: getattr(layer, key) for key in ("kernel", "stride", "pad")}
    ops, window = native.kernels(), window | {"threads": native.threads()}
    first, second = layer.shapes
    axes = len(first) - 2
    moves = {"strides": [1, *[layer.stride] * axes, 1], "padding": "SAME"}
    if layer.kind == "HolotfGather":
        bias = tf.zeros(second[-1])
        convolve = getattr(tf.raw_ops, f"Conv{axes}D")
        return (
            lambda large, weights: ops.holotf_gather(large=large, weights=weights, bias=bias, **window),
            lambda large, weights: convolve(input=large, filter=weights, **moves),
        )
    if layer.kind == "HolotfSpread":
        bias, shape = tf.zeros(second[-2]), [first[0], *(layer.stride * d for d in first[1:-1]), second[-2]]
        return (
            lambda small, weights: ops.holotf_spread(small=small, weights=weights, bias=bias, **window),
            lambda small, weights: tf.nn.conv_transpose(small, weights, shape, layer.stride, "SAME", FORMATS[axes]),
        )
    backward = {2: tf.raw_ops.Conv2DBackpropFilter, 3: tf.raw_ops.Conv3DBackpropFilterV2}[axes]
    shape = [*[layer.kernel] * axes, first[-1], second[-1]]
    return (
        lambda large, small: ops.holotf_filter_gradient(large=large, small=small, **window),
        lambda large, small: backward(input=large, filter_sizes=shape, out_backprop=small, **moves),
    )


if __name__ == "__main__":
    main()
