"""GANs that are told what their images are to show."""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import losses
from holotf.errors import require
from holotf.models.classifying import class_names
from holotf.models.gan import GAN
from holotf.servable import endpoint


class Conditional(GAN):
    """A GAN whose latents end with labels: [Z + K], z and, of each of K names, 1 where it is to be shown and 0 where not.

    So whatever takes latents (sweeps, interpolations, endpoints, the viewer) takes labels with them. In training the labels of
    made images are those of the batch's real ones, so that the discriminator meets no combination that the data lack; otherwise
    they are drawn: as many as `model.most_labels` or fewer, each number and each combination equally likely.

    A subclass joins `draw_labels` to what it draws. With `loss.lambda_labels` its discriminator's output has "labels" [B, K],
    logits that do not depend on what it is told. Where nothing else does but the term `discriminator.projection` of the logit, the
    output may have "pooled" [B, F], of which that is the projection.

    Args:
      config: the whole experiment (configs/base.py).
      *networks: as `GAN` takes them.

    Raises:
      UserError: nothing names the labels, or there may be none in an image, or images cannot swap them in pairs; as `GAN`.
    """

    def __init__(self, config: ConfigDict, *networks: Callable):
        require(config.model.most_labels >= 1, "model.most_labels", config.model.most_labels, "1 or more")
        if config.train.mismatched_labels:  # whose images come in pairs
            pairs, size = 2 * tf.distribute.get_strategy().num_replicas_in_sync, config.train.batch_size
            require(size % pairs == 0, "train.batch_size", size, f"a multiple of {pairs} with train.mismatched_labels")
        weight = config.loss.lambda_labels
        require(0 <= weight < math.inf, "loss.lambda_labels", weight, "0 (off) or a positive number")
        super().__init__(config, *networks)

    @property
    def FEATURES(self) -> tuple[str, str]:
        """What a batch holds: images and the feature that `model.labels` names."""
        return "image", self.config.model.labels

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the labels, in the order of their columns."""
        return class_names(self.config, self.config.data, self.config.model.labels)

    def parts(self, latents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Latents [B, Z + K] -> z [B, Z], labels [B, K]."""
        return tuple(tf.split(latents, [-1, len(self.class_names)], axis=1))

    def labelled(self, latents: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Latents [B, Z + K] with other labels: [B, K], or [1, K] for all of them."""
        z, before = self.parts(latents)
        return tf.concat([z, tf.broadcast_to(tf.cast(labels, z.dtype), tf.shape(before))], axis=1)

    def draw_labels(self, n: int, seed: tf.Tensor) -> tf.Tensor:
        """Labels [n, K] float32 of 0 and 1: 1 to `model.most_labels` in an image."""
        number_seed, order_seed = tf.unstack(tf.random.split(seed, 2))
        most = min(self.config.model.most_labels, len(self.class_names))
        number = tf.random.stateless_uniform([n, 1], number_seed, 1, most + 1, tf.int32)
        order = tf.argsort(tf.argsort(tf.random.stateless_uniform([n, len(self.class_names)], order_seed)))
        return tf.cast(order < number, tf.float32)

    def inputs_to_train(self, batch: dict[str, tf.Tensor], turn: int) -> tuple[tf.Tensor, ...]:
        """As a GAN's, with the labels of the batch's images."""
        latents, *more = super().inputs_to_train(batch, turn)
        return self.labelled(latents, *self.condition_of_real(batch)), *more

    def condition_of_real(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor]:
        """The labels of a batch, ([B, K] float32,)."""
        told = batch[self.config.model.labels]
        return (tf.one_hot(told, len(self.class_names)) if told.shape.rank == 1 else told,)

    def condition_of_made(self, inputs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor]:
        """The labels that images were made with, ([B, K] float32,)."""
        return (self.parts(inputs[0])[1],)

    def to_refuse(
        self, reals: tf.Tensor, condition: tuple[tf.Tensor, ...], real: dict[str, tf.Tensor], fake: dict[str, tf.Tensor]
    ) -> tf.Tensor:
        """With `train.mismatched_labels`, also those of real images beside another's labels: [2 B], else [B].

        Images swap labels with their neighbours in the batch, so that replicas do as one does, and no combination is told that
        the data lack. Where neighbours have the same labels, the made image's logit stands twice.
        Source: Reed et al. 2016 (arXiv 1605.05396), algorithm 1, s_w.
        """
        if not self.config.train.mismatched_labels:
            return super().to_refuse(reals, condition, real, fake)
        (labels,) = condition
        swapped = tf.reshape(tf.reverse(tf.reshape(labels, [-1, 2, labels.shape[1]]), [1]), tf.shape(labels))  # [B,K]
        if "pooled" in real:  # what is told comes after them: a logit differs by its projection alone
            before, after = (self.discriminator.projection(real["pooled"], told) for told in (labels, swapped))
            mismatched = real["logits"] - before + after
        else:
            mismatched = self.discriminator(reals, swapped, training=True)["logits"]
        differ = tf.reduce_any(labels != swapped, axis=1)
        return tf.concat([fake["logits"], tf.where(differ, mismatched, fake["logits"])], axis=0)

    def discriminator_terms(
        self, real: dict[str, tf.Tensor], fake: dict[str, tf.Tensor], inputs: tuple[tf.Tensor, ...]
    ) -> dict[str, tf.Tensor]:
        """And the reading of labels, off real images alone: made ones that show something else would teach it to be wrong."""
        return super().discriminator_terms(real, fake, inputs) | self._labels_terms("loss/d_labels", real, inputs)

    def generator_terms(self, fake: dict[str, tf.Tensor], inputs: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """And that made images are read as what they were to show."""
        return super().generator_terms(fake, inputs) | self._labels_terms("loss/g_labels", fake, inputs)

    def _labels_terms(self, name, output, inputs):
        """Made images have the labels of the real ones beside them, so one condition stands for both."""
        if self.config.loss.lambda_labels == 0:
            return {}
        return {name: self.config.loss.lambda_labels * losses.labels(*self.condition_of_made(inputs), output["labels"])}

    def labels_of(self, texts: tf.Tensor) -> tf.Tensor:
        """Names separated by commas, as a graph reads them: [n] strings -> [n, K] float32; InvalidArgument for an unknown one."""
        names = tf.constant(self.class_names)
        words = tf.strings.strip(tf.strings.split(texts, ",").to_tensor(""))  # [n,most]
        found = words[..., tf.newaxis] == names  # [n,most,K]
        known = tf.reduce_all(tf.reduce_any(found, axis=-1) | (words == ""))
        with tf.control_dependencies([tf.debugging.Assert(known, [f"names: use some of {', '.join(self.class_names)}"])]):
            return tf.cast(tf.reduce_any(found, axis=1), tf.float32)

    def endpoints(self) -> dict[str, Callable]:
        """Further ones: `latents_by_name`, which takes names separated by commas, and `latents_by_label`, rows of 0 and 1."""
        found = super().endpoints()

        def joined(seed, labels):
            same = tf.debugging.assert_equal(tf.shape(labels)[0], tf.shape(seed)[0], "give as many rows of labels as seeds")
            with tf.control_dependencies([same]):
                return {"z": self.labelled(found["latents"](seed)["z"], labels)}

        def by_name(seed, names):
            return joined(seed, self.labels_of(names))

        seeds, bounds = ([None], tf.int64), {"seed": (0, 2**31 - 1), "labels": (0.0, 1.0)}
        return found | {
            "latents_by_name": endpoint(by_name, bounds, seed=seeds, names=([None], tf.string)),
            "latents_by_label": endpoint(joined, bounds, seed=seeds, labels=([None, len(self.class_names)], tf.float32)),
        }

    def meanings(self) -> dict[str, dict]:
        """And of the ways to ask for labels."""
        return super().meanings() | {
            "names": {"meaning": "what is to be shown, of `classes`, separated by commas"},
            "labels": {"range": [0.0, 1.0], "meaning": "of each of `classes`: 1 for what is to be shown"},
        }

    def sheet(self, conditions: Sequence[np.ndarray], seeds: Sequence[int]) -> np.ndarray:
        """Each condition [K] with each latent, all else at rest: uint8 [conditions, seeds, H, W, 3]."""
        latents = self.latents(seeds)
        more = self.resting(len(seeds))
        return np.stack([self.sample(self.labelled(latents, row[np.newaxis]), *more).numpy() for row in conditions])
