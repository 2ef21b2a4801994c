"""Table 1 in small: real trainings, in processes of their own."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_the_table_is_made_once_and_goes_on_where_it_was_broken_off(tmp_path):
    data = tmp_path / "chairs"
    prepare = [sys.executable, "-m", "data_prep", "blocks", "--size=32", "--count=160", f"--out={data}"]
    subprocess.run(prepare, cwd=ROOT, check=True, capture_output=True)
    command = [
        sys.executable, "-m", "benchmarks.table1", f"--data={data}", "--models", "wgan_gp", "vae", "--kimg=0.64", "--seeds=1",
        "--images=64", f"--out={tmp_path}",
    ]  # fmt: skip

    def table():
        done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = table()
    lines = {line.split()[0]: line for line in first.splitlines() if line.startswith(("wgan_gp", "vae"))}
    assert " ".join(lines["wgan_gp"].split()[-9:]) == "1.63 ± 0.09 9.43 ± 0.24 15.57 ± 0.29"
    found = json.loads(next(tmp_path.glob("table1-chairs.json")).read_text())["runs"]
    for results in found.values():
        assert 0 < results[0]["train_s"] < 600
        assert results[0]["metrics"]["kid/mean"] > 0
    again = table()
    assert "Trained on" not in again, "what is finished is not done again"
    assert [line for line in again.splitlines() if line.startswith(("wgan_gp", "vae"))] == list(lines.values())
    (record,) = tmp_path.glob("table1/chairs/0.64kimg/vae_blocks-0/result.json")
    before = json.loads(record.read_text())
    record.unlink()  # as if it had been killed while it was judged
    once_more = table()
    assert "resumed from" in once_more
    assert json.loads(record.read_text())["metrics"] == before["metrics"]
