"""A GAN of linear maps, told of a label."""

import keras
import tensorflow as tf

from holotf.models.base import make_weights
from holotf.models.gan import GAN


class Generator(keras.Model):
    """(latent, label) -> image."""

    def __init__(self, size, z_dim, classes):
        super().__init__()
        self.size, self.classes = size, classes
        self.paint = keras.layers.Dense(3 * size**2, activation="tanh", dtype="float32")
        tf.function(self, autograph=False).get_concrete_function(tf.TensorSpec([1, z_dim]), tf.TensorSpec([1], tf.int64))

    def call(self, z, label, training=False):
        told = tf.concat([z, tf.one_hot(label, self.classes)], axis=1)
        return tf.reshape(self.paint(told), [-1, self.size, self.size, 3])


class Discriminator(keras.Model):
    """(image, label) -> real or made."""

    def __init__(self, size, classes):
        super().__init__()
        self.classes, self.real = classes, keras.layers.Dense(classes, dtype="float32")
        make_weights(self, [1, size, size, 3], [1])

    def call(self, images, label, training=False):
        verdicts = self.real(tf.reshape(images, [tf.shape(images)[0], -1]))  # [B,classes]: one for each label
        return {"logits": tf.reduce_sum(verdicts * tf.one_hot(tf.cast(label, tf.int64), self.classes), axis=1)}


class LabelledGAN(GAN):
    """What D is told: the data's labels beside real images, those that were drawn beside made ones."""

    FEATURES = ("image", "label")

    def __init__(self, config):
        m = config.model
        super().__init__(
            config, lambda: Generator(m.image_size, m.z_dim, m.classes), lambda: Discriminator(m.image_size, m.classes)
        )

    def draw(self, n, seed):
        z_seed, label_seed = tf.unstack(tf.random.split(seed, 2))
        z = tf.random.stateless_uniform([n, self.config.model.z_dim], z_seed, -1.0, 1.0)
        return z, tf.random.stateless_uniform([n], label_seed, 0, self.config.model.classes, tf.int64)

    def resting(self, n):
        return (tf.zeros([n], tf.int64),)

    def condition_of_real(self, batch):
        return (batch["label"],)

    def condition_of_made(self, inputs):
        return inputs[1:]


def build(config):
    return LabelledGAN(config)
