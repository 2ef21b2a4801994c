"""The alternating step that every GAN here shares: a generator, a discriminator, an average of the generator's weights."""

import keras
import tensorflow as tf

from holotf import losses, native
from holotf.errors import UserError


class Adam(keras.optimizers.Adam):
    """Keras' Adam, each variable updated by TensorFlow's one fused kernel instead of ten passes over memory."""

    def update_step(self, gradient, variable, learning_rate):
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

    def __init__(self, lr, decay_from, total):
        self.lr, self.decay_from, self.total = lr, decay_from, total

    def __call__(self, step):
        """Optimizer updates so far -> the rate, a float32 scalar in [0, lr]."""
        left = (self.total - tf.cast(step, tf.float32)) / max(self.total - self.decay_from, 1)
        return self.lr * tf.clip_by_value(left, 0.0, 1.0)

    def get_config(self):
        """The arguments, for Keras."""
        return {"lr": self.lr, "decay_from": self.decay_from, "total": self.total}


class GAN(keras.Model):
    """A generator and a discriminator that take turns.

    A subclass makes the two networks, says what the generator is fed (`draw`) and which terms join the two losses
    (`discriminator_terms`, `generator_terms`).

    Randomness is stateless: what is drawn depends on (seed, iteration, index in the global batch) alone, so a run on N replicas
    draws what a run on one does, and a resumed run what an uninterrupted one does.

    Args:
      config: the whole experiment (configs/base.py).
      make_generator, make_discriminator: functions without arguments that make built networks. The generator's call takes
        what `draw` returns and gives images [B, H, W, 3] float32 in [-1, 1]; the discriminator takes these and gives a dict
        with "logits" [B] float32.
    """

    PARTS = ("generator", "ema_generator", "discriminator", "d_optimizer", "g_optimizer")  # what a checkpoint holds

    def __init__(self, config, make_generator, make_discriminator):
        super().__init__(autocast=False)
        if not hasattr(losses, f"{config.loss.gan}_discriminator"):
            raise UserError(f"loss.gan={config.loss.gan!r}: use bce, hinge, lsgan or wgan")
        for name, value in config.train.items():
            if value <= 0:
                raise UserError(f"train.{name}={value:g}: use a positive number")
        if not 0 <= config.model.ema_decay < 1:
            raise UserError(f"model.ema_decay={config.model.ema_decay:g}: use 0 (no average) to below 1")
        self.config = config
        self.d_steps, self.g_steps = config.train.d_steps, config.train.g_steps
        self.generator, self.ema_generator = make_generator(), make_generator()
        self.ema_generator.trainable = False
        self.ema_generator.set_weights(self.generator.get_weights())
        self.discriminator = make_discriminator()
        self.iteration = self.add_weight(
            name="iteration", shape=(), dtype="int64", initializer="zeros", trainable=False, aggregation="only_first_replica"
        )
        self.d_optimizer = self._optimizer("d", self.d_steps, self.discriminator)
        self.g_optimizer = self._optimizer("g", self.g_steps, self.generator)

    def _optimizer(self, player, updates, network):
        optim, train = self.config.optim, self.config.train
        total = updates * -(-round(train.kimg * 1000) // (train.batch_size * train.d_steps))
        schedule = LinearDecay(optim[f"{player}_lr"], round(optim.decay_from * total), total)
        optimizer = Adam(schedule, optim.beta_1, optim.beta_2, name=f"{player}_adam")
        optimizer.build(network.trainable_variables)
        return optimizer

    @property
    def images_per_iteration(self):
        """Real images that one iteration shows the discriminator, over all replicas."""
        return self.config.train.batch_size * self.d_steps

    def images(self, *inputs):
        """Images of the averaged generator: its inputs -> uint8 [B, H, W, 3]."""
        return tf.cast(tf.round((self.ema_generator(*inputs) + 1.0) * 127.5), tf.uint8)

    @tf.function(autograph=False)
    def sample(self, *inputs):
        """`images`, as a graph of its own."""
        return self.images(*inputs)

    def draw(self, n, seed):
        """The generator's inputs for `n` images: a tuple of tensors whose first axis is n. `seed` is [2] int32."""
        raise NotImplementedError

    def draw_in_training(self, n, seed):
        """What the generator is fed in training: `draw`, unless a subclass changes it in the course of the run."""
        return self.draw(n, seed)

    def discriminator_terms(self, real, fake, inputs):
        """Further losses of the discriminator: a dict of scalars. `real` and `fake` are its outputs on both halves."""
        return {}

    def generator_terms(self, fake, inputs):
        """Further losses of the generator: a dict of scalars. `fake` is the discriminator's output on its images."""
        return {}

    @tf.autograph.experimental.do_not_convert  # no tensor decides a branch here, and conversion only slows the trace
    def train_step(self, images):
        """One iteration: `d_steps` discriminator updates and `g_steps` generator updates.

        Every update has draws of its own, but for the first generator update, which goes on with the images of the last
        discriminator update: the generator has not changed since, so they are those it would make again.

        Args:
          images: uint8 [d_steps * B, H, W, 3], this replica's share of the global batch.

        Returns:
          Dict of float32 scalars by path (`loss/d`, `grad_norm/g`, ...), means over this replica's share.
        """
        reals = tf.split(tf.cast(images, tf.float32) / 127.5 - 1.0, self.d_steps)
        logs = {}
        for turn in range(self.d_steps + self.g_steps - 1):
            inputs = self._draw_share(reals[0].shape[0], turn)
            with tf.GradientTape() as tape:
                fakes = self.generator(*inputs)
                if turn < self.d_steps:
                    with tape.stop_recording():
                        logs |= self._update_discriminator(reals[turn], fakes, inputs, turn)
                if turn < self.d_steps - 1:
                    continue
                fake = self.discriminator(fakes)
                adversarial = getattr(losses, f"{self.config.loss.gan}_generator")(fake["logits"])
                terms = {"loss/g": adversarial} | self.generator_terms(fake, inputs)
                total = sum(terms.values())
            logs |= terms | {"grad_norm/g": self._apply(tape, total, self.generator, self.g_optimizer)}
            self._update_ema()
        self.iteration.assign_add(1)
        return logs

    def _update_discriminator(self, reals, fakes, inputs, turn):
        self.discriminator.update_spectral_norms()
        with tf.GradientTape() as tape:
            both = self.discriminator(tf.concat([reals, fakes], axis=0))  # no statistics cross images, so one batch serves
            real, fake = ({k: tf.split(v, 2)[half] for k, v in both.items()} for half in (0, 1))
            terms = {"loss/d": getattr(losses, f"{self.config.loss.gan}_discriminator")(real["logits"], fake["logits"])}
            if self.config.loss.gan == "wgan":
                mix = self._share(lambda n, seed: tf.random.stateless_uniform([n, 1, 1, 1], seed), reals.shape[0], -1 - turn)
                with native.off():  # it is differentiated twice
                    penalty = losses.gradient_penalty(lambda x: self.discriminator(x)["logits"], reals, fakes, mix)
                terms["loss/gradient_penalty"] = self.config.loss.lambda_gp * penalty
            terms |= self.discriminator_terms(real, fake, inputs)
            total = sum(terms.values())
        return terms | {
            "grad_norm/d": self._apply(tape, total, self.discriminator, self.d_optimizer),
            "accuracy/real": tf.reduce_mean(tf.cast(real["logits"] > 0, tf.float32)),
            "accuracy/fake": tf.reduce_mean(tf.cast(fake["logits"] < 0, tf.float32)),
        }

    def _apply(self, tape, loss, network, optimizer):
        """One update. Keras sums gradients over replicas, hence the division: the global loss is the mean."""
        variables = network.trainable_variables
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        gradients = tape.gradient(loss, [v.value for v in variables])
        optimizer.apply([g / replicas for g in gradients] if replicas > 1 else gradients, variables)
        return tf.linalg.global_norm(gradients)

    def _draw_share(self, n, turn):
        return self._share(self.draw_in_training, n, turn)

    def _share(self, draw, n, turn):
        """This replica's `n` rows of what is drawn for the global batch; `turn` tells an iteration's draws apart."""
        context = tf.distribute.get_replica_context()
        replicas, index = context.num_replicas_in_sync, context.replica_id_in_sync_group
        seed = tf.random.fold_in(tf.random.fold_in([self.config.seed, 0], self.iteration.value), turn + 1)
        rows = slice(None) if replicas == 1 else slice(index * n, (index + 1) * n)
        return tf.nest.map_structure(lambda t: tf.ensure_shape(t[rows], [n, *t.shape[1:]]), draw(replicas * n, seed))

    def _update_ema(self):
        """average += (1 - decay) (weight - average), on each device from its own copy.

        Over the first updates the decay is (1 + updates) / (10 + updates), as in `tf.train.ExponentialMovingAverage`: the
        average forgets the initial weights instead of carrying them through a short run.
        """
        updates = tf.cast(self.g_optimizer.iterations.value, tf.float32)
        rate = 1.0 - tf.minimum(self.config.model.ema_decay, (1.0 + updates) / (10.0 + updates))
        pairs = [(a.value, w.value) for a, w in zip(self.ema_generator.variables, self.generator.variables, strict=True)]

        def update(strategy):
            for average, weight in pairs:
                strategy.extended.update(average, lambda a, w: a.assign_add(rate * (w - a)), args=(weight,), group=False)

        tf.distribute.get_replica_context().merge_call(update)
