"""Convolutional classifiers: PyTorch's tutorial network, and a deeper one, with augmented training images."""

import dataclasses
import functools
import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras.initializers import HeNormal
from ml_collections import ConfigDict

from holotf import augmentation
from holotf.errors import require
from holotf.layers.convolution import Conv2D
from holotf.layers.normalise import BatchNorm
from holotf.models.base import Perceptive, make_weights, to_float
from holotf.models.classifying import Classifying

LEAST_PX = 16  # of an image: what two 5x5 convolutions and two max-poolings leave something of


@dataclasses.dataclass(frozen=True)
class Layout:
    """What tells the networks apart.

    Attributes:
      blocks: filters of the convolutions in each block, which 2x2 max-pooling ends.
      kernel_size: of the convolutions.
      padding: "same" or "valid".
      norm: whether batch norm follows the first convolution of each block.
      hidden: widths of the dense layers before the last.
    """

    blocks: tuple[tuple[int, ...], ...]
    kernel_size: int
    padding: str
    norm: bool
    hidden: tuple[int, ...]


NETWORKS = {
    # Source: PyTorch's tutorial "Training a Classifier"; LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling.
    "baseline": Layout(((6,), (16,)), 5, "valid", False, (120, 84)),
    "improved": Layout(((32, 64), (128, 128), (256, 256)), 3, "same", True, (1024, 512)),
    "ganin": Layout(((32,), (48,)), 5, "valid", False, (100, 100)),  # Source: Ganin et al. 2016 (arXiv 1505.07818), figure 4a
}


