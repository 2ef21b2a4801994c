"""Our kernels against the operations they stand for; and that the project does without them where it must."""

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, compiler_with, run
from nursery import Program

from benchmarks import measure
from holotf import native
from holotf.layers import convolution, normalise, rigid
from holotf.renderers import compositing

needs_kernels = pytest.mark.skipif(native.kernels() is None, reason="our kernels cannot be built here")
RNG = np.random.default_rng(0)
VIEWS = tf.constant([[30, 20, 1, 0, 0, 0], [200, -70, 0.6, 0.3, -0.2, 0.1], [77, 45, 1.7, 0, 0.5, 0]], tf.float32)


def random(*shape, dtype=tf.float32):
    return tf.cast(RNG.normal(size=shape), dtype)


def precise(x):
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def value_and_gradients(function, inputs, weigh=np.random.Generator.standard_normal):
    """The function, and the gradients of its sum under fixed random weights, as arrays of float32 (float64 for a float64 y)."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = function(*inputs)
    weights = weigh(np.random.default_rng(1), size=y.shape).astype(np.float32)
    return [precise(t).numpy() for t in (y, *tape.gradient(y, inputs, tf.cast(weights, y.dtype)))]


@contextlib.contextmanager
def eagerly():
    """Formulas operation by operation: XLA would take seconds to compile what is then called once."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def assert_close(function, *inputs, tolerance, measured=value_and_gradients):
    """Our kernels, in the inputs' types, against TensorFlow's operations in float64.

    Args:
      function: of the inputs.
      tolerance: of every result, or of each, in units of its largest value.
      measured: (function, inputs) -> results.
    """
    ours = measured(function, inputs)
    with native.off(), eagerly():
        theirs = measured(function, [tf.cast(t, tf.float64) for t in inputs])
    for a, b, each in zip(ours, theirs, np.broadcast_to(tolerance, len(ours)), strict=True):
        assert np.abs(b).max() > 0
        np.testing.assert_allclose(a, b, atol=each * np.abs(b).max(), rtol=0)


NORMS = {"instance": normalise.instance_norm, "batch": lambda *inputs, **options: normalise.batch_norm(*inputs, **options)[0]}


@needs_kernels
@pytest.mark.parametrize(("dtype", "tolerance"), [(tf.float32, 1e-5), (tf.bfloat16, 1e-2)])
@pytest.mark.parametrize("style", [(3, 37), (37,)], ids=["each", "shared"])
@pytest.mark.parametrize("of", ["instance", "batch"])
def test_normalisation(of, dtype, tolerance, style):
    scale, shift = random(*style), random(*style)

    def norm(x, scale, shift):
        return NORMS[of](x, scale, shift, epsilon=1e-5, negative_slope=0.2)

    # a mean of 30 deviations: sums of squares would lose it, centred ones do not
    assert_close(norm, random(3, 9, 11, 37, dtype=dtype) + (0 if dtype == tf.bfloat16 else 30), scale, shift, tolerance=tolerance)


@needs_kernels
@pytest.mark.parametrize(("dtype", "tolerance"), [(tf.float32, 2e-6), (tf.bfloat16, 1e-2)])
def test_resampling(dtype, tolerance):
    assert_close(rigid.resample, random(3, 6, 6, 6, 5, dtype=dtype), rigid.inverse_view_matrix(VIEWS), tolerance=tolerance)


@needs_kernels
@pytest.mark.parametrize(("channels", "steep"), [(5, 0.5), (37, 20.0)], ids=["fog", "solid"])  # which is not looked behind
@pytest.mark.parametrize(("dtype", "rounded"), [(tf.float32, 1e-4), (tf.bfloat16, 1e-2)])
def test_turning_and_compositing(dtype, rounded, channels, steep):
    """The value and the gradients to the volume, the views' matrices, the density's weights and the ground."""
    volume, matrix = random(3, 6, 6, 6, channels, dtype=dtype), rigid.inverse_view_matrix(VIEWS)
    weights = (random(channels) * steep / channels**0.5, tf.constant(-1.0), random(channels))
    # The gradient to the matrices is XLA's, which rounds the turned volume, too.
    assert_close(compositing.render, volume, matrix, *weights, tolerance=(1e-4, rounded, 5 * rounded, 1e-4, 1e-4, 1e-4))


