"""What several test files need: small real data, small configs, commands run as a user runs them."""

import concurrent.futures
import hashlib
import importlib
import multiprocessing
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from nursery import Program
from PIL import Image

from benchmarks import runs
from configs import base
from data_prep.__main__ import main as prepare
from holotf import models, native
from holotf.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[1]


def pytest_configure():
    """Two logical CPUs, before TensorFlow starts: what needs two replicas has them."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Weights that nobody seeded are the same in every run: one draw in many is odd, and a bound that holds for all is none."""
    keras.utils.set_random_seed(0)


class Squares(tfds.core.GeneratorBasedBuilder):
    """Squares of random colours and places on white, number i labelled i % 3: a tfds folder as data_prep writes them."""

    VERSION = tfds.core.Version("1.0.0")
    size, count = 32, 96

    def _info(self):
        shape = (self.size, self.size, 3)
        features = {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(num_classes=3)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(self.count):
            rng = np.random.default_rng(i)
            image = np.full((self.size, self.size, 3), 255, np.uint8)
            y, x = rng.integers(4, self.size - 12, 2)
            image[y : y + 9, x : x + 9] = rng.integers(0, 200, 3)
            image[0, 0] = i  # which one it is
            yield i, {"image": image, "label": i % 3}


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """Folder of 96 images of 32 px; pixel (0, 0) holds the image's number. Not to be written to."""
    builder = Squares(data_dir=tmp_path_factory.mktemp("squares"))
    builder.download_and_prepare()
    return str(builder.data_path)


@pytest.fixture(scope="session")
def extractor(tmp_path_factory):
    """Path of a network of random weights: its features are meaningless, and the same for everyone."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 4, 4), keras.layers.GlobalAveragePooling2D()]
    path = tmp_path_factory.mktemp("extractor") / "small.keras"
    with warnings.catch_warnings():  # Keras saves its variables through NumPy in a way that NumPy 2 deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        keras.Sequential(layers).save(path)
    return str(path)


@pytest.fixture(scope="session")
def furniture(tmp_path_factory):
    """Folder of labelled box furniture of 32 px: 480 chairs and stools to train on, 160 others to test on. Not to be written to."""
    folder = tmp_path_factory.mktemp("furniture") / "blocks"
    flags = ["--kinds", "chair,stool", "--size", "32", "--count", "640", "--test", "160", "--workers", "0"]
    assert prepare(["blocks", "--out", str(folder), *flags]) == 0
    return str(folder)


@pytest.fixture(scope="session")
def colours(tmp_path_factory):
    """Folder of noisy images of 32 px in three classes, 96 train and 24 test, by `data_prep folder`. Not to be written to."""
    folder, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for split, count in (("train", 32), ("test", 8)):
        for channel, name in enumerate(("red", "green", "blue")):
            (folder / "source" / split / name).mkdir(parents=True)
            for i in range(count):
                image = rng.integers(0, 200, (32, 32, 3)).astype(np.uint8)
                image[..., channel] += 55
                Image.fromarray(image).save(folder / "source" / split / name / f"{i}.png")
    flags = {"source": folder / "source", "out": folder / "data", "size": 32, "workers": 0}
    assert prepare(["folder", *(f"--{key}={value}" for key, value in flags.items())]) == 0
    return str(folder / "data")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Folder of labelled scenes of one or two solids of 24 kinds, 32 px: 48 train, 16 test, 16 unseen. Not to be written to."""
    folder = tmp_path_factory.mktemp("scenes") / "clevr"
    flags = ["--size", "32", "--count", "64", "--test", "16", "--objects", "1,2", "--workers", "0"]
    assert prepare(["clevr", "--out", str(folder), *flags]) == 0
    return str(folder)


PUBLISHED = {  # the released networks, in small_config's terms
    "model.variant": "official",
    "model.renderer": "projection",
    "model.instance_norm": True,
    "loss.lambda_azimuth": 0.0,
    "loss.lambda_elevation": 0.0,
    "loss.lambda_opacity": 0.0,
}


def small_config(data_dir="", **changes):
    """A model of a few thousand weights at 32 px, a HoloGAN unless model.name says which; `changes` by dotted key."""
    name = changes.get("model.name")
    config = base.get_config(name if name in base.SECTIONS else "hologan")
    config.data.dir = str(data_dir)
    sizes = {"image_size": 32, "gf": 4, "df": 4, "z_dim": 8, "network": "baseline", "classes": ("red", "green", "blue")}
    config.model.update({key: size for key, size in sizes.items() if key in config.model})
    config.train.batch_size, config.train.kimg, config.train.log_kimg = 8, 0.064, 0.008
    config.train.sample_kimg = config.train.checkpoint_kimg = 0.032
    config.generate.seeds, config.generate.frames = (0, 1), 4
    for key, value in changes.items():  # not `update_from_flattened_dict`, which passes over keys that are not there
        section, _, name = key.partition(".")
        if name not in config[section]:
            raise KeyError(f"the config of {config.model.name} has no {key}")
        config[section][name] = value
    return config


def train_on_replicas(config, count, batch, steps=2):
    """A model after some steps on the same global batch, shared by so many logical CPUs.

    Returns:
      (the model, [{path: float}] of the steps, without the gradient norms, which are each replica's own).
    """
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)], tf.distribute.ReductionToOneDevice())
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = models.build(config)
    shares = strategy.experimental_distribute_values_from_function(
        lambda context: {name: tf.split(values, count)[context.replica_id_in_sync_group] for name, values in batch.items()}
    )

    @tf.function
    def step():
        logs = strategy.run(lambda share: model.train_step(model.augment(share)), args=(shares,))
        return {k: strategy.reduce("MEAN", v, axis=None) for k, v in logs.items()}

    return model, [{k: float(v) for k, v in step().items() if not k.startswith("grad_norm")} for _ in range(steps)]


