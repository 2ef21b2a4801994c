import imageio.v3 as imageio
import numpy as np
import pytest
from conftest import small_config

from holotf import models, surface
from holotf.generate import generate, grid


@pytest.fixture(scope="module")
def config():
    return small_config(**{"generate.seeds": (3, 7), "generate.frames": 6})


@pytest.fixture(scope="module")
def model(config):
    model = models.build(config)
    for v in model.ema_generator.variables:
        v.assign(v * 5.0)
    return model


def test_grid_keeps_rows_and_columns():
    images = np.arange(2 * 3 * 4 * 5 * 3).reshape(2, 3, 4, 5, 3)
    picture = grid(images)
    assert picture.shape == (8, 15, 3)
    np.testing.assert_array_equal(picture[4:8, 10:15], images[1, 2])


def test_a_sweep_turns_each_object_through_the_whole_range(model):
    latents = model.latents([3, 7])
    sweep = model.sweep(latents, "azimuth_deg", 4)
    assert sweep.shape == (2, 4, 32, 32, 3)
    views = model.resting(4)[0].numpy()
    views[:, 0] = [0, 90, 180, 270]
    again = model.sample(np.repeat(latents[1:], 4, 0), views.astype(np.float32)).numpy()
    np.testing.assert_array_equal(sweep[1], again)


def test_an_objects_latent_follows_from_its_seed_alone(model):
    np.testing.assert_array_equal(model.latents([3, 7])[1], model.latents([7])[0])


def test_an_interpolation_starts_at_each_object(model):
    latents = model.latents([3, 7])
    path = model.interpolate(latents, 5)
    at_rest = model.resting(2)[0]
    np.testing.assert_array_equal(path[:, 0], model.sample(latents, at_rest).numpy())
    assert np.any(path[0, 1] != path[0, 0])


# imageio's ffmpeg reader leaves its pipes to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_files(model, config, tmp_path):
    paths = generate(model, config.generate, str(tmp_path))
    films = ("sweep_azimuth", "sweep_elevation", "sweep_scale", "depth_azimuth", "interpolation")
    names = {f"{name}.{kind}" for name in films for kind in ("png", "gif", "mp4")}
    names |= {"object_3.glb", "object_7.glb"} if surface.available() else set()
    assert {p.name for p in tmp_path.iterdir()} == names | {"samples.png"} == {p.rpartition("/")[2] for p in paths}
    assert imageio.imread(tmp_path / "sweep_azimuth.png").shape == (2 * 32, 6 * 32, 3)
    assert imageio.imread(tmp_path / "samples.png").shape == (8 * 32, 8 * 32, 3)
    gif = imageio.imread(tmp_path / "sweep_azimuth.gif")
    assert gif.shape[:3] == (6, 128, 256)
    film = imageio.imread(tmp_path / "sweep_azimuth.mp4")
    assert film.shape == (6, 128, 256, 3)
    assert np.abs(film.astype(int) - gif[..., :3]).mean() < 12
    assert len(imageio.imread(tmp_path / "sweep_elevation.mp4")) == 12, "there and back is twice the sweep"
