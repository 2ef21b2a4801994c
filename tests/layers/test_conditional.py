"""What layers are told of labels, against arithmetic by hand."""

import numpy as np
import pytest
import tensorflow as tf

from holotf.layers.conditional import ConditionalBatchNorm, Projection, join_maps, places, shares
from holotf.layers.normalise import BatchNorm
from holotf.layers.spectral import update_spectral_norms

CONDITIONS = {"none": [0, 0, 0, 0], "one": [0, 1, 0, 0], "two": [1, 0, 0, 1], "three": [1, 1, 1, 0]}
MEANS = {"none": [(1, 4)], "one": [(1 / 3, 1), (2 / 3, 4)], "two": [(1 / 3, 0), (1 / 3, 3), (1 / 3, 4)]}
MEANS["three"] = [(1 / 3, 0), (1 / 3, 1), (1 / 3, 2)]  # (share, label), of three places; 4 is "none"


@pytest.mark.parametrize("name", CONDITIONS)
def test_projection_is_the_mean_of_inner_products_with_normalised_embeddings(name):
    layer, rng = Projection(4, 3, 6), np.random.default_rng(0)
    layer.embedding.kernel.assign(kernel := rng.normal(size=(5, 6)).astype(np.float32))
    for _ in range(200):
        update_spectral_norms(layer)
    phi, embedding = rng.normal(size=6).astype(np.float32), kernel / np.linalg.svd(kernel)[1][0]
    expected = sum(share * embedding[label] @ phi for share, label in MEANS[name])
    found = layer(phi[np.newaxis], tf.constant([CONDITIONS[name]], tf.float32))
    np.testing.assert_allclose(found, [expected], rtol=1e-4, atol=1e-5)


def test_places_and_shares():
    rows = tf.constant(list(CONDITIONS.values()), tf.float32)
    np.testing.assert_array_equal(places(rows, 3), [[0, 0, 0, 0, 3], [0, 1, 0, 0, 2], [1, 0, 0, 1, 1], [1, 1, 1, 0, 0]])
    np.testing.assert_allclose(shares(rows, 3), places(rows, 3) / 3)
    np.testing.assert_allclose(shares(tf.ones([1, 4]), 3), [[0.25, 0.25, 0.25, 0.25, 0]])  # more than there are places for
    assert places(rows[1:2], 1).numpy().tolist() == [[0, 1, 0, 0, 0]]


def test_maps_are_joined_to_every_pixel():
    x = tf.reshape(tf.range(2 * 3 * 2 * 2, dtype=tf.float32), [2, 3, 2, 2])
    joined = join_maps(x, tf.constant([[0, 1], [1, 1]], tf.float32), 2).numpy()
    np.testing.assert_array_equal(joined[..., :2], x)
    for image, told in enumerate([[0, 1, 1], [1, 1, 0]]):
        np.testing.assert_array_equal(joined[image, ..., 2:], np.broadcast_to(told, (3, 2, 3)))


@pytest.mark.parametrize("training", [True, False])
def test_conditional_norm_is_plain_norm_where_all_labels_are_alike(training):
    x = tf.random.stateless_normal([4, 3, 3, 5], [0, 0]) * 2.0 + 1.0
    told = shares(tf.constant(list(CONDITIONS.values()), tf.float32), 3)
    plain, layer = BatchNorm(negative_slope=0.0), ConditionalBatchNorm(4, negative_slope=0.0)
    plain.build(x.shape)
    layer.build(x.shape, told.shape)
    for name in ("scale", "shift"):
        values = np.random.default_rng(1).normal(size=5)
        getattr(plain, name).assign(values)
        getattr(layer, name).assign(np.tile(values, (5, 1)))
    np.testing.assert_allclose(layer(x, told, training=training), plain(x, training=training), atol=1e-5)
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_allclose(getattr(layer, name), getattr(plain, name), rtol=1e-6)


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditional_norm_averages_what_belongs_to_the_labels(name):
    x, rng = np.random.default_rng(2).normal(size=(2, 4, 4, 3)).astype(np.float32), np.random.default_rng(3)
    layer = ConditionalBatchNorm(4, negative_slope=1.0)
    told = shares(tf.constant([CONDITIONS["one"], CONDITIONS[name]], tf.float32), 3)
    layer.build(x.shape, told.shape)
    scale, shift = rng.normal(size=(2, 5, 3))
    layer.scale.assign(scale)
    layer.shift.assign(shift)
    normal = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    gain, offset = (sum(share * weight[label] for share, label in MEANS[name]) for weight in (scale, shift))
    np.testing.assert_allclose(layer(x, told, training=True)[1], normal[1] * gain + offset, rtol=1e-4, atol=1e-4)
