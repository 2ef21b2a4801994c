"""Angles in degrees."""

import numpy as np


def wrap(angle_deg):
    """Degrees -> the same angle in (-180, 180]."""
    return -((180.0 - np.asarray(angle_deg)) % 360.0 - 180.0)