@needs_kernels
def test_behind_what_is_opaque_nothing_is_looked_at():
    """A slab of density 100 in front, and behind it what is no number."""
    volume = np.zeros([1, 4, 4, 4, 2], np.float32)
    volume[:, 0, :, :, 0], volume[:, 3] = 1.0, np.nan
    inputs = [tf.constant(volume), rigid.inverse_view_matrix(tf.constant([[0.0, 0, 1, 0, 0, 0]])), tf.constant([100.0, 0])]
    seen = compositing.render(*inputs, tf.constant(0.0), tf.constant([5.0, 5.0]))
    np.testing.assert_allclose(seen, np.broadcast_to([1.0, 0.0], [1, 4, 4, 2]), atol=1e-6)


@needs_kernels
def test_of_what_is_not_a_number_the_kernel_sees_as_much_as_the_formula():
    """A voxel, and the position of a view."""
    volume, matrix = random(3, 5, 5, 5, 4).numpy(), rigid.inverse_view_matrix(VIEWS).numpy()
    volume[0, 4, 0, 4] = np.nan
    matrix[2, 0, 3] = np.nan
    inputs = [*map(tf.constant, (volume, matrix)), random(4), tf.constant(-1.0), random(4)]
    ours = value_and_gradients(compositing.render, inputs)
    with native.off():
        theirs = value_and_gradients(compositing.render, inputs)
    assert 0 < np.isnan(ours[0]).sum() < ours[0].size * 0.6
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))


@needs_kernels
def test_the_gradient_to_the_views_is_worked_out_only_where_it_is_asked_for():
    """The kernel has none: it is XLA's, and dear."""
    inputs = [tf.ones([2, 4, 4, 4, 8]), rigid.inverse_view_matrix(VIEWS[:2]), tf.ones(8), tf.constant(0.0), tf.ones(8)]

    def operations(asked):
        @tf.function(autograph=False)
        def gradients(*inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                seen = compositing.render(*inputs)
            return tape.gradient(seen, [inputs[i] for i in asked])

        return {op.type for op in measure.needed(gradients.get_concrete_function(*inputs).graph)}

    of_volume_and_weights, of_all = operations([0, 2, 3, 4]), operations(range(5))
    assert "HolotfRenderBackward" in of_volume_and_weights & of_all
    calls = {"PartitionedCall", "StatefulPartitionedCall"}  # what XLA compiles
    assert not calls & of_volume_and_weights
    assert calls & of_all


def second_order(function, inputs):
    """Gradients of a penalty on the gradient to the first input, as arrays of float32 or float64: of all inputs."""
    with tf.GradientTape() as outer:
        outer.watch(inputs)
        with tf.GradientTape() as tape:
            tape.watch(inputs[0])
            total = tf.reduce_sum(tf.sin(precise(function(*inputs))))  # not linear, so that every input has a part in the gradient
        penalty = tf.reduce_sum(tf.square(precise(tape.gradient(total, inputs[0]))))
    return [precise(t).numpy() for t in outer.gradient(penalty, inputs)]


@needs_kernels
def test_an_operation_of_ours_can_be_differentiated_twice():
    """The formulas, of which XLA makes the programs that are run elsewhere, are right."""
    for of in NORMS.values():
        norm = functools.partial(of, epsilon=1e-5, negative_slope=0.2)
        assert_close(norm, random(3, 4, 5, 7), random(7), random(7), tolerance=1e-4, measured=second_order)
    views = tf.constant([[30, 20, 1, 0, 0, 0], [200, -70, 0.6, 0.3, -0.2, 0.1]], tf.float32)
    matrix, weights = rigid.inverse_view_matrix(views), (random(3), tf.constant(-1.0), random(3))
    with eagerly():
        assert_close(rigid.resample, random(2, 4, 4, 4, 3), matrix, tolerance=1e-4, measured=second_order)
        assert_close(compositing.render, random(2, 4, 4, 4, 3), matrix, *weights, tolerance=1e-4, measured=second_order)


def test_a_float32_convolution_keeps_bfloat16_input_as_it_is():
    """Without tiles; with them, `test_tiles.py`."""
    x, kernel, bias = random(2, 8, 8, 33, dtype=tf.bfloat16), random(4, 4, 33, 3), random(3)

    def convolve(x, kernel, bias):
        return convolution.conv2d(x, kernel, bias, dtype=tf.float32)

    wide = value_and_gradients(convolve, [tf.cast(x, tf.float32), kernel, bias])
    with native.off():
        kept = value_and_gradients(convolve, [x, kernel, bias])
    for a, b, tolerance in zip(kept, wide, (2e-6, 4e-3, 2e-6, 2e-6), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())
    assert convolve(x, kernel, bias).dtype == tf.float32


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_sub_pixel_convolution_is_the_transposed_one(dtype):
    x, kernel, bias = random(2, 5, 6, 7, dtype=dtype), random(4, 4, 3, 7, dtype=dtype), random(3)

    def transposed(x, kernel, bias):
        return tf.nn.conv2d_transpose(x, kernel, [2, 10, 12, 3], 2, "SAME") + tf.cast(bias, dtype)

    tolerance = 1e-12 if dtype == tf.float64 else 2e-6
    for function in (transposed, convolution._sub_pixel):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel, bias])
            y = function(x, kernel, bias)
            total = tf.reduce_sum(y**3)
        found = [y, *tape.gradient(total, [x, kernel, bias])]
        if function is transposed:
            expected = found
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max() * (1 if a.dtype == dtype else 1e6))


