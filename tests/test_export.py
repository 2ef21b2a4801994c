"""The SavedModel: the same pixels here, in a process without this code, through saved_model_cli and through the C API."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from capi.capi import generate_through_c, generate_through_cli, missing
from conftest import PUBLISHED, small_config
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from holotf import export as export_verb
from holotf import models, native, servable
from holotf.errors import UserError
from holotf.export import export
from holotf.views import COLUMNS

RNG = np.random.default_rng(0)
FEEDS = {
    "z": RNG.uniform(-1, 1, (3, 8)).astype(np.float32),
    "azimuth_deg": np.float32([0, 90, 200]),
    "elevation_deg": np.float32([20, 30, 0]),
    "scale": np.float32([1, 0.9, 1.1]),
    "translation": RNG.uniform(-0.2, 0.2, (3, 3)).astype(np.float32),
}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(2)  # of some weights every ray ends on the surface, and depths are alike
    model = models.build(small_config())
    # fresh weights of 0.02 draw a nearly grey image: larger ones make every pixel count
    for network in (model.generator, model.discriminator):
        for v in network.trainable_variables:
            v.assign(v * 5.0)
    model.ema_generator.set_weights(model.generator.get_weights())
    return model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    return export(model, str(tmp_path_factory.mktemp("export") / "saved_model"))


@pytest.fixture(scope="module")
def expected(model):
    views = np.concatenate([np.stack([FEEDS[k] for k in ("azimuth_deg", "elevation_deg", "scale")], 1), FEEDS["translation"]], 1)
    with servable.portable():  # as exported
        images = model.images(tf.constant(FEEDS["z"]), tf.constant(views)).numpy()
    assert images.std() > 10
    assert np.any(images[0] != images[1])
    return images


def test_endpoints_are_named_and_typed(saved):
    signatures = tf.saved_model.load(saved).signatures
    more = {"depth", "density", "latents", "sample", "encode", "serving_default"}
    assert set(signatures) == {"generate", "volume", "render"} | more
    inputs = signatures["generate"].structured_input_signature[1]
    assert {k: (v.shape.as_list(), v.dtype.name) for k, v in inputs.items()} == {
        "z": ([None, 8], "float32"),
        "azimuth_deg": ([None], "float32"),
        "elevation_deg": ([None], "float32"),
        "scale": ([None], "float32"),
        "translation": ([None, 3], "float32"),
    }
    assert signatures["sample"].structured_input_signature[1]["seed"].dtype == tf.int64
    assert signatures["encode"].structured_input_signature[1]["images"].dtype == tf.uint8


def test_one_object_from_many_views_is_given_once(saved):
    generate = tf.saved_model.load(saved).signatures["generate"]
    two, views = FEEDS["z"][:2], {k: tf.repeat(v[:2], 2, axis=0) for k, v in FEEDS.items() if k != "z"}
    views["azimuth_deg"] = tf.constant([0.0, 90.0, 180.0, 270.0])
    once = generate(z=tf.constant(two), **views)["images"].numpy()
    each = generate(z=tf.repeat(two, 2, axis=0), **views)["images"].numpy()
    np.testing.assert_allclose(once.astype(int), each.astype(int), atol=1)  # sums in another order round otherwise
    assert np.any(each[0] != each[1])
    assert np.any(each[1] != each[2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="give each object the same number"):
        generate(z=tf.constant(FEEDS["z"]), **views)


def test_our_own_kernels_and_compiled_functions_stay_at_home(model, saved):
    """Though the model drew with them."""
    z, views = model.draw(2, [0, 0])
    drawn = model.sample.get_concrete_function(z, views).graph.as_graph_def().SerializeToString()
    with native.off():
        compiled = tf.function(model.images).get_concrete_function(z, views).graph.as_graph_def().SerializeToString()
    assert b"HolotfNormForward" in drawn or not native.kernels()
    assert b"_XlaMustCompile" in compiled
    graph = saved_model_pb2.SavedModel.FromString(pathlib.Path(saved, "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    functions, called, nodes = {f.signature.name: f for f in graph.library.function}, set(), list(graph.node)
    while nodes:  # gradients are not called
        node = nodes.pop()
        assert not node.op.startswith("Holotf")
        assert not node.attr["_XlaMustCompile"].b
        for name in {attr.func.name for attr in node.attr.values() if attr.HasField("func")} - called:
            called.add(name)
            assert not functions[name].attr["_XlaMustCompile"].b
            nodes += functions[name].node_def
    assert len(called) > 10
    assert not tf.config.functions_run_eagerly()


def test_an_object_that_is_kept_turns_as_one_made_anew(saved):
    """And one volume serves several views."""
    served = tf.saved_model.load(saved).signatures
    views, whole = {k: tf.constant(v) for k, v in FEEDS.items() if k != "z"}, served["generate"](**FEEDS)["images"].numpy()
    kept = served["volume"](z=FEEDS["z"])["volume"]
    assert (kept.shape, kept.dtype) == ((3, 16, 16, 16, 4), tf.float32)
    np.testing.assert_array_equal(served["render"](volume=kept, z=FEEDS["z"], **views)["images"], whole)
    one = {k: v[1:2] for k, v in FEEDS.items() if k == "z"}
    both = served["render"](volume=kept[1:2], **one, **views)["images"].numpy()
    np.testing.assert_allclose(both[1].astype(int), whole[1].astype(int), atol=1)  # sums in another order round otherwise
    assert np.any(both[0] != both[1])


def test_depth_and_density_are_what_the_model_itself_says(model, saved):
    served = tf.saved_model.load(saved).signatures
    volume = served["volume"](z=FEEDS["z"])["volume"]
    views = {key: tf.constant(value) for key, value in FEEDS.items() if key != "z"}
    asked = np.concatenate([np.stack([views[key] for key in COLUMNS[:3]], axis=1), views["translation"]], axis=1)
    found = served["depth"](volume=volume, **views)
    for name, expected in zip(("depth", "opacity"), model.look(volume, tf.constant(asked)), strict=True):
        np.testing.assert_allclose(found[name], expected, atol=1e-5)
        assert np.ptp(found[name]) > 1e-3
    np.testing.assert_allclose(served["density"](volume=volume)["density"], model.absorption(volume), rtol=1e-5)
    published = models.build(small_config(**PUBLISHED))
    assert not {"depth", "density"} & set(published.endpoints())


@pytest.mark.parametrize("name", ["hologan", "vae"])
def test_a_seed_is_the_object_that_generate_draws(name, tmp_path):
    model = models.build(small_config(**{"model.name": name}))
    served = tf.saved_model.load(export(model, str(tmp_path / "saved_model"))).signatures["latents"]
    seeds = [3, 0, 2**31 - 1]
    np.testing.assert_array_equal(served(seed=tf.constant(seeds, tf.int64))["z"], model.latents(seeds))


SCRIPT = """
import sys, numpy as np, tensorflow as tf
folder, feeds, out = sys.argv[1:]
served = tf.saved_model.load(folder)
feeds = dict(np.load(feeds))
images = served.generate(**{k: tf.constant(v) for k, v in feeds.items()})["images"]
default = served.signatures["serving_default"](**{k: tf.constant(v) for k, v in feeds.items()})["images"]
sample = served.sample(tf.constant(5, tf.int64), tf.constant(4))["images"]
z = served.encode(images)["z"]
assert "holotf" not in sys.modules
np.savez(out, images=images, default=default, sample=sample, z=z)
"""


def test_another_process_without_our_code_gives_the_same(model, saved, expected, tmp_path):
    np.savez(tmp_path / "feeds.npz", **FEEDS)
    arguments = [sys.executable, "-c", SCRIPT, saved, str(tmp_path / "feeds.npz"), str(tmp_path / "out.npz")]
    done = subprocess.run(arguments, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    out = np.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(out["images"], expected)
    np.testing.assert_array_equal(out["default"], expected)
    assert out["sample"].shape == (4, 32, 32, 3)
    assert np.any(out["sample"][0] != out["sample"][1])
    z_hat = model.discriminator(tf.cast(expected, tf.float32) / 127.5 - 1.0)["z_hat"]
    np.testing.assert_allclose(out["z"], z_hat, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("way", [generate_through_cli, generate_through_c])
def test_programs_without_our_code_give_the_same(way, saved, expected, tmp_path):
    if way is generate_through_c and (absent := missing()):
        pytest.skip(f"the C API check needs {absent}")
    np.testing.assert_array_equal(way(saved, FEEDS, tmp=tmp_path), expected)


def test_an_existing_folder_is_kept_or_replaced_whole(model, saved, tmp_path):
    with pytest.raises(UserError, match=r"export folder .* exists: remove it first"):
        export(model, saved)
    folder = tmp_path / "saved_model"
    folder.mkdir()
    (folder / "old").touch()
    export(model, str(folder), replace=True)
    assert (folder / "saved_model.pb").exists()
    assert not (folder / "old").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["saved_model"]


def test_warm_up_requests_are_ones_that_every_endpoint_takes(saved):
    """Read as TensorFlow Serving reads them."""
    served = tf.saved_model.load(saved).signatures
    path = pathlib.Path(saved, "assets.extra", "tf_serving_warmup_requests")
    logs = [prediction_log_pb2.PredictionLog.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    requests = [log.predict_log.request for log in logs]
    assert sorted(request.model_spec.signature_name for request in requests) == sorted(served)
    for request in requests:
        function = served[request.model_spec.signature_name]
        feeds = {key: tf.constant(tf.make_ndarray(tensor)) for key, tensor in request.inputs.items()}
        specs = function.structured_input_signature[1]
        assert {k: v.dtype for k, v in feeds.items()} == {k: v.dtype for k, v in specs.items()}
        assert all(len(value) == 1 for value in function(**feeds).values())


@pytest.mark.slow
def test_exports_by_version_are_numbered_on(model, tmp_path, monkeypatch):
    monkeypatch.setattr(export_verb, "restore", lambda *_, **__: model)
    config = small_config(**{"export.dir": str(tmp_path / "models"), "export.name": "chairs"})
    for _ in range(2):
        assert export_verb.run(config, str(tmp_path)) == 0
    (tmp_path / "models" / "chairs" / "9").mkdir()
    assert export_verb.run(config, str(tmp_path)) == 0
    written = sorted(p.parent.name for p in (tmp_path / "models" / "chairs").glob("*/saved_model.pb"))
    assert (written, sorted(p.name for p in tmp_path.iterdir())) == (["1", "10", "2"], ["models"])
    config.export.name = "../chairs"
    with pytest.raises(UserError, match=r"export.name='../chairs': use letters, digits"):
        export_verb.run(config, str(tmp_path))


NAN, ROWS = np.float32(np.nan), np.zeros((0, 8), np.float32)
REFUSED = {
    "generate": [
        ({"z": ROWS}, "z: give one row or more"),
        ({"z": np.full((3, 8), NAN)}, "z: not a number, or infinite"),
        ({"azimuth_deg": np.float32([])}, "azimuth_deg: give one row or more"),
        ({"azimuth_deg": np.float32([0, np.inf, 0])}, "azimuth_deg: not a number, or infinite"),
        ({"elevation_deg": np.float32([0, 1])}, "elevation_deg: give as many rows as of azimuth_deg"),
        ({"azimuth_deg": np.float32([0, 1e30, 0])}, "azimuth_deg: use -36000 to 36000"),
        ({"elevation_deg": np.float32([0, 0, -361])}, "elevation_deg: use -360 to 360"),
        ({"scale": np.float32([1, 0, 1])}, "scale: use 0.01 to 100"),
        ({"translation": np.full((3, 3), 1e9, np.float32)}, "translation: use -100 to 100"),
        ({"scale": np.float32([1, 1])}, "scale: give as many rows as of azimuth_deg"),
        ({"translation": np.zeros((2, 3), np.float32)}, "translation: give as many rows as of azimuth_deg"),
        ({"z": np.zeros((2, 8), np.float32)}, "views: give each object the same number of them"),
    ],
    "volume": [({"z": ROWS}, "z: give one row or more"), ({"z": np.full((3, 8), NAN)}, "z: not a number, or infinite")],
    "render": [
        ({"volume": np.zeros((0, 16, 16, 16, 4), np.float32)}, "volume: give one row or more"),
        ({"volume": np.full((3, 16, 16, 16, 4), NAN)}, "volume: not a number, or infinite"),
        ({"z": FEEDS["z"][:2]}, "z: give as many rows as of volume"),
        ({"scale": np.float32([1, 0, 1])}, "scale: use 0.01 to 100"),
        ({"elevation_deg": np.float32([0, 1])}, "elevation_deg: give as many rows as of azimuth_deg"),
    ],
    "depth": [
        ({"volume": np.full((3, 16, 16, 16, 4), NAN)}, "volume: not a number, or infinite"),
        ({"volume": np.zeros((2, 16, 16, 16, 4), np.float32)}, "views: give each object the same number of them"),
        ({"scale": np.float32([1, 0, 1])}, "scale: use 0.01 to 100"),
    ],
    "density": [({"volume": np.zeros((0, 16, 16, 16, 4), np.float32)}, "volume: give one row or more")],
    "latents": [({"seed": [-1]}, "seed: use 0 to 2147483647"), ({"seed": [2**31]}, "seed: use 0 to 2147483647")],
    "sample": [({"n": 0}, "n: use 1 to 1024"), ({"n": -3}, "n: use 1 to 1024"), ({"n": 10**6}, "n: use 1 to 1024")],
    "encode": [({"images": np.zeros((0, 32, 32, 3), np.uint8)}, "images: give one row or more")],
}
WHOLE = {
    "generate": FEEDS,
    "volume": {"z": FEEDS["z"]},
    "render": FEEDS | {"volume": np.zeros((3, 16, 16, 16, 4), np.float32)},
    "depth": {key: value for key, value in FEEDS.items() if key != "z"} | {"volume": np.zeros((3, 16, 16, 16, 4), np.float32)},
    "density": {"volume": np.zeros((3, 16, 16, 16, 4), np.float32)},
    "latents": {"seed": [0, 5]},
    "sample": {"seed": np.int64(0), "n": np.int32(2)},
    "encode": {"images": np.zeros((1, 32, 32, 3), np.uint8)},
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_endpoint_names_the_input_that_it_cannot_work_on(saved, name):
    function = tf.saved_model.load(saved).signatures[name]

    def call(changes):
        fed = WHOLE[name] | changes
        return function(**{k: tf.constant(v, function.structured_input_signature[1][k].dtype) for k, v in fed.items()})

    call({})
    for changes, message in REFUSED[name]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            call(changes)


def test_some_endpoints_alone_leave_out_the_weights_of_the_others(model, saved, tmp_path):
    names = ("latents", "volume", "render")
    fewer = tf.saved_model.load(folder := export(model, str(tmp_path / "fewer"), endpoints=names))
    assert set(fewer.signatures) == {*names, "serving_default"}
    assert fewer.signatures["serving_default"].structured_outputs.keys() == {"z"}, "the first, as the model's is not there"
    whole = tf.saved_model.load(saved)
    assert len(fewer.vars) == len(model.ema_generator.variables) < len(whole.vars)
    views = {k: v for k, v in FEEDS.items() if k != "z"}
    drawn = [
        made.signatures["render"](volume=made.signatures["volume"](z=FEEDS["z"])["volume"], z=FEEDS["z"], **views)["images"]
        for made in (fewer, whole)
    ]
    np.testing.assert_array_equal(*drawn)
    assert "encode" not in pathlib.Path(folder, "card.json").read_text()
    with pytest.raises(UserError, match=r"export.endpoints='decode': use some of density, depth, encode, generate, latents,"):
        export(model, str(tmp_path / "none"), endpoints=("decode",))
    assert not (tmp_path / "none").exists()
