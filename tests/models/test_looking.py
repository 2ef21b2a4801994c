"""What a model says of its features and of its volume is what its own networks compute."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import PUBLISHED, small_config

from holotf import models
from holotf.models.base import Perceptive, Volumetric, to_float

CLASSIFIER = {"model.name": "classifier"}
CONDITIONAL = {"model.name": "projection_gan", "model.most_labels": 2}
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
CASES = {
    "dcgan": {"model.name": "dcgan"},
    "dcgan_spectral": {"model.name": "dcgan", "model.d_norm": "spectral"},
    "hologan": {},
    "hologan_published": PUBLISHED,
    "vae": {"model.name": "vae"},
    "classifier": CLASSIFIER,
    "classifier_improved": CLASSIFIER | {"model.network": "improved"},
    "classifier_of_domains": CLASSIFIER | {"model.network": "ganin"},
    "projection_gan": CONDITIONAL | {"model.label_maps": False},
    "projection_gan_maps": CONDITIONAL | {"model.label_maps": True},
    "conditional_hologan": {"model.name": "conditional_hologan"},
}
SIDES = {  # of the levels
    "classifier": [14, 5],
    "classifier_improved": [32, 16, 16, 8, 8, 4],
    "classifier_of_domains": [14, 5],
    "projection_gan": [16, 8, 4, 4],
    "projection_gan_maps": [16, 8, 4, 4],
}


def head(model, x):
    """What the network that looks at images makes of its last level, and of the images: the same by another way."""
    name, flat = model.config.model.name, tf.reshape(x, [len(x), -1])
    if name == "vae":
        return tf.split(model.encoder.posterior(flat), 2, axis=-1)[0], model.encoder(to_float(IMAGES))[0]
    if name == "classifier":
        return model.network.told(flat), model.logits(IMAGES)
    if name == "projection_gan":
        d, nothing = model.discriminator, tf.zeros([len(x), 3])
        pooled = tf.reduce_sum(tf.nn.relu(x), axis=[1, 2])
        return d.real(pooled)[:, 0] + d.projection(pooled, nothing), d(to_float(IMAGES), nothing)["logits"]
    network = model.discriminator.within if name == "conditional_hologan" else model.discriminator
    return network.real(flat)[:, 0], network(to_float(IMAGES))["logits"]


@pytest.mark.parametrize("case", CASES)
def test_the_last_level_is_what_the_verdict_is_made_of(case):
    model = models.initial(small_config(**CASES[case]))
    assert isinstance(model, Perceptive)
    levels = model.levels(IMAGES)
    assert [level.shape[1] for level in levels] == SIDES.get(case, [16, 8, 4, 2][: len(levels)])
    if model.RECTIFIED:
        assert all(float(tf.reduce_mean(tf.nn.relu(-level))) < float(tf.reduce_mean(tf.nn.relu(level))) for level in levels)
    assert all(level.dtype == tf.float32 for level in levels)
    assert all(float(tf.math.reduce_std(level)) > 0 for level in levels)
    np.testing.assert_allclose(*head(model, levels[-1]), rtol=1e-4, atol=1e-6)


def test_an_untrained_model_follows_from_the_seed():
    config = small_config(**{"model.name": "dcgan"})
    one, again = (models.initial(config).levels(IMAGES)[-1] for _ in range(2))
    np.testing.assert_array_equal(one, again)
    config.seed = 1
    assert np.any(one != models.initial(config).levels(IMAGES)[-1])


@pytest.mark.parametrize("case", ["hologan", "hologan_published"])
def test_an_image_is_what_is_rendered_of_its_volume(case):
    model = models.initial(small_config(**CASES[case]))
    assert isinstance(model, Volumetric)
    for variable in model.ema_generator.variables:
        variable.assign(variable * 5.0)
    z, views = model.draw(4, [0, 0])
    volume = model.volume(z)
    np.testing.assert_array_equal(model.rendered(volume, z, views), model.images(z, views))
    assert np.any(model.rendered(tf.zeros_like(volume), z, views) != model.images(z, views))
    one = model.rendered(volume[:1], z[:1], views)
    np.testing.assert_array_equal(one, model.images(tf.repeat(z[:1], 4, axis=0), views))


def test_what_a_volume_absorbs_is_what_its_rays_lose():
    """Looked at along its own axis, an unturned volume's opacity is 1 - exp(- the sum of what its voxels absorb)."""
    model = models.initial(small_config(**{"views.azimuth_deg": (0.0, 0.0), "views.elevation_deg": (0.0, 0.0)}))
    generator = model.ema_generator
    generator.renderer.kernel.assign(tf.random.stateless_normal(generator.renderer.kernel.shape, [0, 0]))
    z, views = model.draw(3, [0, 0])
    absorbed = model.absorption(model.volume(z))
    _, opacity = model.look(model.volume(z), views)
    np.testing.assert_allclose(1.0 - tf.exp(-tf.reduce_sum(absorbed, axis=1)), opacity, rtol=1e-4, atol=1e-5)
    assert np.ptp(opacity) > 0.01
    assert not models.build(small_config(**PUBLISHED)).has_density


def test_readings_are_those_of_the_encoders():
    vae = models.initial(small_config(**{"model.name": "vae"}))
    np.testing.assert_array_equal(vae.readings(IMAGES)["latent"], vae.encode(IMAGES)[0])
    hologan = models.initial(small_config())
    read = hologan.readings(IMAGES)
    np.testing.assert_array_equal(read["latent"], hologan.discriminator(to_float(IMAGES))["z_hat"])
    np.testing.assert_array_equal(read["volume"], hologan.volume(read["latent"]))
    assert models.initial(small_config(**{"model.name": "dcgan"})).readings(IMAGES) == {}
