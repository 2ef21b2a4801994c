"""How well does it read poses? On images it has not seen, with zero and sense of the azimuth fitted to few labels, or to all."""

import importlib.util
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from holotf.errors import require
from holotf.evaluators import Evaluator, regressor
from holotf.evaluators.angles import Fit, fitted
from holotf.evaluators.domains import MOST, distance, in_chunks
from holotf.models.adaptation import Adapting
from holotf.models.posing import LABELS, Posing

SEED = 0  # of the draws of labelled images


AS_IS = Fit(1, 0.0)


class Judge(Evaluator):
    """Errors on unseen images, where the data say from where these were drawn.

    What learns from a generator's images learns the generator's azimuth: its zero and its sense are two numbers (`Fit`), which

    - `pose_estimate/azimuth_mae_deg`, as it is read: does without;
    - `pose_estimate/open/...` fits to the judged images themselves: the best that any two numbers do;
    - `pose_estimate/fitted_K/...` fits to K labelled training images: means over `evaluate.pose_draws` draws of so many, and
      `sense_share`, the share of the draws that find the sense of `open`.

    With each, `azimuth_mae_deg`, `azimuth_median_deg` and `flip_share`, the share of images read more than 90 degrees off: nearer
    to the opposite side than to their own. `chance_...` is what the best constant does. `pose_estimate/sure_azimuth_mae_deg` is the
    error, after `open`, on the half of which it is surer.

    Of a model that adapts, without labels of the target: `certainty`, the mean confidence on its training images less the length
    of their mean direction, which is high where each image is told surely and not all alike; and `a_distance`, of
    the features, as `domain/a_distance`.
    """

    MODEL = Posing
    BETTER: ClassVar = {
        "pose_estimate/certainty": max,
        "pose_estimate/azimuth_mae_deg": min,
        "pose_estimate/open/azimuth_mae_deg": min,
        "pose_estimate/elevation_mae_deg": min,
        "pose_estimate/a_distance": min,
    }

    @classmethod
    def check(cls, settings: ConfigDict) -> None:
        """Raises UserError where the numbers of labels, or of draws, make no sense."""
        if "pose_labels" not in settings:
            return
        usable = all(isinstance(count, int) and count >= 2 for count in settings.pose_labels)
        require(usable, "evaluate.pose_labels", settings.pose_labels, "numbers of images, each 2 or more, or () for none")
        require(settings.pose_draws >= 1, "evaluate.pose_draws", settings.pose_draws, "1 or more")

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields `pose_estimate/...`."""
        if isinstance(self.subject.model, Adapting):
            yield from self._without_labels()
        if not self.subject.poses_known:
            self.subject.note(f"no errors of poses: {self.subject.source.settings.dir} has no azimuth_deg and elevation_deg")
            return
        subject, count = self.subject, self.subject.settings.images
        split = subject.split_to_judge("poses are of")
        images, azimuth, elevation = regressor.labelled(subject.builder, split, *LABELS, count=count)
        read_azimuth, read_elevation, confidence = self._read(images)
        subject.note(f"pose errors on {len(images)} images of {split}")
        yield from _scores("", AS_IS.error_deg(read_azimuth, azimuth))
        yield "pose_estimate/elevation_mae_deg", float(np.abs(read_elevation - elevation).mean())
        yield "pose_estimate/confidence", float(confidence.mean())
        best = fitted(read_azimuth, azimuth)
        error = best.error_deg(read_azimuth, azimuth)
        yield from _scores("open/", error)
        surer = np.argsort(-confidence, kind="stable")[: -(-len(error) // 2)]
        yield "pose_estimate/sure_azimuth_mae_deg", float(error[surer].mean())
        constant = fitted(np.zeros_like(azimuth), azimuth)
        yield "pose_estimate/chance_azimuth_mae_deg", float(constant.error_deg(np.zeros_like(azimuth), azimuth).mean())
        yield "pose_estimate/chance_elevation_mae_deg", float(np.abs(elevation - np.median(elevation)).mean())
        self._tell(best, "all judged images")
        yield from self._by_few(best.sense, read_azimuth, azimuth)

    def _by_few(self, sense, read_deg, true_deg):
        """Fits to few labelled images of training, many times over."""
        subject, settings = self.subject, self.subject.settings
        images, labels = regressor.labelled(subject.builder, subject.source.settings.split, LABELS[0], count=settings.images)
        known, _, _ = self._read(images)
        for count in settings.pose_labels:
            if count > len(images):
                subject.note(f"no fit to {count} labels: {subject.source.settings.split} has {len(images)}")
                continue
            rng = np.random.default_rng([SEED, count])
            draws = [rng.choice(len(images), count, replace=False) for _ in range(settings.pose_draws)]
            fits = [fitted(known[rows], labels[rows]) for rows in draws]
            yield from _scores(f"fitted_{count}/", np.stack([fit.error_deg(read_deg, true_deg) for fit in fits]))
            yield f"pose_estimate/fitted_{count}/sense_share", float(np.mean([fit.sense == sense for fit in fits]))
            self._tell(fits[0], f"the first draw of {count} labelled images")

    def _tell(self, fit, what):
        told = f"--config.export.azimuth_sense={fit.sense} --config.export.azimuth_offset_deg={fit.offset_deg:.1f}"
        self.subject.note(f"zero and sense fitted to {what}: {told}")

    def _without_labels(self):
        subject, model, count = self.subject, self.subject.model, self.subject.settings.images
        target = subject.sources["target"]
        (images,) = regressor.labelled(target.builder, target.settings.split, count=count)
        azimuth, _, confidence = self._read(images)
        yield "pose_estimate/certainty", certainty(azimuth, confidence)
        if importlib.util.find_spec("sklearn") is None:
            subject.note("no pose_estimate/a_distance: pip install 'holotf[digits]'")
            return
        (source,) = regressor.labelled(subject.sources["source"].builder, subject.sources["source"].settings.split, count=MOST)
        here = in_chunks(lambda chunk: model.features(model.carried(chunk)), source)
        with subject.threads():
            yield from distance(subject, "pose_estimate/a_distance", here, in_chunks(model.features, images[:MOST]))

    def _read(self, images):
        """(azimuth_deg, elevation_deg, confidence), float64 [N] each."""
        found = in_chunks(lambda chunk: tf.stack(self.subject.model.poses(chunk), axis=1), images)
        return found.astype(np.float64).T


def certainty(azimuth_deg: np.ndarray, confidence: np.ndarray) -> float:
    """E |m| - |E m| of directions m, whose angles and lengths are given: [N], [N] -> 0 to 1."""
    mean = confidence * np.exp(1j * np.radians(azimuth_deg))
    return float(confidence.mean() - np.abs(mean.mean()))


def _scores(prefix, error_deg):
    """Of errors [N], or [D, N] of several fits: means over all, and the mean of the medians."""
    yield f"pose_estimate/{prefix}azimuth_mae_deg", float(error_deg.mean())
    yield f"pose_estimate/{prefix}azimuth_median_deg", float(np.median(error_deg, axis=-1).mean())
    yield f"pose_estimate/{prefix}flip_share", float(np.mean(error_deg > regressor.AMBIGUOUS_DEG))
