"""The regressor that reads poses: trained on labelled renders, on their pixels or on their silhouettes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow_datasets as tfds

from holotf import data
from holotf.errors import UserError
from holotf.evaluators import networks, outlines
from holotf.evaluators.angles import wrap
from holotf.evaluators.networks import EPOCHS, SEED
from holotf.features import content_key

HELD_OUT = 500  # images
AMBIGUOUS_DEG = 90.0  # an error beyond it: front taken for back, or side for side
_ELEVATION_UNIT_DEG = 30.0  # brings elevations to the size of a cosine


class PoseRegressor:
    """Azimuth and elevation of an image, and how well it reads them.

    Args:
      network: images [N, H, W, 3] float32 in [-1, 1] -> [N, 3]: cos and sin of the azimuth, elevation / 30 degrees.
      held_out: what `judge_regressor` found on images it had not seen.
      elsewhere: the same on further splits, by name.
      ground: uint8 [3] where it reads silhouettes, None where it reads pixels.
    """

    def __init__(
        self,
        network: keras.Model,
        held_out: dict[str, float],
        elsewhere: dict[str, dict[str, float]],
        ground: np.ndarray | None = None,
    ):
        self.network, self.held_out, self.elsewhere, self.ground = network, held_out, elsewhere, ground

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [..., H, W, 3] -> (azimuth_deg, elevation_deg), float64 arrays [...]; azimuth in (-180, 180]."""
        if self.ground is not None:
            images = as_images(outlines.silhouettes(images, self.ground))
        found = networks.apply(self.network, images).astype(np.float64)
        return np.degrees(np.arctan2(found[..., 1], found[..., 0])), found[..., 2] * _ELEVATION_UNIT_DEG


def as_images(silhouettes: np.ndarray) -> np.ndarray:
    """Silhouettes bool [..., H, W] -> uint8 [..., H, W, 3], white on black."""
    return np.repeat(silhouettes[..., np.newaxis], 3, axis=-1).astype(np.uint8) * 255


def labelled(builder: tfds.core.DatasetBuilder, split: str, *labels: str, count: int = -1) -> tuple[np.ndarray, ...] | None:
    """All images of a data set, and what it says of each.

    Args:
      builder: the tfds data set.
      split: of it.
      *labels: names of features.
      count: how many, from the first; -1 for all.

    Returns:
      (uint8 [N, H, W, 3], an array [N] for each label, [N, K] for a list of classes), or None where the data set lacks one.
    """
    if not set(labels) <= set(builder.info.features):
        return None
    names = ("image", *labels)
    examples = builder.as_dataset(split, read_config=tfds.ReadConfig(try_autocache=False)).take(count)
    examples = list(tfds.as_numpy(examples.map(lambda example: data.of_example(builder, example, names))))
    return tuple(np.stack([e[name] for e in examples]) for name in names)


