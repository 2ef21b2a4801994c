"""What learns from two domains: the reversed gradient, the losses, who learns from what, and runs through every verb."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs import base, domains_digits
from holotf import analyse, evaluate, evaluators, losses, models, train
from holotf.errors import UserError
from holotf.evaluators import domains as domains_judge
from holotf.evaluators.subject import Subject
from holotf.layers.reversal import reverse
from holotf.models.pixelda import nearest

NAMES = ("dann", "pixelda")


def config_of(name, source="", target="", **changes):
    small = {"z_dim": 4, "gf": 4, "df": 4, "blocks": 1}
    shown = {} if name.startswith("pose") else {"evaluate.tsne": 20}
    config = small_config(**{"model.name": name, "evaluate.images": 64, **shown, **changes})
    config.model.update({key: value for key, value in small.items() if key in config.model})
    config.data.sources.source.dir, config.data.sources.target.dir = str(source), str(target)
    return config


def batch(n=8, label=3):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, n, 32, 32, 3)).astype(np.uint8)
    labels = {"label": tf.constant(rng.integers(0, label, n))}
    labels |= {name: tf.constant(rng.uniform(0, 60, n), tf.float32) for name in ("azimuth_deg", "elevation_deg")}
    return {
        "source": {"image": tf.constant(images[0]), **labels},
        "target": {"image": tf.constant(images[1])},
    }


def weights(part):
    return [v.numpy() for v in part.variables]


def same(before, after):
    return all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def finite_difference(function, x, step=1e-6):
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[i] += step
        behind[i] -= step
        found[i] = (function(ahead) - function(behind)) / (2 * step)
    return found


def test_two_players_move_against_each_other_by_finite_differences():
    """Features f = tanh(x W), a class loss (f a - y)^2 and a domain loss (f b - d)^2: W descends on one, ascends on the other."""
    rng = np.random.default_rng(0)
    x, w, a, b = (rng.normal(size=s) for s in ((6, 3), (3, 2), (2, 1), (2, 1)))
    y, d, strength = rng.normal(size=(6, 1)), np.repeat([[0.0], [1.0]], 3, axis=0), 0.7

    def class_loss(w, a):
        return np.mean((np.tanh(x @ w) @ a - y) ** 2)

    def domain_loss(w, b):
        return np.mean((np.tanh(x @ w) @ b - d) ** 2)

    with tf.GradientTape() as tape:
        tape.watch(variables := [tf.constant(t) for t in (w, a, b)])
        features = tf.tanh(x @ variables[0])
        total = tf.reduce_mean((features @ variables[1] - y) ** 2)
        total += tf.reduce_mean((reverse(features, tf.constant(strength)) @ variables[2] - d) ** 2)
    assert float(total) == pytest.approx(class_loss(w, a) + domain_loss(w, b))
    expected = [
        finite_difference(lambda w: class_loss(w, a) - strength * domain_loss(w, b), w),
        finite_difference(lambda a: class_loss(w, a), a),
        finite_difference(lambda b: domain_loss(w, b), b),  # not weighted
    ]
    for found, wanted in zip(tape.gradient(total, variables), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-8)


def test_lambda_by_hand():
    model = models.build(config_of("dann", **{"train.kimg": 0.8, "loss.lambda_domain": 0.5}))
    assert model.iterations == 100
    for iteration, expected in ((0, 0.0), (10, 0.5 * 0.46211716), (50, 0.5 * 0.98661430), (100, 0.5 * 0.99990920)):
        model.iteration.assign(iteration)
        assert float(model.strength()) == pytest.approx(expected, abs=1e-6)
    model = models.build(config_of("dann", **{"loss.schedule": "constant", "loss.lambda_domain": 0.5}))
    assert float(model.strength()) == 0.5


def test_nearest_by_a_loop():
    rng = np.random.default_rng(0)
    images, among = (rng.integers(0, 256, (n, 4, 4, 3)).astype(np.uint8) for n in (5, 7))
    for image, found in zip(images, nearest(images, among), strict=True):
        apart = [((image.astype(int) - other.astype(int)) ** 2).sum() for other in among]
        np.testing.assert_array_equal(found, among[np.argmin(apart)])


@pytest.mark.parametrize("updates", ["joint", "alternating"])
def test_a_step_of_dann_is_the_papers(updates):
    """SGD of rate 1 shows the gradients: features and label predictor on the reversed loss, the domain classifier on its own."""
    settings = {"train.updates": updates, "loss.schedule": "constant", "loss.lambda_domain": 0.5}
    model = models.initial(config_of("dann", **settings))
    model.class_optimizer, model.domain_optimizer = (keras.optimizers.SGD(1e-2) for _ in range(2))
    model.class_optimizer.build(model.network.trainable_variables)
    model.domain_optimizer.build(model.domain_classifier.trainable_variables)
    given, network, critic = batch(), model.network, model.domain_classifier
    before, critic_before = weights(network), weights(critic)
    logs = model.train_step(given)
    after, critic_after = weights(network), weights(critic)
    network.set_weights(before)
    critic.set_weights(critic_before)
    source, target = (tf.cast(given[name]["image"], tf.float32) / 127.5 - 1.0 for name in ("source", "target"))

    def domain_loss():
        signs = [-1.0, 1.0]  # softplus(-logit) of the source, softplus(logit) of the target
        return sum(
            tf.reduce_mean(tf.math.softplus(s * critic(network.features(i)))) for s, i in zip(signs, (source, target), strict=True)
        )

    with tf.GradientTape() as tape:
        loss = domain_loss()
    gradients = tape.gradient(loss, [v.value for v in critic.variables])
    for old, new, g in zip(critic_before, critic_after, gradients, strict=True):
        np.testing.assert_allclose(new, old - 1e-2 * g, atol=1e-6)
    assert float(logs["loss/domain"]) == pytest.approx(float(loss), rel=1e-5)
    if updates == "alternating":
        critic.set_weights(critic_after)
    with tf.GradientTape() as tape:
        log_p = tf.nn.log_softmax(network(source))
        entropy = -tf.reduce_mean(tf.gather(log_p, given["source"]["label"], batch_dims=1))
        total = entropy - 0.5 * domain_loss()
    gradients = tape.gradient(total, [v.value for v in network.variables])
    for old, new, g in zip(before, after, gradients, strict=True):
        np.testing.assert_allclose(new, old - 1e-2 * g, atol=1e-5)


def test_losses_of_a_step_of_pixelda_are_the_papers(monkeypatch):
    """All rates are 0, so each player meets the others as they were."""
    changes = {"optim.lr": 0.0, "optim.g_lr": 0.0, "optim.d_lr": 0.0, "model.d_noise": 0.0}
    changes |= {"loss.lambda_adversarial": 0.5, "loss.lambda_task": 2.0, "loss.lambda_content": 3.0}
    model, given = models.initial(config_of("pixelda", **changes)), batch()
    logs = {k: float(v) for k, v in model.train_step(given).items()}
    model.iteration.assign(0)
    source, target = (tf.cast(given[name]["image"], tf.float32) / 127.5 - 1.0 for name in ("source", "target"))
    made = model.generator(source, model._share(model.draw_noise, 8, 0), training=True)
    real, fake = (model.discriminator(t, training=True)["logits"].numpy() for t in (target, made))
    np.testing.assert_allclose(logs["loss/d"], np.mean(np.log1p(np.exp(-real))) + np.mean(np.log1p(np.exp(fake))), rtol=1e-4)
    np.testing.assert_allclose(logs["loss/g"], 0.5 * np.mean(np.log1p(np.exp(-fake))), rtol=1e-4)

    def entropy(images):
        log_p = tf.nn.log_softmax(model.network(images)).numpy()
        return -np.mean([row[label] for row, label in zip(log_p, given["source"]["label"].numpy(), strict=True)])

    np.testing.assert_allclose(logs["loss/task"], 2.0 * entropy(made), rtol=1e-4)
    np.testing.assert_allclose(logs["loss/class"], 0.5 * (entropy(source) + entropy(made)), rtol=1e-4)
    mask = (source.numpy().max(axis=-1, keepdims=True) > -0.98).astype(np.float32)
    np.testing.assert_allclose(logs["loss/content"], 3.0 * losses.pairwise_content(source, made, mask), rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_bound_learns_from_one_domain_with_the_same_code(name):
    """It gives what a plain classifier of those images would, whatever the other domain holds; its other parts stay."""
    for domain, other in (("source", "target"), ("target", "source")):
        found = []
        for seen in (0, 255):
            model = models.initial(config_of(name, **{"train.domains": domain}))
            assert {domain: ("image", "label"), other: ("image",)} == model.FEATURES
            given = {domain: batch()["source"], other: {"image": tf.fill([8, 32, 32, 3], tf.constant(seen, tf.uint8))}}
            rest = [part for part in model.PARTS if "optimizer" not in part and part != "network"]
            before = [weights(getattr(model, part)) for part in rest]
            assert set(tf.function(model.train_step)(given)) == {"loss/class", "accuracy/train", "grad_norm/class"}
            assert all(same(b, weights(getattr(model, part))) for part, b in zip(rest, before, strict=True))
            found.append(weights(model.network))
            assert list(model.endpoints()) == ["predict"]
        assert same(*found)


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_the_target_are_never_read(name):
    """A batch holds none, and a step that is given some all the same does what it does without."""
    assert models.build(config_of(name)).FEATURES == {"source": ("image", "label"), "target": ("image",)}
    found = []
    for labels in ({}, {"label": tf.zeros([8], tf.int64)}):
        model, given = models.initial(config_of(name)), batch()
        tf.function(model.train_step)(given | {"target": given["target"] | labels})
        found.append([w for part in ("network", *model.PARTS) if "optimizer" not in part for w in weights(getattr(model, part))])
    assert same(*found)


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(f"pose_{name}", marks=pytest.mark.slow) for name in NAMES)])
def test_two_replicas_equal_one(name):
    """SGD: Adam's first steps make a whole rate of rounding noise."""
    rates = {"optim.optimizer": "sgd", "optim.lr": 1e-2, "optim.d_lr": 1e-2, "optim.momentum": 0.0}
    config = config_of(name, **rates | ({"optim.g_lr": 1e-2} if name.endswith("pixelda") else {"loss.schedule": "constant"}))
    results = []
    for count in (1, 2):
        strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)], tf.distribute.ReductionToOneDevice())
        with strategy.scope():
            model = models.initial(config)

        def shared(context, count=count):
            return tf.nest.map_structure(lambda t: tf.split(t, count)[context.replica_id_in_sync_group], batch())

        shares = strategy.experimental_distribute_values_from_function(shared)
        step = tf.function(lambda s=strategy, m=model, b=shares: s.run(m.train_step, args=(b,)))
        for _ in range(2):
            logs = {k: float(strategy.reduce("MEAN", v, axis=None)) for k, v in step().items()}
        logs = {k: v for k, v in logs.items() if not k.startswith("grad_norm")}
        found = [w for part in model.PARTS if "optimizer" not in part for w in weights(getattr(model, part))]
        results.append((logs, found))
    (one_logs, one), (two_logs, two) = results
    assert one_logs == pytest.approx(two_logs, rel=1e-3)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def domains(colours, tmp_path_factory):
    """The colours' folder twice, as source and target."""
    beside = tmp_path_factory.mktemp("target") / "data"
    beside.symlink_to(colours)
    return colours, beside


