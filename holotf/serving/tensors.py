"""Requests and answers in TensorFlow Serving's JSON: tensors in rows (`instances`) or columns (`inputs`).

Source: www.tensorflow.org/tfx/serving/api_rest, and what its json_tensor.cc does where that page is silent.
"""

import base64
import binascii
import dataclasses
import json
from collections.abc import Mapping

import numpy as np
from starlette.exceptions import HTTPException

from holotf.serving.exported import Endpoint, Tensor


@dataclasses.dataclass(frozen=True)
class Request:
    """A request that was read: which endpoint, its inputs, and whether it came in rows, as the answer then goes."""

    endpoint: Endpoint
    feeds: dict[str, np.ndarray]
    in_rows: bool


def parse(body: bytes) -> dict:
    """A JSON object; NaN, Infinity and -Infinity are numbers. Raises `HTTPException` 400."""
    try:
        told = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError, and so is a number of 5000 digits
        raise HTTPException(400, f"JSON Parse error: {error}") from None
    if not isinstance(told, dict):
        raise HTTPException(400, f"JSON Value: {_shown(told)} Is not object")
    return told


def read(body: bytes, endpoints: Mapping[str, Endpoint]) -> Request:
    """Reads the body of a predict request.

    Args:
      body: JSON.
      endpoints: by the name of their signature, `serving_default` among them where there is a default.

    Raises:
      HTTPException: 400, with the reason.
    """
    told = parse(body)
    name = told.get("signature_name", "")
    if not isinstance(name, str):
        raise HTTPException(400, "'signature_name' key must be a string value.")
    endpoint = endpoints.get(name or "serving_default")
    if endpoint is None:
        raise HTTPException(400, f'Serving signature name: "{_short(name)}" not found in signature def')
    if "instances" in told and "inputs" in told:
        raise HTTPException(400, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in told:
        return Request(endpoint, _rows(told["instances"], endpoint.inputs), in_rows=True)
    if "inputs" in told:
        return Request(endpoint, _columns(told["inputs"], endpoint.inputs), in_rows=False)
    raise HTTPException(400, "Missing 'inputs' or 'instances' key")


def _rows(instances, inputs):
    if not isinstance(instances, list) or not instances:
        raise HTTPException(400, "Expecting 'instances' to be a list/array of one value or more")
    named = _is_object(instances[0])
    if not named and len(inputs) > 1:
        raise HTTPException(400, f"instances is a plain list, but expecting list of objects with keys {', '.join(sorted(inputs))}")
    for i, instance in enumerate(instances):
        if _is_object(instance) != named:
            raise HTTPException(400, f"Expecting {'object' if named else 'value/list'} at item {i} of 'instances' list")
        if named and set(instance) != set(inputs):
            keys = ",".join(sorted(inputs))
            raise HTTPException(
                400, f"Failed to process element: {i} of 'instances' list. JSON object keys must be equal to: {keys}"
            )
    columns = {key: [row[key] for row in instances] for key in inputs} if named else {next(iter(inputs)): instances}
    return {key: array(column, inputs[key], key) for key, column in columns.items()}


def _columns(told, inputs):
    if not _is_object(told):
        if len(inputs) > 1:
            raise HTTPException(400, f"inputs is a plain value/list, but expecting an object with keys {', '.join(sorted(inputs))}")
        told = {next(iter(inputs)): told}
    for key in inputs:
        if key not in told:
            raise HTTPException(400, f"Missing named input: {key} in 'inputs' object.")
    return {key: array(told[key], tensor, key) for key, tensor in inputs.items()}


def _is_object(value):
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value):
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def array(value: object, tensor: Tensor, name: str) -> np.ndarray:
    """JSON, nested lists or one value, as an array of a tensor's type and shape.

    Raises:
      HTTPException: 400: another type or shape, or a number that the type does not hold.
    """
    texts = tensor.dtype == object
    try:
        found = np.array(_strings(value, name) if texts else value, object if texts else None)
        if texts and any(isinstance(inner, list) for inner in found.flat):
            raise ValueError("lists beside strings")
    except (ValueError, OverflowError, RuntimeError):  # lists of different lengths, or nested more deeply than arrays can be
        raise HTTPException(400, f"{name}: lists of different lengths, or too deep; expected {tensor}") from None
    fits = len(found.shape) == len(tensor.shape) and all(
        n is None or n == m for n, m in zip(tensor.shape, found.shape, strict=True)
    )
    if not fits:
        raise HTTPException(400, f"{name}: shape {list(found.shape)}; expected {tensor}")
    if found.size:
        _check_values(found, tensor, name)
    return found.astype(tensor.dtype)


