"""Element-wise work as XLA islands: one compiled kernel forward, one backward, nothing stored in between.

TensorFlow's own CPU and GPU kernels (oneDNN, cuDNN) are the fastest convolutions there are, so a step is never compiled whole;
what lies between the convolutions is memory-bound and gains two- to fivefold from fusion.
"""

import functools

import tensorflow as tf


def fused(function):
    """Compiles `function(*tensors)` with XLA, with a gradient that recomputes the forward pass instead of storing it.

    Each input's gradient is a kernel of its own, so that a gradient nobody asks for is pruned from the graph. Differentiable
    again: gradients are ordinary TensorFlow code.

    Args:
      function: a pure function of tensors (positional) that returns one tensor; other arguments by keyword, static.

    Returns:
      The function with the same signature.
    """

    @functools.cache  # one tf.function for all callers, so that equal shapes are compiled once
    def compiled(wrt=None, **static):
        def vjp(*inputs_and_upstream):
            inputs, upstream = inputs_and_upstream[:-1], inputs_and_upstream[-1]
            with tf.GradientTape() as tape:
                tape.watch(inputs[wrt])
                out = function(*inputs, **static)
            return tape.gradient(out, inputs[wrt], upstream, unconnected_gradients="zero")

        return tf.function(functools.partial(function, **static) if wrt is None else vjp, jit_compile=True)

    @functools.wraps(function)
    def call(*tensors, **static):
        @tf.custom_gradient
        def run(*inputs):
            def gradient(upstream):
                return [compiled(wrt, **static)(*inputs, upstream) for wrt in range(len(inputs))]

            return compiled(**static)(*inputs), gradient

        return run(*(tf.convert_to_tensor(t) for t in tensors))

    return call