@pytest.mark.parametrize("name", ["dann", pytest.param("pixelda", marks=pytest.mark.slow)])
def test_a_run_is_trained_resumed_judged_exported(name, domains, tmp_path):
    """In this process: eight iterations at once, and in two goes, end bit for bit alike."""
    settings = {"model.classes": (), "optim.decay_from": 1.0, "optim.lr": 1e-3, "evaluate.kimg": 0.064, "train.log_kimg": 0.032}
    settings |= {"loss.schedule": "constant"} if name == "dann" else {}  # whose ramp follows the run's length
    for goes, folder in (((0.064,), "one"), ((0.032, 0.064), "two")):
        for kimg in goes:
            config = config_of(name, *domains, **settings | {"train.kimg": kimg})
            config.evaluate.kimg = 0.0 if folder == "one" else config.evaluate.kimg
            assert train.train(config, str(tmp_path / folder)) == 0
    one, two = (tf.train.load_checkpoint(str(tmp_path / folder / "checkpoints")) for folder in ("one", "two"))
    parts = (*models.build(config).PARTS, "progress")
    names = [name for name in one.get_variable_to_shape_map() if name.startswith(parts)]
    assert len(names) > 20
    for variable in names:
        np.testing.assert_array_equal(one.get_tensor(variable), two.get_tensor(variable), err_msg=variable)

    workdir = tmp_path / "two"
    assert json.loads((workdir / "best" / "metric.json").read_text())["name"] == "domain/information"
    events = EventAccumulator(str(workdir / "events"), size_guidance={"tensors": 0}).Reload().Tags()["tensors"]
    assert {"loss/class", "accuracy/top1", "accuracy/class/red", "domain/a_distance", "tsne_domains"} <= set(events)
    assert ("adapted" in events) == (name == "pixelda")
    metrics = json.loads((workdir / "metrics.json").read_text())["metrics"]
    assert 0 <= metrics["domain/a_distance"] <= 2
    served, images = tf.saved_model.load(str(workdir / "saved_model")), batch()["source"]["image"]
    told = served.predict(images)
    np.testing.assert_allclose(tf.reduce_sum(told["probabilities"], axis=1), 1.0, atol=1e-5)
    assert set(told["classes"].numpy()) <= {b"red", b"green", b"blue"}
    card = json.loads((workdir / "saved_model" / "card.json").read_text())
    assert card["endpoints"]["predict"]["default"]
    assert [source["source"] for source in card["data"]] == ["source", "target"]
    if name == "pixelda":
        assert served.adapt(images, tf.zeros([8, 4]))["images"].shape == images.shape
        assert np.any(served.adapt(images, tf.ones([8, 4]))["images"] != served.adapt(images, tf.zeros([8, 4]))["images"])


