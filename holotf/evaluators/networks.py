"""The networks that judge: trained on labelled images, one for all runs, and kept in the cache."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from holotf import files
from holotf.features.base import digest, float32_layers

EPOCHS = 12
SEED = 0  # of weights and order
BATCH = 64
CHUNK = 256  # images looked at at once


def kept(path: Path, make: Callable[[], tuple[keras.Model, dict]]) -> tuple[keras.Model, dict]:
    """A network and what is told of it: from the cache, or made and put there.

    Args:
      path: of the network, ending in .keras; what is told lies beside it, with a checksum of both.
      make: gives them.

    Returns:
      (network, what is told: numbers and dicts of them).
    """
    facts = path.with_suffix(".json")
    with contextlib.suppress(Exception):  # not there, or damaged, in whichever way that is found out: made
        told = json.loads(facts.read_text())
        if told.pop("sha256") == _checksum(path, told):
            return keras.models.load_model(path, compile=False), told
    network, told = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.temporary(path) as temporary:
        network.save(temporary)
        os.replace(temporary, path)
    files.write_json(facts, told | {"sha256": _checksum(path, told)})
    return network, told


def _checksum(path, told):
    """Of a network and of what is told of it: of a pair that is whole and belongs together."""
    return hashlib.sha256(digest(path) + json.dumps(told).encode()).hexdigest()


def train(images: np.ndarray, targets: np.ndarray, loss: str | keras.losses.Loss | Callable, epochs: int = EPOCHS) -> keras.Model:
    """A network that learns targets off images, in float32 whatever Keras' policy is.

    Args:
      images: uint8 [N, H, W, 3].
      targets: float32 [N, K].
      loss: as Keras takes it: of targets and what the network gives, both [B, K].
      epochs: over the images.

    Returns:
      Images [N, H, W, 3] float32 in [-1, 1] -> [N, K].
    """
    with float32_layers():
        keras.utils.set_random_seed(SEED)
        network = _network(images.shape[1:], targets.shape[1])
        steps = epochs * -(-len(images) // BATCH)
        network.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)), loss)
        stream = tf.data.Dataset.from_tensor_slices((images, targets)).shuffle(len(images), seed=SEED)
        stream = stream.batch(BATCH).map(lambda x, y: (tf.cast(x, tf.float32) / 127.5 - 1.0, y)).prefetch(2)
        network.fit(stream, epochs=epochs, shuffle=False, verbose=0)
        return network


def _network(shape, outputs):
    layers = [keras.layers.Input(shape)]
    for filters in (32, 64, 128, 256):
        layers += [keras.layers.Conv2D(filters, 4, 2, "same"), keras.layers.BatchNormalization(), keras.layers.LeakyReLU(0.2)]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dropout(0.3), keras.layers.Dense(outputs)])


def apply(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """What a network gives for uint8 images [..., H, W, 3]: float32 [..., K]."""
    flat = images.reshape(-1, *images.shape[-3:])
    parts = [flat[i : i + CHUNK] for i in range(0, len(flat), CHUNK)]
    found = np.concatenate([network(p.astype(np.float32) / 127.5 - 1.0, training=False).numpy() for p in parts])
    return found.reshape(*images.shape[:-3], -1)