def turntables(builder: tfds.core.DatasetBuilder, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Real objects turning, which is what sweeps should be like.

    Args:
      builder: a tfds data set with features image, object and azimuth_deg, as `data_prep --turntable` makes it.
      split: of it.

    Returns:
      (uint8 [N, K, H, W, 3], azimuth_deg [K]) of N objects from K sides.

    Raises:
      UserError: no such features, or not every object from the same sides.
    """
    found = labelled(builder, split, "object", "azimuth_deg")
    if found is None:
        raise UserError(f"{builder.data_path} has no object and azimuth_deg: make it with data_prep's --turntable")
    order = np.lexsort(found[:0:-1])  # by object, then by azimuth
    images, objects, azimuth_deg = (values[order] for values in found)
    count = len(np.unique(objects))
    if len(images) % count or not np.array_equal(azimuth_deg, np.tile(azimuth_deg[: len(images) // count], count)):
        raise UserError(f"{builder.data_path} does not show every object from the same sides: make it with data_prep's --turntable")
    return images.reshape(count, -1, *images.shape[1:]), azimuth_deg[: len(images) // count].astype(np.float64)


def regressor(
    builder: tfds.core.DatasetBuilder,
    split: str,
    judged_on: Sequence[str],
    cache: str,
    ground: np.ndarray | None = None,
) -> PoseRegressor:
    """The pose regressor of a labelled data set: read from the cache, or trained (a minute or two) and put there.

    It is one for all runs, whatever their seed: figures of two runs then differ by what was made, not by who judged it.

    Args:
      builder: the tfds data set, with features image, azimuth_deg and elevation_deg.
      split: of it, to learn from.
      judged_on: names of the splits on which it is judged; where there is none, on 500 images kept from `split`.
      cache: folder.
      ground: uint8 [3], the colour behind all objects: it is then given silhouettes instead of pixels; None for pixels.

    Returns:
      A `PoseRegressor`; its `held_out` is of the first split that judges it, its `elsewhere` of the others.

    Raises:
      UserError: too few images.
    """
    names = [split, *judged_on]
    shards = data.shards(builder, *names)
    what = "pixels" if ground is None else f"silhouettes on {ground.tolist()} beyond {outlines.DIFFERS}"
    path = Path(cache) / f"{content_key('pose', shards, f'{names} {SEED} {EPOCHS} {what}')}.keras"

    def trained():
        images, *poses = labelled(builder, split, "azimuth_deg", "elevation_deg")
        if len(images) < 2 * HELD_OUT:
            raise UserError(f"{builder.data_path} has {len(images)} images: a pose regressor needs at least {2 * HELD_OUT}")
        print(f"training a pose regressor on {len(images)} images ({what.partition(' ')[0]})", flush=True)
        made = train(images, *poses, ground=ground, held_out=0 if judged_on else HELD_OUT)
        for name in judged_on:
            images, *poses = labelled(builder, name, "azimuth_deg", "elevation_deg")
            made.elsewhere[name] = judge_regressor(made, images, *poses)
        if judged_on:
            made.held_out = made.elsewhere.pop(judged_on[0])
        return made.network, {"held_out": made.held_out, "elsewhere": made.elsewhere}

    network, told = networks.kept(path, trained)
    return PoseRegressor(network, told["held_out"], told["elsewhere"], ground)


def train(
    images: np.ndarray,
    azimuth_deg: np.ndarray,
    elevation_deg: np.ndarray,
    epochs: int = EPOCHS,
    ground: np.ndarray | None = None,
    held_out: int = HELD_OUT,
) -> PoseRegressor:
    """Trains on all but the first `held_out` images (in a shuffled order) and judges on those, if there are any.

    Args:
      images: uint8 [N, H, W, 3].
      azimuth_deg, elevation_deg: [N].
      epochs: over the images.
      ground: as in `regressor`.
      held_out: how many images are not learnt from.
    """
    order = np.random.default_rng(SEED).permutation(len(images))
    images, azimuth_deg, elevation_deg = images[order], azimuth_deg[order], elevation_deg[order]
    radians = np.radians(azimuth_deg)
    targets = np.stack([np.cos(radians), np.sin(radians), elevation_deg / _ELEVATION_UNIT_DEG], 1).astype(np.float32)
    given = images if ground is None else as_images(outlines.silhouettes(images, ground))
    made = PoseRegressor(networks.train(given[held_out:], targets[held_out:], "mse", epochs), {}, {}, ground)
    if held_out:
        made.held_out = judge_regressor(made, images[:held_out], azimuth_deg[:held_out], elevation_deg[:held_out])
    return made


def judge_regressor(
    read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    images: np.ndarray,
    azimuth_deg: np.ndarray,
    elevation_deg: np.ndarray,
) -> dict[str, float]:
    """What the regressor can tell of images it has not seen.

    Returns:
      Dict: azimuth_mae_deg, elevation_mae_deg, and ambiguous_share, the share of azimuths it misses by more than 90 degrees
      (a front taken for a back: the objects' symmetry, or the regressor's weakness).
    """
    azimuth, elevation = read(images)
    error = np.abs(wrap(azimuth - azimuth_deg))
    return {
        "azimuth_mae_deg": float(error.mean()),
        "elevation_mae_deg": float(np.abs(elevation - elevation_deg).mean()),
        "ambiguous_share": float(np.mean(error > AMBIGUOUS_DEG)),
    }
