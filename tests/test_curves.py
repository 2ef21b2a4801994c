"""Curves of runs: what is read of them, and pictures."""

import json

import imageio.v3 as imageio
import numpy as np

from benchmarks import curves


def test_of_images_judged_twice_the_last_counts(tmp_path):
    lines = [{"images": 200, "fid": 2.0}, {"images": 100, "fid": 3.0}, {"images": 200, "fid": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(curves.read(tmp_path).items()) == [(100, {"fid": 3.0}), (200, {"fid": 1.0})]


def test_curves_are_drawn_where_all_seeds_have_a_point(tmp_path):
    of_seeds = {"baseline": [{50: 0.1, 100: 0.5}, {50: 0.2, 100: 0.6}, {50: 0.3}], "improved": [{50: 0.8}]}
    curves.draw(of_seeds, tmp_path / "curves.png", "thousand images shown", "accuracy")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    picture = imageio.imread(tmp_path / "curves.png")
    assert picture.shape[:2] == (675, 1050)
    assert np.any(picture[..., 0] != picture[..., 2]), "there is a line in it"
