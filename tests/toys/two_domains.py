"""A classifier of one domain whose features are to have the same mean in another: two data sets side by side."""

from typing import ClassVar

import tensorflow as tf
from holotf.models.two_layers import Classifier

from holotf.models.base import to_float


class TwoDomains(Classifier):
    """Cross-entropy on the source, the squared distance of both domains' mean logits beside it."""

    FEATURES: ClassVar = {"source": ("image", "label"), "target": ("image",)}

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch):
        with tf.GradientTape() as tape:
            source, target = (self.network(to_float(batch[name]["image"]), training=True) for name in ("source", "target"))
            entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["source"]["label"], source)
            apart = tf.reduce_sum(tf.square(tf.reduce_mean(source, axis=0) - tf.reduce_mean(target, axis=0)))
            loss = tf.reduce_mean(entropy) + apart
        norm = self._apply(tape, loss, self.network.trainable_variables, self.adam)
        self.iteration.assign_add(1)
        return {"loss/class": loss, "loss/apart": apart, "grad_norm/class": norm}


def build(config):
    return TwoDomains(config)
