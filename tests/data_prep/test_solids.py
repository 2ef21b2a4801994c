"""The ray caster of solids against one ray at a time, in float64, and against arithmetic."""

import numpy as np
import pytest

from data_prep import solids
from data_prep.blocks import field_of_view
from data_prep.raycast import camera_axes

WIDTH = field_of_view(3.5)


def standing(*parts):
    """Solids from (shape, x, z, radius, turn_deg), all grey."""
    shapes, *columns = zip(*parts, strict=True)
    x, z, radii, turns = (np.array(column, np.float32) for column in columns)
    return solids.Solids(shapes, np.stack([x, z], 1), radii, turns, np.full((len(parts), 3), 0.5, np.float32))


THREE = standing(("cube", -0.4, 0.2, 0.25, 30.0), ("sphere", 0.1, -0.3, 0.3, 0.0), ("cylinder", 0.5, 0.3, 0.2, 0.0))


def inside(made, k, points):
    """Whether points [M,3] are in solid k, by its definition."""
    x, y, z = (points - [made.centres[k, 0], 0, made.centres[k, 1]]).T
    radius = float(made.radii[k])
    if made.shapes[k] == "sphere":
        return x**2 + (y - radius) ** 2 + z**2 < radius**2
    if made.shapes[k] == "cylinder":
        return (x**2 + z**2 < radius**2) & (y > 0) & (y < 2 * radius)
    turn, half = np.radians(made.turns_deg[k]), radius / np.sqrt(2)
    along, across = np.cos(turn) * x - np.sin(turn) * z, np.sin(turn) * x + np.cos(turn) * z
    return (abs(along) < half) & (abs(across) < half) & (y > 0) & (y < 2 * half)


@pytest.mark.parametrize("k", range(3))
def test_a_ray_is_inside_between_where_it_enters_and_where_it_leaves(k):
    rng = np.random.default_rng(k)
    origin = np.array([0.3, 1.5, 3.0])
    aims = THREE.middles[k] + rng.normal(0, 0.25, (300, 3))
    ways = (aims - origin) * rng.uniform(0.5, 2, (300, 1))
    enter, leave = THREE.crossing(k, origin, ways.T)
    steps = np.linspace(0, 3, 3001)
    for way, first, last in zip(ways, enter, leave, strict=True):
        here = inside(THREE, k, origin + steps[:, None] * way)
        assert here.sum() == pytest.approx(max(0.0, last - first) / 1e-3, abs=2)
        if here.any():
            assert (steps[here][0], steps[here][-1]) == pytest.approx((first, last), abs=2e-3)
    assert 50 < (enter < leave).sum() < 250


@pytest.mark.parametrize("k", range(3))
def test_normals_point_out_of_the_surface_at_a_right_angle(k):
    rng = np.random.default_rng(k)
    origin = np.array([0.3, 1.5, 3.0])
    ways = THREE.middles[k] + rng.normal(0, 0.1, (200, 3)) - origin
    enter, leave = THREE.crossing(k, origin, ways.T)
    points = (origin + enter[:, None] * ways)[enter < leave]
    normals = THREE.normals(k, points.astype(np.float32)).astype(float)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)
    assert not inside(THREE, k, points + 1e-3 * normals).any()
    assert inside(THREE, k, points - 1e-3 * normals).mean() > 0.97  # but where an edge is near
    for _ in range(5):  # a step along the surface stays on it to second order
        sideways = np.cross(normals, rng.normal(size=normals.shape))
        away = points + 1e-3 * sideways
        assert (inside(THREE, k, away - 1e-4 * normals) & ~inside(THREE, k, away + 1e-4 * normals)).mean() > 0.95


