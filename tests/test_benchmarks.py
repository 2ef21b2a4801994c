"""What the benchmarks count."""

import pytest
import tensorflow as tf

from benchmarks import measure
from holotf import native
from holotf.layers import convolution

needs_tiles = pytest.mark.skipif(
    not hasattr(native.kernels(), "holotf_gather"), reason="this processor does not multiply matrices of bfloat16"
)


@needs_tiles
@pytest.mark.parametrize(
    ("function", "x", "kernel"),
    [
        (lambda x, w: convolution.conv2d(x, w, tf.zeros(64), 2), (3, 8, 8, 32), (5, 5, 32, 64)),
        (lambda x, w: convolution.conv_transpose(x, w, tf.zeros(64)), (3, 4, 4, 4, 32), (3, 3, 3, 64, 32)),
    ],
    ids=["strided", "transposed"],
)
def test_our_convolutions_count_as_those_they_stand_for(function, x, kernel):
    def flops():
        @tf.function(autograph=False)
        def both(x, w):
            with tf.GradientTape() as tape:
                tape.watch([x, w])
                y = function(x, w)
            return tape.gradient(y, [x, w], y)

        return measure.work(both.get_concrete_function(tf.TensorSpec(x, tf.bfloat16), tf.TensorSpec(kernel, tf.bfloat16)))[0]

    ours = flops()
    with native.off():
        theirs = flops()
    assert {name for name in ours if name.startswith("Holotf")}
    positions = 3 * 4 * 4 if len(x) == 4 else 3 * 4 * 4 * 4  # of the small side
    assert sum(ours.values()) == sum(theirs.values()) == 3 * 2 * positions * tf.TensorShape(kernel).num_elements()
