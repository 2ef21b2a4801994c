"""What every model here shares (`Model`), and the alternating step that every GAN shares (`GAN`)."""

import functools
import math

import keras
import numpy as np
import tensorflow as tf

from holotf import losses, native
from holotf.errors import UserError
from holotf.layers.spectral import update_spectral_norms

_OFF_AT_0 = ("flip_labels_kimg", "instance_noise", "instance_noise_kimg")  # of `config.train`


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


class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate: multiplied by a factor after every so many updates.

    Args:
      lr: of the first part.
      every: optimizer updates in each part.
      factor: from part to part.
    """

    def __init__(self, lr, every, factor):
        self.lr, self.every, self.factor = lr, every, factor

    def __call__(self, step):
        """Optimizer updates so far -> the rate, a float32 scalar > 0."""
        return self.lr * self.factor ** tf.floor(tf.cast(step, tf.float32) / self.every)

    def get_config(self):
        """The arguments, for Keras."""
        return {"lr": self.lr, "every": self.every, "factor": self.factor}


def _check_schedule(pairs):
    """Finds what is wrong with `train.d_steps`."""
    try:
        starts, numbers = zip(*pairs, strict=True)
        fits = starts[0] == 0 and list(starts) == sorted(set(starts)) and all(n == int(n) and n >= 1 for n in numbers)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise UserError(
            f"train.d_steps={pairs!r}: use pairs of (from kimg, discriminator updates for a turn of the generator), the first "
            "from 0: ((0, 1),), or ((0, 5), (10, 1)) for 5 at first and 1 from 10 kimg on"
        )


def normal():
    """N(0, 0.02), the initial weights of DCGAN and its descendants."""
    return keras.initializers.RandomNormal(stddev=0.02)


def make_weights(network, *shapes):
    """Traces the network, which makes its weights without computing (or compiling) anything."""
    tf.function(network, autograph=False).get_concrete_function(*(tf.TensorSpec(shape) for shape in shapes))
    update_spectral_norms(network)  # the trace only noted their first iteration


def endpoint(function, **inputs):
    """A function to export. Inputs are {name: (shape, dtype)}."""
    specs = [tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()]
    return tf.function(function, input_signature=specs, autograph=False)


class Servable(tf.Module):
    """What is exported of a model: `sample`, and the endpoints that a subclass adds. Images are uint8 [B, H, W, 3].

    Args:
      model: what draws. It is not kept: Keras would add endpoints of its own to the export.
      variables: of the model's networks that are served; `vars`, by which an export is read back.
    """

    def __init__(self, model, variables):
        super().__init__()
        self.vars = [v.value for v in variables]

        def sample(seed, n):
            return {"images": model.images(*model.draw(n, tf.stack([seed, 0])))}

        self.sample = endpoint(sample, seed=([], tf.int64), n=([], tf.int32))


class Model(keras.Model):
    """What the training loop and the checkpoints need of a model: its progress, its draws and its updates.

    Randomness is stateless: what is drawn depends on (seed, iteration, index in the global batch) alone, so a run on N replicas
    draws what a run on one does, and a resumed run what an uninterrupted one does.

    A subclass names its PARTS and has `train_step`, `draw`, `images`, `learning_rates` and `servable`.

    Args:
      config: the whole experiment (configs/base.py).
    """

    PARTS = ()  # attributes that a checkpoint holds, each with `variables`

    def __init__(self, config):
        super().__init__(autocast=False)
        for name, value in config.train.items():
            if name == "d_steps":
                continue
            if value < 0 or (value == 0 and name not in _OFF_AT_0):
                raise UserError(f"train.{name}={value:g}: use {'0 (off) or ' if name in _OFF_AT_0 else ''}a positive number")
        self.config = config
        self.iteration = self.add_weight(
            name="iteration", shape=(), dtype="int64", initializer="zeros", trainable=False, aggregation="only_first_replica"
        )

    @property
    def iterations(self):
        """Iterations of the whole run: of `train.batch_size` images each, until `train.kimg` thousand were shown."""
        return math.ceil(self.config.train.kimg * 1000 / self.config.train.batch_size)

    def step_options(self, iteration):
        """Further arguments of `train_step` in an iteration, counted from 0: a dict of Python values, each of them a trace."""
        return {}

    def learning_rates(self):
        """The rates now: {player: float}."""
        raise NotImplementedError

    def draw(self, n, seed):
        """The inputs of `n` images: a tuple of tensors whose first axis is n. `seed` is [2] int32."""
        raise NotImplementedError

    def images(self, *inputs):
        """What `draw` gives -> uint8 [B, H, W, 3]."""
        raise NotImplementedError

    @tf.function(autograph=False)
    def sample(self, *inputs):
        """`images`, as a graph of its own."""
        return self.images(*inputs)

    def latents(self, seeds):
        """The latent of each seed: [len(seeds), Z], each a function of its seed alone."""
        return tf.stack([self.draw(1, [seed, 0])[0][0] for seed in seeds])

    def resting(self, n):
        """What `images` takes beside the latent, at rest: a tuple of tensors whose first axis is n."""
        return ()

    def interpolate(self, latents, steps):
        """From each latent to the next and from the last to the first, in equal steps, all else at rest.

        Args:
          latents: [N, Z].
          steps: images from one to the next.

        Returns:
          uint8 [N, steps, H, W, 3] array.
        """
        t = tf.linspace(0.0, 1.0, steps + 1)[:-1, tf.newaxis]  # [K,1]
        pairs = zip(latents, tf.roll(latents, -1, axis=0), strict=True)
        return np.stack([self.sample(a * (1.0 - t) + b * t, *self.resting(steps)).numpy() for a, b in pairs])

    def _optimizer(self, player, lr, total, variables):
        """Adam with the config's schedule; `total` is how many updates the whole run has."""
        optim = self.config.optim
        if optim.decay == "linear":
            schedule = LinearDecay(lr, round(optim.decay_from * total), total)
        elif optim.decay == "step":
            schedule = StepDecay(lr, max(1, round(optim.decay_from * total)), optim.decay_factor)
        else:
            raise UserError(f"optim.decay={optim.decay!r}: use linear or step")
        optimizer = Adam(schedule, optim.beta_1, optim.beta_2, name=f"{player}_adam")
        optimizer.build(variables)
        return optimizer

    def _apply(self, tape, loss, variables, optimizer):
        """One update. Keras sums gradients over replicas, hence the division: the global loss is the mean."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        gradients = tape.gradient(loss, [v.value for v in variables])
        optimizer.apply([g / replicas for g in gradients] if replicas > 1 else gradients, variables)
        return tf.linalg.global_norm(gradients)

    def _kimg(self):
        """Thousands of real images taken before this iteration, a float32 scalar."""
        return tf.cast(self.iteration.value * self.config.train.batch_size, tf.float32) / 1000.0

    def _share(self, draw, n, turn):
        """This replica's `n` rows of what is drawn for the global batch; `turn` tells an iteration's draws apart."""
        context = tf.distribute.get_replica_context()
        replicas, index = context.num_replicas_in_sync, context.replica_id_in_sync_group
        seed = tf.random.fold_in(tf.random.fold_in([self.config.seed, 0], self.iteration.value), turn + 1)
        rows = slice(None) if replicas == 1 else slice(index * n, (index + 1) * n)
        return tf.nest.map_structure(lambda t: tf.ensure_shape(t[rows], [n, *t.shape[1:]]), draw(replicas * n, seed))


class GAN(Model):
    """A generator and a discriminator that take turns.

    A subclass makes the two networks, says what the generator is fed (`draw`) and which terms join the two losses
    (`discriminator_terms`, `generator_terms`).

    Args:
      config: the whole experiment (configs/base.py).
      make_generator, make_discriminator: functions without arguments that make built networks. The generator's call takes
        what `draw` returns and gives images [B, H, W, 3] float32 in [-1, 1]; the discriminator takes these and gives a dict
        with "logits" [B] float32. Both are called with training=True in a step, where their `call` has such an argument.
    """

    PARTS = ("generator", "ema_generator", "discriminator", "d_optimizer", "g_optimizer")  # what a checkpoint holds
    one_batch = True  # whether D may see real and made images in one batch; not where its layers mix images

    def __init__(self, config, make_generator, make_discriminator):
        super().__init__(config)
        loss, train = config.loss, config.train
        if not hasattr(losses, f"{loss.gan}_discriminator"):
            raise UserError(f"loss.gan={loss.gan!r}: use bce, hinge, lsgan or wgan")
        if not 0 < loss.label_real <= 1 or (loss.label_real != 1 and loss.gan not in ("bce", "lsgan")):
            raise UserError(f"loss.label_real={loss.label_real:g} with loss.gan={loss.gan}: use 1, or above 0 with bce or lsgan")
        if loss.lambda_r1 < 0:
            raise UserError(f"loss.lambda_r1={loss.lambda_r1:g}: use 0 (off) or a positive number")
        if train.instance_noise > 0 and train.instance_noise_kimg == 0:
            raise UserError("train.instance_noise_kimg=0: use the thousands of images over which train.instance_noise falls to 0")
        if not 0 <= config.model.ema_decay < 1:
            raise UserError(f"model.ema_decay={config.model.ema_decay:g}: use 0 (no average) to below 1")
        _check_schedule(train.d_steps)
        self.generator, self.ema_generator = make_generator(), make_generator()
        self.ema_generator.trainable = False
        self.ema_generator.set_weights(self.generator.get_weights())
        self.discriminator = make_discriminator()
        self._phases = [(math.ceil(1000 * start / train.batch_size), updates) for start, updates in train.d_steps]
        ends = [min(first, self.iterations) for first, _ in [*self._phases[1:], (self.iterations, 1)]]
        turns = sum(max(0, end // n - first // n) for (first, n), end in zip(self._phases, ends, strict=True))
        self.d_optimizer = self._optimizer("d", config.optim.d_lr, self.iterations, self.discriminator.trainable_variables)
        self.g_optimizer = self._optimizer("g", config.optim.g_lr, turns * train.g_steps, self.generator.trainable_variables)

    def step_options(self, iteration):
        """Whether the generator plays: in the last of as many iterations as `train.d_steps` says of this time.

        More discriminator updates early on: Arjovsky et al. 2017 (arXiv 1701.07875) train the critic "till optimality".
        """
        updates = next(n for first, n in reversed(self._phases) if iteration >= first)
        return {"play": (iteration + 1) % updates == 0}

    def learning_rates(self):
        """The rates now: {"d": float, "g": float}."""
        return {k: float(optimizer.learning_rate) for k, optimizer in (("d", self.d_optimizer), ("g", self.g_optimizer))}

    def images(self, *inputs):
        """Images of the averaged generator: its inputs -> uint8 [B, H, W, 3]."""
        return tf.cast(tf.round((self.ema_generator(*inputs) + 1.0) * 127.5), tf.uint8)

    def servable(self):
        """(module, signatures) to export: `generate`, from the latent, and `sample`; `generate` is the default."""
        module = Servable(self, self.ema_generator.variables)
        latent = self.draw(1, [0, 0])[0]
        module.generate = endpoint(lambda z: {"images": self.images(z)}, z=([None, *latent.shape[1:]], tf.float32))
        return module, {"generate": module.generate, "sample": module.sample, "serving_default": module.generate}

    def discriminator_terms(self, real, fake, inputs):
        """Further losses of the discriminator: a dict of scalars. `real` and `fake` are its outputs on both halves."""
        return {}

    def generator_terms(self, fake, inputs):
        """Further losses of the generator: a dict of scalars. `fake` is the discriminator's output on its images."""
        return {}

    @tf.autograph.experimental.do_not_convert  # no tensor decides a branch here, and conversion only slows the trace
    def train_step(self, images, play=True):
        """One iteration: a discriminator update and, where the generator plays, `g_steps` updates of its own.

        Every update has draws of its own, but for the first generator update, which goes on with the images of the
        discriminator update: the generator has not changed since, so they are those it would make again.

        Args:
          images: uint8 [B, H, W, 3], this replica's share of the global batch.
          play: whether the generator plays.

        Returns:
          Dict of float32 scalars by path (`loss/d`, `grad_norm/g`, ...), means over this replica's share.
        """
        reals = tf.cast(images, tf.float32) / 127.5 - 1.0
        logs = {}
        for turn in range(self.config.train.g_steps if play else 1):
            inputs = self._draw_share(reals.shape[0], turn)
            with tf.GradientTape() as tape:
                fakes = self.generator(*inputs, training=True)
                if turn == 0:
                    with tape.stop_recording():
                        logs |= self._update_discriminator(reals, fakes, inputs)
                if not play:
                    continue
                fake = self.discriminator(self._noisy(fakes, turn, 2), training=True)
                adversarial = getattr(losses, f"{self.config.loss.gan}_generator")(fake["logits"])
                terms = {"loss/g": adversarial} | self.generator_terms(fake, inputs)
                total = sum(terms.values())
            logs |= terms | {"grad_norm/g": self._apply(tape, total, self.generator.trainable_variables, self.g_optimizer)}
            self._update_ema()
        self.iteration.assign_add(1)
        return logs

    def _update_discriminator(self, reals, fakes, inputs):
        update_spectral_norms(self.discriminator)
        reals, fakes = self._noisy(reals, 0, 0), self._noisy(fakes, 0, 1)
        with tf.GradientTape() as tape:
            real, fake = self._judge(reals, fakes)
            terms = {"loss/d": self._adversarial(real["logits"], fake["logits"])}
            with native.off():  # they are differentiated twice
                terms |= self._penalties(reals, fakes)
            terms |= self.discriminator_terms(real, fake, inputs)
            total = sum(terms.values())
        return terms | {
            "grad_norm/d": self._apply(tape, total, self.discriminator.trainable_variables, self.d_optimizer),
            "accuracy/real": tf.reduce_mean(tf.cast(real["logits"] > 0, tf.float32)),
            "accuracy/fake": tf.reduce_mean(tf.cast(fake["logits"] < 0, tf.float32)),
        }

    def _judge(self, reals, fakes):
        """The discriminator's outputs on real and on made images: in one pass, unless its layers mix the images of a batch."""
        if not self.one_batch:
            return self.discriminator(reals, training=True), self.discriminator(fakes, training=True)
        both = self.discriminator(tf.concat([reals, fakes], axis=0), training=True)
        return tuple({k: tf.split(v, 2)[half] for k, v in both.items()} for half in (0, 1))

    def _adversarial(self, real, fake):
        """The discriminator's own loss, with its labels softened and swapped as the config says."""
        settings, swapped_kimg = self.config.loss, self.config.train.flip_labels_kimg
        loss = getattr(losses, f"{settings.gan}_discriminator")
        if settings.label_real != 1:  # one-sided: Salimans et al. 2016 (arXiv 1606.03498), section 3.4
            loss = functools.partial(loss, label_real=settings.label_real)
        if swapped_kimg == 0:
            return loss(real, fake)
        # Source: Chintala et al. 2016, "How to train a GAN?" (github.com/soumith/ganhacks), points 2 and 6.
        return tf.where(self._kimg() < swapped_kimg, loss(fake, real), loss(real, fake))

    def _penalties(self, reals, fakes):
        def critic(images):
            return self.discriminator(images, training=True)["logits"]

        terms, settings = {}, self.config.loss
        if settings.gan == "wgan":
            mix = self._share(lambda n, seed: tf.random.stateless_uniform([n, 1, 1, 1], seed), reals.shape[0], -1)
            terms["loss/gradient_penalty"] = settings.lambda_gp * losses.gradient_penalty(critic, reals, fakes, mix)
        if settings.lambda_r1 > 0:
            terms["loss/r1"] = settings.lambda_r1 * losses.r1(critic, reals)
        return terms

    def _noisy(self, images, turn, which):
        """Images plus Gaussian noise that falls linearly to 0: `train.instance_noise`. `which` tells a turn's draws apart.

        Source: Sonderby et al. 2016 (arXiv 1610.04490), section 3; Arjovsky and Bottou 2017 (arXiv 1701.04862), section 3.
        """
        train = self.config.train
        if train.instance_noise == 0:
            return images
        deviation = train.instance_noise * tf.maximum(0.0, 1.0 - self._kimg() / train.instance_noise_kimg)
        shape = images.shape
        noise = self._share(lambda n, seed: tf.random.stateless_normal([n, *shape[1:]], seed), shape[0], 1000 + 3 * turn + which)
        return images + deviation * noise

    def _draw_share(self, n, turn):
        return self._share(self.draw, n, turn)

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
