"""The factory's table: its columns, its rows of few labels, and what it does with a run that has no export."""

import json

import pytest
from conftest import small_config

from benchmarks import pose_factory
from holotf import models
from holotf.errors import UserError
from holotf.export import export


def result(open_deg, a_distance=None):
    found = {"azimuth_mae_deg": 90.0, "open/azimuth_mae_deg": open_deg, "open/flip_share": 0.25, "chance_azimuth_mae_deg": 89.5}
    found |= {"chance_elevation_mae_deg": 5.0, "fitted_10/azimuth_mae_deg": open_deg + 1, "elevation_mae_deg": 2.0}
    found |= {} if a_distance is None else {"a_distance": a_distance}
    return {"metrics": {f"pose_estimate/{name}": value for name, value in found.items()}, "train_s": 60.0}


def test_a_row_is_the_median_of_its_runs_and_tells_the_worst():
    found = {
        "generated": {f"generated-{i}": result(deg, 1.5) for i, deg in enumerate((20.0, 50.0, 30.0))},
        "real-10": {"r": result(7.0)},
    }
    generated, real, chance = pose_factory.rows(found)
    assert {name: generated[name] for name in ("row", "as read", "0", "worst", "10", "50", "flipped %, 0", "A-distance")} == {
        "row": "generated", "as read": "90.0", "0": "30.0", "worst": "50.0", "10": "31.0", "50": "", "flipped %, 0": "25.0",
        "A-distance": "1.50",
    }  # fmt: skip
    assert (real["as read"], real["0"], real["worst"]) == ("90.0", "7.0", "90.0"), "it has the labels' own zero"
    assert (real["A-distance"], generated["runs"], real["runs"]) == ("", 3, 1)
    assert (chance["row"], chance["0"], chance["elevation"], chance["10"]) == ("chance", "89.5", "5.0", "")


def test_few_labels_are_of_the_targets_training_images():
    split = "data.sources.target.split"
    assert pose_factory.experiment("dann", 320.0) == ("pose_factory:dann", {"train.kimg": 320.0, split: "train"})
    config, changes = pose_factory.experiment("real-10", 320.0)
    assert config == "pose_factory:real"
    assert changes[split] == "train[:10]"
    assert changes["train.kimg"] / changes["train.batch_size"] == pytest.approx(320 / 4 / 32), "a quarter of the updates"
    assert pose_factory.experiment("real-50", 320.0)[1]["train.batch_size"] == 32


def test_the_folder_is_of_the_exports_weights(tmp_path):
    with pytest.raises(UserError, match=r"holds no SavedModel: train it, or use --mode export"):
        pose_factory.digest(tmp_path)
    variables = tmp_path / "variables"
    variables.mkdir()
    (variables / "variables.data-00000-of-00001").write_bytes(b"one")
    one = pose_factory.digest(tmp_path)
    (variables / "variables.data-00000-of-00001").write_bytes(b"two")
    assert pose_factory.digest(tmp_path) != one


@pytest.mark.slow
def test_the_table_is_made_once_and_goes_on_where_it_was_broken_off(benchmarked, furniture, tmp_path):
    export(models.initial(small_config()), str(tmp_path / "run" / "saved_model"))
    command = [
        "pose_factory", f"--run={tmp_path / 'run'}", f"--target={furniture}", "--kimg=0.064", "--seeds=1", "--count=100",
        "--only", "generated", "dann", "real-10", f"--out={tmp_path / 'out'}",
    ]  # fmt: skip
    assert benchmarked(*command).count("Trained on") == 3
    (path,) = (tmp_path / "out").glob("pose_factory-run-*.json")
    told = json.loads(path.read_text())
    assert [row["row"] for row in told["rows"]] == ["generated", "dann", "real-10", "chance"]
    assert told["rows"][2]["50"] == "", "it was given no 50 labels"
    assert "Trained on" not in benchmarked(*command), "what is finished is not done again"