def _check_values(found, tensor, name):
    kinds = {"f": "iuf", "i": "iu", "u": "iu", "b": "b", "O": "O"}.get(tensor.dtype.kind, "")
    if found.dtype.kind not in kinds or (found.dtype == object) != (tensor.dtype == object):
        raise HTTPException(400, f"{name}: JSON Value is not of expected type: {tensor}")
    if tensor.dtype.kind in "iu":
        limits = np.iinfo(tensor.dtype)
        if found.min() < limits.min or found.max() > limits.max:
            raise HTTPException(400, f"{name}: use {limits.min} to {limits.max}; expected {tensor}")
    if tensor.dtype.kind == "f":
        finite = found[np.isfinite(found)]
        if found.dtype.kind == "f":
            with np.errstate(over="ignore"):
                lost = ~np.isfinite(finite.astype(tensor.dtype))
        else:
            lost = np.abs(finite.astype(np.float64)) > 2 ** (np.finfo(tensor.dtype).nmant + 1) - 1
        if lost.any():
            raise HTTPException(400, f"{name}: Cannot convert JSON value to {tensor.dtype.name} without loss of precision.")


def _strings(value, name):
    if isinstance(value, list):
        return [_strings(inner, name) for inner in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if not _is_base64(value):
        raise HTTPException(400, f"{name}: JSON Value is not of expected type: string")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise HTTPException(400, f"{name}: Unable to base64 decode") from None


def write(outputs: Mapping[str, np.ndarray], in_rows: bool) -> bytes:
    """The answer to a predict request: {"predictions": ...} to rows, {"outputs": ...} to columns.

    Raises:
      HTTPException: 400: rows were asked of an endpoint whose outputs are none.
    """
    if in_rows and len({value.shape[:1] for value in outputs.values()} | {()}) != 2:
        raise HTTPException(400, "the outputs are not rows of one number: ask with 'inputs'")
    rows = {key: list(_rows_of(key, value)) for key, value in sorted(outputs.items())}
    if in_rows:
        told = next(iter(rows.values())) if len(rows) == 1 else [_object(rows, row) for row in zip(*rows.values(), strict=True)]
        return f'{{"predictions":[{",".join(told)}]}}'.encode()
    values = [f"[{','.join(texts)}]" if outputs[key].ndim else texts[0] for key, texts in rows.items()]
    return f'{{"outputs":{values[0] if len(values) == 1 else _object(rows, values)}}}'.encode()


def _rows_of(name, value):
    """JSON of each row, one by one: other threads, and with them other requests, get on in between."""
    if not value.ndim:
        yield _text(_listed(name, value))
        return
    for i in range(len(value)):
        yield _text(_listed(name, value[i : i + 1])[0])


def _object(keys, texts):
    return "{" + ",".join(f"{_text(key)}:{text}" for key, text in zip(keys, texts, strict=True)) + "}"


def _listed(name, value):
    if value.dtype == object:
        binary = name.endswith("_bytes")
        texts = [{"b64": base64.b64encode(v).decode()} if binary else v.decode("utf-8", "replace") for v in value.ravel()]
        made = np.empty(len(texts), object)
        made[:] = texts
        return made.reshape(value.shape).tolist()
    if value.dtype == np.float32:
        value = value.astype(str).astype(np.float64)  # the shortest decimals that are this float32, not the digits of its double
    return value.tolist()


def _text(told):
    return json.dumps(told, separators=(",", ":"))


def _shown(value):
    return _short(json.dumps(value))


def _short(text):
    return text if len(text) <= 80 else text[:77] + "..."
