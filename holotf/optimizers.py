"""The optimizers, and how their rate falls in the course of a run."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from holotf.errors import require


class Adam(keras.optimizers.Adam):
    """Keras' Adam, each variable updated by TensorFlow's one fused kernel instead of ten passes over memory."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """m += (1 - b1)(g - m), v += (1 - b2)(g^2 - v), w -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + epsilon)."""
        index, step = self._get_variable_index(variable), tf.cast(self.iterations.value + 1, tf.float32)
        m, v = self._momentums[index].value, self._velocities[index].value
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=m.handle,
            v=v.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate: constant, then linear to 0.

    Args:
      lr: of the first part.
      decay_from: optimizer updates in the constant part.
      total: optimizer updates in all; equal to `decay_from` for no decay.
    """

    def __init__(self, lr: float, decay_from: int, total: int):
        self.lr, self.decay_from, self.total = lr, decay_from, total

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Optimizer updates so far -> the rate, a float32 scalar in [0, lr]."""
        left = (self.total - tf.cast(step, tf.float32)) / max(self.total - self.decay_from, 1)
        return self.lr * tf.clip_by_value(left, 0.0, 1.0)

    def get_config(self) -> dict[str, float]:
        """The arguments, for Keras."""
        return {"lr": self.lr, "decay_from": self.decay_from, "total": self.total}


class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate: multiplied by a factor after every so many updates.

    Args:
      lr: of the first part.
      every: optimizer updates in each part.
      factor: from part to part.
    """

    def __init__(self, lr: float, every: int, factor: float):
        self.lr, self.every, self.factor = lr, every, factor

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Optimizer updates so far -> the rate, a float32 scalar > 0."""
        return self.lr * self.factor ** tf.floor(tf.cast(step, tf.float32) / self.every)

    def get_config(self) -> dict[str, float]:
        """The arguments, for Keras."""
        return {"lr": self.lr, "every": self.every, "factor": self.factor}


def build(
    optim: ConfigDict, rate: str, total: int, variables: Sequence[keras.Variable], name: str, epochs: float = math.inf
) -> keras.optimizers.Optimizer:
    """The config's optimizer with its schedule, its state made.

    Args:
      optim: `config.optim`.
      rate: the key in it that holds the learning rate, such as "d_lr".
      total: updates that the whole run has.
      variables: what it trains.
      name: of the optimizer.
      epochs: how often the whole run goes through its data; asked for where `optim.decay_epochs` is not 0.

    Raises:
      UserError: a rate, a momentum, an optimizer or a schedule that makes no sense.
    """
    require(optim.optimizer in ("adam", "sgd"), "optim.optimizer", optim.optimizer, "adam or sgd")
    for momentum in ("beta_1", "beta_2", "momentum"):
        require(0 <= optim[momentum] < 1, f"optim.{momentum}", optim[momentum], "0 to below 1")
    schedule = _schedule(optim, rate, total, epochs)
    if optim.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(schedule, optim.momentum, name=name)
    else:
        optimizer = Adam(schedule, optim.beta_1, optim.beta_2, name=name)
    optimizer.build(variables)
    return optimizer


def _schedule(optim, rate, total, epochs):
    lr = optim[rate]
    require(0 <= lr < math.inf, f"optim.{rate}", lr, "a number from 0, such as 1e-4")
    require(0 <= optim.decay_from <= 1, "optim.decay_from", optim.decay_from, "a share of the run, 0 to 1")
    require(0 <= optim.decay_epochs < math.inf, "optim.decay_epochs", optim.decay_epochs, "epochs, or 0 for optim.decay_from")
    require(optim.decay in ("linear", "step"), "optim.decay", optim.decay, "linear or step")
    part = min(optim.decay_epochs / epochs, 1.0) if optim.decay_epochs else optim.decay_from
    if optim.decay == "linear":
        return LinearDecay(lr, round(part * total), total)
    require(0 < optim.decay_factor < math.inf, "optim.decay_factor", optim.decay_factor, "a positive number, such as 0.1")
    return StepDecay(lr, max(1, round(part * total)), optim.decay_factor)
