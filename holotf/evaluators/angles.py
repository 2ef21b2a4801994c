"""Angles in degrees."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

CHUNK = 256  # offsets tried at once


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


class Fit(NamedTuple):
    """true = sense x read + offset."""

    sense: int
    offset_deg: float

    def error_deg(self, read_deg: np.ndarray, true_deg: np.ndarray) -> np.ndarray:
        """How far off readings are: [N], [N] -> [N] in [0, 180]."""
        return np.abs(wrap(self.sense * read_deg + self.offset_deg - true_deg))


def fitted(read_deg: np.ndarray, true_deg: np.ndarray) -> Fit:
    """The sense and the offset of the least mean absolute error: [N], [N] -> `Fit`.

    For either sense that error, as a function of the offset, is linear but where an image is read rightly or opposite, and
    convex at the former alone: so its least value is at an offset with which one of the images is read rightly.
    """
    best = []
    for sense in (1, -1):
        wanted = wrap(np.asarray(true_deg, np.float64) - sense * np.asarray(read_deg, np.float64))  # [N]
        chunks = [wanted[i : i + CHUNK, np.newaxis] for i in range(0, len(wanted), CHUNK)]
        errors = np.concatenate([np.abs(wrap(offsets - wanted)).mean(axis=1) for offsets in chunks])
        best.append((errors.min(), Fit(sense, float(wanted[errors.argmin()]))))
    return min(best, key=lambda pair: pair[0])[1]
