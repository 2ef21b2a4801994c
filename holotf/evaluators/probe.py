"""What are its features good for? Linear classifiers on them, beside pixels, the same network untrained and ImageNet's features."""

import importlib.util
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from holotf import console, data, files, models
from holotf.errors import UserError, require
from holotf.evaluators import Evaluator, regressor
from holotf.evaluators.subject import Subject
from holotf.features import cached_features, content_key
from holotf.models.base import Perceptive

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

CELLS = 4  # a side, to which features are pooled
FEW = (100, 400, 1000)  # labels a class
DRAWS = 3  # of so few labels
HELD_OUT = 0.2  # of the labels, on which the regularisation is chosen; of the images, where there is no test split
STRENGTHS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # of half the squared weights, beside the mean cross-entropy
PATIENCE = 2  # weaker ones without a gain before the search ends
ITERATIONS = 200  # of L-BFGS
SEED = 0  # of the draws: one for all runs, so that figures differ by the features
CHUNK = 256  # images
FEWEST = 20  # images that a linear classifier is chosen and judged with


class Judge(Evaluator):
    """`probe/SPACE_accuracy` with all labels, `..._accuracy_N` and its `_std` over draws with N labels a class, of each space.

    Spaces: `levels`, the convolutional features, each level max-pooled to 4 x 4, all together; what else the model makes of
    images (`latent`, `volume`); the same of the network before training (`untrained_levels`, ...); `pixels`; and `extractor`,
    the features that `evaluate.extractor` names. The classifier is a multinomial logistic regression with an L2 penalty, on
    standardised features. Source: Radford et al. 2015, section 5.1 (there a linear SVM).
    """

    MODEL = Perceptive
    BETTER: ClassVar = {"probe/levels_accuracy": max}

    @classmethod
    def check(cls, settings: ConfigDict) -> None:
        """The number of images, and scikit-learn where it is needed."""
        require(settings.probe_images >= FEWEST, "evaluate.probe_images", settings.probe_images, f"{FEWEST} or more")
        if settings.probe and importlib.util.find_spec("sklearn") is None:
            raise UserError(f"evaluate.probe={settings.probe!r} needs scikit-learn: pip install 'holotf[analyse]'")

    def unfit(self) -> str | None:
        """An export that looks at no images; data that cannot be probed are an error, before a training that would end with it."""
        if not self.subject.settings.probe:
            return None
        opened(self.subject)
        blind = self.subject.model.blind
        return blind and f"no probe: {blind}"

    def measures(self) -> list[str]:
        """Its accuracy where `evaluate.probe` names data."""
        return list(self.BETTER) if self.subject.settings.probe else []

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields `probe/...`; nothing where `evaluate.probe` is empty."""
        settings = self.subject.settings
        if not settings.probe:
            return
        task = Task(self.subject)
        self.subject.note(
            f"probes: {settings.probe_label} ({task.classes} classes) of {settings.probe}, the model being trained on "
            f"{self.subject.source.settings.dir}; learnt from {len(task.train[1])} images, judged on {len(task.test[1])}; "
            f"extractor: {self.subject.extractor.name}"
        )
        yield "probe/chance", float(np.mean(task.test[1] == np.bincount(task.train[1]).argmax()))
        for space, features in self._shared(task):
            yield from _named(space, task.remembered(space, features))
        for prefix, model in (("", self.subject.model), ("untrained_", models.initial(self.subject.config))):
            learn, judge = (perceived(model, images, f"{prefix or 'trained '}features") for images, _ in (task.train, task.test))
            for space in tuple(learn):
                yield from _named(prefix + space, task.scores(prefix + space, learn.pop(space), judge.pop(space)))

    def _shared(self, task):
        """The spaces that are no model's, each as a function that makes them: (name, () -> features of both splits)."""
        yield "pixels", lambda: tuple(images.reshape(len(images), -1).astype(np.float32) for images, _ in (task.train, task.test))
        yield "extractor", lambda: tuple(map(task.extracted, ("train", "test")))


