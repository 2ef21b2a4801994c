"""Are the images as good as the real ones? How far generated features are from real ones, and whether they are as diverse."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from holotf import data, features
from holotf.errors import UserError
from holotf.evaluators import Evaluator
from holotf.models.base import Generative

CHUNK = 64  # images drawn at once
COLLAPSED = 0.5  # diversity below which the alarm goes
ROWS = 1024  # features turned into float64 at a time: 16 MiB at 2,048 of them


class Judge(Evaluator):
    """`kid/mean` and `kid/std` (x 100), `fid`, `diversity`, against images that the model has not seen where there are any."""

    MODEL = Generative
    BETTER: ClassVar = {"kid/mean": min, "fid": min, "diversity": max}

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields the four."""
        seed = self.subject.config.seed
        real, fake = self._real(), self._made()
        mean, deviation = kid(real, fake, seed=seed)
        diversity = collapse(real, fake, seed=seed)
        sizes = f"{len(real)} real and {len(fake)} made images"
        self.subject.note(f"KID x 100 and FID on {self.subject.extractor.name}, {sizes}; not comparable to others'")
        if diversity < COLLAPSED:
            self.subject.note(f"COLLAPSE: made images are {diversity:.2f} times as diverse as real ones", alarm=True)
        yield "kid/mean", 100 * mean
        yield "kid/std", 100 * deviation
        yield "fid", fid(real, fake)
        yield "diversity", diversity

    def _real(self):
        """Features of real images, [N, F], from the cache where they are there."""
        subject, config = self.subject, self.subject.config
        split = subject.split_to_judge("real images are")
        source = subject.source.of(split)
        count = min(subject.settings.images, source.count)
        size = min(CHUNK, count)
        stream = data.batches(source, ("image",), config.model.image_size, size, config.seed)
        images = (batch["image"].numpy() for batch in stream.take(-(-count // size)))
        detail = f"{split} {config.seed} {count} {size} {config.data.flip}"
        key = features.content_key(subject.extractor.name, data.shards(subject.builder, split), detail)
        return features.cached_features(subject.extractor, images, key, subject.settings.cache)[:count]

    def _made(self):
        """Features of as many images as `evaluate.images` says, [M, F]."""
        model, count, seed = self.subject.model, self.subject.settings.images, self.subject.config.seed
        draws = (model.sample(*model.draw(CHUNK, [seed, 1 + i])).numpy() for i in range(-(-count // CHUNK)))
        return np.concatenate([self.subject.extractor(images) for images in draws])[:count]


def kid(real: np.ndarray, fake: np.ndarray, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Kernel Inception distance: the unbiased MMD^2 with k(x, y) = (x.y / d + 1)^3, over subsets drawn without replacement.

    MMD^2 = sum_{i != j} k(x_i, x_j) / n(n-1) + sum_{i != j} k(y_i, y_j) / n(n-1) - 2 sum_{i, j} k(x_i, y_j) / n^2.
    Source: Binkowski et al. 2018 (arXiv 1801.01401), section 3; Gretton et al. 2012, equation 3.

    Args:
      real, fake: [N, d] and [M, d], any float type.
      subsets: how many.
      subset_size: n, features of either kind in a subset. With fewer given, n = min(subset_size, N, M). A subset of a set of n is
        the whole set, so the std then knows the spread of the other set's draws alone, and is 0 where both have n.
      seed: of the draws.

    Returns:
      (mean, std) over the subsets, unbounded: 0 is expected of equal distributions, so a mean may be negative. As it is: the
      x100 of papers and tables is applied where it is reported. The std is of one subset (NumPy's, ddof 0), not of the mean.

    Raises:
      UserError: fewer than 1 subset or 2 features a subset; features as `fid` refuses them.
    """
    real, fake = _checked(real, fake)
    if subsets < 1:
        raise UserError(f"kid subsets={subsets}: use at least 1")
    if subset_size < 2:
        raise UserError(f"kid subset_size={subset_size}: use at least 2")
    n, rng = min(subset_size, len(real), len(fake)), np.random.default_rng(seed)
    values = [_mmd2(_draw(real, n, rng), _draw(fake, n, rng)) for _ in range(subsets)]
    return float(np.mean(values)), float(np.std(values))


def fid(real: np.ndarray, fake: np.ndarray) -> float:
    """Frechet distance between Gaussians: |m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2), S the covariances (n - 1).

    S^1/2 S' S^1/2 is symmetric and has the eigenvalues of S S', so symmetric eigendecompositions are all it takes. In float64,
    chunk by chunk: beside the features it needs ten d x d matrices at most. Biased upward, the more so the fewer the samples.
    Source: Heusel et al. 2017 (arXiv 1706.08500), equation 6.

    Args:
      real, fake: [N, d] and [M, d], any float type.

    Returns:
      Scalar >= 0.

    Raises:
      UserError: not two arrays [N, d] of one d, fewer than two rows, numbers that are not finite.
    """
    (mean, covariance), (mean_fake, covariance_fake) = (_moments(features) for features in _checked(real, fake))
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    product = root @ covariance_fake @ root
    values = np.linalg.eigvalsh((product + product.T) / 2)
    trace = np.trace(covariance) + np.trace(covariance_fake) - 2 * np.sum(np.sqrt(np.maximum(values, 0.0)))
    return max(0.0, float(np.sum((mean - mean_fake) ** 2) + trace))


def collapse(real: np.ndarray, fake: np.ndarray, seed: int = 0, batch_size: int = 1000) -> float:
    """Diversity: mean_{i < j} |y_i - y_j| in a batch of fake features over the same in one of real features.

    Args:
      real, fake: [N, d] and [M, d], any float type.
      seed: of the two batches.
      batch_size: features in each; all but equally many where fewer are given: min(batch_size, N, M).

    Returns:
      Scalar >= 0: 1 is as diverse as the real ones, 0 is one image over and over.

    Raises:
      UserError: real features that are all alike; features as `fid` refuses them.
    """
    real, fake = _checked(real, fake)
    if batch_size < 2:
        raise UserError(f"collapse batch_size={batch_size}: use at least 2")
    n, rng = min(batch_size, len(real), len(fake)), np.random.default_rng(seed)
    distance_real, distance_fake = (_mean_distance(_draw(features, n, rng)) for features in (real, fake))
    if distance_real == 0.0:
        raise UserError("collapse: the real features are all alike, nothing to compare with: use different images")
    return distance_fake / distance_real


def _checked(real, fake):
    real, fake = np.asanyarray(real), np.asanyarray(fake)
    for name, given in (("real", real), ("fake", fake)):
        if given.ndim != 2 or given.shape[1] == 0 or given.dtype.kind not in "fiu":
            raise UserError(f"{name} features of shape {given.shape} and type {given.dtype}: use numbers [N, features]")
        if len(given) < 2:
            raise UserError(f"{name} features of {len(given)} images: use at least 2")
        for start, chunk in _chunks(given):
            if not np.isfinite(chunk).all():
                row = start + int(np.argmin(np.isfinite(chunk).all(axis=1)))
                raise UserError(f"{name} features of image {row} are not finite: look at the images or at the extractor")
    if real.shape[1] != fake.shape[1]:
        raise UserError(f"real features are {real.shape[1]} wide, fake ones {fake.shape[1]}: use one extractor for both")
    return real, fake


def _chunks(features):
    for start in range(0, len(features), ROWS):
        yield start, np.asarray(features[start : start + ROWS], np.float64)


def _draw(features, n, rng):
    return np.asarray(features[rng.choice(len(features), n, replace=False)], np.float64)


def _mmd2(x, y):
    n, d = x.shape
    within = 0.0
    for z in (x, y):
        k = (z @ z.T / d + 1) ** 3
        within += (k.sum() - np.trace(k)) / (n * (n - 1))
    return within - 2 * np.mean((x @ y.T / d + 1) ** 3)


def _moments(features):
    """Mean [d] and covariance [d, d] with n - 1; two passes, so that a large mean costs no digits."""
    mean = sum(chunk.sum(axis=0) for _, chunk in _chunks(features)) / len(features)
    covariance = np.zeros((features.shape[1],) * 2)
    for _, chunk in _chunks(features):
        chunk = chunk - mean
        covariance += chunk.T @ chunk
    return mean, covariance / (len(features) - 1)


def _mean_distance(x):
    x = x - x.mean(axis=0)  # distances stay, cancellation in |x|^2 + |y|^2 - 2 x.y goes
    squares = np.sum(x * x, axis=1)
    square_distances = squares[:, np.newaxis] + squares - 2 * (x @ x.T)
    np.fill_diagonal(square_distances, 0.0)
    return float(np.sqrt(np.maximum(square_distances, 0.0)).sum() / (len(x) * (len(x) - 1)))
