"""A perspective ray caster for cubes, spheres and cylinders on a grey ground, with soft shadows, in NumPy alone.

World frame, azimuth and elevation are those of `data_prep.raycast`; the ground is y = 0. Light is linear until the last line,
which makes sRGB of it. The lamp is a disc far away: each subpixel looks at a few points of it, neighbours at others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.raycast import camera_axes

SHAPES = ("cube", "sphere", "cylinder")
LOOKED_AT = np.array([0, 0.15, 0], np.float32)  # what the camera faces: the middle of what stands on the ground
LAMP_RADIUS = 0.2  # of the disc, seen from the ground, in radians: how soft shadows are
LAMP_POINTS = 36  # that a pixel looks at, over its subpixels
GROUND = 0.24  # albedo
KEY, SKY = 1.3, 0.38  # radiance that the lamp and the sky give to a surface that faces them
GLOSS, GLOSS_POWER = 0.28, 30.0  # of the highlight (Blinn and Phong)
FALL_OFF = 7.0  # distance from the middle at which the ground has lost half of its light
BACKDROP = 0.07  # radiance where the ground is infinitely far away


@dataclass(frozen=True)
class Solids:
    """K solids that stand on the ground.

    Attributes:
      shapes: K names among SHAPES.
      centres: float32 [K,2], x and z.
      radii: float32 [K], of the circle round a solid's footprint: a cube's is half the diagonal of its faces.
      turns_deg: float32 [K], about the vertical; they show on cubes.
      colours: float32 [K,3], linear RGB in [0, 1].
    """

    shapes: tuple[str, ...]
    centres: np.ndarray
    radii: np.ndarray
    turns_deg: np.ndarray
    colours: np.ndarray

    @property
    def heights(self) -> np.ndarray:
        """Float32 [K]: of spheres and cylinders their diameter, of cubes their edge."""
        edges = np.array([np.sqrt(2) if shape == "cube" else 2.0 for shape in self.shapes], np.float32)
        return edges * self.radii

    @property
    def middles(self) -> np.ndarray:
        """Float32 [K,3], the centres in the world."""
        return np.stack([self.centres[:, 0], self.heights / 2, self.centres[:, 1]], axis=1)

    def own_frame(self, k: int, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Horizontal coordinates or directions in solid k's own frame."""
        if self.shapes[k] != "cube":
            return x, z
        sin, cos = np.sin(np.radians(self.turns_deg[k])), np.cos(np.radians(self.turns_deg[k]))
        return cos * x - sin * z, sin * x + cos * z

    def crossing(self, k: int, origin: Sequence[np.ndarray], direction: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Where rays enter and leave solid k, in lengths of `direction`; enter > leave where they miss.

        A solid is what slabs and a round body have in common, and so are their intervals.

        Args:
          k: which.
          origin, direction: three arrays each, x, y and z, which broadcast together; directions of any length.
        """
        x, y, z = (o - c for o, c in zip(origin, self.middles[k], strict=True))
        dx, dy, dz = direction
        half = self.heights[k] / 2
        if self.shapes[k] == "sphere":
            return _round(dx * dx + dy * dy + dz * dz, x * dx + y * dy + z * dz, x * x + y * y + z * z - half**2)
        x, z = self.own_frame(k, x, z)
        dx, dz = self.own_frame(k, dx, dz)
        intervals = [_slab(y, dy, half)]
        if self.shapes[k] == "cube":
            intervals += [_slab(x, dx, half), _slab(z, dz, half)]
        else:
            intervals += [_round(dx * dx + dz * dz, x * dx + z * dz, x * x + z * z - self.radii[k] ** 2)]
        enter, leave = intervals[0]
        for later, sooner in intervals[1:]:
            enter, leave = np.maximum(enter, later), np.minimum(leave, sooner)
        return enter, leave

    def normals(self, k: int, points: np.ndarray) -> np.ndarray:
        """Outward normals at points [M,3] of solid k's surface: float32 [M,3]."""
        away = (points - self.middles[k]) / (self.heights[k] / 2)
        if self.shapes[k] == "sphere":
            return away
        x, z = self.own_frame(k, away[:, 0], away[:, 2])
        side = np.abs(x) > np.abs(z) if self.shapes[k] == "cube" else None
        reach = np.hypot(x, z) if side is None else np.where(side, np.abs(x), np.abs(z))
        if side is not None:
            x, z = np.where(side, np.sign(x), 0), np.where(side, 0, np.sign(z))
        top = away[:, 1] > reach
        length = np.maximum(np.hypot(x, z), 1e-6)
        cos, sin = self.own_frame(k, np.float32(1), np.float32(0))  # back into the world by the turn the other way round
        x, z = (cos * x + sin * z) / length, (cos * z - sin * x) / length
        return np.stack([np.where(top, 0, x), top, np.where(top, 0, z)], axis=1).astype(np.float32)


def _slab(at, along, half):
    """Enter and leave of |at + t along| <= half. Nudged, a ray parallel to it misses or stays inside, just as it should."""
    inverse = 1 / np.where(np.abs(along) < 1e-9, np.float32(1e-9), along)
    middle, reach = -at * inverse, half * np.abs(inverse)
    return middle - reach, middle + reach


def _round(a, b, c):
    """Enter and leave of a t^2 + 2 b t + c <= 0; (inf, -inf) where nothing is."""
    a = np.maximum(a, np.float32(1e-12))
    discriminant = b * b - a * c
    root = np.sqrt(np.maximum(discriminant, 0))
    hit = discriminant > 0
    return np.where(hit, (-b - root) / a, np.float32(np.inf)), np.where(hit, (root - b) / a, np.float32(-np.inf))


@dataclass(frozen=True)
class View:
    """What a camera sees of solids, before any light.

    Attributes:
      points: float32 [S*S,size,size,3], where the ray of each subpixel ends: those of one place in their pixels lie together.
      owner: int [S*S,size,size], which solid is there; K for the ground.
      seen: float [K], the share of each solid's subpixels that no other solid hides.
      eye: float32 [3].
    """

    points: np.ndarray
    owner: np.ndarray
    seen: np.ndarray
    eye: np.ndarray


def look(
    solids: Solids, azimuth_deg: float, elevation_deg: float, distance: float, size: int, half_width: float, supersample: int
) -> View:
    """Casts one ray per subpixel.

    Args:
      solids: all of them nearer to the middle than the camera.
      azimuth_deg, elevation_deg: the camera's.
      distance: of the camera from what it faces, in world units.
      size: pixels a side.
      half_width: tangent of half the field of view.
      supersample: S, subpixels along each side of a pixel.
    """
    axes = camera_axes(azimuth_deg, elevation_deg)
    eye = LOOKED_AT + axes[2] * np.float32(distance)
    # [S,size]: the subpixels at one place in their pixels, from left to right and from top to bottom
    places = (np.arange(size)[None] + (np.arange(supersample)[:, None] + 0.5) / supersample).astype(np.float32)
    steps = (places * (2 / size) - 1) * np.float32(half_width)
    across = np.broadcast_to(steps[None, :, None, :], (supersample, supersample, size, size)).reshape(-1, size, size)
    down = np.broadcast_to(steps[:, None, :, None], (supersample, supersample, size, size)).reshape(-1, size, size)
    ways = [across * axes[0, i] - down * axes[1, i] - axes[2, i] for i in range(3)]
    depth = np.where(ways[1] < -1e-6, -eye[1] / np.minimum(ways[1], -1e-6), np.float32(1e6))
    owner = np.full(depth.shape, len(solids.shapes), np.int32)
    covered = np.zeros(len(solids.shapes))
    for k, (top, bottom, left, right) in enumerate(_windows(solids, axes, eye, size, half_width)):
        window = np.s_[:, top:bottom, left:right]
        enter, leave = solids.crossing(k, eye, [way[window] for way in ways])
        hit = (enter < leave) & (enter > 0)
        covered[k] = hit.sum()
        hit &= enter < depth[window]
        np.copyto(depth[window], enter, where=hit)
        np.copyto(owner[window], np.int32(k), where=hit)
    seen = np.bincount(owner.ravel(), minlength=len(covered) + 1)[:-1] / np.maximum(covered, 1)
    points = np.stack([e + way * depth for e, way in zip(eye, ways, strict=True)], axis=-1)
    return View(points, owner, seen, eye)


def _windows(solids, axes, eye, size, half_width):
    """Int [K,4]: rows top:bottom and columns left:right of pixels outside which a solid is not seen."""
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing="ij"), -1).reshape(1, 8, 3)
    reach = np.stack([solids.radii, solids.heights / 2, solids.radii], axis=1)[:, None]
    corners = (solids.middles[:, None] + signs * reach - eye) @ axes.T  # [K,8,3]: right, up, backward
    scale = size / 2 / (half_width * np.maximum(-corners[..., 2], 1e-3))
    columns, rows = size / 2 + corners[..., 0] * scale, size / 2 - corners[..., 1] * scale
    edges = np.stack([rows.min(1) - 1, rows.max(1) + 2, columns.min(1) - 1, columns.max(1) + 2], -1)
    return np.clip(edges, 0, size).astype(int)