def opened(subject: Subject) -> tfds.core.DatasetBuilder:
    """The data set that `evaluate.probe` names.

    Raises:
      UserError: no such data or label, or images of another size.
    """
    settings, size = subject.settings, subject.config.model.image_size
    builder = data.open_beside(settings.probe, "evaluate.probe")
    found = builder.info.features
    labels = [name for name, feature in found.items() if isinstance(feature, tfds.features.ClassLabel)]
    require(settings.probe_label in labels, "evaluate.probe_label", settings.probe_label, f"one of {', '.join(labels) or 'none'}")
    if tuple(found["image"].shape) != (size, size, 3):
        raise UserError(
            f"evaluate.probe={settings.probe!r} has images of shape {found['image'].shape}: prepare it with --size {size}"
        )
    return builder


class Task:
    """Images with labels, to learn from and to be judged on.

    Args:
      subject: of the evaluation; its `evaluate.probe...` names data, label and number.

    Raises:
      UserError: as `opened`.
    """

    def __init__(self, subject: Subject):
        self.subject, settings = subject, subject.settings
        self.builder = opened(subject)
        found = self.builder.info.features
        kept = round(100 * (1 - HELD_OUT))
        # A part of the training images, or all of them, would be learnt from.
        own = settings.split != "train" and settings.split in self.builder.info.splits
        self.splits = (
            {"train": "train", "test": settings.split} if own else {"train": f"train[:{kept}%]", "test": f"train[{kept}%:]"}
        )
        count = settings.probe_images
        self.train, self.test = (
            regressor.labelled(self.builder, s, settings.probe_label, count=count) for s in self.splits.values()
        )
        self.classes = found[settings.probe_label].num_classes

    def extracted(self, part: str) -> np.ndarray:
        """The extractor's features of `train` or `test`, [N, F], from the cache where they are there."""
        images, _ = self.train if part == "train" else self.test
        chunks = _chunks(images, f"{self.subject.extractor.name} of {part}")
        return cached_features(
            self.subject.extractor, chunks, self._key(self.subject.extractor.name, part), self.subject.settings.cache
        )

    def remembered(self, space: str, features: Callable[[], tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        """`scores` of a space that is no model's: from the cache, or found and put there. `features` makes both splits'."""
        name = self.subject.extractor.name if space == "extractor" else space
        settings = f"{self.subject.settings.probe_label} {FEW} {DRAWS} {HELD_OUT} {STRENGTHS} {PATIENCE} {ITERATIONS} {SEED}"
        path = Path(self.subject.settings.cache) / f"probe-{self._key(name, settings)}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(os.fspath(path), self.scores(space, *features()))
        return json.loads(path.read_text(encoding="utf-8"))

    def _key(self, name, detail):
        detail = f"probe {self.splits} {self.subject.settings.probe_images} {detail}"
        return content_key(name, data.shards(self.builder, *self.splits.values()), detail)

    def scores(self, space: str, learn: np.ndarray, judge: np.ndarray) -> dict[str, float]:
        """Accuracy with all labels and with few.

        Args:
          space: its name, for the bar.
          learn, judge: features [N, F] and [M, F] float32 of the two splits; they are standardised in place.

        Returns:
          Dict: `accuracy`, and `accuracy_N` and `accuracy_N_std` for each number of labels a class that there are.
        """
        (_, labels), (_, wanted) = self.train, self.test
        standardise(learn, judge)
        rng, found = np.random.default_rng(SEED), {}
        counts = np.bincount(labels, minlength=self.classes)
        sizes = [n for n in FEW if n <= counts[counts > 0].min() and n * (counts > 0).sum() < len(labels)]
        bar = console.progress(total=1 + DRAWS * len(sizes), desc=f"probe of {space}", unit=" fits")
        with bar, self.subject.threads():
            for n in sizes:
                each, strength = [], None
                for _ in range(DRAWS):
                    drawn = rng.permutation(len(labels))
                    drawn = np.concatenate([drawn[labels[drawn] == c][:n] for c in np.flatnonzero(counts)])
                    classifier, strength = fitted(learn[drawn], labels[drawn], strength)
                    each.append(classifier.score(judge, wanted))
                    bar.update()
                found |= {f"accuracy_{n}": float(np.mean(each)), f"accuracy_{n}_std": float(np.std(each))}
            classifier, _ = fitted(learn, labels)
            bar.update()
        return {"accuracy": float(classifier.score(judge, wanted))} | found


def _named(space, scores):
    yield from ((f"probe/{space}_{name}", value) for name, value in scores.items())


def perceived(model: Perceptive, images: np.ndarray, what: str) -> dict[str, np.ndarray]:
    """What a model sees in images: `levels` and its readings, pooled and flat.

    Args:
      model: a `Perceptive` one.
      images: uint8 [N, H, W, 3].
      what: a name, for the bar.

    Returns:
      {space: float32 [N, F]}.
    """

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, *images.shape[1:]], tf.uint8)])
    def look(chunk):
        readings = {name: flat(pooled(found)) for name, found in model.readings(chunk).items()}
        return {"levels": tf.concat([flat(pooled(level)) for level in model.levels(chunk)], axis=1)} | readings

    parts = [look(tf.constant(chunk)) for chunk in _chunks(images, what)]
    return {space: np.concatenate([part[space].numpy() for part in parts]) for space in parts[0]}


