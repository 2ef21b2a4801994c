import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from holotf.layers import rigid

N = 6
pytestmark = pytest.mark.usefixtures("each_way")


def view(azimuth=0.0, elevation=0.0, scale=1.0, x=0.0, y=0.0, z=0.0, batch=1, dtype=tf.float32):
    return tf.constant([[azimuth, elevation, scale, x, y, z]] * batch, dtype)


def volume(seed=0, batch=1, channels=2, dtype=tf.float32, n=N):
    return tf.constant(np.random.default_rng(seed).normal(size=(batch, n, n, n, channels)), dtype)


def test_the_resting_view_is_the_identity_bit_for_bit():
    v = volume(batch=3)
    np.testing.assert_array_equal(rigid.rigid_transform(v, view(batch=3)), v)


@pytest.mark.parametrize("turn", [{"azimuth": 90.0}, {"elevation": 90.0}, {"azimuth": -90.0}, {"azimuth": 450.0}])
@pytest.mark.parametrize("n", [5, 6])
def test_four_quarter_turns_are_the_identity_bit_for_bit_and_one_is_not(turn, n):
    v = out = volume(n=n)
    for quarter in range(4):
        out = rigid.rigid_transform(out, view(**turn))
        assert (quarter == 3) == np.array_equal(out, v)


# World: x right (+W), y up (-H), z toward the viewer (-D). The marked voxel is one step from the centre of a 5^3 volume.
PLACES = {"+x": (2, 2, 3), "-x": (2, 2, 1), "+y": (2, 1, 2), "-y": (2, 3, 2), "+z": (1, 2, 2), "-z": (3, 2, 2)}


@pytest.mark.parametrize(
    ("turn", "start", "end"),
    [
        ({"azimuth": 90.0}, "+x", "+z"),  # the camera stands on the object's +x side, so that side faces it
        ({"azimuth": 90.0}, "+z", "-x"),
        ({"azimuth": -90.0}, "-x", "+z"),
        ({"azimuth": 180.0}, "+z", "-z"),
        ({"azimuth": 90.0}, "+y", "+y"),
        ({"elevation": 90.0}, "+y", "+z"),  # looking down: the top faces the camera
        ({"elevation": 90.0}, "+z", "-y"),
        ({"elevation": -90.0}, "-y", "+z"),
        ({"elevation": 90.0}, "+x", "+x"),
        ({"azimuth": 90.0, "elevation": 90.0}, "+x", "-y"),  # first the turn, then the tilt
        ({"x": 2 / 5}, "-x", "+x"),  # two voxels, in units of half the volume's 5 / 2
    ],
)
def test_a_marked_voxel_lands_where_the_convention_says(turn, start, end):
    turn = {k: 2 * v if k == "x" else v for k, v in turn.items()}
    v = np.zeros((1, 5, 5, 5, 1), np.float32)
    v[(0, *PLACES[start], 0)] = 1.0
    out = rigid.rigid_transform(tf.constant(v), view(**turn)).numpy()
    assert out[(0, *PLACES[end], 0)] == pytest.approx(1.0)
    assert np.abs(out).sum() == pytest.approx(1.0)


def test_the_objects_vertical_stays_vertical_in_the_image_at_every_azimuth():
    azimuths = np.linspace(0, 360, 25)
    views = tf.constant([[a, 30.0, 1, 0, 0, 0] for a in azimuths], tf.float32)
    vertical = rigid.rotation(views).numpy() @ [0.0, 1.0, 0.0]
    np.testing.assert_allclose(vertical[:, 0], 0.0, atol=1e-7)
    np.testing.assert_allclose(vertical[:, 1], np.cos(np.radians(30)), atol=1e-6)


def smooth(n=16):
    axis = np.linspace(-1, 1, n)
    d, h, w = np.meshgrid(axis, axis, axis, indexing="ij")
    blob = np.exp(-3 * ((d - 0.3) ** 2 + (h + 0.3) ** 2 + (w - 0.3) ** 2))
    return tf.constant(blob[None, ..., None], tf.float32)


