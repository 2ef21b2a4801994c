"""What learns labels in one domain to tell them in another: the common part of DANN and PixelDA, and of the bounds of both."""

from typing import ClassVar

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import data
from holotf.errors import UserError, require
from holotf.models.base import to_float
from holotf.models.classifier import LEAST_PX, NETWORKS, Network
from holotf.models.classifying import Classifying

DOMAINS = ("both", "source", "target")
LEAST_TSNE = 20  # images of a domain


class Adapting(Classifying):
    """A classifier that learns the labels of a source, and from a target's images alone what these look like.

    A batch never holds labels of the target, unless `train.domains` is "target": then they are all that is learnt, which bounds
    what adapting can do from above, as "source", the source's labels and nothing else, does from below.

    A subclass has `adapt`, and names further PARTS.

    Args:
      config: the whole experiment (configs/base.py); `data.sources` has the data sets `source` and `target`.

    Attributes:
      network: the classifier, a `holotf.models.classifier.Network`.

    Raises:
      UserError: a value that makes no sense, or domains whose classes are not the same; as `Classifying`.
    """

    PARTS: ClassVar = ("network", "class_optimizer")
    LABELLED, JUDGED = "source", "target"

    def __init__(self, config: ConfigDict):
        m, sources = config.model, config.data.sources
        domains, shown = config.train.domains, config.evaluate.tsne
        require(domains in DOMAINS, "train.domains", domains, ", ".join(DOMAINS))
        require(m.network in NETWORKS, "model.network", m.network, ", ".join(NETWORKS))
        require(m.image_size >= LEAST_PX, "model.image_size", m.image_size, f"{LEAST_PX} or more")
        require(shown == 0 or shown >= LEAST_TSNE, "evaluate.tsne", shown, f"0 (off), or {LEAST_TSNE} images or more")
        require(sorted(sources) == ["source", "target"], "data.sources", sorted(sources), "source and target")
        super().__init__(config)
        _check_classes(sources)
        labelled = "target" if domains == "target" else "source"
        self.FEATURES = {name: ("image", "label") if name == labelled else ("image",) for name in sources}
        self.network = Network(NETWORKS[m.network], m.image_size, len(self.class_names), 0.0, 0.0)
        self.class_optimizer = self._optimizer("class", "lr", self.iterations, self.network.trainable_variables)

    @property
    def adapts(self) -> bool:
        """Whether it learns from both domains; otherwise it is a bound."""
        return self.config.train.domains == "both"

    def adapt(self, batch: dict[str, dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        """What `train_step` does of an iteration that learns from both domains."""
        raise NotImplementedError

    def carried(self, images: tf.Tensor) -> tf.Tensor:
        """Images of the source as the target's are to meet them, uint8 [B, H, W, 3] both: here, as they are."""
        return images

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """What the classifier's convolutions make of images: uint8 [B, H, W, 3] -> [B, F] float32."""
        return tf.cast(self.network.features(to_float(images)), tf.float32)

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 [B, H, W, 3] -> [B, classes] float32."""
        return self.network(to_float(images))

    def learning_rates(self) -> dict[str, float]:
        """The rate now: {"class": float}."""
        return {"class": float(self.class_optimizer.learning_rate)}

    def served_variables(self) -> list[keras.Variable]:
        """Those of the classifier."""
        return self.network.variables

    @tf.autograph.experimental.do_not_convert  # no tensor decides a branch here, and conversion only slows the trace
    def train_step(self, batch: dict[str, dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        """One iteration.

        Args:
          batch: {"source": {"image": uint8 [B, H, W, 3], "label": int64 [B]}, "target": {"image": ...}}, this replica's
            share of the global batch; with `train.domains` "target" it is the target that has labels.

        Returns:
          Dict of float32 scalars by path, means over this replica's share: `loss/class` (cross-entropy in nats),
          `accuracy/train`, `grad_norm/class`, and what `adapt` adds.
        """
        if self.adapts:
            logs = self.adapt(batch)
        else:
            labelled = batch[self.config.train.domains]
            logs = self._learn(to_float(labelled["image"]), labelled["label"])
        self.iteration.assign_add(1)
        return logs

    def _learn(self, images, labels):
        """An update of the classifier on float32 images with their labels, and nothing else."""
        with tf.GradientTape() as tape:
            logits = self.network(images, training=True)
            loss = cross_entropy(labels, logits)
        norm = self._apply(tape, loss, self.network.trainable_variables, self.class_optimizer)
        return {"loss/class": loss, "accuracy/train": share_right(labels, logits), "grad_norm/class": norm}


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """-E log p(label): [B] int64, [B, classes] -> scalar >= 0, in nats."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def share_right(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Share of images whose most probable class is theirs: [B] int64, [B, classes] -> scalar in [0, 1]."""
    return tf.reduce_mean(tf.cast(tf.argmax(logits, axis=-1) == tf.cast(labels, tf.int64), tf.float32))


def _check_classes(sources):
    """Finds out whether both domains, as far as they are there and labelled, tell the same classes apart."""
    found = {}
    for name, settings in sources.items():
        try:
            found[name] = data.class_names(data.Source(settings, data.open_folder(settings, whole=False)), "label")
        except UserError:
            continue  # an export is made without the data, too
    if all(found.get(name) for name in sources) and found["source"] != found["target"]:
        told = " and ".join(f"{', '.join(found[name])} ({sources[name].dir})" for name in sources)
        raise UserError(f"data.sources: the classes are {told}: prepare both with the same classes")
