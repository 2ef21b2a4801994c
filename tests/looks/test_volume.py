"""A volume whose channels are known to paint known parts."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import PUBLISHED, small_config

from holotf import models
from holotf.evaluators.subject import Subject
from holotf.looks import volume
from holotf.models.base import Volumetric, to_uint8


class Known(Volumetric):
    """Channel 0 paints the upper half bright, channel 1 one column less so, channel 2 nothing."""

    def draw(self, n, seed):
        return tf.random.stateless_uniform([n, 2], seed), tf.zeros([n, 6])

    def volume(self, z):
        held = np.zeros((1, 8, 8, 8, 3), np.float32)
        held[:, 0, :4, :, 0] = 1.0
        held[:, 2, :, 3, 1] = 1.0
        held[..., 2] = np.random.default_rng(0).normal(size=(8, 8, 8))
        return tf.repeat(tf.constant(held), len(z), axis=0)

    def rendered(self, volume, z, asked):
        seen = 0.8 * tf.reduce_sum(volume[..., 0], axis=1) + 0.1 * tf.reduce_sum(volume[..., 1], axis=1)  # [N,H,W]
        return to_uint8(tf.repeat(seen[..., tf.newaxis], 3, axis=-1))

    has_density = True

    def absorption(self, volume):
        return 5.0 * volume[..., 0]


def test_channels_are_weighed_by_what_they_paint_and_where(squares):
    config, shown = small_config(squares), {}
    figures = dict(volume.Look(Subject(Known(config), config, shown.update)).run())
    assert figures["volume/half_channels"] == 1
    assert figures["volume/opaque"] == pytest.approx(4 * 8 / 8**3)
    assert figures["volume/seen"] == pytest.approx(0.5 * (1 - np.exp(-5.0)))
    tiles = shown["volume_channels"].reshape(8, 128 + 15, 4, 128, 3).swapaxes(1, 2)[:, :, :128:16, ::16, 0]  # rows, columns, H, W
    where = 255 - tiles[1].astype(int)  # of the object, without channel 0, 1, 2
    assert where[1, :4].min() > 200 > 100 > where[1, 4:].max(), "the upper half"
    assert where[2].sum(axis=0).argmax() == 3, "one column"
    assert where[1].max() > 3 * where[2].max() > 0, "which paints less"
    assert not where[3].any()


def test_slices_are_cut_along_each_axis_and_dark_where_it_is_dense():
    density = np.zeros((1, 8, 8, 8), np.float32)
    density[0, 0, 1, 2] = 9.0  # nearest, high up, on the left
    shown = volume.slices(np.zeros((1, 16, 16, 3), np.uint8), np.zeros((1, 8, 8, 8, 4), np.float32), density)
    tiles = shown.reshape(3, 128 + 15, 12, 128, 3).swapaxes(1, 2)[:, :, :128:16, ::16, 0] < 128  # rows, columns, H, W
    found = [sorted(set(map(tuple, np.argwhere(row[1:])[:, 1:].tolist()))) for row in tiles]
    assert found == [[(1, 2)], [(7, 2)], [(1, 7)]], "from above the front is below, from the left it is on the right"


@pytest.mark.parametrize("changes", [{}, PUBLISHED], ids=["compositing", "projection"])
def test_hologans_are_looked_into(squares, changes, monkeypatch):
    monkeypatch.setattr(volume, "OBJECTS", 4)
    config, shown = small_config(squares, **changes), {}
    figures = dict(volume.Look(Subject(models.initial(config), config, shown.update)).run())
    assert 1 <= figures["volume/half_channels"] <= 4
    assert ("volume/opaque" in figures) == (not changes)
    assert set(shown) == {"volume_slices", "volume_channels"}
