"""The projection cGAN: its networks, what it is told in training, the loop, exports that take labels."""

import json

import imageio.v3 as imageio
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import run, small_config, train_on_replicas

from configs import of_run, projection_clevr
from holotf import generate, models, run_folder, train
from holotf.errors import UserError
from holotf.layers.spectral import SpectralNorm, update_spectral_norms
from holotf.models.projection_gan import Discriminator, Generator

NAMES = ("red cube", "blue sphere", "green cylinder")


def config_of(folder="", **changes):
    named = {"model.classes": NAMES, "model.most_labels": 2} if not folder else {"model.classes": ()}
    return small_config(folder, **{"model.name": "projection_gan", **named, **changes})


def batch(n=8, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.float32([[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1]])[rng.integers(0, 4, n)]
    return {"image": tf.constant(rng.integers(0, 256, (n, 32, 32, 3)), tf.uint8), "labels": tf.constant(labels)}


def count(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


@pytest.mark.parametrize("upsampling", ["nearest", "bicubic"])
@pytest.mark.parametrize("conditional_norm", [True, False])
@pytest.mark.parametrize("label_maps", [True, False])
def test_the_generator_counts_as_its_layers(upsampling, conditional_norm, label_maps):
    """Figure 14a a level smaller: 4x4, then three blocks at 32 px; K = 5 labels and none, gf = 2."""
    joined = 6 if label_maps or not conditional_norm else 0
    expected = (8 + joined) * 16 * 8 + 16 * 8
    norms = 12 if conditional_norm else 2  # scale and shift, for each label
    for inputs, filters in ((8, 8), (8, 4), (4 + 6 * label_maps, 2)):  # maps join again at 16 px
        expected += norms * (inputs + filters)
        expected += 9 * inputs * filters + 9 * filters * filters + inputs * filters + 3 * filters
    expected += 2 * 2 + 9 * 2 * 3 + 3
    generator = Generator(32, 8, 5, 2, 2, conditional_norm, label_maps, upsampling)
    assert count(generator) == expected
    images = generator(tf.random.stateless_normal([3, 13], [0, 0]))
    assert images.shape == (3, 32, 32, 3)
    assert np.abs(images).max() <= 1.0


@pytest.mark.parametrize("label_maps", [True, False])
def test_the_discriminator_counts_as_its_layers(label_maps):
    more = 6 * label_maps
    expected = 8 + 1 + 6 * 8  # the linear unit, and an embedding of each label and of none
    for inputs, filters in ((3 + more, 2), (2 + more, 4), (4, 8), (8, 8)):
        expected += 9 * inputs * filters + 9 * filters * filters + inputs * filters + 3 * filters
    assert count(Discriminator(32, 5, 2, 2, "spectral", True, label_maps)) == expected
    assert count(Discriminator(32, 5, 2, 2, "none", False, label_maps)) == expected - 6 * 8


def test_every_kernel_of_the_discriminator_is_normalised():
    """However deep in blocks it lies: after many updates each has spectral norm 1."""
    discriminator = models.build(config_of()).discriminator
    for _ in range(100):
        update_spectral_norms(discriminator)
    layers = [layer for layer in discriminator._flatten_layers() if isinstance(layer, SpectralNorm)]
    assert len(layers) == 4 * 3 + 2
    for layer in layers:
        kernel = layer.normalised_kernel().numpy()
        assert np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]))[1][0] == pytest.approx(1.0, abs=0.02)


def test_labels_reach_both_players_by_each_way_alone():
    one, other = tf.constant([[1.0, 0, 0]]), tf.constant([[0, 1.0, 1.0]])
    z, image = tf.ones([1, 8]), tf.zeros([1, 32, 32, 3])
    for norm, maps in ((True, False), (False, True), (False, False)):
        generator = Generator(32, 8, 3, 2, 2, norm, maps, "nearest")
        for v in generator.trainable_variables:
            v.assign(tf.random.stateless_normal(v.shape, [0, 1]))
        assert np.any(generator(tf.concat([z, one], 1)) != generator(tf.concat([z, other], 1))), (norm, maps)
    for projection, maps in ((True, False), (False, True)):
        discriminator = Discriminator(32, 3, 2, 2, "none", projection, maps)
        for v in discriminator.trainable_variables:
            v.assign(tf.random.stateless_normal(v.shape, [0, 1]))
        logits = [float(discriminator(image, told)["logits"][0]) for told in (one, other)]
        assert logits[0] != logits[1], (projection, maps)


