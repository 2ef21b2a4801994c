"""The real server in a process of its own, over an exported HoloGAN: what it answers is what the export gives."""

import concurrent.futures
import contextlib
import io
import json
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, command
from google.protobuf import json_format
from PIL import Image, ImageSequence
from serving.process import close, made, running
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from holotf import card, surface
from holotf.pictures import depth_pictures
from holotf.serving import exported

RNG = np.random.default_rng(0)
VIEW = {"azimuth_deg": 40.0, "elevation_deg": 20.0, "scale": 1.0, "translation": [0.1, 0.0, 0.0]}


@pytest.fixture(scope="module")
def hologan(tmp_path_factory):
    """(model, signatures, folder of versions)."""
    folder = tmp_path_factory.mktemp("models") / "chairs"
    model, path = made(folder / "7")
    return model, tf.saved_model.load(path).signatures, folder


@pytest.fixture(scope="module")
def server(hologan):
    with running("--model", hologan[2], "--port", "0", "--batch", "16", "--volumes_mib", "4") as found:
        yield found


def drawn(n):
    return {"z": RNG.uniform(-1, 1, (n, 8)), "azimuth_deg": RNG.uniform(0, 360, n)} | {
        key: np.repeat(np.expand_dims(VIEW[key], 0), n, axis=0) for key in ("elevation_deg", "scale", "translation")
    }


def direct(hologan, feeds, name="generate"):
    function = hologan[1][name]
    specs = function.structured_input_signature[1]
    return {k: v.numpy() for k, v in function(**{k: tf.constant(v, specs[k].dtype) for k, v in feeds.items()}).items()}


def lists(feeds):
    return {key: value.tolist() for key, value in feeds.items()}


def test_rows_and_columns_of_every_endpoint_are_what_the_export_gives(hologan, server):
    feeds = drawn(3)
    expected = direct(hologan, feeds)["images"]
    rows = [{key: value[i] for key, value in lists(feeds).items()} for i in range(3)]
    assert close(server.predict(instances=rows)["predictions"], expected)
    assert close(server.predict(inputs=lists(feeds))["outputs"], expected)
    assert close(server.predict(inputs=lists(feeds), signature_name="generate")["outputs"], expected)
    one = lists(feeds) | {"z": feeds["z"][:1].tolist()}
    assert close(server.predict(inputs=one)["outputs"], direct(hologan, feeds | {"z": feeds["z"][:1]})["images"])
    volume = server.predict(signature_name="volume", inputs=one["z"])["outputs"]
    np.testing.assert_allclose(volume, direct(hologan, {"z": feeds["z"][:1]}, "volume")["volume"], atol=1e-5)
    turned = server.predict(signature_name="render", inputs=one | {"volume": volume})["outputs"]
    assert close(turned, direct(hologan, feeds | {"z": feeds["z"][:1]})["images"])
    z = server.predict(signature_name="encode", instances=expected.tolist())["predictions"]
    np.testing.assert_allclose(z, direct(hologan, {"images": expected}, "encode")["z"], atol=1e-5)
    sample = server.predict(signature_name="sample", inputs={"seed": 5, "n": 2})["outputs"]
    np.testing.assert_array_equal(sample, direct(hologan, {"seed": 5, "n": 2}, "sample")["images"])