def test_the_ramp_goes_on_where_it_was(domains, tmp_path):
    """Lambda follows the iteration, and a run that goes on from an older checkpoint ends as it would have."""
    config = config_of("dann", *domains, **{"model.classes": (), "optim.lr": 1e-3, "train.log_kimg": 0.032})
    assert config.loss.schedule == "ramp"
    ends = []
    for resume_from in ("", "ckpt-4"):
        config.train.resume_from = resume_from
        assert train.train(config, str(tmp_path)) == 0
        reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path / "checkpoints")))
        names = [name for name in reader.get_variable_to_shape_map() if name.startswith(tuple(models.build(config).PARTS))]
        ends.append({name: reader.get_tensor(name) for name in names})
    assert len(ends[0]) > 10
    for name, value in ends[0].items():
        np.testing.assert_array_equal(value, ends[1][name], err_msg=name)


def test_accuracy_is_the_targets(domains, squares):
    """The colours' classes are three, as the squares' are: accuracy on the one, source accuracy on the other."""
    source, target = domains[0], squares
    config = config_of("dann", source, target)
    with pytest.raises(
        UserError, match=r"data.sources: the classes are blue, green, red .* and 0, 1, 2 .*: prepare both with the same"
    ):
        models.build(config)
    config = config_of("dann", *domains, **{"model.classes": ()})
    model, shown = models.build(config), {}
    model.logits = lambda images: tf.one_hot(tf.zeros([tf.shape(images)[0]], tf.int32), 3) * 50.0  # always blue
    metrics, notes, _ = evaluate.evaluate(model, config, shown.update)
    assert metrics["accuracy/class/blue"] == 1.0
    assert metrics["accuracy/top1"] == metrics["domain/source_accuracy"] == pytest.approx(1 / 3)
    assert metrics["domain/information"] == pytest.approx(0.0, abs=1e-9), "it is sure, and names one class alone"
    assert metrics["domain/entropy"] == pytest.approx(0.0, abs=1e-9)
    assert metrics["domain/a_distance"] == 0.0, "the domains are one"
    assert {"confusion", "tsne_domains", "tsne_classes"} <= set(shown)
    assert "accuracy on the 24 images of test" in notes
    assert any(f"{Path(domains[1])}, train, without labels" in note for note in notes)