def shade(solids: Solids, view: View, lamp: np.ndarray) -> np.ndarray:
    """Lights what a camera sees.

    L = albedo (KEY mean over the lamp of max(0, n.l) visible + SKY open (1 + n_y) / 2) + highlight.

    Args:
      solids: as in `look`.
      view: what it returned.
      lamp: float32 [3], the unit vector towards the lamp's middle.

    Returns:
      uint8 [size,size,3], sRGB.
    """
    groups, size = view.points.shape[:2]
    rays = view.points.reshape(groups, -1, 3)  # [G,N,3]
    owner = view.owner.reshape(groups, -1)
    lamps = _lamp_points(lamp, groups)  # [G,P,3]
    lit = _lit(solids, rays, owner, lamps)  # [G,N,P]
    open_sky = _open_sky(solids, rays)
    light = KEY * (lit * lamps[:, None, :, 1]).mean(-1) + SKY * open_sky  # [G,N]: as on the ground
    fall_off = 1 / (1 + np.square(np.hypot(rays[..., 0], rays[..., 2]) / FALL_OFF))
    radiance = ((GROUND * light - BACKDROP) * fall_off + BACKDROP)[..., None].repeat(3, -1)  # [G,N,3]
    for k, colour in enumerate(solids.colours):
        group, place = np.nonzero(owner == k)
        points, lamps_here = rays[group, place], lamps[group]  # [M,3], [M,P,3]
        normals = solids.normals(k, points)
        facing = np.maximum((normals[:, None] * lamps_here).sum(-1), 0) * lit[group, place]  # [M,P]
        sky = SKY * (0.5 + 0.5 * normals[:, 1]) + 0.5 * SKY * GROUND * (1 - normals[:, 1])  # and what the ground gives back
        eyeward = view.eye - points
        half = lamps_here + (eyeward / np.linalg.norm(eyeward, axis=-1, keepdims=True))[:, None]
        shine = (normals[:, None] * half).sum(-1) / np.linalg.norm(half, axis=-1)
        gloss = GLOSS * (np.maximum(shine, 0) ** GLOSS_POWER * lit[group, place] * (facing > 0)).mean(-1)
        radiance[group, place] = colour * (KEY * facing.mean(-1) + sky)[:, None] + gloss[:, None]
    linear = radiance.mean(0).clip(0, 1)  # [N,3], over the subpixels
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    return (srgb * 255 + 0.5).astype(np.uint8).reshape(size, size, 3)


