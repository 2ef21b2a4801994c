"""Models of other kinds, each a file found by its name, through the verbs: a classifier, a GAN told of labels, two domains."""

import json
import os
import shutil
import subprocess
import sys

import conftest
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from holotf import models

TOYS = ROOT / "tests" / "toys"
NAMES = ("two_layers", "labelled_gan", "two_domains")
ONE_LOOK = ("--config.analyse.looks=('volume',)",)


@pytest.fixture(scope="module")
def project(squares, tmp_path_factory):
    """The project with the toys' files added, and nothing else changed."""
    folder = tmp_path_factory.mktemp("project")
    for part in ("holotf", "configs", "data_prep", "main.py"):
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, folder / part)
    for name in NAMES:
        shutil.copy(TOYS / f"{name}.py", folder / "holotf" / "models")
    shutil.copy(TOYS / "experiments.py", folder / "configs")
    (folder / "data").mkdir()
    for name in ("squares", "others"):
        (folder / "data" / name).symlink_to(squares)
    return folder


def run(project, *arguments, code=0):
    done = conftest.run(*arguments, folder=project)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module", params=NAMES)
def trained(project, request):
    """(name, folder of the run): half a thousand images in two goes, the second by --workdir alone."""
    workdir = project / "runs" / request.param
    told = run(project, f"--config=configs/experiments.py:{request.param}", f"--workdir={workdir}", "--config.train.kimg=0.256")
    assert "Trained on 0.256 thousand images." in told
    told = run(project, f"--workdir={workdir}", "--config.train.kimg=0.512")
    assert f"resumed from {workdir}/checkpoints/ckpt-32" in told
    assert tf.train.latest_checkpoint(workdir / "checkpoints").endswith("ckpt-64")
    return request.param, workdir


@pytest.mark.slow
def test_it_is_judged_on_what_fits_it(project, trained):
    name, workdir = trained
    told = run(project, f"--workdir={workdir}", "--mode=evaluate")
    metrics = json.loads((workdir / "metrics.json").read_text())["metrics"]
    if name == "labelled_gan":
        assert metrics["kid/mean"] > 0
        assert "no pose: it takes a model that is Turnable, and labelled_gan is not" in told
    else:
        assert metrics == {}
        assert f"no distribution: it takes a model that is Generative, and {name} is not" in told


def test_it_is_exported_and_answers(project, trained):
    name, workdir = trained
    served = tf.saved_model.load(str(workdir / "saved_model"))
    images = np.zeros((4, 32, 32, 3), np.uint8)
    told = run(project, f"--workdir={workdir}", "--mode=export", f"--config.export.dir={project}/exports")
    assert f"SavedModel: {project}/exports/{name}/1" in told
    if name == "labelled_gan":
        assert f"{workdir}/pictures/samples.png" in run(project, f"--workdir={workdir}", "--mode=generate")
        assert "no volume: it takes a model that is Volumetric" in run(project, f"--workdir={workdir}", "--mode=analyse", *ONE_LOOK)
        assert served.sample(tf.constant(0, tf.int64), 3)["images"].shape == (3, 32, 32, 3)
        assert (workdir / "pictures" / "samples.png").exists()
    else:
        np.testing.assert_allclose(tf.reduce_sum(served.predict(images)["probabilities"], axis=1), 1.0, atol=1e-5)
        line = run(project, f"--workdir={workdir}", "--mode=generate", code=2).splitlines()[-1]
        assert line == f"error: --mode generate: model.name={name!r} makes no images"


def test_a_classifier_learns_in_the_loop(trained):
    """The squares' labels are their numbers modulo 3: to be learnt by heart."""
    name, workdir = trained
    log = EventAccumulator(str(workdir / "events"), size_guidance={"tensors": 0}).Reload()
    tag = "loss/d" if name == "labelled_gan" else "loss/class"
    losses = [float(tf.make_ndarray(e.tensor_proto)) for e in log.Tensors(tag)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_a_model_that_is_broken_breaks_no_other(project):
    broken = project / "holotf" / "models" / "broken.py"
    broken.write_text("def build(config):\n    return config(\n")
    try:
        code = "from holotf import models; from configs import base; print(models.names()); models.build(base.get_config('dcgan'))"
        done = subprocess.run([sys.executable, "-c", code], cwd=project, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "broken" in done.stdout
    finally:
        os.unlink(broken)


def test_a_judge_that_is_broken_is_left_out(project, trained):
    """And said; the others judge."""
    broken = project / "holotf" / "evaluators" / "broken.py"
    broken.write_text("import nothing_here\n\n\nclass Judge:\n    pass\n")
    try:
        told = run(project, f"--workdir={trained[1]}", "--mode=evaluate")
    finally:
        os.unlink(broken)
    assert "no broken: holotf.evaluators.broken cannot be imported (ModuleNotFoundError: No module named 'nothing_here')" in told


def test_models_are_those_with_a_build():
    found = models.names()
    assert {"classifier", "dcgan", "hologan", "vae"} <= set(found)
    assert not {"base", "gan", "conditional", "adaptation"} & set(found), "no model of their own"
