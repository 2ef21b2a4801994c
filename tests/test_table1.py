"""Table 1 in small: real trainings, in processes of their own."""

import json

import pytest

from benchmarks import table1


def test_a_row_has_what_was_published_beside_it():
    results = [{"metrics": {"kid/mean": 3.0, "kid/std": 0.1}, "train_s": 60.0, "images_per_s": 100.0, "peak_gib": 1.5}]
    found = table1.row("wgan_gp", results)
    assert found["KID x 100"] == "3.00 ± 0.10"
    assert (found["| published: CelebA"], found["Chairs"], found["Cars"]) == ("| 1.63 ± 0.09", "9.43 ± 0.24", "15.57 ± 0.29")


@pytest.mark.slow
def test_the_table_is_made_once_and_goes_on_where_it_was_broken_off(benchmarked, furniture, tmp_path):
    asked = ["--models", "vae", "--kimg=0.64", "--seeds=1", "--images=64"]
    command = ["table1", f"--data={furniture}", *asked, f"--out={tmp_path}"]
    first = benchmarked(*command)
    (line,) = (line for line in first.splitlines() if line.startswith("vae"))
    (result,) = json.loads((tmp_path / "table1-blocks.json").read_text())["runs"]["vae"]
    assert 0 < result["train_s"] < 600
    assert result["metrics"]["kid/mean"] > 0
    again = benchmarked(*command)
    assert "Trained on" not in again, "what is finished is not done again"
    assert line in again.splitlines()
    (record,) = tmp_path.glob("table1/blocks/0.64kimg/vae_blocks-0/result.json")
    before = json.loads(record.read_text())
    record.unlink()  # as if it had been killed while it was judged
    assert "resumed from" in benchmarked(*command)
    assert json.loads(record.read_text())["metrics"] == before["metrics"]