def test_its_json_is_what_tensorflow_servings_protocol_buffers_define(hologan, server):
    """A request and its answer go through PredictRequest and PredictResponse; status and metadata are read as theirs."""
    feeds, told = drawn(2), server.predict
    request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="chairs", signature_name="generate"))
    for key, value in feeds.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value.tolist(), tf.float32))
    request = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    asked = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
    outputs = told(signature_name=request.model_spec.signature_name, inputs=lists(asked))["outputs"]
    spec = exported.Exported(str(hologan[2])).signature_def["generate"]["outputs"]["images"]
    response = predict_pb2.PredictResponse()
    response.outputs["images"].CopyFrom(tf.make_tensor_proto(outputs, getattr(tf, spec["dtype"].removeprefix("DT_").lower())))
    shape = [d.size for d in response.outputs["images"].tensor_shape.dim]
    assert [str(size) for size in shape[1:]] == [d["size"] for d in spec["tensor_shape"]["dim"][1:]]
    assert close(tf.make_ndarray(response.outputs["images"]), direct(hologan, feeds)["images"])

    status = json_format.Parse(server.ask("GET", "")[2], get_model_status_pb2.GetModelStatusResponse())
    (version,) = status.model_version_status
    assert (version.version, version.state, version.status.error_code) == (7, get_model_status_pb2.ModelVersionStatus.AVAILABLE, 0)
    metadata = json.loads(server.ask("GET", "/versions/7/metadata")[2])
    assert json_format.ParseDict(metadata["model_spec"], model_pb2.ModelSpec()).version.value == 7
    signatures = json_format.ParseDict(
        metadata["metadata"]["signature_def"], get_model_metadata_pb2.SignatureDefMap()
    ).signature_def
    assert set(hologan[1]) <= set(signatures)
    assert signatures["encode"].inputs["images"].dtype == tf.uint8.as_datatype_enum
    assert signatures["serving_default"].method_name == "tensorflow/serving/predict"


def test_an_address_is_a_picture_of_the_object_that_generate_draws(hologan, server):
    z = hologan[0].latents([3]).numpy()
    expected = direct(hologan, {"z": z} | {key: np.expand_dims(value, 0) for key, value in VIEW.items()})["images"][0]
    query = VIEW | {"translation": "0.1,0,0"}
    for form in ("png", "webp"):
        opened = Image.open(io.BytesIO(server.get("/image", seed=3, format=form, **query)))
        assert opened.format == form.upper()
        assert close(np.asarray(opened.convert("RGB")), expected)
    by_z = Image.open(io.BytesIO(server.get("/versions/7/image", z=",".join(map(repr, z[0].tolist())), **query)))
    assert close(np.asarray(by_z), expected)
    status, headers, body = server.ask("POST", "/image", {"z": z[0].tolist(), **VIEW})
    assert (status, headers["content-type"]) == (200, "image/png")
    assert close(np.asarray(Image.open(io.BytesIO(body))), expected)


def test_depth_is_the_renderers_and_the_nearer_the_lighter(hologan, server):
    model, query = hologan[0], {"seed": 3, "azimuth_deg": 40, "elevation_deg": 20, "scale": 1}
    asked = tf.constant([[40.0, 20.0, 1.0, 0.0, 0.0, 0.0]])
    expected = depth_pictures(model.look(model.volume(model.latents([3])), asked)[0].numpy(), 32)[0]
    found = np.asarray(Image.open(io.BytesIO(server.get("/image", show="depth", **query))))
    assert close(found, expected)
    film = Image.open(io.BytesIO(server.get("/turntable", seed=3, frames=9, show="depth", scale=1, elevation_deg=20)))
    film.seek(1)
    assert close(np.asarray(film.convert("RGB")), found)


def test_a_mesh_is_the_one_that_generate_writes(hologan, server):
    trimesh = pytest.importorskip("trimesh", reason="pip install 'holotf[mesh]'")
    pytest.importorskip("skimage", reason="pip install 'holotf[mesh]'")
    model, asked = hologan[0], surface.photographed(hologan[0].config.views)
    density = model.absorption(model.volume(model.latents([3])))[0].numpy()
    status, headers, body = server.ask("GET", "/mesh?seed=3")
    assert (status, headers["content-type"]) == (200, "model/gltf-binary")
    expected = surface.mesh(density, model.sample(model.latents([3]), asked).numpy(), asked)
    mesh, wanted = (trimesh.load(io.BytesIO(file), file_type="glb", force="mesh") for file in (body, expected))
    np.testing.assert_allclose(mesh.bounds, wanted.bounds, atol=1e-3)
    assert len(mesh.faces) == pytest.approx(len(wanted.faces), rel=0.01)
    colours, others = (np.asarray(m.visual.vertex_colors, float) for m in (mesh, wanted))
    assert colours.std() > 5
    np.testing.assert_allclose(colours.mean(axis=0), others.mean(axis=0), atol=2)


