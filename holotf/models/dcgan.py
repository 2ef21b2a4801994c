"""DCGAN (Radford, Metz and Chintala 2015, arXiv 1511.06434), and under other losses and norms LSGAN, WGAN-GP and SN-GAN."""

import functools
import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from holotf.errors import UserError, require
from holotf.layers.convolution import Conv2D, ConvTranspose
from holotf.layers.initialisers import normal
from holotf.layers.normalise import BatchNorm, leaky_relu
from holotf.layers.spectral import SpectralConv2D, SpectralDense
from holotf.models.base import Perceptive, make_weights
from holotf.models.gan import GAN

SIZES = (32, 64, 128)
NORMS = ("batch", "spectral", "none")


def widths(image_size: int, width: int) -> list[int]:
    """Channels at image_size / 2, / 4, ... and last 4 px: doubled at each."""
    return [width * 2**level for level in range(int(math.log2(image_size // 4)))]


class Generator(keras.Model):
    """z -> 4x4 by a linear map, then 5x5 transposed convolutions of stride 2 up to the image; batch norm and ReLU; tanh at the end.

    Source: DCGAN, figure 1, which is 64 px and gf = 128; 32 px has a level less, 128 px one more.

    Args:
      image_size: 32, 64 or 128.
      z_dim: length of the latent.
      gf: channels before the last layer; 128 in the paper.
    """

    def __init__(self, image_size: int, z_dim: int, gf: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        *narrower, widest = widths(image_size, gf)
        self.project = keras.layers.Dense(4 * 4 * widest, use_bias=False, kernel_initializer=normal())
        self.ups = [ConvTranspose(filters, 5, use_bias=False) for filters in reversed(narrower)]
        self.norms = [BatchNorm(negative_slope=0.0) for _ in (widest, *narrower)]
        self.to_rgb = ConvTranspose(3, 5, dtype="float32")
        make_weights(self, [1, z_dim])

    def call(self, z: tf.Tensor, training: bool = False) -> tf.Tensor:
        """[B, Z] float32 in [-1, 1] -> [B, H, W, 3] float32 in [-1, 1]."""
        x = self.project(z)
        x = tf.reshape(x, [-1, 4, 4, x.shape[-1] // 16])  # [B,4*4*C] -> [B,4,4,C]
        x = self.norms[0](x, training=training)
        for up, norm in zip(self.ups, self.norms[1:], strict=True):
            x = norm(up(x), training=training)
        return tf.tanh(self.to_rgb(x))


class Discriminator(keras.Model):
    """5x5 convolutions of stride 2 down to 4x4 and one linear unit; leaky ReLU 0.2; batch norm on all but the first.

    Source: DCGAN, section 3. `norm` "spectral" divides every weight, the last too, by its spectral norm instead (Miyato et al.
    2018, arXiv 1802.05957); "none" leaves it out, as a gradient penalty asks for (Gulrajani et al. 2017, section 4).

    Args:
      image_size: 32, 64 or 128.
      df: width of the first convolution; 128 in the paper's code.
      norm: "batch", "spectral" or "none".
    """

    def __init__(self, image_size: int, df: int, norm: str, **kwargs):
        super().__init__(autocast=False, **kwargs)
        first, *wider = widths(image_size, df)
        if norm == "spectral":
            self.convs = [SpectralConv2D(filters, 5, 2) for filters in (first, *wider)]
            self.real = SpectralDense(1, dtype="float32")
        else:
            biased = norm != "batch"  # whose shift is the bias
            self.convs = [Conv2D(first, 5, 2), *(Conv2D(filters, 5, 2, use_bias=biased) for filters in wider)]
            self.real = keras.layers.Dense(1, kernel_initializer=normal(), dtype="float32")
        self.norms = [BatchNorm(negative_slope=0.2) for _ in wider] if norm == "batch" else []
        make_weights(self, [1, image_size, image_size, 3])

    def call(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """[B, H, W, 3] float32 in [-1, 1] -> {"logits": [B] float32}."""
        x = images
        for level in range(len(self.convs)):
            x = self.level(x, level, training)
        x = tf.reshape(x, [-1, math.prod(x.shape[1:])])  # [B,4,4,C] -> [B,4*4*C]
        return {"logits": self.real(x)[:, 0]}

    def level(self, x: tf.Tensor, level: int, training: bool = False) -> tf.Tensor:
        """One convolution, its norm and leaky ReLU: images, or what the level before gave -> [B, h, w, c]."""
        x = self.convs[level](x)
        return self.norms[level - 1](x, training=training) if level and self.norms else leaky_relu(x, 0.2)


class DCGAN(Perceptive, GAN):
    """DCGAN's networks and latents on the shared step.

    Args:
      config: the whole experiment (configs/base.py).

    Raises:
      UserError: a size or a norm that the networks cannot have.
    """

    def __init__(self, config: ConfigDict):
        m, loss = config.model, config.loss
        require(m.image_size in SIZES, "model.image_size", m.image_size, "32, 64 or 128")
        require(m.d_norm in NORMS, "model.d_norm", m.d_norm, "batch, spectral or none")
        for name in ("gf", "df", "z_dim"):
            require(m[name] >= 1, f"model.{name}", m[name], "1 or more")
        if m.d_norm == "batch" and (loss.gan == "wgan" or loss.gradient_penalty or loss.lambda_r1 > 0):
            # The penalty is on each image's own gradient (Gulrajani et al. 2017, section 4, "No critic batch normalization").
            switch = "loss.gan=wgan, loss.gradient_penalty or loss.lambda_r1"
            raise UserError(f"model.d_norm='batch' with a gradient penalty ({switch}): use none or spectral")
        super().__init__(
            config,
            lambda: Generator(m.image_size, m.z_dim, m.gf),
            lambda: Discriminator(m.image_size, m.df, m.d_norm),
        )
        self.one_batch = m.d_norm != "batch"

    def stages(self) -> Sequence[Callable[[tf.Tensor], tf.Tensor]]:
        """The discriminator's."""
        return [functools.partial(self.discriminator.level, level=level) for level in range(len(self.discriminator.convs))]

    def draw(self, n: int, seed: tf.Tensor | Sequence[int]) -> tuple[tf.Tensor]:
        """Latents z ~ U(-1, 1): ([n, Z],)."""
        return (tf.random.stateless_uniform([n, self.config.model.z_dim], seed, -1.0, 1.0),)


def build(config: ConfigDict) -> DCGAN:
    """The model of an experiment. Raises `UserError` where the config asks for what cannot be."""
    return DCGAN(config)
