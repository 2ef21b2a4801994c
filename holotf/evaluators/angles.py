"""Angles in degrees."""

import numpy as np
from numpy.typing import ArrayLike


def wrap(angle_deg: ArrayLike) -> np.ndarray:
    """Degrees -> the same angle in (-180, 180]."""
    return -((180.0 - np.asarray(angle_deg)) % 360.0 - 180.0)
