"""What the benchmarks count."""

import ast
import json
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import layers, measure, runs, study
from holotf import native
from holotf.layers import convolution

needs_convolutions = pytest.mark.skipif(
    not getattr(native.kernels(), "convolutions", ""), reason="our convolutions need vectors of 512 bits"
)


@needs_convolutions
@pytest.mark.parametrize(
    ("function", "x", "kernel"),
    [
        (lambda x, w: convolution.conv2d(x, w, tf.zeros(64), 2), (3, 8, 8, 32), (5, 5, 32, 64)),
        (lambda x, w: convolution.conv_transpose(x, w, tf.zeros(64)), (3, 4, 4, 4, 32), (3, 3, 3, 64, 32)),
    ],
    ids=["strided", "transposed"],
)
def test_our_convolutions_count_as_those_they_stand_for(function, x, kernel):
    ours = flops(function, x, kernel)
    with native.off():
        theirs = flops(function, x, kernel)
    assert {name for name in ours if name.startswith("Holotf")}
    positions = 3 * 4 * 4 if len(x) == 4 else 3 * 4 * 4 * 4  # of the small side
    assert sum(ours.values()) == sum(theirs.values()) == 3 * 2 * positions * tf.TensorShape(kernel).num_elements()


def flops(function, x, kernel, dtype=tf.bfloat16):
    """{op type: FLOPs} of a function of tensors of these shapes and its gradients."""

    @tf.function(autograph=False)
    def both(x, w):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = function(x, w)
        return tape.gradient(y, [x, w], y)

    return measure.work(both.get_concrete_function(tf.TensorSpec(x, dtype), tf.TensorSpec(kernel, dtype)))[0]


@needs_convolutions
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    ("function", "taps", "dtype"),
    [
        (convolution.conv_transpose, 4, tf.float32),
        (convolution.conv_transpose, 4, tf.bfloat16),
        (convolution.up_conv, 3, tf.bfloat16),
    ],
)
def test_fewer_products_count_as_what_is_multiplied(function, taps, dtype, axes):
    """Three along each axis at each position of the small side, forward and in both gradients."""
    if dtype == tf.bfloat16 and native.kernels().convolutions == "tiles":
        pytest.skip("tiles multiply bfloat16 as it is")
    counted = flops(lambda x, w: function(x, w, tf.zeros(64)), (3, *[8] * axes, 32), (*[taps] * axes, 64, 32), dtype)
    assert sum(counted.values()) == 3 * 2 * 3 * 8**axes * 3**axes * 32 * 64


@needs_convolutions
@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("HolotfGather", ((2, 8, 8, 16), (4, 4, 16, 33))),
        ("HolotfSpread", ((2, 2, 3, 4, 16), (4, 4, 4, 17, 16))),
        ("HolotfFilterGradient", ((2, 8, 8, 16), (2, 4, 4, 20))),
        ("HolotfEnlarge", ((2, 3, 4, 16), (3, 3, 17, 16))),
        ("HolotfWinogradSpread", ((2, 2, 2, 4, 16), (4, 4, 4, 17, 16))),
        ("HolotfWinogradGather", ((2, 8, 8, 16), (4, 4, 16, 33))),
        ("HolotfWinogradFilter", ((2, 8, 8, 16), (2, 4, 4, 20))),
    ],
)
def test_a_layer_is_set_beside_what_gives_the_same(kind, shapes):
    name, named, _ = layers.KINDS[kind]
    if not hasattr(native.kernels(), name):
        pytest.skip("tiles do without")
    narrow = tf.float32 if "Winograd" in kind and native.kernels().convolutions == "tiles" else tf.bfloat16
    dtypes = [tf.float32 if "x" in named and n == "weights" else narrow for n in named]
    layer = layers.Layer(kind, shapes, tuple(dtypes), kernel=4, stride=2, pad=1, gflop=1.0)
    rng = np.random.default_rng(0)
    inputs = [tf.cast(rng.integers(-2, 3, s), t) for s, t in zip(shapes, dtypes, strict=True)]  # sums that are exact
    ours, theirs = (tf.cast(way(*inputs), tf.float32) for way in layers.ways(layer))
    np.testing.assert_allclose(tf.reshape(ours, theirs.shape), theirs, rtol=0.01)
    assert float(layers.row(layer, 1, repeats=2)["faster by"]) > 0


