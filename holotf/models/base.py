"""What a model is: a `Learner` can be trained, a `Generative` one makes images, a `Turnable` one makes them from any view.

Beside these: a `Volumetric` one makes a volume first, and a `Perceptive` one looks at images through convolutions.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import data, optimizers, views
from holotf.errors import UserError, require
from holotf.layers.spectral import update_spectral_norms
from holotf.pictures import SHEET_COLUMNS, grid
from holotf.servable import endpoint, serve

SAMPLES = 1024  # that an export gives at a time: more would ask for gigabytes


def make_weights(network: keras.Model, *shapes: Sequence[int | None]) -> None:
    """Traces the network, which makes its weights without computing (or compiling) anything. As a `tf.function` it would twice."""
    with tf.__internal__.FuncGraph("weights").as_default():
        network(*(tf.compat.v1.placeholder(tf.float32, shape) for shape in shapes))
    update_spectral_norms(network)  # the trace only noted their first iteration


def to_float(images: tf.Tensor) -> tf.Tensor:
    """uint8 in [0, 255] -> float32 in [-1, 1]."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    """float32 in [-1, 1] -> uint8 in [0, 255]."""
    return tf.cast(tf.round((images + 1.0) * 127.5), tf.uint8)


class Learner(keras.Model):
    """What the training loop and the run folder need of a model: its progress, its seeds and its updates. It knows no images.

    Randomness is stateless: what is drawn depends on (seed, iteration, index in the global batch) alone, so a run on N replicas
    draws what a run on one does, and a resumed run what an uninterrupted one does.

    A subclass names its PARTS and its FEATURES, and has `train_step`, `learning_rates` and `servable`.

    Args:
      config: the whole experiment (configs/base.py).

    Raises:
      UserError: a number in `config.train` that makes no sense.
    """

    PARTS = ()  # attributes that a checkpoint holds, each with `variables`
    FEATURES = ("image",)  # of the data that a batch holds; with several data sets side by side, {source: features}
    JUDGED = None  # of several data sets, the one that it is judged on
    loaded: frozenset[int] | None = None  # of an export: ids of the variables that were in it; None: all are what they are to be

    def __init__(self, config: ConfigDict):
        super().__init__(autocast=False)
        train = config.train
        for name in ("kimg", "log_kimg", "sample_kimg", "checkpoint_kimg"):
            require(0 < train[name] < math.inf, f"train.{name}", train[name], "a positive number")
        for name in ("batch_size", "keep_checkpoints"):
            require(train[name] >= 1, f"train.{name}", train[name], "a positive number")
        self.config = config
        self.iteration = self.add_weight(
            name="iteration", shape=(), dtype="int64", initializer="zeros", trainable=False, aggregation="only_first_replica"
        )

    @property
    def iterations(self) -> int:
        """Iterations of the whole run: of `train.batch_size` images each, until `train.kimg` thousand were shown."""
        return math.ceil(self.config.train.kimg * 1000 / self.config.train.batch_size)

    def step_options(self, iteration: int) -> dict:
        """Further arguments of `train_step` in an iteration, counted from 0: Python values, each of them a trace."""
        return {}

    def augment(self, batch: dict) -> dict:
        """The batch that `train_step` is given, of the one that was read: the loop calls it, in the same replica.

        It is not compiled with the step, since XLA knows no resampling of images.
        """
        return batch

    def train_step(self, batch: dict) -> dict:
        """One iteration.

        Args:
          batch: this replica's share of the global batch: {feature: tensor}, or {source: {feature: tensor}}.

        Returns:
          Dict of float32 scalars by path (`loss/d`, `grad_norm/g`, ...), means over this replica's share.
        """
        raise NotImplementedError

    def learning_rates(self) -> dict:
        """The rates now: {player: float}."""
        raise NotImplementedError

    def servable(self) -> tuple[tf.Module, dict]:
        """(module, signatures) to export."""
        raise NotImplementedError

    def meanings(self) -> dict[str, dict]:
        """What the card says of an endpoint's input or output, by name: `range`, `unit`, `meaning`, `accepts`; a subclass adds."""
        return {"images": {"range": [0, 255], "meaning": "RGB, rows from the top"}}

    def pictures(self, batch: dict) -> dict:
        """What TensorBoard shows of a model in training: {name: uint8 [H, W, 3] array}."""
        return {}

    def _optimizer(self, player: str, rate: str, total: int, variables) -> keras.optimizers.Optimizer:
        """That of one player; `rate` is the key of its learning rate in `config.optim`, `total` the run's updates."""
        optim = self.config.optim
        epochs = self._epochs() if optim.decay_epochs > 0 else math.inf
        return optimizers.build(optim, rate, total, variables, f"{player}_{optim.optimizer}", epochs)

    def _epochs(self):
        """How often the run goes through its data."""
        try:
            source = data.open_sources(self.config.data, whole=False)
            if isinstance(source, dict):
                raise UserError("several data sets have no one epoch")
        except UserError as error:
            raise UserError(f"optim.decay_epochs={self.config.optim.decay_epochs:g}: {error}; or use 0 and decay_from") from error
        return self.iterations * self.config.train.batch_size / source.count

    def _apply(self, tape, loss, variables, optimizer):
        """One update of what the loss reaches. Keras sums gradients over replicas, hence the division: the loss is their mean."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        gradients = tape.gradient(loss, [v.value for v in variables])
        reached = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        optimizer.apply([g / replicas if replicas > 1 else g for g, _ in reached], [v for _, v in reached])
        return tf.linalg.global_norm(gradients)

    def _kimg(self):
        """Thousands of real images taken before this iteration, a float32 scalar."""
        return tf.cast(self.iteration.value * self.config.train.batch_size, tf.float32) / 1000.0

    def _share(self, draw, n: int, turn: int):
        """This replica's `n` rows of what is drawn for the global batch; `turn` tells an iteration's draws apart."""
        context = tf.distribute.get_replica_context()
        replicas, index = context.num_replicas_in_sync, context.replica_id_in_sync_group
        seed = tf.random.fold_in(tf.random.fold_in([self.config.seed, 0], self.iteration.value), turn + 1)
        rows = slice(None) if replicas == 1 else slice(index * n, (index + 1) * n)
        return tf.nest.map_structure(lambda t: tf.ensure_shape(t[rows], [n, *t.shape[1:]]), draw(replicas * n, seed))


class Perceptive(Learner):
    """A model that looks at images through convolutions, whose features can be probed and traced back to the pixels.

    A subclass has `stages`, names in EYES the network that they are of, and has `readings` where it makes more of an image.
    """

    EYES = "discriminator"
    RECTIFIED = True  # whether each stage ends with its ReLU, leaky or not

    @property
    def blind(self) -> str | None:
        """Why it cannot look at images, or None: it was loaded from an export that has not all of the network that does."""
        if self.loaded is None or all(id(v.value) in self.loaded for v in getattr(self, self.EYES).variables):
            return None
        return f"this {self.config.model.name} is an export, which has not all of its {self.EYES}: give the folder of the run"

    def stages(self) -> Sequence[Callable[[tf.Tensor], tf.Tensor]]:
        """The convolutions with what follows each, as they are when nothing is learnt, one function a level.

        The first takes images [B, H, W, 3] float32 in [-1, 1], each further one what the one before gave: [B, h, w, c].
        """
        raise NotImplementedError

    def readings(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """What else the model makes of images: uint8 [B, H, W, 3] -> {name: float32 [B, ..., C]}; a latent is called `latent`."""
        return {}

    def levels(self, images: tf.Tensor) -> list[tf.Tensor]:
        """The features of each level: uint8 [B, H, W, 3] -> float32 [B, h, w, c] each."""
        x, found = to_float(images), []
        for stage in self.stages():
            x = stage(x)
            found.append(tf.cast(x, tf.float32))
        return found


class Generative(Learner):
    """A model that makes images: of what it draws, or of what it is given.

    A subclass has `draw` and `images`, and tells what is served by `served_variables`.
    """

    def draw(self, n: int, seed: tf.Tensor | Sequence[int]) -> tuple:
        """The inputs of `n` images: a tuple of tensors whose first axis is n, the latent first. `seed` is [2] int32."""
        raise NotImplementedError

    def images(self, *inputs: tf.Tensor) -> tf.Tensor:
        """What `draw` gives -> uint8 [B, H, W, 3]."""
        raise NotImplementedError

    def served_variables(self) -> Sequence[keras.Variable]:
        """The Keras variables that `images` reads."""
        raise NotImplementedError

    @tf.function(autograph=False)
    def sample(self, *inputs: tf.Tensor) -> tf.Tensor:
        """`images`, as a graph of its own."""
        return self.images(*inputs)

    def latents(self, seeds: Iterable[int]) -> tf.Tensor:
        """The latent of each seed: [len(seeds), Z], each a function of its seed alone."""
        return tf.stack([self.draw(1, [seed, 0])[0][0] for seed in seeds])

    def resting(self, n: int) -> tuple:
        """What `images` takes beside the latent, at rest: a tuple of tensors whose first axis is n."""
        return ()

    def interpolate(self, latents: tf.Tensor, steps: int) -> np.ndarray:
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

    def pictures(self, batch: dict) -> dict:
        """`samples`: on the left fresh ones, and beside them those of the batch."""
        side = math.isqrt(len(batch["image"]))
        fresh = self.sample(*self.draw(side * side, [int(self.iteration.numpy()) % 2**31, 0])).numpy()
        halves = [t[: side * side].reshape(side, side, *t.shape[1:]) for t in (fresh, batch["image"].numpy())]
        return {"samples": np.concatenate([grid(half) for half in halves], axis=1)}

    def servable(self) -> tuple[tf.Module, dict]:
        """(module, signatures) to export: `endpoints`; `generate` is the default where there is one, otherwise `sample`."""
        endpoints = self.endpoints()
        return serve(self.served_variables(), "generate" if "generate" in endpoints else "sample", endpoints)

    def endpoints(self) -> dict:
        """{name: function made by `endpoint`}: `latents`, `sample`; `generate` where a latent alone is fed; a subclass adds."""
        latent, *more = self.draw(1, [0, 0])

        def latents(seed):
            seeds, kind = tf.cast(seed, tf.int32), tf.TensorSpec(latent.shape[1:], latent.dtype)
            return {"z": tf.map_fn(lambda s: self.draw(1, tf.stack([s, 0]))[0][0], seeds, fn_output_signature=kind)}

        def sample(seed, n):
            return {"images": self.images(*self.draw(n, tf.stack([seed, 0])))}

        found = {
            "latents": endpoint(latents, {"seed": (0, 2**31 - 1)}, seed=([None], tf.int64)),
            "sample": endpoint(sample, {"n": (1, SAMPLES)}, seed=([], tf.int64), n=([], tf.int32)),
        }
        if not more:
            generate = endpoint(lambda z: {"images": self.images(z)}, z=([None, *latent.shape[1:]], tf.float32))
            found["generate"] = generate
        return found

    def meanings(self) -> dict[str, dict]:
        """Of latents, and of what they are drawn by."""
        return super().meanings() | {
            "z": {"meaning": "latent: see `latent`"},
            "seed": {"range": [0, 2**31 - 1], "meaning": "the same seed, and n where there is one, give the same"},
            "n": {"range": [1, SAMPLES], "meaning": "how many images"},
        }


class Turnable(Generative):
    """A model whose images are made of (latents, views): objects that can be looked at from all sides.

    The views are rows of `holotf.views.COLUMNS`; `config.views` has their ranges.

    Args:
      config: the whole experiment (configs/base.py).

    Raises:
      UserError: a range of views that is none.
    """

    def __init__(self, config: ConfigDict, *arguments):
        views.check(config.views)
        super().__init__(config, *arguments)

    @property
    def turns_fully(self) -> bool:
        """Whether the azimuths the model was trained on close a circle."""
        return views.closes_circle(self.config.views)

    def resting(self, n: int) -> tuple:
        """The view from the middle of the ranges: ([n, 6],)."""
        return (views.resting(self.config.views, n),)

    def sweep(self, latents: tf.Tensor, name: str, steps: int, **columns: float) -> np.ndarray:
        """Each object while one property of the view runs through its range and the others rest.

        Args:
          latents: [N, Z].
          name: "azimuth_deg", "elevation_deg" or "scale". A range that is a constant is widened, by 15 degrees or 20 %.
          steps: how many values.
          **columns: other values than the middle of the ranges, by column of the view: `elevation_deg=0.0` looks level.

        Returns:
          uint8 [N, steps, H, W, 3] array.
        """
        asked = views.sweep(self.config.views, name, steps, **columns)
        return np.stack([self.sample(z[None], asked).numpy() for z in latents])

    def pictures(self, batch: dict) -> dict:
        """`samples`, and `sweep/azimuth_deg` and `sweep/elevation_deg` of eight objects, one a row."""
        latents = self.latents(range(8))
        names = ("azimuth_deg", "elevation_deg")
        return super().pictures(batch) | {f"sweep/{name}": grid(self.sweep(latents, name, SHEET_COLUMNS)) for name in names}

    def meanings(self) -> dict[str, dict]:
        """And of the parts of a view."""
        return super().meanings() | views.meanings(self.config.views)


class Volumetric(Turnable):
    """A model that makes a volume of features for each latent, and its images of the volume.

    A subclass has `volume` and `rendered`; one whose renderer composites says so (`has_density`), and has `absorption` and `look`.
    """

    has_density = False

    def volume(self, z: tf.Tensor) -> tf.Tensor:
        """The objects, before any turn: [N, Z] -> [N, D, H, W, C] float32."""
        raise NotImplementedError

    def rendered(self, volume: tf.Tensor, z: tf.Tensor, asked: tf.Tensor) -> tf.Tensor:
        """What `images` makes of the volumes of these latents, or of others: [N, D, H, W, C], [N, Z], [B, 6] -> uint8 [B, H, W, 3].

        Each volume is seen B / N times, one object after the other.
        """
        raise NotImplementedError

    def absorption(self, volume: tf.Tensor) -> tf.Tensor:
        """What each voxel absorbs, in nats: [N, D, H, W, C] -> [N, D, H, W] >= 0."""
        raise NotImplementedError

    def look(self, volume: tf.Tensor, asked: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """How near the objects are, and how opaque: [N, D, H, W, C], views [B, 6] -> float32 [B, h, w] twice.

        The one from -1 (nothing there, or the far face of the volume) to 1 (its near face), the other from 0 to 1. Each volume is
        seen B / N times, as in `rendered`.
        """
        raise NotImplementedError

    def meanings(self) -> dict[str, dict]:
        """And of a volume, and of what is read off it."""
        order = "slices from the near one, rows from the top, columns from the left"
        return super().meanings() | {
            "volume": {"meaning": f"an object before any turn: {order}, features"},
            "depth": {"range": [-1.0, 1.0], "meaning": "1 at the volume's near face, -1 at its far one or where nothing is"},
            "opacity": {"range": [0.0, 1.0], "meaning": "share of the light that the object keeps from the ground behind it"},
            "density": {"range": [0.0, None], "unit": "nats", "meaning": f"what each voxel absorbs: {order}"},
        }
