"""What does a volume hold? Its slices, what they absorb, and which channels carry which part of the object."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from holotf import console
from holotf.evaluators import Evaluator
from holotf.models.base import Volumetric
from holotf.pictures import SHEET_COLUMNS, captioned

OBJECTS = 16  # over which a channel's weight is averaged
SHOWN = 4  # of them


class Look(Evaluator):
    """`volume/half_channels`: of how many channels half of what is seen is made; shows `volume_slices` and `volume_channels`.

    The slices are what each voxel absorbs, where the renderer composites, or else how strong its features are; the darker the more.
    A channel's weight is how much the pictures change when it has its median everywhere: its part is where they do. Where
    something is composited, also `volume/opaque`, the share of voxels that absorb more than half of the light, and `volume/seen`,
    the share of what lies on straight ways through the volume that is absorbed.
    """

    MODEL = Volumetric
    ONE_SET = False

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields them."""
        model = self.subject.model
        latents = model.latents(range(OBJECTS))
        volume = model.volume(latents)
        density = model.absorption(volume).numpy() if model.has_density else None
        if density is not None:
            yield "volume/opaque", float(np.mean(1.0 - np.exp(-density) > 0.5))
            yield "volume/seen", float(np.mean(1.0 - np.exp(-np.sum(density, axis=1))))
        pictures = model.rendered(volume, latents, *model.resting(OBJECTS)).numpy()
        self.subject.show({"volume_slices": slices(pictures[:SHOWN], volume[:SHOWN].numpy(), density)})
        without = np.stack(list(self._without_each(volume, latents)))  # [C,N,H,W,3]
        changes = np.abs(without.astype(np.float32) - pictures)  # [C,N,H,W,3]
        weights = changes.mean(axis=(1, 2, 3, 4))
        weights = weights / max(float(weights.sum()), 1e-30)
        order = np.argsort(-weights, kind="stable")
        self.subject.show({"volume_channels": channels(pictures[:SHOWN], without[:, :SHOWN], weights, order)})
        yield "volume/half_channels", float(1 + np.argmax(np.cumsum(weights[order]) >= 0.5))

    def _without_each(self, volume, latents):
        """The pictures with one channel after the other at its median."""
        model, (rest,) = self.subject.model, self.subject.model.resting(OBJECTS)
        render = tf.function(lambda altered: model.rendered(altered, latents, rest), autograph=False)
        count = volume.shape[-1]
        usual = np.median(volume.numpy().reshape(-1, count), axis=0)  # [C]: most of a volume is empty
        for channel in console.progress(iterable=range(count), total=count, desc="without each channel", unit=" channels"):
            one = tf.one_hot(channel, count, on_value=1.0, off_value=0.0)
            yield render(volume * (1.0 - one) + usual * one).numpy()


def slices(pictures: np.ndarray, volume: np.ndarray, density: np.ndarray | None) -> np.ndarray:
    """A row for each object and axis: the object, and slices through it, in equal steps.

    Args:
      pictures: of the objects, uint8 [N, H, W, 3].
      volume: [N, D, H, W, C].
      density: [N or more, D, H, W], or None.

    Returns:
      uint8 picture.
    """
    held = np.sqrt(np.mean(np.square(volume), axis=-1)) if density is None else 1.0 - np.exp(-density[: len(volume)])
    held = held / max(float(held.max()), 1e-30)
    depth, size = held.shape[1], pictures.shape[1]
    at = np.linspace(0, depth - 1, SHEET_COLUMNS - 1).round().astype(int)
    axes = {
        "from front": held,  # [N,D,H,W]
        "from above": held.transpose(0, 2, 1, 3)[:, :, ::-1],  # [N,H,D,W], the front below
        "from left": held.transpose(0, 3, 2, 1)[..., ::-1],  # [N,W,H,D], the front on the right
    }
    tiles, captions = [], []
    for i, picture in enumerate(pictures):
        for name, cuts in axes.items():
            cut = cuts[i, at]  # [K,h,w]
            grey = np.round(255.0 * (1.0 - cut)).astype(np.uint8)[..., np.newaxis].repeat(3, axis=-1)
            enlarged = tf.image.resize(grey, [size, size], "nearest").numpy()
            tiles += [picture[np.newaxis], enlarged]
            captions += ["object", f"{name}: {at[0]}", *map(str, at[1:])]
    return captioned(np.concatenate(tiles), captions, SHEET_COLUMNS)


def channels(pictures: np.ndarray, without: np.ndarray, weights: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Two rows for each object: without each of the weightiest channels, and below, where that changes the picture, and how much.

    Args:
      pictures: uint8 [N, H, W, 3].
      without: uint8 [C, N, H, W, 3].
      weights: [C], their shares.
      order: of the channels, the weightiest first.

    Returns:
      uint8 picture.
    """
    order = order[: SHEET_COLUMNS - 1]
    tiles, captions = [], []
    for i, picture in enumerate(pictures):
        changed = np.abs(without[order, i].astype(np.int16) - picture).max(axis=-1)  # [K,H,W]
        scale = max(int(changed.max()), 1)  # one for all: alone, a change of one step would look like the greatest
        where = (255 * (1 - changed / scale)).astype(np.uint8)[..., np.newaxis].repeat(3, axis=-1)
        columns = 1 + len(order)
        tiles += [picture[np.newaxis], without[order, i], np.full_like(picture, 255)[np.newaxis], where]
        captions += ["object", *(f"without {c}: {weights[c]:.0%}" for c in order), "", *[""] * len(order)]
    return captioned(np.concatenate(tiles), captions, columns)
