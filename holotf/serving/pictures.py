"""Pictures for browsers: what is asked for, checked against the card, and images as PNG, WebP and GIF."""

import dataclasses
import io
from collections.abc import Mapping

import numpy as np
from PIL import Image
from starlette.exceptions import HTTPException

from holotf.serving.exported import Exported
from holotf.serving.tensors import array

SHOWS = ("image", "depth")
IMAGE_FORMATS = ("png", "webp")
FILM_FORMATS = ("webp", "gif")
FRAMES = (2, 180)  # of a film
FRAME_MS = (20, 1000)
DEFAULTS = {"frames": 36, "frame_ms": 60}
_BOUNDS = {"frames": FRAMES, "frame_ms": FRAME_MS}


@dataclasses.dataclass(frozen=True)
class Asked:
    """One object and how it is to be looked at.

    `seed` is None where z [Z] was given; `others` are the endpoint's other inputs, [n, ...] each; `show` is one of SHOWS.
    """

    seed: int | None
    z: np.ndarray | None
    others: dict[str, np.ndarray]
    show: str
    format: str
    frame_ms: int = 0


def image(told: Mapping[str, object], model: Exported) -> Asked:
    """What a request for one image asks for. What is not given rests in the middle of its range, which the card has.

    Args:
      told: values by name: text of a query, lists separated by commas, or JSON.
      model: one that makes images of latents.

    Raises:
      HTTPException: 400: a name or a value that cannot be.
    """
    endpoint = model.pictured
    _check_names(told, ["seed", "z", *_views(endpoint), *_shows(model), "format"])
    others = {key: _value(told.get(key), key, endpoint, model.card)[np.newaxis] for key in _views(endpoint)}
    return Asked(*_object(told, endpoint), others, *_form(told, IMAGE_FORMATS))


def film(told: Mapping[str, object], model: Exported) -> Asked:
    """What a request for a turning object asks for: the azimuth runs through the card's range, there and back if that is no circle.

    Args:
      told, model: as `image` takes them.

    Raises:
      HTTPException: 400: a name or a value that cannot be, or a model that does not turn.
    """
    endpoint, card = model.pictured, model.card
    if not card["views"] or "azimuth_deg" not in endpoint.inputs:
        raise HTTPException(400, "this model does not turn: its card has no views")
    fixed = [key for key in _views(endpoint) if key != "azimuth_deg"]
    _check_names(told, ["seed", "z", *fixed, *_shows(model), "frames", "frame_ms", "format"])
    frames, frame_ms = (_whole(told.get(key, default), key, *_BOUNDS[key]) for key, default in DEFAULTS.items())
    others = {key: _value(told.get(key), key, endpoint, card)[np.newaxis].repeat(frames, axis=0) for key in fixed}
    low, high = card["views"]["ranges"]["azimuth_deg"]
    phase = np.arange(frames) / frames  # of the way round
    way = phase if card["views"]["azimuth_closes_circle"] else 1.0 - np.abs(2.0 * phase - 1.0)
    others["azimuth_deg"] = (low + (high - low) * way).astype(np.float32)
    return Asked(*_object(told, endpoint), others, *_form(told, FILM_FORMATS), frame_ms)


def of_mesh(told: Mapping[str, object], model: Exported) -> tuple[int | None, np.ndarray | None]:
    """Whose mesh a request asks for: (seed, z), as `Asked` has them.

    Raises:
      HTTPException: 400: a name or a value that cannot be, or a model without a density.
    """
    if not model.makes_meshes:
        raise HTTPException(400, "this model makes no meshes: its card has no endpoints volume and density")
    _check_names(told, ["seed", "z"])
    return _object(told, model.pictured)


def encoded(images: np.ndarray, asked: Asked) -> bytes:
    """An image, or a film that repeats for ever, losslessly but for GIF's 256 colours: uint8 [n, H, W, 3] -> a file."""
    first, *more = map(Image.fromarray, images)
    options = {"save_all": True, "append_images": more, "duration": asked.frame_ms, "loop": 0} if more else {}
    file = io.BytesIO()
    first.save(file, asked.format.upper(), **options | ({"lossless": True} if asked.format == "webp" else {}))
    return file.getvalue()


def _shows(model):
    """The parameter that chooses between SHOWS, where there is a choice."""
    return ["show"] if model.shows_depth else []


def _views(endpoint):
    return [key for key in endpoint.inputs if key != "z"]


def _check_names(told, known):
    for name in told:
        if name not in known:
            raise HTTPException(400, f"unknown parameter {name[:40]!r}: use {', '.join(known)}")


def _object(told, endpoint):
    """(seed, z): one of them, seed 0 where neither is given."""
    if "z" in told and "seed" in told:
        raise HTTPException(400, "give seed or z, not both")
    if "z" in told:
        return None, _read(told["z"], "z", endpoint)
    return _whole(told.get("seed", 0), "seed", 0, 2**31 - 1), None


def _value(given, key, endpoint, card):
    if given is not None:
        return _read(given, key, endpoint)
    limits = card["endpoints"][endpoint.name]["inputs"].get(key, {}).get("range")
    if limits is None:
        raise HTTPException(400, f"{key}: give {endpoint.inputs[key]}, without its first axis")
    return _read(np.mean(limits, axis=-1).tolist(), key, endpoint)


def _read(given, key, endpoint):
    """One row of an input."""
    if isinstance(given, str):
        try:
            numbers = [float(word) for word in given.split(",")]
        except ValueError:
            raise HTTPException(400, f"{key}={given[:40]!r}: use a number, or numbers separated by commas") from None
        given = numbers if len(endpoint.inputs[key].shape) > 1 or len(numbers) > 1 else numbers[0]
    return array([given], endpoint.inputs[key], key)[0]


def _whole(given, key, least, most):
    try:
        number = int(given) if isinstance(given, (str, int)) and not isinstance(given, bool) else None
    except ValueError:
        number = None
    if number is None or not least <= number <= most:
        raise HTTPException(400, f"{key}={str(given)[:40]!r}: use {least} to {most}")
    return number


def _form(told, formats):
    """(show, format)."""
    found = []
    for key, values in (("show", SHOWS), ("format", formats)):
        found.append(told.get(key, values[0]))
        if found[-1] not in values:
            raise HTTPException(400, f"{key}={str(found[-1])[:40]!r}: use {' or '.join(values)}")
    return found
