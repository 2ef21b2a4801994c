"""Volume rendering: what a pixel shows is composited along its ray, front to back, by emission and absorption.

Nothing here depends on the view but the turn itself, so the opacities that opposite views see are mirror images of each other: one
turn of the view is one turn of what is opaque. What is opaque and of the ground's colour is not seen, and may hide other things;
loss.lambda_opacity makes that dear. docs/decisions/0005-compositing.md.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from holotf import native
from holotf.errors import UserError
from holotf.layers.convolution import Conv2D
from holotf.layers.initialisers import normal
from holotf.layers.normalise import leaky_relu
from holotf.layers.rigid import coverage, inverse_view_matrix, resample


def composite(volume: tf.Tensor, density: tf.Tensor, ground: tf.Tensor | keras.Variable) -> tuple[tf.Tensor, tf.Tensor]:
    """Emission and absorption along depth, in front of a ground: what each pixel sees.

    seen = sum_d w_d x_d + (1 - sum_d w_d) ground,  w_d = exp(-sum of density over the slices before d) (1 - exp(-density_d)).
    Source: Max 1995, "Optical models for direct volume rendering", section 4; NeRF (Mildenhall et al. 2020), equation 3.

    Args:
      volume: [B, D, H, W, C]; index 0 of D is nearest to the viewer.
      density: [B, D, H, W] >= 0, float32 or float64: absorption of a slice, in nats.
      ground: [C], of density's type: what lies behind the volume.

    Returns:
      (seen [B, H, W, C], weights w [B, D, H, W]), of density's type.
    """
    weights = tf.exp(-tf.cumsum(density, axis=1, exclusive=True)) * (1.0 - tf.exp(-density))
    behind = 1.0 - tf.reduce_sum(weights, axis=1)  # [B,H,W]
    seen = tf.reduce_sum(weights[..., tf.newaxis] * tf.cast(volume, density.dtype), axis=1)
    return seen + behind[..., tf.newaxis] * ground, weights


def absorption(volume: tf.Tensor, kernel: tf.Tensor | keras.Variable, bias: tf.Tensor | keras.Variable) -> tf.Tensor:
    """What features absorb: softplus(w . x + b). [..., C], w [C] and b [], float32 or float64 -> [...] >= 0, of w's type."""
    return tf.math.softplus(tf.reduce_sum(tf.cast(volume, kernel.dtype) * kernel, axis=-1) + bias)


def density(
    turned: tf.Tensor, matrix: tf.Tensor, kernel: tf.Tensor | keras.Variable, bias: tf.Tensor | keras.Variable
) -> tf.Tensor:
    """What each sample of a turned volume absorbs: inside times `absorption`, inside being the share that the volume covers.

    Args:
      turned: [B, N, N, N, C], from `resample`.
      matrix: [B, 3, 4], by which it was turned, of kernel's type.
      kernel, bias: w [C] and b [], float32 or float64.

    Returns:
      [B, N, N, N] >= 0, of kernel's type; 0 outside the volume.
    """
    return absorption(turned, kernel, bias) * coverage(matrix, turned.shape[1])


