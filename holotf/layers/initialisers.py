"""First weights."""

import keras


def normal(stddev: float = 0.02, mean: float = 0.0) -> keras.initializers.Initializer:
    """N(0, 0.02) if not told otherwise: the first weights of DCGAN and its descendants (Radford et al. 2015, section 3)."""
    return keras.initializers.RandomNormal(mean=mean, stddev=stddev)