@needs_convolutions
def test_the_layers_are_those_of_an_iteration():
    try:
        found = layers.layers("hologan_chairs")
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    kinds = {layer.kind for layer in found}
    assert (
        kinds
        == {
            "tiles": {"HolotfGather", "HolotfSpread", "HolotfFilterGradient"},
            "vectors of float32": {"HolotfEnlarge", "HolotfGather", "HolotfSpread", "HolotfFilterGradient"},
            "vectors of bfloat16": {"HolotfEnlarge", "HolotfFilterGradient"},
        }[native.kernels().convolutions]
    )
    gradients = [layer for layer in found.elements() if layer.kind == "HolotfFilterGradient"]
    wide = native.kernels().convolutions == "tiles"  # which the last layer's are on
    assert len(gradients) == 5 + wide + 3, "of G's convolutions and, in its own update alone, of D's"
    assert all(layer.gflop > 0 for layer in found)


@needs_convolutions
def test_the_layers_are_those_of_the_precision_and_the_batch_that_are_asked_for():
    """In float32 our kernels do what takes fewer products, on every machine."""
    found = layers.layers("hologan_chairs", "float32", 6)
    assert {layer.kind for layer in found} == {"HolotfWinogradSpread", "HolotfWinogradGather", "HolotfWinogradFilter"}
    assert {dtype for layer in found for dtype in layer.dtypes} == {tf.float32}
    assert {layer.shapes[0][0] for layer in found} == {6}


def test_anonymous_memory_is_what_a_process_made_and_not_what_it_read(tmp_path):
    """256 MiB of numbers count, 256 MiB of a file mapped and read do not; another process is watched from here."""
    (tmp_path / "pages").write_bytes(bytes(256 << 20))
    script = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    assert not any(pages[::4096])
