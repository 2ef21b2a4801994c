"""Surfaces laid into densities whose shape is known, and the files that are read back."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import PUBLISHED, small_config

from holotf import models, surface
from holotf.generate import generate
from holotf.layers import rigid

trimesh = pytest.importorskip("trimesh", reason="pip install 'holotf[mesh]'")
pytest.importorskip("skimage", reason="pip install 'holotf[mesh]'")

N, RADIUS, CENTRE = 16, 0.4, np.array([0.2, -0.1, 0.3])  # half volumes: x right, y up, z toward the viewer


def ball(inside, air):
    """The density of a ball in air."""
    place = (np.arange(N) - (N - 1) / 2) / (N / 2)
    z, y, x = np.meshgrid(-place, -place, place, indexing="ij")
    return np.where(np.linalg.norm(np.stack([x, y, z], -1) - CENTRE, axis=-1) < RADIUS, inside, air)


@pytest.fixture(scope="module")
def model():
    return models.build(small_config(**{"generate.seeds": (3, 7), "generate.frames": 4}))


@pytest.mark.parametrize(("inside", "air"), [(3.0, 0.0), (0.4, 0.1), (40.0, 0.3)])
def test_a_ball_lies_where_it_is_and_is_closed_from_outside(inside, air):
    vertices, faces = surface.lay(ball(inside, air))
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.15)  # positive: the triangles face outward
    np.testing.assert_allclose(mesh.center_mass, CENTRE, atol=0.03)
    np.testing.assert_allclose(np.linalg.norm(vertices - CENTRE, axis=1), RADIUS, atol=1.2 / N)


def test_matter_at_the_faces_of_the_volume_is_closed_there():
    density = np.zeros([N, N, N])
    density[:, : N // 2] = 3.0  # the upper half
    mesh = trimesh.Trimesh(*surface.lay(density), process=False)
    assert mesh.is_watertight
    np.testing.assert_allclose(mesh.bounds, [[-1, 0, -1], [1, 1, 1]], atol=1.2 / N)


def test_fog_has_no_surface():
    assert surface.lay(np.full([N, N, N], 0.3)) is None


def test_a_single_voxel_has_a_surface_and_what_is_no_number_has_none():
    alone = np.zeros([N, N, N])
    alone[3, 4, 5] = 1e-4
    vertices, _ = surface.lay(alone)
    np.testing.assert_allclose(vertices.mean(axis=0), (np.array([5, -4, -3]) * [1, 1, 1] + [-7.5, 7.5, 7.5]) / 8, atol=0.05)
    for density in (np.full([N, N, N], np.nan), np.where(np.arange(N) < 3, np.nan, np.ones([N, N, N]))):
        assert surface.lay(density) is None


def test_views_turn_as_the_volume_is_turned():
    asked = np.random.default_rng(0).uniform(-400, 400, (20, 6))
    np.testing.assert_allclose(surface.turns(asked), rigid.rotation(tf.constant(asked)), atol=1e-9)


def test_what_faces_a_photograph_has_its_colour():
    vertices, faces = surface.lay(ball(3.0, 0.0))
    normals = np.asarray(trimesh.Trimesh(vertices, faces, process=False).vertex_normals)
    asked = surface.photographed(small_config().views)
    front = np.cos(np.radians(asked[:, 0])) > 0
    images = np.where(front[:, None], [255, 0, 0], [0, 0, 255])[:, None, None].repeat(8, 1).repeat(8, 2).astype(np.uint8)
    painted = surface.colours(images, asked, vertices, normals)
    assert painted.dtype == np.uint8
    for facing, colour in ((normals[:, 2] > 0.95, [255, 0, 0]), (normals[:, 2] < -0.95, [0, 0, 255])):
        assert facing.any()
        assert np.abs(painted[facing] - np.array(colour)).max() <= 10


def test_meshes_and_depths_of_generated_objects_are_read_back(model, tmp_path):
    model.ema_generator.renderer.kernel.assign(tf.random.stateless_normal([model.ema_generator.renderer.kernel.shape[0]], [0, 1]))
    paths = generate(model, model.config.generate, str(tmp_path))
    names = {p.rpartition("/")[2] for p in paths}
    assert {"depth_azimuth.png", "depth_azimuth.gif", "depth_azimuth.mp4", "object_3.glb", "object_7.glb"} <= names
    mesh = trimesh.load(tmp_path / "object_7.glb", force="mesh")
    vertices, faces = surface.lay(model.absorption(model.volume(model.latents([7])))[0].numpy())
    np.testing.assert_allclose(mesh.bounds, [vertices.min(0), vertices.max(0)], atol=1e-5)
    assert len(mesh.faces) == len(faces)
    assert mesh.visual.kind == "vertex"


def test_where_no_density_is_known_there_are_no_meshes(tmp_path):
    published = models.build(small_config(**PUBLISHED, **{"generate.seeds": (3,), "generate.frames": 2}))
    assert not [p for p in generate(published, published.config.generate, str(tmp_path)) if "depth" in p or "object" in p]


def test_each_volume_is_looked_at_as_often_as_the_others(model):
    volumes, asked = model.volume(model.latents([1, 2])), model.draw(6, [0, 0])[1]
    depths, opacities = model.look(volumes, asked)
    assert depths.shape == opacities.shape == (6, 16, 16)
    np.testing.assert_allclose(depths[3:], model.look(volumes[1:], asked[3:])[0], atol=1e-6)
    assert np.abs(depths[0] - depths[5]).max() > 1e-6
