"""Does the object stay itself while it turns? Variance of features within a sweep against variance between objects."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from holotf.evaluators import Evaluator
from holotf.models.base import Turnable


class Judge(Evaluator):
    """`identity/ratio` of the made objects, beside what shuffled views give and what real turntables do."""

    MODEL = Turnable
    BETTER: ClassVar = {"identity/ratio": min}

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields `identity/...`."""
        subject = self.subject
        yield from identity_ratio(subject.features(subject.sweep), subject.config.seed).items()
        real, sides = subject.turntables
        if real is not None:
            subject.note(f"real: {len(real)} real objects x {len(sides)} views, judged in the same way")
            yield "identity/real_ratio", identity_ratio(subject.features(real), subject.config.seed)["identity/ratio"]


def identity_ratio(features: np.ndarray, seed: int = 0) -> dict:
    """Variance within sweeps over variance between objects, and the same with the views dealt out to objects at random.

    Between objects is the variance of same-view features about that view's mean, so that what all objects change alike while they
    turn does not count as identity; within is the variance of a sweep's features, each view's mean taken off, about the
    sweep's mean. 0: an object's features tell it from any side; the shuffled ratio is what no identity at all would give.

    Args:
      features: [N, K, F] of N objects from K sides.
      seed: of the shuffling.

    Returns:
      Dict: `identity/ratio` and `identity/shuffled_ratio`, both at least 0.
    """
    features = np.asarray(features, np.float64)
    rng = np.random.default_rng(seed)
    shuffled = np.stack([features[rng.permutation(len(features)), k] for k in range(features.shape[1])], axis=1)
    return {"identity/ratio": _ratio(features), "identity/shuffled_ratio": _ratio(shuffled)}


def _ratio(features):
    centred = features - features.mean(axis=0, keepdims=True)  # each view's mean over objects
    within = np.mean((centred - centred.mean(axis=1, keepdims=True)) ** 2)
    between = np.mean(centred**2)
    return float(within / between) if between > 0 else 0.0
