"""What learns labels in one domain to tell them in another: the common part of DANN and PixelDA, and of the bounds of both."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import data
from holotf.errors import UserError, require
from holotf.models.base import Perceptive, to_float
from holotf.models.classifier import LEAST_PX, NETWORKS, Network
from holotf.models.classifying import Classifying
from holotf.models.posing import ELEVATION_UNIT_DEG, LABELS, Posing, azimuth_of

DOMAINS = ("both", "source", "target")
LEAST_TSNE = 20  # images of a domain


class Adapting(Perceptive):
    """A network that learns the labels of a source, and from a target's images alone what these look like.

    A batch never holds labels of the target, unless `train.domains` is "target": then they are all that is learnt, which bounds
    what adapting can do from above, as "source", the source's labels and nothing else, does from below.

    What is learnt is a class or a pose: `ClassAdapting` and `PoseAdapting` make the `network`, name the LABELS, and have
    `task_loss`, `task_quality` and `task_optimizer`. How it is adapted, a further subclass says: it has `adapt`, and names
    further PARTS.

    Args:
      config: the whole experiment (configs/base.py); `data.sources` has the data sets `source` and `target`.

    Attributes:
      network: a `holotf.models.classifier.Network`.

    Raises:
      UserError: a value that makes no sense.
    """

    JUDGED, EYES = "target", "network"
    TASK = ""  # what is learnt, in the names of what is logged
    LABELS: ClassVar[tuple[str, ...]] = ()  # features of the data that are learnt

    def __init__(self, config: ConfigDict):
        m, sources, domains = config.model, config.data.sources, config.train.domains
        require(domains in DOMAINS, "train.domains", domains, ", ".join(DOMAINS))
        require(m.network in NETWORKS, "model.network", m.network, ", ".join(NETWORKS))
        require(m.image_size >= LEAST_PX, "model.image_size", m.image_size, f"{LEAST_PX} or more")
        require(sorted(sources) == ["source", "target"], "data.sources", sorted(sources), "source and target")
        super().__init__(config)
        labelled = "target" if domains == "target" else "source"
        self.FEATURES = {name: ("image", *self.LABELS) if name == labelled else ("image",) for name in sources}

    def _make(self, outputs):
        """(network, its optimizer) that gives so many numbers."""
        m = self.config.model
        network = Network(NETWORKS[m.network], m.image_size, outputs, 0.0, 0.0)
        return network, self._optimizer(self.TASK, "lr", self.iterations, network.trainable_variables)

    @property
    def adapts(self) -> bool:
        """Whether it learns from both domains; otherwise it is a bound."""
        return self.config.train.domains == "both"

    @property
    def task_optimizer(self) -> keras.optimizers.Optimizer:
        """That of the network."""
        raise NotImplementedError

    def task_loss(self, labels: dict[str, tf.Tensor], outputs: tf.Tensor) -> tf.Tensor:
        """What is minimised where the labels are known: {feature: [B]}, [B, outputs] -> scalar."""
        raise NotImplementedError

    def task_quality(self, labels: dict[str, tf.Tensor], outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """What else is logged of it: {path: scalar}."""
        raise NotImplementedError

    def adapt(self, batch: dict[str, dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        """What `train_step` does of an iteration that learns from both domains."""
        raise NotImplementedError

    def carried(self, images: tf.Tensor) -> tf.Tensor:
        """Images of the source as the target's are to meet them, uint8 [B, H, W, 3] both: here, as they are."""
        return images

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """What the network's convolutions make of images: uint8 [B, H, W, 3] -> [B, F] float32."""
        return tf.cast(self.network.features(to_float(images)), tf.float32)

    def stages(self) -> list[Callable[[tf.Tensor], tf.Tensor]]:
        """The network's."""
        return self.network.stages()

    def learning_rates(self) -> dict[str, float]:
        """The rate now: {TASK: float}."""
        return {self.TASK: float(self.task_optimizer.learning_rate)}

    def served_variables(self) -> Sequence[keras.Variable]:
        """Those of the network."""
        return self.network.variables

    @tf.autograph.experimental.do_not_convert  # no tensor decides a branch here, and conversion only slows the trace
    def train_step(self, batch: dict[str, dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        """One iteration.

        Args:
          batch: {"source": {"image": uint8 [B, H, W, 3], each of LABELS: [B]}, "target": {"image": ...}}, this replica's
            share of the global batch; with `train.domains` "target" it is the target that has labels.

        Returns:
          Dict of float32 scalars by path, means over this replica's share: `loss/TASK`, `grad_norm/TASK`, what `task_quality`
          adds, and what `adapt` does.
        """
        if self.adapts:
            logs = self.adapt(batch)
        else:
            labelled = batch[self.config.train.domains]
            logs = self._learn(to_float(labelled["image"]), labelled)
        self.iteration.assign_add(1)
        return logs

    def _learn(self, images, labels):
        """An update of the network on float32 images with their labels, and nothing else."""
        with tf.GradientTape() as tape:
            outputs = self.network(images, training=True)
            loss = self.task_loss(labels, outputs)
        return self._task_logs(labels, outputs, loss) | self._update_network(tape, loss)

    def _task_logs(self, labels, outputs, loss):
        return {f"loss/{self.TASK}": loss, **self.task_quality(labels, outputs)}

    def _update_network(self, tape, loss):
        norm = self._apply(tape, loss, self.network.trainable_variables, self.task_optimizer)
        return {f"grad_norm/{self.TASK}": norm}


class ClassAdapting(Adapting, Classifying):
    """A classifier that adapts: its labels are classes, the same in both domains.

    Args:
      config: the whole experiment (configs/base.py).

    Raises:
      UserError: domains whose classes are not the same; as `Classifying` and `Adapting`.
    """

    PARTS: ClassVar = ("network", "class_optimizer")
    TASK, LABELS, LABELLED = "class", ("label",), "source"

    def __init__(self, config: ConfigDict):
        shown = config.evaluate.tsne
        require(shown == 0 or shown >= LEAST_TSNE, "evaluate.tsne", shown, f"0 (off), or {LEAST_TSNE} images or more")
        super().__init__(config)
        _check_classes(config.data.sources)
        self.network, self.class_optimizer = self._make(len(self.class_names))

    @property
    def task_optimizer(self) -> keras.optimizers.Optimizer:
        """That of the network."""
        return self.class_optimizer

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 [B, H, W, 3] -> [B, classes] float32."""
        return self.network(to_float(images))

    def task_loss(self, labels: dict[str, tf.Tensor], outputs: tf.Tensor) -> tf.Tensor:
        """-E log p(label), in nats: {"label": int64 [B]}, logits [B, classes] -> scalar >= 0."""
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels["label"], outputs))

    def task_quality(self, labels: dict[str, tf.Tensor], outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """`accuracy/train`, the share of images whose most probable class is theirs."""
        right = tf.argmax(outputs, axis=-1) == tf.cast(labels["label"], tf.int64)
        return {"accuracy/train": tf.reduce_mean(tf.cast(right, tf.float32))}


class PoseAdapting(Adapting, Posing):
    """A pose estimator that adapts: its labels are azimuth and elevation.

    The network gives (c, s, e), and what is minimised is E (c - cos a)^2 + (s - sin a)^2 + (e - elevation / 30 degrees)^2.

    Args:
      config: the whole experiment (configs/base.py).

    Raises:
      UserError: as `Posing` and `Adapting`; labelled images that are to be mirrored.
    """

    PARTS: ClassVar = ("network", "pose_optimizer")
    TASK, LABELS = "pose", LABELS

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        for name, source in config.data.sources.items():
            labelled = len(self.FEATURES[name]) > 1
            require(
                not (labelled and source.flip), f"data.sources.{name}.flip", True, "False: a mirrored image has another azimuth"
            )
        self.network, self.pose_optimizer = self._make(3)

    @property
    def task_optimizer(self) -> keras.optimizers.Optimizer:
        """That of the network."""
        return self.pose_optimizer

    def outputs(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 [B, H, W, 3] -> [B, 3] float32."""
        return self.network(to_float(images))

    def task_loss(self, labels: dict[str, tf.Tensor], outputs: tf.Tensor) -> tf.Tensor:
        """The squared distance, a mean over images: {"azimuth_deg": [B], "elevation_deg": [B]}, [B, 3] -> scalar >= 0."""
        azimuth, elevation = (tf.cast(labels[name], tf.float32) for name in self.LABELS)
        radians = azimuth * (math.pi / 180.0)
        wanted = tf.stack([tf.cos(radians), tf.sin(radians), elevation / ELEVATION_UNIT_DEG], axis=1)
        return tf.reduce_mean(tf.reduce_sum(tf.square(outputs - wanted), axis=1))

    def task_quality(self, labels: dict[str, tf.Tensor], outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """`error/azimuth_deg`, the mean absolute error."""
        apart = azimuth_of(outputs) - tf.cast(labels["azimuth_deg"], tf.float32)
        return {"error/azimuth_deg": tf.reduce_mean(tf.abs(tf.math.floormod(apart + 180.0, 360.0) - 180.0))}


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
