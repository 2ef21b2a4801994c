"""What is asked for in an address or in JSON, and the files that come of it."""

import io
import types

import numpy as np
import pytest
from PIL import Image, ImageSequence
from starlette.exceptions import HTTPException

from holotf.serving import pictures
from holotf.serving.exported import Tensor

INPUTS = {"z": (None, 2), "azimuth_deg": (None,), "scale": (None,), "translation": (None, 3)}
ENDPOINT = types.SimpleNamespace(name="generate", inputs={key: Tensor(np.dtype("float32"), shape) for key, shape in INPUTS.items()})


def model(low=0.0, high=360.0, **changes):
    """What `pictures` reads of an export."""
    ranges = {"azimuth_deg": [low, high], "scale": [0.8, 1.2], "translation": [[-0.1, 0.3], [0, 0], [0, 0]]}
    inputs = {"z": {}} | {key: {"range": value} for key, value in ranges.items()}
    views = {"ranges": {"azimuth_deg": [low, high]}, "azimuth_closes_circle": high - low >= 360}
    card = {"endpoints": {"generate": {"inputs": inputs}}, "views": views}
    told = {"pictured": ENDPOINT, "card": card, "shows_depth": False, "makes_meshes": False}
    return types.SimpleNamespace(**told | changes)


def test_an_address_and_json_ask_for_the_same():
    text = pictures.image({"seed": "3", "azimuth_deg": "40", "translation": "0.1,0,-1", "format": "webp"}, model())
    told = pictures.image({"seed": 3, "azimuth_deg": 40, "translation": [0.1, 0, -1], "format": "webp"}, model())
    assert (text.seed, text.z, text.format) == (told.seed, told.z, told.format) == (3, None, "webp")
    for key, value in text.others.items():
        np.testing.assert_array_equal(value, told.others[key])
    np.testing.assert_array_equal(text.others["translation"], np.float32([[0.1, 0, -1]]))
    np.testing.assert_array_equal(pictures.image({"z": "0.5,-1"}, model()).z, [0.5, -1])


def test_what_is_not_said_rests_in_the_middle_of_its_range():
    asked = pictures.image({}, model())
    assert (asked.seed, asked.format) == (0, "png")
    assert {key: value.tolist() for key, value in asked.others.items() if key != "translation"} == {
        "azimuth_deg": [180],
        "scale": [1],
    }
    np.testing.assert_allclose(asked.others["translation"], [[0.1, 0, 0]])


def test_a_film_closes_a_circle_or_goes_there_and_back():
    round_, swing = (pictures.film({"frames": 8}, model(*r)).others for r in ((0, 360), (-60, 60)))
    assert round_["azimuth_deg"].tolist() == [0, 45, 90, 135, 180, 225, 270, 315]
    assert swing["azimuth_deg"].tolist() == [-60, -30, 0, 30, 60, 30, 0, -30]
    assert round_["translation"].shape == (8, 3)


REFUSED = [
    ({"azimut": "1"}, "unknown parameter 'azimut': use seed, z, azimuth_deg, scale, translation, format"),
    ({"seed": "-1"}, "seed='-1': use 0 to 2147483647"),
    ({"seed": "1e3"}, "seed='1e3': use 0 to"),
    ({"seed": True}, "seed='True': use 0 to"),
    ({"seed": None}, "seed='None': use 0 to"),
    ({"seed": "9" * 5000}, "seed='999"),
    ({"seed": 1, "z": [1, 2]}, "give seed or z, not both"),
    ({"z": "1"}, "z: shape [1, 1]; expected float32 [n, 2]"),
    ({"z": {"a": 1}}, "z: shape [1]; expected float32 [n, 2]"),
    ({"z": [1, "b"]}, "z: JSON Value is not of expected type"),
    ({"azimuth_deg": "north"}, "azimuth_deg='north': use a number"),
    ({"azimuth_deg": "1,2"}, "azimuth_deg: shape [1, 2]; expected float32 [n]"),
    ({"azimuth_deg": ""}, "azimuth_deg='': use a number"),
    ({"translation": "1"}, "translation: shape [1, 1]"),
    ({"format": "bmp"}, "format='bmp': use png or webp"),
    ({"format": []}, "format='[]': use png or webp"),
]


@pytest.mark.parametrize(("told", "message"), REFUSED, ids=str)
def test_what_is_wrong_is_said(told, message):
    with pytest.raises(HTTPException) as error:
        pictures.image(told, model())
    assert error.value.status_code == 400
    assert error.value.detail.startswith(message)
    assert len(error.value.detail) < 200


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"azimuth_deg": "3"}, "unknown parameter 'azimuth_deg'"),
        ({"frames": "1"}, "frames='1': use 2 to 180"),
        ({"frames": 181}, "frames='181': use 2 to 180"),
        ({"frame_ms": 1}, "frame_ms='1': use 20 to 1000"),
        ({"format": "png"}, "format='png': use webp or gif"),
    ],
)
def test_what_is_wrong_with_a_film_is_said(told, message):
    with pytest.raises(HTTPException) as error:
        pictures.film(told, model())
    assert error.value.detail.startswith(message)


def test_a_model_without_views_makes_no_film():
    with pytest.raises(HTTPException, match="this model does not turn: its card has no views"):
        pictures.film({}, model(card=model().card | {"views": None}))


def test_an_input_without_a_range_has_to_be_given():
    endpoint = types.SimpleNamespace(
        name="generate", inputs={"z": ENDPOINT.inputs["z"], "label": Tensor(np.dtype("int32"), (None,))}
    )
    unknown = model(pictured=endpoint, card={"endpoints": {"generate": {"inputs": {}}}})
    with pytest.raises(HTTPException, match=r"label: give int32 \[n\], without its first axis"):
        pictures.image({}, unknown)
    assert pictures.image({"label": 3}, unknown).others["label"].tolist() == [3]


def test_depth_and_meshes_are_asked_of_those_that_have_them():
    assert pictures.image({"show": "depth"}, model(shows_depth=True)).show == "depth"
    with pytest.raises(HTTPException, match="unknown parameter 'show'"):
        pictures.image({"show": "depth"}, model())
    assert pictures.of_mesh({"seed": "3"}, model(makes_meshes=True)) == (3, None)
    with pytest.raises(HTTPException, match="this model makes no meshes"):
        pictures.of_mesh({"seed": "3"}, model())


@pytest.mark.parametrize("form", pictures.IMAGE_FORMATS)
def test_an_image_opened_again_has_its_pixels(form):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    asked = pictures.Asked(0, None, {}, "image", form)
    opened = Image.open(io.BytesIO(pictures.encoded(pixels, asked)))
    assert opened.format == form.upper()
    np.testing.assert_array_equal(np.asarray(opened.convert("RGB")), pixels[0])


@pytest.mark.parametrize("form", pictures.FILM_FORMATS)
def test_a_film_opened_again_has_its_frames_and_repeats(form):
    pixels = np.stack([np.full((32, 32, 3), 50 * i, np.uint8) for i in range(4)])
    opened = Image.open(io.BytesIO(pictures.encoded(pixels, pictures.Asked(0, None, {}, "image", form, frame_ms=80))))
    assert (opened.format, opened.n_frames, opened.info["loop"]) == (form.upper(), 4, 0)
    frames = [(np.asarray(f.convert("RGB")), f.info["duration"]) for f in ImageSequence.Iterator(opened)]
    np.testing.assert_array_equal(np.stack([frame for frame, _ in frames]), pixels)
    assert {duration for _, duration in frames} == {80}
