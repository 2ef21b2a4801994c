"""A perspective ray caster for scenes of coloured boxes, in NumPy alone.

World frame: right-handed, x right, y up, z toward the viewer. Azimuth and elevation are the camera's: at azimuth 0 it faces
the object's front (+z side), at 90 it stands on the object's +x side; a positive elevation looks down. The sun stands still in
the world, so a face keeps its colour while the camera goes round.
"""

from dataclasses import dataclass

import numpy as np

SUN = np.array([0.45, 0.75, 0.20], np.float32) / np.sqrt(np.float32(0.45**2 + 0.75**2 + 0.20**2))
AMBIENT = 0.35
# Face order: -x, +x, -y, +y, -z, +z of the box's own frame; index = 2 * axis + (1 if positive).
_FACE_NORMALS = np.concatenate([np.stack([-axis, axis]) for axis in np.eye(3, dtype=np.float32)])  # [6,3]


@dataclass(frozen=True)
class Boxes:
    """K boxes.

    Attributes:
      centres: float32 [K,3], world.
      half_sizes: float32 [K,3], half the edge lengths along each box's own axes.
      rotations: float32 [K,3,3]; columns are the box's own axes in the world.
      colours: float32 [K,3], RGB in [0, 1].
    """

    centres: np.ndarray
    half_sizes: np.ndarray
    rotations: np.ndarray
    colours: np.ndarray

    def corners(self) -> np.ndarray:
        """Returns float32 [K,8,3], the boxes' corners in the world."""
        signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing="ij"), -1).reshape(8, 3).astype(np.float32)
        own = signs[None] * self.half_sizes[:, None]  # [K,8,3]
        return self.centres[:, None] + np.einsum("kij,knj->kni", self.rotations, own)

    def normalised(self) -> "Boxes":
        """Returns the same object with its bounding box centred on the origin and its farthest corner at distance 1."""
        corners = self.corners().reshape(-1, 3)
        middle = (corners.min(0) + corners.max(0)) / 2
        radius = np.sqrt(((corners - middle) ** 2).sum(-1).max())
        return Boxes((self.centres - middle) / radius, self.half_sizes / radius, self.rotations, self.colours)


def camera_axes(azimuth_deg: float, elevation_deg: float) -> np.ndarray:
    """Returns float32 [3,3]: rows are the camera's right, up and backward (from the object to the camera) in the world."""
    azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
    sin_a, cos_a, sin_e, cos_e = np.sin(azimuth), np.cos(azimuth), np.sin(elevation), np.cos(elevation)
    right = [cos_a, 0, -sin_a]
    up = [-sin_e * sin_a, cos_e, -sin_e * cos_a]
    backward = [cos_e * sin_a, sin_e, cos_e * cos_a]
    return np.array([right, up, backward], np.float32)


def face_colours(boxes: Boxes) -> np.ndarray:
    """Returns float32 [K,6,3]: colour * (ambient + (1 - ambient) * (1 + n . sun) / 2), Lambert wrapped round the object.

    Wrapped, so that the faces turned away from the sun still differ from each other: it is by these that a view is told.
    """
    normals = np.einsum("kij,fj->kfi", boxes.rotations, _FACE_NORMALS)  # [K,6,3]
    light = AMBIENT + (1 - AMBIENT) * (1 + normals @ SUN) / 2  # [K,6]
    return boxes.colours[:, None] * light[..., None]


def render(
    boxes: Boxes,
    azimuth_deg: float,
    elevation_deg: float,
    distance: float,
    size: int,
    half_width: float,
    supersample: int = 2,
) -> np.ndarray:
    """Casts one ray per subpixel and averages.

    Args:
      boxes: the object, about the origin; all of it nearer to the origin than the camera.
      azimuth_deg: the camera's.
      elevation_deg: the camera's.
      distance: of the camera from the origin, in world units.
      size: pixels a side.
      half_width: tangent of half the field of view.
      supersample: subpixels along each side of a pixel.

    Returns:
      uint8 [size,size,3] on white.
    """
    fine = size * supersample
    axes = camera_axes(azimuth_deg, elevation_deg)
    eye = axes[2] * np.float32(distance)
    steps = ((np.arange(fine, dtype=np.float32) + 0.5) * (2 / fine) - 1) * np.float32(half_width)
    # The ray of row i, column j goes along -backward + steps[j] right - steps[i] up; its depth along -backward is t itself.
    depth = np.full((fine, fine), np.inf, np.float32)
    face = np.full((fine, fine), 6 * len(boxes.centres), np.int32)  # the last entry of the table is the background

    windows = _windows(boxes, axes, distance, fine, half_width)
    for k, (top, bottom, left, right) in enumerate(windows):
        if top >= bottom or left >= right:
            continue
        own = axes @ boxes.rotations[k]  # The camera's right, up, backward in the box's own frame.
        origin = (eye - boxes.centres[k]) @ boxes.rotations[k]
        enter, leave, axis_entered = None, None, None
        for axis in range(3):
            across = steps[left:right] * own[0, axis] - own[2, axis]
            along = across[None, :] - (steps[top:bottom] * own[1, axis])[:, None]
            # A ray parallel to a slab divides by (nearly) zero: nudged, it misses or hits the slab just as it should.
            along[np.abs(along) < 1e-12] = 1e-12
            inverse = 1 / along
            middle = -origin[axis] * inverse
            reach = np.abs(inverse) * boxes.half_sizes[k, axis]
            if axis == 0:
                enter, leave = middle - reach, middle + reach
                axis_entered = np.where(along < 0, 1, 0)
            else:
                near = middle - reach
                later = near > enter
                np.copyto(axis_entered, np.where(along < 0, 2 * axis + 1, 2 * axis), where=later)
                np.maximum(enter, near, out=enter)
                np.minimum(leave, middle + reach, out=leave)
        here = depth[top:bottom, left:right]
        hit = (enter <= leave) & (enter > 0) & (enter < here)
        np.copyto(here, enter, where=hit)
        np.copyto(face[top:bottom, left:right], axis_entered + 6 * k, where=hit)

    table = np.concatenate([face_colours(boxes).reshape(-1, 3), np.ones((1, 3), np.float32)]) * 255
    # [size*s,size*s,3] -> [size,s,size,s,3] -> [size,size,3]
    colour = table[face].reshape(size, supersample, size, supersample, 3).mean((1, 3))
    return (colour + 0.5).clip(0, 255).astype(np.uint8)


def _windows(boxes: Boxes, axes: np.ndarray, distance: float, fine: int, half_width: float) -> np.ndarray:
    """Returns int [K,4]: rows top:bottom and columns left:right of subpixels outside which a box is not seen."""
    seen = boxes.corners() @ axes.T  # [K,8,3]: right, up, backward
    scale = fine / 2 / (half_width * (distance - seen[..., 2]))
    columns = fine / 2 + seen[..., 0] * scale
    rows = fine / 2 - seen[..., 1] * scale
    edges = np.stack([rows.min(1) - 1, rows.max(1) + 1, columns.min(1) - 1, columns.max(1) + 1], -1)
    return np.clip(edges, 0, fine).astype(int)
