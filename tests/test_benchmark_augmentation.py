"""The study of augmentation: its table and curves, and, in small, real trainings."""

import json
import subprocess
import sys

import imageio.v3 as imageio
import numpy as np
import pytest
from conftest import ROOT

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


def test_curves_are_drawn_where_all_seeds_have_a_point(tmp_path):
    curves = {"baseline": [{50: 0.1, 100: 0.5}, {50: 0.2, 100: 0.6}, {50: 0.3}], "improved": [{50: 0.8}]}
    augmentation.draw(curves, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    picture = imageio.imread(tmp_path / "curves.png")
    assert picture.shape[:2] == (675, 1050)
    assert np.any(picture[..., 0] != picture[..., 2]), "there is a line in it"


@pytest.mark.slow
def test_the_study_is_made_once_and_goes_on_where_it_was_broken_off(colours, tmp_path):
    command = [
        sys.executable, "-m", "benchmarks.augmentation", f"--data={colours}", "--kimg=0.2", "--seeds=1",
        "--only", "baseline", "halved", f"--out={tmp_path}",
    ]  # fmt: skip

    def table():
        done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    table()
    assert (tmp_path / "augmentation-data.png").stat().st_size > 1000
    told = json.loads((tmp_path / "augmentation-data.json").read_text())
    assert {row["row"]: row["runs"] for row in told["rows"]} == {"baseline": 1, "halved": 1}
    assert all(0 <= curve["200"] <= 1 for curves in told["curves"].values() for curve in curves)
    again = table()
    assert "Trained on" not in again, "what is finished is not done again"
    record = tmp_path / "augmentation" / "data" / "halved-0" / "result.json"
    before = json.loads(record.read_text())
    record.unlink()  # as if it had been killed while it was judged
    once_more = table()
    assert "resumed from" in once_more
    assert json.loads(record.read_text())["metrics"] == before["metrics"]
