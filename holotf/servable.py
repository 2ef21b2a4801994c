"""What is exported of a model: named functions with typed inputs, and the weights that they use."""

import inspect
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from holotf import native


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


def endpoint(function: Callable[..., dict[str, tf.Tensor]], **inputs) -> tf.types.experimental.PolymorphicFunction:
    """A function to export: keyword tensors -> dict of tensors. Inputs are {name: (shape, dtype)}."""
    specs = [tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()]

    def portable(*tensors):
        with native.off():  # what is served runs without our code
            return function(*tensors)

    portable.__signature__ = inspect.signature(function)  # a consumer gives inputs by name or in this order
    return tf.function(portable, input_signature=specs, autograph=False)
