"""The generator that travels with the project: small, served at once, and what its card says of it."""

import io
import json
import subprocess

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from serving.process import running

DEMO = ROOT / "demo" / "chairs"


def test_it_is_small_and_says_what_it_is():
    files = [path for path in DEMO.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    card = json.loads((DEMO / "1" / "card.json").read_text(encoding="utf-8"))
    command = card["training"]["command"]
    assert command[0] == "main.py"
    config = ROOT / command[1].removeprefix("--config=")
    assert config.is_file()
    assert f"--config.seed={card['training']['seed']}" in command
    assert [(data["name"], data["splits"]) for data in card["data"]] == [("blocks", {"train": [10000], "test": [2500]})]
    assert card["metrics"]["metrics"]["pose/full_turn_share"] == 1.0
    guide = (ROOT / "demo" / "README.md").read_text(encoding="utf-8")
    assert " ".join(["python", *command]) in " ".join(guide.replace("\\\n", " ").split())


def test_make_knows_how():
    done = subprocess.run(["make", "--dry-run", "demo", "demo-page"], cwd=ROOT, text=True, capture_output=True, check=True)
    assert "-m holotf.serve --model demo/chairs\n" in done.stdout
    assert "--workdir demo/chairs/1 --mode export --format web" in done.stdout


@pytest.mark.slow
def test_its_page_is_served_and_its_objects_turn():
    with running("--model", DEMO, "--port", "0") as server:
        assert f"page: {server.address}/\n" in server.process.said()
        assert b"<canvas" in server.ask("GET", "///")[2]
        views = [server.get("/image", seed=5, azimuth_deg=azimuth, elevation_deg=20) for azimuth in (0, 90, 180, 360)]
        front, side, back, again = (np.asarray(Image.open(io.BytesIO(view)).convert("RGB")).astype(int) for view in views)
    assert front.shape == (32, 32, 3)
    assert np.abs(front - again).max() <= 1
    assert min(np.abs(front - other).mean() for other in (side, back)) > 5
