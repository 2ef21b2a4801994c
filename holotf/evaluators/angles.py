"""Angles in degrees."""

import numpy as np
from numpy.typing import ArrayLike


def wrap(angle_deg: ArrayLike) -> np.ndarray:
    """Degrees -> the same angle in (-180, 180]."""
    return -((180.0 - np.asarray(angle_deg)) % 360.0 - 180.0)


def arc(azimuth_deg: ArrayLike, share: float = 0.9) -> float:
    """Length of the shortest arc of the circle that holds a share of the angles, in degrees: 360 x share if they are uniform.

    Args:
      azimuth_deg: [n], any multiples of the circle.
      share: above 0, at most 1.

    Returns:
      0 to 360.
    """
    sorted_deg = np.sort(np.mod(np.asarray(azimuth_deg, np.float64), 360.0))
    held = max(1, int(np.ceil(share * len(sorted_deg))))
    ends = np.concatenate([sorted_deg, sorted_deg + 360.0])[held - 1 :][: len(sorted_deg)]  # of the arcs that begin at each
    return float(np.min(ends - sorted_deg))