def test_a_turntable_turns_the_object_all_the_way_round(hologan, server):
    frames = 20  # more than a batch
    film = Image.open(io.BytesIO(server.get("/turntable", seed=3, frames=frames, elevation_deg=20)))
    assert (film.format, film.n_frames) == ("WEBP", frames)
    turned = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)])
    views = {"azimuth_deg": np.arange(frames) * 360 / frames, "elevation_deg": np.full(frames, 20), "scale": np.ones(frames)}
    z = hologan[0].latents([3]).numpy()
    assert close(turned, direct(hologan, {"z": z, "translation": np.zeros((frames, 3)), **views})["images"])
    assert Image.open(io.BytesIO(server.get("/turntable", frames=4, format="gif"))).format == "GIF"


def test_an_object_is_made_once_and_then_only_turned(server):
    def made_and_turned():
        return server.counted(r"holotf_batch_rows_sum\{endpoint=\"volume\"\}"), server.counted(
            r"holotf_batch_rows_sum\{endpoint=\"render\"\}"
        )

    before = made_and_turned()
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda azimuth: server.get("/image", seed=1000, azimuth_deg=azimuth), range(0, 360, 20)))
    volumes, views = np.subtract(made_and_turned(), before)
    assert (volumes, views) == (1, 18)
    assert server.counted("holotf_volumes_bytes") <= 4 * 2**20
    before = made_and_turned()
    for seed in range(2000, 2066):  # 64 KiB each: 64 are kept
        server.get("/image", seed=seed)
    assert server.counted("holotf_volumes ") == 64
    server.get("/image", seed=1000)
    assert np.subtract(made_and_turned(), before)[0] == 67, "those asked for the longest ago have gone"


def test_many_at_once_are_worked_on_together_and_each_gets_its_own(hologan, server):
    asked = [drawn(1 + i % 3) for i in range(48)]
    batches = server.counted(r"holotf_batch_rows_count\{endpoint=\"render\"\}")
    with concurrent.futures.ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda feeds: server.predict(inputs=lists(feeds))["outputs"], asked))
    assert server.counted(r"holotf_batch_rows_count\{endpoint=\"render\"\}") - batches < 40
    assert all(close(answer, direct(hologan, feeds)["images"]) for answer, feeds in zip(answers, asked, strict=True))


