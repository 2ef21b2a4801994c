"""InceptionV3 from a local file, Keras' or the 2015 graph: the only features whose KID and FID papers' figures compare with."""

import os
import pathlib

import keras
import tensorflow as tf

from holotf.errors import UserError, brief
from holotf.features.base import Extractor, digest, float32_layers, pooled, resized
from holotf.features.by_path import load_keras

INCEPTION = "HOLOTF_INCEPTION"  # environment variable: the file of extractor `inception`


def weights(name: str) -> pathlib.Path:
    """The file that `inception:FILE` names, or for `inception` the environment.

    Raises:
      UserError: it names none, or one that cannot hold weights.
    """
    file = name.partition(":")[2] or os.environ.get(INCEPTION, "")
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
    return path


def build(path: pathlib.Path) -> Extractor:
    """The extractor whose weights a file holds; UserError where it holds none."""
    tag = digest(path).hex()[:12]
    if path.suffix == ".pb":
        return Extractor(f"inception-2015@{tag}", _frozen_inception(path))
    model = load_keras(path) if path.suffix == ".keras" else _inception_weights(path)
    if "avg_pool" in [layer.name for layer in model.layers]:
        model = keras.Model(model.input, model.get_layer("avg_pool").output)
    if model.output_shape[-1] != 2048:
        raise UserError(f"extractor inception: {path} gives {model.output_shape[-1]} features, not 2048: use an InceptionV3")

    def forward(images):
        return pooled(model(resized(images, 299, 299) / 127.5 - 1.0, training=False))

    return Extractor(f"inception-keras@{tag}", forward)


def _inception_weights(path):
    """Keras' InceptionV3 with the weights of a file that has the classifier or has not."""
    with float32_layers():
        for top in (False, True):
            model = keras.applications.InceptionV3(include_top=top, weights=None)
            try:
                model.load_weights(path)
                return model
            except (ValueError, KeyError, OSError) as caught:
                error = caught
    raise UserError(f"extractor inception: {path} holds no weights of Keras' InceptionV3 ({brief(error)}): use those") from error


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
        run = tf.compat.v1.Session().make_callable(pooled(pool), [images])

    def forward(images):
        images = tf.cast(images, tf.float32) if start == "ExpandDims" else (resized(images, 299, 299) - 128.0) / 128.0
        return tf.ensure_shape(tf.numpy_function(run, [images], tf.float32, stateful=False), [None, pool.shape[-1]])

    return forward
