"""How far apart are two domains to a classifier that adapts, and how sure is it of the one without labels?"""

import importlib.util
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import tensorflow as tf

from holotf.evaluators import Evaluator, regressor
from holotf.evaluators.probe import FEWEST, fitted, standardise
from holotf.evaluators.subject import Subject
from holotf.models.adaptation import ClassAdapting
from holotf.pictures import scatter

CHUNK = 250  # images looked at at once
MOST = 1000  # images of each domain for the distance
SEED = 0  # of the halves and of t-SNE


class Judge(Evaluator):
    """What can be said without labels of the target, and pictures of both domains.

    - `domain/information`: how much the classes say of the target's training images, in nats: H(E p) - E H(p). It is high where
      the classifier is sure of each image and finds all classes among them; a choice of the checkpoint by it asks for no label
      of the target. Source: Bridle et al. 1992; Krause et al. 2010, section 3.
    - `domain/entropy`: E H(p) alone, in nats, which a classifier that names one class always brings to 0.
    - `domain/source_accuracy`: share of the source's unseen images that are named rightly.
    - `domain/a_distance`: 2 (1 - 2 error) of a linear classifier that tells on unseen images the source's features (of adapted
      images, where there are such) from the target's; 0: they cannot be told apart, 2: always. Source: Ben-David et al. 2007; Ganin
      et al. 2016, section 5.1.4.

    It shows `tsne_domains` and, where labels are known, `tsne_classes`: t-SNE (van der Maaten and Hinton 2008) of these features.
    """

    MODEL = ClassAdapting
    BETTER: ClassVar = {
        "domain/information": max,
        "domain/entropy": min,
        "domain/source_accuracy": max,
        "domain/a_distance": min,
    }

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields them."""
        subject = self.subject
        target, count = subject.sources["target"], subject.settings.images
        (images,) = regressor.labelled(target.builder, target.settings.split, count=count)
        log_p = in_chunks(subject.model.log_probabilities, images)
        place = f"{target.settings.dir}, {target.settings.split}"
        subject.note(f"domain/information on {len(images)} images of {place}, without labels")
        yield "domain/information", information(log_p)
        yield "domain/entropy", entropy(log_p)
        unseen = {name: self._unseen(name, count) for name in ("source", "target")}
        images, labels = unseen["source"]
        if labels is not None:
            right = in_chunks(subject.model.log_probabilities, images).argmax(axis=1) == labels
            yield "domain/source_accuracy", float(right.mean())
        if importlib.util.find_spec("sklearn") is None:
            subject.note("no domain/a_distance and no t-SNE: pip install 'holotf[digits]'")
            return
        source = in_chunks(lambda chunk: subject.model.features(subject.model.carried(chunk)), images[:MOST])
        target = in_chunks(subject.model.features, unseen["target"][0][:MOST])
        from threadpoolctl import threadpool_limits  # scikit-learn's own

        with threadpool_limits(1):  # so little work gains nothing by more, and on a busy machine they wait for each other
            yield from distance(subject, "domain/a_distance", source, target)
            self._portray(unseen, source, target)

    def _portray(self, unseen, source, target):
        """Shows the pictures, if any."""
        if shown := self.subject.settings.tsne:
            halves = source[:shown], target[:shown]
            known = [labels[: len(half)] for (_, labels), half in zip(unseen.values(), halves, strict=True) if labels is not None]
            labels = np.concatenate(known) if len(known) == 2 else None
            self.subject.show(portraits(*halves, labels, self.subject.model.class_names))

    def _unseen(self, name, count):
        """(images, labels or None) of a domain that the model has not seen, or has where there are no others."""
        source, split = self.subject.sources[name], self.subject.settings.split
        unseen = source.unseen(split)
        if unseen is None:
            place = f"{source.settings.dir} has no {split} beside {source.settings.split}"
            self.subject.note(f"images of the {name} are those of training: {place}")
        split = unseen or source.settings.split
        features = ("label",) if "label" in source.builder.info.features else ()
        images, *labels = regressor.labelled(source.builder, split, *features, count=count)
        return images, labels[0] if labels else None


def in_chunks(function: Callable[[tf.Tensor], tf.Tensor], images: np.ndarray) -> np.ndarray:
    """What a function makes of images, a few at a time: uint8 [N, H, W, 3] -> [N, ...]."""
    parts = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    return np.concatenate([function(tf.constant(part)).numpy() for part in parts])


def entropy(log_p: np.ndarray) -> float:
    """E H(p): log-probabilities [N, K] -> nats."""
    log_p = log_p.astype(np.float64)
    return float(-(np.exp(log_p) * log_p).sum(axis=1).mean())


def information(log_p: np.ndarray) -> float:
    """H(E p) - E H(p): log-probabilities [N, K] -> nats, from 0 to log K."""
    mean = np.exp(log_p.astype(np.float64)).mean(axis=0)
    return float(-(mean * np.log(np.maximum(mean, 1e-300))).sum()) - entropy(log_p)


def distance(subject: Subject, name: str, source: np.ndarray, target: np.ndarray) -> Iterator[tuple[str, float]]:
    """Yields (name, `a_distance`) of features [N, F] and [M, F]; a note where they are of too few images."""
    if min(len(source), len(target)) < FEWEST:
        subject.note(f"no {name}: it takes {FEWEST} images of each domain, of which there are {len(source)} and {len(target)}")
    else:
        yield name, a_distance(source, target)


def a_distance(source: np.ndarray, target: np.ndarray) -> float:
    """2 (1 - 2 error), from 0 to 2, of a linear classifier of features [N, F] and [M, F] that learns on half of them.

    It errs on the other half; of the larger domain it has as many as of the smaller.
    """
    least = min(len(source), len(target))
    features = np.concatenate([source[:least], target[:least]]).astype(np.float32)
    domains = np.repeat([0, 1], least)
    order = np.random.default_rng(SEED).permutation(2 * least)
    learn, judge = np.split(order, 2)
    halves = features[learn], features[judge]
    standardise(*halves)
    classifier, _ = fitted(halves[0], domains[learn])
    return max(0.0, 2.0 * (2.0 * float(classifier.score(halves[1], domains[judge])) - 1.0))


def portraits(source: np.ndarray, target: np.ndarray, labels: np.ndarray | None, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """t-SNE of features [N, F] and [M, F] of two domains.

    Args:
      source, target: the features.
      labels: int [N + M], or None where they are not known.
      names: of the classes.

    Returns:
      {name: uint8 picture}: `tsne_domains`, and `tsne_classes` where there are labels.
    """
    from sklearn.manifold import TSNE  # not above: it need not be there

    features = np.concatenate([source, target]).astype(np.float32)
    perplexity = min(30.0, (len(features) - 1) / 3)
    points = TSNE(init="pca", perplexity=perplexity, random_state=SEED).fit_transform(features)
    found = {"tsne_domains": scatter(points, np.repeat([0, 1], [len(source), len(target)]), ("source", "target"))}
    return found if labels is None else found | {"tsne_classes": scatter(points, labels, names)}
