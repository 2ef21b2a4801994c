"""TensorFlow Serving's JSON: what is read, what is refused, and what is written."""

import json
import types

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis.extra import numpy as arrays
from starlette.exceptions import HTTPException

from holotf.serving import tensors
from holotf.serving.exported import Tensor


def endpoint(**inputs):
    return types.SimpleNamespace(inputs={key: Tensor(np.dtype(dtype), shape) for key, (dtype, shape) in inputs.items()})


ENDPOINTS = {
    "serving_default": endpoint(z=("float32", (None, 2)), scale=("float32", (None,))),
    "alone": endpoint(images=("uint8", (None, 1, 2))),
    "sample": endpoint(seed=("int64", ()), n=("int32", ())),
    "words": endpoint(text=(object, (None,))),
    "flags": endpoint(on=("bool", (None,))),
}


def read(told):
    return tensors.read(told.encode() if isinstance(told, str) else json.dumps(told).encode(), ENDPOINTS)


def test_rows_and_columns_are_the_same_request():
    rows = read({"instances": [{"z": [1, 2.5], "scale": 3}, {"z": [0.1, -1e-3], "scale": 4}]})
    columns = read({"signature_name": "serving_default", "inputs": {"z": [[1, 2.5], [0.1, -1e-3]], "scale": [3, 4]}})
    assert (rows.in_rows, columns.in_rows) == (True, False)
    assert rows.endpoint is columns.endpoint is ENDPOINTS["serving_default"]
    for key, value in rows.feeds.items():
        assert value.dtype == columns.feeds[key].dtype == np.float32
        np.testing.assert_array_equal(value, columns.feeds[key])
    np.testing.assert_array_equal(rows.feeds["z"], np.float32([[1, 2.5], [0.1, -1e-3]]))


def test_a_single_input_needs_no_name():
    for told in (
        {"instances": [[[1, 2]], [[3, 255]]]},
        {"inputs": [[[1, 2]], [[3, 255]]]},
        {"inputs": {"images": [[[1, 2]], [[3, 255]]]}},
    ):
        found = read({"signature_name": "alone", **told}).feeds["images"]
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, [[[1, 2]], [[3, 255]]])


def test_scalars_booleans_strings_and_numbers_that_are_none():
    assert {k: v.shape for k, v in read({"signature_name": "sample", "inputs": {"seed": 2**62, "n": 3}}).feeds.items()} == {
        "seed": (),
        "n": (),
    }
    assert read({"signature_name": "flags", "inputs": [True, False]}).feeds["on"].tolist() == [True, False]
    words = read({"signature_name": "words", "instances": ["é", {"b64": "AP8="}]}).feeds["text"]
    assert words.tolist() == ["é".encode(), b"\x00\xff"]
    found = read('{"inputs": {"z": [[NaN, Infinity]], "scale": [-Infinity]}}').feeds
    np.testing.assert_array_equal(found["z"], [[np.nan, np.inf]])


