"""Convolutional variational autoencoder (Kingma and Welling 2013, arXiv 1312.6114; beta: Higgins et al. 2017)."""

import functools
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras.initializers import GlorotUniform
from ml_collections import ConfigDict

from holotf import losses
from holotf.errors import require
from holotf.layers.convolution import Conv2D, ConvTranspose
from holotf.layers.normalise import leaky_relu
from holotf.models.base import Generative, Perceptive, make_weights, to_float, to_uint8
from holotf.pictures import grid
from holotf.servable import endpoint, serve

SIZES = (32, 64, 128)


def _widths(image_size, width):
    """Channels at image_size / 2, / 4, ... and last 4 px: doubled at each, to 8 widths at most."""
    return [width * min(2**level, 8) for level in range(int(math.log2(image_size // 4)))]


class Encoder(keras.Model):
    """4x4 convolutions of stride 2 down to 4x4, leaky ReLU 0.2, and a linear map to the posterior q(z|x).

    Args:
      image_size: 32, 64 or 128.
      z_dim: length of the latent.
      df: width of the first convolution.
    """

    def __init__(self, image_size: int, z_dim: int, df: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.convs = [Conv2D(filters, 4, 2, kernel_initializer=GlorotUniform()) for filters in _widths(image_size, df)]
        self.posterior = keras.layers.Dense(2 * z_dim, dtype="float32")
        make_weights(self, [1, image_size, image_size, 3])

    def call(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """[B, H, W, 3] float32 in [-1, 1] -> mean and log-variance of q(z|x), each [B, Z] float32."""
        x = images
        for level in range(len(self.convs)):
            x = self.level(x, level)
        x = tf.reshape(x, [-1, math.prod(x.shape[1:])])  # [B,4,4,C] -> [B,4*4*C]
        return tuple(tf.split(self.posterior(x), 2, axis=-1))

    def level(self, x: tf.Tensor, level: int) -> tf.Tensor:
        """One convolution and its leaky ReLU: images, or what the level before gave -> [B, h, w, c]."""
        return leaky_relu(self.convs[level](x), 0.2)


class Decoder(keras.Model):
    """The encoder backwards: a linear map to 4x4 and 4x4 transposed convolutions of stride 2, leaky ReLU 0.2; tanh at the end.

    Args:
      image_size: 32, 64 or 128.
      z_dim: length of the latent.
      gf: channels before the last layer.
    """

    def __init__(self, image_size: int, z_dim: int, gf: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        *narrower, widest = _widths(image_size, gf)
        self.project = keras.layers.Dense(4 * 4 * widest)
        self.ups = [ConvTranspose(filters, 4, kernel_initializer=GlorotUniform()) for filters in reversed(narrower)]
        self.to_rgb = ConvTranspose(3, 4, kernel_initializer=GlorotUniform(), dtype="float32")
        make_weights(self, [1, z_dim])

    def call(self, z: tf.Tensor) -> tf.Tensor:
        """[B, Z] float32 -> the mean image of p(x|z), [B, H, W, 3] float32 in [-1, 1]."""
        x = leaky_relu(self.project(z), 0.2)
        x = tf.reshape(x, [-1, 4, 4, x.shape[-1] // 16])  # [B,4*4*C] -> [B,4,4,C]
        for up in self.ups:
            x = leaky_relu(up(x), 0.2)
        return tf.tanh(self.to_rgb(x))


def negative_elbo(
    encode: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    decode: Callable[[tf.Tensor], tf.Tensor],
    x: tf.Tensor,
    noise: tf.Tensor,
    deviation: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The two terms of -ELBO = E_q [-log p(x|z)] + KL(q(z|x) || N(0, I)), in nats an example, means over the batch.

    z = mean + exp(log_variance / 2) noise. p(x|z) = N(x; decode(z), deviation^2 I), summed over all pixels and channels.
    Source: Kingma and Welling 2013, equation 10.

    Args:
      encode: x -> (mean, log_variance), each [B, Z].
      decode: z [B, Z] -> [B, ...], x's shape.
      x: [B, ...] float32.
      noise: [B, Z] float32, standard normal.
      deviation: of the likelihood, a number > 0 in units of x.

    Returns:
      (reconstruction, KL), float32 scalars.
    """
    mean, log_variance = encode(x)
    z = mean + tf.exp(0.5 * log_variance) * noise
    return losses.gaussian_nll(x, decode(z), deviation), losses.kl_to_standard_normal(mean, log_variance)


class VAE(Perceptive, Generative):
    """An encoder and a decoder that maximise the evidence lower bound, the KL term weighted by beta.

    Args:
      config: the whole experiment (configs/base.py).

    Raises:
      UserError: a size or a weight that cannot be.
    """

    PARTS = ("encoder", "decoder", "vae_optimizer")  # what a checkpoint holds
    EYES = "encoder"

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        m = config.model
        require(m.image_size in SIZES, "model.image_size", m.image_size, "32, 64 or 128")
        for name in ("gf", "df", "z_dim"):
            require(m[name] >= 1, f"model.{name}", m[name], "1 or more")
        for name in ("beta", "beta_warmup_kimg"):
            require(0 <= m[name] < math.inf, f"model.{name}", m[name], "0 or more")
        require(0 < m.likelihood_std < math.inf, "model.likelihood_std", m.likelihood_std, "a positive number")
        self.encoder = Encoder(m.image_size, m.z_dim, m.df)
        self.decoder = Decoder(m.image_size, m.z_dim, m.gf)
        self._trained = self.encoder.trainable_variables + self.decoder.trainable_variables
        self.vae_optimizer = self._optimizer("vae", "lr", self.iterations, self._trained)

    def learning_rates(self) -> dict[str, float]:
        """The rate now: {"vae": float}."""
        return {"vae": float(self.vae_optimizer.learning_rate)}

    @tf.autograph.experimental.do_not_convert  # no tensor decides a branch here, and conversion only slows the trace
    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One update.

        Args:
          batch: {"image": uint8 [B, H, W, 3]}, this replica's share of the global batch.

        Returns:
          Dict of float32 scalars by path, means over this replica's share. `loss/reconstruction` and `loss/kl` are in nats an image
          and not weighted, so minus their sum is the evidence lower bound at any beta; `loss/vae` is what is minimised.
        """
        x = to_float(batch["image"])
        (noise,) = self._share(self.draw, x.shape[0], 0)
        with tf.GradientTape() as tape:
            reconstruction, kl = negative_elbo(self.encoder, self.decoder, x, noise, self.config.model.likelihood_std)
            loss = reconstruction + self.beta() * kl
        logs = {"loss/vae": loss, "loss/reconstruction": reconstruction, "loss/kl": kl}
        logs |= {"grad_norm/vae": self._apply(tape, loss, self._trained, self.vae_optimizer)}
        self.iteration.assign_add(1)
        return logs

    def beta(self) -> tf.Tensor | float:
        """Weight of the KL term now: from 0 to `model.beta` over `model.beta_warmup_kimg` (Bowman et al. 2016, section 3.1)."""
        m = self.config.model
        return m.beta * tf.minimum(1.0, self._kimg() / m.beta_warmup_kimg) if m.beta_warmup_kimg else m.beta

    def draw(self, n: int, seed: tf.Tensor | Sequence[int]) -> tuple[tf.Tensor]:
        """Latents z ~ N(0, I): ([n, Z],)."""
        return (tf.random.stateless_normal([n, self.config.model.z_dim], seed),)

    def images(self, z: tf.Tensor) -> tf.Tensor:
        """The mean images of p(x|z): [B, Z] -> uint8 [B, H, W, 3]."""
        return to_uint8(self.decoder(z))

    def encode(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """uint8 [B, H, W, 3] -> mean and log-variance of q(z|x), each [B, Z] float32."""
        return self.encoder(to_float(images))

    def stages(self) -> Sequence[Callable[[tf.Tensor], tf.Tensor]]:
        """The encoder's."""
        return [functools.partial(self.encoder.level, level=level) for level in range(len(self.encoder.convs))]

    def readings(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """`latent` [B, Z], the mean of the posterior."""
        return {"latent": self.encode(images)[0]}

    @tf.function(autograph=False)
    def reconstruct(self, images: tf.Tensor) -> tf.Tensor:
        """Each image through the mean of its posterior: uint8 [B, H, W, 3] -> the same."""
        return self.images(self.encode(images)[0])

    def pictures(self, batch: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
        """`samples`, and `reconstructions`: rows of real images, each with its reconstructions below."""
        side = math.isqrt(len(batch["image"]))
        pairs = np.stack([batch["image"].numpy(), self.reconstruct(batch["image"]).numpy()])[:, : side * side]  # [2,R*R,H,W,3]
        rows = pairs.reshape(2, side, side, *pairs.shape[2:]).swapaxes(0, 1)  # [2,R,R,H,W,3] -> [R,2,R,H,W,3]
        return super().pictures(batch) | {"reconstructions": grid(rows.reshape(2 * side, side, *pairs.shape[2:]))}

    def served_variables(self) -> Sequence[keras.Variable]:
        """Those of both networks."""
        return (*self.encoder.variables, *self.decoder.variables)

    def servable(self) -> tuple[tf.Module, dict]:
        """(module, signatures) to export: `endpoints`; `decode` is the default."""
        return serve(self.served_variables(), "decode", self.endpoints())

    def endpoints(self) -> dict:
        """`encode`, `decode`, `latents`, `sample`. Images are uint8 [B, H, W, 3]."""
        size, found = self.config.model.image_size, super().endpoints()

        def encode(images):
            mean, log_variance = self.encode(images)
            return {"mean": mean, "log_variance": log_variance}

        found["decode"] = found.pop("generate")
        return found | {"encode": endpoint(encode, images=([None, size, size, 3], tf.uint8))}


def build(config: ConfigDict) -> VAE:
    """The model of an experiment. Raises `UserError` where the config asks for what cannot be."""
    return VAE(config)
