"""Instance and batch normalisation with scale, shift and leaky ReLU, fused: by one kernel each way on the CPU.

On a CPU a step is never compiled whole, since XLA's convolutions are slow there; but what lies between them is bound by memory,
and fused it takes a half to a fifth of the time.
"""

import keras
import tensorflow as tf

from holotf import native
from holotf.layers.initialisers import normal


def _terms(x, scale, shift, together, epsilon):
    """What forward and backward share, in float32 (float64 for float64): x normalised, mean, 1 / deviation, scale, shift, axes."""
    precise = tf.float64 if x.dtype == tf.float64 else tf.float32
    axes = list(range(0 if together else 1, len(x.shape) - 1))
    spread = (-1, *(1,) * (len(x.shape) - 2), x.shape[-1])  # [C] or [B,C] -> [1 or B,1,..,1,C]
    x = tf.cast(x, precise)
    mean = tf.reduce_mean(x, axes, keepdims=True)
    rate = tf.math.rsqrt(tf.reduce_mean(tf.square(x - mean), axes, keepdims=True) + epsilon)
    return (x - mean) * rate, mean, rate, *(tf.reshape(tf.cast(t, precise), spread) for t in (scale, shift)), axes


@tf.function(jit_compile=True, autograph=False)
def _forward(x, scale, shift, together, epsilon, negative_slope):
    normal, mean, rate, gain, offset, _ = _terms(x, scale, shift, together, epsilon)
    y = normal * gain + offset
    return tf.cast(tf.maximum(y, negative_slope * y), x.dtype), *(tf.reshape(t, [-1, x.shape[-1]]) for t in (mean, rate))


@tf.function(jit_compile=True, autograph=False)
def _backward(x, scale, shift, upstream, together, epsilon, negative_slope):
    """dx = rate (scale g - mean(scale g) - normal mean(scale g normal)), dscale = sum g normal, dshift = sum g.

    g is the gradient past the leaky ReLU.
    """
    normal, _, rate, gain, offset, axes = _terms(x, scale, shift, together, epsilon)
    g = tf.cast(upstream, normal.dtype)
    g = tf.where(normal * gain + offset > 0, g, negative_slope * g)
    space = list(range(1, len(x.shape) - 1))
    sums = [tf.reduce_sum(t, space, keepdims=True) for t in (g * normal, g)]  # of each sample
    count = tf.cast(tf.reduce_prod([tf.shape(x)[a] for a in axes]), normal.dtype)
    of_normal, of_one = (tf.reduce_sum(gain * t, [0], keepdims=True) if together else gain * t for t in sums)
    dx = rate * (gain * g - (of_one + normal * of_normal) / count)
    over = [0] if scale.shape.rank == 1 else []  # a scale for all samples gathers their gradients
    dscale, dshift = (tf.cast(tf.reduce_sum(tf.squeeze(t, space), over), scale.dtype) for t in sums)
    return tf.cast(dx, x.dtype), dscale, dshift


def _normalised(x, scale, shift, together, epsilon, negative_slope):
    """(y, mean, 1 / deviation): of x's shape, and twice [1, C] where the samples have their moments `together`, else [B, C].

    Only y has gradients.
    """
    inputs = [tf.convert_to_tensor(t) for t in (x, scale, shift)]
    kernels = native.kernels(inputs[0]) if _fits(*inputs) else None

    @tf.custom_gradient
    def run(*inputs):
        found = _forward(*inputs, together, epsilon, negative_slope)
        return found, lambda dy, *_: _backward(*inputs, dy, together, epsilon, negative_slope)

    @tf.custom_gradient
    def run_native(x, scale, shift):
        settings = {"slope": negative_slope, "together": together, "threads": native.threads()}
        y, mean, rate = kernels.holotf_norm_forward(x=x, scale=scale, shift=shift, epsilon=epsilon, **settings)

        def backward(x, scale, shift, dy):
            options = {"x": x, "scale": scale, "shift": shift, "mean": mean, "rate": rate, "dy": dy}
            dx, *style = kernels.holotf_norm_backward(**options, **settings)  # dscale and dshift of each sample, [B,C]
            style = [tf.ensure_shape(t, [x.shape[0], x.shape[-1]]) for t in style]
            style = [tf.reduce_sum(t, axis=0) for t in style] if scale.shape.rank == 1 else style
            return tf.ensure_shape(dx, x.shape), *style

        def gradient(dy, *_):
            formula = native.differentiable(backward, lambda *t: _backward(*t, together, epsilon, negative_slope))
            return formula(x, scale, shift, dy)

        moments = [tf.ensure_shape(t, [1 if together else x.shape[0], x.shape[-1]]) for t in (mean, rate)]
        return (tf.ensure_shape(y, x.shape), *moments), gradient

    return run(*inputs) if kernels is None else run_native(*inputs)