RAGGED = "z: lists of different lengths, or too deep; expected float32 [n, 2]"
REFUSED = {
    "": "JSON Parse error",
    "{": "JSON Parse error",
    b"\xff\xfe": "JSON Parse error",
    "[" * 100_000: "JSON Parse error",
    '{"inputs": ' + "9" * 5000 + "}": "JSON Parse error",
    "[1]": "JSON Value: [1] Is not object",
    "{}": "Missing 'inputs' or 'instances' key",
    '{"signature_name": 1}': "'signature_name' key must be a string value",
    '{"signature_name": "nobody"}': 'Serving signature name: "nobody" not found in signature def',
    '{"inputs": {}, "instances": []}': "only one of 'inputs' or 'instances'",
    '{"instances": []}': "Expecting 'instances' to be a list/array of one value or more",
    '{"instances": 3}': "Expecting 'instances' to be a list/array",
    '{"instances": [[1, 2]]}': "instances is a plain list, but expecting list of objects with keys scale, z",
    '{"instances": [{"z": [1, 2]}]}': "Failed to process element: 0 of 'instances' list. JSON object keys must",
    '{"instances": [{"z": [1, 2], "scale": 1}, 3]}': "Expecting object at item 1",
    '{"instances": [{"z": [1, 2], "scale": 1}, {"z": [1], "scale": 1}]}': RAGGED,
    '{"signature_name": "alone", "instances": [[[1, 2]], {"images": [[1, 2]]}]}': "Expecting value/list at item 1",
    '{"inputs": [[1, 2]]}': "inputs is a plain value/list, but expecting an object with keys scale, z",
    '{"inputs": {"z": [[1, 2]]}}': "Missing named input: scale in 'inputs' object.",
    '{"inputs": {"z": [[1, 2, 3]], "scale": [1]}}': "z: shape [1, 3]; expected float32 [n, 2]",
    '{"inputs": {"z": [[1, 2]], "scale": 1}}': "scale: shape []; expected float32 [n]",
    '{"inputs": {"z": [], "scale": [1]}}': "z: shape [0]; expected float32 [n, 2]",
    '{"inputs": {"z": ' + "[" * 80 + "]" * 80 + ', "scale": [1]}}': RAGGED,
    '{"inputs": {"z": [[1, "2"]], "scale": [1]}}': "z: JSON Value is not of expected type: float32 [n, 2]",
    '{"inputs": {"z": [[1, null]], "scale": [1]}}': "z: JSON Value is not of expected type",
    '{"inputs": {"z": [[true, false]], "scale": [1]}}': "z: JSON Value is not of expected type",
    '{"inputs": {"z": [[{"b64": "AA=="}, 1]], "scale": [1]}}': "z: JSON Value is not of expected type",
    '{"inputs": {"z": [[1e300, 0]], "scale": [1]}}': "z: Cannot convert JSON value to float32 without loss of precision.",
    '{"inputs": {"z": [[16777216, 0]], "scale": [1]}}': "z: Cannot convert JSON value to float32 without loss of precision.",
    '{"signature_name": "sample", "inputs": {"seed": 1.0, "n": 1}}': "seed: JSON Value is not of expected type: int64 []",
    '{"signature_name": "sample", "inputs": {"seed": 1, "n": 3000000000}}': "n: use -2147483648 to 2147483647",
    '{"signature_name": "sample", "inputs": {"seed": 9223372036854775808, "n": 1}}': "seed: use -9223372036854775808 to",
    '{"signature_name": "sample", "inputs": {"seed": 99999999999999999999, "n": 1}}': "seed: JSON Value is not",
    '{"signature_name": "alone", "inputs": [[[1, 256]]]}': "images: use 0 to 255",
    '{"signature_name": "words", "inputs": [3]}': "text: JSON Value is not of expected type: string",
    '{"signature_name": "words", "inputs": [{"b64": "?"}]}': "text: Unable to base64 decode",
    '{"signature_name": "words", "inputs": ["a", ["b"]]}': "text: ",
    '{"signature_name": "flags", "inputs": [1]}': "on: JSON Value is not of expected type: bool [n]",
}  # fmt: skip


@pytest.mark.parametrize("body", REFUSED, ids=lambda body: str(body[:40]))
def test_what_is_wrong_is_said(body):
    with pytest.raises(HTTPException) as error:
        tensors.read(body if isinstance(body, bytes) else body.encode(), ENDPOINTS)
    assert error.value.status_code == 400
    assert error.value.detail.startswith(REFUSED[body]) or REFUSED[body] in error.value.detail
    assert len(error.value.detail) < 300


FLOATS = arrays.arrays(np.float32, st.tuples(st.integers(1, 3), st.just(2)), elements=st.floats(width=32, allow_nan=False))


@hypothesis.given(FLOATS)
def test_every_float32_is_written_in_its_own_shortest_decimals_and_comes_back(values):
    text = tensors.write({"z": values}, in_rows=False)
    back = tensors.array(json.loads(text)["outputs"], Tensor(np.dtype("float32"), (None, 2)), "z")
    np.testing.assert_array_equal(back, values)
    assert tensors.write({"z": np.float32([0.2])}, in_rows=False) == b'{"outputs":[0.2]}'


def test_strings_that_are_nested_too_deeply_are_refused():
    for depth in (100, 900):
        value = "x"
        for _ in range(depth):
            value = [value]
        with pytest.raises(HTTPException, match="too deep"):
            tensors.array(value, tensors.Tensor(np.dtype(object), (None,)), "names")


def test_answers_have_the_shape_of_the_question():
    one, two = {"images": np.uint8([[1, 2], [3, 4]])}, {"mean": np.float32([1, 2]), "log": np.float32([[0.5], [7]])}
    assert json.loads(tensors.write(one, in_rows=True)) == {"predictions": [[1, 2], [3, 4]]}
    assert json.loads(tensors.write(one, in_rows=False)) == {"outputs": [[1, 2], [3, 4]]}
    assert json.loads(tensors.write(two, in_rows=True)) == {
        "predictions": [{"log": [0.5], "mean": 1.0}, {"log": [7.0], "mean": 2.0}]
    }
    assert json.loads(tensors.write(two, in_rows=False)) == {"outputs": {"log": [[0.5], [7.0]], "mean": [1.0, 2.0]}}
    words = {"text": np.array([b"a"], object), "png_bytes": np.array([b"\x00\xff"], object)}
    assert json.loads(tensors.write(words, in_rows=True)) == {"predictions": [{"png_bytes": {"b64": "AP8="}, "text": "a"}]}
    assert tensors.write({"x": np.float32([np.nan, np.inf])}, in_rows=True) == b'{"predictions":[NaN,Infinity]}'
    for outputs in ({"x": np.float32(1)}, {"x": np.zeros(2), "y": np.zeros(3)}):
        with pytest.raises(HTTPException, match="ask with 'inputs'"):
            tensors.write(outputs, in_rows=True)
