"""The C API check itself, on a small module with the export's signature; test_export.py uses it on the real one."""

import numpy as np
import pytest
import tensorflow as tf
from capi import capi
from keras import Sequential, layers

pytestmark = pytest.mark.skipif(bool(capi.missing()), reason=f"no {capi.missing()}")
Z_DIM = 6


class Generator(tf.Module):
    """A few of the generator's kinds of work: 3D and 2D convolutions, an XLA island, stateless noise, uint8 at the edge."""

    def __init__(self, tracked=True):
        super().__init__()
        self.model = Sequential(
            [
                layers.Input((Z_DIM,)),
                layers.Dense(2 * 2 * 2 * 8),
                layers.Reshape((2, 2, 2, 8)),  # [B,D,H,W,C]
                layers.Conv3DTranspose(4, 3, strides=2, padding="same", activation="leaky_relu"),
                layers.Permute((2, 3, 1, 4)),  # [B,D,H,W,C] -> [B,H,W,D,C]
                layers.Reshape((4, 4, 16)),  # [B,H,W,D,C] -> [B,H,W,D*C]
                layers.Conv2DTranspose(3, 4, strides=2, padding="same"),
            ]
        )
        if tracked:
            self.vars = [variable.value for variable in self.model.variables]

    @tf.function(jit_compile=True)
    def turn(self, images, azimuth_deg, elevation_deg, scale, translation):
        """Stands in for the rigid transform: every view argument changes the image."""
        angle = (azimuth_deg + 2 * elevation_deg) * (np.pi / 180)
        return images * (scale * tf.cos(angle))[:, None, None, None] + translation[:, None, None, :]

    @tf.function
    def generate(self, z, azimuth_deg, elevation_deg, scale, translation):
        images = self.turn(self.model(z), azimuth_deg, elevation_deg, scale, translation)
        images += tf.random.stateless_uniform(tf.shape(images), seed=(1, 2), minval=-0.2, maxval=0.2)
        return {"images": tf.cast(tf.round((tf.tanh(images) + 1) * 127.5), tf.uint8)}


def save(module, path):
    n = None
    shapes = {"z": [n, Z_DIM], "azimuth_deg": [n], "elevation_deg": [n], "scale": [n], "translation": [n, 3]}
    specs = [tf.TensorSpec(shape, tf.float32, name) for name, shape in shapes.items()]
    tf.saved_model.save(module, path, signatures={"generate": module.generate.get_concrete_function(*specs)})
    return str(path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    tf.keras.utils.set_random_seed(3)
    module = Generator()
    return module, save(module, tmp_path_factory.mktemp("saved_model"))


@pytest.fixture
def feeds():
    rng = np.random.default_rng(4)
    views = {"azimuth_deg": [0, 60, 300], "elevation_deg": [10, 0, -20], "scale": [1, 1.5, 0.5]}
    feeds = {"z": rng.uniform(-1, 1, (3, Z_DIM)), **views, "translation": rng.uniform(-0.5, 0.5, (3, 3))}
    return {name: np.asarray(value, np.float32) for name, value in feeds.items()}


@pytest.mark.slow
@pytest.mark.parametrize("runner", [capi.generate_through_c, capi.generate_through_cli])
def test_equals_the_module_in_python(exported, feeds, runner, tmp_path):
    module, path = exported
    images = runner(path, feeds, tmp=tmp_path)
    expected = module.generate(**{name: tf.constant(value) for name, value in feeds.items()})["images"].numpy()
    assert images.dtype == np.uint8
    assert images.shape == (3, 8, 8, 3)
    assert expected.std() > 10  # not a constant picture, which would be easy to match
    # Another process may split a sum among threads otherwise: one grey level.
    assert np.abs(images.astype(int) - expected.astype(int)).max() <= 1


def test_every_argument_reaches_the_c_program(exported, feeds, tmp_path):
    _, path = exported
    reference = capi.generate_through_c(path, feeds, tmp=tmp_path)
    for name, value in feeds.items():
        changed = capi.generate_through_c(path, feeds | {name: value + np.float32(0.4) * (value + 50)}, tmp=tmp_path)
        assert np.any(changed != reference), name


def test_untracked_variables_are_caught(feeds, tmp_path):
    # What this check exists for: Python loads such an export without complaint.
    path = save(Generator(tracked=False), tmp_path / "saved_model")
    with pytest.raises(RuntimeError, match="Could not find variable"):
        capi.generate_through_c(path, feeds, tmp=tmp_path)


def test_errors_name_the_fault(exported, feeds, tmp_path):
    _, path = exported
    with pytest.raises(ValueError, match=r"signature='encode': .* has \['__saved_model_init_op', 'generate'\]"):
        capi.generate_through_c(path, feeds, "encode", tmp=tmp_path)
    with pytest.raises(ValueError, match=r"feeds=\['z'\]: generate takes \['azimuth_deg', "):
        capi.generate_through_c(path, {"z": feeds["z"]}, tmp=tmp_path)
    with pytest.raises(ValueError, match=r"output='image': generate gives \['images'\]"):
        capi.generate_through_c(path, feeds, tmp=tmp_path, output="image")
    with pytest.raises(RuntimeError, match="run_saved_model"):
        capi.generate_through_c(path, feeds | {"z": feeds["z"][:, :-1]}, tmp=tmp_path)