@pytest.mark.parametrize("axis", ["azimuth", "elevation"])
def test_two_turns_about_one_axis_are_one_turn(axis):
    twice = rigid.rigid_transform(rigid.rigid_transform(smooth(), view(**{axis: 20.0})), view(**{axis: 25.0}))
    once = rigid.rigid_transform(smooth(), view(**{axis: 45.0}))
    still = smooth()
    assert np.abs(twice - once)[:, 3:-3, 3:-3, 3:-3].max() < 0.03 < 0.3 < np.abs(still - once).max()  # the rim blends with zeros


def test_outside_is_zero_and_scale_magnifies():
    v = tf.ones([1, N, N, N, 1])
    away = rigid.rigid_transform(v, view(x=2.0))
    assert not np.any(away)
    half = rigid.rigid_transform(v, view(scale=0.5)).numpy()[0, ..., 0]
    assert half[0, 0, 0] == 0.0
    assert half[N // 2, N // 2, N // 2] == 1.0
    assert half.sum() == pytest.approx(N**3 / 8, rel=0.01)


def test_agrees_with_scipy():
    views = tf.constant([[33.0, 20.0, 1.2, 0.1, -0.2, 0.3], [205.0, -40.0, 0.7, 0.0, 0.2, -0.1]], tf.float64)
    v = volume(batch=2, dtype=tf.float64)
    out = rigid.rigid_transform(v, views).numpy()
    centre = (N - 1) / 2
    d, h, w = np.meshgrid(*[np.arange(N) - centre] * 3, indexing="ij")
    for b, (azimuth, elevation, scale, *shift) in enumerate(views.numpy()):
        a, e = np.radians([azimuth, elevation])
        turn = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
        tilt = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
        seen = np.stack([w, -h, -d]).reshape(3, -1) - np.array(shift)[:, None] * N / 2
        x, y, z = np.linalg.inv(tilt @ turn) @ seen / scale
        where = [t.reshape(N, N, N) + centre for t in (-z, -y, x)]
        for c in range(2):
            # scipy's "grid-constant" blends into the zeros outside, as we do
            expected = ndimage.map_coordinates(v[b, ..., c], where, order=1, mode="grid-constant")
            np.testing.assert_allclose(out[b, ..., c], expected, atol=1e-12)


def test_gradients_equal_numeric_ones_in_float64():
    v = volume(dtype=tf.float64, n=3, channels=1)
    views = tf.constant([[33.0, 20.0, 1.2, 0.1, -0.2, 0.3]], tf.float64)
    weight = volume(1, dtype=tf.float64, n=3, channels=1)

    def loss(v, views):
        return tf.reduce_sum(rigid.rigid_transform(v, views) * weight)

    analytic, numeric = tf.test.compute_gradient(loss, [v, views], delta=1e-5)
    for a, n, name in zip(analytic, numeric, ("volume", "view"), strict=True):
        assert np.abs(n).max() > 1e-3, name
        np.testing.assert_allclose(a, n, atol=1e-7, err_msg=name)


def test_bfloat16_volumes_are_resampled_at_float32_coordinates():
    v, views = volume(batch=2), tf.constant([[33.3, 20.2, 1, 0, 0, 0], [181.7, 15, 1, 0, 0, 0]], tf.float32)
    rounded = tf.cast(v, tf.bfloat16)
    out = rigid.rigid_transform(rounded, views)
    assert out.dtype == tf.bfloat16
    expected = rigid.rigid_transform(tf.cast(rounded, tf.float32), views)
    np.testing.assert_array_equal(out, tf.cast(expected, tf.bfloat16))


def test_a_volume_that_is_no_cube_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 4, 6, 6, 1\).*cube"):
        rigid.rigid_transform(tf.zeros([1, 4, 6, 6, 1]), view())


