"""Configs drawn at random: a model is built, or one line names the field. And those of the repository: complete."""

import contextlib
import functools
import importlib
import math
import os
import subprocess
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest
from conftest import small_config

import configs
from configs import base
from holotf import analyse, data, devices, evaluate, export, generate, models, run_folder, serve
from holotf.errors import UserError

EXAMPLES = int(os.environ.get("HOLOTF_EXAMPLES", "4"))  # of each model; more on demand
SECTIONS = ("model", "loss", "optim", "train", "views", "generate", "evaluate", "analyse", "export", "serve", "device")
# What the drawn values stand for is left to the name: where a path or a name is wanted, any text is tried.
NUMBERS = {
    int: st.sampled_from([-(2**70), -1, 0, 1, 2, 3, 7]),
    float: st.sampled_from([-math.inf, -1.0, 0.0, 1e-300, 0.5, 1.0, 2.0, 1e300, math.inf, math.nan]),
    bool: st.booleans(),
    str: st.sampled_from(["", "none", "spectral", "linear", "step", "relu", "projection", "wgan", "hinge", "../x", "é\n"]),
}


def fields(name):
    """{dotted key: strategy} of everything in a model's config that a number, a switch or a name is given to."""
    found = {}
    for section in SECTIONS:
        for key, value in small_config(**{"model.name": name}).get(section, {}).items():
            if isinstance(value, tuple):
                found[f"{section}.{key}"] = st.lists(NUMBERS[float], max_size=3).map(tuple)
            elif type(value) in NUMBERS and f"{section}.{key}" != "model.name":
                found[f"{section}.{key}"] = NUMBERS[type(value)]
    return found


@pytest.mark.parametrize("name", models.names())
def test_a_model_is_built_or_one_line_names_the_field(name):
    choices = fields(name)

    @hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(st.dictionaries(st.sampled_from(sorted(choices)), st.just(None), min_size=1, max_size=2), st.data())
    def judge(keys, drawn):
        changes = {key: drawn.draw(choices[key], label=key) for key in keys}
        config, said = small_config(**{"model.name": name} | changes), None
        try:
            generate.check(config.generate)
            evaluate.check(config.evaluate)
            analyse.check(config)
            serve.check(config.serve)
            devices.check(config.device)
            export.check(config.export)
            models.build(config)
        except UserError as error:
            said = str(error)
        assert said is None or (len(said.splitlines()) == 1 and any(key in said for key in changes)), f"{said}: {changes}"

    judge()


SPLITS = ["", "none", "train", "train[:0]", "train[:9]", "train[", "é\n", "\0"]
OF_DATA = {
    "dir": ["", "none", "../x y", "é\n", "/dev/null", "\0"],
    "split": SPLITS,
    "shuffle_buffer": [-(2**70), -1, 0, 1, 2, 2**70],
    "flip": [False, True],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in OF_DATA.items() for value in values])
def test_data_are_read_or_one_line_names_the_field(key, value, squares):
    config, said = small_config(squares, **{f"data.{key}": value}), None
    try:
        sources = data.open_sources(config.data)
        data.check(sources, ("image",), 32, 4)
        (batch,) = data.batches(sources, ("image",), 32, 4, seed=0).take(1)
    except UserError as error:
        said = str(error)
    assert (batch["image"].shape == (4, 32, 32, 3)) if said is None else (said.startswith(f"data.{key}=") and said.isprintable())


@pytest.mark.parametrize("prepare", [*SPLITS, "blocks --count '", "nothing"])
@pytest.mark.parametrize("folder", ["", "away", "é\n", "\0"])
def test_of_missing_data_one_line_names_the_field(folder, prepare, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", functools.partial(refused, subprocess.run))
    config = small_config(folder, **{"data.prepare": prepare})
    with contextlib.suppress(UserError) if not prepare else pytest.raises(UserError) as raised:
        data.prepare_missing(folder, prepare)
    with pytest.raises(UserError) as asked:
        data.open_sources(config.data)
    for said in [str(error.value) for error in (raised, asked) if error is not None]:
        assert said.startswith("data.")
        assert said.isprintable()


def refused(run, command, **options):
    """What starts no Python, which takes seconds, and refuses as data_prep does; what cannot be started is refused as ever."""
    return run(["false", *command[1:]], **options)


def test_every_field_of_the_data_is_tried():
    assert {*OF_DATA, "prepare"} == set(base.get_config().data) - {"sources"}


@pytest.mark.parametrize(
    "name", sorted({path.stem for path in Path(configs.__file__).parent.glob("[a-z]*.py")} - {"base", "of_run"})
)
def test_an_experiment_has_what_its_model_has_and_nothing_else(name):
    """A section that is taken from another model's experiment lacks keys."""
    config = importlib.import_module(f"configs.{name}").get_config()
    found, wanted = ({key for key, _ in run_folder.flat(c.to_dict())} for c in (config, base.get_config(config.model.name)))
    assert not {key for key in found ^ wanted if not key.startswith("data.sources")}
