"""A classifier of two layers."""

import keras
import tensorflow as tf

from holotf.models.base import Learner, to_float
from holotf.servable import endpoint, serve


class Classifier(Learner):
    """Images -> classes, by cross-entropy."""

    PARTS = ("network", "adam")
    FEATURES = ("image", "label")

    def __init__(self, config):
        super().__init__(config)
        m = config.model
        layers = [keras.Input([m.image_size, m.image_size, 3]), keras.layers.Conv2D(m.width, 4, 4, activation="relu")]
        self.network = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(m.classes, dtype="float32")])
        self.adam = self._optimizer("adam", "lr", self.iterations, self.network.trainable_variables)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch):
        with tf.GradientTape() as tape:
            logits = self.network(to_float(batch["image"]), training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"], logits))
        norm = self._apply(tape, loss, self.network.trainable_variables, self.adam)
        self.iteration.assign_add(1)
        right = tf.argmax(logits, axis=-1) == batch["label"]
        return {"loss/class": loss, "grad_norm/class": norm, "accuracy/train": tf.reduce_mean(tf.cast(right, tf.float32))}

    def learning_rates(self):
        return {"class": float(self.adam.learning_rate)}

    def servable(self):
        size = self.config.model.image_size

        def predict(images):
            return {"probabilities": tf.nn.softmax(self.network(to_float(images)))}

        predict = endpoint(predict, images=([None, size, size, 3], tf.uint8))
        return serve(self.network.variables, "predict", {"predict": predict})


def build(config):
    return Classifier(config)
