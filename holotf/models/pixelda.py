"""PixelDA: images of the source made to look like the target's (Bousmalis et al. 2017, arXiv 1612.05424)."""

import math
from collections.abc import Sequence
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import losses
from holotf.errors import require
from holotf.layers.convolution import Conv2D
from holotf.layers.normalise import BatchNorm
from holotf.layers.spectral import update_spectral_norms
from holotf.models.adaptation import Adapting, ClassAdapting
from holotf.models.base import make_weights, to_float, to_uint8
from holotf.models.dcgan import NORMS, SIZES, Discriminator
from holotf.pictures import grid
from holotf.servable import endpoint

OBJECTIVES = ("bce", "hinge", "lsgan")
BLACK = -0.98  # a pixel of the source none of whose channels is above it is ground
SHOWN = 16  # images adapted for TensorBoard


class Residual(keras.layers.Layer):
    """y = x + norm(conv(relu(norm(conv(x))))), 3x3 convolutions and batch norms. Source: figure 2.

    Args:
      filters: channels of x and y.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.convs = [Conv2D(filters, 3, use_bias=False) for _ in range(2)]
        self.norms = [BatchNorm(negative_slope=slope) for slope in (0.0, 1.0)]

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """[B, H, W, filters] -> the same shape and dtype."""
        y = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = norm(conv(y), training=training)
        return x + y


class Generator(keras.Model):
    """Image and noise -> image: the noise becomes a fourth channel by a linear map; 3x3 convolutions, residual blocks, tanh.

    Nothing shrinks the image on its way, so that what it shows can stay where it is. Source: figure 2.

    Args:
      image_size: px.
      z_dim: length of the noise.
      gf: channels between the first convolution and the last.
      blocks: residual ones.
    """

    def __init__(self, image_size: int, z_dim: int, gf: int, blocks: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.project = keras.layers.Dense(image_size**2)
        self.first = Conv2D(gf, 3)
        self.blocks = [Residual(gf) for _ in range(blocks)]
        self.to_rgb = Conv2D(3, 3, dtype="float32")
        make_weights(self, [1, image_size, image_size, 3], [1, z_dim])

    def call(self, images: tf.Tensor, noise: tf.Tensor, training: bool = False) -> tf.Tensor:
        """[B, H, W, 3] float32 in [-1, 1], [B, Z] float32 -> [B, H, W, 3] float32 in [-1, 1]."""
        height, width = images.shape[1:3]
        plane = tf.reshape(self.project(noise), [-1, height, width, 1])  # [B,H*W] -> [B,H,W,1]
        x = tf.nn.relu(self.first(tf.concat([images, tf.cast(plane, images.dtype)], axis=-1)))
        for block in self.blocks:
            x = block(x, training=training)
        return tf.tanh(self.to_rgb(x))


class PixelAdapting(Adapting):
    """A generator that adapts images, a discriminator that has seen the target's, and a network T of images before and after.

    min over G and T, max over D of lambda_adversarial L_d(D, G) + lambda_task L_t(G, T) + lambda_content L_c(G) (equation 3), in
    two steps: D and T with G as it is, then G with D and T as they are.

    Deviation: the discriminator is DCGAN's (5x5 convolutions, no dropout) with noise on its images alone; T has the
    mean over adapted and source images, which is half of equation 5.

    Args:
      config: the whole experiment (configs/base.py).

    Raises:
      UserError: a size, a norm or a weight that cannot be; as `Adapting`.
    """

    DOMAIN_PARTS: ClassVar = ("generator", "discriminator", "g_optimizer", "d_optimizer")

    def __init__(self, config: ConfigDict):
        m, loss = config.model, config.loss
        require(m.image_size in SIZES, "model.image_size", m.image_size, "32, 64 or 128")
        require(m.d_norm in NORMS, "model.d_norm", m.d_norm, ", ".join(NORMS))
        require(loss.gan in OBJECTIVES, "loss.gan", loss.gan, ", ".join(OBJECTIVES))
        for name in ("gf", "df", "z_dim", "blocks"):
            require(m[name] >= 1, f"model.{name}", m[name], "1 or more")
        require(0 <= m.d_noise < math.inf, "model.d_noise", m.d_noise, "0 (off) or a positive number")
        for name in ("lambda_adversarial", "lambda_task", "lambda_content"):
            require(0 <= loss[name] < math.inf, f"loss.{name}", loss[name], "0 (off) or a positive number")
        super().__init__(config)
        self.generator = Generator(m.image_size, m.z_dim, m.gf, m.blocks)
        self.discriminator = Discriminator(m.image_size, m.df, m.d_norm)
        self.g_optimizer = self._optimizer("g", "g_lr", self.iterations, self.generator.trainable_variables)
        self.d_optimizer = self._optimizer("d", "d_lr", self.iterations, self.discriminator.trainable_variables)

    def learning_rates(self) -> dict[str, float]:
        """The rates now: {TASK: float, "g": float, "d": float}."""
        rates = {k: float(optimizer.learning_rate) for k, optimizer in (("g", self.g_optimizer), ("d", self.d_optimizer))}
        return super().learning_rates() | rates

    def draw_noise(self, n: int, seed: tf.Tensor | Sequence[int]) -> tf.Tensor:
        """Noise z ~ U(-1, 1): [n, Z]."""
        return tf.random.stateless_uniform([n, self.config.model.z_dim], seed, -1.0, 1.0)

    def adapted(self, images: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Images of the source as if of the target: uint8 [B, H, W, 3], [B, Z] -> uint8 [B, H, W, 3]."""
        return to_uint8(self.generator(to_float(images), noise))

    def carried(self, images: tf.Tensor) -> tf.Tensor:
        """`adapted`, with noise that the seed draws; in a bound, whose generator does not learn, as they are."""
        return self.adapted(images, self.draw_noise(images.shape[0], [self.config.seed, 0])) if self.adapts else images

    def adapt(self, batch: dict[str, dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        """One update of all parts: adds `loss/d`, `loss/g`, `loss/task`, `loss/content`, `accuracy/real`, and the like.

        `loss/g`, `loss/task` and `loss/content` are the generator's, weighted.
        """
        source, target, labels = to_float(batch["source"]["image"]), to_float(batch["target"]["image"]), batch["source"]
        noise, settings = self._share(self.draw_noise, source.shape[0], 0), self.config.loss
        with tf.GradientTape() as tape:
            adapted = self.generator(source, noise, training=True)
            with tape.stop_recording():
                logs = self._update_discriminator(target, adapted)
                logs |= self._learn(tf.concat([source, adapted], axis=0), {n: tf.tile(labels[n], [2]) for n in self.LABELS})
            judged = self.discriminator(self._noisy(adapted, 2), training=True)["logits"]
            terms = {
                "loss/g": settings.lambda_adversarial * losses.PAIRS[settings.gan][1](judged),
                "loss/task": settings.lambda_task * self.task_loss(labels, self.network(adapted, training=True)),
            }
            if settings.lambda_content > 0:
                mask = tf.cast(tf.reduce_max(source, axis=-1, keepdims=True) > BLACK, tf.float32)
                terms["loss/content"] = settings.lambda_content * losses.pairwise_content(source, adapted, mask)
            total = sum(terms.values())
        norm = self._apply(tape, total, self.generator.trainable_variables, self.g_optimizer)
        return logs | terms | {"grad_norm/g": norm}

    def _update_discriminator(self, target, adapted):
        update_spectral_norms(self.discriminator)
        target, adapted = self._noisy(target, 0), self._noisy(adapted, 1)
        with tf.GradientTape() as tape:
            real, fake = (self.discriminator(images, training=True)["logits"] for images in (target, adapted))
            loss = losses.PAIRS[self.config.loss.gan][0](real, fake)
        norm = self._apply(tape, loss, self.discriminator.trainable_variables, self.d_optimizer)
        return {"loss/d": loss, "grad_norm/d": norm} | losses.accuracies(self.config.loss.gan, real, fake)

    def _noisy(self, images, which):
        """Images plus Gaussian noise, `model.d_noise`; `which` tells an iteration's draws apart."""
        deviation = self.config.model.d_noise
        if deviation == 0:
            return images
        noise = self._share(lambda n, seed: tf.random.stateless_normal([n, *images.shape[1:]], seed), images.shape[0], 1 + which)
        return images + deviation * noise

    def pictures(self, batch: dict[str, dict[str, tf.Tensor]]) -> dict[str, np.ndarray]:
        """`adapted`: source, adapted, and the target image of the batch that is nearest to this, side by side, one a row."""
        if not self.adapts:
            return {}
        source, target = (batch[name]["image"] for name in ("source", "target"))
        adapted = self.carried(source).numpy()[:SHOWN]
        rows = np.stack([source.numpy()[:SHOWN], adapted, nearest(adapted, target.numpy())], axis=1)  # [R,3,H,W,3]
        return {"adapted": grid(rows)}

    def served_variables(self) -> list[keras.Variable]:
        """Those of the network, and of the generator where it learns."""
        return [*self.network.variables, *(self.generator.variables if self.adapts else ())]

    def endpoints(self) -> dict:
        """`predict`, and but for a bound `adapt`: images of the source and noise, a row for each -> as if of the target."""
        if not self.adapts:
            return super().endpoints()
        size, z_dim = self.config.model.image_size, self.config.model.z_dim

        def adapt(images, noise):
            return {"images": self.adapted(images, noise)}

        inputs = {"images": ([None, size, size, 3], tf.uint8), "noise": ([None, z_dim], tf.float32)}
        return super().endpoints() | {"adapt": endpoint(adapt, **inputs)}

    def meanings(self) -> dict[str, dict]:
        """And of the noise that `adapt` takes."""
        told = "uniform: what an adapted image has that its source does not tell"
        return super().meanings() | {"noise": {"range": [-1.0, 1.0], "meaning": told}}


class PixelDA(PixelAdapting, ClassAdapting):
    """`PixelAdapting`, of a classifier: the published one."""

    PARTS: ClassVar = (*ClassAdapting.PARTS, *PixelAdapting.DOMAIN_PARTS)


def nearest(images: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each image the one among others whose squared distance, over pixels and channels, is least.

    Args:
      images: uint8 [N, H, W, 3].
      among: uint8 [M, H, W, 3].

    Returns:
      uint8 [N, H, W, 3].
    """
    flat, others = (t.reshape(len(t), -1).astype(np.float64) for t in (images, among))
    squares = (others**2).sum(axis=1) - 2.0 * flat @ others.T  # [N,M]; |a - b|^2 without |a|^2, which all share
    return among[squares.argmin(axis=1)]


def build(config: ConfigDict) -> PixelDA:
    """The model of an experiment. Raises `UserError` where the config asks for what cannot be."""
    return PixelDA(config)