def test_made_images_have_the_labels_of_the_batch_in_training():
    model, given = models.build(config_of()), batch()
    (fed,) = model.inputs_to_train(given, 0)
    (again,) = model.inputs_to_train(given, 1)
    np.testing.assert_array_equal(model.condition_of_made((fed,))[0], given["labels"])
    np.testing.assert_array_equal(model.condition_of_real(given)[0], given["labels"])
    assert np.all(model.parts(fed)[0] != model.parts(again)[0])
    np.testing.assert_array_equal(
        model.condition_of_real({"labels": tf.constant([2, 0])})[0], [[0, 0, 1], [1, 0, 0]], "one label an image is a row, too"
    )


@pytest.mark.parametrize("label_maps", [True, False])
def test_real_images_beside_labels_of_their_neighbours_are_refused(label_maps):
    """Without label maps they cost no further pass."""
    model = models.build(config_of(**{"train.mismatched_labels": True, "model.label_maps": label_maps}))
    labels = tf.constant([[1, 0, 0], [0, 1, 0], [1, 0, 1], [1, 0, 1]], tf.float32)
    images, fake = tf.random.stateless_uniform([4, 32, 32, 3], [0, 0], -1.0, 1.0), {"logits": tf.constant([5.0, 6.0, 7.0, 8.0])}
    real = model.discriminator(images, labels, training=True)
    assert ("pooled" in real) != label_maps
    refused = model.to_refuse(images, (labels,), real, fake)
    beside_others = model.discriminator(images[:2], tf.gather(labels, [1, 0]), training=True)["logits"]
    np.testing.assert_allclose(refused[4:6], beside_others, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(refused[:4], [5, 6, 7, 8])
    np.testing.assert_array_equal(refused[6:], [7, 8], "neighbours with the same labels")

    losses = []
    for mismatched in (True, False):
        keras.utils.set_random_seed(0)
        model = models.build(config_of(**{"train.mismatched_labels": mismatched, "model.label_maps": label_maps}))
        losses.append(float(model.train_step(batch())["loss/d"]))
    assert abs(losses[0] - losses[1]) > 1e-3, "the loss has them"


def test_labels_are_read_off_real_images_and_made_ones_are_to_pass():
    """The discriminator learns the reading where labels are true, the generator pays it; nobody tells it the labels."""
    model = models.build(config_of(**{"model.label_maps": False, "loss.lambda_labels": 0.5}))
    (fed,) = model.inputs_to_train(batch(2), 0)
    (told,) = model.condition_of_made((fed,))
    right, wrong = {"labels": 40.0 * (2.0 * told - 1.0)}, {"labels": -40.0 * (2.0 * told - 1.0)}
    assert float(model.discriminator_terms(right, wrong, (fed,))["loss/d_labels"]) == pytest.approx(0.0, abs=1e-6)
    assert float(model.discriminator_terms(wrong, right, (fed,))["loss/d_labels"]) == pytest.approx(0.5 * 3 * 40.0)
    assert float(model.generator_terms(wrong, (fed,))["loss/g_labels"]) == pytest.approx(0.5 * 3 * 40.0)

    images = tf.random.stateless_uniform([2, 32, 32, 3], [0, 0], -1.0, 1.0)
    one, other = (model.discriminator(images, row) for row in (told, 1.0 - told))
    np.testing.assert_array_equal(one["labels"], other["labels"])
    assert np.any(one["logits"] != other["logits"])
    assert not models.build(config_of(**{"model.label_maps": False})).discriminator.reading

    reading = model.discriminator.reading.kernel
    before = reading.numpy()
    logs = model.train_step(batch())
    assert {"loss/d_labels", "loss/g_labels"} <= set(logs)
    assert np.any(reading.numpy() != before)


def test_labels_are_drawn_evenly():
    model = models.build(config_of())
    labels = model.parts(model.draw(6000, [0, 0])[0])[1].numpy()
    assert set(labels.sum(axis=1)) == {1.0, 2.0}
    found, shares = np.unique(labels, axis=0, return_counts=True)
    assert len(found) == 6
    np.testing.assert_allclose(shares / 6000, 1 / 6, atol=0.02)  # one of three, or two of three


def test_no_more_labels_are_drawn_than_there_are():
    model = models.build(config_of(**{"model.most_labels": 5}))
    number = model.parts(model.draw(6000, [0, 0])[0])[1].numpy().sum(axis=1)
    np.testing.assert_allclose(np.bincount(number.astype(int), minlength=4) / 6000, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.03)


@pytest.mark.parametrize("rung", [pytest.param("wgan_gp", marks=pytest.mark.slow), "full"])
def test_a_rung_moves_both_players(rung):
    rungs = projection_clevr.get_config(rung)
    changes = {f"model.{key}": rungs.model[key] for key in ("projection", "conditional_norm", "label_maps", "d_norm")}
    model = models.build(config_of(**changes, **{"loss.gan": rungs.loss.gan}))
    before = [v.numpy() for v in (*model.generator.trainable_variables, *model.discriminator.trainable_variables)]
    logs = tf.function(model.train_step)(batch())
    assert np.isfinite([float(v) for v in logs.values()]).all()
    assert ("loss/gradient_penalty" in logs) == (rung == "wgan_gp")
    after = [v.numpy() for v in (*model.generator.trainable_variables, *model.discriminator.trainable_variables)]
    moved = [np.any(a != b) for a, b in zip(before, after, strict=True)]
    assert sum(moved) >= len(moved) - 1 - 2 * model.config.model.conditional_norm, "all but the biases that no loss reaches"


@pytest.mark.slow
def test_two_replicas_equal_one_with_everything_on():
    switches = {"train.diff_augment": ("color", "translation", "cutout"), "train.mismatched_labels": True}
    config = config_of(**switches, **{"model.upsampling": "bicubic"})
    config.optim.optimizer, config.optim.d_lr, config.optim.g_lr = "sgd", 1e-3, 1e-3  # Adam makes a whole rate of rounding noise
    (one, one_logs), (two, two_logs) = (train_on_replicas(config, replicas, batch()) for replicas in (1, 2))
    for a, b in zip(one_logs, two_logs, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
    for part in ("generator", "discriminator"):
        for a, b in zip(getattr(one, part).variables, getattr(two, part).variables, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=a.path)


def test_mixed_precision_keeps_logits_and_images_float32():
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.build(config_of(**{"model.upsampling": "bicubic"}))
        assert model.generator(model.draw(2, [0, 0])[0]).dtype == tf.float32
        assert model.discriminator(tf.zeros([2, 32, 32, 3]), tf.ones([2, 3]))["logits"].dtype == tf.float32
        assert model.generator.blocks[0].convs[0].compute_dtype == "bfloat16"
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.image_size": 48}, "model.image_size=48: use 32, 64 or 128"),
        ({"model.d_norm": "batch"}, "model.d_norm='batch': use spectral or none"),
        ({"model.upsampling": "cubic"}, "model.upsampling='cubic': use nearest or bicubic"),
        ({"model.projection": False, "model.label_maps": False}, "model.projection=False with model.label_maps=False"),
        ({"model.most_labels": 0}, "model.most_labels=0: use 1 or more"),
        ({"model.classes": ()}, r"model.classes=\(\)"),
        ({"loss.lambda_labels": -1.0}, "loss.lambda_labels=-1: use 0"),
        (
            {"train.mismatched_labels": True, "loss.lambda_labels": 1.0, "model.projection": False},
            "train.mismatched_labels=True with loss.lambda_labels and model.projection=False",
        ),
        ({"train.mismatched_labels": True, "train.batch_size": 7}, "train.batch_size=7: use a multiple of 2 with"),
    ],
)
def test_what_cannot_be_is_named(change, message):
    with pytest.raises(UserError, match=message):
        models.build(config_of(**change))