def not_numbers(v, upstream, matrix):
    """What the formula makes NaN, in NumPy: of the output, and of the gradients to the volume and the matrix."""
    n, bad_v, bad_g = v.shape[1], np.isnan(v), np.isnan(upstream).reshape(len(v), -1, v.shape[-1])
    centre, grid = (n - 1) / 2, np.arange(n)
    d, h, w = np.meshgrid(*[grid - centre] * 3, indexing="ij")
    seen = np.stack([w, -h, -d, np.full_like(d, n / 2)]).reshape(4, -1)
    with np.errstate(invalid="ignore"):
        x, y, z = np.moveaxis(np.sum(matrix[..., np.newaxis] * seen, axis=2), 1, 0)  # [B,n^3] each
    where = np.stack([-z, -y, x]) + centre
    unknown = np.isnan(where).any(0)
    where = np.where(unknown, -9.0, where)[..., np.newaxis]  # far outside
    low = np.floor(where)

    def voxels(axes):
        return np.einsum("bod,boh,bow->bodhw", *axes)  # [B,n^3,n,n,n]

    heavy, near = voxels(np.abs(where - grid) < 1), voxels((grid == low) | (grid == low + 1))
    out = np.einsum("bodhw,bdhwc->boc", heavy, bad_v) | unknown[..., np.newaxis]
    to_volume = np.einsum("bodhw,boc->bdhwc", heavy, bad_g) | unknown.any(1)[:, None, None, None, None]
    to_matrix = (near & (bad_v.any(-1)[:, np.newaxis] | bad_g.any(-1)[:, :, None, None, None])).any((1, 2, 3, 4)) | unknown.any(1)
    return out.reshape(v.shape), to_volume, np.broadcast_to(to_matrix[:, None, None], matrix.shape)


PLACED = {  # name: (view, voxels along an axis, type); all but the last have positions exact in float32, so that a weight of 0 is 0
    "resting": ({}, 5, tf.float32),
    "a quarter turn": ({"azimuth": 90.0}, 4, tf.bfloat16),
    "a voxel aside": ({"x": 0.5}, 4, tf.bfloat16),
    "half out of sight, between voxels": ({"x": 1.125, "elevation": 90.0}, 4, tf.bfloat16),
    "smaller, every other voxel": ({"scale": 0.5}, 5, tf.float32),
    "out of sight": ({"z": 3.0}, 5, tf.float32),
    "askew": ({"azimuth": 33.0, "elevation": 20.0}, 5, tf.float32),
}


@pytest.mark.parametrize(("turn", "n", "dtype"), PLACED.values(), ids=PLACED)
def test_what_is_not_a_number_is_seen_in_what_depends_on_it_and_nowhere_else(turn, n, dtype):
    """NaN in one place of the second of two items: the volume, the upstream gradient or the matrix."""
    matrix = rigid.inverse_view_matrix(view(**turn, batch=2)).numpy()
    plain = [volume(seed, batch=2, n=n).numpy() for seed in (0, 1)]
    places = [(1, 0, 0, 0, 0), (1, 3, 3, 3, 1), (1, 1, 2, 1, 1), (1, 2, 0, 3, 0)]
    cases = [(None, None, 0.0)]
    cases += [(which, place, np.nan) for which in (0, 1) for place in places]
    cases += [(2, (1, row, column), np.nan) for row in range(3) for column in range(4)] + [(2, (1, 0, 1), np.inf)]
    for which, place, value in cases:
        inputs = [*map(np.copy, plain), matrix.copy()]
        if place:
            inputs[which][place] = value
        v, upstream, m = tf.cast(inputs[0], dtype), tf.cast(inputs[1], dtype), tf.constant(inputs[2])
        with tf.GradientTape() as tape:
            tape.watch([v, m])
            out = rigid.resample(v, m)
        found = [out, *tape.gradient(out, [v, m], upstream)]
        for name, a, expected in zip(("out", "to volume", "to matrix"), found, not_numbers(*inputs), strict=True):
            message = f"{name}, {value} in input {which} at {place}"
            np.testing.assert_array_equal(np.isnan(tf.cast(a, tf.float32)), expected, err_msg=message)
