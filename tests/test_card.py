"""What an export says of itself is what it does."""

import json
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, small_config

from holotf import card, models
from holotf.export import export


def told(folder):
    beside, extra = (Path(folder, *path).read_bytes() for path in (("card.json",), ("assets.extra", "card.json")))
    assert beside == extra
    return json.loads(beside)


@pytest.fixture(scope="module")
def model(squares):
    return models.build(small_config(squares, **{"views.azimuth_deg": (-60.0, 60.0), "views.x": (-0.1, 0.2)}))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    return export(model, str(tmp_path_factory.mktemp("export") / "saved_model"))


def test_its_endpoints_are_those_of_the_signatures(saved):
    said, signatures = told(saved)["endpoints"], tf.saved_model.load(saved).signatures
    assert set(said) == set(signatures) - {"serving_default"} == {
        "generate", "volume", "render", "depth", "density", "latents", "sample", "encode",
    }  # fmt: skip
    assert [name for name, s in said.items() if s["default"]] == ["generate"]
    for name, endpoint in said.items():
        for side, found in (
            ("inputs", signatures[name].structured_input_signature[1]),
            ("outputs", signatures[name].structured_outputs),
        ):
            here = {k: (v["dtype"], v["shape"]) for k, v in endpoint[side].items()}
            assert here == {k: (v.dtype.name, ["n" if d is None else d for d in v.shape]) for k, v in found.items()}


def test_ranges_and_units_are_those_of_the_views(saved):
    said = told(saved)
    inputs = said["endpoints"]["generate"]["inputs"]
    assert inputs["azimuth_deg"]["range"] == [-60.0, 60.0]
    assert inputs["elevation_deg"]["unit"] == "degrees"
    assert inputs["scale"]["accepts"] == [0.01, 100]
    assert inputs["translation"]["range"] == [[-0.1, 0.2], [0.0, 0.0], [0.0, 0.0]]
    assert said["endpoints"]["sample"]["outputs"]["images"]["range"] == [0, 255]
    assert said["views"]["ranges"]["scale"] == [1.0, 1.0]
    assert said["views"]["azimuth_closes_circle"] is False
    assert (said["model"]["image_size"], said["model"]["z_dim"], said["latent"]["z_dim"]) == (32, 8, 8)
    assert said["latent"]["range"] == [-1.0, 1.0]
    assert said["versions"]["tensorflow"] == tf.__version__


@pytest.mark.parametrize(("name", "distribution"), [("vae", "standard normal"), ("dcgan", "uniform in [-1, 1]")])
def test_models_that_do_not_turn_have_no_views(squares, tmp_path, name, distribution):
    said = told(export(models.build(small_config(squares, **{"model.name": name})), str(tmp_path / "saved_model")))
    assert said["views"] is None
    assert said["latent"]["distribution"] == distribution
    assert [n for n, e in said["endpoints"].items() if e["default"]] == [{"vae": "decode", "dcgan": "generate"}[name]]


