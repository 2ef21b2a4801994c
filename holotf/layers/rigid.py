"""The rigid transform of a feature volume: views, their matrices, and trilinear resampling.

World frame, right-handed: x right, y up, z toward the viewer. In a volume [B, D, H, W, C] index 0 of W is the left, of H the
top, of D the nearest slice. A view is a row (azimuth_deg, elevation_deg, scale, x, y, z), the camera's azimuth and elevation.
"""

import functools
import math

import tensorflow as tf

from holotf import native


def _cos_sin(angle_deg):
    """cos and sin of an angle in degrees, exact at every multiple of 90."""
    quarter = tf.round(angle_deg / 90.0)
    rest = (angle_deg - 90.0 * quarter) * (math.pi / 180.0)
    c, s = tf.cos(rest), tf.sin(rest)
    quarter = tf.math.floormod(quarter, 4.0)
    odd, far = tf.math.floormod(quarter, 2.0) == 1.0, quarter >= 2.0
    c, s = tf.where(odd, -s, c), tf.where(odd, c, s)
    return tf.where(far, -c, c), tf.where(far, -s, s)


def rotation(views: tf.Tensor) -> tf.Tensor:
    """Rotation of the object under a view: first by -azimuth about its own vertical, then the tilt toward the camera.

    At azimuth 90 the camera stands on the object's +x side, so the object's +x comes to face it (+z); a positive elevation
    looks down, so the top tilts toward the camera. R = R_elevation R_azimuth keeps the object's vertical vertical in the image.

    Args:
      views: [B, 6] float; columns 0 and 1 are azimuth and elevation in degrees.

    Returns:
      [B, 3, 3], x_view = R x_object.
    """
    ca, sa = _cos_sin(views[:, 0])
    ce, se = _cos_sin(views[:, 1])
    zero = tf.zeros_like(ca)
    # R_azimuth = [[ca, 0, -sa], [0, 1, 0], [sa, 0, ca]];  R_elevation = [[1, 0, 0], [0, ce, -se], [0, se, ce]]
    rows = [[ca, zero, -sa], [-se * sa, ce, -se * ca], [ce * sa, se, ce * ca]]
    return tf.stack([tf.stack(row, axis=-1) for row in rows], axis=-2)


def inverse_view_matrix(views: tf.Tensor) -> tf.Tensor:
    """From a position in the view to the position in the object that is seen there.

    Forward, x_view = translation + scale R_elevation R_azimuth x; this is its inverse, x = R^T (x_view - translation) / scale.

    Args:
      views: [B, 6] (azimuth_deg, elevation_deg, scale, x, y, z); translation in units of half the volume.

    Returns:
      [B, 3, 4], the matrix [R^T / scale | -R^T translation / scale].
    """
    scale = views[:, 2, tf.newaxis, tf.newaxis]  # [B,1,1]
    linear = tf.linalg.matrix_transpose(rotation(views)) / scale
    offset = -linear @ views[:, 3:, tf.newaxis]  # [B,3,1]
    return tf.concat([linear, offset], axis=-1)


def _sampling_coordinates(matrix, n):
    """Where each output voxel samples the volume: [B, n^3] each for depth, height and width, in voxels."""
    centred = tf.range(n, dtype=matrix.dtype) - (n - 1) / 2  # the centre of rotation is (n - 1) / 2
    d, h, w = tf.meshgrid(centred, centred, centred, indexing="ij")
    xyz = tf.stack([tf.reshape(t, [-1]) for t in (w, -h, -d)])  # [3,n^3], in voxels; y up, z toward the viewer
    x, y, z = tf.unstack(matrix[:, :, :3] @ xyz + matrix[:, :, 3:] * (n / 2), axis=1)  # [B,n^3] each
    return [t + (n - 1) / 2 for t in (-z, -y, x)]


def _known(matrix, n):
    """1 for each sample, and NaN where its position is not a number: [B, n^3]."""
    coordinates = _sampling_coordinates(matrix, n)
    unknown = functools.reduce(tf.logical_or, map(tf.math.is_nan, coordinates))
    return tf.where(unknown, tf.constant(math.nan, matrix.dtype), 1.0)


@tf.custom_gradient
def _weighed(values, weight):
    """values [B, n^3, C] * weight [B, n^3, 1], and 0 where the weight is, even if the value is not finite: it has no part there."""

    def gradient(upstream):
        return _weighed(upstream, weight), tf.reduce_sum(upstream * values, axis=-1, keepdims=True)

    apart = tf.logical_and(weight == 0.0, tf.logical_not(tf.math.is_finite(values)))
    return tf.where(apart, tf.zeros_like(values), values) * weight, gradient


