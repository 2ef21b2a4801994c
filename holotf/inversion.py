"""Which object is in this photograph, seen from where? A latent and a view, found by descending through the generator."""

import dataclasses
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from holotf import console, files, images, views
from holotf.errors import UserError
from holotf.models.base import Learner, Perceptive, Turnable, to_float, to_uint8
from holotf.models.gan import GAN
from holotf.pictures import SHEET_COLUMNS, sheet_and_film

STARTS = 16  # azimuths at which the descent begins, in equal steps
KEPT = 4  # of them, those of least loss, which go on after a third of the steps
STEPS = 150  # of Adam
RATE = 0.05
FEATURES = 0.1  # weight of the discriminator's features beside that of the pixels
_TURN_DEG = 60.0  # azimuth by which a unit of what is trained turns


@dataclasses.dataclass(frozen=True)
class Found:
    """What a photograph was explained by.

    Attributes:
      latent: float32 [Z].
      view: float32 [6], columns as in `holotf.views`.
      image: uint8 [H, W, 3], what the generator makes of them.
      error: root mean square difference to the photograph, of pixels in [0, 255].
    """

    latent: np.ndarray
    view: np.ndarray
    image: np.ndarray
    error: float


def invert(model: Turnable, photo: np.ndarray, steps: int = STEPS) -> Found:
    """The latent and the view whose image is most like a photograph, in pixels and in what the discriminator sees.

    The latent starts as the discriminator reads it, at `STARTS` azimuths all round their range; all starts are one batch. After a
    third of the steps those of least loss go on. Source: Zhu et al. 2016 (arXiv 1609.03552), section 3.1, who start likewise.

    Args:
      model: a `Turnable` GAN whose discriminator is `Perceptive` and reads latents, such as HoloGAN.
      photo: uint8 [H, W, 3], of the model's size.
      steps: of Adam.

    Returns:
      What was found.

    Raises:
      UserError: the model is none that can be descended through.
    """
    if reason := impossible(model):
        raise UserError(reason)
    ranges, target = model.config.views, tf.constant(photo[np.newaxis])
    latent = np.clip(model.readings(target)["latent"].numpy(), -0.95, 0.95)
    begin = starts(ranges, STARTS)
    trained = [tf.Variable(np.arctanh(latent).repeat(STARTS, 0)), tf.Variable(tf.zeros_like(begin))]
    seen = pyramid(to_float(target)), [tf.cast(level, tf.float32) for level in model.levels(target)]
    done = steps // 3
    with console.progress(total=steps, unit=" steps") as bar:
        losses = _descend(model, seen, begin, trained, done, bar)
        best = np.argsort(losses)[:KEPT]
        begin, trained = begin[best], [tf.Variable(v.numpy()[best]) for v in trained]
        _descend(model, seen, begin, trained, steps - done, bar)
    z, asked = tf.tanh(trained[0]), placed(ranges, begin, trained[1])
    made = to_uint8(model.ema_generator(z, asked)).numpy()
    errors = np.sqrt(np.mean((made.astype(np.float64) - photo) ** 2, axis=(1, 2, 3)))
    i = int(np.argmin(errors))
    return Found(z[i].numpy(), asked[i].numpy(), made[i], float(errors[i]))


def impossible(model: Learner) -> str | None:
    """Why nothing can be found again in a model, or None: it takes a GAN that turns, and its discriminator, which reads latents."""
    name = model.config.model.name
    if not (isinstance(model, Turnable) and isinstance(model, Perceptive) and isinstance(model, GAN)):
        return f"model.name={name!r} reads no latents off images: only a model such as hologan turns them"
    return model.blind


