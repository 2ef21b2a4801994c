"""Damaged runs, exports, extractors, and what is kept of them (tests/damage.py)."""

import contextlib
import importlib
import io
import re
import shutil
from pathlib import Path

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, run, small_config, tree
from damage import count, each, said, tried

import main
from configs import of_run
from holotf import card, data, features, flags, models, run_folder
from holotf.checkpoints import Checkpoints
from holotf.errors import RunError, UserError
from holotf.evaluators import regressor
from holotf.export import export

# As in a process of its own: what libraries warn of is no error there.
pytestmark = pytest.mark.filterwarnings("ignore")


def extractor_in(folder, kind):
    folder.mkdir()
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 4, 4), keras.layers.GlobalAveragePooling2D()]
    network = keras.Sequential(layers)
    if kind == "small.keras":
        network.save(folder / kind)
    else:
        network.export(folder / kind, verbose=False)
    return folder


@pytest.fixture(scope="module")
def model(squares, tmp_path_factory):
    place = tmp_path_factory.mktemp("judged")
    extractor = str(extractor_in(place / "extractor", "small.keras") / "small.keras")
    judged = {"extractor": extractor, "images": 90, "identities": 3, "views": 4, "cache": str(place / "cache"), "best": "fid"}
    changes = {f"evaluate.{key}": value for key, value in judged.items()} | {"train.kimg": 0.024, "generate.seeds": (0,)}
    return models.build(small_config(squares, **changes))


def weights(model):
    return [value.numpy() for part in model.PARTS for value in getattr(model, part).variables]


@pytest.fixture(scope="module")
def trained(model, squares, tmp_path_factory):
    """The folder of a run with checkpoints 1, 2 and 3, and {iteration: weights}."""
    folder, states = tmp_path_factory.mktemp("trained"), {}
    run_folder.record(model.config, str(folder), data.open_sources(model.config.data))
    kept = Checkpoints(model, str(folder))
    for iteration in (1, 2, 3):
        model.iteration.assign(iteration)
        for value in model.generator.trainable_variables:
            value.assign_add(0.01 * tf.ones_like(value))
        kept.save()
        states[iteration] = weights(model)
    return folder, states


def same(found, wanted):
    return all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_runs(model, trained):
    """A checkpoint is restored as it was written; or one line names a whole one to go on from, and then that is."""
    whole, states = trained

    def judge(folder):
        before = tree(folder)
        tried(flags.check_config, f"{ROOT}/configs/of_run.py:{folder}")
        kept, left = Checkpoints(model, str(folder)), weights(model)
        path, line = tried(kept.restore)
        assert tree(folder) == before
        if line:
            assert same(weights(model), left)
            named = re.search(r"go on from it with --config.train.resume_from=(ckpt-\d), or give|no whole checkpoint is left", line)
            path = named[1] and kept.restore(named[1])
        assert path is None or same(weights(model), states[int(path[-1])])

    each(whole, judge, count(25))


def here(verb, folder):
    """(exit code, standard error) of a command as main.py runs it, in this process."""
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        try:
            flags.check_config(f"{ROOT}/configs/of_run.py:{folder}")
            code = importlib.import_module(f"holotf.{verb}").run(of_run.get_config(folder), str(folder))
        except (UserError, RunError) as error:
            code = main.fail(error, 2 if isinstance(error, UserError) else 1)
    return code, shown.getvalue()


def elsewhere(verb, folder):
    done = run(f"--workdir={folder}", f"--mode={verb}")
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("command", "examples"),
    [(here, count(2)), (elsewhere, count(1))],
    ids=["here", "elsewhere"],
)
def test_commands(trained, tmp_path, command, examples):
    """Each verb does what it is to do, or says in one line why it cannot; what was trained is not touched either way."""
    whole = shutil.copytree(trained[0], tmp_path / "whole")

    def judge(folder, verb):
        before = tree(folder)
        code, shown = command(verb, folder)
        if code:
            assert code == 2
            said(shown)
            assert tree(folder) == before
        else:
            written = {"train": "saved_model", "evaluate": "metrics.json", "generate": "pictures", "export": "saved_model"}[verb]
            assert (folder / written).exists()
            assert tree(folder / "checkpoints") == {
                path.removeprefix("checkpoints/"): digest for path, digest in before.items() if path.startswith("checkpoints/")
            }

    each(whole, judge, examples, verb=st.sampled_from(["train", "evaluate", "generate", "export"]))


def test_exports(model, trained, tmp_path):
    """Its weights are restored as they were exported, or one line says that it cannot be read."""
    whole = Path(export(model, str(tmp_path / "whole")))
    exported = [value.numpy() for value in model.servable()[0].vars]

    def judge(folder):
        _, line = tried(run_folder._load_export, model, str(folder))
        assert line or same((value.numpy() for value in model.servable()[0].vars), exported)

    each(whole, judge, count(5))


def test_what_a_run_notes_of_its_best(model, trained, tmp_path):
    """Its figures are read as they were written, or are none; the run goes on."""
    whole = Path(shutil.copytree(trained[0], tmp_path / "whole"))
    (whole / "metrics.json").write_text('{"metrics": {"fid": 1.0}, "notes": [], "evaluate": {}, "seed": 0}\n')
    kept = Checkpoints(model, str(whole))
    kept.restore()
    assert kept.keep_best("fid", 1.0, min)
    shutil.rmtree(whole / "checkpoints")

    def judge(folder):
        shutil.copytree(trained[0] / "checkpoints", folder / "checkpoints")
        card._metrics(str(folder))
        Checkpoints(model, str(folder)).keep_best("fid", 0.5, min)
        best = Checkpoints(model, str(folder / "best"))
        assert best.restore()

    each(whole, judge, count(10))


@pytest.mark.parametrize("kind", ["small.keras", "saved_model"])
def test_extractors(kind, tmp_path):
    whole = extractor_in(tmp_path / "whole", kind)
    looked_at = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    wanted = features.extractor(str(whole / kind))(looked_at)

    def judge(folder):
        found, line = tried(features.extractor, str(folder / kind))
        assert line or np.array_equal(found(looked_at), wanted)

    each(whole, judge, count(6))


def network():
    layer = keras.layers.Dense(3, kernel_initializer="ones", bias_initializer="ones")
    return keras.Sequential([keras.Input((2,)), layer])


def test_kept_regressors(squares, tmp_path, monkeypatch):
    """They are read as they were trained, with how well they were found to read; or trained again."""
    builder, facts = data.open_folder(small_config(squares).data), {"azimuth_mae_deg": 5.25, "front_for_back": 0.125}
    monkeypatch.setattr(regressor, "labelled", lambda *_: (np.zeros((1000, 1, 1, 3), np.uint8), np.zeros(1000), np.zeros(1000)))
    monkeypatch.setattr(regressor, "train", lambda *_, **__: regressor.PoseRegressor(network(), facts, {}))

    def judge(folder):
        kept = regressor.regressor(builder, "train", [], str(folder))
        assert (kept.held_out, kept.elsewhere) == (facts, {})
        assert same(kept.network.get_weights(), network().get_weights())

    (tmp_path / "whole").mkdir()
    judge(tmp_path / "whole")
    each(tmp_path / "whole", judge, count(10))


def test_kept_features(tmp_path):
    """They are read as they were written, or made again."""
    made = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    batch = np.zeros((5, 8, 8, 3), np.uint8)
    features.cached_features(lambda images: made, [batch], "key", tmp_path / "whole")

    def judge(folder):
        found = features.cached_features(lambda images: made, [batch], "key", folder)
        np.testing.assert_array_equal(found, made)

    each(tmp_path / "whole", judge, count(25))
