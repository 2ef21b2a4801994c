"""Where do images lie in what the model makes of them? Latents and features in a plane, by PCA and t-SNE, coloured by label."""

from collections.abc import Iterator

import numpy as np

from holotf import looks
from holotf.evaluators import Evaluator, attributes, probe, regressor
from holotf.looks import plots
from holotf.models.base import Perceptive

DIMENSIONS = 50  # to which PCA reduces what t-SNE and the Projector are given
PERPLEXITY = 30.0


class Look(Evaluator):
    """`embedding/SPACE_plane`: the share of a space's variance that lies in PCA's plane; shows `embedding_SPACE`.

    Spaces are those of the probe: `levels`, the convolutional features pooled to 4 x 4, and what else the model makes of images,
    such as its `latent`. Images are the data's, unseen ones where there are such. TensorBoard's Projector gets each space
    reduced to 50 dimensions, with all labels and the images.
    """

    MODEL = Perceptive

    def unfit(self) -> str | None:
        """Where there are no labels or several data sets, no scikit-learn and matplotlib, or an export that looks at no images."""
        blind = self.subject.model.blind
        return attributes.unfit(self.subject, "embedding") or looks.missing("embedding") or (blind and f"no embedding: {blind}")

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields them."""
        subject = self.subject
        names, features = attributes.named(subject), subject.builder.info.features
        split = subject.unseen_split or subject.source.settings.split
        images, *values = regressor.labelled(subject.builder, split, *names, count=subject.config.analyse.images)
        known = attributes.varying(dict(zip(names, values, strict=True)))
        if not known:
            subject.note(f"no embedding: the images of {split} have all the same labels")
            return
        labels = {name: (numbers, features[name].names) for name, numbers in known.items()}
        reduced = {}
        for space, points in probe.perceived(subject.model, images, "features").items():
            if points.shape[1] < 2:
                continue
            with subject.threads():
                reduced[space], shares = principal(points, subject.config.seed)
                laid_out = {"PCA": reduced[space][:, :2], "t-SNE": neighbourly(reduced[space], subject.config.seed)}
            yield f"embedding/{space}_plane", float(shares[:2].sum())
            subject.show({f"embedding_{space}": plots.scatters(laid_out, labels)})
        words = {name: [names[number] for number in numbers] for name, (numbers, names) in labels.items()}
        subject.project(reduced, words, images)


def principal(points: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The first principal components of standardised points, 50 or as many as there are.

    Args:
      points: float32 [N, F]; standardised in place.
      seed: of the solver.

    Returns:
      ([N, K], share of the variance that lies in each [K]).
    """
    from sklearn.decomposition import PCA  # not above: without this look it need not be there

    probe.standardise(points, points[:0])
    found = PCA(min(DIMENSIONS, *points.shape), random_state=seed)
    return found.fit_transform(points), found.explained_variance_ratio_


def neighbourly(points: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE (van der Maaten and Hinton 2008), which keeps neighbours together: [N, K] -> [N, 2]."""
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)
