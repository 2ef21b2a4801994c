"""The trilinear resampling of 32 volumes 16^3 x 64: our kernels, XLA's, and the bandwidth of a copy."""

import tensorflow as tf

from benchmarks import measure
from holotf import native
from holotf.layers import rigid


def main() -> None:
    """Runs the benchmark."""
    parser = measure.parser(__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--channels", type=int, default=64)
    args = parser.parse_args()
    shape = (args.batch, args.size, args.size, args.size, args.channels)
    views = tf.random.stateless_uniform([args.batch, 6], [0, 0], [0, 15, 1, 0, 0, 0], [360, 35, 1.0001, 1e-4, 1e-4, 1e-4])
    matrix = rigid.inverse_view_matrix(views)
    rows = []
    for dtype in (tf.float32, tf.bfloat16):
        volume = tf.cast(tf.random.stateless_normal(shape, [0, 1]), dtype)

        def forward(volume):
            return rigid.resample(volume, matrix)

        def both(volume):
            with tf.GradientTape() as tape:
                tape.watch(volume)
                out = rigid.resample(volume, matrix)
            return out, tape.gradient(out, volume, volume)

        copy = measure.timed(lambda v: v + tf.ones([], v.dtype), volume)
        for way in ("our kernels", "XLA"):
            native.switch(way != "XLA")
            if way != "XLA" and native.kernels() is None:
                continue
            a, b = measure.timed(forward, volume), measure.timed(both, volume)
            rows.append(
                {
                    "what": f"{way}, {dtype.name}",
                    "forward ms": measure.spread(a),
                    "forward + backward ms": measure.spread(b),
                    "a copy ms": measure.spread(copy),
                }
            )
    columns = ["what", "forward ms", "forward + backward ms", "a copy ms"]
    measure.report("resample", rows, columns, args.out, shape=shape, ceilings=measure.ceilings())


if __name__ == "__main__":
    main()