def _lamp_points(lamp, groups):
    """Unit vectors towards points of the lamp, float32 [G,P,3]: Vogel's spiral, dealt out to the subpixels' groups."""
    each = -(-LAMP_POINTS // groups)
    number = np.arange(groups * each)
    radius = LAMP_RADIUS * np.sqrt((number + 0.5) / len(number))
    angle = number * (np.pi * (3 - np.sqrt(5)))
    right = np.cross([0, 1, 0], lamp)
    right /= np.linalg.norm(right)
    up = np.cross(lamp, right)
    points = lamp + radius[:, None] * (np.cos(angle)[:, None] * right + np.sin(angle)[:, None] * up)
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    return points.astype(np.float32).reshape(each, groups, 3).transpose(1, 0, 2)


def _lit(solids, rays, owner, lamps):
    """Which points of the lamp each point sees past the other solids: bool [G,N,P]."""
    lit = np.ones((*rays.shape[:2], lamps.shape[1]), bool)
    directions = [lamps[:, None, :, i] for i in range(3)]  # [G,1,P]
    shadow = -lamps[..., ::2].mean((0, 1))  # the way shadows fall, x and z
    steepest = np.sqrt(1 / np.square(lamps[..., 1].min()) - 1)  # of the lamp's points, horizontal way for each unit of height
    for k in range(len(solids.shapes)):
        x, z = rays[..., 0] - solids.centres[k, 0], rays[..., 2] - solids.centres[k, 1]
        within = np.hypot(x, z) < solids.radii[k] + steepest * solids.heights[k]
        behind = shadow[0] * x + shadow[1] * z > -solids.radii[k] * np.hypot(*shadow)
        near = np.flatnonzero((within & behind & (owner != k)).any(0))
        points = [rays[:, near][..., None, i] for i in range(3)]  # [G,M,1]
        enter, leave = solids.crossing(k, points, directions)
        hidden = (enter < leave) & (leave > 1e-4) & (owner[:, near] != k)[..., None]
        lit[:, near] &= ~hidden
    return lit


def _open_sky(solids, rays):
    """The share of the sky that the ground sees, weighted by its cosine: float32 [G,N].

    A sphere of radius r that touches the ground at distance d hides r^3 / (r^2 + d^2)^(3/2) of it; every solid counts as one.
    """
    open_sky = np.ones(rays.shape[:2], np.float32)
    for radius, centre in zip(solids.radii, solids.centres, strict=True):
        square = np.square(rays[..., 0] - centre[0]) + np.square(rays[..., 2] - centre[1])
        open_sky *= 1 - (1 + square / radius**2) ** np.float32(-1.5)
    return open_sky
