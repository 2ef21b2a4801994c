"""The guides' examples, done to the letter."""

import json
import re
import shutil

import conftest
import tensorflow as tf
from conftest import ROOT

GUIDE = (ROOT / "docs" / "extending.md").read_text()


def blocks(language, section):
    """Fenced code of a section."""
    text = GUIDE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_a_model_is_added_by_what_the_guide_says(squares, tmp_path):
    for part in ("holotf", "configs", "data_prep", "main.py"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    for code in blocks("python", "A model"):
        name = code.partition("\n")[0].removeprefix("# ")
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(code)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "blocks32").symlink_to(squares)
    (command,) = blocks("bash", "A model")
    program, *words = command.split()
    assert (program, words[0]) == ("python", "main.py")

    def run(*more):
        done = conftest.run(*words[1:], *more, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Trained on 1.024 thousand images." in run()
    folder = tmp_path / "runs" / "linear_blocks"
    served = tf.saved_model.load(str(folder / "saved_model"))
    assert served.sample(tf.constant(0, tf.int64), 3)["images"].shape == (3, 32, 32, 3)
    run("--mode=evaluate", "--config.evaluate.images=64")
    assert json.loads((folder / "metrics.json").read_text())["metrics"]["kid/mean"] > 0
