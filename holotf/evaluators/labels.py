"""Is it what was asked for? Labels read off images that a conditional model drew, on lists of conditions, seen and unseen."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from ml_collections import ConfigDict

from holotf import conditions, data, features
from holotf.evaluators import Evaluator, labeller
from holotf.evaluators.angles import wrap
from holotf.evaluators.distribution import CHUNK, collapse, kid
from holotf.models.base import Turnable
from holotf.models.conditional import Conditional
from holotf.pictures import confusion

LEAST_ALIKE = 8  # real images of one condition, to say how diverse they are


class Judge(Evaluator):
    """Of each list of conditions beside the data, `labels/LIST/...`; where there is none, each label alone is the list `single`.

    `top_k` (of the labels asked for, those among the k most probable, k being how many were asked for), `exact` (images that show
    just these), `class/NAME`, `kid/N` (x 100) of N objects, `diversity` within one condition over that of real images of it;
    and `labels/judge/SPLIT/...`, what the classifier itself reaches on real images. Of a model that turns also
    `labels/sweep/top_k`, from all sides, and `labels/azimuth_shift_deg`, by how much another label turns the object.
    It shows `confusion/LIST`.
    """

    MODEL = Conditional
    BETTER: ClassVar = {
        f"labels/{name}/{metric}": max for name in ("test", "unseen", "new_test", "single") for metric in ("top_k", "exact")
    }

    @classmethod
    def check(cls, settings: ConfigDict) -> None:
        """The classifier of one's own, if any."""
        if settings.classifier:
            labeller.check(settings.classifier)

    def unfit(self) -> str | None:
        """Where the data say nothing of labels."""
        subject = self.subject
        if data.class_names(subject.source, subject.config.model.labels) is None:
            return f"no labels: {subject.config.data.dir or 'the data'} have no labels {subject.config.model.labels!r}"
        if len(data.class_names(subject.source, subject.config.model.labels)) != len(subject.model.class_names):
            return f"no labels: {subject.config.data.dir} has other labels than the model"
        return None

    def measures(self) -> list[str]:
        """Those of the lists that there are."""
        return [name for name in self.BETTER if name.split("/")[1] in self._lists()]

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields them."""
        subject, names = self.subject, self.subject.model.class_names
        settings, feature, splits = subject.settings, subject.config.model.labels, subject.judged_splits
        reader = labeller.labeller(
            subject.builder, subject.config.data.split, splits, feature, len(names), settings.cache, settings.classifier
        )
        known = ", ".join(f"{found['top_k']:.3f} ({name})" for name, found in reader.held_out.items()) or "not known: no test split"
        subject.note(f"labels are read by {reader.name}; its own top-k accuracy on real images: {known}")
        for split, found in reader.held_out.items():
            yield from ((f"labels/judge/{split}/{metric}", value) for metric, value in found.items())
        for name, asked in self._lists().items():
            labels = conditions.rows(asked, names)
            labels = np.tile(labels, (max(1, settings.images // len(labels)), 1))
            images = self._made(labels)
            probabilities = reader(images)
            subject.note(f"labels/{name}: {len(images)} images of {len(asked)} conditions")
            yield from ((f"labels/{name}/{metric}", value) for metric, value in labeller.judge(probabilities, labels).items())
            found = labeller.most_probable(probabilities, labels)
            counts = labeller.confusion(found, labels)
            subject.show({f"confusion/{name}": confusion(np.rint(counts).astype(np.int64), names)})
            for kind, row, right in zip(names, counts, counts.diagonal(), strict=True):
                if row.sum():
                    yield f"labels/{name}/class/{kind}", float(right / row.sum())
            yield from self._likeness(name, name if name in splits else (splits or [subject.config.data.split])[0], images, labels)
        if isinstance(subject.model, Turnable):
            yield from self._turning(reader)

    def _made(self, labels):
        """An image of each row of labels, all else drawn: uint8 [N, H, W, 3]."""
        model, seed, made = self.subject.model, self.subject.config.seed, []
        for i in range(-(-len(labels) // CHUNK)):
            rows = labels[np.arange(i * CHUNK, (i + 1) * CHUNK) % len(labels)]
            latents, *more = model.draw(CHUNK, [seed, 1 + i])
            made.append(model.sample(model.labelled(latents, rows), *more).numpy())
        return np.concatenate(made)[: len(labels)]

    def _lists(self):
        """{name of a list of conditions: the conditions}."""
        names = self.subject.model.class_names
        return conditions.read(self.subject.config.data.dir, names) or {"single": [(name,) for name in names]}

    def _likeness(self, name, split, images, labels):
        """KID for each number of objects, and diversity within a condition, against real images of a split."""
        subject, seed = self.subject, self.subject.config.seed
        count = subject.settings.images
        of_real, told = labeller.labelled(
            subject.builder, split, subject.config.model.labels, len(subject.model.class_names), count=count
        )
        key = features.content_key(subject.extractor.name, data.shards(subject.builder, split), f"labels {split} {count}")
        real = features.cached_features(subject.extractor, [of_real], key, subject.settings.cache)
        made = subject.extractor(images)
        numbers = [np.rint(rows.sum(axis=1)).astype(int) for rows in (told, labels)]
        for number in sorted(set(numbers[1])):
            pair = real[numbers[0] == number], made[numbers[1] == number]
            if min(map(len, pair)) > 1:
                yield f"labels/{name}/kid/{number}", 100 * kid(*pair, seed=seed)[0]
        ratios = []
        for row in np.unique(labels, axis=0):
            pair = real[np.all(told == row, axis=1)], made[np.all(labels == row, axis=1)]
            if len(pair[0]) >= LEAST_ALIKE and len(pair[1]) > 1:
                ratios.append(collapse(*pair, seed=seed))
        if ratios:
            yield f"labels/{name}/diversity", float(np.mean(ratios))

    def _turning(self, reader):
        """What is read from all sides; and, where the data tell poses, whether another label leaves the object's azimuth."""
        subject, model = self.subject, self.subject.model
        labels = model.parts(subject.latents)[1].numpy()
        sweep = subject.sweep  # [N,K,H,W,3]
        each = labels.repeat(sweep.shape[1], axis=0)
        read = labeller.judge(reader(sweep.reshape(-1, *sweep.shape[2:])), each)
        yield "labels/sweep/top_k", read["top_k"]
        others = np.roll(labels, 1, axis=0)
        differ = np.any(labels != others, axis=1)
        if subject.poses_known and differ.any():
            turned = model.sweep(model.labelled(subject.latents, others), "azimuth_deg", subject.settings.views)
            (before, _), (after, _) = (subject.reader()(images) for images in (sweep, turned))
            yield "labels/azimuth_shift_deg", float(np.abs(wrap(after - before))[differ].mean())