def _fits(x, scale, shift):
    """Whether our kernels take such a style: float32 [C] or [B, C], nothing to broadcast."""
    as_said = scale.shape.rank == 1 or scale.shape[:1].as_list() == x.shape[:1].as_list()
    return scale.dtype == shift.dtype == tf.float32 and scale.shape == shift.shape and as_said


def instance_norm(
    x: tf.Tensor,
    scale: tf.Tensor | keras.Variable,
    shift: tf.Tensor | keras.Variable,
    *,
    epsilon: float,
    negative_slope: float = 1.0,
) -> tf.Tensor:
    """y = leaky(scale (x - mean) / sqrt(variance + epsilon) + shift), the moments over each sample's and channel's space.

    Statistics are float32 (float64 for float64 inputs) whatever the type of x. Source: Ulyanov et al. 2016 (arXiv 1607.08022),
    equation 4; with scale and shift from a latent it is AdaIN (Huang and Belongie 2017, equation 8).

    Args:
      x: [B, ..., C].
      scale, shift: [C], or [B, C] for a style per sample.
      epsilon: added to the variance.
      negative_slope: of the leaky ReLU that follows; 0 is a ReLU, 1 none.

    Returns:
      Tensor of x's shape and dtype.
    """
    return _normalised(x, scale, shift, False, epsilon, negative_slope)[0]


