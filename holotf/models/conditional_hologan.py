"""HoloGAN that is told labels: the label sets what, the view from where, z the rest."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from holotf.errors import require
from holotf.layers.conditional import Projection, shares
from holotf.layers.initialisers import normal
from holotf.models.base import make_weights
from holotf.models.conditional import Conditional
from holotf.models.hologan import HoloGAN
from holotf.views import COLUMNS


class Generator(keras.Model):
    """HoloGAN's generator, fed with z and the mean of its labels' embeddings, by AdaIN as z is.

    Args:
      within: HoloGAN's, whose latents have z_dim + label_dim numbers.
      sizes: (z_dim, K).
      most: labels an image has at most.
      label_dim: length of an embedding.
    """

    def __init__(self, within: keras.Model, sizes: tuple[int, int], most: int, label_dim: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.within, self.sizes, self.most = within, sizes, most
        # As loud as z, whose numbers are uniform in [-1, 1]: of standard deviation 3^-1/2.
        self.embed = keras.layers.Dense(label_dim, use_bias=False, kernel_initializer=normal(3**-0.5), dtype="float32")
        make_weights(self, [1, sum(sizes)], [1, len(COLUMNS)])

    renderer = property(lambda self: self.within.renderer)  # no attributes: Keras would count their layers twice
    volume_shape = property(lambda self: self.within.volume_shape)
    azimuth_weights = property(lambda self: self.within.azimuth_weights)

    def call(self, latents: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
        """[N, Z + K], [B, 6] -> [B, H, W, 3], as HoloGAN's."""
        return self.within(self.told(latents), views)

    def told(self, latents: tf.Tensor) -> tf.Tensor:
        """z and labels [N, Z + K] -> z and embeddings [N, Z + label_dim]."""
        z, labels = tf.split(latents, self.sizes, axis=1)
        return tf.concat([z, self.embed(shares(labels, self.most))], axis=1)

    def volume(self, latents: tf.Tensor) -> tf.Tensor:
        """The objects, before any turn: as HoloGAN's, of [N, Z + K]."""
        return self.within.volume(self.told(latents))

    def rendered(self, volume: tf.Tensor, latents: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
        """Images of volumes, as HoloGAN's, styled by [N, Z + K]."""
        return self.within.rendered(volume, self.told(latents), views)

    def look(self, volume: tf.Tensor, views: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Depth and opacity of volumes, as HoloGAN's."""
        return self.within.look(volume, views)


class Discriminator(keras.Model):
    """HoloGAN's discriminator, whose logit has the projection of its last features, summed over space, on the labels.

    Args:
      within: HoloGAN's.
      image_size: px.
      classes: K.
      most: labels an image has at most.
      reading: whether there is a head that reads labels off those features.
    """

    def __init__(self, within: keras.Model, image_size: int, classes: int, most: int, reading: bool = False, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.within = within
        self.projection = Projection(classes, most, within.convs[-1].filters)
        self.reading = keras.layers.Dense(classes, dtype="float32") if reading else None
        make_weights(self, [1, image_size, image_size, 3], [1, classes])

    convs = property(lambda self: self.within.convs)
    level = property(lambda self: self.within.level)

    def call(self, images: tf.Tensor, labels: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """[B, H, W, 3] float32 in [-1, 1], labels [B, K] -> as HoloGAN's, and pooled [B, C], with reading labels [B, K].

        Without labels it is as HoloGAN's alone.
        """
        out = self.within(images)
        if labels is None:
            return out
        features = tf.reduce_sum(tf.cast(out["features"], tf.float32), axis=[1, 2])  # [B,h,w,C] -> [B,C]
        out |= {"logits": out["logits"] + self.projection(features, labels), "pooled": features}
        return out if self.reading is None else out | {"labels": self.reading(features)}


class ConditionalHoloGAN(Conditional, HoloGAN):
    """HoloGAN on latents that end with labels.

    Args:
      config: the whole experiment (configs/base.py).

    Raises:
      UserError: as HoloGAN, and as any model that is told labels.
    """

    def __init__(self, config: ConfigDict):
        require(config.model.label_dim >= 1, "model.label_dim", config.model.label_dim, "1 or more")
        super().__init__(config)

    def make_generator(self) -> keras.Model:
        """A generator as the config says."""
        m = self.config.model
        within = super().make_generator(m.label_dim)
        return Generator(within, (m.z_dim, len(self.class_names)), m.most_labels, m.label_dim)

    def make_discriminator(self) -> keras.Model:
        """A discriminator as the config says."""
        m = self.config.model
        sizes = (m.image_size, len(self.class_names), m.most_labels)
        return Discriminator(super().make_discriminator(), *sizes, self.config.loss.lambda_labels > 0)

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """z as the discriminator reads it, and no label: uint8 [B, H, W, 3] -> [B, Z + K] float32."""
        return tf.pad(super().encode(images), [[0, 0], [0, len(self.class_names)]])

    def _drawn(self, n, seed: tf.Tensor | Sequence[int], generator):
        z, asked = super()._drawn(n, seed, generator)
        return tf.concat([z, self.draw_labels(n, tf.random.fold_in(seed, 1))], axis=1), asked

    def _shared_terms(self, fake, inputs):
        latents, asked = inputs
        return super()._shared_terms(fake, (self.parts(latents)[0], asked))


def build(config: ConfigDict) -> ConditionalHoloGAN:
    """The model of an experiment. Raises `UserError` where the config asks for what cannot be."""
    return ConditionalHoloGAN(config)
