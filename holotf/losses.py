"""Losses: pure functions of tensors, in pairs (discriminator, generator). Logits are [B] float32 and unbounded."""

import tensorflow as tf


def _cross_entropy(logits, label):
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.fill(tf.shape(logits), label), logits=logits))


def bce_discriminator(real, fake):
    """-E log D(real) - E log(1 - D(fake)). Source: Goodfellow et al. 2014, equation 1. Logits of any shape -> scalar >= 0."""
    return _cross_entropy(real, 1.0) + _cross_entropy(fake, 0.0)


def bce_generator(fake):
    """-E log D(fake), the non-saturating form. Source: Goodfellow et al. 2014, section 3. Logits of any shape -> scalar >= 0."""
    return _cross_entropy(fake, 1.0)


def hinge_discriminator(real, fake):
    """E max(0, 1 - real) + E max(0, 1 + fake). Source: Lim and Ye 2017; Miyato et al. 2018, equation 16. Scalar >= 0."""
    return tf.reduce_mean(tf.nn.relu(1.0 - real)) + tf.reduce_mean(tf.nn.relu(1.0 + fake))


def hinge_generator(fake):
    """-E fake. Source: Miyato et al. 2018, equation 17. Scalar, unbounded."""
    return -tf.reduce_mean(fake)


def lsgan_discriminator(real, fake):
    """(E (real - 1)^2 + E fake^2) / 2. Source: Mao et al. 2017, equation 9 (a = 0, b = c = 1). Scalar >= 0."""
    return 0.5 * (tf.reduce_mean(tf.square(real - 1.0)) + tf.reduce_mean(tf.square(fake)))


def lsgan_generator(fake):
    """E (fake - 1)^2 / 2. Source: Mao et al. 2017, equation 9. Scalar >= 0."""
    return 0.5 * tf.reduce_mean(tf.square(fake - 1.0))


def wgan_discriminator(real, fake):
    """E fake - E real, minus the Wasserstein estimate. Source: Arjovsky et al. 2017, equation 2. Scalar, unbounded."""
    return tf.reduce_mean(fake) - tf.reduce_mean(real)


def wgan_generator(fake):
    """-E fake. Source: Arjovsky et al. 2017, algorithm 1. Scalar, unbounded."""
    return -tf.reduce_mean(fake)


def gradient_penalty(critic, real, fake, mix):
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


def identity(z, z_hat):
    """E (z - z_hat)^2: the image must tell the latent it was made from, whatever the view. Source: HoloGAN, equation 2.

    Args:
      z, z_hat: [B, Z] float32.

    Returns:
      Scalar >= 0, small for both players; the discriminator and the generator minimise it.
    """
    return tf.reduce_mean(tf.square(z - z_hat))
