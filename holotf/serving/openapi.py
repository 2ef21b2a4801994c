"""The server's description of itself, in OpenAPI 3.1, made from the card and the endpoints that were loaded."""

import numpy as np
from ml_collections import ConfigDict

import holotf
from holotf.serving import pictures
from holotf.serving.exported import Exported, Tensor

_ERRORS = {
    400: "what is wrong with the request",
    404: "no such model or version",
    413: "the body is too large",
    500: "a fault of the server's",
    501: "meshes: what makes them is not installed where the server runs",
    503: "too many requests are in hand: try again after Retry-After",
    504: "it took too long",
}


def describe(exported: Exported, settings: ConfigDict) -> dict:
    """The description, as JSON has it.

    Args:
      exported: the model.
      settings: `config.serve`.
    """
    paths = {}
    for base in (f"/v1/models/{exported.name}", f"/v1/models/{exported.name}/versions/{exported.version}"):
        paths[base] = {"get": _operation("Model status", _json({"type": "object", "required": ["model_version_status"]}))}
        paths[f"{base}/metadata"] = {
            "get": _operation("Signatures", _json({"type": "object", "required": ["model_spec", "metadata"]}))
        }
        paths[f"{base}/card"] = {"get": _operation("card.json of the export", _json({"type": "object", "required": ["format"]}))}
        answer = {"type": "object", "minProperties": 1, "maxProperties": 1, "properties": {"predictions": {}, "outputs": {}}}
        predict = _operation("An endpoint's outputs, as TensorFlow Serving has it", _json(answer | {"additionalProperties": False}))
        predict["requestBody"] = {"required": True} | _json({"anyOf": [*_requests(exported, settings.batch)]})
        paths[f"{base}:predict"] = {"post": predict}
        paths |= _pictures(base, exported)
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    paths["/healthz"] = {
        "get": _operation("Whether it answers, and which model", _json({"type": "object", "required": ["status"]}))
    }
    paths["/metrics"] = {"get": _operation("Counters for Prometheus", text)}
    paths["/openapi.json"] = {"get": _operation("This", _json({"type": "object"}))}
    error = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}, "additionalProperties": False}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"holotf: {exported.name}", "version": holotf.__version__},
        "paths": paths,
        "components": {"schemas": {"Error": error}},
    }


def _operation(summary, content):
    errors = {str(code): {"description": text} | _json({"$ref": "#/components/schemas/Error"}) for code, text in _ERRORS.items()}
    return {"summary": summary, "responses": {"200": {"description": "done"} | content} | errors}


def _json(schema):
    return {"content": {"application/json": {"schema": schema}}}


def _requests(exported, batch):
    """The bodies that `:predict` takes: in rows where every input has a first axis, and in columns."""
    for name, endpoint in sorted(exported.endpoints.items()):
        about = exported.card["endpoints"].get(endpoint.name, {"inputs": {}})["inputs"]
        columns = {key: _schema(tensor, about.get(key, {}), batch) for key, tensor in endpoint.inputs.items()}
        named = {"signature_name": {"const": name}}
        required = ["signature_name"] if name != "serving_default" else []
        inputs = {"type": "object", "properties": columns, "required": sorted(columns)}
        yield {"type": "object", "properties": named | {"inputs": inputs}, "required": [*required, "inputs"]}
        if all(tensor.shape and tensor.shape[0] is None for tensor in endpoint.inputs.values()):
            one = {"type": "object", "properties": {key: c["items"] for key, c in columns.items()}, "additionalProperties": False}
            rows = {"type": "array", "items": one | {"required": sorted(columns)}, "minItems": 1, "maxItems": batch}
            yield {"type": "object", "properties": named | {"instances": rows}, "required": [*required, "instances"]}


def _schema(tensor: Tensor, about: dict, batch: int):
    """JSON Schema of a tensor in nested lists; `about` is what the card says of it."""
    limits = about.get("accepts") or (about.get("range") if tensor.dtype.kind in "iu" else None)
    kinds = {"f": "number", "i": "integer", "u": "integer", "b": "boolean"}
    schema = {"type": kinds[tensor.dtype.kind]} if tensor.dtype.kind in kinds else {"anyOf": [{"type": "string"}, _BASE64]}
    if tensor.dtype.kind in "iu":
        limits = limits or [int(np.iinfo(tensor.dtype).min), int(np.iinfo(tensor.dtype).max)]
    if limits:
        schema |= {"minimum": limits[0], "maximum": limits[1]}
    for size in reversed(tensor.shape):
        schema = {"type": "array", "items": schema, "minItems": size or 1, "maxItems": size or batch}
    return schema


_BASE64 = {"type": "object", "properties": {"b64": {"type": "string"}}, "required": ["b64"], "additionalProperties": False}


def _pictures(base, exported):
    """The routes of pictures, where the model's default endpoint makes images of latents."""
    default = exported.pictured
    if default is None:
        return {}
    about = exported.card["endpoints"][default.name]["inputs"]
    of_object = {
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "default": 0},
        "z": _schema(Tensor(default.inputs["z"].dtype, default.inputs["z"].shape[1:]), {}, 1),
    }
    views = {
        key: _schema(Tensor(tensor.dtype, tensor.shape[1:]), about.get(key, {}), 1)
        for key, tensor in default.inputs.items()
        if key != "z"
    }
    shows = {"show": {"enum": list(pictures.SHOWS), "default": pictures.SHOWS[0]}} if exported.shows_depth else {}
    found = {f"{base}/image": _file("An object", of_object | views | shows, "image", pictures.IMAGE_FORMATS)}
    if exported.card["views"] and "azimuth_deg" in views:
        del views["azimuth_deg"]
        lengths = {
            key: {"type": "integer", "minimum": bounds[0], "maximum": bounds[1], "default": pictures.DEFAULTS[key]}
            for key, bounds in (("frames", pictures.FRAMES), ("frame_ms", pictures.FRAME_MS))
        }
        told = of_object | views | shows | lengths
        found[f"{base}/turntable"] = _file("An object that turns", told, "image", pictures.FILM_FORMATS)
    if exported.makes_meshes:
        found[f"{base}/mesh"] = _file("An object's surface", of_object, "model", ("gltf-binary",))
    return found


def _file(summary, parameters, kind, formats):
    if len(formats) > 1:
        parameters = parameters | {"format": {"enum": list(formats), "default": formats[0]}}
    content = {"content": {f"{kind}/{name}": {"schema": {}} for name in formats}}
    body = {"type": "object", "properties": parameters, "additionalProperties": False}
    query = [
        {"name": key, "in": "query", "schema": schema, "style": "form", "explode": False} for key, schema in parameters.items()
    ]
    return {
        "get": _operation(summary, content) | {"parameters": query},
        "post": _operation(summary, content) | {"requestBody": {"required": True} | _json(body)},
    }