def turned(model: Turnable, path: str, frames: int, folder: str, steps: int = STEPS) -> list[str]:
    """Finds a photograph's object and writes it, turned: NAME_turned.png, .gif and .mp4, and NAME_turned.json.

    The sheet shows the photograph, what was found, and the object from all sides; the film turns it; the JSON has `latent`,
    `view` by column (degrees, half volumes) and `rmse`, of pixels in [0, 255].

    Args:
      model: as `invert` takes it.
      path: of the photograph, which is cropped to its central square.
      frames: of the film.
      folder: where the files go; made if missing.
      steps: as `invert` takes them.

    Returns:
      The paths.

    Raises:
      UserError: no image lies there; as `invert`.
    """
    try:
        photo = images.prepare(images.open_image(Path(path).read_bytes()), model.config.model.image_size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"generate.image={path!r} cannot be read as an image: {error}") from None
    found, name = invert(model, photo, steps), f"{Path(path).stem}_turned"
    rest = {column: float(found.view[views.COLUMNS.index(column)]) for column in views.COLUMNS[1:]}
    sweep = model.sweep(found.latent[np.newaxis], "azimuth_deg", frames, **rest)
    film = sweep if model.turns_fully else np.concatenate([sweep, sweep[:, ::-1]], axis=1)  # there and back
    os.makedirs(folder, exist_ok=True)
    told = {
        "latent": found.latent.tolist(),
        "view": dict(zip(views.COLUMNS, map(float, found.view), strict=True)),
        "rmse": found.error,
    }
    files.write_json(os.path.join(folder, f"{name}.json"), told)
    shown = np.linspace(0, frames, min(SHEET_COLUMNS - 2, frames), endpoint=False).astype(int)
    sheet = np.concatenate([photo[np.newaxis], found.image[np.newaxis], sweep[0, shown]])[np.newaxis]
    return [*sheet_and_film(folder, name, sheet, film), os.path.join(folder, f"{name}.json")]


def starts(ranges: dict, count: int) -> np.ndarray:
    """Views whose azimuths stand in equal steps all round their range, all else at rest: float32 [count, 6]."""
    return views.sweep(ranges, "azimuth_deg", count).numpy()


def placed(ranges: dict, begin: np.ndarray, moved: tf.Tensor) -> tf.Tensor:
    """Views so far from where they began, and within their ranges; an azimuth that goes all the way round goes on.

    Args:
      ranges: `config.views`.
      begin: [K, 6], within the ranges.
      moved: [K, 6], 0 for where they began; a unit is 60 degrees of azimuth, or half the range of the others.

    Returns:
      [K, 6].
    """
    columns = []
    for i, name in enumerate(views.COLUMNS):
        low, high = ranges[name]
        if name == "azimuth_deg":
            azimuth = begin[:, i] + _TURN_DEG * moved[:, i]
            columns.append(azimuth if views.closes_circle(ranges) else tf.clip_by_value(azimuth, low, high))
        else:
            columns.append(tf.clip_by_value(begin[:, i] + (high - low) / 2 * moved[:, i], low, high))
    # Not tf.stack: TensorFlow 2.21's optimiser takes a slice with new axes of what was stacked for the column itself.
    return tf.concat([column[:, tf.newaxis] for column in columns], axis=1)


def pyramid(x: tf.Tensor) -> list[tf.Tensor]:
    """Images [B, H, W, 3] as they are, and averaged over squares of 2 and of 4 pixels."""
    return [x, *(tf.nn.avg_pool2d(x, size, size, "VALID") for size in (2, 4))]


def _descend(model, seen, begin, trained, steps, bar):
    """Moves what is trained; the last losses [K]."""
    optimizer, ranges = keras.optimizers.Adam(RATE), model.config.views
    pixels, levels = seen

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            x = model.ema_generator(tf.tanh(trained[0]), placed(ranges, begin, trained[1]))
            losses = sum(_apart(made, real) for made, real in zip(pyramid(x), pixels, strict=True)) / len(pixels)
            for stage, real in zip(model.stages(), levels, strict=True):
                x = stage(x)
                losses += FEATURES * _apart(tf.cast(x, tf.float32), real) / tf.reduce_mean(tf.square(real))
            total = tf.reduce_sum(losses)
        return losses, tape.gradient(total, trained)

    losses = np.zeros(len(begin))
    for _ in range(steps):
        losses, gradients = step()
        optimizer.apply(gradients, trained)
        bar.update()
    return np.asarray(losses)


def _apart(made, real):
    """Mean square differences to one target: [K, ...], [1, ...] -> [K]."""
    return tf.reduce_mean(tf.square(made - real), axis=list(range(1, len(made.shape))))