def test_what_is_given_of_one_domain_is_not_given_of_the_other():
    config = base.get_config("dann")
    config.data.sources.source.dir = "here"
    assert config.data.sources.target.dir == ""
    config = domains_digits.get_config("target")
    assert (config.data.sources.source.dir, config.data.sources.target.dir) == ("data/mnist32", "data/mnist_m32")
    assert config.train.domains == "target"
    with pytest.raises(UserError, match=r"domains_digits:both: use one of dann, pixelda, source, target"):
        domains_digits.get_config("both")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dann", {"train.domains": "neither"}, r"train.domains='neither': use both, source, target"),
        ("dann", {"train.updates": "at once"}, r"train.updates='at once': use joint or alternating"),
        ("dann", {"loss.schedule": "step"}, r"loss.schedule='step': use ramp or constant"),
        ("dann", {"loss.lambda_domain": -1.0}, r"loss.lambda_domain=-1: use 0 or more"),
        ("dann", {"evaluate.tsne": 3}, r"evaluate.tsne=3: use 0 \(off\), or 20 images or more"),
        ("dann", {"model.network": "resnet"}, r"model.network='resnet': use baseline, improved, ganin"),
        ("pixelda", {"model.image_size": 28}, r"model.image_size=28: use 32, 64 or 128"),
        ("pixelda", {"loss.gan": "wgan"}, r"loss.gan='wgan': use bce, hinge, lsgan"),
        ("pixelda", {"model.blocks": 0}, r"model.blocks=0: use 1 or more"),
        ("pixelda", {"loss.lambda_content": -1.0}, r"loss.lambda_content=-1: use 0 \(off\) or a positive number"),
        ("pixelda", {"model.classes": ()}, r"model.classes=\(\): data.dir='' does not exist.*; or name the classes here"),
    ],
)
def test_impossible_configs_are_refused_by_name(name, change, message):
    config = config_of(name)
    for key, value in change.items():
        section, _, field = key.partition(".")
        config[section][field] = value
    with pytest.raises(UserError, match=message):
        models.build(config)


