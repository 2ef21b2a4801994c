import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config, train_on_replicas

from configs import dcgan_blocks
from holotf import generate, losses, models
from holotf.errors import UserError
from holotf.export import export
from holotf.layers.spectral import update_spectral_norms
from holotf.models.dcgan import BatchNorm, Discriminator, Generator


def count(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def config_of(**changes):
    return small_config(**{"model.name": "dcgan", "train.g_steps": 1, **changes})


def batch(n=8, seed=0):
    return tf.constant(np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3)), tf.uint8)


@pytest.fixture
def precision():
    yield keras.mixed_precision.set_dtype_policy
    keras.mixed_precision.set_dtype_policy("float32")


def test_the_papers_networks_count_as_its_layers():
    """Figure 1: z of 100, 4x4x1024, 8x8x512, 16x16x256, 32x32x128, 64x64x3; kernels 5x5, batch norm 2 a channel; D mirrors it."""
    generator = 100 * 16 * 1024 + 2 * 1024
    generator += 25 * 1024 * 512 + 2 * 512 + 25 * 512 * 256 + 2 * 256 + 25 * 256 * 128 + 2 * 128
    generator += 25 * 128 * 3 + 3
    discriminator = 25 * 3 * 128 + 128
    discriminator += 25 * 128 * 256 + 2 * 256 + 25 * 256 * 512 + 2 * 512 + 25 * 512 * 1024 + 2 * 1024
    discriminator += 16 * 1024 + 1
    assert (generator, discriminator) == (18_855_043, 17_232_897)
    assert count(Generator(64, 100, 128)) == generator
    assert count(Discriminator(64, 128, "batch")) == discriminator


@pytest.mark.parametrize("size", [32, 64, 128])
def test_every_size_is_reached_from_4_px(size):
    images = Generator(size, 8, 2)(tf.zeros([2, 8]))
    assert images.shape == (2, size, size, 3)
    assert np.abs(images).max() <= 1.0
    discriminator = Discriminator(size, 2, "batch")
    assert discriminator.real.kernel.shape[0] == 16 * discriminator.convs[-1].filters == 16 * 2 * size // 8
    assert discriminator(images)["logits"].shape == (2,)


def test_batch_norm_spares_the_generators_output_and_the_discriminators_input():
    assert len(Generator(64, 8, 2).norms) == 4  # after the linear map and three of the four convolutions
    discriminator = Discriminator(64, 2, "batch")
    assert (len(discriminator.convs), len(discriminator.norms)) == (4, 3)
    assert Discriminator(64, 2, "none").norms == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_batch_norm_equals_numpy(dtype):
    x = np.random.default_rng(0).normal(3.0, 2.0, (6, 4, 4, 5))
    x = np.array(tf.cast(tf.cast(x, dtype), tf.float64))  # as the layer will see it
    layer = BatchNorm(negative_slope=0.2, dtype="mixed_bfloat16" if dtype == "bfloat16" else dtype)
    layer.build(x.shape)
    layer.scale.assign([1.0, 2, 3, 4, 5])
    layer.shift.assign([-1.0, 0, 1, 2, 3])
    y = layer(tf.cast(x, dtype), training=True)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = np.arange(1, 6) * (x - mean) / np.sqrt(variance + 1e-5) + np.arange(-1, 4)
    expected = np.where(expected > 0, expected, 0.2 * expected)
    assert y.dtype == dtype
    np.testing.assert_allclose(tf.cast(y, tf.float64), expected, rtol=1e-2 if dtype == "bfloat16" else 1e-4, atol=1e-5)
    # float32 statistics whatever the type
    assert layer.moving_mean.dtype == layer.moving_variance.dtype == "float32"
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-5)
    before = layer.moving_mean.numpy()
    y = tf.cast(layer(tf.cast(x, dtype)), tf.float64)
    expected = np.arange(1, 6) * (x - 0.1 * mean) / np.sqrt(0.9 + 0.1 * variance + 1e-5) + np.arange(-1, 4)
    expected = np.where(expected > 0, expected, 0.2 * expected)
    np.testing.assert_allclose(y, expected, rtol=1e-2 if dtype == "bfloat16" else 1e-4, atol=1e-4)
    np.testing.assert_array_equal(layer.moving_mean, before)


