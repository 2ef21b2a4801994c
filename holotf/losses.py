"""Losses: pure functions of tensors, in pairs (discriminator, generator). Logits are [B] float32 and unbounded."""

import math
from collections.abc import Callable

import tensorflow as tf


def _cross_entropy(logits, label):
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.fill(tf.shape(logits), label), logits=logits))


def bce_discriminator(real: tf.Tensor, fake: tf.Tensor, label_real: float = 1.0) -> tf.Tensor:
    """-E log D(real) - E log(1 - D(fake)). Source: Goodfellow et al. 2014, equation 1. Logits of any shape -> scalar >= 0.

    With a label l below 1 the first term is -E [l log D(real) + (1 - l) log(1 - D(real))] (Salimans et al. 2016, section 3.4).
    """
    return _cross_entropy(real, label_real) + _cross_entropy(fake, 0.0)


def bce_generator(fake: tf.Tensor) -> tf.Tensor:
    """-E log D(fake), the non-saturating form. Source: Goodfellow et al. 2014, section 3. Logits of any shape -> scalar >= 0."""
    return _cross_entropy(fake, 1.0)


def hinge_discriminator(real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
    """E max(0, 1 - real) + E max(0, 1 + fake). Source: Lim and Ye 2017; Miyato et al. 2018, equation 16. Scalar >= 0."""
    return tf.reduce_mean(tf.nn.relu(1.0 - real)) + tf.reduce_mean(tf.nn.relu(1.0 + fake))


def hinge_generator(fake: tf.Tensor) -> tf.Tensor:
    """-E fake. Source: Miyato et al. 2018, equation 17. Scalar, unbounded."""
    return -tf.reduce_mean(fake)


def lsgan_discriminator(real: tf.Tensor, fake: tf.Tensor, label_real: float = 1.0) -> tf.Tensor:
    """(E (real - b)^2 + E fake^2) / 2. Source: Mao et al. 2017, equation 9 (a = 0, b = label_real, c = 1). Scalar >= 0."""
    return 0.5 * (tf.reduce_mean(tf.square(real - label_real)) + tf.reduce_mean(tf.square(fake)))


def lsgan_generator(fake: tf.Tensor) -> tf.Tensor:
    """E (fake - 1)^2 / 2. Source: Mao et al. 2017, equation 9. Scalar >= 0."""
    return 0.5 * tf.reduce_mean(tf.square(fake - 1.0))


def wgan_discriminator(real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
    """E fake - E real, minus the Wasserstein estimate. Source: Arjovsky et al. 2017, equation 2. Scalar, unbounded."""
    return tf.reduce_mean(fake) - tf.reduce_mean(real)


def wgan_generator(fake: tf.Tensor) -> tf.Tensor:
    """-E fake. Source: Arjovsky et al. 2017, algorithm 1. Scalar, unbounded."""
    return -tf.reduce_mean(fake)


PAIRS = {  # by `loss.gan`: (discriminator, generator)
    "bce": (bce_discriminator, bce_generator),
    "hinge": (hinge_discriminator, hinge_generator),
    "lsgan": (lsgan_discriminator, lsgan_generator),
    "wgan": (wgan_discriminator, wgan_generator),
}


def accuracies(gan: str, real: tf.Tensor, fake: tf.Tensor, label_real: float = 1.0) -> dict[str, tf.Tensor]:
    """Shares of real and of made images, [B] logits each, that the discriminator of a loss takes for what they are.

    The boundary lies half way between what it is to say of either: at 0, or `label_real` / 2 for lsgan.

    Returns:
      {"accuracy/real", "accuracy/fake"}: float32 scalars in [0, 1]; empty for wgan, whose critic has no boundary.
    """
    if gan == "wgan":
        return {}
    boundary = label_real / 2 if gan == "lsgan" else 0.0
    right = {"accuracy/real": real > boundary, "accuracy/fake": fake < boundary}
    return {name: tf.reduce_mean(tf.cast(found, tf.float32)) for name, found in right.items()}


def gradient_penalty(critic: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, mix: tf.Tensor) -> tf.Tensor:
    """E (|grad critic(x)| - 1)^2 at x = mix real + (1 - mix) fake. Source: Gulrajani et al. 2017, equation 3.

    Args:
      critic: images [B, H, W, C] -> logits [B].
      real, fake: [B, H, W, C] in [-1, 1].
      mix: [B, 1, 1, 1] in [0, 1], uniform.

    Returns:
      Scalar >= 0.
    """
    x = mix * real + (1.0 - mix) * fake
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = critic(x)
    gradient = tape.gradient(logits, x)
    norm = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=[1, 2, 3]) + 1e-12)
    return tf.reduce_mean(tf.square(norm - 1.0))


def r1(critic: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor) -> tf.Tensor:
    """E |grad critic(x)|^2 / 2 at real x. Source: Mescheder et al. 2018 (arXiv 1801.04406), equation 9, without its weight.

    Args:
      critic: images [B, H, W, C] -> logits [B], each of its own image alone.
      real: [B, H, W, C] in [-1, 1].

    Returns:
      Scalar >= 0.
    """
    with tf.GradientTape() as tape:
        tape.watch(real)
        logits = critic(real)
    return 0.5 * tf.reduce_mean(tf.reduce_sum(tf.square(tape.gradient(logits, real)), axis=[1, 2, 3]))