def test_what_is_seen_or_too_little_is_said(domains, tmp_path):
    config = config_of("dann", *domains, **{"model.classes": ()})
    config.data.sources.source.split = "train+test"
    _, notes, _ = evaluate.evaluate(models.build(config), config)
    assert any("images of the source are those of training" in note for note in notes)
    config.data.sources.source.split = "train"
    config.evaluate.images = 3
    metrics, notes, _ = evaluate.evaluate(models.build(config), config)
    assert "domain/a_distance" not in metrics
    assert "no domain/a_distance: it takes 20 images of each domain, of which there are 3 and 3" in notes


def test_what_a_network_of_two_domains_learnt_is_looked_into(domains):
    """On the target's images, as it is judged; and probed, as any network that looks at images is."""
    settings = {"model.classes": (), "analyse.looks": ("embedding", "guided"), "analyse.images": 20}
    config = config_of("dann", *domains, **settings, **{"evaluate.probe": str(domains[0])})
    model = models.initial(config)
    figures, notes, _ = analyse.analyse(model, config)
    assert set(figures) == {"embedding/levels_plane", "guided/half", "guided/untrained_half"}
    assert notes == []
    config.data.sources.target.dir, config.analyse.attributes = str(domains[1]), ("shape",)
    with pytest.raises(UserError, match=rf"shape is no ClassLabel of {domains[1]}: use label"):
        analyse.analyse(model, config)
    assert "probe/levels_accuracy" in [name for judge in judges(model, config) for name in judge.measures()]


def judges(model, config):
    return evaluators.fitting(evaluators.judges(), Subject(model, config))


def test_a_third_data_set_is_refused():
    config = config_of("dann")
    with config.data.unlocked():
        config.data.sources.third = config.data.sources.source
    with pytest.raises(UserError, match=r"data.sources=\['source', 'target', 'third'\]: use source and target"):
        models.build(config)


def test_distance_and_information_by_hand():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 200, 3))
    assert domains_judge.a_distance(one, other + np.array([8.0, 0.0, 0.0])) == 2.0
    assert domains_judge.a_distance(one, other) < 0.5
    sure_of_two = np.log(np.array([[1.0, 1e-30], [1e-30, 1.0]]))
    assert domains_judge.information(sure_of_two) == pytest.approx(np.log(2))
    assert domains_judge.information(np.log(np.full((2, 2), 0.5))) == pytest.approx(0.0)
    log_p = np.log([[0.9, 0.1], [0.6, 0.4]])
    apart = [-p * np.log(p) - (1 - p) * np.log(1 - p) for p in (0.75, 0.9, 0.6)]
    assert domains_judge.information(log_p) == pytest.approx(apart[0] - (apart[1] + apart[2]) / 2)