def batch_norm(
    x: tf.Tensor,
    scale: tf.Tensor | keras.Variable,
    shift: tf.Tensor | keras.Variable,
    *,
    epsilon: float,
    negative_slope: float = 1.0,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """As `instance_norm`, with each channel's moments over the samples and the space of the batch.

    Source: Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithm 1.

    Args:
      x, scale, shift, epsilon, negative_slope: as of `instance_norm`.

    Returns:
      (y of x's shape and dtype; mean [C]; biased variance [C]); the moments have no gradients.
    """
    y, mean, rate = _normalised(x, scale, shift, True, epsilon, negative_slope)
    return y, mean[0], tf.maximum(1.0 / tf.square(rate[0]) - epsilon, 0.0)  # rounding


@tf.function(jit_compile=True, autograph=False)
def leaky_relu(x: tf.Tensor, negative_slope: float) -> tf.Tensor:
    """max(x, negative_slope x). Only its output, which the next layer keeps anyway, waits for the gradient.

    Not `tf.nn.leaky_relu`: TensorFlow 2.21's remapper trips over LeakyReluGrad beside a biased convolution, and then gives up
    on the whole graph ("remapper failed: ... exist for missing node").

    Args:
      x: any shape.
      negative_slope: in [0, 1); 0 is a ReLU.
    """

    @tf.custom_gradient
    def run(x):
        y = tf.maximum(x, negative_slope * x)

        def gradient(upstream):
            with tf.control_dependencies([upstream]):  # else the forward pass works the signs out, and they wait beside y
                positive = y > 0
            return tf.where(positive, upstream, negative_slope * upstream)

        return y, gradient

    return run(x)


class InstanceNorm(keras.layers.Layer):
    """`instance_norm` with a learned scale and shift per channel.

    Args:
      negative_slope: of the leaky ReLU that follows; 0 is a ReLU, 1 none.
      epsilon: added to the variance.
    """

    def __init__(self, negative_slope: float = 1.0, epsilon: float = 1e-5, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.negative_slope, self.epsilon = negative_slope, epsilon

    def build(self, input_shape: tuple) -> None:
        """Makes the weights."""
        self.scale = self.add_weight(name="scale", shape=input_shape[-1:], initializer="ones", autocast=False)
        self.shift = self.add_weight(name="shift", shape=input_shape[-1:], initializer="zeros", autocast=False)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[B, ..., C] -> the same shape and dtype."""
        return instance_norm(x, self.scale, self.shift, epsilon=self.epsilon, negative_slope=self.negative_slope)


@tf.function(jit_compile=True, autograph=False)
def _sums(x):
    """Sums of x and of x^2 over all axes but the last: [..., C] -> [2, C] float32."""
    x, axes = tf.cast(x, tf.float32), list(range(len(x.shape) - 1))
    return tf.stack([tf.reduce_sum(x, axes), tf.reduce_sum(tf.square(x), axes)])


@tf.function(jit_compile=True, autograph=False)
def _scaled(x, mean, variance, scale, shift, epsilon, negative_slope):
    spread = (-1, *(1,) * (len(x.shape) - 2), x.shape[-1])  # [C] or [B,C] -> [1 or B,1,..,1,C]
    scale, shift = tf.reshape(scale, spread), tf.reshape(shift, spread)
    gain = scale * tf.math.rsqrt(variance + epsilon)
    y = tf.cast(x, tf.float32) * gain + (shift - mean * gain)
    return tf.cast(tf.maximum(y, negative_slope * y), x.dtype)


class BatchNorm(keras.layers.Layer):
    """y = leaky(scale (x - mean) / sqrt(variance + epsilon) + shift), the moments over the images and the space of a batch.

    In training the moments are those of the global batch, over all replicas; otherwise moving averages. Both are float32 whatever
    the type of x. Source: Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithm 1; scale starts at N(1, 0.02) as in DCGAN's code.

    Args:
      negative_slope: of the leaky ReLU that follows; 0 is a ReLU, 1 none.
      momentum: what of a moving average stays after a batch.
      epsilon: added to the variance.
    """

    def __init__(self, negative_slope: float, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.negative_slope, self.momentum, self.epsilon = negative_slope, momentum, epsilon

    def build(self, input_shape: tuple) -> None:
        """Makes the weights and the moving averages."""
        near_1 = normal(mean=1.0)
        self.scale = self.add_weight(name="scale", shape=input_shape[-1:], initializer=near_1, autocast=False)
        self.shift = self.add_weight(name="shift", shape=input_shape[-1:], initializer="zeros", autocast=False)
        self._build_moving(input_shape[-1:])

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """[B, ..., C] -> the same shape and dtype."""
        return self._normalised(x, self.scale, self.shift, training)

    def _build_moving(self, shape):
        state = {"trainable": False, "autocast": False, "aggregation": "only_first_replica"}
        self.moving_mean = self.add_weight(name="moving_mean", shape=shape, initializer="zeros", **state)
        self.moving_variance = self.add_weight(name="moving_variance", shape=shape, initializer="ones", **state)

    def _normalised(self, x, scale, shift, training):
        """With a scale and a shift [C], or [B, C]."""
        settings, context = {"epsilon": self.epsilon, "negative_slope": self.negative_slope}, tf.distribute.get_replica_context()
        if training and context.num_replicas_in_sync == 1:
            y, *moments = batch_norm(x, scale, shift, **settings)
            self._move(*moments)
            return y
        mean, variance = self.moving_mean.value, self.moving_variance.value
        if training:
            count = context.num_replicas_in_sync * (tf.size(x) // x.shape[-1])
            mean, square = tf.unstack(context.all_reduce(tf.distribute.ReduceOp.SUM, _sums(x)) / tf.cast(count, tf.float32))
            variance = tf.maximum(square - tf.square(mean), 0.0)  # rounding
            self._move(mean, variance)
        # As tensors: the compiled function is one for all layers, and would keep their variables.
        return _scaled(*(tf.convert_to_tensor(t) for t in (x, mean, variance, scale, shift)), **settings)

    def _move(self, mean, variance):
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving.value + (1.0 - self.momentum) * tf.cast(new, tf.float32))
