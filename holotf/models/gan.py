"""The alternating step that every GAN shares."""

import functools
import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import diff_augment, losses
from holotf.errors import UserError, require
from holotf.layers.spectral import update_spectral_norms
from holotf.models.base import Generative, to_float, to_uint8


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


class GAN(Generative):
    """A generator and a discriminator that take turns.

    A subclass makes the two networks, says what the generator is fed (`draw`) and which terms join the two losses
    (`discriminator_terms`, `generator_terms`). Where images come with a condition, such as a label, it says what the discriminator
    is told of it beside real images and beside made ones (`condition_of_real`, `condition_of_made`), and may have it refuse more
    than made images (`to_refuse`).

    Args:
      config: the whole experiment (configs/base.py).
      make_generator, make_discriminator: functions without arguments that make built networks. The generator's call takes
        what `draw` returns and gives images [B, H, W, 3] float32 in [-1, 1]; the discriminator takes these, and the condition
        where there is one, and gives a dict with "logits" [B] float32. Both are called with training=True in a step, where
        their `call` has such an argument.

    Raises:
      UserError: a value that makes no sense.
    """

    PARTS = ("generator", "ema_generator", "discriminator", "d_optimizer", "g_optimizer")  # what a checkpoint holds
    one_batch = True  # whether D may see real and made images in one batch; not where its layers mix images

    def __init__(
        self, config: ConfigDict, make_generator: Callable[[], keras.Model], make_discriminator: Callable[[], keras.Model]
    ):
        super().__init__(config)
        loss, train = config.loss, config.train
        require(loss.gan in losses.PAIRS, "loss.gan", loss.gan, ", ".join(losses.PAIRS))
        if not 0 < loss.label_real <= 1 or (loss.label_real != 1 and loss.gan not in ("bce", "lsgan")):
            raise UserError(f"loss.label_real={loss.label_real:g} with loss.gan={loss.gan}: use 1, or above 0 with bce or lsgan")
        for name in ("lambda_r1", "lambda_gp"):
            require(0 <= loss[name] < math.inf, f"loss.{name}", loss[name], "0 (off) or a positive number")
        for name in ("g_steps", "penalty_every"):
            require(train[name] >= 1, f"train.{name}", train[name], "a positive number")
        for name in ("flip_labels_kimg", "instance_noise", "instance_noise_kimg"):
            require(0 <= train[name] < math.inf, f"train.{name}", train[name], "0 (off) or a positive number")
        if train.instance_noise > 0 and train.instance_noise_kimg == 0:
            raise UserError("train.instance_noise_kimg=0: use the thousands of images over which train.instance_noise falls to 0")
        diff_augment.check(train.diff_augment)
        require(0 <= config.model.ema_decay < 1, "model.ema_decay", config.model.ema_decay, "0 (no average) to below 1")
        _check_schedule(train.d_steps)
        self.generator, self.ema_generator = make_generator(), make_generator()
        self.ema_generator.trainable = False
        self.ema_generator.set_weights(self.generator.get_weights())
        self.discriminator = make_discriminator()
        self._phases = [(math.ceil(1000 * start / train.batch_size), updates) for start, updates in train.d_steps]
        ends = [min(first, self.iterations) for first, _ in [*self._phases[1:], (self.iterations, 1)]]
        turns = sum(max(0, end // n - first // n) for (first, n), end in zip(self._phases, ends, strict=True))
        self.d_optimizer = self._optimizer("d", "d_lr", self.iterations, self.discriminator.trainable_variables)
        self.g_optimizer = self._optimizer("g", "g_lr", turns * train.g_steps, self.generator.trainable_variables)

    def step_options(self, iteration: int) -> dict[str, bool]:
        """Whether the generator plays, and whether the discriminator pays its penalties where it has any.

        The generator plays in the last of as many iterations as `train.d_steps` says of this time: Arjovsky et al. 2017 (arXiv
        1701.07875) train the critic "till optimality". Penalties are taken every `train.penalty_every` iterations.
        """
        updates = next(n for first, n in reversed(self._phases) if iteration >= first)
        options, every = {"play": (iteration + 1) % updates == 0}, self.config.train.penalty_every
        return options | ({"penalise": iteration % every == 0} if every > 1 and self._is_penalised() else {})

    def learning_rates(self) -> dict[str, float]:
        """The rates now: {"d": float, "g": float}."""
        return {k: float(optimizer.learning_rate) for k, optimizer in (("d", self.d_optimizer), ("g", self.g_optimizer))}

    def images(self, *inputs: tf.Tensor) -> tf.Tensor:
        """Images of the averaged generator: its inputs -> uint8 [B, H, W, 3]."""
        return to_uint8(self.ema_generator(*inputs))

    def served_variables(self) -> Sequence[keras.Variable]:
        """Those of the averaged generator."""
        return self.ema_generator.variables

    def draw_to_train(self, n: int, seed: tf.Tensor | Sequence[int]) -> tuple:
        """What the generator is fed in training: `draw`, unless weights that are trained have a part in it."""
        return self.draw(n, seed)

    def inputs_to_train(self, batch: dict[str, tf.Tensor], turn: int) -> tuple[tf.Tensor, ...]:
        """This replica's share of `draw_to_train` in a turn, as many as the batch has images."""
        return self._share(self.draw_to_train, batch["image"].shape[0], turn)

    def images_to_train(self, *inputs: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The generator's images of what `inputs_to_train` gave, and what else of them `generator_terms` is to know, by name."""
        return self.generator(*inputs, training=True), {}

    def condition_of_real(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """What the discriminator is told beside the real images of a batch: a tuple of tensors whose first axis is B."""
        return ()

    def condition_of_made(self, inputs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """What it is told beside the images made of `inputs`, which `draw` gave."""
        return ()

    def to_refuse(
        self, reals: tf.Tensor, condition: tuple[tf.Tensor, ...], real: dict[str, tf.Tensor], fake: dict[str, tf.Tensor]
    ) -> tf.Tensor:
        """The logits that the discriminator is to make those of made images: [N], a mean over all of which its loss has.

        `real` and `fake` are its outputs on both, `condition` what it is told beside real ones.
        """
        return fake["logits"]

    def discriminator_terms(
        self, real: dict[str, tf.Tensor], fake: dict[str, tf.Tensor], inputs: tuple[tf.Tensor, ...]
    ) -> dict[str, tf.Tensor]:
        """Further losses of the discriminator: a dict of scalars. `real` and `fake` are its outputs on both halves."""
        return {}

    def generator_terms(self, fake: dict[str, tf.Tensor], inputs: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """Further losses of the generator: a dict of scalars.

        `fake` is the discriminator's output on its images, and what `images_to_train` says of them.
        """
        return {}

    @tf.autograph.experimental.do_not_convert  # no tensor decides a branch here, and conversion only slows the trace
    def train_step(self, batch: dict[str, tf.Tensor], play: bool = True, penalise: bool = True) -> dict[str, tf.Tensor]:
        """One iteration: a discriminator update and, where the generator plays, `g_steps` updates of its own.

        Every update has draws of its own, but for the first generator update, which goes on with the images of the
        discriminator update: the generator has not changed since, so they are those it would make again.

        Args:
          batch: {"image": uint8 [B, H, W, 3], ...}, this replica's share of the global batch.
          play: whether the generator plays.
          penalise: whether the discriminator's loss has its gradient penalties, if any.

        Returns:
          Dict of float32 scalars by path (`loss/d`, `grad_norm/g`, ...), means over this replica's share.
        """
        reals, logs = to_float(batch["image"]), {}
        for turn in range(self.config.train.g_steps if play else 1):
            with tf.GradientTape() as tape:
                inputs = self.inputs_to_train(batch, turn)
                fakes, said = self.images_to_train(*inputs)
                if turn == 0:
                    with tape.stop_recording():
                        logs |= self._update_discriminator(reals, self.condition_of_real(batch), fakes, inputs, penalise)
                if not play:
                    continue
                fake = self.discriminator(self._shown(fakes, turn, 2), *self.condition_of_made(inputs), training=True) | said
                adversarial = losses.PAIRS[self.config.loss.gan][1](fake["logits"])
                terms = {"loss/g": adversarial} | self.generator_terms(fake, inputs)
                total = sum(terms.values())
            logs |= terms | {"grad_norm/g": self._apply(tape, total, self.generator.trainable_variables, self.g_optimizer)}
            self._update_ema()
        self.iteration.assign_add(1)
        return logs

    def _update_discriminator(self, reals, condition, fakes, inputs, penalise):
        update_spectral_norms(self.discriminator)
        reals, fakes = self._shown(reals, 0, 0), self._shown(fakes, 0, 1)
        with tf.GradientTape() as tape:
            real, fake = self._judge((reals, *condition), (fakes, *self.condition_of_made(inputs)))
            terms = {"loss/d": self._adversarial(real["logits"], self.to_refuse(reals, condition, real, fake))}
            terms |= self._penalties(reals, condition, fakes) if penalise else {}
            terms |= self.discriminator_terms(real, fake, inputs)
            total = sum(terms.values())
        terms |= losses.accuracies(self.config.loss.gan, real["logits"], fake["logits"], self.config.loss.label_real)
        return terms | {"grad_norm/d": self._apply(tape, total, self.discriminator.trainable_variables, self.d_optimizer)}

    def _judge(self, reals, fakes):
        """The discriminator's outputs on real and on made images, each with their condition.

        In one pass, unless its layers mix the images of a batch.
        """
        if not self.one_batch:
            return self.discriminator(*reals, training=True), self.discriminator(*fakes, training=True)
        both = self.discriminator(*(tf.concat(pair, axis=0) for pair in zip(reals, fakes, strict=True)), training=True)
        return tuple({k: tf.split(v, 2)[half] for k, v in both.items()} for half in (0, 1))

    def _adversarial(self, real, fake):
        """The discriminator's own loss, with its labels softened and swapped as the config says."""
        settings, swapped_kimg = self.config.loss, self.config.train.flip_labels_kimg
        loss = losses.PAIRS[settings.gan][0]
        if settings.label_real != 1:  # one-sided: Salimans et al. 2016 (arXiv 1606.03498), section 3.4
            loss = functools.partial(loss, label_real=settings.label_real)
        if swapped_kimg == 0:
            return loss(real, fake)
        # Source: Chintala et al. 2016, "How to train a GAN?" (github.com/soumith/ganhacks), points 2 and 6.
        return tf.where(self._kimg() < swapped_kimg, loss(fake, real), loss(real, fake))

    def _is_penalised(self):
        settings = self.config.loss
        return settings.gan == "wgan" or settings.gradient_penalty or settings.lambda_r1 > 0

    def _penalties(self, reals, condition, fakes):
        """Gradient penalties, each weighed by how seldom it is taken: "lazy regularization".

        Source: Karras et al. 2020 (arXiv 1912.04958), section 3.1, but for the change of Adam's rates that goes with it there.
        """

        def critic(images):
            return self.discriminator(images, *condition, training=True)["logits"]

        terms, settings, every = {}, self.config.loss, self.config.train.penalty_every
        if settings.gan == "wgan" or settings.gradient_penalty:
            mix = self._share(lambda n, seed: tf.random.stateless_uniform([n, 1, 1, 1], seed), reals.shape[0], -1)
            terms["loss/gradient_penalty"] = every * settings.lambda_gp * losses.gradient_penalty(critic, reals, fakes, mix)
        if settings.lambda_r1 > 0:
            terms["loss/r1"] = every * settings.lambda_r1 * losses.r1(critic, reals)
        return terms

    def _shown(self, images, turn, which):
        """Images as the discriminator is shown them: augmented, and with noise. `which` tells a turn's draws apart."""
        count, size, _, _ = images.shape
        if policy := self.config.train.diff_augment:
            drawn = self._share(lambda n, seed: diff_augment.draw(policy, n, size, seed), count, 2000 + 3 * turn + which)
            images = diff_augment.apply(images, drawn)
        return self._noisy(images, turn, which)

    def _noisy(self, images, turn, which):
        """Images plus Gaussian noise that falls linearly to 0: `train.instance_noise`.

        Source: Sonderby et al. 2016 (arXiv 1610.04490), section 3; Arjovsky and Bottou 2017 (arXiv 1701.04862), section 3.
        """
        train = self.config.train
        if train.instance_noise == 0:
            return images
        deviation = train.instance_noise * tf.maximum(0.0, 1.0 - self._kimg() / train.instance_noise_kimg)
        shape = images.shape
        noise = self._share(lambda n, seed: tf.random.stateless_normal([n, *shape[1:]], seed), shape[0], 1000 + 3 * turn + which)
        return images + deviation * noise

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