@needs_kernels
def test_results_do_not_depend_on_the_number_of_threads():
    x, kernels = random(5, 4, 4, 8), native.kernels()
    for together in (False, True):
        style = {"scale": [1.0] * 8, "shift": [0.0] * 8, "slope": 0.2, "together": together}
        forth = [kernels.holotf_norm_forward(x=x, epsilon=0.0, threads=t, **style) for t in (1, 3)]
        moments = {"mean": forth[0].mean, "rate": forth[0].rate}
        back = [kernels.holotf_norm_backward(x=x, dy=x, threads=t, **moments, **style) for t in (1, 3)]
        for one, many in zip(forth[0] + back[0], forth[1] + back[1], strict=True):
            np.testing.assert_array_equal(one, many)
    named = {"volume": random(3, 4, 4, 4, 8), "matrix": rigid.inverse_view_matrix(VIEWS), "kernel": random(8), "ground": random(8)}
    upstream = random(3, 4, 4, 8)
    one, many = (kernels.holotf_render_backward(**named, bias=-1.0, upstream=upstream, threads=t) for t in (1, 3))
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a, b)


WAYS = {
    "emulated tiles": ("avx512bw", "-DHOLOTF_EMULATE_TILES"),
    "vectors": ("avx512bw", "-DHOLOTF_NO_TILES -mno-avx512bf16"),
    "vectors, by pairs": ("avx512_bf16", "-DHOLOTF_NO_TILES -DHOLOTF_PAIRS"),
}