def test_the_experiment_builds(scenes):
    with pytest.raises(UserError, match="projection_clevr:best: use one of cdcgan, lsgan"):
        projection_clevr.get_config("best")
    config = projection_clevr.get_config()
    config.model.image_size, config.model.gf, config.model.df, config.data.dir = 32, 2, 2, scenes
    config.train.d_steps = ((0.0, 2), (80.0, 3), (160.0, 4))
    model = models.build(config)
    assert len(model.class_names) == 24
    shares = [np.mean([model.step_options(start + i)["play"] for i in range(12)]) for start in (0, 10_008, 20_004)]  # by thirds
    np.testing.assert_allclose(shares, [1 / 2, 1 / 3, 1 / 4])


# --- in the loop


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """Folder of a run of eight iterations, on scenes of one or two solids."""
    workdir = tmp_path_factory.mktemp("projection_gan")
    config = config_of(scenes, **{"train.d_steps": ((0.0, 1), (0.032, 2)), "optim.decay_from": 1.0})
    assert train.train(config, str(workdir)) == 0
    return workdir


@pytest.mark.slow
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "publish", lambda *_: None)
    for kimg in (0.032, 0.064):
        config = of_run.get_config(str(trained))
        config.train.kimg = kimg
        assert train.train(config, str(tmp_path)) == 0
    one, two = (tf.train.load_checkpoint(f"{folder}/checkpoints") for folder in (trained, tmp_path))
    names = [n for n in one.get_variable_to_shape_map() if n.startswith(("generator", "discriminator", "d_optimizer"))]
    assert len(names) > 60
    for name in names:
        np.testing.assert_array_equal(one.get_tensor(name), two.get_tensor(name), err_msg=name)


