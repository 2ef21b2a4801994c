"""What do its strongest features look at? Guided backpropagation to the pixels, beside the same network untrained.

Source: Springenberg et al. 2015 (arXiv 1412.6806), section 3.4; of a discriminator: Radford et al. 2015, section 6.2.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from holotf import console, models
from holotf.evaluators import Evaluator, regressor
from holotf.models.base import Perceptive, to_float
from holotf.pictures import captioned

FEATURES, EXAMPLES = 6, 3  # shown: channels of the last level, and images of each
CHUNK = 256  # images


class Look(Evaluator):
    """`guided/half` and `guided/untrained_half`: on how few pixels half of the gradient lies; shows `guided`.

    The sheet has a row for each of the channels of the last level that answer most strongly to any image, with the images that
    excite it most and what in them does; on the right those of the network as it was before training. Images are the data's,
    unseen ones where there are such.
    """

    MODEL = Perceptive

    def unfit(self) -> str | None:
        """Where stages do not end with a ReLU, so that there would be nothing to guide, or an export is without them."""
        model = self.subject.model
        reason = model.blind if model.RECTIFIED else f"the levels of {model.config.model.name} do not end with a ReLU each"
        return reason and f"no guided: {reason}"

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields them."""
        subject = self.subject
        split = subject.unseen_split or subject.source.settings.split
        (images,) = regressor.labelled(subject.builder, split, count=subject.config.analyse.images)
        halves = []
        for prefix, model in (("", subject.model), ("untrained_", models.initial(subject.config))):
            channels, excite = strongest(answers(model, images, f"{prefix or 'trained '}answers".replace("_", " ")))
            trace = guided(model.stages())
            seen = [trace(images[which], channel) for channel, which in zip(channels, excite, strict=True)]
            yield f"guided/{prefix}half", float(np.mean([half(gradients) for gradients in seen]))
            halves.append([self._row(images[w], g) for w, g in zip(excite, seen, strict=True)])  # FEATURES x [2 EXAMPLES,H,W,3]
        rows = np.concatenate(halves, axis=1)
        blank = [""] * (2 * EXAMPLES - 1)
        captions = ["trained", *blank, "untrained", *blank] * len(rows)
        subject.show({"guided": captioned(rows.reshape(-1, *rows.shape[2:]), captions, 4 * EXAMPLES)})

    @staticmethod
    def _row(images, gradients):
        """Images and gradients, one after the other: uint8 [2 N, H, W, 3]; grey is no gradient."""
        scale = np.maximum(np.abs(gradients).max(axis=(1, 2, 3), keepdims=True), 1e-30)
        pictures = np.round((gradients / scale + 1.0) * 127.5).astype(np.uint8)
        return np.stack([images, pictures], axis=1).reshape(-1, *images.shape[1:])  # [N,2,H,W,3] -> [2N,H,W,3]


def answers(model: Perceptive, images: np.ndarray, what: str) -> np.ndarray:
    """How strongly each channel of the last level answers anywhere: uint8 [N, H, W, 3] -> [N, C]. `what` is for the bar."""

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, *images.shape[1:]], tf.uint8)])
    def look(chunk):
        return tf.reduce_max(model.levels(chunk)[-1], axis=[1, 2])

    parts = []
    with console.progress(total=len(images), desc=what, unit=" images") as bar:
        for start in range(0, len(images), CHUNK):
            parts.append(look(tf.constant(images[start : start + CHUNK])).numpy())
            bar.update(len(parts[-1]))
    return np.concatenate(parts)


def strongest(answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The channels of the greatest answers [N, C], and the images that gave them: (int [FEATURES], int [FEATURES, EXAMPLES])."""
    channels = np.argsort(-answers.max(axis=0), kind="stable")[:FEATURES]
    return channels, np.argsort(-answers[:, channels], axis=0, kind="stable")[:EXAMPLES].T


@tf.custom_gradient
def _gate(y):
    """The identity, which passes a gradient back only where it and y are positive."""
    return tf.identity(y), lambda g: tf.where((y > 0) & (g > 0), g, tf.zeros_like(g))


def guided(stages: Sequence[Callable[[tf.Tensor], tf.Tensor]]) -> Callable[[np.ndarray, int], np.ndarray]:
    """The gradient of a channel's greatest answer, that passes each ReLU only where its output and itself are positive.

    A leaky ReLU is taken for a ReLU on the way back: where its output is positive, its slope is 1.

    Args:
      stages: as `Perceptive.stages` gives them, each of which ends with its ReLU.

    Returns:
      Function of images, uint8 [N, H, W, 3], and a channel of the last stage: float32 [N, H, W, 3].
    """

    @tf.function(autograph=False)
    def gradient(x, channel):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for stage in stages:
                y = _gate(stage(y))
            answer = tf.reduce_max(tf.gather(y, channel, axis=-1), axis=[1, 2])  # [N]
        return tf.cast(tape.gradient(answer, x), tf.float32)

    return lambda images, channel: gradient(to_float(images), tf.constant(channel)).numpy()


def half(gradients: np.ndarray) -> float:
    """The share of the pixels that hold half of the squared gradient, the strongest first: [N, H, W, 3] -> the mean over N."""
    energy = -np.sort(-np.sum(gradients.astype(np.float64) ** 2, axis=-1).reshape(len(gradients), -1), axis=1)
    held = np.cumsum(energy, axis=1) >= 0.5 * energy.sum(axis=1, keepdims=True)
    return float(np.mean((held.argmax(axis=1) + 1) / energy.shape[1]))