def test_batch_norms_gradients_equal_keras():
    x = tf.random.stateless_normal([6, 4, 4, 3], [0, 0], 1.0, 2.0)
    upstream = tf.random.stateless_normal(x.shape, [1, 0])
    ours, theirs = BatchNorm(negative_slope=1.0), keras.layers.BatchNormalization(epsilon=1e-5)
    gradients = []
    for layer in (ours, theirs):
        layer.build(x.shape)
        scale, shift = layer.trainable_variables
        scale.assign([1.0, 2.0, 3.0])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        gradients.append(tape.gradient(y, [x, scale.value, shift.value], output_gradients=upstream))
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["batch", "none", "spectral"])
def test_real_images_are_judged_without_the_made_ones(norm):
    model = models.build(config_of(**{"model.d_norm": norm}))
    real, fakes = (tf.random.stateless_uniform([4, 32, 32, 3], [s, 0], -1, 1) for s in (0, 1))
    logits = [model._judge((real,), (f,))[0]["logits"] for f in (fakes, 0.1 * fakes)]
    np.testing.assert_allclose(*logits, atol=1e-6)
    assert model.one_batch == (norm != "batch")
    together = model.discriminator(tf.concat([real, fakes], axis=0), training=True)["logits"][:4]
    assert np.allclose(together, logits[0], atol=1e-6) == (norm != "batch")


@pytest.mark.parametrize("variant", dcgan_blocks.VARIANTS)
def test_a_step_of_every_variant_moves_both_players(variant):
    config = dcgan_blocks.get_config(variant)
    config.model.gf = config.model.df = config.model.z_dim = 4
    config.train.batch_size = 8
    model = models.build(config)
    before = {n: [v.numpy() for v in getattr(model, n).variables] for n in ("generator", "discriminator", "ema_generator")}
    step = tf.function(model.train_step)
    logs = {k: float(v) for k, v in step({"image": batch(8)}).items()}
    expected = {"loss/d", "loss/g", "grad_norm/d", "grad_norm/g"}
    assert set(logs) == expected | ({"loss/gradient_penalty"} if variant == "wgan_gp" else {"accuracy/real", "accuracy/fake"})
    assert np.isfinite(list(logs.values())).all()
    for name, values in before.items():
        for old, new in zip(values, getattr(model, name).variables, strict=True):
            # with wgan and hinge, what the last bias adds to the real ones it takes from the made ones; u of one unit is a sign
            if not (variant in ("wgan_gp", "hinge") and "dense" in new.path and new.name in ("bias", "u")):
                assert np.any(old != new.numpy()), new.path
    assert int(model.d_optimizer.iterations) == int(model.g_optimizer.iterations) == 1
    assert [model.step_options(i)["play"] for i in range(5)] == [variant != "wgan_gp"] * 4 + [True]
    assert set(model.learning_rates()) == {"d", "g"}


