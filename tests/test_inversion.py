"""An image that the generator made itself is found again, and what is written of a photograph is read back."""

import json

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config

from holotf import inversion, models, views
from holotf.errors import UserError


@pytest.fixture(scope="module")
def model():
    """Weights wide enough that latents and views matter."""
    model = models.build(small_config(**{"generate.frames": 4}))
    for v in model.ema_generator.variables:
        v.assign(v * 4.0)
    return model


@pytest.mark.slow
def test_an_image_of_its_own_is_found_again(model):
    z, asked = model.latents([5]), tf.constant([[200.0, 30.0, 1.0, 0.0, 0.0, 0.0]])
    image = model.images(z, asked)[0].numpy()
    begin = np.sqrt(np.mean((model.images(z * 0, model.resting(1)[0])[0].numpy().astype(float) - image) ** 2))
    found = inversion.invert(model, image, steps=60)
    assert found.error < 0.5 * begin
    np.testing.assert_array_equal(found.image, model.images(found.latent[None], found.view[None])[0])
    assert found.error == pytest.approx(np.sqrt(np.mean((found.image.astype(float) - image) ** 2)))
    assert np.abs(found.latent).max() <= 1.0


def test_views_begin_all_round_and_stay_within_their_ranges(model):
    ranges = model.config.views
    begin = views.sweep(ranges, "azimuth_deg", 4).numpy()
    np.testing.assert_allclose(inversion.placed(ranges, begin, tf.zeros([4, 6])), begin)
    np.testing.assert_allclose(begin[:, 0], [0, 90, 180, 270])
    far = inversion.placed(ranges, begin, tf.fill([4, 6], 7.0)).numpy()
    np.testing.assert_allclose(far[:, 0], begin[:, 0] + 420.0)  # a circle has no end
    np.testing.assert_allclose(far[:, 1:], np.float32([[ranges[name][1] for name in views.COLUMNS[1:]]] * 4))
    arc = small_config(**{"views.azimuth_deg": (-30.0, 30.0)}).views
    begin = views.sweep(arc, "azimuth_deg", 3).numpy()
    assert np.all(np.abs(inversion.placed(arc, begin, tf.fill([3, 6], -9.0))[:, 0]) <= 30.0)


def test_levels_of_the_pyramid_are_means_over_squares():
    x = np.random.default_rng(0).normal(size=[1, 8, 8, 3]).astype(np.float32)
    whole, halves, quarters = inversion.pyramid(tf.constant(x))
    np.testing.assert_array_equal(whole, x)
    np.testing.assert_allclose(halves[0, 1, 2], x[0, 2:4, 4:6].mean(axis=(0, 1)), atol=1e-6)
    np.testing.assert_allclose(quarters[0, 1, 0], x[0, 4:, :4].mean(axis=(0, 1)), atol=1e-6)


# imageio's ffmpeg writer leaves its pipes to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_photograph_is_written_turned(model, tmp_path):
    imageio.imwrite(tmp_path / "cat.jpg", np.random.default_rng(1).integers(0, 255, [40, 60, 3], np.uint8))
    paths = inversion.turned(model, str(tmp_path / "cat.jpg"), 4, str(tmp_path / "out"), steps=6)
    assert {p.rpartition("/")[2] for p in paths} == {f"cat_turned.{kind}" for kind in ("png", "gif", "mp4", "json")}
    told = json.loads((tmp_path / "out" / "cat_turned.json").read_text())
    assert len(told["latent"]) == model.config.model.z_dim
    assert set(told["view"]) == set(views.COLUMNS)
    assert imageio.imread(tmp_path / "out" / "cat_turned.png").shape == (32, 6 * 32, 3)  # photograph, found, four sides


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_what_is_no_photograph_is_one_line(model, tmp_path, content):
    path = tmp_path / "cat.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"^generate\.image='.*cat.png' cannot be read as an image: "):
        inversion.turned(model, str(path), 4, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_does_not_turn_is_refused():
    flat = models.build(small_config(**{"model.name": "dcgan"}))
    with pytest.raises(UserError, match=r"model\.name='dcgan' reads no latents"):
        inversion.invert(flat, np.zeros([32, 32, 3], np.uint8))
