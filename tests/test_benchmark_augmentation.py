"""The study of augmentation: its table and curves, and, in small, real trainings."""

import json

import pytest

from benchmarks import augmentation
from configs import base


def test_every_row_changes_what_its_config_has():
    for config, changes in augmentation.ROWS.values():
        assert config.startswith("classifier_cifar10:")
        known = base.get_config("classifier")
        for key, value in changes.items():
            section, _, name = key.partition(".")
            known[section][name] = value  # ml_collections refuses other keys and types


def test_a_row_has_the_worst_the_median_and_the_best_seed():
    accuracies = {"small-0": 0.64, "small-1": 0.5, "small-2": 0.612}
    results = {
        run: {"metrics": {"accuracy/top1": value}, "train_s": 10.0 * i, "images_per_s": 5000.0}
        for i, (run, value) in enumerate(accuracies.items(), 1)
    }
    row = augmentation.row("small", results, [{50_000: 0.4, 250_000: 0.6}])
    assert [row[f"{which} %"] for which in ("worst", "median", "best")] == ["50.0", "61.2", "64.0"]
    assert (row["runs"], row["kimg"], row["train s"], row["images/s"]) == (3, "250", "20", "5000")
    assert row["changes"] == "train.augmentation=small"


@pytest.mark.slow
def test_the_study_is_made_once_and_goes_on_where_it_was_broken_off(benchmarked, colours, tmp_path):
    command = ["augmentation", f"--data={colours}", "--kimg=0.2", "--seeds=1", "--only", "baseline", "halved", f"--out={tmp_path}"]
    benchmarked(*command)
    assert (tmp_path / "augmentation-data.png").stat().st_size > 1000
    told = json.loads((tmp_path / "augmentation-data.json").read_text())
    assert {row["row"]: row["runs"] for row in told["rows"]} == {"baseline": 1, "halved": 1}
    assert all(0 <= curve["200"] <= 1 for curves in told["curves"].values() for curve in curves)
    assert "Trained on" not in benchmarked(*command), "what is finished is not done again"
    record = tmp_path / "augmentation" / "data" / "halved-0" / "result.json"
    before = json.loads(record.read_text())
    record.unlink()  # as if it had been killed while it was judged
    assert "resumed from" in benchmarked(*command)
    assert json.loads(record.read_text())["metrics"] == before["metrics"]
