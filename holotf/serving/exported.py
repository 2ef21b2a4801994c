"""An export as a server sees it: the SavedModel's endpoints, called with arrays, and its card."""

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

from holotf import console
from holotf.errors import UserError, brief

FORMAT = 1  # of cards that are understood


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What an endpoint takes or gives: NumPy's type (object for strings), and shape, None where the caller chooses."""

    dtype: np.dtype
    shape: tuple[int | None, ...]

    def __str__(self):
        return f"{self.dtype.name} [{', '.join('n' if size is None else str(size) for size in self.shape)}]"


class Endpoint:
    """A signature of the SavedModel: arrays by name -> arrays by name.

    Args:
      name: of the signature.
      function: what `tf.saved_model.load` gives for it.
    """

    def __init__(self, name: str, function: tf.types.experimental.ConcreteFunction):
        self.name, self.function = name, function
        self.inputs = {key: _tensor(spec) for key, spec in sorted(function.structured_input_signature[1].items())}
        self.outputs = {key: _tensor(spec) for key, spec in sorted(function.structured_outputs.items())}
        tensors = [*self.inputs.values(), *self.outputs.values()]
        self.by_row = bool(self.inputs) and all(t.shape and t.shape[0] is None for t in tensors)  # so requests can be joined

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises tf.errors.InvalidArgumentError, which names the input, where the endpoint refuses it."""
        found = self.function(**{key: tf.constant(feeds[key]) for key in self.inputs})
        return {key: value.numpy() for key, value in found.items()}

    def warm_up(self) -> None:
        """Calls it once with ones, which every endpoint of ours takes: TensorFlow prepares a graph at its first call."""
        shapes = {key: [size or 1 for size in tensor.shape] for key, tensor in self.inputs.items()}
        ones = {
            key: np.full(shape, b"" if self.inputs[key].dtype == object else 1, self.inputs[key].dtype)
            for key, shape in shapes.items()
        }
        with contextlib.suppress(tf.errors.InvalidArgumentError):
            self(ones)

    def rows(self, feeds: Mapping[str, np.ndarray]) -> int:
        """How many rows a request asks for: of its longest input, or its `n`."""
        asked = [len(feeds[key]) for key, tensor in self.inputs.items() if tensor.shape and tensor.shape[0] is None]
        if "n" in self.inputs and not self.inputs["n"].shape:
            asked.append(int(feeds["n"]))
        return max(asked, default=1)


def _tensor(spec):
    return Tensor(np.dtype(spec.dtype.as_numpy_dtype), tuple(spec.shape))


class Exported:
    """A loaded export.

    Args:
      folder: a SavedModel with its card.json, or a folder of such ones by number, of which the highest is taken.
      name: of the model in addresses; "" for the name of the folder of numbers, else the model's.

    Raises:
      UserError: there is none, or it cannot be read.
    """

    def __init__(self, folder: str, name: str = ""):
        found = _latest(Path(folder))
        self.card = _card(found)
        numbered = found.absolute().name.isdecimal()
        self.name = name or (found.absolute().parent.name if numbered else self.card["model"]["name"])
        self.version = int(found.absolute().name) if numbered else 1
        try:
            with console.errors_only():
                self._loaded = tf.saved_model.load(str(found))
            proto = saved_model_pb2.SavedModel.FromString((found / "saved_model.pb").read_bytes())
        except (OSError, ValueError, RuntimeError, IndexError, tf.errors.OpError) as error:
            raise UserError(f"{found} cannot be loaded ({brief(error)}): export the run again") from error
        default = next((key for key, told in self.card["endpoints"].items() if told["default"]), None)
        names = [key for key in self._loaded.signatures if key != "serving_default"]
        self.endpoints = {key: Endpoint(key, self._loaded.signatures[key]) for key in names}
        if default in self.endpoints:
            self.endpoints["serving_default"] = self.endpoints[default]  # one endpoint, so requests to either are joined
        for endpoint in self.endpoints.values():
            endpoint.warm_up()
        pictured = self.endpoints.get("serving_default")
        if pictured is not None and ("z" not in pictured.inputs or "volume" in pictured.inputs or "images" not in pictured.outputs):
            pictured = None
        self.pictured: Endpoint | None = pictured  # which makes images of latents
        self.shows_depth = pictured is not None and {"volume", "depth"} <= self.endpoints.keys()
        self.makes_meshes = pictured is not None and {"volume", "density"} <= self.endpoints.keys()
        self.signature_def = {
            key: json_format.MessageToDict(told, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
            for key, told in proto.meta_graphs[0].signature_def.items()
        }


def _latest(folder):
    if (folder / "saved_model.pb").exists():
        return folder
    numbers = [int(p.parent.name) for p in folder.glob("*/saved_model.pb") if p.parent.name.isdecimal()]
    if not numbers:
        raise UserError(f"{folder} holds no SavedModel: make one with --mode export, or name another")
    return folder / str(max(numbers))


def _card(folder):
    path = folder / "card.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        later = told["format"] > FORMAT
        name, endpoints = told["model"]["name"], told["endpoints"]
        if not isinstance(name, str) or not all({"inputs", "outputs", "default"} <= set(e) for e in endpoints.values()):
            raise ValueError("it names no model, or no endpoints")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}): export the run again") from error
    if later:
        raise UserError(f"{path} is of a later format, {told['format']}: use a later version of holotf")
    return told