@pytest.mark.slow
@needs_kernels
@pytest.mark.parametrize("way", WAYS)
def test_the_tests_of_convolutions_pass_the_other_ways_too(way, tmp_path):
    """What lays out, multiplies and shares the work, with the instructions that this processor's own build does not use.

    At -O1, which is built in half the time; as users get them they are tested on the processors whose own they are.
    """
    flag, defined = WAYS[way]
    if flag not in native._processor():
        pytest.skip(f"this processor has no {flag}")
    compiler = shlex.join([compiler_with("-O1", tmp_path), *defined.split()])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/test_tiles.py"],
        cwd=ROOT,
        env=os.environ | {"CXX": compiler, "XDG_CACHE_HOME": str(tmp_path)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 30, done.stdout


@needs_kernels
def test_they_are_off_in_one_thread_alone():
    x = tf.zeros(1)
    with native.off(), concurrent.futures.ThreadPoolExecutor(1) as other:
        assert native.kernels(x) is None
        assert other.submit(native.kernels, x).result() is not None
    assert native.kernels(x) is not None


def test_types_without_a_kernel_are_left_to_xla():
    assert native.kernels(tf.zeros(1, tf.float64)) is None


PROGRAM = """
import tensorflow as tf
from holotf import native
from holotf.layers.normalise import instance_norm
print(instance_norm(tf.ones([1, 2, 2, 3]), tf.ones(3), tf.ones(3), epsilon=1.0).numpy().mean(), native.kernels() is not None)
"""


def build(tmp_path, **environment):
    """A process that uses a kernel where it can, built in haste: (what it printed, its errors, the libraries in the cache)."""
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {"CXX": compiler_with("-O0", tmp_path), "XDG_CACHE_HOME": str(tmp_path)} | environment
    done = run(script=tmp_path / "program.py", **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip(), sorted((tmp_path / "holotf").glob("*.so"))


@pytest.mark.parametrize(
    ("compiler", "message"),
    [("", "no C++ compiler (g++ or clang++)"), ("false", "false cannot build our kernels, training goes on without them")],
)
def test_without_a_working_compiler_it_says_so_and_goes_on(tmp_path, compiler, message):
    path = os.environ["PATH"] if compiler else "/nowhere"
    said, error, _ = build(tmp_path, CXX=compiler, PATH=path)
    assert message in error
    assert said == "1.0 False"


RENDERED = {"volume": (3, 4, 4, 4, 2), "matrix": (3, 3, 4), "kernel": (2,), "bias": (), "ground": (2,)}


@needs_kernels
@pytest.mark.parametrize(
    ("op", "inputs", "message"),
    [
        ("norm_forward", {"x": (3, 4, 5), "scale": (1, 5), "shift": (1, 5)}, r"input 1 is \[1,5\], not \[3,5\]"),
        ("norm_forward", {"x": (3, 4, 5), "scale": (4,), "shift": (5,)}, r"input 1 is \[4\], not \[5\]"),
        ("norm_forward", {"x": (5,), "scale": (5,), "shift": (5,)}, r"x is \[5\], not \[B, ..., C\]"),
        ("resample_forward", {"volume": (3, 4, 4, 4, 2), "matrix": (1, 3, 4)}, r"input 1 is \[1,3,4\], not \[3,3,4\]"),
        ("render_forward", {**RENDERED, "kernel": (3,)}, r"input 2 is \[3\], not \[2\]"),
        ("render_forward", {**RENDERED, "volume": (3, 4, 4, 5, 2)}, r"not \[B,N,N,N,C\]"),
        ("render_backward", {**RENDERED, "upstream": (3, 4, 4, 3)}, r"input 5 is \[3,4,4,3\], not \[3,4,4,2\]"),
        ("resample_backward", {"upstream": (3, 4, 4, 5, 2), "matrix": (3, 3, 4)}, r"not \[B,N,N,N,C\]"),
    ],
)
def test_what_a_kernel_cannot_work_on_is_said_and_not_read_beyond(op, inputs, message):
    options = {"threads": 2} | ({"epsilon": 0.0, "slope": 1.0} if op == "norm_forward" else {})
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        getattr(native.kernels(), f"holotf_{op}")(**{name: tf.zeros(shape) for name, shape in inputs.items()}, **options)


@pytest.mark.parametrize(("style", "dtype"), [((1, 7), tf.float32), ((3, 7), tf.bfloat16), ((7,), tf.bfloat16)])
def test_a_style_that_has_to_be_broadcast_or_cast_is_left_to_xla(style, dtype):
    x, scale, shift = random(3, 4, 5, 7), random(*style, dtype=dtype), random(*style, dtype=dtype)
    found = normalise.instance_norm(x, scale, shift, epsilon=1e-5)
    with native.off():
        np.testing.assert_array_equal(found, normalise.instance_norm(x, scale, shift, epsilon=1e-5))


@needs_kernels
def test_many_callers_share_the_threads():
    """Each result is right though all ask at once."""
    x = [random(16, 8, 8, 8) for _ in range(24)]
    norm = functools.partial(native.kernels().holotf_norm_forward, scale=[1.0] * 8, shift=[0.0] * 8, epsilon=0.0, slope=1.0)
    expected = [norm(x=each, threads=1).y for each in x]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for found, right in zip(pool.map(lambda each: norm(x=each, threads=4).y, x * 10), expected * 10, strict=True):
            np.testing.assert_array_equal(found, right)


@needs_kernels
@pytest.mark.slow
def test_a_damaged_or_foreign_library_is_built_anew(tmp_path):
    said, _, (library,) = build(tmp_path)
    assert said == "1.0 True"
    whole = library.read_bytes()
    library.write_bytes(whole[: len(whole) // 2])  # a bus error, once loaded
    assert build(tmp_path) == ("1.0 True", "", [library])
    assert library.read_bytes()[:4] == b"\x7fELF"
    assert len(library.read_bytes()) == len(whole)


@needs_kernels
def test_a_cache_that_cannot_be_had_is_done_without(tmp_path):
    (tmp_path / "holotf").write_text("")
    said, error, libraries = build(tmp_path)
    assert (said, libraries) == ("1.0 True", [])
    assert error.startswith("our kernels are built for this process alone: ")
    assert len(error.splitlines()) == 1


@needs_kernels
@pytest.mark.slow
def test_what_others_may_have_written_is_not_loaded(tmp_path):
    """A folder of the user's own is closed to others, and a library that they may write is built anew."""
    folder = tmp_path / "holotf"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    said, _, (library,) = build(tmp_path)
    assert said == "1.0 True"
    assert folder.stat().st_mode & 0o022 == 0
    library.write_bytes(b"no library")
    library.chmod(0o666)
    planted = library.rename(
        library.with_name(f"{library.stem.rpartition('-')[0]}-{hashlib.sha256(b'no library').hexdigest()[:16]}.so")
    )
    said, error, libraries = build(tmp_path)
    assert (said, error) == ("1.0 True", "")
    assert set(libraries) == {planted, library}


@pytest.mark.parametrize(
    ("compiler", "message"),
    [
        ("/nowhere/g++", "/nowhere/g++ cannot build our kernels, training goes on without them: "),
        ("g++ --no-such-flag", "g++ --no-such-flag cannot build our kernels, training goes on without them: "),
        ('g++ "', 'g++ " cannot build our kernels, training goes on without them: No closing quotation'),
    ],
)
def test_a_compiler_that_is_missing_or_refuses_stops_nothing(tmp_path, compiler, message):
    said, error, libraries = build(tmp_path, CXX=compiler)
    assert (said, libraries) == ("1.0 False", [])
    assert error.startswith(message)
    assert len(error.splitlines()) == 1


def compiler_that(does, folder, version="1"):
    """A command that says which version it is, and in place of compiling does something to its last argument, the library."""
    path = folder / "compiler"
    path.write_text(f'#!/bin/sh\ncase "$*" in *--version) echo {version};; *) for target; do :; done; {does};; esac\n')
    path.chmod(0o700)
    return str(path)


def test_a_library_is_found_again_by_all_that_made_it(tmp_path, monkeypatch):
    """Built once; anew, beside it, with another compiler, C library, processor, TensorFlow, flag or source."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "_loaded", lambda path: path)
    compiler = [compiler_that('echo built >> "$target"', tmp_path)]
    found = [native._library(compiler)]
    assert native._library(compiler) == found[0]
    changes = [
        lambda patch: compiler_that('echo built >> "$target"', tmp_path, version="2"),
        lambda patch: patch.setattr(native.platform, "libc_ver", lambda: ("another", "0")),
        lambda patch: patch.setattr(native, "_processor", lambda: "another"),
        lambda patch: patch.setattr(tf, "__version__", "0"),
        lambda patch: patch.setattr(native, "_FLAGS", (*native._FLAGS, "-g")),
        lambda patch: patch.setattr(native, "_SOURCE", tmp_path / "kernels.cc"),
    ]
    (tmp_path / "kernels.cc").write_text("// another")
    for change in changes:
        with monkeypatch.context() as patch:
            change(patch)
            found.append(native._library(compiler))
    assert len(set(found)) == len(found) == len(list((tmp_path / "holotf").glob("*.so")))


@needs_kernels
def test_two_may_build_at_once(tmp_path):
    """Each in a process of its own; both have the whole library in the end, and one of it is kept."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    built = re.search(r"/\S*/kernels-\w+-\w+\.so", maps)[0]
    (begun := tmp_path / "begun").mkdir()
    both_there = f'[ "$(ls {begun} | wc -l)" = 2 ]'
    together = f"mktemp {begun}/XXXXX; for i in $(seq 600); do {both_there} && break; sleep 0.1; done"
    slowly = f'for i in $(seq 2000); do head -c 9999 {built} > "$target"; done'  # while the other ends
    half = f'if mkdir {tmp_path}/first; then head -c 9999 {built} > "$target"; sleep 1; else {slowly}; fi'
    compiler = compiler_that(f'{together}; {half}; cat {built} > "$target"', tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM)
    with contextlib.ExitStack() as stack:
        programs = [Program([str(tmp_path / "program.py")], ROOT, CXX=compiler, XDG_CACHE_HOME=str(tmp_path)) for _ in range(2)]
        found = [stack.enter_context(program).communicate(300) for program in programs]
    assert len(list(begun.iterdir())) == 2
    assert [(said.strip(), error) for said, error in found] == [("1.0 True", "")] * 2
    (library,) = (tmp_path / "holotf").glob("*.so")
    assert library.read_bytes() == Path(built).read_bytes()


def test_without_a_home_there_is_no_cache(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(native.Path, "home", no_home)
    assert native._cache() is None
