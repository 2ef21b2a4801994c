"""Attributes of made images, as a reader tells them who learnt them from the data's labels; and how well it reads."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from holotf import data
from holotf.errors import UserError
from holotf.evaluators import networks, regressor
from holotf.evaluators.networks import CHUNK, EPOCHS, SEED
from holotf.evaluators.subject import Subject
from holotf.features import cached_features, content_key

READERS = ("classifier", "neighbours")
MOST = 50_000  # labelled images that are learnt from, and as many to be judged on
HELD_OUT = 0.2  # of the images, where the data have no split that the model has not seen
LEAST = 50  # images to learn from
NEIGHBOURS = 15


@dataclasses.dataclass(frozen=True)
class Reader:
    """What reads attributes off images.

    Attributes:
      classes: {attribute: names of its classes}.
      look: uint8 [N, H, W, 3] -> {attribute: float [N, K], how probable each class is}.
      held_out: {attribute: share of the images kept from it whose class it names}.
      common: {attribute: share of them that are of the class that is most common among those it learnt from}.
      judged_on: how many images were kept from it.
    """

    classes: dict[str, tuple[str, ...]]
    look: Callable[[np.ndarray], dict[str, np.ndarray]]
    held_out: dict[str, float]
    common: dict[str, float]
    judged_on: int

    def __call__(self, sides: np.ndarray) -> dict[str, np.ndarray]:
        """Objects from one side or more, uint8 [S, N, H, W, 3] -> {attribute: int [N]}, by the mean over the sides."""
        seen = [self.look(images) for images in sides]
        return {name: np.mean([each[name] for each in seen], axis=0).argmax(axis=1) for name in self.classes}


def named(subject: Subject) -> list[str]:
    """The ClassLabels of the data that `config.analyse.attributes` names, or all of them.

    Raises:
      UserError: it names what is none.
    """
    features, wanted = subject.builder.info.features, subject.config.analyse.attributes
    labels = [name for name, f in features.items() if isinstance(f, tfds.features.ClassLabel) and f.num_classes > 1]
    if unknown := [name for name in wanted if name not in labels]:
        has = ", ".join(labels) or "none"
        raise UserError(
            f"analyse.attributes={tuple(wanted)}: {unknown[0]} is no ClassLabel of {subject.source.settings.dir}: use {has}"
        )
    return list(wanted) or labels


def unfit(subject: Subject, look: str) -> str | None:
    """Why a look that takes attributes cannot be taken of these data, or None."""
    return None if named(subject) else f"no {look}: {subject.source.settings.dir} has no labels"


def varying(labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of {attribute: int [N]} that are not the same throughout."""
    return {name: values for name, values in labels.items() if len(np.unique(values)) > 1}


def reader(subject: Subject) -> Reader:
    """A reader that learnt from the labels of the data that the model was trained on: of the kind `config.analyse.reader`.

    It is judged on the split that the model has not seen, or else on a fifth of the images, which are then kept from it. Attributes
    that are the same throughout are left out.

    Raises:
      UserError: too few images, or no attribute that varies.
    """
    kind, split, unseen = subject.config.analyse.reader, subject.source.settings.split, subject.unseen_split
    names, builder = named(subject), subject.builder
    images, *values = regressor.labelled(builder, split, *names, count=MOST)
    known = varying(dict(zip(names, values, strict=True)))
    if len(images) < LEAST or not known:
        what = "too few to read attributes" if known else "all of the same attributes"
        raise UserError(
            f"{subject.source.settings.dir} has {len(images)} labelled images in {split}, {what}: prepare more, or others"
        )
    if unseen:
        judged, *wanted = regressor.labelled(builder, unseen, *known, count=MOST)
        wanted = dict(zip(known, wanted, strict=True))
    else:
        kept, rest = np.split(np.random.default_rng(SEED).permutation(len(images)), [round(len(images) * (1 - HELD_OUT))])
        judged, wanted = images[rest], {name: values[rest] for name, values in known.items()}
        images, known = images[kept], {name: values[kept] for name, values in known.items()}
    classes = {name: tuple(builder.info.features[name].names) for name in known}
    shards = data.shards(builder, split)
    key = f"{split} {unseen} {len(images)} {MOST} {HELD_OUT} {SEED}"
    learn = _classifier if kind == "classifier" else _neighbours
    look = learn(subject, images, known, classes, shards, key)
    seen = look(judged)
    held_out = {name: float(np.mean(seen[name].argmax(axis=1) == values)) for name, values in wanted.items()}
    common = {name: float(np.mean(values == np.bincount(known[name]).argmax())) for name, values in wanted.items()}
    return Reader(classes, look, held_out, common, len(judged))


def _classifier(subject, images, known, classes, shards, key):
    """A network with one softmax an attribute: from the cache, or trained and put there."""
    sizes = [len(names) for names in classes.values()]
    path = Path(subject.settings.cache) / f"{content_key('attributes', shards, f'{key} {EPOCHS} {list(classes.items())}')}.keras"

    def make():
        print(f"training a reader of {', '.join(known)} on {len(images)} images", flush=True)
        return train(images, np.stack(list(known.values()), axis=1), sizes), {}

    network, _ = networks.kept(path, make)

    def look(given):
        logits = networks.apply(network, given)
        split = np.split(logits, np.cumsum(sizes)[:-1], axis=1)
        return {name: tf.nn.softmax(each).numpy() for name, each in zip(classes, split, strict=True)}

    return look


def train(images: np.ndarray, labels: np.ndarray, sizes: Sequence[int], epochs: int = EPOCHS) -> keras.Model:
    """A network that tells several attributes at once: the sum of their cross-entropies is made small.

    Args:
      images: uint8 [N, H, W, 3].
      labels: int [N, attributes].
      sizes: number of classes of each attribute.
      epochs: over the images.

    Returns:
      Images [N, H, W, 3] float32 in [-1, 1] -> logits [N, sum of sizes], attribute after attribute.
    """

    wanted = [np.eye(size, dtype=np.float32)[each] for size, each in zip(sizes, labels.T, strict=True)]

    def entropy(wanted, logits):
        pairs = zip(tf.split(wanted, sizes, axis=1), tf.split(logits, sizes, axis=1), strict=True)
        return sum(tf.nn.softmax_cross_entropy_with_logits(one, told) for one, told in pairs)

    return networks.train(images, np.concatenate(wanted, axis=1), entropy, epochs)


def _neighbours(subject, images, known, classes, shards, key):
    """The shares of the labels among the nearest neighbours in the extractor's features."""
    from sklearn.neighbors import NearestNeighbors  # not above: the classifier needs none

    key = content_key(subject.extractor.name, shards, f"attributes {key}")
    chunks = (images[i : i + CHUNK] for i in range(0, len(images), CHUNK))
    index = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(images)), algorithm="brute")
    index.fit(cached_features(subject.extractor, chunks, key, subject.settings.cache))

    def look(given):
        near = index.kneighbors(subject.extractor(given), return_distance=False)
        return {name: np.eye(len(classes[name]))[known[name][near]].mean(axis=1) for name in classes}

    return look
