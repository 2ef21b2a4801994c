"""What is exported of a model: named functions with typed inputs, and the weights that they use."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from holotf import native
from holotf.errors import require


def serve(variables: Sequence[keras.Variable], default: str, endpoints: dict) -> tuple[tf.Module, dict]:
    """What to export.

    Args:
      variables: of the networks that are served (Keras variables); as `vars` of the module an export is read back by them.
      default: the endpoint that answers where none is named.
      endpoints: {name: function made by `endpoint`}. The model itself is not kept: Keras would add endpoints of its own.

    Returns:
      (module, {name: function} to save as signatures).
    """
    module = tf.Module()
    module.vars = [v.value for v in variables]
    for name, function in endpoints.items():
        setattr(module, name, function)
    return module, endpoints | {"serving_default": endpoints[default]}


def only(names: Sequence[str], module: tf.Module, signatures: dict) -> tuple[tf.Module, dict]:
    """What `serve` gave, with some endpoints alone and the weights that they use.

    The default stays what it was where it is among them; else it is the first.

    Args:
      names: of the endpoints; () for all.
      module, signatures: of `serve`.

    Raises:
      UserError: there is no such endpoint.
    """
    if not names:
        return module, signatures
    found = {name: function for name, function in signatures.items() if name != "serving_default"}
    for name in names:
        require(name in found, "export.endpoints", name, f"some of {', '.join(sorted(found))}")
    default = signatures["serving_default"]
    kept = {name: found[name] for name in names}
    kept["serving_default"] = default if default in kept.values() else kept[names[0]]
    used = {id(variable) for function in kept.values() for variable in function.get_concrete_function().variables}
    smaller = tf.Module()
    smaller.vars = [variable for variable in module.vars if id(variable) in used]
    for name in names:
        setattr(smaller, name, found[name])
    return smaller, kept


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """What is traced in this context is TensorFlow's standard operations alone: no kernels of ours, nothing for XLA to compile.

    XLA would compile for seconds at every new number of rows, and TensorFlow Serving has it switched off on a CPU.
    """
    eager = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)  # a function within a trace then becomes a part of it, its jit_compile without effect
    try:
        with native.off():
            yield
    finally:
        tf.config.run_functions_eagerly(eager)


def endpoint(
    function: Callable[..., dict[str, tf.Tensor]], bounds: dict[str, tuple[float, float]] | None = None, **inputs: tuple
) -> tf.types.experimental.PolymorphicFunction:
    """A function to export, which refuses what it cannot work on: NaN and infinity, no rows, values out of bounds.

    Args:
      function: keyword tensors -> dict of tensors.
      bounds: {input: (least, most)}.
      **inputs: {input: (shape, dtype)}, in the function's order.

    Returns:
      The function; it raises InvalidArgumentError, which names the input.
    """
    specs = [tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()]

    def checked(*tensors):
        pairs = zip(specs, tensors, strict=True)
        inputs = [_checked(spec.name, tensor, (bounds or {}).get(spec.name)) for spec, tensor in pairs]
        with portable():
            return function(*inputs)

    checked.__signature__ = inspect.signature(function)  # a consumer gives inputs by name or in this order
    return tf.function(checked, input_signature=specs, autograph=False)


def _checked(name, tensor, bounds):
    checks = []
    if tensor.dtype.is_floating:
        checks.append((tf.reduce_all(tf.math.is_finite(tensor)), "not a number, or infinite"))
    if tensor.shape.rank and tensor.shape[0] is None:
        checks.append((tf.shape(tensor)[0] > 0, "give one row or more"))
    if bounds:
        checks.append((tf.reduce_all((tensor >= bounds[0]) & (tensor <= bounds[1])), f"use {bounds[0]} to {bounds[1]}"))
    with tf.control_dependencies([tf.debugging.Assert(holds, [f"{name}: {otherwise}"]) for holds, otherwise in checks]):
        return tf.identity(tensor)
