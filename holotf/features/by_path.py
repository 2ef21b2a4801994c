"""Any Keras file or SavedModel as a feature extractor."""

import hashlib
import pathlib

import keras
import tensorflow as tf

from holotf.errors import UserError, brief
from holotf.features.base import Extractor, digest, pooled, resized


def of_keras_file(path: pathlib.Path) -> Extractor:
    """A .keras file as an extractor; UserError where it is none."""
    model = load_keras(path)
    if len(model.inputs or ()) != 1 or len(model.outputs) != 1:
        raise UserError(f"extractor {path}: it must take one batch of images and give one array of features")
    (spec,) = model.inputs
    prepare = _preparation(path, spec.shape, spec.dtype)
    return Extractor(_name(path, [path]), lambda images: pooled(model(prepare(images), training=False)))


def load_keras(path: pathlib.Path) -> keras.Model:
    """The model in a .keras file; UserError where Keras cannot load it."""
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # a damaged file makes Keras raise whatever it makes it raise
        raise UserError(f"extractor {path}: Keras cannot load it ({brief(error)}): save it with model.save again") from error


def of_saved_model(path: pathlib.Path) -> Extractor:
    """A SavedModel folder as an extractor; UserError where it is none."""
    try:
        loaded = tf.saved_model.load(path)
    except Exception as error:  # likewise
        raise UserError(f"extractor {path}: TensorFlow cannot load it ({brief(error)}): export it again") from error
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
        return pooled(out)

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
            images = resized(images, height, width)
        if dtype == tf.uint8:
            return tf.saturate_cast(tf.round(images), tf.uint8)
        return tf.cast(images / 127.5 - 1.0, dtype)

    return prepare


def _name(path, files):
    whole = hashlib.sha256()
    for file in files:
        whole.update(hashlib.sha256(file.relative_to(path).as_posix().encode()).digest() + digest(file))
    return f"{path.name}@{whole.hexdigest()[:12]}"
