"""DANN: features from which no domain can be told (Ganin et al. 2016, JMLR 17(59), arXiv 1505.07818)."""

import math
from typing import ClassVar

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import losses
from holotf.errors import require
from holotf.layers.reversal import reverse
from holotf.models.adaptation import Adapting, ClassAdapting
from holotf.models.base import make_weights, to_float

SCHEDULES = ("ramp", "constant")
UPDATES = ("joint", "alternating")
STEEPNESS = 10.0  # of the ramp, gamma in section 5.2.2
HIDDEN = 100  # units of the domain classifier


class DomainClassifier(keras.Model):
    """Linear to 100 units, ReLU, linear to one: source (logit above 0) or target. Source: figure 4a.

    Args:
      features: how many it is given.
    """

    def __init__(self, features: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.hidden = keras.layers.Dense(HIDDEN)
        self.source = keras.layers.Dense(1, dtype="float32")
        make_weights(self, [1, features])

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """[B, F] -> logits [B] float32."""
        return self.source(tf.nn.relu(self.hidden(features)))[:, 0]


class DomainAdversarial(Adapting):
    """A network whose features a domain classifier, which reads them through a reversed gradient, is not to tell apart.

    The features descend on L_task - lambda L_domain, the label predictor on L_task, the domain classifier on L_domain at full
    rate (equations 13 to 15; for the last, section 5.2.2: "a fixed lambda = 1"). L_domain is a mean over the source's images plus
    one over the target's (equation 9).

    Deviation: Adam, not SGD with momentum; `train.updates=alternating` has the domain classifier move first, on features that stay.

    Args:
      config: the whole experiment (configs/base.py).

    Raises:
      UserError: a schedule, a weight or an order of updates that cannot be; as `Adapting`.
    """

    DOMAIN_PARTS: ClassVar = ("domain_classifier", "domain_optimizer")

    def __init__(self, config: ConfigDict):
        loss, train = config.loss, config.train
        require(loss.schedule in SCHEDULES, "loss.schedule", loss.schedule, " or ".join(SCHEDULES))
        require(0 <= loss.lambda_domain < math.inf, "loss.lambda_domain", loss.lambda_domain, "0 or more")
        require(train.updates in UPDATES, "train.updates", train.updates, " or ".join(UPDATES))
        super().__init__(config)
        self.domain_classifier = DomainClassifier(self.network.hidden[0].kernel.shape[0])
        trained = self.domain_classifier.trainable_variables
        self.domain_optimizer = self._optimizer("domain", "d_lr", self.iterations, trained)

    def learning_rates(self) -> dict[str, float]:
        """The rates now: {TASK: float, "domain": float}."""
        return super().learning_rates() | {"domain": float(self.domain_optimizer.learning_rate)}

    def strength(self) -> tf.Tensor:
        """Weight of the domain loss in the features' gradient now: lambda_p = lambda (2 / (1 + exp(-10 p)) - 1), or lambda.

        p is the share of the run that is behind, from 0 to 1. Source: section 5.2.2.
        """
        weight = tf.constant(self.config.loss.lambda_domain)
        if self.config.loss.schedule == "constant":
            return weight
        p = tf.cast(self.iteration.value, tf.float32) / self.iterations
        return weight * (2.0 / (1.0 + tf.exp(-STEEPNESS * p)) - 1.0)

    def adapt(self, batch: dict[str, dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        """One update of all parts: adds `loss/domain`, `accuracy/domain`, `lambda/domain`, `grad_norm/domain`."""
        labels, strength, logs = batch["source"], self.strength(), {}
        first = self.config.train.updates == "alternating"
        with tf.GradientTape() as tape:
            images = tf.concat([batch[name]["image"] for name in ("source", "target")], axis=0)
            features = self.network.features(to_float(images), training=True)  # [2B,F]
            if first:
                with tape.stop_recording():
                    logs |= self._update_domain(features)
            outputs = self.network.told(tf.split(features, 2)[0])
            loss = self.task_loss(labels, outputs)
            total = loss + self._domain_loss(reverse(features, strength))[0]
        logs |= self._task_logs(labels, outputs, loss) | {"lambda/domain": strength} | self._update_network(tape, total)
        return logs if first else logs | self._update_domain(features)

    def _update_domain(self, features):
        """An update of the domain classifier on features as they are."""
        with tf.GradientTape() as tape:
            loss, source, target = self._domain_loss(tf.stop_gradient(features))
        norm = self._apply(tape, loss, self.domain_classifier.trainable_variables, self.domain_optimizer)
        right = tf.cast(tf.concat([source > 0, target < 0], axis=0), tf.float32)
        return {"loss/domain": loss, "accuracy/domain": tf.reduce_mean(right), "grad_norm/domain": norm}

    def _domain_loss(self, features):
        """(loss, logits of the source's half, of the target's) of features [2B, F]."""
        source, target = tf.split(self.domain_classifier(features), 2)
        return losses.bce_discriminator(source, target), source, target


class DANN(DomainAdversarial, ClassAdapting):
    """`DomainAdversarial`, of a classifier: the published one."""

    PARTS: ClassVar = (*ClassAdapting.PARTS, *DomainAdversarial.DOMAIN_PARTS)


def build(config: ConfigDict) -> DANN:
    """The model of an experiment. Raises `UserError` where the config asks for what cannot be."""
    return DANN(config)