@pytest.mark.slow
def test_an_unknown_label_is_one_line(trained):
    done = run(f"--workdir={trained}", "--mode=generate", "--labels", "red cube, red cub")
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: --labels='red cube, red cub': there is no 'red cub': use some of gray cube, red cube")


@pytest.mark.slow
def test_a_sheet_has_a_row_for_each_condition(trained, tmp_path):
    assert {"samples.png", "conditions.png", "interpolation.gif"} <= {p.name for p in (trained / "pictures").iterdir()}
    model = run_folder.restore(of_run.get_config(str(trained)), str(trained))
    model.config.generate.labels = "red cube, blue sphere; green cylinder"
    generate.generate(model, model.config.generate, str(tmp_path))
    captioned = 128 + 2 * 15
    assert imageio.imread(tmp_path / "conditions.png").shape == (2 * captioned, 2 * 128, 3)
    assert imageio.imread(tmp_path / "interpolation.png").shape == (2 * 32, 4 * 32, 3)


@pytest.mark.slow
def test_asked_for_and_drawn_with_one_latent(trained):
    model = run_folder.restore(of_run.get_config(str(trained)), str(trained))
    model.config.generate.labels = "red cube, blue sphere; green cylinder; gray cube"
    found, names, sheet = generate._labelled(model, model.config.generate, model.latents((0, 1)), ["0", "1"])
    z, labels = model.parts(found)
    assert np.all(z == z[0])
    assert [[model.class_names[i] for i in np.flatnonzero(row)] for row in labels.numpy()] == [
        ["red cube", "blue sphere"],
        ["green cylinder"],
        ["gray cube"],
    ]
    assert names == ["0_red_cube_blue_sphere", "1_green_cylinder", "2_gray_cube"]
    assert sheet.shape[1] == 2 * 128
    model.config.generate.labels = "gray cube"
    found, names, _ = generate._labelled(model, model.config.generate, model.latents((0, 1)), ["0", "1"])
    assert names == ["0", "1"]
    np.testing.assert_array_equal(model.parts(found)[0], model.parts(model.latents((0, 1)))[0])


def test_labels_of_a_model_that_is_told_none(squares):
    model = models.build(small_config(squares, **{"model.name": "dcgan", "generate.labels": "chair"}))
    with pytest.raises(UserError, match=r"--labels='chair': model.name='dcgan' is told no labels: leave it out"):
        generate.check_labels(model)


@pytest.mark.slow
def test_the_export_takes_labels_by_name_and_by_number(trained):
    served, seed = tf.saved_model.load(str(trained / "saved_model")), tf.constant([3, 4], tf.int64)
    named = served.latents_by_name(seed, tf.constant(["red cube,  blue sphere", "green cube"]))["z"]
    rows = np.zeros((2, 24), np.float32)
    rows[0, [1, 10]] = rows[1, 3] = 1
    np.testing.assert_array_equal(named, served.latents_by_label(seed, tf.constant(rows))["z"])
    np.testing.assert_array_equal(named[:, :8], served.latents(seed)["z"][:, :8])
    np.testing.assert_array_equal(named[:, 8:], rows)
    assert served.generate(named)["images"].shape == (2, 32, 32, 3)
    for name in (b"red cub", b"\xff"):
        with pytest.raises(tf.errors.InvalidArgumentError, match="names: use some of gray cube, red cube"):
            served.latents_by_name(seed, tf.constant([b"red cube", name]))
    card = json.loads((trained / "saved_model" / "card.json").read_text())
    assert card["classes"][:2] == ["gray cube", "red cube"]
    assert card["latent"] == {"z_dim": 32, "distribution": "standard normal", "range": None, "labels": 24}
    assert card["endpoints"]["latents_by_name"]["inputs"]["names"]["dtype"] == "string"
    assert card["endpoints"]["generate"]["default"]