def gaussian_nll(x: tf.Tensor, mean: tf.Tensor, deviation: float) -> tf.Tensor:
    """-log N(x; mean, deviation^2 I): summed over what an example has (pixels and channels), mean over the batch, in nats.

    Source: Kingma and Welling 2013 (arXiv 1312.6114), appendix C.2, with a fixed deviation.

    Args:
      x, mean: [B, ...] float32.
      deviation: a number > 0, in units of x.

    Returns:
      Scalar; below 0 where the density is above 1.
    """
    squares = tf.reduce_sum(tf.square((x - mean) / deviation), axis=list(range(1, len(x.shape))))  # [B]
    constant = x.shape[1:].num_elements() * (math.log(2.0 * math.pi) + 2.0 * math.log(deviation))
    return 0.5 * (tf.reduce_mean(squares) + constant)


def kl_to_standard_normal(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """KL(N(mean, diag variance) || N(0, I)) = sum (mean^2 + variance - log variance - 1) / 2, mean over the batch, in nats.

    Source: Kingma and Welling 2013 (arXiv 1312.6114), appendix B.

    Args:
      mean, log_variance: [B, Z] float32.

    Returns:
      Scalar >= 0.
    """
    return 0.5 * tf.reduce_mean(tf.reduce_sum(tf.square(mean) + tf.exp(log_variance) - log_variance - 1.0, axis=-1))


def identity(z: tf.Tensor, z_hat: tf.Tensor) -> tf.Tensor:
    """E (z - z_hat)^2: the image must tell the latent it was made from, whatever the view. Source: HoloGAN, equation 2.

    Args:
      z, z_hat: [B, Z] float32.

    Returns:
      Scalar >= 0, small for both players; the discriminator and the generator minimise it.
    """
    return tf.reduce_mean(tf.square(z - z_hat))


def elevation(elevation_deg: tf.Tensor, read: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """E (u - read)^2, u = 2 (e - low) / (high - low) - 1: the image must tell from what height it was made. The source is ours.

    Args:
      elevation_deg: [B] float32.
      read: [B] float32, what the discriminator takes for its place in the range, from -1 to 1.
      low, high: of the range, degrees.

    Returns:
      Scalar >= 0, small for both players; 1/3 for a guess of nothing.
    """
    return tf.reduce_mean(tf.square(2.0 * (elevation_deg - low) / (high - low) - 1.0 - read))


def azimuth(azimuth_deg: tf.Tensor, read: tf.Tensor) -> tf.Tensor:
    """E |(cos a, sin a) - read|^2: the image must tell from which side it was made. The source is ours; InfoGAN's idea
    (Chen et al. 2016, arXiv 1606.03657, equation 5) for a code that is known to be an angle.

    Args:
      azimuth_deg: [B] float32.
      read: [B, 2] float32, what the discriminator takes for its cosine and sine.

    Returns:
      Scalar >= 0, small for both players; 1 for a guess of nothing.
    """
    angle = azimuth_deg * (math.pi / 180.0)
    return tf.reduce_mean(tf.reduce_sum(tf.square(tf.stack([tf.cos(angle), tf.sin(angle)], axis=1) - read), axis=1))


def labels(told: tf.Tensor, read: tf.Tensor) -> tf.Tensor:
    """-E log p(labels | image): an image must tell what it shows, each label for itself.

    Source: Odena et al. 2017 (arXiv 1610.09585), equation 3, for several labels an image.

    Args:
      told: [B, K] float32, 1 where an image shows the label and 0 where not.
      read: [B, K] float32, logits of what the discriminator takes for that.

    Returns:
      Scalar >= 0 in nats, the sum over labels; K log 2 for a guess of nothing.
    """
    return tf.reduce_mean(tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=told, logits=read), axis=1))


def pairwise_content(image: tf.Tensor, adapted: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """E [|d m|^2 / k - (d . m)^2 / k^2] of d = image - adapted: within the mask, differences of pixels are to stay what they were.

    It is the variance of d there: a change that is the same at all k masked values costs nothing. Source: Bousmalis et al. 2017
    (arXiv 1612.05424), equation 6; Eigen et al. 2014.

    Args:
      image, adapted: [B, H, W, C] float32.
      mask: [B, H, W, 1] float32, 1 where a pixel counts and 0 elsewhere. An image without any adds 0.

    Returns:
      Scalar >= 0.
    """
    axes = [1, 2, 3]
    count = tf.maximum(tf.reduce_sum(mask, axes) * image.shape[-1], 1.0)  # [B]
    apart = (image - adapted) * mask
    mean, square = (tf.reduce_sum(t, axes) / count for t in (apart, tf.square(apart)))
    return tf.reduce_mean(square - tf.square(mean))


def opacity(absorption: tf.Tensor) -> tf.Tensor:
    """How much light volumes keep from what lies behind them, mean over the ways along both horizontal axes.

    Minimised by a generator, it makes white walls dear: without it what is not to be seen may hide behind matter of the ground's
    colour, a thing of its own on each side, which need not be one solid that turns. Neural Volumes (Lombardi et al. 2019) has a
    prior on the opacity of rays.

    Args:
      absorption: [B, D, H, W], of each voxel, in nats.

    Returns:
      [B] in [0, 1].
    """
    ways = [1.0 - tf.exp(-tf.reduce_sum(absorption, axis=axis)) for axis in (1, 3)]  # [B,H,W], [B,D,H]
    return tf.add_n([tf.reduce_mean(kept, axis=[1, 2]) for kept in ways]) / 2.0