def pooled(features: tf.Tensor) -> tf.Tensor:
    """Max-pools space to 4 cells a side: [B, h, w, C] or [B, D, H, W, C]; what has no space, or as little, stays as it is."""
    window = [max(1, side // CELLS) for side in features.shape[1:-1]]
    return tf.nn.max_pool(features, window, window, "VALID") if window else features


def flat(features: tf.Tensor) -> tf.Tensor:
    """[B, ..., C] -> [B, F] float32."""
    return tf.cast(tf.reshape(features, [-1, int(np.prod(features.shape[1:]))]), tf.float32)


def standardise(learn: np.ndarray, judge: np.ndarray) -> None:
    """Takes the mean off each feature and divides by its deviation, both of the images to learn from, in place."""
    mean, deviation = learn.mean(axis=0), learn.std(axis=0)
    for features in (learn, judge):
        features -= mean
        features /= np.maximum(deviation, 1e-8)


def fitted(features: np.ndarray, labels: np.ndarray, strength: float | None = None) -> tuple["LogisticRegression", float]:
    """A linear classifier: the mean cross-entropy plus strength / 2 times the squared weights is least.

    Args:
      features: [N, F], standardised.
      labels: int [N].
      strength: of the penalty; None: the one with which a classifier that learnt from 80 % of the images tells the others best.

    Returns:
      (scikit-learn's classifier, strength).
    """
    if strength is None:
        order = np.random.default_rng(SEED).permutation(len(labels))
        kept, held_out = np.split(order, [round(len(labels) * (1 - HELD_OUT))])
        strength = _chosen(features[kept], labels[kept], features[held_out], labels[held_out])
    return _fit(_classifier(), features, labels, strength), strength


def _chosen(learn, labels, judge, wanted):
    """The strength that does best on the held-out part: from strong to weak, each fit going on from the one before."""
    best, classifier, since = (-1.0, STRENGTHS[0]), _classifier(), 0
    for strength in STRENGTHS:
        accuracy = _fit(classifier, learn, labels, strength).score(judge, wanted)
        since = 0 if accuracy > best[0] else since + 1
        best = max(best, (accuracy, strength))
        if since == PATIENCE:
            break
    return best[1]


def _classifier():
    from sklearn.linear_model import LogisticRegression  # not above: without a probe it need not be there

    return LogisticRegression(max_iter=ITERATIONS, tol=1e-3, warm_start=True)


def _fit(classifier, features, labels, strength):
    with warnings.catch_warnings():  # stopped at ITERATIONS: that regularises, too, and is judged on held-out images like the rest
        warnings.filterwarnings("ignore", "lbfgs failed to converge")
        return classifier.set_params(C=1.0 / (len(labels) * strength)).fit(features, labels)


def _chunks(images, what):
    with console.progress(total=len(images), desc=what, unit=" images") as bar:
        for start in range(0, len(images), CHUNK):
            yield images[start : start + CHUNK]
            bar.update(min(CHUNK, len(images) - start))