class Block(keras.layers.Layer):
    """Convolutions with ReLU, and 2x2 max-pooling at the end.

    Args:
      layout: of the network.
      widths: filters of the convolutions.
    """

    def __init__(self, layout: Layout, widths: tuple[int, ...], **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.convs = [_convolution(layout, filters, not (layout.norm and i == 0)) for i, filters in enumerate(widths)]
        self.norm = BatchNorm(negative_slope=0.0) if layout.norm else None

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """[B, H, W, C] -> [B, H', W', filters]."""
        for level in range(len(self.convs)):
            x = self.level(x, level, training)
        return x

    def level(self, x: tf.Tensor, level: int, training: bool = False) -> tf.Tensor:
        """One convolution with its norm and ReLU, the last with the max-pooling: [B, H, W, C] -> [B, H', W', filters]."""
        x = self.convs[level](x)
        x = self.norm(x, training=training) if level == 0 and self.norm else tf.nn.relu(x)
        return tf.nn.max_pool2d(x, 2, 2, "VALID") if level == len(self.convs) - 1 else x


def _convolution(layout, filters, use_bias):
    settings = {"use_bias": use_bias, "kernel_initializer": HeNormal()}
    if layout.padding == "same":
        return Conv2D(filters, layout.kernel_size, **settings)
    return keras.layers.Conv2D(filters, layout.kernel_size, **settings)  # ours pad


class Network(keras.Model):
    """Blocks of convolutions, dense layers with ReLU, and a linear map to the classes.

    Args:
      layout: one of NETWORKS.
      image_size: px.
      classes: how many.
      dropout: share of the inputs of the first and of the last dense layer that training drops.
      spatial_dropout: share of the channels of the second block's output that it drops, each whole.
    """

    def __init__(self, layout: Layout, image_size: int, classes: int, dropout: float, spatial_dropout: float, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.blocks = [Block(layout, widths) for widths in layout.blocks]
        self.hidden = [keras.layers.Dense(units, kernel_initializer=HeNormal()) for units in layout.hidden]
        self.classify = keras.layers.Dense(classes, dtype="float32")
        make_weights(self, [1, image_size, image_size, 3])
        dropped = {
            "channels": (spatial_dropout, [1, 1, layout.blocks[1][-1]]),
            "flat": (dropout, [self.hidden[0].kernel.shape[0]]),
            "last": (dropout, [layout.hidden[-1]]),
        }
        self._dropped = {place: (rate, shape) for place, (rate, shape) in dropped.items() if rate > 0}

    def draw_dropout(self, n: int, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """What each unit of `n` images is multiplied by in training: 0, or 1 / (1 - rate): {place: float32 [n, ...]}.

        Source: Srivastava et al. 2014; whole channels: Tompson et al. 2015 (arXiv 1411.4280), section 3.2.
        """
        factors = {}
        for i, (place, (rate, shape)) in enumerate(self._dropped.items()):
            kept = tf.random.stateless_uniform([n, *shape], tf.random.fold_in(seed, i)) >= rate
            factors[place] = tf.cast(kept, tf.float32) / (1.0 - rate)
        return factors

    def call(self, images: tf.Tensor, dropout: dict[str, tf.Tensor] | None = None, training: bool = False) -> tf.Tensor:
        """[B, H, W, 3] float32 in [-1, 1] -> logits [B, classes] float32; `dropout` is what `draw_dropout` gave, if any."""
        return self.told(self.features(images, dropout, training), dropout)

    def features(self, images: tf.Tensor, dropout: dict[str, tf.Tensor] | None = None, training: bool = False) -> tf.Tensor:
        """What the convolutions make of images: [B, H, W, 3] -> [B, F]."""
        x = images
        for i, block in enumerate(self.blocks):
            x = block(x, training=training)
            x = _dropped(dropout, "channels", x) if i == 1 else x
        return tf.reshape(x, [-1, math.prod(x.shape[1:])])  # [B,H,W,C] -> [B,H*W*C]

    def stages(self) -> list[Callable[[tf.Tensor], tf.Tensor]]:
        """The convolutions, as `Perceptive.stages` gives them."""
        return [functools.partial(block.level, level=i) for block in self.blocks for i in range(len(block.convs))]

    def told(self, features: tf.Tensor, dropout: dict[str, tf.Tensor] | None = None) -> tf.Tensor:
        """What the dense layers make of these: [B, F] -> logits [B, classes] float32."""
        x = _dropped(dropout, "flat", features)
        for layer in self.hidden:
            x = tf.nn.relu(layer(x))
        return self.classify(_dropped(dropout, "last", x))


def _dropped(dropout, place, x):
    return x * tf.cast(dropout[place], x.dtype) if dropout and place in dropout else x


class Classifier(Perceptive, Classifying):
    """A network that learns labels by cross-entropy.

    Args:
      config: the whole experiment (configs/base.py).

    Raises:
      UserError: a network, an augmentation, a size or a rate that cannot be; as `Classifying`.
    """

    PARTS = ("network", "class_optimizer")  # what a checkpoint holds
    EYES = "network"

    def __init__(self, config: ConfigDict):
        m, kind = config.model, config.train.augmentation
        require(m.network in NETWORKS, "model.network", m.network, ", ".join(NETWORKS))
        require(kind in augmentation.KINDS, "train.augmentation", kind, ", ".join(augmentation.KINDS))
        require(m.image_size >= LEAST_PX, "model.image_size", m.image_size, f"{LEAST_PX} or more")
        for name in ("dropout", "spatial_dropout"):
            require(0 <= m[name] < 1, f"model.{name}", m[name], "0 (off) to below 1")
        super().__init__(config)
        self.network = Network(NETWORKS[m.network], m.image_size, len(self.class_names), m.dropout, m.spatial_dropout)
        self.class_optimizer = self._optimizer("class", "lr", self.iterations, self.network.trainable_variables)

    def learning_rates(self) -> dict[str, float]:
        """The rate now: {"class": float}."""
        return {"class": float(self.class_optimizer.learning_rate)}

    @tf.autograph.experimental.do_not_convert
    def augment(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The batch with images augmented as `train.augmentation` says."""
        kind, images = self.config.train.augmentation, batch["image"]
        if kind == "none":
            return batch
        count, height, width, _ = images.shape
        drawn = self._share(lambda n, seed: augmentation.draw(kind, n, height, width, seed), count, 0)
        return batch | {"image": augmentation.apply(images, drawn)}

    @tf.autograph.experimental.do_not_convert  # no tensor decides a branch here, and conversion only slows the trace
    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One update.

        Args:
          batch: {"image": uint8 [B, H, W, 3], "label": int64 [B]}, this replica's share of the global batch.

        Returns:
          Dict of float32 scalars by path, means over this replica's share: `loss/class` (cross-entropy in nats),
          `accuracy/train` (of the network as it was before the update, with dropout), `grad_norm/class`.
        """
        images, labels = to_float(batch["image"]), batch["label"]
        dropout = self._share(self.network.draw_dropout, images.shape[0], 1)
        with tf.GradientTape() as tape:
            logits = self.network(images, dropout, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        norm = self._apply(tape, loss, self.network.trainable_variables, self.class_optimizer)
        self.iteration.assign_add(1)
        right = tf.cast(tf.argmax(logits, axis=-1) == tf.cast(labels, tf.int64), tf.float32)
        return {"loss/class": loss, "accuracy/train": tf.reduce_mean(right), "grad_norm/class": norm}

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 [B, H, W, 3] -> [B, classes] float32, without dropout."""
        return self.network(to_float(images))

    def stages(self) -> list[Callable[[tf.Tensor], tf.Tensor]]:
        """The network's."""
        return self.network.stages()

    def served_variables(self) -> list[keras.Variable]:
        """Those of the network."""
        return self.network.variables

    def pictures(self, batch: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
        """`augmentation`: what each operation does to one image of the batch, where there are any."""
        kind, seed = self.config.train.augmentation, [int(self.iteration.numpy()) % 2**31, 0]
        return {} if kind == "none" else {"augmentation": augmentation.sheet(kind, batch["image"][0], seed)}


def build(config: ConfigDict) -> Classifier:
    """The model of an experiment. Raises `UserError` where the config asks for what cannot be."""
    return Classifier(config)
