"""Time to quality: which evaluation counts, the table, and, in small, a real training."""

import argparse
import importlib
import json
import math

import pytest

from benchmarks import quality
from configs import base

BARS = {"kid/mean": 15.0, "pose/agreed_turn_share": 0.95}


def evaluation(images, kid, turn=None):
    return {"images": images, "seconds": images / 100, "kid/mean": kid} | ({} if turn is None else {"pose/agreed_turn_share": turn})


def test_every_row_changes_what_its_config_has():
    for config, changes in quality.ROWS.values():
        assert config.partition("_")[0] in ("hologan", "dcgan")
        known = base.get_config("hologan")
        for key, value in changes.items():
            section, _, name = key.partition(".")
            known[section][name] = value  # ml_collections refuses other keys and types
    assert quality.PUBLISHED["model.renderer"] == "projection"


def test_the_published_model_has_no_head_but_the_latents():
    config = importlib.import_module("configs.hologan_blocks").get_config()
    config.update_from_flattened_dict(quality.PUBLISHED)
    assert config.loss.lambda_identity > 0
    assert all(config.loss[name] == 0 for name in ("lambda_azimuth", "lambda_elevation", "lambda_opacity", "lambda_style"))


def test_it_is_reached_where_all_bars_hold_at_once():
    course = [evaluation(8000, 30.0, 1.0), evaluation(16000, 14.0, 0.9), evaluation(24000, 15.0, 0.95), evaluation(32000, 9.0, 1.0)]
    assert quality.reached(course, BARS)["images"] == 24000, "a bar that is just met is met"
    assert quality.reached(course[:2], BARS) is None


def test_of_what_cannot_turn_no_turn_is_asked():
    course = [evaluation(8000, 16.0), evaluation(16000, 12.0)]
    assert quality.reached(course, BARS)["images"] == 16000
    assert quality.asked(course[0], BARS) == ["kid/mean"]
    with pytest.raises(SystemExit, match=r"error: none of fid was measured: use --bar with one of .*kid/mean"):
        quality.asked(course[0], {"fid": 3.0})


def test_a_run_that_never_gets_there_is_the_worst():
    runs = {
        f"ours-{i}": {"images_per_s": 100.0, "evaluations": [evaluation(8000, kid, 1.0), evaluation(16000, kid - 10, 1.0)]}
        for i, kid in enumerate((14.0, 24.0, 40.0))
    }
    row = quality.row("ours", runs, BARS)
    assert (row["bars"], row["reached"], row["worst s"], row["median s"], row["median kimg"]) == (2, "2 of 3", "never", "160", "16")
    assert (row["KID at the end, worst"], row["median"]) == ("30.0", "14.0")
    assert quality.told(math.inf) == "never"


@pytest.mark.parametrize("text", ["kid/mean", "kid/mean=", "kid/mean=low", "speed=3", "=3"])
def test_a_bar_that_is_none_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"use METRIC=VALUE"):
        quality.bar(text)


@pytest.mark.slow
def test_the_table_comes_of_real_runs(benchmarked, squares, tmp_path):
    asked = ["--only=dcgan", "--kimg=0.192", "--every=0.096", "--seeds=1", "--images=64", "--bar=kid/mean=10000"]
    benchmarked("quality", f"--data={squares}", *asked, f"--out={tmp_path}")
    told = json.loads(next(tmp_path.glob("quality-*.json")).read_text())
    assert told["rows"][0]["reached"] == "1 of 1"
    (run,) = told["runs"]["dcgan"].values()
    assert len(run["evaluations"]) == 2
    assert next(tmp_path.glob("quality-*.png")).stat().st_size > 1000