def tree(folder):
    """{path: digest of the content} of all files in a folder."""
    files = (p for p in pathlib.Path(folder).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


SMALL = [
    f"--config.{key}={value}"
    for key, value in {
        "model.image_size": 32, "model.gf": 4, "model.df": 4, "model.z_dim": 8,
        "train.batch_size": 8, "train.log_kimg": 0.008, "train.sample_kimg": 1.0, "train.checkpoint_kimg": 0.016,
        "generate.seeds": "(0,1)", "generate.frames": 4, "device.precision": "float32",
    }.items()
]  # fmt: skip
DCGAN = ("--config=configs/base.py:dcgan", *SMALL)  # where any model will do: it starts in a third of a HoloGAN's time


def command(*arguments, module=None):
    """The argument list of `python main.py ...`, or of `python -m MODULE ...`."""
    return [sys.executable, *(["-m", module] if module else ["main.py"]), *map(str, arguments)]


def compiler_with(flag: str, folder: pathlib.Path, usual: str = "") -> str:
    """A command that compiles as `usual`, CXX or the first compiler does, a flag coming last: with -O0 in a quarter of the time."""
    words, path = native._compiler(usual or os.environ.get("CXX", "")), folder / "compiler"
    path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@" {flag}\n')
    path.chmod(0o700)
    return str(path)


def run(*arguments, module=None, script="main.py", folder=ROOT, timeout=600, **environment):
    """Runs a command of the project, a script or a module, in a process of its own; returns the completed process with its text.

    It is a fork that starts at once (nursery.py).
    """
    words = [*(("-m", module) if module else (str(script),)), *map(str, arguments)]
    with Program(words, folder, **environment) as program:
        texts = program.communicate(timeout)
        return subprocess.CompletedProcess(program.args, program.returncode, *texts)


@pytest.fixture
def benchmarked(monkeypatch, capsys):
    """benchmarked(name, *arguments): what a benchmark prints. Its trainings are processes of their own, which start at once."""

    def forked(command):
        assert command[:2] == [sys.executable, "main.py"]
        done = run(*command[2:])
        assert done.returncode == 0, done.stderr
        print(done.stdout)
        return 1.0  # GiB; what it really was, only a parent can ask

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        importlib.import_module(f"benchmarks.{name}").main()
        return capsys.readouterr().out

    monkeypatch.setattr(runs, "_run", forked)
    return call


def started(*arguments):
    """A training, `--workdir` its last argument, in a process of its own, once its first checkpoint is there."""
    workdir = pathlib.Path(str(arguments[-1]).removeprefix("--workdir="))
    program = Program(["main.py", *map(str, arguments)], ROOT, together=True)
    deadline = time.monotonic() + 300
    while not (workdir / "checkpoints" / "checkpoint").exists() and time.monotonic() < deadline:
        assert program.poll() is None, program.communicate()
        time.sleep(0.02)
    return program


@pytest.fixture(scope="session")
def finished(squares, tmp_path_factory):
    """Folder of a DCGAN's run of eight iterations with checkpoints 4, 6 and 8. Not to be written to."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    done = run(*DCGAN, f"--config.data.dir={squares}", "--config.train.kimg=0.064", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of that run, to do with as one likes."""
    return pathlib.Path(shutil.copytree(finished, tmp_path / "run"))


def refused(workdir, *arguments):
    """The one line with which a command ends, after which the folder is as it was."""
    before = tree(workdir)
    done = run(f"--workdir={workdir}", *arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert tree(workdir) == before
    return done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def child():
    """submit(function, *arguments) runs in one process without TensorFlow, as renderers need it; skips where it has no EGL."""
    from data_prep import render

    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:

        def submit(function, *arguments):
            return pool.submit(function, *arguments).result(timeout=300)

        try:
            submit(render.probe, 32)
        except UserError as error:
            pytest.skip(str(error))
        yield submit


@pytest.fixture(params=["native", "xla"])
def each_way(request):
    """Runs a test with our own kernels and with XLA's; where ours cannot be built, once."""
    if request.param == "xla":
        with native.off():
            yield
    elif native.kernels() is None:
        pytest.skip("our kernels cannot be built here")
    else:
        yield
