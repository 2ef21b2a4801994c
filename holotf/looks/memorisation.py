"""Are the samples copies? Their nearest training images, and a test against those of real images that were held out.

What is tested is how much nearer the nearest training image is than the next ones. The distance itself will not do: what is blurred
is nearer to everything than a sharp photograph, and is no copy.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import tensorflow as tf

from holotf import data, looks
from holotf.evaluators import Evaluator, regressor
from holotf.features import cached_features, content_key
from holotf.looks import made, plots
from holotf.models.base import Generative
from holotf.pictures import captioned

MOST = 50_000  # training images looked at
PIXELS_PX = 32  # a side, to which images are averaged before pixels are compared
NEIGHBOURS = 50  # of which the nearest is compared with the others
CELLS, CELL_LEAST = 10, 20  # parts of the space, and images of either kind that one needs to count
TAIL = 0.01  # of the held-out images: those that are nearest
COPIED_CT = -3.0  # and below: Meehan et al., section 4
COPIED_P = 1e-3  # and below
ROWS, NEAREST = 8, 3  # of the sheet: samples, the nearest to each in either space
CHUNK = 256  # images


class Look(Evaluator):
    """`memorisation/SPACE_...` in `pixels` and `features`; shows `memorisation` and `memorisation_distances`.

    `distance` and `held_out_distance`: median distance of samples, and of held-out images, to the nearest training image, the root
    mean square of pixels in [0, 255] and the Euclidean one of features.
    `ct`: `data_copying`. `closest`: the share of samples closer, by `closeness`, than the closest hundredth of the held-out images;
    `closest_p`: how likely so many are if there is no difference. Where training images are mirrored (`data.flip`), mirrored copies
    count. The answer is a note; copies set off an alarm.
    """

    MODEL = Generative
    BETTER: ClassVar = {"memorisation/pixels_closest": min, "memorisation/features_closest": min}

    def unfit(self) -> str | None:
        """Where no split is held out, or there is no scikit-learn or matplotlib."""
        subject = self.subject
        if subject.unseen_split is None:
            return (
                f"no memorisation: it compares with images held out, and {subject.config.data.dir} has no unseen "
                f"split {subject.settings.split!r}: prepare it with --test"
            )
        return looks.missing("memorisation")

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields them."""
        subject, count = self.subject, self.subject.config.analyse.images
        split = subject.config.data.split
        (train,) = regressor.labelled(subject.builder, split, count=MOST)
        (held_out,) = regressor.labelled(subject.builder, subject.unseen_split, count=count)
        samples = made.images(subject.model, subject.model.draw(count, [subject.config.seed, 3]), "samples")
        if len(train) < subject.source.count:
            subject.note(f"memorisation: of {subject.source.count} training images, the first {len(train)} are looked at")

        def extracted(images):
            if images is not train:
                return subject.extractor(images)
            key = content_key(subject.extractor.name, data.shards(subject.builder, split), f"memorisation {split} {MOST}")
            chunks = (train[i : i + CHUNK] for i in range(0, len(train), CHUNK))
            return cached_features(subject.extractor, chunks, key, subject.settings.cache)

        rows, panels, answers = {}, {}, []
        for space, embed in (("pixels", pixels), ("features", extracted)):
            base = embed(train)
            with subject.threads():
                found, real = (Nearest.of(base, embed, images, subject.config.data.flip) for images in (samples, held_out))
                verdict = Verdict.of(base, found, real)
            answers.append((space, verdict))
            rows[space] = found
            yield f"memorisation/{space}_distance", float(np.median(found.distances[:, 0]))
            yield f"memorisation/{space}_held_out_distance", float(np.median(real.distances[:, 0]))
            yield f"memorisation/{space}_ct", verdict.ct
            yield f"memorisation/{space}_closest", verdict.closest
            yield f"memorisation/{space}_closest_p", verdict.closest_p
            for title, values in (("distance", lambda n: n.distances[:, 0]), ("closeness", lambda n: n.closeness)):
                panels[f"{title} in {space}"] = {"samples": values(found), "held-out": values(real)}
        self._answer(answers)
        subject.show({"memorisation": sheet(samples, train, rows), "memorisation_distances": plots.histograms(panels)})

    def _answer(self, answers):
        copied = any(verdict.copied for _, verdict in answers)
        said = "; ".join(
            f"in {space} {v.closest:.1%} of the samples are closer than the closest {TAIL:.0%} of images held out "
            f"(p {v.closest_p:.2g}), C_T {v.ct:.1f}"
            for space, v in answers
        )
        word = "COPIES of training images among the samples" if copied else "no sign of copies"
        self.subject.note(f"memorisation: {word}: {said}", alarm=copied)


