"""Planes in which features lie, and what the Projector is given."""

import numpy as np
import pytest
from conftest import small_config
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins import projector
from threadpoolctl import threadpool_limits

from holotf import models
from holotf.evaluators.subject import Subject
from holotf.looks import embedding
from holotf.summaries import Board


def test_the_plane_is_that_of_the_greatest_variance():
    """By the singular values of the standardised points."""
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(40, 2)) @ rng.normal(size=(2, 9)) + 0.1 * rng.normal(size=(40, 9))).astype(np.float32)
    wanted = (points - points.mean(axis=0)) / points.std(axis=0)
    u, s, _ = np.linalg.svd(wanted, full_matrices=False)
    found, shares = embedding.principal(points.copy(), 0)
    np.testing.assert_allclose(np.abs(found[:, :2]), np.abs(u * s)[:, :2], atol=1e-3)
    np.testing.assert_allclose(shares, s**2 / np.sum(s**2), atol=1e-4)


def test_neighbours_stay_together():
    rng = np.random.default_rng(0)
    groups = np.arange(60) % 3
    with threadpool_limits(1):
        points = embedding.neighbourly((10.0 * np.eye(3)[groups] + rng.normal(size=(60, 3))).astype(np.float32), 0)
    centres = np.stack([points[groups == g].mean(axis=0) for g in range(3)])
    assert (np.linalg.norm(points[:, np.newaxis] - centres, axis=2).argmin(axis=1) == groups).all()


def test_the_projector_gets_points_labels_and_images(tmp_path):
    config = small_config()
    rng = np.random.default_rng(0)
    images, points = rng.integers(0, 256, (5, 8, 8, 3)).astype(np.uint8), rng.normal(size=(5, 3))
    board = Board(str(tmp_path), config)
    board.project({"latent": points}, {"kind": list("abcab"), "legs": list("xxyyx")}, images)
    board.close()
    told = projector.ProjectorConfig()
    text_format.Parse((tmp_path / "events" / "projector_config.pbtxt").read_text(), told)
    (entry,) = told.embeddings
    np.testing.assert_allclose(np.loadtxt(tmp_path / "events" / entry.tensor_path), points, rtol=1e-4)
    rows = (tmp_path / "events" / entry.metadata_path).read_text().splitlines()
    assert rows == ["kind\tlegs", "a\tx", "b\tx", "c\ty", "a\ty", "b\tx"]
    assert list(entry.sprite.single_image_dim) == [8, 8]
    sprite = np.asarray(Image.open(tmp_path / "events" / entry.sprite.image_path))
    np.testing.assert_array_equal(sprite[8:16, :8], images[3])


def test_spaces_of_a_model_are_shown_by_label(colours):
    config, shown, given = small_config(colours, **{"model.name": "vae", "analyse.images": 24, "device.threads": 1}), {}, []
    subject = Subject(models.initial(config), config, shown.update, lambda *what: given.append(what))
    figures = dict(embedding.Look(subject).run())
    assert set(figures) == {"embedding/levels_plane", "embedding/latent_plane"}
    assert all(0 < value <= 1 for value in figures.values())
    assert set(shown) == {"embedding_levels", "embedding_latent"}
    ((vectors, labels, images),) = given
    assert {name: len(points) for name, points in vectors.items()} == {"levels": 24, "latent": 24}
    assert sorted(set(labels["label"])) == ["blue", "green", "red"]
    assert images.shape == (24, 32, 32, 3)
    assert vectors["latent"].shape[1] == pytest.approx(8)
