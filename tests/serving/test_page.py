"""The page in a real browser, over the real server and an exported HoloGAN: what the hand does is what is asked for and seen."""

import base64
import io
import signal
import urllib.parse

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from serving.browsing import button, drag, launched, opened, seen, until, wait
from serving.process import close, made, running

from holotf.export import export

OBJECT = "#seed=5&azimuth_deg=100&elevation_deg=20&scale=1"


@pytest.fixture(scope="module")
def browser():
    with launched() as started:
        yield started


@pytest.fixture(scope="module")
def server(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "chairs"
    made(folder / "1", **{"views.scale": (0.8, 1.2)})
    with running("--model", folder, "--port", "0") as found:
        yield found


@pytest.fixture(scope="module")
def flat(server, tmp_path_factory):
    """A server of a model that does not turn, which the other one's page may ask."""
    folder = tmp_path_factory.mktemp("flat") / "faces"
    made(folder / "1", **{"model.name": "dcgan"})
    with running("--model", folder, "--port", "0", "--cors", server.address) as found:
        yield found


@pytest.fixture(scope="module")
def told(server, tmp_path_factory):
    """A server of a model that turns and is told labels."""
    folder = tmp_path_factory.mktemp("told") / "things"
    made(folder / "1", **{"model.name": "conditional_hologan", "model.most_labels": 2})
    with running("--model", folder, "--port", "0", "--cors", server.address) as found:
        yield found


@pytest.fixture
def visit(browser, server):
    """visit(rest of the address) opens the page and waits for its first picture; all that it asks has to go to our servers."""
    contexts, asked, broke = [], [], []

    def visited(where=OBJECT, prepare=lambda context: None, **options):
        contexts.append(context := browser.new_context(reduced_motion="reduce", **options))
        context.set_default_timeout(120_000)
        context.on("request", lambda request: asked.append(request.url))
        prepare(context)
        page = context.new_page()
        page.on("pageerror", lambda error: broke.append(str(error)))
        page.goto(f"{server.address}/{where}")
        until(page, "window.holotf.shown.length > 0")
        return page

    visited.asked = asked
    yield visited
    for context in contexts:
        context.close()
    assert not broke
    hosts = {parts.netloc for parts in map(urllib.parse.urlsplit, asked) if parts.scheme not in ("blob", "data")}
    assert all(host.startswith("127.0.0.1:") for host in hosts), hosts


def shows(page, server, **view):
    """Waits for a view of object 5 (azimuth 100, elevation 20, scale 1 if not told); whether its pixels are the server's."""
    view = {"azimuth_deg": 100, "elevation_deg": 20, "scale": 1} | view
    wait(page, object="seed=5", **view)
    return close(seen(page), opened(server.get("/image", seed=5, **view)))


def azimuths(addresses):
    """Those that were asked for, in their order."""
    queries = [urllib.parse.parse_qs(urllib.parse.urlsplit(address).query) for address in addresses]
    return [float(query["azimuth_deg"][0]) for query in queries if "azimuth_deg" in query]


def says(page, text):
    page.get_by_role("status").filter(has_text=text).wait_for()


def test_the_object_follows_the_hand(visit, server):
    """To the left the camera's azimuth grows (the front goes left: docs/conventions.md), down shows more of the top."""
    page = visit()
    assert shows(page, server)
    before = len(visit.asked)
    drag(page, -40, 10)
    assert shows(page, server, azimuth_deg=120, elevation_deg=25)
    asked = azimuths(visit.asked[before:])
    assert min(asked) > 100
    assert 120 in asked
    drag(page, 80, -20)
    assert shows(page, server, azimuth_deg=80, elevation_deg=15)
    assert 80 in azimuths(visit.asked[before:])
    drag(page, 200)
    assert shows(page, server, azimuth_deg=340, elevation_deg=15), "the circle closes"
    page.get_by_role("img", name="Object 5, azimuth 340°, elevation 15°").wait_for()
    requests = page.evaluate("window.holotf.requests")
    assert requests["most"] <= 2


def test_momentum_dies_out(visit):
    turned = visit().evaluate(
        """async () => {
            const { Turn } = await import("/web/turn.js");
            const ranges = { azimuth_deg: [0, 360], elevation_deg: [0, 0], scale: [1, 1] };
            const turn = new Turn({ ranges, closes: true, turns: true });
            turn.speed = 200;
            const at = [];
            while (turn.go(0.02)) at.push(turn.at.azimuth_deg);
            return at;
        }"""
    )
    steps = np.diff(turned)
    assert np.all(steps > 0)
    assert np.all(np.diff(steps) < 0)
    np.testing.assert_allclose(steps[1:] / steps[:-1], np.exp(-0.02 / 0.35))
    assert 60 < turned[-1] < 75  # 200 degrees a second x 0.35 s, less what is below the speed at which it stops


def test_the_wheel_scales_within_the_range(visit, server):
    page = visit()
    page.locator("canvas").hover()
    page.mouse.wheel(0, -100)
    assert shows(page, server, scale=1.1)  # e^0.1 on a grid of 0.02
    page.mouse.wheel(0, -1000)
    assert shows(page, server, scale=1.2)
    page.mouse.wheel(0, 2000)
    assert shows(page, server, scale=0.8)


def test_new_objects_are_others_and_the_address_says_which(visit, server):
    page = visit()
    for ask in (button(page, "New object").click, lambda: page.keyboard.press("n"), lambda: page.keyboard.press("N")):
        before = page.evaluate("window.holotf.shown.at(-1).object")
        ask()
        until(page, "before => window.holotf.shown.at(-1).object !== before", before)
        now = page.evaluate("window.holotf.shown.at(-1).object")
        until(page, "now => location.hash.startsWith('#' + now + '&')", now)
        seed = int(now.removeprefix("seed="))
        assert close(seen(page), opened(server.get("/image", seed=seed, azimuth_deg=100, elevation_deg=20, scale=1)))


def test_a_walk_goes_from_one_kept_object_to_another(visit, server):
    page = visit()
    assert not page.get_by_label("Way between the two objects").is_visible()
    for seed in (5, 6):
        page.evaluate("hash => { location.hash = hash }", OBJECT.replace("5", str(seed), 1))
        wait(page, object=f"seed={seed}")
        button(page, "Keep").click()
    assert [page.get_by_label(end, exact=True).input_value() for end in ("From", "To")] == ["seed=5", "seed=6"]
    way = page.get_by_label("Way between the two objects")
    way.fill("50")
    until(page, "window.holotf.shown.at(-1).object.startsWith('z=')")
    ends = np.float32([server.predict(signature_name="latents", inputs={"seed": [seed]})["outputs"][0] for seed in (5, 6)])
    query = {"z": ends.mean(axis=0).tolist(), "azimuth_deg": 100, "elevation_deg": 20, "scale": 1}
    middle = opened(server.ask("POST", "/image", query)[2])
    assert close(seen(page), middle)
    until(page, "location.hash.startsWith('#z=')")
    other = visit(urllib.parse.urlsplit(page.url)._replace(scheme="", netloc="", path="").geturl())
    assert close(seen(other), middle), "such an object has a link, too"
    way.fill("100")
    wait(page, object="seed=6")
    page.reload()
    button(page, "Drop Object 6").wait_for()
    assert page.get_by_role("button", name="Drop Object").count() == 2, "they are kept for the next visit"
    button(page, "Drop Object 6").click()
    assert not way.is_visible()


def test_the_turntable_turns_until_it_is_paused(visit):
    page = visit()
    for toggle in (lambda: button(page, "Turntable").or_(button(page, "Pause")).click(), lambda: page.keyboard.press("Space")):
        count = page.evaluate("window.holotf.shown.length")
        toggle()
        until(page, "count => window.holotf.shown.length > count + 5", count)
        assert button(page, "Pause").get_attribute("aria-pressed") == "true"
        toggle()
        assert button(page, "Turntable").get_attribute("aria-pressed") == "false"
        until(page, "Number(document.getElementById('azimuth_deg').value) === window.holotf.shown.at(-1).azimuth_deg")
        turned = page.evaluate("window.holotf.shown.map((frame) => frame.azimuth_deg)")
        assert np.all(np.diff(turned) % 360 < 90)
        page.wait_for_timeout(200)
        assert page.evaluate("window.holotf.shown.at(-1).azimuth_deg") == turned[-1]
        page.locator("canvas").focus()


def test_what_is_taken_away_can_be_opened(visit, server):
    page = visit()
    files = {}
    for name in ("PNG", "GIF"):
        with page.expect_download() as download:
            button(page, name).click()
        assert download.value.suggested_filename == f"chairs-object-5.{name.lower()}"
        files[name] = Image.open(io.BytesIO(download.value.path().read_bytes()))
        assert files[name].format == name
    np.testing.assert_array_equal(files["PNG"].convert("RGB"), seen(page))
    assert files["GIF"].n_frames == 36
    files["GIF"].seek(10)
    frame = np.asarray(files["GIF"].convert("RGB")).astype(int)
    assert np.abs(frame - seen(page)).mean() < 10  # 256 colours
    assert np.abs(frame - seen(page)[:, ::-1]).mean() > 10


def test_depth_is_shown_and_the_link_says_so(visit, server):
    page = visit()
    button(page, "Depth").click()
    wait(page, show="depth", azimuth_deg=100)
    assert close(seen(page), opened(server.get("/image", seed=5, azimuth_deg=100, elevation_deg=20, scale=1, show="depth")))
    assert button(page, "Depth").get_attribute("aria-pressed") == "true"
    drag(page, -40)
    wait(page, show="depth", azimuth_deg=120)
    until(page, "location.hash.endsWith('&show=depth')")
    assert visit(urllib.parse.urlsplit(page.url)._replace(scheme="", netloc="", path="").geturl()).evaluate(
        "window.holotf.shown.at(-1).show === 'depth'"
    )
    button(page, "Depth").click()
    until(page, "window.holotf.shown.at(-1).show === undefined")
    assert shows(page, server, azimuth_deg=120)
    until(page, "!location.hash.includes('show')")


def test_a_mesh_is_taken_away(visit):
    trimesh = pytest.importorskip("trimesh", reason="pip install 'holotf[mesh]'")
    pytest.importorskip("skimage", reason="pip install 'holotf[mesh]'")
    page = visit()
    with page.expect_download() as download:
        button(page, "Mesh").click()
    assert download.value.suggested_filename == "chairs-object-5.glb"
    mesh = trimesh.load(io.BytesIO(download.value.path().read_bytes()), file_type="glb", force="mesh")
    assert len(mesh.faces) > 100
    assert np.abs(mesh.bounds).max() <= 1.1
    says(page, "The mesh is saved.")


@pytest.mark.slow
def test_what_an_object_shows_is_chosen(visit, told):
    """Of a model that is told labels, up to two of three: the latent ends with what was ticked, and new ones do."""
    page = visit(f"?server={told.address}{OBJECT}")
    boxes = {name: page.get_by_role("checkbox", name=name, exact=True) for name in ("red", "green", "blue")}
    z = np.float32(told.predict(signature_name="latents", inputs={"seed": [5]})["outputs"][0])
    until(
        page,
        "wanted => [0, 1, 2].every((i) => document.getElementById(`label-${i}`).checked === wanted[i])",
        (z[-3:] > 0.5).tolist(),
    )

    def latent():
        until(page, "window.holotf.shown.at(-1).object.startsWith('z=')")
        text = page.evaluate("window.holotf.shown.at(-1).object").removeprefix("z=")
        return np.frombuffer(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "<f4")

    first, *others = [box for box in boxes.values() if box.is_checked()]
    for box in others:
        box.uncheck()
    next(box for box in boxes.values() if not box.is_checked()).check()
    first.uncheck()
    wanted = [float(box.is_checked()) for box in boxes.values()]
    until(page, "window.holotf.requests.inFlight === 0")
    np.testing.assert_array_equal(latent(), [*z[:-3], *wanted])
    view = {"azimuth_deg": 100, "elevation_deg": 20, "scale": 1}
    assert close(seen(page), opened(told.ask("POST", "/image", {"z": latent().tolist(), **view})[2]))
    before = page.evaluate("window.holotf.shown.at(-1).object")
    button(page, "New object").click()
    until(page, "before => window.holotf.shown.at(-1).object !== before", before)
    assert latent()[-3:].tolist() == wanted
    assert np.abs(latent()[:-3] - z[:-3]).max() > 0.1
    next(box for box in boxes.values() if box.is_checked()).click()
    says(page, "An object shows one of them at least.")
    second, third = (box for box in boxes.values() if not box.is_checked())
    second.check()
    until(page, "window.holotf.requests.inFlight === 0")
    third.click()
    says(page, "This model shows 2 of them at most.")
    assert sum(box.is_checked() for box in boxes.values()) == 2
    button(page, "Any").click()
    until(page, "window.holotf.shown.at(-1).object.startsWith('seed=')")


def test_everything_is_at_the_keyboard(visit, server):
    page = visit()
    while page.evaluate("document.activeElement.id") != "picture":
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    assert shows(page, server, azimuth_deg=104)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert shows(page, server, azimuth_deg=96, elevation_deg=22)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("+")
    assert shows(page, server, azimuth_deg=96, scale=1.06)  # 1.05 on the grid
    page.get_by_role("slider", name="Azimuth").focus()
    page.keyboard.press("ArrowRight")
    assert shows(page, server, azimuth_deg=98, scale=1.06), "a slider's own step, once"


def test_on_a_phone_it_fits_and_fingers_turn_and_scale(visit, server):
    page = visit(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for each in [page.locator("canvas"), *page.get_by_role("button").all(), *page.get_by_role("slider").all()]:
        box = each.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
        assert box["height"] >= 28
    box = page.locator("canvas").bounding_box()
    assert box["y"] + box["height"] < 740
    fingers = page.context.new_cdp_session(page)

    def touch(kind, *xs):
        points = [{"x": box["x"] + x, "y": box["y"] + 100, "id": i} for i, x in enumerate(xs)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 150)
    touch("touchMove", 130)
    touch("touchMove", 110)
    touch("touchEnd")
    assert shows(page, server, azimuth_deg=120)
    touch("touchStart", 100, 200)
    touch("touchMove", 100, 201)
    touch("touchMove", 100, 212)
    touch("touchEnd")
    assert shows(page, server, azimuth_deg=120, scale=1.1)  # 112 / 101 on the grid


def test_dark_is_what_the_system_says_until_it_is_chosen(visit):
    page = visit(color_scheme="dark")

    def ground():
        return sum(map(int, page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g)")))

    assert ground() < 100
    button(page, "Dark").click()
    assert ground() > 600
    page.reload()
    assert ground() > 600
    assert button(page, "Dark").get_attribute("aria-pressed") == "false"


def test_the_link_holds_the_object_and_the_view(visit, server):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    drag(page, -40, 10)
    button(page, "Copy link").click()  # at once: the address follows the hand only when it rests
    says(page, "is in the clipboard")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == f"{server.address}/#seed=5&azimuth_deg=120&elevation_deg=25&scale=1"
    assert shows(visit(link.rpartition("/")[2]), server, azimuth_deg=120, elevation_deg=25)
    odd = visit("#seed=-1&azimuth_deg=north&elevation_deg=1e9&scale=nan")
    assert 0 <= int(odd.evaluate("window.holotf.shown.at(-1).object").removeprefix("seed=")) < 1_000_000
    wait(odd, azimuth_deg=0, elevation_deg=35, scale=1)


def test_a_server_that_goes_is_missed_and_found_again(visit, server):
    page = visit()
    until(page, "window.holotf.requests.inFlight === 0")
    server.stop(signal.SIGKILL)
    try:
        drag(page, -40, 10)
        says(page, "The server is away. Trying again…")
        button(page, "GIF").click()
        says(page, "The server is away. Try again in a moment.")
    finally:
        server.start("--port", server.port)
    says(page, "The server is back.")
    assert shows(page, server, azimuth_deg=120, elevation_deg=25)


def test_a_search_finds_the_latent_and_the_side_of_a_picture(visit):
    """Of a model that is known: pixels of its latent's four numbers and of the view. The azimuth lies beside the circle's seam."""
    found = visit().evaluate("""async () => {
        const { explain } = await import("/web/photo.js");
        const turned = (view, k) => 50 * Math.cos(((view.azimuth_deg - 30 * k) * Math.PI) / 180);
        const pixel = (z, view, k) => 128 + 60 * z[k % 4] + turned(view, k) + view.elevation_deg;
        const pixels = (z, view) => Array.from({ length: 48 }, (_, k) => pixel(z, view, k));
        const model = {
            zDim: 4, uniform: true, latentRange: [-1, 1], closes: true,
            ranges: { azimuth_deg: [0, 360], elevation_deg: [10, 40], scale: [1, 1] },
            labelled: (z, labels) => Float32Array.of(...z.slice(0, z.length - labels.length), ...labels),
            made: async (latents, views) => latents.map((z, i) => pixels(z, views[i])),
        };
        const photo = pixels([0.5, -0.3, 0.8, 0], { azimuth_deg: 355, elevation_deg: 20 });
        const shares = [];
        const told = await explain(photo, model, (share) => shares.push(share));
        const again = await explain(photo, model);
        const labelled = await explain(photo, model, () => {}, [1, 0]);
        return { ...told, z: [...told.z], again: [...again.z], labelled: [...labelled.z], shares };
    }""")
    assert found["labelled"][2:] == [1, 0]
    assert abs((found["azimuth_deg"] - 355 + 180) % 360 - 180) < 10
    np.testing.assert_allclose(found["z"], [0.5, -0.3, 0.8, 0], atol=0.3)
    assert 10 <= found["elevation_deg"] <= 40
    assert found["z"] == found["again"], "the same picture gives the same answer"
    assert found["shares"] == sorted(found["shares"])
    assert found["shares"][-1] == 1


def test_a_picture_of_ones_own_is_found_and_turned(visit, server):
    page = visit()
    photo = server.get("/image", seed=6, azimuth_deg=40)
    page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": photo})
    until(page, "document.getElementById('alike').textContent !== ''")
    until(page, "window.holotf.shown.at(-1).object.startsWith('z=')")

    def error(image):
        return np.sqrt(np.mean((image.astype(float) - opened(photo)) ** 2))

    others = [opened(server.get("/image", seed=seed, azimuth_deg=40)) for seed in range(10, 18)]
    assert error(seen(page)) < min(map(error, others))
    told = int(page.locator("#alike").inner_text().split()[-3])
    assert told == pytest.approx(error(seen(page)), abs=1)  # it is rounded, and sums round otherwise in another batch
    before = page.evaluate("window.holotf.shown.at(-1)")
    drag(page, -40)
    wait(page, object=before["object"], azimuth_deg=(before["azimuth_deg"] + 20) % 360)


def test_a_file_that_is_no_picture_is_said(visit):
    page = visit()
    page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": b"\x89PNG no more"})
    says(page, "The browser cannot read that file as a picture.")


def test_what_does_not_turn_has_no_turning_controls(visit, flat):
    """Of another server, which the address names and which allows this page's origin."""
    page = visit(f"?server={flat.address}")
    assert page.title() == "faces · holotf"
    assert page.get_by_role("slider").count() == 0
    names = page.get_by_role("button").all_inner_texts()
    assert names == ["Dark", "New object", "Keep", "PNG", "Copy link", "Show pixels"]
    before = page.evaluate("window.holotf.requests.sent")
    drag(page, -40)
    for key in ("ArrowLeft", "+", "Space"):
        page.keyboard.press(key)
    assert page.evaluate("window.holotf.requests.sent") == before
    seed = page.evaluate("window.holotf.shown.at(-1).object").removeprefix("seed=")
    until(page, "seed => location.hash === `#seed=${seed}`", seed)
    assert close(seen(page), opened(flat.get("/image", seed=seed)))


def test_a_server_that_is_busy_at_first_is_no_other_one(visit, server):
    answers = iter([503])

    def busy(route):
        status = next(answers, None)
        return route.continue_() if status is None else route.fulfill(status=status, body="{}")

    page = visit(prepare=lambda context: context.route("**/card", busy))
    assert shows(page, server)
    assert button(page, "Depth").is_visible()


def test_an_export_of_generate_alone_shows_objects(visit, server, tmp_path):
    """Without latents of seeds, and on a server that takes fewer rows at once than the page asks for."""
    model, _ = made(tmp_path / "all", **{"views.scale": (0.8, 1.2)})
    export(model, str(tmp_path / "few" / "1"), endpoints=("generate",))
    with running("--model", tmp_path / "few", "--port", "0", "--batch", "2", "--cors", server.address) as few:
        page = visit(f"?server={few.address}{OBJECT}")
        first = seen(page)
        assert first.std() > 10
        photo = server.get("/image", seed=6, azimuth_deg=40)
        page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": photo})
        until(page, "document.getElementById('alike').textContent !== ''")
        until(page, "window.holotf.shown.at(-1).object.startsWith('z=')")
        assert np.any(seen(page) != first)


def test_tensorflow_servings_own_api_is_enough(visit, server):
    """A server that has :predict and metadata alone, without card and pictures."""
    page = visit(
        f"?server={server.address}{server.model}{OBJECT}",
        lambda context: context.route("**/card", lambda route: route.fulfill(status=404, body="{}")),
    )
    assert shows(page, server)
    drag(page, -40, 10)
    assert shows(page, server, azimuth_deg=120, elevation_deg=25)
    assert not [address for address in visit.asked if "/image" in address]
    assert not any(button(page, name).is_visible() for name in ("GIF", "Depth", "Mesh"))


def test_a_locked_store_stops_nothing(visit, server):
    locked = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('', 'SecurityError'); } })"
    page = visit(prepare=lambda context: context.add_init_script(locked))
    button(page, "Dark").click()
    button(page, "Keep").click()
    assert page.get_by_role("button", name="Drop Object").count() == 1
    assert shows(page, server)