def test_what_is_seen_is_what_the_nearest_crossing_says():
    size, azimuth, elevation = 24, 20.0, 28.0
    view = solids.look(THREE, azimuth, elevation, 3.5, size, WIDTH, 2)
    right, up, backward = camera_axes(azimuth, elevation).astype(float)
    eye = np.array([0, 0.15, 0]) + 3.5 * backward
    np.testing.assert_allclose(view.eye, eye, atol=1e-6)
    for group, row, column in np.ndindex(4, size, size):
        i, j = row + (group // 2 + 0.5) / 2, column + (group % 2 + 0.5) / 2
        way = (2 * j / size - 1) * WIDTH * right + (1 - 2 * i / size) * WIDTH * up - backward
        ends = [-eye[1] / way[1]]
        for k in range(3):
            enter, leave = THREE.crossing(k, eye, way)
            ends.append(float(enter) if enter < leave else np.inf)
        nearest = int(np.argmin(ends))
        close = sorted(ends)[1] - min(ends) < 1e-3
        assert close or view.owner[group, row, column] == (3 if nearest == 0 else nearest - 1)
        np.testing.assert_allclose(view.points[group, row, column], eye + min(ends) * way, atol=1e-3)
    assert set(np.unique(view.owner)) == {0, 1, 2, 3}


def test_shares_in_view_are_those_left_by_what_stands_before():
    hidden = standing(("cylinder", 0.0, 0.4, 0.26, 0.0), ("sphere", 0.0, -0.3, 0.23, 0.0))
    seen = solids.look(hidden, 0, 25, 3.5, 64, WIDTH, 1).seen
    assert seen[0] == 1
    assert 0.05 < seen[1] < 0.8
    np.testing.assert_array_equal(solids.look(hidden, 90, 25, 3.5, 64, WIDTH, 1).seen, 1)


def pictured(made, lamp, **view):
    view = {"azimuth_deg": 0, "elevation_deg": 28, "distance": 3.5, "size": 64, "half_width": WIDTH, "supersample": 2} | view
    return solids.shade(made, solids.look(made, **view), np.array(lamp, np.float32) / np.linalg.norm(lamp)).astype(int)


def test_shadows_fall_away_from_the_lamp_and_are_soft():
    one = standing(("cylinder", 0.0, 0.0, 0.25, 0.0))
    left, right = pictured(one, (-1, 1, 0)), pictured(one, (1, 1, 0))
    row = left[36, :, 0]
    assert row[44:56].min() < row[8:20].min() - 30, "lit from the left, the shadow lies on the right"
    np.testing.assert_allclose(right, left[:, ::-1], atol=12)  # the lamp's points are no mirror image
    edge = row[44:60]
    assert len(np.unique(edge)) > 8, "its edge is no step"
    assert np.diff(edge).max() < 25


def test_a_shadow_is_as_dark_as_the_part_of_the_lamp_that_is_hidden():
    """On the ground right behind a wide solid no point of the lamp is seen, in front of it all are: by hand, from the formula."""
    one, groups = standing(("cylinder", 0.0, 0.0, 0.3, 0.0)), 4
    lamps = solids._lamp_points(np.array([-1, 1, 0], np.float32) / np.sqrt(np.float32(2)), groups)
    points = np.array([[0.4, 0, 0], [-0.5, 0, 0], [2.0, 0, 0], [0.93, 0, 0]], np.float32)
    rays = np.broadcast_to(points, (groups, 4, 3)).copy()
    lit = solids._lit(one, rays, np.full((groups, 4), 1), lamps).mean((0, 2))
    assert lit[:3].tolist() == [0, 1, 1]
    assert 0.2 < lit[3] < 0.9
    heights = np.array([np.linalg.norm(way[:2] / way[1]) for way in lamps.reshape(-1, 3)])
    assert abs(np.degrees(np.arctan(1 / np.sqrt(heights**2 - 1))).mean() - 45) < 1
    naive = np.mean(
        [not any(inside(one, 0, points[3] + t * way[None]) for t in np.linspace(0, 2, 2000)) for way in lamps.reshape(-1, 3)]
    )
    assert lit[3] == pytest.approx(naive, abs=0.03)


def test_what_hides_the_lamp_is_found_from_anywhere():
    """Points on the ground and above it, against steps of a thousandth along each way to the lamp."""
    rng = np.random.default_rng(0)
    lamp = np.array([-0.5, 0.8, 0.6], np.float32)
    lamps = solids._lamp_points(lamp / np.linalg.norm(lamp), 4)[:1]
    points = rng.uniform([-1, 0, -1], [1, 0.5, 1], (400, 3))
    points[:200, 1] = 0
    lifted = points + np.array([0, 1e-6, 0])
    points = points[~np.any([inside(THREE, k, lifted) for k in range(3)], axis=0)].astype(np.float32)
    lit = solids._lit(THREE, points[None], np.full((1, len(points)), 3), lamps)[0]
    steps = np.linspace(1e-3, 1.2, 1200)
    for point, sees in zip(points, lit, strict=True):
        hidden = [np.sum([inside(THREE, k, point + steps[:, None] * way).sum() for k in range(3)]) for way in lamps[0]]
        assert all(
            free == (steps_inside == 0) for free, steps_inside in zip(sees, hidden, strict=True) if steps_inside not in (1, 2)
        )
    assert 0.1 < lit.mean() < 0.9


def test_a_solid_in_anothers_shadow_is_dark():
    both = standing(("cylinder", -0.35, 0.0, 0.26, 0.0), ("sphere", 0.25, 0.0, 0.23, 0.0))
    alone = standing(("sphere", 0.25, 0.0, 0.23, 0.0))
    lamp = (-1, 0.5, 0)
    owner = solids.look(both, 0, 28, 3.5, 64, WIDTH, 2).owner
    core = (owner == 1).all(0)
    darker = (pictured(alone, lamp) - pictured(both, lamp))[core]
    assert darker.min() >= 0
    assert darker.max() > 60
    assert (darker == 0).any(), "its top looks over the other at the lamp"


def test_the_sky_under_a_ball_is_hidden_by_it():
    """r^3 / (r^2 + d^2)^(3/2) against rays into the hemisphere, weighted by their cosine."""
    ball = standing(("sphere", 0.0, 0.0, 0.25, 0.0))
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(0, 2 * np.pi, 20000), np.sqrt(rng.random(20000))  # Malley: the cosine's own density
    ways = np.stack([radius * np.cos(angle), np.sqrt(1 - radius**2), radius * np.sin(angle)])
    for away in (0.05, 0.2, 0.5):
        enter, leave = ball.crossing(0, (away, 0.0, 0.0), ways)
        free = 1 - np.mean((enter < leave) & (leave > 0))
        open_sky = solids._open_sky(ball, np.array([[[away, 0, 0]]], np.float32))[0, 0]
        assert open_sky == pytest.approx(free, abs=0.015)
