"""Does it name the right class? On images that the model has not seen, class by class."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from holotf import data
from holotf.evaluators import Evaluator
from holotf.evaluators.subject import Subject
from holotf.models.classifying import Classifying
from holotf.pictures import captioned, confusion

CHUNK = 250  # images looked at at once
SHOWN, COLUMNS = 40, 8  # misclassified images


class Judge(Evaluator):
    """`accuracy/top1`, `accuracy/class/NAME` of each class, and `cross_entropy` in nats, on the whole split.

    It shows `confusion`, the confusion matrix, and `misclassified`, the mistakes that the model was surest of.
    """

    MODEL = Classifying
    BETTER: ClassVar = {"accuracy/top1": max, "cross_entropy": min}

    def unfit(self) -> str | None:
        """Where there are no labels."""
        if "label" not in self.subject.builder.info.features:
            return f"no accuracy: {self.subject.source.settings.dir} has no labels"
        return None

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields them."""
        subject, names = self.subject, self.subject.model.class_names
        split = subject.split_to_judge("accuracy is on")
        counts, nats, mistakes = look(subject, split)
        total = counts.sum()
        subject.note(f"accuracy on the {total} images of {split}")
        subject.show({"confusion": confusion(counts, names)})
        if mistakes:
            captions = [f"{names[true]}\n-> {names[found]} {sure:.0%}" for sure, true, found, _ in mistakes]
            images = np.stack([image for *_, image in mistakes])
            subject.show({"misclassified": captioned(images, captions, COLUMNS)})
        yield "accuracy/top1", float(counts.trace() / total)
        for name, row, right in zip(names, counts, counts.diagonal(), strict=True):
            if row.sum():
                yield f"accuracy/class/{name}", float(right / row.sum())
        yield "cross_entropy", nats / total


def look(subject: Subject, split: str) -> tuple[np.ndarray, float, list[tuple[float, int, int, np.ndarray]]]:
    """Takes every image of a split once, as it is.

    Args:
      subject: what is judged.
      split: of its data.

    Returns:
      counts: [K, K], of which true class (rows) as which were named (columns).
      nats: the sum of -log p(true class).
      mistakes: (probability, true class, class named, uint8 [H, W, 3]) of at most 40, the surest first.
    """
    model, config = subject.model, subject.config
    source, classes = subject.source.of(split, flip=False), len(model.class_names)
    size = min(CHUNK, source.count)
    stream = data.batches(source, ("image", "label"), config.model.image_size, size, config.seed)
    counts, nats, mistakes, left = np.zeros((classes, classes), np.int64), 0.0, [], source.count
    for batch in stream.take(-(-source.count // size)):
        images, labels = (batch[name].numpy()[:left] for name in ("image", "label"))  # the next epoch fills the last batch
        logs = model.log_probabilities(batch["image"]).numpy()[:left]
        found = logs.argmax(axis=1)
        np.add.at(counts, (labels, found), 1)
        nats -= float(logs[np.arange(len(labels)), labels].sum(dtype=np.float64))
        wrong = np.flatnonzero(found != labels)
        mistakes += [(float(np.exp(logs[i, found[i]])), labels[i], found[i], images[i]) for i in wrong]
        mistakes = sorted(mistakes, key=lambda mistake: -mistake[0])[:SHOWN]
        left -= len(labels)
    return counts, nats, mistakes