def pixels(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] -> float32 [N, F]: pixels, averaged to 32 x 32 where there are more; distances are root mean squares."""
    factor = max(1, images.shape[1] // PIXELS_PX)
    parts = (tf.cast(images[i : i + CHUNK], tf.float32) for i in range(0, len(images), CHUNK))
    points = np.concatenate([tf.nn.avg_pool2d(part, factor, factor, "VALID").numpy() for part in parts]).reshape(len(images), -1)
    return points / np.float32(np.sqrt(points.shape[1]))


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The training images that are nearest to some images.

    Attributes:
      points: [N, F], the images.
      distances: [N, K], from the nearest.
      which: int [N, K], rows of the training images.
    """

    points: np.ndarray
    distances: np.ndarray
    which: np.ndarray

    @classmethod
    def of(cls, base: np.ndarray, embed: Callable[[np.ndarray], np.ndarray], images: np.ndarray, flip: bool) -> "Nearest":
        """Finds them.

        Args:
          base: training images, [M, F].
          embed: function of uint8 [N, H, W, 3] that gives [N, F].
          images: uint8 [N, H, W, 3].
          flip: whether each is looked for mirrored, too; the nearer of the two counts.
        """
        from sklearn.neighbors import NearestNeighbors  # not above: without this look it need not be there

        index = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(base)), algorithm="brute").fit(base)
        ways = [embed(given) for given in ([images, images[:, :, ::-1]] if flip else [images])]
        found = [index.kneighbors(points) for points in ways]
        best = np.argmin([distances[:, 0] for distances, _ in found], axis=0)
        chosen = [np.stack(each)[best, np.arange(len(images))] for each in (ways, *zip(*found, strict=True))]
        return cls(*chosen)

    @property
    def closeness(self) -> np.ndarray:
        """Distance to the nearest over the mean distance to the next ones, [N]: 0 for a copy, at most 1.

        Source: Carlini et al. 2023 (arXiv 2301.13188), section 4.2. Deviation: the mean is without the nearest; there is no factor.
        """
        others = self.distances[:, 1:].mean(axis=1)
        return np.divide(self.distances[:, 0], others, out=np.zeros_like(others), where=others > 0)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether samples are copies.

    Attributes:
      ct: `data_copying`.
      closest, closest_p: `tail`.
    """

    ct: float
    closest: float
    closest_p: float

    @property
    def copied(self) -> bool:
        """Whether either test says so."""
        return self.ct < COPIED_CT or self.closest_p < COPIED_P

    @classmethod
    def of(cls, base: np.ndarray, samples: Nearest, held_out: Nearest) -> "Verdict":
        """Compares samples with held-out images, both looked for among training images [M, F]."""
        from sklearn.cluster import MiniBatchKMeans

        cells = max(1, min(CELLS, min(len(samples.points), len(held_out.points)) // (2 * CELL_LEAST)))
        parts = MiniBatchKMeans(cells, random_state=0, n_init=1, max_iter=20).fit(base)
        each = [(n.closeness, parts.predict(n.points)) for n in (samples, held_out)]
        return cls(data_copying(*each), *tail(samples.closeness, held_out.closeness))


def data_copying(samples: tuple[np.ndarray, np.ndarray], held_out: tuple[np.ndarray, np.ndarray]) -> float:
    """C_T: how far samples are from the training set beside held-out images, in deviations; far below 0 they are copies.

    C_T = sum_c p_c Z_c / sum_c p_c over the cells c that hold enough of both, p_c the share of the held-out images in a cell and
    Z_c = (U - m n / 2) / sqrt(m n (m + n + 1) / 12) of Mann and Whitney's U, the pairs whose sample is farther (ties: half).
    Source: Meehan, Chaudhuri and Dasgupta 2020 (arXiv 2004.05675), section 3. Deviation: of closeness, not of distance.

    Args:
      samples, held_out: (closeness [N], cell of each, int [N]).

    Returns:
      C_T; where no cell holds enough, Z of all together.
    """
    from scipy.stats import mannwhitneyu

    def z(ours, theirs):
        m, n = len(ours), len(theirs)
        return (mannwhitneyu(ours, theirs).statistic - m * n / 2) / np.sqrt(m * n * (m + n + 1) / 12)

    (ours, our_cells), (theirs, their_cells) = samples, held_out
    total = weights = 0.0
    for cell in np.unique(their_cells):
        pair = ours[our_cells == cell], theirs[their_cells == cell]
        if min(map(len, pair)) >= CELL_LEAST:
            total, weights = total + len(pair[1]) * z(*pair), weights + len(pair[1])
    return float(total / weights if weights else z(ours, theirs))


def tail(samples: np.ndarray, held_out: np.ndarray) -> tuple[float, float]:
    """How many samples are closer than the closest hundredth of the held-out images: a few copies among many originals.

    If both are drawn alike, the number of m samples below the k-th of n held-out ones is beta-binomial, (m, k, n - k + 1).

    Args:
      samples, held_out: closeness [m] and [n].

    Returns:
      (share of the samples, probability of as many or more).
    """
    from scipy.stats import betabinom

    k = max(1, round(TAIL * len(held_out)))
    closer = int(np.sum(samples < np.sort(held_out)[k - 1]))
    return closer / len(samples), float(betabinom.sf(closer - 1, len(samples), k, len(held_out) - k + 1))


def sheet(samples: np.ndarray, train: np.ndarray, found: dict[str, Nearest]) -> np.ndarray:
    """The samples that are most like copies, each with the training images nearest to it in each space.

    Args:
      samples, train: uint8 [N, H, W, 3].
      found: {space: `Nearest` of the samples}.

    Returns:
      uint8 picture.
    """
    closest = np.argsort(np.min([n.closeness for n in found.values()], axis=0))[:ROWS]
    tiles, captions = [], []
    for i in closest:
        tiles.append(samples[i])
        captions.append("sample")
        for space, nearest in found.items():
            for distance, which in zip(nearest.distances[i, :NEAREST], nearest.which[i, :NEAREST], strict=True):
                tiles.append(train[which])
                captions.append(f"{space}: {distance:.3g}")
    return captioned(np.stack(tiles), captions, len(tiles) // len(closest))