ONE = {"z": [[0.0] * 8], "azimuth_deg": [0.0], "elevation_deg": [0.0], "scale": [1.0], "translation": [[0.0] * 3]}
REFUSED = [
    ("GET", "///v1/models/nobody", None, 404, "Could not find any versions of model nobody"),
    ("GET", "/versions/8", None, 404, "Could not find version 8 of model chairs"),
    ("POST", "///v1/models/nobody:predict", ONE, 404, "Servable not found for request: Latest(nobody)"),
    ("POST", "/versions/8:predict", ONE, 404, "Servable not found for request: Specific(chairs, 8)"),
    ("GET", "/versions/8/metadata", None, 404, "Servable not found for request: Specific(chairs, 8)"),
    ("GET", "/versions/99999999999999999999", None, 400, "Malformed request: GET /v1/models/chairs/versions/99999999999999999999"),
    ("GET", "///v1/models", None, 400, "Malformed request: GET /v1/models"),
    ("POST", ":classify", ONE, 400, "Malformed request: POST /v1/models/chairs:classify"),
    ("GET", "///favicon.ico", None, 404, "Malformed request: GET /favicon.ico"),
    ("GET", ":predict", None, 405, "Malformed request: GET /v1/models/chairs:predict"),
    ("DELETE", "", None, 405, "Malformed request: DELETE /v1/models/chairs"),
    ("PUT", "/image", None, 405, "Malformed request: PUT /v1/models/chairs/image"),
    ("POST", ":predict", None, 400, "JSON Parse error"),
    ("POST", ":predict", {"inputs": ONE | {"z": [[float("nan")] * 8]}}, 400, "z: not a number, or infinite"),
    ("POST", ":predict", {"inputs": ONE | {"azimuth_deg": [float("inf")]}}, 400, "azimuth_deg: not a number, or infinite"),
    ("POST", ":predict", {"inputs": ONE | {"azimuth_deg": [1e9]}}, 400, "azimuth_deg: use -36000 to 36000"),
    ("POST", ":predict", {"inputs": ONE | {"scale": [0]}}, 400, "scale: use 0.01 to 100"),
    ("POST", ":predict", {"inputs": ONE | {"scale": [1, 1]}}, 400, "scale: give as many rows as of azimuth_deg"),
    ("POST", ":predict", {"inputs": ONE | {"z": [[0.0] * 8] * 17}}, 400, "Task size 17 is larger than maximum input batch size 16"),
    ("POST", ":predict", {"signature_name": "sample", "inputs": {"seed": 0, "n": 17}}, 400, "Task size 17 is larger"),
    ("POST", ":predict", {"signature_name": "sample", "inputs": {"seed": 0, "n": 0}}, 400, "n: use 1 to 1024"),
    ("POST", ":predict", {"signature_name": "sample", "instances": [{"seed": 0, "n": 1}]}, 400, "n: shape [1]; expected int32"),
    ("GET", "/image?azimuth_deg=nan", None, 400, "azimuth_deg: not a number, or infinite"),
    ("GET", "/image?scale=1e300", None, 400, "scale: Cannot convert JSON value to float32"),
    ("GET", "/image?scale=-1", None, 400, "scale: use 0.01 to 100"),
    ("GET", "/image?file=/etc/passwd", None, 400, "unknown parameter 'file'"),
    ("GET", "/image?show=normals", None, 400, "show='normals': use image or depth"),
    ("GET", "/mesh?azimuth_deg=3", None, 400, "unknown parameter 'azimuth_deg': use seed, z"),
    ("GET", "/turntable?frames=100000", None, 400, "frames='100000': use 2 to 180"),
    ("GET", "///v1/models/chairs/../../etc/passwd", None, 400, "Malformed request: GET /v1/models/chairs/../../etc/passwd"),
    ("GET", "///v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd", None, 400, "Malformed request"),
]  # fmt: skip


def test_what_is_wrong_is_said_in_tensorflow_servings_shape(server):
    for method, path, body, status, message in REFUSED:
        found, headers, text = server.ask(method, path, body)
        assert (found, headers["content-type"]) == (status, "application/json"), (method, path, body, text)
        told = json.loads(text)
        assert list(told) == ["error"]
        assert told["error"].startswith(message), told
        assert headers["allow"] or status != 405
    assert server.ask("GET", "///healthz")[0] == 200


def _received(stream):
    """What comes until the server closes."""
    with contextlib.suppress(ConnectionError):
        while part := stream.recv(65536):
            yield part


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server):
    limit = 8 << 20
    for head in (f"content-length: {limit + 1}", "transfer-encoding: chunked"):
        with contextlib.closing(server.connection()) as connection:
            connection.connect()
            connection.sock.sendall(f"POST {server.model}:predict HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n".encode())
            if "chunked" in head:
                with contextlib.suppress(ConnectionError):
                    for _ in range(10):
                        connection.sock.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
            said = b"".join(_received(connection.sock))
        assert said.startswith(b"HTTP/1.1 413 "), said
        assert b"a body may have 8388608 bytes" in said


def test_whoever_goes_away_is_not_worked_for_any_further(server):
    def left():
        return server.counted(r'holotf_requests_total\{code="499"')

    before, views = left(), server.counted(r"holotf_batch_rows_sum\{endpoint=\"render\"\}")
    connection = server.connection()
    connection.request("GET", f"{server.model}/turntable?seed=77&frames=180")
    time.sleep(0.1)
    connection.close()
    deadline = time.monotonic() + 60
    while left() == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert server.counted(r"holotf_batch_rows_sum\{endpoint=\"render\"\}") - views < 180