print("read", flush=True); input()
numbers = b"1" * (256 << 20)
print("made", flush=True); input()
"""
    command = [sys.executable, "-c", script, str(tmp_path / "pages")]
    with (
        subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        measure.anonymous(process.pid) as found,
    ):
        peaks = []
        for word in ("read", "made"):
            assert process.stdout.readline().strip() == word
            time.sleep(0.1)
            peaks.append(found["gib"])
            print(file=process.stdin, flush=True)
    assert 0 < peaks[0] < 0.1
    np.testing.assert_allclose(peaks[1] - peaks[0], 0.25, atol=0.02)


def test_of_a_run_the_peak_is_known_and_one_that_fails_ends_the_table():
    peak = runs._run([sys.executable, "-c", "held = b'x' * (256 << 20)"])
    assert 0.25 < peak < 64, "GiB; Linux counts what the parent had before exec, too"
    with pytest.raises(SystemExit, match=r"exit code 3: .* the same command of the table goes on from here"):
        runs._run([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_file_in_place_of_the_folder_is_refused_at_once(tmp_path, capsys):
    (tmp_path / "o").touch()
    with pytest.raises(SystemExit):
        measure.parser("").parse_args(["--out", str(tmp_path / "o")])
    assert f"{tmp_path / 'o'} is a file; name a folder" in capsys.readouterr().err


def test_a_study_goes_on_from_a_table_of_elsewhere(tmp_path, monkeypatch, capsys):
    """Its runs stand in the new table with the machines they ran on; only the missing one is trained."""
    before, asked = tmp_path / "before", []

    def trained(command):
        workdir = Path(next(word.partition("=")[2] for word in command if word.startswith("--workdir=")))
        asked.append((workdir.name, "--mode=evaluate" in command))
        workdir.mkdir(exist_ok=True)
        (workdir / "metrics.json").write_text('{"metrics": {"kid/mean": 3.0}, "notes": []}')
        return 1.0

    def studied(*more):
        arguments = ["--config=configs/hologan_blocks.py", "--seeds=2", "--roundings=1", f"--out={tmp_path / 'here'}", *more]
        monkeypatch.setattr(sys, "argv", ["study", *arguments])
        study.main()

    monkeypatch.setattr(runs, "_run", trained)
    monkeypatch.setattr(runs, "_speed", lambda events: (1.0, 10.0))
    found = {"metrics": {"kid/mean": 1.0}, "train_s": 2.0, "machine": {"cpu": "another"}}
    known = {"seed-0": found | {"overrides": {"seed": "0", "device.native_kernels": "True"}}}
    for table, message in (
        ('{"rows": []}', "give a study-NAME.json"),
        (
            json.dumps({"config": "hologan_chairs", "changes": {}, "runs": known}),
            "a table of hologan_chairs with {}, not of hologan_blocks",
        ),
        (json.dumps({"config": "hologan_blocks", "changes": {"a": "1"}, "runs": known}), "hologan_blocks with {'a': '1'}, not of"),
        (
            json.dumps({"config": "hologan_blocks", "changes": {}, "runs": known, "settings": {"train.batch_size": 7, "gone": 1}}),
            "hologan_blocks has changed since: train.batch_size was 7, is ",
        ),
    ):
        before.write_text(table)
        with pytest.raises(SystemExit):
            studied(f"--known={before}")
        assert message in capsys.readouterr().err
    before.write_text(json.dumps({"config": "hologan_blocks", "changes": {}, "runs": known}))
    studied(f"--known={before}")
    assert asked == [("seed-1", False), ("seed-1", True)]
    table = json.loads((tmp_path / "here" / "study-hologan_blocks.json").read_text())
    assert [found["machine"]["cpu"] for found in table["runs"].values()] == ["another", measure.machine()["cpu"]]
    assert next(row["worst"] for row in table["rows"] if row["metric"] == "kid/mean") == "3"
    assert table["settings"]["train.kimg"] == measure.config("hologan_blocks").train.kimg
    asked.clear()
    studied()
    assert not asked
    monkeypatch.setattr(runs, "settings", lambda config, overrides: {"train.kimg": 65.0})
    studied()
    assert asked == [("seed-1", False), ("seed-1", True)], "what was found with another config is not what was asked for"


def test_a_look_is_taken_once_of_each_run(tmp_path, monkeypatch):
    """Beside what was judged, and a further one later; what was found stays."""
    folder, asked = tmp_path / "run", []

    def analysed(command):
        (looks,) = (word.partition("=")[2] for word in command if word.startswith("--config.analyse.looks="))
        asked.append(looks)
        assert f"--workdir={folder}" in command
        figures = {f"{name}/figure": 0.5 for name in ast.literal_eval(looks)}
        (folder / "analysis").mkdir(exist_ok=True)
        notes = ["judged", f"of {looks}"]
        (folder / "analysis" / "figures.json").write_text(json.dumps({"figures": figures, "notes": notes}))
        return 1.0

    monkeypatch.setattr(runs, "_run", analysed)
    runs.take_over(folder, {"metrics": {"kid/mean": 1.0}, "notes": ["judged"]})
    with pytest.raises(SystemExit, match=r"run: of this run there are the figures alone \(--known\), and no look inside"):
        runs.looked_into(folder, ["walks"])
    (folder / "config.json").touch()
    for looks in (["walks"], ["walks"], ["walks", "arithmetic"]):
        found = runs.looked_into(folder, looks)
    assert asked == ["('walks',)", "('arithmetic',)"]
    assert found == json.loads((folder / "result.json").read_text())
    assert found["metrics"] == {"kid/mean": 1.0, "analysis/walks/figure": 0.5, "analysis/arithmetic/figure": 0.5}
    assert found["notes"] == ["judged", "of ('walks',)", "of ('arithmetic',)"]


def test_a_run_of_another_length_is_refused(tmp_path, monkeypatch):
    """It neither stands for a shorter one nor is a longer one's beginning: its rates fell to its end."""
    monkeypatch.setattr(runs, "_run", lambda command: pytest.fail("it was trained"))
    (tmp_path / "config.json").write_text(json.dumps({"config": {"train": {"kimg": 48.0}}}))
    for overrides in ({"train.kimg": 12}, {"train.kimg": 96.0}):
        with pytest.raises(
            SystemExit, match=r"holds a run of 48 thousand images, not of (12|96): remove it, or give another --out"
        ):
            runs.judged(tmp_path, "hologan_blocks", overrides)
    monkeypatch.setattr(runs, "_run", lambda command: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runs.judged(tmp_path, "hologan_blocks", {"train.kimg": "48"})


def test_the_worst_of_an_error_is_the_greatest():
    values = {"a": 1.0, "b": 9.0, "c": 3.0}
    for metric in (
        "kid/mean",
        "pose/offset_spread_deg",
        "inversion/elevation_mae_deg",
        "pose_estimate/fitted_10/azimuth_median_deg",
        "pose_estimate/open/flip_share",
        "labels/azimuth_shift_deg",
        "labels/test/kid/2",
    ):
        found = study.summary(metric, values)
        assert (found["worst"], found["best"], found["worst run"]) == ("9", "1", "b"), metric
    assert study.summary("analysis/walks/linear_largest_step", values)["worst run"] == "b"
    for metric in ("diversity", "pose/elevation_correlation", "labels/test/class/red cube", "analysis/memorisation/pixels_ct"):
        assert study.summary(metric, values)["worst run"] == "a", metric


def test_what_is_overridden_may_change_in_the_config():
    before = runs.settings("hologan_blocks", {"train.batch_size": "32"})
    now = before | {"train.batch_size": 8, "came.since": 1}
    assert not runs.changed(before, now)
    assert runs.changed(before, now | {"train.kimg": 1.0}) == [f"train.kimg was {before['train.kimg']}, is 1.0"]
