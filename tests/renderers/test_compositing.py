import numpy as np
import pytest
import tensorflow as tf
from conftest import PUBLISHED, small_config

from holotf import models, renderers
from holotf.errors import UserError
from holotf.layers.rigid import coverage, inverse_view_matrix, resample
from holotf.renderers import compositing

N = 6


def volume(seed=0, batch=1, channels=3, n=N, dtype=np.float32):
    return tf.constant(np.random.default_rng(seed).normal(size=(batch, n, n, n, channels)).astype(dtype))


def view(azimuth=0.0, elevation=0.0, scale=1.0, x=0.0, y=0.0, z=0.0):
    return tf.constant([[azimuth, elevation, scale, x, y, z]], tf.float32)


def test_a_ray_by_hand():
    """Two slices that let a half and a quarter through, in front of a ground: 1/2 x 8 + 1/2 x 3/4 x 16 + 1/8 x 24 = 13."""
    density = tf.reshape(tf.constant(np.log([2.0, 4.0])), [1, 2, 1, 1])
    x = tf.reshape(tf.constant([8.0, 16.0], tf.float64), [1, 2, 1, 1, 1])
    seen, weights = compositing.composite(x, density, tf.constant([24.0], tf.float64))
    assert seen.numpy().item() == pytest.approx(13.0)
    np.testing.assert_allclose(weights[0, :, 0, 0], [0.5, 0.375])
    depth, opacity = compositing.depth_and_opacity(weights)
    assert opacity.numpy().item() == pytest.approx(0.875)
    # The slices' middles are at 1/2 and -1/2, the ground at -1.
    assert depth.numpy().item() == pytest.approx(0.5 * 0.5 - 0.375 * 0.5 - 0.125)


def test_compositing_equals_a_loop_over_the_ray():
    rng = np.random.default_rng(0)
    x, density, ground = rng.normal(size=(2, 5, 3, 4, 2)), rng.uniform(0, 3, (2, 5, 3, 4)), rng.normal(size=2)
    expected, left = np.zeros((2, 3, 4, 2)), np.ones((2, 3, 4))
    for d in range(5):
        alpha = 1 - np.exp(-density[:, d])
        expected += (left * alpha)[..., np.newaxis] * x[:, d]
        left = left * (1 - alpha)
    expected += left[..., np.newaxis] * ground
    np.testing.assert_allclose(compositing.composite(*map(tf.constant, (x, density, ground)))[0], expected, atol=1e-12)


def test_what_is_dense_hides_what_is_behind_it():
    x = volume(n=4)
    density = tf.concat([tf.fill([1, 1, 4, 4], 60.0), tf.ones([1, 3, 4, 4])], axis=1)
    seen, _ = compositing.composite(x, density, tf.ones([3]))
    np.testing.assert_array_equal(seen[0], x[0, 0])
    empty, _ = compositing.composite(x, tf.zeros([1, 4, 4, 4]), tf.ones([3]))
    np.testing.assert_array_equal(empty, tf.ones([1, 4, 4, 3]))


def inputs(dtype=np.float64, n=4, channels=2):
    rng = np.random.default_rng(3)
    turned = tf.constant(rng.normal(size=(2, n, n, n, channels)).astype(dtype))
    matrix = tf.cast(inverse_view_matrix(tf.constant([[31.0, 17, 1.2, 0.1, 0, 0], [200.0, -5, 0.9, 0, 0.2, 0]])), dtype)
    return [turned, matrix, *(tf.constant(rng.normal(size=s).astype(dtype)) for s in ((channels,), (), (channels,)))]


def test_gradients_in_float64_equal_differences():
    """To the volume, the density's weights and the ground, each along a random direction."""
    values, upstream = inputs(), None
    with tf.GradientTape() as tape:
        tape.watch(values)
        seen = compositing._fused(*values)
        upstream = tf.constant(np.random.default_rng(4).normal(size=seen.shape))
        total = tf.reduce_sum(upstream * seen)
    gradients = tape.gradient(total, values)
    for index in (0, 2, 3, 4):
        direction = np.random.default_rng(5).normal(size=values[index].shape)
        ends = []
        for step in (1e-6, -1e-6):
            moved = list(values)
            moved[index] = values[index] + step * direction
            ends.append(float(tf.reduce_sum(upstream * compositing._fused(*moved))))
        expected = (ends[0] - ends[1]) / 2e-6
        assert float(tf.reduce_sum(gradients[index] * direction)) == pytest.approx(expected, rel=1e-6), index


