"""Outlines: where an image shows the object, and what opposite outlines have to do with each other."""

import numpy as np

DIFFERS = 32  # grey levels, in the channel that differs most: 99 % of real renders' pixels do, ripples of made grounds do not
PLAIN = 8  # grey levels that the borders of nearly all images may differ by where the ground is plain
NEAR_DEG = 45.0  # angles nearer than this to the opposite side count as opposite
MARGIN = 0.05  # of intersection over union, by which the opposite side must fit better than any other
RETRACES = 0.25  # of the way from how well neighbouring views fit (0) to a way back that is the way out (1)
LOOKS_DOWN_DEG = 15.0  # elevation from which front and back have outlines different enough to tell a swing
ROUND = 0.85  # where every view fits every other so well, nothing tells how far the object turned


def plain_ground(images: np.ndarray) -> np.ndarray | None:
    """The colour of the ground, if all images have one.

    Args:
      images: uint8 [N, H, W, 3].

    Returns:
      uint8 [3], the median of the border pixels; None where more than a tenth of the images' corners are not of that colour.
    """
    corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]].astype(int)  # [N,4,3]
    ground = np.median(corners, axis=(0, 1))
    far = np.abs(corners - ground).max(axis=-1) > PLAIN  # [N,4]
    return ground.astype(np.uint8) if far.mean() <= 0.1 else None


def silhouettes(images: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Where images show something else than the ground: uint8 [..., H, W, 3], uint8 [3] -> bool [..., H, W]."""
    return np.abs(images.astype(np.int16) - ground.astype(np.int16)).max(axis=-1) > DIFFERS


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of silhouettes: bool [..., H, W] twice -> [...] in [0, 1]; 1 where both are empty."""
    union = np.logical_or(a, b).sum(axis=(-2, -1))
    return np.where(union > 0, np.logical_and(a, b).sum(axis=(-2, -1)) / np.maximum(union, 1), 1.0)


def mirrored_overlaps(sweep: np.ndarray) -> np.ndarray:
    """How well each view fits the mirror image of the view so many steps on.

    S(n) = mean over k of IoU(M_k, mirror(M_(k+n))). Looked at horizontally and from far away, an object that turns once has
    S(K/2) = 1: from behind one sees the outline from the front, mirrored, whatever the object. One that turns w times while the
    view turns once has its peaks at odd multiples of K / (2 w) instead.

    Args:
      sweep: bool [N, K, H, W], silhouettes of N objects from K sides, evenly round the circle.

    Returns:
      [N, K] in [0, 1], n = 0 to K - 1.
    """
    mirrored = sweep[..., ::-1]
    return np.stack([overlap(sweep, np.roll(mirrored, -n, axis=1)).mean(axis=1) for n in range(sweep.shape[1])], axis=1)


def retracing(tilted: np.ndarray) -> np.ndarray:
    """How far a sweep comes back the way it went: (R - A) / (1 - A).

    R = max over c of mean over k of IoU(M_k, M_(c-k)), the fit of the way back to the way out; A = mean over k of
    IoU(M_k, M_(k+1)), the fit of neighbours.

    Args:
      tilted: bool [N, K, H, W], silhouettes seen from above.

    Returns:
      [N], at most 1: 1 for a swing, about 0 or less for an object that turns, 0 for a frozen image.
    """
    backward = tilted[:, ::-1]
    back = np.max([overlap(tilted, np.roll(backward, c, axis=1)).mean(axis=1) for c in range(tilted.shape[1])], axis=0)
    neighbours = overlap(tilted, np.roll(tilted, -1, axis=1)).mean(axis=1)
    return (back - neighbours) / np.maximum(1.0 - neighbours, 1e-9)


def turns_once(level: np.ndarray, tilted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Whether each object turns once, and whether it is too round to tell.

    Once: the opposite side fits, mirrored, better by 0.05 than any view farther than 45 degrees from it, and the sweep from above
    does not come back the way it went. How well the opposite side fits is no part of it: made outlines flicker. Round: no side
    fits better than all others, and all fit (at least 0.85).

    Args:
      level: bool [N, K, H, W], silhouettes at elevation 0 from K sides, K even.
      tilted: bool [N, K', H, W], the same objects from above, by some 15 degrees at least. Level outlines cannot tell a turn from a
        swing about the front, of an object whose left is like its right; None lets such a swing pass.

    Returns:
      (once [N], round [N]), bool.
    """
    overlaps = mirrored_overlaps(level)
    count = overlaps.shape[1]
    away_deg = np.abs(np.arange(count) - count / 2) * 360.0 / count
    told = overlaps[:, count // 2] >= overlaps[:, away_deg > NEAR_DEG].max(axis=1) + MARGIN
    once = told if tilted is None else told & (retracing(tilted) < RETRACES)
    return once, ~told & (overlaps.min(axis=1) >= ROUND)
