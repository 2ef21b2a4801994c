"""The page without a server, in a real browser: from Python's http.server, with no server of ours and no other host."""

import io
import subprocess
import urllib.parse

import numpy as np
import pytest
from conftest import ROOT, run
from PIL import Image
from serving.browsing import button, drag, launched, opened, seen, until, wait
from serving.process import made

from benchmarks.page import published
from configs import base
from holotf import static_page
from holotf.errors import UserError
from holotf.pictures import depth_pictures
from holotf.serving.exported import Exported

pytestmark = pytest.mark.slow
OBJECT = "#seed=5&azimuth_deg=100&elevation_deg=20&scale=1"
CACHE = str(ROOT / "runs" / "cache" / "npm")  # of the config, from wherever tests run


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """What the page needs of npm; where the network is away and nothing is kept, tests skip."""
    folder = tmp_path_factory.mktemp("runtime")
    for package, wanted in static_page.RUNTIME.items():
        try:
            package.copy(wanted, str(folder), CACHE)
        except UserError as error:
            pytest.skip(f"npm's packages cannot be had here: {error}")


@pytest.fixture(scope="module")
def browser(runtime):
    with launched() as started:
        yield started


@pytest.fixture(scope="module")
def turning(browser, tmp_path_factory):
    """(the export, the folder that the command line made of it)."""
    folder = tmp_path_factory.mktemp("turning")
    made(folder / "chairs" / "1", **{"views.scale": (0.8, 1.2)})
    arguments = ["--mode=export", "--format", "web", f"--config.export.dir={folder / 'page'}", f"--config.export.runtime={CACHE}"]
    done = run("--config=configs/base.py", f"--workdir={folder / 'chairs' / '1'}", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"python -m http.server -d {folder / 'page'} 8000" in done.stdout
    return Exported(str(folder / "chairs")), folder / "page"


@pytest.fixture
def visit(browser):
    """visit(folder, rest of the address) serves a folder and opens its page; all that it asks has to go there."""
    asked, broke, servers, contexts = [], [], [], []

    def visited(folder, where=OBJECT):
        servers.append(published(folder))
        address = servers[-1].__enter__()
        contexts.append(context := browser.new_context(reduced_motion="reduce", service_workers="block"))
        context.set_default_timeout(120_000)
        context.on("request", lambda request: asked.append((address, request.method, request.url)))
        page = context.new_page()
        page.on("pageerror", lambda error: broke.append(str(error)))
        page.on("console", lambda said: broke.append(said.text) if said.type == "error" else None)
        page.goto(f"{address}/{where}")
        until(page, "window.holotf.shown.length > 0")
        return page

    yield visited
    for context in contexts:
        context.close()
    for server in servers:
        server.__exit__(None, None, None)
    assert not broke
    assert any(url.endswith(".wasm") for _, _, url in asked)
    for address, method, url in asked:
        assert method == "GET"
        assert url.startswith(f"{address}/") or urllib.parse.urlsplit(url).scheme in ("blob", "data"), url


def close(images, expected):
    """As the SavedModel draws them, to the 3 levels that weights of 16 bits may cost."""
    assert expected.std() > 10
    return np.abs(np.asarray(images).astype(int) - expected.astype(int)).max() <= 3


def expected(model, seed, **view):
    z = model.endpoints["latents"]({"seed": np.array([seed])})["z"]
    view = {"azimuth_deg": 100, "elevation_deg": 20, "scale": 1} | view
    views = {key: np.float32([value]) for key, value in view.items()} | {"translation": np.zeros((1, 3), np.float32)}
    return model.endpoints["generate"]({"z": z, **views})["images"][0]


def test_it_turns_and_makes_the_objects_that_the_server_makes(visit, turning):
    model, folder = turning
    page = visit(folder)
    assert close(seen(page), expected(model, 5))
    drag(page, -40, 10)
    wait(page, azimuth_deg=120, elevation_deg=25)
    assert close(seen(page), expected(model, 5, azimuth_deg=120, elevation_deg=25))
    page.locator("canvas").hover()
    page.mouse.wheel(0, -100)
    wait(page, scale=1.1)
    assert close(seen(page), expected(model, 5, azimuth_deg=120, elevation_deg=25, scale=1.1))
    button(page, "New object").click()
    until(page, "window.holotf.shown.at(-1).object !== 'seed=5'")
    seed = int(page.evaluate("window.holotf.shown.at(-1).object").removeprefix("seed="))
    assert close(seen(page), expected(model, seed, azimuth_deg=120, elevation_deg=25, scale=1.1))
    assert page.evaluate("window.holotf.requests.most") <= 2


def test_depth_is_what_the_savedmodel_says(visit, turning):
    model, folder = turning
    page = visit(folder, f"{OBJECT}&show=depth")
    z = model.endpoints["latents"]({"seed": np.array([5])})["z"]
    view = {"azimuth_deg": 100, "elevation_deg": 20, "scale": 1, "translation": (0, 0, 0)}
    views = {key: np.float32([value]) for key, value in view.items()}
    near = model.endpoints["depth"]({**model.endpoints["volume"]({"z": z}), **views})["depth"]
    assert np.abs(seen(page).astype(int) - depth_pictures(near, 32)[0]).max() <= 2
    assert not button(page, "Mesh").is_visible()


def test_it_keeps_walks_and_gives_away(visit, turning):
    model, folder = turning
    page = visit(folder)
    for seed in (5, 6):
        page.evaluate("hash => { location.hash = hash }", OBJECT.replace("5", str(seed), 1))
        wait(page, object=f"seed={seed}")
        button(page, "Keep").click()
    page.get_by_label("Way between the two objects").fill("50")
    until(page, "window.holotf.shown.at(-1).object.startsWith('z=')")
    ends = model.endpoints["latents"]({"seed": np.array([5, 6])})["z"]
    view = {"azimuth_deg": [100], "elevation_deg": [20], "scale": [1], "translation": [[0, 0, 0]]}
    views = {key: np.float32(value) for key, value in view.items()}
    assert close(seen(page), model.endpoints["generate"]({"z": ends.mean(axis=0, keepdims=True), **views})["images"][0])
    page.evaluate("hash => { location.hash = hash }", OBJECT)
    wait(page, object="seed=5")
    files = {}
    for name in ("PNG", "GIF"):
        with page.expect_download() as download:
            button(page, name).click()
        assert download.value.suggested_filename == f"chairs-object-5.{name.lower()}"
        files[name] = download.value.path().read_bytes()
    np.testing.assert_array_equal(opened(files["PNG"]), seen(page))
    film = Image.open(io.BytesIO(files["GIF"]))
    assert (film.format, film.n_frames, film.info["duration"], film.info["loop"]) == ("GIF", 36, 60, 0)
    film.seek(10)
    frame = np.asarray(film.convert("RGB")).astype(int)
    assert np.abs(frame - expected(model, 5)).mean() < 10  # 256 colours
    assert np.abs(frame - expected(model, 5)[:, ::-1]).mean() > 10


def test_a_picture_of_ones_own_is_found_there_too(visit, turning):
    model, folder = turning
    page = visit(folder)
    file = io.BytesIO()
    Image.fromarray(expected(model, 6, azimuth_deg=40)).save(file, "png")
    page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": file.getvalue()})
    until(page, "window.holotf.shown.at(-1).object.startsWith('z=')")
    others = [expected(model, seed, azimuth_deg=40) for seed in range(10, 18)]
    found, *apart = (np.abs(image - expected(model, 6, azimuth_deg=40).astype(int)).mean() for image in (seen(page), *others))
    assert found < min(apart)


def test_what_does_not_turn_has_no_turning_controls(visit, tmp_path):
    made(tmp_path / "faces" / "1", **{"model.name": "vae"})
    settings = base.get_config().export
    settings.runtime = CACHE
    static_page.write(str(tmp_path / "faces"), str(tmp_path / "page"), settings)
    page = visit(tmp_path / "page", "#seed=7")
    assert page.title() == "faces · holotf"
    assert page.get_by_role("slider").count() == 0
    model = Exported(str(tmp_path / "faces"))
    z = model.endpoints["latents"]({"seed": np.array([7])})["z"]
    assert close(seen(page), model.endpoints["serving_default"]({"z": z})["images"][0])
    texts = [path.read_text(encoding="utf-8") for path in (tmp_path / "page" / "runtime").iterdir() if path.suffix != ".wasm"]
    named = {word for text in texts for word in text.replace('"', " ").replace("'", " ").split() if word.startswith("http")}
    assert named <= {"https://web.dev/cross-origin-isolation-guide/"}, "a hint, for people"


def test_a_model_that_cannot_be_had_is_said(browser, turning, tmp_path):
    subprocess.run(["cp", "-r", turning[1], tmp_path / "page"], check=True)
    (tmp_path / "page" / "model" / "render.onnx").unlink()
    with published(tmp_path / "page") as address:
        page = browser.new_page()
        page.goto(address)
        page.get_by_role("status").filter(has_text="render.onnx").wait_for()
        page.close()
