"""The classifier that reads labels, several an image: trained on labelled images, or one's own; and how well it reads."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from holotf import data, features
from holotf.errors import UserError
from holotf.evaluators import networks, regressor
from holotf.evaluators.networks import EPOCHS, SEED
from holotf.features import content_key

LEAST = 200  # images to learn from


class Labeller:
    """Which labels an image has.

    Args:
      read: uint8 [N, H, W, 3] -> probabilities [N, K], of each label on its own.
      name: of it, for notes.
      held_out: {split: what `judge` found on images of it that it had not seen}.
    """

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], name: str, held_out: dict[str, dict[str, float]]):
        self.read, self.name, self.held_out = read, name, held_out

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [..., H, W, 3] -> float32 [..., K]."""
        return self.read(images.reshape(-1, *images.shape[-3:])).reshape(*images.shape[:-3], -1)


def check(path: str) -> None:
    """Finds what is wrong with `evaluate.classifier`, where it is not "".

    Raises:
      UserError: no such file or folder.
    """
    place = Path(path)
    if not ((place.is_file() and place.suffix == ".keras") or (place / "saved_model.pb").is_file()):
        raise UserError(
            f"evaluate.classifier={path!r}: use a .keras file or a SavedModel folder that gives probabilities of labels"
        )


def labelled(builder: tfds.core.DatasetBuilder, split: str, feature: str, classes: int, count: int = -1) -> tuple:
    """Images and their labels as rows: uint8 [N, H, W, 3], float32 [N, K]; the first `count`, or all."""
    images, labels = regressor.labelled(builder, split, feature, count=count)
    return images, labels if labels.ndim == 2 else np.eye(classes, dtype=np.float32)[labels]


def labeller(
    builder: tfds.core.DatasetBuilder,
    split: str,
    judged_on: Sequence[str],
    feature: str,
    classes: int,
    cache: str,
    path: str = "",
) -> Labeller:
    """The classifier of a labelled data set: read from the cache, or trained (minutes) and put there; or one's own.

    It is one for all runs, whatever their seed.

    Args:
      builder: the tfds data set.
      split: of it, to learn from.
      judged_on: names of the splits on which it is judged.
      feature: that holds the labels.
      classes: K.
      cache: folder.
      path: of one's own, as `check` wants it; "" for the trained one.

    Raises:
      UserError: too few images; one's own gives other than probabilities [N, K].
    """
    real = {name: labelled(builder, name, feature, classes) for name in judged_on} if path else {}
    if path:
        own = features.extractor(path)
        made = Labeller(own, own.name, {})
        for name, (images, labels) in real.items():
            found = made(images)
            if found.shape[1:] != (classes,) or found.min() < 0 or found.max() > 1:
                what = f"{list(found.shape)} from {found.min():g} to {found.max():g}"
                raise UserError(f"evaluate.classifier={path!r} gives {what}: it is to give probabilities [N, {classes}]")
            made.held_out[name] = judge(found, labels)
        return made
    names = [split, *judged_on]
    shards = data.shards(builder, *names)
    place = Path(cache) / f"{content_key('labels', shards, f'{names} {feature} {SEED} {EPOCHS}')}.keras"

    def trained():
        images, labels = labelled(builder, split, feature, classes)
        if len(images) < LEAST:
            raise UserError(f"{builder.data_path} has {len(images)} images: a classifier of labels needs at least {LEAST}")
        print(f"training a classifier of {classes} labels on {len(images)} images", flush=True)
        network = networks.train(images, labels, keras.losses.BinaryCrossentropy(from_logits=True))
        real = {name: labelled(builder, name, feature, classes) for name in judged_on}
        return network, {name: judge(read(network, images), labels) for name, (images, labels) in real.items()}

    network, told = networks.kept(place, trained)
    return Labeller(lambda images: read(network, images), "a network trained on the data", told)


def read(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Probabilities of labels by a network that gives logits: uint8 [N, H, W, 3] -> [N, K]."""
    return tf.sigmoid(networks.apply(network, images)).numpy()


def judge(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How well labels were read.

    Args:
      probabilities: [N, K].
      labels: [N, K] of 0 and 1.

    Returns:
      Dict: top_k, the share of all labels that are among the k most probable of their image, k being how many it has; exact, the
      share of images of which just these have a probability above one half.
    """
    found, asked = most_probable(probabilities, labels), labels > 0.5
    return {
        "top_k": float((found & asked).sum() / asked.sum()),
        "exact": float(np.mean(np.all((probabilities > 0.5) == asked, axis=1))),
    }


def most_probable(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The labels of highest probability, as many as an image has: bool [N, K]; of equals the first."""
    rank = np.argsort(np.argsort(-probabilities, axis=1, kind="stable"), axis=1)
    return rank < np.rint(labels.sum(axis=1, keepdims=True))


def confusion(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which label (rows) was read as which (columns), bool and 0/1 [N, K] -> [K, K] of row sums that count labels.

    A label that was found counts for itself; one that was missed is shared by those of its image that were not asked for.
    """
    asked = labels > 0.5
    counts = np.diag((found & asked).sum(axis=0)).astype(np.float64)
    missed, instead = asked & ~found, found & ~asked  # equally many in an image
    each = instead / np.maximum(instead.sum(axis=1, keepdims=True), 1)
    return counts + missed.astype(np.float64).T @ each
