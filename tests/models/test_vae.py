import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config, train_on_replicas

from configs import vae_blocks
from holotf import generate, losses, models
from holotf.errors import UserError
from holotf.export import export
from holotf.models.vae import Decoder, Encoder, negative_elbo

RNG = np.random.default_rng(0)


def config_of(**changes):
    return small_config(**{"model.name": "vae", "optim.lr": 1e-3, **changes})


def batch(n=8):
    return tf.constant(np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3)), tf.uint8)


@pytest.fixture
def precision():
    yield keras.mixed_precision.set_dtype_policy
    keras.mixed_precision.set_dtype_policy("float32")


class LinearGaussian:
    """z ~ N(0, I), x = W z + b + s e. W's columns are orthogonal, so the exact posterior is a diagonal Gaussian."""

    deviation = 0.7

    def __init__(self, x_dim=5, z_dim=2):
        self.w = np.linalg.qr(RNG.normal(size=(x_dim, z_dim)))[0] * [2.0, 0.5]
        self.b = RNG.normal(size=x_dim)
        self.x = RNG.normal(size=(3, x_dim)) * 2
        self.variance = 1 / (1 + (self.w**2).sum(0) / self.deviation**2)  # [Z]
        self.mean = self.variance * ((self.x - self.b) @ self.w) / self.deviation**2  # [B,Z]

    def log_marginal(self):
        """log N(x; b, W W^T + s^2 I), the mean over x."""
        cov = self.w @ self.w.T + self.deviation**2 * np.eye(len(self.b))
        d = self.x - self.b
        return np.mean(-0.5 * ((d @ np.linalg.inv(cov)) * d).sum(1) - 0.5 * np.linalg.slogdet(2 * np.pi * cov)[1])

    def elbo(self, mean, variance):
        """By `negative_elbo`. Noise of +-sqrt(Z) on one axis at a time has N(0, I)'s moments: the mean of a quadratic is exact."""
        z_dim = len(variance)
        noise = np.sqrt(z_dim) * np.concatenate([np.eye(z_dim), -np.eye(z_dim)])
        x, mean = (np.repeat(t, len(noise), 0).astype(np.float32) for t in (self.x, mean))
        noise = np.tile(noise, (len(self.x), 1)).astype(np.float32)
        log_variance = np.broadcast_to(np.log(variance), mean.shape).astype(np.float32)
        w, b = self.w.T.astype(np.float32), self.b.astype(np.float32)
        terms = negative_elbo(lambda _: (mean, log_variance), lambda z: z @ w + b, tf.constant(x), noise, self.deviation)
        return -float(sum(terms))


def test_the_elbo_is_the_exact_marginal_at_the_exact_posterior_and_below_it_elsewhere():
    toy = LinearGaussian()
    exact = toy.log_marginal()
    assert toy.elbo(toy.mean, toy.variance) == pytest.approx(exact, abs=1e-4)
    for mean, variance in [
        (toy.mean + 0.3, toy.variance),
        (toy.mean, 2.0 * toy.variance),
        (toy.mean, 0.5 * toy.variance),
        (0.0 * toy.mean, np.ones(2)),  # the prior
    ]:
        assert toy.elbo(mean, variance) < exact - 0.05


@pytest.mark.parametrize(("size", "widths"), [(32, [4, 8, 16]), (64, [4, 8, 16, 32]), (128, [4, 8, 16, 32, 32])])
def test_every_size_counts_as_its_layers(size, widths):
    def count(network):
        return sum(int(np.prod(v.shape)) for v in network.trainable_variables)

    pairs = list(zip([3, *widths], widths, strict=False))
    flat = 16 * widths[-1]
    assert count(Encoder(size, 6, 4)) == sum(16 * a * b + b for a, b in pairs) + flat * 12 + 12
    decoder = Decoder(size, 6, 4)
    assert count(decoder) == 6 * flat + flat + sum(16 * a * b + a for a, b in pairs)
    assert decoder(tf.zeros([2, 6])).shape == (2, size, size, 3)


def test_steps_raise_the_elbo():
    keras.utils.set_random_seed(0)
    model = models.build(config_of(**{"train.kimg": 2.0, "model.gf": 8, "model.df": 8}))
    step = tf.function(model.train_step)
    flat = tf.tile(batch(8)[:, :1, :1], [1, 32, 32, 1])  # eight plain colours
    logs = [{k: float(v) for k, v in step({"image": flat}).items()} for _ in range(160)]
    assert set(logs[0]) == {"loss/vae", "loss/reconstruction", "loss/kl", "grad_norm/vae"}
    assert logs[0]["loss/vae"] == pytest.approx(logs[0]["loss/reconstruction"] + logs[0]["loss/kl"], rel=1e-5)
    assert logs[-1]["loss/vae"] < logs[0]["loss/vae"] - 5000
    assert logs[-1]["loss/kl"] > logs[0]["loss/kl"]
    assert int(model.iteration) == 160
    assert set(model.learning_rates()) == {"vae"}
    seen = model.reconstruct(flat).numpy().astype(float)
    assert np.abs(seen - flat.numpy()).mean() < 0.5 * np.abs(flat.numpy() - flat.numpy().mean((0, 1, 2))).mean()