def test_no_answer_waits_for_a_delayed_acknowledgement(server):
    """Of 40 ms, on a connection that is kept."""
    medians = []
    with contextlib.closing(server.connection()) as connection:
        for _ in range(6):  # other work may hold up one of them; the first answers are acknowledged at once
            seconds = []
            for _ in range(9):
                begun = time.monotonic()
                connection.request("GET", f"{server.model}/card")
                connection.getresponse().read()
                seconds.append(time.monotonic() - begun)
            medians.append(statistics.median(seconds))
    assert min(medians[1:]) < 0.03


def test_it_describes_itself(server):
    told = json.loads(server.ask("GET", "///openapi.json")[2])
    assert set(told["paths"]) >= {"/v1/models/chairs:predict", "/v1/models/chairs/versions/7/turntable", "/healthz"}
    assert json.loads(server.ask("GET", "/card")[2])["endpoints"]["generate"]["inputs"]["scale"]["accepts"] == [0.01, 100]
    assert json.loads(server.ask("GET", "///healthz")[2]) == {"status": "ok", "model": "chairs", "version": "7"}
    assert b"process_resident_memory_bytes" in server.ask("GET", "///metrics")[2]
    assert not server.ask("GET", "", headers={"Origin": "http://else.where"})[1]["access-control-allow-origin"]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A server with narrow limits over a model that does not turn, started by main.py from a run's folder."""
    run = tmp_path_factory.mktemp("run")
    made(run / "saved_model", **{"model.name": "dcgan"})
    limits = {"port": 0, "queue": 2, "timeout_s": 2.0, "cors": "http://page.example"}
    arguments = [f"--config.serve.{key}={value}" for key, value in limits.items()]
    config = f"--config={ROOT}/configs/base.py:dcgan"
    with running(config, *arguments, "--mode=serve", f"--workdir={run}", module=None) as found:
        yield found


def test_a_model_that_does_not_turn_has_pictures_and_no_turntable(narrow):
    assert narrow.model == "/v1/models/dcgan"
    assert Image.open(io.BytesIO(narrow.get("/image", seed=1))).size == (32, 32)
    status, _, body = narrow.ask("GET", "/turntable")
    assert (status, json.loads(body)["error"]) == (400, "this model does not turn: its card has no views")
    status, _, body = narrow.ask("GET", "/mesh?seed=1")
    assert status == 400
    assert json.loads(body)["error"] == "this model makes no meshes: its card has no endpoints volume and density"
    status, _, body = narrow.ask("GET", "/image?azimuth_deg=3")
    assert (status, json.loads(body)["error"]) == (400, "unknown parameter 'azimuth_deg': use seed, z, format")


def test_a_full_queue_and_slow_requests_are_answered(narrow):
    """Two clients send half a body each: the third is told to come again, and these two, in time, that it took too long."""
    half = f"POST {narrow.model}:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{{".encode()
    with contextlib.ExitStack() as slow:
        sockets = [slow.enter_context(socket.create_connection((narrow.host, narrow.port), 60)) for _ in range(2)]
        for each in sockets:
            each.sendall(half)
        deadline = time.monotonic() + 1.5
        while (answer := narrow.ask("GET", ""))[0] != 503:
            assert time.monotonic() < deadline
        assert answer[1]["retry-after"] == "1"
        assert json.loads(answer[2]) == {"error": "2 requests are in hand: try again"}
        assert narrow.ask("GET", "///healthz")[0] == 200, "an operator is answered all the same"
        for each in sockets:
            said = slow.enter_context(each.makefile("rb")).read()  # to its end: it may come in parts
            assert said.startswith(b"HTTP/1.1 504 ")
            assert said.endswith(b'{"error": "Timed out after 2 s"}')
    assert narrow.ask("GET", "")[0] == 200


