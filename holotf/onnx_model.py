"""An export's endpoints as ONNX models of one row, small enough for a browser, and whether they draw the same.

tf2onnx converts; onnxruntime folds constants and merges what it can. Needs pip install 'holotf[web]'.
"""

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from holotf.errors import UserError

OPSET = 18
WEIGHTS = ("float16", "float32")
LARGE = 256  # numbers: smaller constants are biases, scales and coordinates, which stay float32


def check_installed() -> None:
    """Raises `UserError` where a package is missing."""
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"export.format='web' needs the package {error.name}: pip install 'holotf[web]'") from error


def convert(signature: tf.types.experimental.ConcreteFunction, weights: str) -> bytes:
    """A signature as an ONNX model, its inputs and outputs by their names, whatever number of rows they have fixed at one.

    Args:
      signature: of a loaded SavedModel.
      weights: "float32", or "float16": stored as such; what is computed with them is float32 all the same.
    """
    from tf2onnx import tf_loader, tfonnx

    specs = {
        name: tf.TensorSpec([1 if size is None else size for size in spec.shape], spec.dtype, name)
        for name, spec in sorted(signature.structured_input_signature[1].items())
    }
    one_row = tf.function(
        lambda *tensors: signature(**dict(zip(specs, tensors, strict=True))), list(specs.values()), autograph=False
    )
    function = one_row.get_concrete_function()
    inputs = [tensor.name for tensor in function.inputs if tensor.dtype != tf.resource]
    outputs = [tensor.name for tensor in function.outputs]
    names = dict(zip(inputs + outputs, [*specs, *sorted(signature.structured_outputs)], strict=True))
    with _quiet():
        graph = _in_float32(_unguarded(tf_loader.from_function(function, inputs, outputs)))
        with tf.Graph().as_default() as imported:
            tf.import_graph_def(graph, name="")
            converted = tfonnx.process_tf_graph(
                imported, opset=OPSET, input_names=inputs, output_names=outputs, tensors_to_rename=names
            )
        return _small(_folded(converted.make_model("holotf").SerializeToString()), weights)


def runner(model: bytes) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """The model in onnxruntime, as a function: inputs by name, one row each, what it does not take left out -> outputs by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (session.get_inputs(), session.get_outputs()))
    return lambda feeds: dict(zip(outputs, session.run(None, {name: feeds[name] for name in inputs}), strict=True))


def _unguarded(graph):
    """Without the guards of trilinear resampling against values that are not finite.

    holotf.layers.rigid takes 0 for infinity * 0: select(weight == 0 and not finite(value), 0, value). ONNX would spend half of the
    turn's time on these, and a page feeds only the volumes that it made.
    """
    nodes = {node.name: node for node in graph.node}

    def of(name):
        return nodes[name.partition(":")[0].lstrip("^")]

    def guards(node):
        return node.op == "LogicalNot" and of(node.input[0]).op == "IsFinite"

    for node in graph.node:
        if node.op == "SelectV2" and of(node.input[0]).op == "LogicalAnd" and any(guards(of(n)) for n in of(node.input[0]).input):
            node.op = "Identity"
            del node.input[:2]
    return graph


def _in_float32(graph):
    """With float32 wherever a run in mixed precision has bfloat16, which tf2onnx does not know."""
    half, whole = tf.bfloat16.as_datatype_enum, tf.float32.as_datatype_enum
    for attribute in (attribute for node in graph.node for attribute in node.attr.values()):
        if attribute.type == half:
            attribute.type = whole
        elif attribute.HasField("tensor") and attribute.tensor.dtype == half:
            attribute.tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(attribute.tensor).astype(np.float32)))
    return graph


def _folded(model):
    """The model with its constants folded, in standard operations still."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = os.path.join(folder, "model.onnx")
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        with open(options.optimized_model_filepath, "rb") as file:
            return file.read()


def _small(model, weights):
    """Constants that are one number many times become that number; other large ones `weights`, turned to float32 by the model."""
    import onnx
    from onnx import helper, numpy_helper

    proto = onnx.load_from_string(model)
    kept, first = [], []
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.size < LARGE:
            kept.append(tensor)
        elif (values == values.flat[0]).all():
            shape = numpy_helper.from_array(np.array(values.shape, np.int64), f"{tensor.name}/shape")
            number = numpy_helper.from_array(values.flat[:1], "value")
            kept.append(shape)
            first.append(helper.make_node("ConstantOfShape", [shape.name], [tensor.name], value=number))
        elif values.dtype == np.float32 and weights == "float16" and np.abs(values).max() < np.finfo(np.float16).max:
            half = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}/half")
            kept.append(half)
            first.append(helper.make_node("Cast", [half.name], [tensor.name], to=onnx.TensorProto.FLOAT))
        else:
            kept.append(tensor)
    nodes = [*first, *proto.graph.node]
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.initializer.extend(kept)
    proto.graph.node.extend(nodes)
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what tf2onnx and TensorFlow tell of each graph."""
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "absl", "tensorflow")]
    before = [(logger, logger.level) for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in before:
            logger.setLevel(level)
