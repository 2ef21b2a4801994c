"""The parts of a 64 px iteration that our kernels do, against XLA and oneDNN: forward, and forward + backward."""

from collections.abc import Callable

import tensorflow as tf

from benchmarks import measure
from holotf import native
from holotf.layers import convolution, normalise, rigid
from holotf.renderers import compositing


def parts(batch: int) -> dict[str, tuple[Callable, list[tuple[int, ...]]]]:
    """{name: (function, shapes of its inputs)}, the released widths, compositing with half; D sees real and made images at once."""

    def norm(x, scale, shift):
        return normalise.instance_norm(x, scale, shift, epsilon=1e-8, negative_slope=0.2)

    def of_batch(x, scale, shift):
        return normalise.batch_norm(x, scale, shift, epsilon=1e-5, negative_slope=0.0)[0]

    def strided(x, kernel, bias):
        return convolution.conv2d(x, kernel, bias, 2)

    def mix(x, kernel, bias):
        return convolution.conv2d(x, kernel, bias)

    def last(x, kernel, bias):
        return convolution.conv2d(x, kernel, bias, dtype=tf.float32)

    views = tf.random.stateless_uniform([batch, 6], [0, 0], [0, 15, 1, 0, 0, 0], [360, 35, 1.0001, 1e-4, 1e-4, 1e-4])
    matrix = rigid.inverse_view_matrix(views)
    both = 2 * batch
    return {
        "AdaIN, 64 x 64 x 64": (norm, [(batch, 64, 64, 64), (batch, 64), (batch, 64)]),
        "AdaIN, 32 x 32 x 256": (norm, [(batch, 32, 32, 256), (batch, 256), (batch, 256)]),
        "AdaIN, 16^3 x 64": (norm, [(batch, 16, 16, 16, 64), (batch, 64), (batch, 64)]),
        "instance norm of D, 16 x 16 x 128": (norm, [(both, 16, 16, 128), (128,), (128,)]),
        "batch norm of DCGAN, 16 x 16 x 128": (of_batch, [(batch, 16, 16, 128), (128,), (128,)]),
        "resampling, 16^3 x 64": (lambda volume: rigid.resample(volume, matrix), [(batch, 16, 16, 16, 64)]),
        "turning and compositing, 16^3 x 32": (
            lambda volume, *weights: compositing.render(volume, matrix, *weights),
            [(batch, 16, 16, 16, 32), (32,), (), (32,)],
        ),
        "projection, 1024 to 1024 at 16": (mix, [(batch, 16, 16, 1024), (1, 1, 1024, 1024), (1024,)]),
        "transposed 2D, 1024 to 256 at 16": (convolution.conv_transpose, [(batch, 16, 16, 1024), (4, 4, 256, 1024), (256,)]),
        "transposed 2D, 256 to 64 at 32": (convolution.conv_transpose, [(batch, 32, 32, 256), (4, 4, 64, 256), (64,)]),
        "convolution to RGB at 64, float32": (last, [(batch, 64, 64, 64), (4, 4, 64, 3), (3,)]),
        "transposed 3D, 512 to 128 at 4": (convolution.conv_transpose, [(batch, 4, 4, 4, 512), (3, 3, 3, 128, 512), (128,)]),
        "transposed 3D, 128 to 64 at 8": (convolution.conv_transpose, [(batch, 8, 8, 8, 128), (3, 3, 3, 64, 128), (64,)]),
        "convolution of D, 256 to 512 at 8": (strided, [(both, 8, 8, 256), (5, 5, 256, 512), (512,)]),
    }


def main() -> None:
    """Runs the benchmark."""
    parser = measure.parser(__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    args = parser.parse_args()
    if native.kernels() is None:
        raise SystemExit("our kernels cannot be built here: there is nothing to compare")
    rows = []
    for name, (function, shapes) in parts(args.batch).items():
        kinds = [args.precision if i == 0 else "float32" for i in range(len(shapes))]  # features; weights are float32
        inputs = [
            tf.cast(0.1 * tf.random.stateless_normal(s, [i, 0]), k) for i, (s, k) in enumerate(zip(shapes, kinds, strict=True))
        ]
        row = {"part": name}
        for way in ("without", "with"):
            native.switch(way == "with")
            row[f"forward ms, {way}"] = measure.spread(measure.timed(function, *inputs))
            row[f"and backward ms, {way}"] = measure.spread(measure.timed(_with_gradients(function), *inputs))
        rows.append(row)
    measure.report("parts", rows, list(rows[0]), args.out, precision=args.precision, batch=args.batch)


def _with_gradients(function):
    def run(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            out = function(*inputs)
        return out, tape.gradient(out, inputs, out)

    return run


if __name__ == "__main__":
    main()