def test_the_page_draws_the_latents_that_tensorflow_draws(visit, server):
    """Where no server tells them: of a model that splits its seed and of one that does not, uniform and normal."""
    seeds = [0, 1, 5, 123_456, 2**31 - 1]
    drawn = visit().evaluate(
        """async (seeds) => {
            const { latent } = await import("/web/draw.js");
            const both = (split) => ["uniform", "normal"].map((distribution) => ({ distribution, split }));
            const recipes = [false, true].flatMap(both);
            return recipes.map((recipe) => seeds.map((seed) => [...latent(seed, 10, recipe)]));
        }""",
        seeds,
    )
    pairs = [[tf.constant([seed, 0]) for seed in seeds], [tf.random.split([seed, 0], 2)[0] for seed in seeds]]
    for (uniform, normal), of_seeds in zip((drawn[:2], drawn[2:]), pairs, strict=True):
        np.testing.assert_array_equal(uniform, [tf.random.stateless_uniform([10], pair, -1.0, 1.0) for pair in of_seeds])
        np.testing.assert_allclose(normal, [tf.random.stateless_normal([10], pair) for pair in of_seeds], rtol=2e-6, atol=1e-6)
    latents = server.predict(signature_name="latents", inputs={"seed": seeds})["outputs"]
    np.testing.assert_array_equal(np.float32(drawn[2])[:, :8], np.float32(latents))