def depth_and_opacity(weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where along its ray, and how surely, each pixel sees something.

    Args:
      weights: [B, D, H, W], of `composite`.

    Returns:
      (depth [B, H, W], the mean position of what is seen along z, in units of half the volume: 1 is its near face, -1 its far
      one, and what lies behind counts as -1; opacity [B, H, W] in [0, 1]).
    """
    slices, opacity = weights.shape[1], tf.reduce_sum(weights, axis=1)
    z = 1.0 - (2.0 * tf.range(slices, dtype=weights.dtype) + 1.0) / slices  # [D], the slices' middles
    return tf.einsum("bdhw,d->bhw", weights, z) - (1.0 - opacity), opacity


def _seen(turned, matrix, kernel, bias, ground):
    return composite(turned, density(turned, matrix, kernel, bias), ground)[0]


def _gradients(function, inputs, wanted, upstream):
    """The gradients of function(*inputs) under `upstream` to some of its inputs."""
    with tf.GradientTape() as tape:
        tape.watch(wanted)
        out = function(*inputs)
    return tape.gradient(out, wanted, upstream)


_forward = tf.function(_seen, jit_compile=True, autograph=False)


@tf.function(jit_compile=True, autograph=False)
def _backward(turned, matrix, kernel, bias, ground, upstream):
    inputs = [turned, matrix, kernel, bias, ground]
    return _gradients(_seen, inputs, inputs, upstream)


@tf.custom_gradient
def _fused(*inputs):
    """`_seen` as one kernel forward and one backward, which keeps nothing but its inputs."""
    return _forward(*inputs), lambda upstream: _backward(*inputs, upstream)


@tf.function(jit_compile=True, autograph=False)
def _gradient_to_matrix(volume, matrix, kernel, bias, ground, upstream):
    """One call in a graph, which is pruned where nobody asks for it."""
    with native.off():
        return _gradients(_by_formula, [volume, matrix, kernel, bias, ground], matrix, upstream)


def render(
    volume: tf.Tensor,
    matrix: tf.Tensor,
    kernel: tf.Tensor | keras.Variable,
    bias: tf.Tensor | keras.Variable,
    ground: tf.Tensor | keras.Variable,
) -> tf.Tensor:
    """What each pixel sees of a volume that is turned on the way: `resample`, `density` and `composite`.

    Our kernel does it without ever writing the turned volume, and does not look at samples outside the volume, nor at those behind
    what lets less than 1e-9 through, be they numbers or not.

    Args:
      volume: [B, N, N, N, C]; N and C static.
      matrix: [B, 3, 4], as `resample` takes it.
      kernel, bias: of the density, w [C] and b [], of the matrix' type.
      ground: [C], likewise.

    Returns:
      [B, N, N, C], of the matrix' type.
    """
    inputs = [tf.convert_to_tensor(t) for t in (volume, matrix, kernel, bias, ground)]
    ops = native.kernels(*inputs) if inputs[1].dtype == tf.float32 else None
    if ops is None:
        return _by_formula(*inputs)

    def backward(upstream, *inputs):
        found = ops.holotf_render_backward(**_named(inputs), upstream=upstream, threads=native.threads())
        shares = [tf.ensure_shape(t, [inputs[0].shape[0], *like.shape]) for t, like in zip(found[1:], inputs[2:], strict=True)]
        return [tf.ensure_shape(found[0], inputs[0].shape), *(tf.reduce_sum(share, axis=0) for share in shares)]

    def backward_by_formula(upstream, *inputs):
        return _gradients(_by_formula, inputs, [inputs[0], *inputs[2:]], upstream)

    @tf.custom_gradient
    def run(*inputs):
        seen = ops.holotf_render_forward(**_named(inputs), threads=native.threads())

        def gradient(upstream):
            to_volume, *to_weights = native.differentiable(backward, backward_by_formula)(upstream, *inputs)
            return to_volume, _gradient_to_matrix(*inputs, upstream), *to_weights

        return tf.ensure_shape(seen, [*inputs[0].shape[:2], *inputs[0].shape[3:]]), gradient

    return run(*inputs)


def _named(inputs):
    return dict(zip(("volume", "matrix", "kernel", "bias", "ground"), inputs, strict=True))


def _by_formula(volume, matrix, *weights):
    return _fused(resample(volume, matrix), matrix, *weights)


class Renderer(keras.layers.Layer):
    """Rigid transform -> density of each voxel -> compositing -> 1x1 convolution -> leaky ReLU.

    The bias of the density starts at -2, so the volume starts as a fog that lets a tenth through. Density and compositing are
    float32, whatever the compute type.

    Args:
      filters: output channels.
      negative_slope: of the leaky ReLU; 0 is a ReLU.
      convolutions: must be empty: a convolution between the turn and the compositing would see the angle.
    """

    def __init__(self, filters: int, negative_slope: float, convolutions: Sequence[int] = (), **kwargs):
        super().__init__(autocast=False, **kwargs)
        if convolutions:
            raise UserError("model.renderer='compositing' with 3D convolutions after the turn: use model.variant=compositing")
        self.negative_slope = negative_slope
        self.mix = Conv2D(filters, 1)

    def build(self, volume_shape: tuple, views_shape: tuple) -> None:
        """Makes the weights."""
        batch, _, height, width, channels = volume_shape
        constant = keras.initializers.Constant(-2.0)
        self.kernel = self.add_weight(name="density_kernel", shape=(channels,), initializer=normal(), autocast=False)
        self.bias = self.add_weight(name="density_bias", shape=(), initializer=constant, autocast=False)
        self.ground = self.add_weight(name="ground", shape=(channels,), initializer="zeros", autocast=False)
        self.mix.build((batch, height, width, channels))

    def call(self, volume: tf.Tensor, views: tf.Tensor) -> dict[str, tf.Tensor]:
        """Volume [B, N, N, N, C], views [B, 6] float32 -> dict.

        "features" [B, N, N, filters] in the compute dtype, "composited" [B, N, N, C] float32, before the 1x1 convolution.
        """
        seen = render(volume, inverse_view_matrix(views), self.kernel, self.bias, self.ground)
        return {"features": leaky_relu(self.mix(tf.cast(seen, self.compute_dtype)), self.negative_slope), "composited": seen}

    def look(self, volume: tf.Tensor, views: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Depth and opacity of each pixel: volume [B, N, N, N, C], views [B, 6] -> `depth_and_opacity`, [B, N, N] each."""
        matrix = inverse_view_matrix(views)
        turned = resample(volume, matrix)
        return depth_and_opacity(composite(turned, density(turned, matrix, self.kernel, self.bias), self.ground)[1])

    def absorption(self, volume: tf.Tensor) -> tf.Tensor:
        """What each voxel absorbs, in nats: [B, N, N, N, C] -> [B, N, N, N] float32."""
        return absorption(volume, self.kernel, self.bias)