def test_the_averaged_generators_statistics_follow_the_batches():
    config = config_of(**{"optim.g_lr": 1e-9, "model.ema_decay": 0.5, "model.z_dim": 100, "model.gf": 8, "train.batch_size": 32})
    model = models.build(config)
    inputs = model.draw(256, [0, 0])
    start = model.ema_generator(*inputs).numpy()
    step = tf.function(model.train_step)
    for seed in range(60):
        step({"image": batch(32, seed)})
    usual = model.generator(*inputs, training=True).numpy()
    averaged = model.ema_generator(*inputs).numpy()
    away = [np.abs(images - usual).mean() / np.abs(usual).mean() for images in (averaged, start)]
    assert away[0] < 0.2 < 0.8 < away[1]
    alone = model.ema_generator(inputs[0][:1]).numpy()
    np.testing.assert_allclose(alone[0], averaged[0], atol=1e-6)  # a picture does not depend on its neighbours


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_two_replicas_equal_one(norm):
    """The same global batch, in losses, in weights and in batch statistics."""
    config = config_of(**{"model.d_norm": norm, "train.instance_noise": 0.1, "train.instance_noise_kimg": 1.0})
    results = []
    for replicas in (1, 2):
        model, logs = train_on_replicas(config, replicas, {"image": batch()})
        parts = (model.generator, model.ema_generator, model.discriminator)
        results.append((logs, {v.path: v.numpy() for p in parts for v in p.variables}))
    (one_logs, one), (two_logs, two) = results
    for a, b in zip(one_logs, two_logs, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
    for a, b in zip(one.items(), two.items(), strict=True):
        # Adam's first steps are lr * sign(gradient): where a gradient is rounding noise they may differ
        off = np.abs(a[1] - b[1]) > 2e-5 + 1e-3 * np.abs(a[1])
        assert off.mean() < 0.01, a[0]
        assert a[1].dtype == np.float32


def test_mixed_precision_keeps_statistics_and_outputs_float32(precision):
    precision("mixed_bfloat16")
    model = models.build(config_of())
    assert model.generator.ups[0].compute_dtype == model.generator.norms[1].compute_dtype == "bfloat16"
    assert {v.dtype for p in (model.generator, model.discriminator) for v in p.variables} == {"float32"}
    assert model.generator(*model.draw(4, [0, 0]), training=True).dtype == tf.float32
    assert model.discriminator(tf.zeros([4, 32, 32, 3]), training=True)["logits"].dtype == tf.float32
    assert np.isfinite([float(v) for v in tf.function(model.train_step)({"image": batch()}).values()]).all()


@pytest.mark.parametrize("name", ["dcgan", "hologan"])
def test_r1_trains_the_discriminator_of_every_gan(name):
    """With our kernels at hand, which cannot be differentiated twice."""
    unmixed = {"model.d_norm": "none"} if name == "dcgan" else {}
    config = small_config(**{"model.name": name, "loss.lambda_r1": 10.0, **unmixed})
    model = models.build(config)
    real = tf.cast(batch(), tf.float32) / 127.5 - 1.0
    for _ in range(20):  # HoloGAN's step begins with one; converged, one more changes little
        update_spectral_norms(model.discriminator)
    before = 10.0 * losses.r1(lambda x: model.discriminator(x)["logits"], real)
    logs = tf.function(model.train_step)({"image": batch()})
    assert float(logs["loss/r1"]) == pytest.approx(float(before), rel=0.2)
    assert float(logs["loss/r1"]) > 0


def test_lazy_penalties_are_taken_every_so_many_iterations_and_weigh_so_many_times_as_much():
    steps = {}
    for every in (1, 4):
        keras.utils.set_random_seed(0)
        model = models.build(config_of(**{"model.d_norm": "none", "loss.lambda_r1": 10.0, "train.penalty_every": every}))
        taken = [model.step_options(i).get("penalise", True) for i in range(9)]
        assert taken == [i % every == 0 for i in range(9)]
        steps[every] = [tf.function(model.train_step)({"image": batch()}, **model.step_options(i)) for i in range(2)]
    assert float(steps[4][0]["loss/r1"]) == pytest.approx(4 * float(steps[1][0]["loss/r1"]), rel=1e-4)
    assert ["loss/r1" in steps[every][1] for every in (1, 4)] == [True, False]
    assert float(steps[4][0]["grad_norm/d"]) > float(steps[1][0]["grad_norm/d"]), "it is differentiated, too"


def test_where_nothing_is_penalised_no_step_is_another():
    """Another step would be another trace."""
    model = models.build(config_of(**{"train.penalty_every": 4}))
    assert [model.step_options(i) for i in range(5)] == [{"play": True}] * 5


def test_labels_are_flipped_for_the_first_kimg_only():
    model = models.build(config_of(**{"train.flip_labels_kimg": 0.08}))  # ten iterations
    real, fake = tf.constant([2.0, -1.0]), tf.constant([0.5, -3.0])
    straight, swapped = float(losses.bce_discriminator(real, fake)), float(losses.bce_discriminator(fake, real))
    assert straight != swapped
    seen = []
    for iteration in (0, 9, 10, 1000):
        model.iteration.assign(iteration)
        seen.append(float(model._adversarial(real, fake)))
    assert seen == [swapped, swapped, straight, straight]


def test_a_soft_label_is_the_discriminators():
    real, fake = tf.constant([2.0, -1.0]), tf.constant([0.5, -3.0])
    soft = models.build(config_of(**{"loss.label_real": 0.9}))._adversarial(real, fake)
    assert float(soft) == float(losses.bce_discriminator(real, fake, 0.9)) != float(losses.bce_discriminator(real, fake))


def test_instance_noise_falls_linearly_to_nothing():
    model = models.build(config_of(**{"train.instance_noise": 0.4, "train.instance_noise_kimg": 0.8}))  # a hundred iterations
    images = tf.fill([8, 32, 32, 3], 0.5)
    noise = []
    for iteration in (0, 50, 100, 1000):
        model.iteration.assign(iteration)
        noise.append(model._noisy(images, 0, 0).numpy() - 0.5)
    np.testing.assert_allclose([n.std() for n in noise], [0.4, 0.2, 0.0, 0.0], atol=0.01)
    assert np.abs([n.mean() for n in noise]).max() < 0.01
    model.iteration.assign(0)
    others = [model._noisy(images, *of).numpy() - 0.5 for of in ((0, 1), (0, 2), (1, 0))]
    assert all(abs(np.corrcoef(noise[0].ravel(), o.ravel())[0, 1]) < 0.05 for o in others), "one noise for several uses"


def test_instance_noise_reaches_both_players():
    """The networks are the same, only what D sees differs: both first losses must."""
    logs = []
    for noise in (0.0, 1.0):
        keras.utils.set_random_seed(0)
        model = models.build(config_of(**{"train.instance_noise": noise, "train.instance_noise_kimg": 1.0, "optim.d_lr": 1e-12}))
        logs.append(tf.function(model.train_step)({"image": batch()}))
    assert float(logs[0]["loss/d"]) != float(logs[1]["loss/d"])
    assert float(logs[0]["loss/g"]) != float(logs[1]["loss/g"])


def test_rates_step_down():
    model = models.build(
        config_of(**{"train.kimg": 0.08, "optim.decay": "step", "optim.decay_from": 0.4, "optim.decay_factor": 0.5})
    )
    rates = []
    for updates in (0, 3, 4, 7, 8, 10):
        model.d_optimizer.iterations.assign(updates)
        rates.append(model.learning_rates()["d"])
    np.testing.assert_allclose(rates, [1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5, 2.5e-5], rtol=1e-5)


def test_what_is_published_equals_the_model(tmp_path):
    config = config_of(**{"generate.frames": 3})
    model = models.build(config)
    for norm in model.ema_generator.norms:
        norm.moving_variance.assign(tf.fill(norm.moving_variance.shape, 1e-3))  # fresh statistics draw a grey image
    served = tf.saved_model.load(export(model, str(tmp_path / "saved_model")))
    assert set(served.signatures) == {"generate", "latents", "sample", "serving_default"}
    z = model.latents([3, 7])
    np.testing.assert_array_equal(z[1], model.latents([7])[0])
    images = model.sample(z).numpy()
    assert images.dtype == np.uint8
    assert images.std() > 5
    assert np.any(images[0] != images[1])
    away = served.signatures["serving_default"](z=z)["images"].numpy().astype(int) - images
    assert np.abs(away).max() <= 1  # our kernels stay at home: sums are rounded differently
    assert served.sample(tf.constant(5, tf.int64), tf.constant(4))["images"].shape == (4, 32, 32, 3)
    path = model.interpolate(z, 3)
    assert path.shape == (2, 3, 32, 32, 3)
    assert np.abs(path[:, 0].astype(int) - images).max() <= 1
    assert model.pictures({"image": batch(9)}).keys() == {"samples"}
    generate.generate(model, config.generate, str(tmp_path / "pictures"))
    assert {p.name for p in (tmp_path / "pictures").iterdir()} == {
        "samples.png", "interpolation.png", "interpolation.gif", "interpolation.mp4"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.image_size": 48}, r"model.image_size=48: use 32, 64 or 128"),
        ({"model.d_norm": "layer"}, r"model.d_norm='layer': use batch, spectral or none"),
        ({"loss.gan": "wgan"}, r"model.d_norm='batch' with a gradient penalty .*: use none or spectral"),
        ({"loss.gradient_penalty": True}, r"model.d_norm='batch' with a gradient penalty .*: use none or spectral"),
        ({"loss.lambda_r1": 1.0}, r"model.d_norm='batch' with a gradient penalty .*: use none or spectral"),
        ({"loss.lambda_r1": -1.0}, r"loss.lambda_r1=-1: use 0 \(off\) or a positive number"),
        ({"train.penalty_every": 0}, r"train.penalty_every=0: use a positive number"),
        ({"loss.label_real": 1.2}, r"loss.label_real=1.2 with loss.gan=bce: use 1, or above 0"),
        ({"loss.label_real": 0.9, "loss.gan": "hinge"}, r"loss.label_real=0.9 with loss.gan=hinge: use 1"),
        ({"train.instance_noise": 0.1}, r"train.instance_noise_kimg=0: use the thousands of images"),
        ({"train.flip_labels_kimg": -1.0}, r"train.flip_labels_kimg=-1: use 0 \(off\) or a positive number"),
        ({"optim.decay": "cosine"}, r"optim.decay='cosine': use linear or step"),
    ],
)
def test_impossible_configs_are_refused_by_name(change, message):
    with pytest.raises(UserError, match=message):
        models.build(config_of(**change))


def test_an_unknown_variant_is_refused():
    with pytest.raises(UserError, match=r"dcgan_blocks:wgan: use one of bce, lsgan, wgan_gp, hinge"):
        dcgan_blocks.get_config("wgan")