def _trilinear(volume, matrix):
    n, channels = volume.shape[1], volume.shape[-1]
    precise = tf.float64 if volume.dtype == tf.float64 else tf.float32
    matrix = tf.cast(matrix, precise)
    rows = tf.reshape(volume, [-1, channels])  # [B,D,H,W,C] -> [B*D*H*W,C]
    rows = tf.cast(rows, precise)  # here, so that the gradient's scatter is precise too: XLA's bfloat16 scatter is 16 times slower
    item = tf.range(tf.shape(volume)[0])[:, tf.newaxis] * n**3
    lows, highs = [], []
    for coordinate in _sampling_coordinates(matrix, n):
        low = tf.floor(coordinate)
        for corner, weight, found in ((low, low + 1 - coordinate, lows), (low + 1, coordinate - low, highs)):
            inside = tf.logical_and(corner >= 0, corner <= n - 1)
            index = tf.cast(tf.clip_by_value(corner, 0, n - 1), tf.int32)
            found.append((index, inside, tf.where(inside, weight, tf.zeros_like(weight))))  # zero outside
    out = 0.0
    for d, in_d, wd in (lows[0], highs[0]):
        for h, in_h, wh in (lows[1], highs[1]):
            for w, in_w, ww in (lows[2], highs[2]):
                values = tf.gather(rows, item + (d * n + h) * n + w)  # [B,n^3,C]
                weight = wd * wh * ww  # 0 outside, where it has no gradient either
                weight = tf.where(in_d & in_h & in_w, weight, tf.zeros_like(weight))
                out += _weighed(values, weight[:, :, tf.newaxis])
    return tf.cast(tf.reshape(out, tf.shape(volume)), volume.dtype)


def coverage(matrix: tf.Tensor, n: int) -> tf.Tensor:
    """The share of each sample that lies inside the volume: what `resample` makes of a volume of ones.

    Args:
      matrix: [B, 3, 4], as in `resample`.
      n: voxels along each axis.

    Returns:
      [B, n, n, n] in [0, 1], of the matrix' type.
    """
    inside = [tf.clip_by_value(tf.minimum(p + 1.0, n - p), 0.0, 1.0) for p in _sampling_coordinates(matrix, n)]
    return tf.reshape(inside[0] * inside[1] * inside[2], [-1, n, n, n])


@tf.function(jit_compile=True, autograph=False)
def _forward(volume, matrix):
    known = tf.reshape(_known(matrix, volume.shape[1]), [-1, *volume.shape[1:4], 1])
    return _trilinear(volume, matrix) * tf.cast(known, volume.dtype)


@tf.function(jit_compile=True, autograph=False)
def _backward(volume, matrix, upstream, index):
    """The gradient to input `index`; a kernel for each, so that the one nobody asks for is pruned from the graph."""
    inputs = [volume, matrix]
    with tf.GradientTape() as tape:
        tape.watch(inputs[index])
        out = _trilinear(*inputs)
    gradient = tape.gradient(out, inputs[index], upstream)
    known = tf.reduce_prod(_known(matrix, volume.shape[1]), axis=1)  # [B]: every voxel may be where an unknown position is
    return gradient * tf.cast(tf.reshape(known, [-1, *[1] * (len(gradient.shape) - 1)]), gradient.dtype)


def resample(volume: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Trilinear resampling of volumes under affine maps, zero outside.

    out[o] = sum over the eight voxels v around p of V[v] prod_axis (1 - |p - v|),  p = matrix applied to o.
    Coordinates, weights and sums are float32 (float64 for a float64 volume) whatever the volume's type. Gradients flow to
    the volume and to the matrix. Source: HoloGAN (arXiv 1904.01326), section 3.1; Jaderberg et al. 2015, equation 5, in 3D.

    What is not a number is seen in what depends on it, and nowhere else. A voxel and a sample depend on each other where the
    weight is not 0, the gradient to a matrix on every sample of its item that lies in the volume, and on the voxels around it.
    A sample whose position is not a number is none itself, nor are the gradients of its item.

    Args:
      volume: [B, N, N, N, C]; N and C static.
      matrix: [B, 3, 4], from `inverse_view_matrix`: view position -> object position, units of half the volume.

    Returns:
      [B, N, N, N, C], the volume's dtype.

    Raises:
      ValueError: the volume is not a cube.
    """
    if len(volume.shape) != 5 or len(set(volume.shape[1:4])) != 1:
        raise ValueError(f"volume of shape {tuple(volume.shape)}: a rigid transform needs a cube [B, N, N, N, C]")
    inputs = [tf.convert_to_tensor(t) for t in (volume, matrix)]
    kernels = native.kernels(*inputs) if inputs[1].dtype == tf.float32 else None

    @tf.custom_gradient
    def run(*inputs):
        return _forward(*inputs), lambda g: [_backward(*inputs, g, i) for i in range(2)]

    @tf.custom_gradient
    def run_native(volume, matrix):
        threads = native.threads()

        def to_volume(upstream, matrix):
            scattered = kernels.holotf_resample_backward(upstream=upstream, matrix=matrix, threads=threads)
            return tf.ensure_shape(scattered, volume.shape)

        def gradient(upstream):
            dvolume = native.differentiable(to_volume, lambda g, matrix: _backward(volume, matrix, g, 0))(upstream, matrix)
            return dvolume, _backward(volume, matrix, upstream, 1)

        out = kernels.holotf_resample_forward(volume=volume, matrix=matrix, threads=threads)
        return tf.ensure_shape(out, volume.shape), gradient

    return run(*inputs) if kernels is None else run_native(*inputs)


def rigid_transform(volume: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
    """The volume as seen under each view: `resample` under `inverse_view_matrix(views)`.

    Args:
      volume: [B, N, N, N, C].
      views: [B, 6] float32 (azimuth_deg, elevation_deg, scale, x, y, z).

    Returns:
      [B, N, N, N, C]; equal to `volume` bit for bit at view (0, 0, 1, 0, 0, 0).
    """
    return resample(volume, inverse_view_matrix(views))