def test_coverage_is_what_resampling_makes_of_ones():
    matrix = inverse_view_matrix(tf.constant([[40.0, 20, 0.8, 0.3, 0, 0], [0.0, 0, 1, 0, 0, 0]]))
    inside = coverage(matrix, N)
    np.testing.assert_allclose(inside, resample(tf.ones([2, N, N, N, 1]), matrix)[..., 0], atol=1e-6)
    assert float(tf.reduce_min(inside[0])) == 0.0
    np.testing.assert_array_equal(inside[1], tf.ones([N, N, N]))


@pytest.fixture
def renderer():
    made = renderers.build("compositing", 5, 0.2)
    made(volume(), view())
    rng = np.random.default_rng(1)
    for weight in made.weights:
        weight.assign(weight + rng.normal(size=weight.shape))
    return made


def test_outside_the_volume_there_is_nothing_but_the_ground(renderer):
    seen = renderer(volume(), view(x=2.5))["composited"]  # moved out of sight to the right
    np.testing.assert_allclose(seen, tf.broadcast_to(renderer.ground, seen.shape), atol=1e-6)
    assert float(tf.reduce_max(renderer.look(volume(), view(x=2.5))[1])) == 0.0


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 33.0])
def test_the_outline_from_behind_is_the_outline_mirrored(renderer, azimuth):
    """At elevation 0, whatever the volume: so a view that has turned by 180 degrees has turned the object by 180 degrees."""
    v = volume(seed=2)
    front, back = (renderer.look(v, view(azimuth + turn))[1] for turn in (0.0, 180.0))
    np.testing.assert_allclose(back, front[:, :, ::-1], atol=1e-5)
    side = renderer.look(v, view(azimuth + 90.0))[1]
    assert np.abs(side - front[:, :, ::-1]).max() > 0.05


def test_depth_is_seen_from_the_viewers_side(renderer):
    v = np.zeros([1, N, N, N, 3], np.float32)
    v[0, 1] = 100.0 * np.sign(renderer.kernel.numpy())  # a dense slab, second from the front
    z = 1 - 3 / N
    np.testing.assert_allclose(renderer.look(tf.constant(v), view())[0], z, atol=0.2)
    np.testing.assert_allclose(renderer.look(tf.constant(v), view(180.0))[0], -z, atol=0.2)


@pytest.mark.parametrize("name", ["compositing", "projection"])
def test_trained_with_compositing_the_outline_cannot_wind_twice(name):
    """After a few updates of a whole HoloGAN: the projection unit draws what it likes from behind, compositing cannot."""
    changes = {} if name == "compositing" else PUBLISHED
    model = models.build(small_config(**changes))
    step = tf.function(model.train_step, autograph=False)
    for seed in range(3):
        step({"image": tf.constant(np.random.default_rng(seed).integers(0, 256, (8, 32, 32, 3)), tf.uint8)})
    z = model.draw(4, [0, 0])[0]
    front, back = (tf.repeat(view(a), 4, axis=0) for a in (0.0, 180.0))
    if name == "compositing":
        (depth, opacity), (far_depth, far_opacity) = (model.generator.look(model.generator.volume(z), v) for v in (front, back))
        np.testing.assert_allclose(far_opacity, opacity[:, :, ::-1], atol=1e-5)
        assert opacity.numpy().std() > 1e-4, "an outline that is the same everywhere would be mirrored in any case"
        assert np.abs(depth - far_depth[:, :, ::-1]).max() > 1e-4
    else:
        images = [model.generator.renderer(model.generator.volume(z), v)["features"] for v in (front, back)]
        assert np.abs(images[0] - images[1][:, :, ::-1]).max() > 0.1 * np.abs(images[0]).max()


def test_renderers_are_found_by_name_and_refuse_what_would_see_the_angle():
    with pytest.raises(UserError, match=r"model.renderer='splatting': use one of compositing, projection"):
        models.build(small_config(**{"model.renderer": "splatting", "model.rgb_skip": False}))
    with pytest.raises(UserError, match=r"model.renderer='compositing' with 3D convolutions after the turn"):
        models.build(small_config(**PUBLISHED | {"model.variant": "paper", "model.renderer": "compositing"}))
    with pytest.raises(UserError, match=r"model.rgb_skip=True with model.renderer='projection'"):
        models.build(small_config(**{"model.renderer": "projection"}))