def test_the_loss_is_the_pixel_sum_of_a_fixed_gaussian_plus_the_weighted_kl():
    model = models.build(config_of(**{"model.beta": 4.0, "model.likelihood_std": 0.5}))
    x = tf.cast(batch(), tf.float32) / 127.5 - 1.0
    mean, log_variance = model.encoder(x)
    z = mean + tf.exp(log_variance / 2) * model._share(model.draw, 8, 0)[0]
    squares = np.sum(np.square(x - model.decoder(z)), axis=(1, 2, 3)).mean()
    reconstruction = squares / (2 * 0.25) + 32 * 32 * 3 * (0.5 * np.log(2 * np.pi) + np.log(0.5))
    kl = float(losses.kl_to_standard_normal(mean, log_variance))
    logs = tf.function(model.train_step)({"image": batch()})
    assert float(logs["loss/reconstruction"]) == pytest.approx(reconstruction, rel=1e-4)
    assert float(logs["loss/kl"]) == pytest.approx(kl, rel=1e-3)
    assert float(logs["loss/vae"]) == pytest.approx(reconstruction + 4 * kl, rel=1e-4)


def test_the_kls_weight_warms_up():
    model = models.build(config_of(**{"model.beta": 2.0, "model.beta_warmup_kimg": 0.8}))  # a hundred iterations
    weights = []
    for iteration in (0, 50, 100, 1000):
        model.iteration.assign(iteration)
        weights.append(float(model.beta()))
    np.testing.assert_allclose(weights, [0.0, 1.0, 2.0, 2.0])
    assert models.build(config_of(**{"model.beta": 2.0})).beta() == 2.0


@pytest.mark.slow
def test_two_replicas_equal_one():
    results = []
    for replicas in (1, 2):
        model, logs = train_on_replicas(config_of(), replicas, {"image": batch()})
        results.append((logs, [v.numpy() for p in (model.encoder, model.decoder) for v in p.variables]))
    (one_logs, one), (two_logs, two) = results
    for a, b in zip(one_logs, two_logs, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    for a, b in zip(one, two, strict=True):
        assert np.mean(np.abs(a - b) > 2e-5) < 0.01  # Adam's first steps make a whole rate of a gradient that is rounding noise


def test_mixed_precision_keeps_the_posterior_and_the_image_float32(precision):
    precision("mixed_bfloat16")
    model = models.build(config_of())
    assert model.encoder.convs[0].compute_dtype == "bfloat16"
    assert {t.dtype for t in model.encode(batch())} == {tf.float32}
    assert model.decoder(tf.zeros([1, 8])).dtype == tf.float32
    assert np.isfinite([float(v) for v in tf.function(model.train_step)({"image": batch()}).values()]).all()


def test_what_is_published_equals_the_model(tmp_path):
    config = config_of(**{"generate.frames": 3})
    model = models.build(config)
    served = tf.saved_model.load(export(model, str(tmp_path / "saved_model")))
    assert set(served.signatures) == {"encode", "decode", "latents", "sample", "serving_default"}
    encoded = served.encode(batch())
    for name, here in zip(("mean", "log_variance"), model.encode(batch()), strict=True):
        np.testing.assert_allclose(encoded[name], here, atol=1e-5)
    z = model.latents([3, 7])
    np.testing.assert_array_equal(z[1], model.latents([7])[0])
    away = served.signatures["serving_default"](z=z)["images"].numpy().astype(int) - model.sample(z).numpy()
    assert np.abs(away).max() <= 1
    assert served.sample(tf.constant(5, tf.int64), tf.constant(4))["images"].shape == (4, 32, 32, 3)
    generate.generate(model, config.generate, str(tmp_path / "pictures"))
    assert (tmp_path / "pictures" / "interpolation.gif").exists()


def test_reconstructions_are_shown_below_what_they_are_of():
    model, real = models.build(config_of()), batch(9)
    pictures = model.pictures({"image": real})
    assert pictures.keys() == {"samples", "reconstructions"}
    sheet = pictures["reconstructions"]
    assert sheet.shape == (6 * 32, 3 * 32, 3)
    np.testing.assert_array_equal(sheet[2 * 32 : 3 * 32, 32:64], real[4])  # second row, second column
    np.testing.assert_array_equal(sheet[3 * 32 : 4 * 32, 32:64], model.reconstruct(real)[4])


def test_the_experiment_builds():
    config = vae_blocks.get_config()
    config.model.gf = config.model.df = 2
    assert models.build(config).iterations == 4000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.image_size": 48}, r"model.image_size=48: use 32, 64 or 128"),
        ({"model.beta": -1.0}, r"model.beta=-1: use 0 or more"),
        ({"model.likelihood_std": 0.0}, r"model.likelihood_std=0: use a positive number"),
        ({"model.gf": 0}, r"model.gf=0: use 1 or more"),
    ],
)
def test_impossible_configs_are_refused_by_name(change, message):
    with pytest.raises(UserError, match=message):
        models.build(config_of(**change))
