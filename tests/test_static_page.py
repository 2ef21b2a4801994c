"""The page without a server: its model draws what the export draws, and its files ask nobody else."""

import json
import re
import sys

import numpy as np
import onnxruntime
import pytest
from conftest import small_config
from serving.process import made

from holotf import export as export_verb
from holotf import onnx_model, static_page
from holotf.errors import UserError
from holotf.serving.exported import Exported

FOREIGN = re.compile(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[\w.-]+\.\w+[^\"'`\s]*")


def exported(folder, **changes):
    made(folder, **changes)
    return Exported(str(folder))


@pytest.fixture(scope="module")
def turning(tmp_path_factory):
    """(an exported HoloGAN, the folder of its ONNX models, what model.json says)."""
    folder = tmp_path_factory.mktemp("turning")
    model = exported(folder / "saved_model", **{"views.scale": (0.8, 1.2)})
    (folder / "model").mkdir()
    return model, folder / "model", static_page.write_model(model, folder / "model", "float16")


def run(path, **feeds):
    session = onnxruntime.InferenceSession(str(path))
    return session.run(None, feeds)[0]


def test_a_turned_object_looks_as_the_savedmodel_draws_it(turning):
    """With weights of 16 bits: no pixel by more than 3 levels of 255, by 0.2 on average; one volume serves all views."""
    model, folder, told = turning
    assert told == json.loads((folder / "model.json").read_text())
    assert told["differs"]["pixels"]["most"] <= 3
    z = model.endpoints["latents"]({"seed": np.array([77])})["z"]
    volume = run(folder / "volume.onnx", z=z)
    assert set(told["parts"]) == {"volume", "render", "depth"}
    for azimuth, elevation, scale in ((0, 20, 1), (90, 15, 0.8), (137.5, 35, 1.2), (270, 25, 1), (359, 35, 0.9)):
        view = {"azimuth_deg": azimuth, "elevation_deg": elevation, "scale": scale}
        view = {key: np.float32([value]) for key, value in view.items()} | {"translation": np.zeros((1, 3), np.float32)}
        expected = model.endpoints["generate"]({"z": z, **view})["images"].astype(int)
        differs = np.abs(run(folder / "render.onnx", z=z, volume=volume, **view) - expected)
        assert expected.std() > 10
        assert differs.max() <= 3
        assert differs.mean() <= 0.2
        near = model.endpoints["depth"]({**model.endpoints["volume"]({"z": z}), **view})["depth"]
        assert np.abs(run(folder / "depth.onnx", volume=volume, **view) - near).max() < 0.02


def test_nothing_is_stored_that_can_be_made(turning):
    """Weights of 16 bits, and no constant that is one number many times: what remains is the grid of voxels."""
    model, folder, _ = turning
    functions = [model.endpoints[name].function for name in ("volume", "render")]
    weights = sum(int(np.prod(v.shape)) for f in functions for v in f.variables)
    fused = 64 / 27  # taps of an enlargement and a convolution in one
    size = sum((folder / f"{name}.onnx").stat().st_size for name in ("volume", "render"))
    assert size < 2 * fused * weights + 300_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("dcgan", {"distribution": "uniform", "split": False}),
        ("vae", {"distribution": "normal", "split": False}),
        ("projection_gan", {"file": "latents.bin", "seeds": 256}),
    ],
)
def test_models_that_do_not_turn_come_along(name, recipe, tmp_path):
    model = exported(tmp_path / "saved_model", **{"model.name": name})
    (tmp_path / "model").mkdir()
    told = static_page.write_model(model, tmp_path / "model", "float32")
    assert told["latents"] == recipe
    z = model.endpoints["latents"]({"seed": np.arange(256)})["z"]
    if "file" in recipe:
        np.testing.assert_array_equal(np.fromfile(tmp_path / "model" / "latents.bin", "<f4").reshape(z.shape), z)
    (part,) = told["parts"].values()
    expected = model.endpoints["serving_default"]({"z": z[:1]})["images"].astype(int)
    assert np.abs(run(tmp_path / "model" / part, z=z[:1]) - expected).max() <= 1


def test_the_latents_of_seeds_have_a_recipe(turning):
    assert turning[2]["latents"] == {"distribution": "uniform", "split": True}


def test_pixels_that_move_too_far_are_refused(turning, tmp_path, monkeypatch):
    model, folder, _ = turning
    parts = {name: (folder / f"{name}.onnx").read_bytes() for name in ("volume", "render", "depth")}
    kept = {"volume": parts["volume"], "images": parts["render"], "depth": parts["depth"]}

    def converted(function, weights):
        return next(part for name, part in kept.items() if name in function.structured_outputs)

    monkeypatch.setattr(onnx_model, "convert", converted)
    monkeypatch.setattr(static_page, "MOST", -1)
    with pytest.raises(UserError, match=r"export.weights='float16' moves pixels by \d of 255 levels, -1 are allowed"):
        static_page.write_model(model, tmp_path, "float16")
    assert not list(tmp_path.iterdir())


def test_the_pages_own_files_name_no_other_host(tmp_path):
    static_page.write_page(tmp_path)
    texts = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()}
    assert {"index.html", "main.js", "local.js", "worker.js", "style.css", "icon.svg"} <= {path.name for path in texts}
    code = {path: re.sub(r"//.*", "", text) if path.suffix == ".js" else text for path, text in texts.items()}
    assert not [found for text in code.values() for found in FOREIGN.findall(text)]
    page = texts[tmp_path / "index.html"]
    assert f'content="{static_page.POLICY}"' in page
    assert not re.search(r"\*|https?:", static_page.POLICY)
    for relative in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert (tmp_path / relative).is_file()


def test_what_cannot_be_is_said_before_anything_is_made(tmp_path, monkeypatch):
    config = small_config(**{"model.name": "dcgan", "export.format": "web", "export.dir": str(tmp_path / "page")})
    with pytest.raises(UserError, match=r"no checkpoint in"):
        export_verb.run(config, str(tmp_path / "none"))
    config.export.weights = "int4"
    with pytest.raises(UserError, match=r"export.weights='int4': use float16 or float32"):
        export_verb.run(config, str(tmp_path / "none"))
    config.export.weights = "float16"
    (tmp_path / "page").mkdir()
    with pytest.raises(UserError, match=r"page exists: remove it first, or give another export.dir"):
        export_verb.run(config, str(tmp_path / "none"))
    config.export.format = "pdf"
    with pytest.raises(UserError, match=r"export.format='pdf': use saved_model or web"):
        export_verb.run(config, str(tmp_path / "none"))
    config.export.update({"format": "web", "dir": str(tmp_path / "new")})
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(UserError, match=r"export.format='web' needs the package tf2onnx: pip install 'holotf\[web\]'"):
        export_verb.run(config, str(tmp_path / "none"))
