"""The load test of the server: it runs, and it sees an answer that is wrong."""

import contextlib
import json
import sys

import numpy as np
import pytest
from serving.process import made, running

from benchmarks import serving


@contextlib.contextmanager
def forked(folder, options):
    with running("--model", folder, "--port", "0", *(f"--{key}={value}" for key, value in options.items())) as server:
        yield server.address + server.model


@pytest.mark.slow
def test_it_measures_and_judges_every_answer(tmp_path, monkeypatch):
    _, folder = made(tmp_path / "saved_model")
    monkeypatch.setattr(serving, "serving", forked)
    monkeypatch.setattr(serving, "SETTINGS", {("off", "on"): serving.SETTINGS["off", "on"]})
    command = ["serving", f"--model={folder}", "--clients", "1", "4", "--requests", "12", f"--out={tmp_path / 'out'}"]
    monkeypatch.setattr(sys, "argv", command)
    serving.main()
    rows = json.loads((tmp_path / "out" / "serving.json").read_text())["rows"]
    assert [(row["asked"], row["clients"], row["wrong"]) for row in rows] == [
        ("predict", 1, 0), ("predict", 4, 0), ("image", 1, 0), ("image", 4, 0)
    ]  # fmt: skip
    for row in rows:
        assert list(row) == serving.COLUMNS
        assert 0 < float(row["p50 ms"]) <= float(row["p95 ms"]) <= float(row["p99 ms"])
        assert float(row["requests/s"]) > 0
    monkeypatch.setattr(serving, "serving", lambda folder, options: contextlib.nullcontext(""))
    monkeypatch.setattr(serving, "load", lambda *_: {"wrong": 1})
    with pytest.raises(SystemExit, match="answers differ from the direct call"):
        serving.main()


def test_what_counts_as_wrong():
    image = np.full((2, 2, 3), 100, np.uint8)

    def answer(level, status=200):
        return status, json.dumps({"outputs": np.full((1, 2, 2, 3), level).tolist()}).encode()

    answers = [answer(100), answer(101), answer(102), answer(100, 503), None, (200, b'{"outputs":[[[[100]]]]}')]
    assert serving.wrong(answers, np.stack([image] * 6)) == 4