@pytest.mark.slow
def test_it_names_its_data_with_credits_and_licence(squares, tmp_path):
    folder = Path(shutil.copytree(squares, tmp_path / "squares"))
    (folder / "CREDITS").write_text("square: nobody, CC0")
    info = json.loads((folder / "dataset_info.json").read_text())
    info |= {"citation": "nobody 2026", "redistributionInfo": {"license": "CC0"}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    model = models.build(small_config(folder))
    (said,) = told(export(model, str(tmp_path / "saved_model")))["data"]
    assert (said["name"], said["splits"]) == ("squares", {"train": [96]})
    assert len(said["sha256"]) == 64
    assert (said["credits"], said["citation"], said["licence"]) == ("square: nobody, CC0", "nobody 2026", "CC0")
    shutil.rmtree(folder)
    assert told(export(model, str(tmp_path / "saved_model"), replace=True))["data"] == [], "an export is made without them, too"


@pytest.mark.slow
def test_metrics_are_those_of_these_weights_or_none(model, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    index, metrics = tmp_path / "checkpoints" / "ckpt-8.index", tmp_path / "metrics.json"
    found = {"metrics": {"kid/mean": 3.5}, "notes": ["n"], "evaluate": {"images": 5}, "seed": 7}
    index.touch()
    assert told(export(model, str(tmp_path / "a"), str(tmp_path)))["metrics"] is None
    metrics.write_text(json.dumps(found))
    os.utime(metrics, (time.time(), 1_800_000_000))
    os.utime(index, (time.time(), 1_799_999_999))
    said = told(export(model, str(tmp_path / "b"), str(tmp_path)))["metrics"]
    assert said == found | {"date": "2027-01-15T08:00:00+00:00"}
    os.utime(index, (time.time(), 1_800_000_001))  # trained on since then
    assert told(export(model, str(tmp_path / "c"), str(tmp_path)))["metrics"] is None


def test_a_distribution_that_is_neither_is_not_guessed():
    class Odd:
        def draw(self, n, seed):
            return (tf.constant(np.random.default_rng(0).uniform(0, 1, (n, 3)), tf.float32),)

    assert card._latent(Odd()) == {"z_dim": 3, "distribution": "other", "range": None}


def test_a_judgement_after_the_export_renews_the_metrics_alone(model, saved, tmp_path):
    exported = shutil.copytree(saved, tmp_path / "saved_model")
    before = told(exported)
    assert before["metrics"] is None
    (tmp_path / "metrics.json").write_text(json.dumps({"metrics": {"fid": 3.0}, "notes": [], "evaluate": {}, "seed": 0}))
    assert card.renew(model, str(exported), str(tmp_path))
    after = told(exported)
    assert after["metrics"]["metrics"] == {"fid": 3.0}
    assert after | {"metrics": None} == before


@pytest.mark.parametrize("spoil", ["of other weights", "of a later format", "cut off", "not there"])
def test_a_card_that_is_not_of_these_weights_or_cannot_be_read_stays(model, saved, tmp_path, spoil):
    exported = Path(shutil.copytree(saved, tmp_path / "saved_model"))
    (tmp_path / "metrics.json").write_text(json.dumps({"metrics": {"fid": 3.0}}))
    content = json.loads((exported / "card.json").read_text())
    if spoil == "of other weights":
        content["training"]["iteration"] += 1
    if spoil == "of a later format":
        content["format"] += 1
    (exported / "card.json").write_text("{" if spoil == "cut off" else json.dumps(content))
    if spoil == "not there":
        (exported / "card.json").unlink()
    text = (exported / "card.json").read_text() if spoil != "not there" else None
    assert not card.renew(model, str(exported), str(tmp_path))
    assert text is None or (exported / "card.json").read_text() == text


def names(text):
    return set(re.findall(r"`(\w+)`", text))


def test_the_contract_names_what_a_card_has(saved):
    contract, said = names((ROOT / "docs" / "exports.md").read_text(encoding="utf-8")), told(saved)
    tensors = [about for e in said["endpoints"].values() for side in ("inputs", "outputs") for about in e[side].values()]
    for told_of in (said, *said["data"], said["latent"], said["views"], said["training"], *said["endpoints"].values(), *tensors):
        assert not set(told_of) - contract
    assert said["data"]


def test_the_contract_has_a_row_for_each_endpoint(saved):
    """Their names are read off the models' sources, since to build one of each takes long."""
    text = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8").partition("## The endpoints")[2]
    rows = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "holotf" / "models").glob("*.py"))
    made = {a or b for a, b in re.findall(r'"(\w+)": endpoint\(|\bfound\["(\w+)"\] = ', sources)}
    assert set(told(saved)["endpoints"]) < made == rows


def test_it_says_which_command_trained_it(model, saved, tmp_path):
    words = ["main.py", "--config=mine.py", "--workdir", "runs/mine", "--config.seed=3", "--workdir=runs/mine"]
    for command, said in ((words, ["main.py", "--config=mine.py", "--config.seed=3"]), (None, None)):
        if command:
            (tmp_path / "config.json").write_text(json.dumps({"config": model.config.to_dict(), "command": command}))
        folder = tmp_path if command else None
        assert card.card(model, saved, folder)["training"]["command"] == said
