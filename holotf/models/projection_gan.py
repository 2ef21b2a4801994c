"""The conditional GAN with a projection discriminator (Miyato and Koyama 2018, arXiv 1802.05637), told several labels an image."""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from holotf.errors import UserError, require
from holotf.layers.conditional import ConditionalBatchNorm, Projection, join_maps, places, shares
from holotf.layers.convolution import Conv2D, UpConv
from holotf.layers.enlarge import METHODS, enlarge
from holotf.layers.normalise import BatchNorm, leaky_relu
from holotf.layers.spectral import SpectralConv2D, SpectralDense
from holotf.models.base import Perceptive, make_weights
from holotf.models.conditional import Conditional
from holotf.models.dcgan import widths

SIZES = (32, 64, 128)
NORMS = ("spectral", "none")
MIDDLE_PX = 16  # where label maps join a second time


class UpBlock(keras.Model):
    """Norm, ReLU, x 2, 3x3 convolution, norm, ReLU, 3x3 convolution; beside it x 2 and a 1x1 convolution. Source: figure 13b.

    Args:
      filters: output channels.
      classes: for conditional batch norm; 0 for plain.
      upsampling: "nearest" or "bicubic".
    """

    def __init__(self, filters: int, classes: int, upsampling: str, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.norms = [_norm(classes) for _ in range(2)]
        self.upsampling = upsampling
        first = UpConv if upsampling == "nearest" else Conv2D
        self.convs = [make(filters, 3, kernel_initializer=_glorot()) for make in (first, Conv2D)]
        self.shortcut = Conv2D(filters, 1, kernel_initializer=_glorot())

    def call(self, x: tf.Tensor, told: tuple[tf.Tensor, ...], training: bool = False) -> tf.Tensor:
        """[B, H, W, C], and what conditional norms are told, (shares,) or () -> [B, 2 H, 2 W, filters]."""
        y = self.norms[0](x, *told, training=training)
        y = self.convs[0](y if self.upsampling == "nearest" else enlarge(y, self.upsampling))
        y = self.convs[1](self.norms[1](y, *told, training=training))
        return y + enlarge(self.shortcut(x), self.upsampling)  # a map of each pixel may come first: it costs a quarter


class DownBlock(keras.Model):
    """ReLU, 3x3 convolution, ReLU, 3x3 convolution, mean over 2x2; beside it a 1x1 convolution and the mean. Source: figure 13a.

    Args:
      filters: output channels.
      spectral: whether kernels are divided by their spectral norm.
      first: whether it takes images, which no ReLU may cut.
      down: whether the size is halved.
    """

    def __init__(self, filters: int, spectral: bool, first: bool = False, down: bool = True, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.first, self.down = first, down
        self.convs = [_convolution(filters, 3, spectral) for _ in range(2)]
        self.shortcut = _convolution(filters, 1, spectral)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[B, H, W, C] -> [B, H / 2, W / 2, filters], or of H and W."""
        y = self.convs[0](x if self.first else leaky_relu(x, 0.0))
        y = self.convs[1](leaky_relu(y, 0.0)) + self.shortcut(x)
        return tf.nn.avg_pool2d(y, 2, 2, "VALID") if self.down else y


class Generator(keras.Model):
    """z -> 4x4 by a linear map, blocks that enlarge up to the image, norm, ReLU, 3x3 convolution, tanh.

    Source: figure 14a, which is 128 px and gf = 64; smaller images have fewer blocks. Labels come by conditional batch norm, by
    maps at the input (beside z) and at 16 px, or both; with neither switch they stand beside z alone.

    Args:
      image_size: 32, 64 or 128.
      z_dim: length of z.
      classes: K.
      most: labels an image has at most.
      gf: channels before the last convolution.
      conditional_norm: whether norms are the labels' own.
      label_maps: whether labels join the input and the middle.
      upsampling: "nearest" or "bicubic".
    """

    def __init__(
        self,
        image_size: int,
        z_dim: int,
        classes: int,
        most: int,
        gf: int,
        conditional_norm: bool,
        label_maps: bool,
        upsampling: str,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.sizes, self.most = (z_dim, classes), most
        self.conditional_norm, self.label_maps = conditional_norm, label_maps
        normed, channels = classes if conditional_norm else 0, widths(image_size, gf)[::-1]
        self.project = keras.layers.Dense(4 * 4 * channels[0], kernel_initializer=_glorot())
        self.blocks = [UpBlock(filters, normed, upsampling) for filters in channels]
        self.norm = BatchNorm(negative_slope=0.0)
        self.to_rgb = Conv2D(3, 3, kernel_initializer=_glorot(), dtype="float32")
        make_weights(self, [1, z_dim + classes])

    def call(self, latents: tf.Tensor, training: bool = False) -> tf.Tensor:
        """[B, Z + K] float32, z and labels -> [B, H, W, 3] float32 in [-1, 1]."""
        z, labels = tf.split(latents, self.sizes, axis=1)
        told = (shares(labels, self.most),) if self.conditional_norm else ()
        if self.label_maps or not self.conditional_norm:
            z = tf.concat([z, places(labels, self.most)], axis=1)
        x = self.project(z)
        x = tf.reshape(x, [-1, 4, 4, x.shape[-1] // 16])  # [B,4*4*C] -> [B,4,4,C]
        for block in self.blocks:
            if self.label_maps and x.shape[1] == MIDDLE_PX:
                x = join_maps(x, labels, self.most)
            x = block(x, told, training=training)
        return tf.tanh(self.to_rgb(self.norm(x, training=training)))


class Discriminator(keras.Model):
    """Blocks that halve the image down to 4x4, one more, ReLU, the sum over space, and a linear unit plus the projection.

    logit = w phi(x) + b + mean_l <V_l, phi(x)>. Source: equation 3 and figure 14b, which is 128 px and df = 64.

    Args:
      image_size: 32, 64 or 128.
      classes: K.
      most: labels an image has at most.
      df: channels of the first block.
      norm: "spectral" or "none"; the projection's embedding is normalised whatever it is.
      projection: whether there is the last term.
      label_maps: whether labels join the image and the features at 16 px.
      reading: whether there is a head that reads labels off the features.
    """

    def __init__(
        self,
        image_size: int,
        classes: int,
        most: int,
        df: int,
        norm: str,
        projection: bool,
        label_maps: bool,
        reading: bool = False,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.most, self.label_maps = most, label_maps
        channels, spectral = widths(image_size, df), norm == "spectral"
        self.blocks = [DownBlock(filters, spectral, first=i == 0) for i, filters in enumerate(channels)]
        self.blocks.append(DownBlock(channels[-1], spectral, down=False))
        self.real = SpectralDense(1, dtype="float32") if spectral else keras.layers.Dense(1, dtype="float32")
        self.projection = Projection(classes, most, channels[-1]) if projection else None
        self.reading = keras.layers.Dense(classes, dtype="float32") if reading else None
        make_weights(self, [1, image_size, image_size, 3], [1, classes])

    def call(self, images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B, H, W, 3] float32 in [-1, 1], labels [B, K] float32 -> dict of float32.

        logits [B]; with reading, labels [B, K]; where only the projection is told labels, pooled [B, C], of which it is one.
        """
        x = images
        for level in range(len(self.blocks)):
            x = self.level(x, labels, level)
        features = tf.reduce_sum(tf.cast(leaky_relu(x, 0.0), tf.float32), axis=[1, 2])  # [B,C]
        out = {"logits": self.real(features)[:, 0]}
        if self.reading is not None:
            out["labels"] = self.reading(features)
        if self.projection is not None:
            out["logits"] += self.projection(features, labels)
            out |= {} if self.label_maps else {"pooled": features}
        return out

    def level(self, x: tf.Tensor, labels: tf.Tensor, level: int) -> tf.Tensor:
        """One block, of images or of what the level before gave, with label maps where they join: -> [B, h, w, C]."""
        if self.label_maps and (level == 0 or x.shape[1] == MIDDLE_PX):
            x = join_maps(x, labels, self.most)
        return self.blocks[level](x)


def _glorot():
    return keras.initializers.GlorotUniform()


def _norm(classes):
    return ConditionalBatchNorm(classes, negative_slope=0.0) if classes else BatchNorm(negative_slope=0.0)


def _convolution(filters, kernel_size, spectral):
    if spectral:
        return SpectralConv2D(filters, kernel_size)
    return Conv2D(filters, kernel_size, kernel_initializer=_glorot())


class ProjectionGAN(Perceptive, Conditional):
    """These networks on the shared step.

    Args:
      config: the whole experiment (configs/base.py).

    Raises:
      UserError: a size, a norm or switches that the networks cannot have.
    """

    RECTIFIED = False  # a ReLU is the first of a block and not the last, beside a shortcut that has none

    def __init__(self, config: ConfigDict):
        m = config.model
        require(m.image_size in SIZES, "model.image_size", m.image_size, "32, 64 or 128")
        require(m.d_norm in NORMS, "model.d_norm", m.d_norm, " or ".join(NORMS))
        require(m.upsampling in METHODS, "model.upsampling", m.upsampling, " or ".join(METHODS))
        for name in ("gf", "df", "z_dim"):
            require(m[name] >= 1, f"model.{name}", m[name], "1 or more")
        self._reading = config.loss.lambda_labels > 0
        if not (m.projection or m.label_maps or self._reading):
            raise UserError("model.projection=False with model.label_maps=False: nothing tells the discriminator labels: set one")
        if self._reading and config.train.mismatched_labels and not m.projection:
            raise UserError(
                "train.mismatched_labels=True with loss.lambda_labels and model.projection=False: nothing tells the discriminator "
                "labels that it could refuse: set model.projection=True"
            )
        super().__init__(config, self._make_generator, self._make_discriminator)

    def _make_generator(self):
        m = self.config.model
        sizes = (m.image_size, m.z_dim, len(self.class_names), m.most_labels, m.gf)
        return Generator(*sizes, m.conditional_norm, m.label_maps, m.upsampling)

    def _make_discriminator(self):
        m = self.config.model
        sizes = (m.image_size, len(self.class_names), m.most_labels, m.df)
        label_maps = m.label_maps and not self._reading  # it is not told what it is to read
        return Discriminator(*sizes, m.d_norm, m.projection, label_maps, self._reading)

    def stages(self) -> list[Callable[[tf.Tensor], tf.Tensor]]:
        """The discriminator's blocks; where it is told labels by maps, that there are none."""

        def stage(x, level):
            return self.discriminator.level(x, tf.zeros([tf.shape(x)[0], len(self.class_names)]), level)

        return [functools.partial(stage, level=level) for level in range(len(self.discriminator.blocks))]

    def draw(self, n: int, seed: tf.Tensor) -> tuple[tf.Tensor]:
        """Latents z ~ N(0, 1), with labels: ([n, Z + K],)."""
        z_seed, label_seed = tf.unstack(tf.random.split(seed, 2))
        z = tf.random.stateless_normal([n, self.config.model.z_dim], z_seed)
        return (tf.concat([z, self.draw_labels(n, label_seed)], axis=1),)


def build(config: ConfigDict) -> ProjectionGAN:
    """The model of an experiment. Raises `UserError` where the config asks for what cannot be."""
    return ProjectionGAN(config)