def test_who_was_answered_may_ask_again_at_once(narrow):
    """As many clients as the queue has places, each of which has one request in hand at a time."""

    def statuses(_):
        with contextlib.closing(narrow.connection()) as connection:
            for _ in range(100):
                connection.request("GET", f"{narrow.model}/image?seed=1")
                answer = connection.getresponse()
                answer.read()
                yield answer.status

    with concurrent.futures.ThreadPoolExecutor(2) as clients:
        found = list(clients.map(lambda i: set(statuses(i)), range(2)))
    assert found == [{200}, {200}]


def test_pages_of_one_origin_may_ask(narrow):
    headers = narrow.ask("GET", "", headers={"Origin": "http://page.example"})[1]
    assert headers["access-control-allow-origin"] == "http://page.example"
    asked = {
        "Origin": "http://page.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    assert narrow.ask("OPTIONS", ":predict", headers=asked)[0] == 200
    assert not narrow.ask("GET", "", headers={"Origin": "http://else.where"})[1]["access-control-allow-origin"]


def test_at_its_end_it_answers_what_it_accepted(hologan):
    with running("--model", hologan[2], "--port", "0") as server:
        with contextlib.closing(server.connection()) as connection:
            connection.request("GET", f"{server.model}/turntable?seed=5&frames=180")
            time.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            response = connection.getresponse()
            film = Image.open(io.BytesIO(response.read()))
            assert (response.status, film.n_frames) == (200, 180)
        assert server.process.wait(60) == 0
        assert server.stop() == (0, "")
        with pytest.raises(ConnectionRefusedError):
            server.ask("GET", "")


def test_it_needs_no_training_code(hologan):
    program = (
        "import sys\nfrom holotf.serving import app, exported\nfrom holotf import serve\nfrom configs import base\n"
        "app.build(exported.Exported(sys.argv[1]), base.get_config().serve)\n"
        "print(*sorted(m for m in sys.modules if m.partition('.')[0] in ('holotf', 'tensorflow_datasets', 'data_prep')))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(hologan[2])], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    files = pathlib.Path(ROOT, "holotf", "serving").glob("[!_]*.py")
    ours = {"holotf", "holotf.serving"} | {f"holotf.serving.{p.stem}" for p in files}
    of_pictures = {f"holotf.{name}" for name in ("files", "pictures", "processes", "surface", "views")}
    assert set(done.stdout.split()) == ours | of_pictures | {"holotf.serve", "holotf.console", "holotf.errors"}
    assert exported.FORMAT == card.FORMAT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "/none"], "error: /none holds no SavedModel: make one with --mode export, or name another"),
        (["--model", "/none", "--batch", "0"], "error: serve.batch=0: use 1 to 1024"),
        (["--model", "/none", "--host", ""], "error: serve.host='': use 127.0.0.1, or 0.0.0.0 for all"),
        (["--model", "/none", "--host", "256.0.0.1"], "error: serve.host='256.0.0.1', serve.port=8501: "),
        (["--model", "/none", "--timeout_s", "nan"], "error: serve.timeout_s=nan: use 0.001 to 3600"),
    ],
)
def test_what_it_cannot_start_with_is_one_line(arguments, message):
    done = subprocess.run(command(*arguments, module="holotf.serve"), cwd=ROOT, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


def test_an_export_that_was_copied_in_part_is_one_line(hologan, tmp_path):
    copy = shutil.copytree(next(hologan[2].iterdir()), tmp_path / "half")
    weights = next((copy / "variables").glob("variables.data-*"))
    weights.write_bytes(weights.read_bytes()[:1000])
    done = subprocess.run(command("--model", copy, module="holotf.serve"), cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {copy} cannot be loaded (")
    assert len(done.stderr.splitlines()) == 1


def test_a_port_that_is_taken_is_one_line(server):
    arguments = command("--model", "/none", "--port", server.port, module="holotf.serve")
    done = subprocess.run(arguments, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert f"serve.port={server.port}: [Errno 98] Address already in use: give others" in done.stderr
