"""Our kernels under AddressSanitizer and UndefinedBehaviorSanitizer, over random shapes. Slow: every memory access is watched.

Convolutions are on emulated tiles, as a sanitizer does not see what the processor's own read, and on vectors.
"""

import concurrent.futures
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, compiler_with

from holotf import native

CALLS = int(os.environ.get("HOLOTF_CALLS", "50"))  # of each kind; more on demand
WAYS = ["-DHOLOTF_EMULATE_TILES", "-DHOLOTF_NO_TILES -DHOLOTF_PAIRS", "-DHOLOTF_NO_TILES -mno-avx512bf16"]
PROGRAM = f"""
import numpy as np, tensorflow as tf
from holotf import native
ops, rng = native.kernels(), np.random.default_rng(0)
assert ops is not None
convolves = hasattr(ops, "holotf_gather")
real = lambda *shape: rng.normal(size=shape).astype(np.float32)
for call in range({CALLS}):
    dtype, threads = rng.choice([tf.float32, tf.bfloat16]), int(rng.integers(1, 5))
    b, c, n = rng.integers(0, 4), rng.integers(1, 40), rng.integers(1, 7)
    space = rng.integers(1, 6, rng.integers(0, 4))
    x, style = tf.cast(real(b, *space, c), dtype), [(b, c), (c,)][call % 2]
    scale, shift, common = real(*style), real(*style), {{"threads": threads, "slope": 0.2, "together": bool(call % 3)}}
    y, mean, rate = ops.holotf_norm_forward(x=x, scale=scale, shift=shift, epsilon=1e-5, **common)
    ops.holotf_norm_backward(x=x, scale=scale, shift=shift, mean=mean, rate=rate, dy=y, **common)
    volume, matrix = tf.cast(real(b, n, n, n, c), dtype), real(b, 3, 4) * rng.choice([0.1, 1.0, 1e6, np.nan])
    seen = ops.holotf_resample_forward(volume=volume, matrix=matrix, threads=threads)
    ops.holotf_resample_backward(upstream=seen, matrix=matrix, threads=threads)
    rendered = {{"volume": volume, "matrix": matrix, "kernel": real(c), "bias": real(), "ground": real(c), "threads": threads}}
    ops.holotf_render_backward(upstream=ops.holotf_render_forward(**rendered), **rendered)
    ops.holotf_sums(x=tf.cast(x, tf.bfloat16), threads=threads)
    if convolves:
        taps, stride = rng.choice([(3, 1), (4, 2), (5, 2), (2, 2), (3, 2)])
        o, small = rng.integers(1, 40), rng.integers(1, 5, rng.integers(2, 4))
        window = {{"kernel": int(taps), "stride": int(stride), "pad": int(taps - stride) // 2, "threads": threads}}
        half = lambda *shape: tf.cast(real(*shape), tf.bfloat16)
        large = half(b, *(stride * small), c)
        few = ops.holotf_gather(large=large, weights=half(*[taps] * len(small), c, o), bias=real(o), **window)
        ops.holotf_spread(small=few, weights=half(*[taps] * len(small), c, o), bias=real(c), **window)
        ops.holotf_filter_gradient(large=large, small=few, **window)
        ops.holotf_differences(large=half(b, *(2 * small), c), threads=threads)
        tiled = ops.convolutions == "tiles"
        four, x = real(*[4] * len(small), o, c), tf.cast(real(b, *(2 * small), c), tf.float32 if tiled else dtype)
        if not tiled:
            ops.holotf_enlarge(x=tf.cast(x, tf.bfloat16), weights=real(*[3] * len(small), o, c), bias=real(o), threads=threads)
        y = ops.holotf_winograd_spread(x=x, weights=four, bias=real(o), threads=threads)
        ops.holotf_winograd_gather(x=y, weights=four, bias=real(c), threads=threads)
        ops.holotf_winograd_filter(large=y, small=x, threads=threads)
    for wrong in ({{"x": x, "scale": real(c + 1), "shift": shift}}, {{"x": x, "scale": real(b + 1, c), "shift": shift}}):
        try:
            ops.holotf_norm_forward(**wrong, epsilon=0.0, **common)
        except tf.errors.InvalidArgumentError:
            continue
        raise SystemExit("a wrong shape was taken")
print("clean", "with" if convolves else "without", "convolutions")
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++ and its sanitizers")
def test_kernels_are_clean_under_sanitizers(tmp_path):
    """Side by side, since they come last in a run of all tests, when a worker has nothing else to do."""
    names = ("libasan.so", "libstdc++.so")  # the latter too: else the former does not find what throws
    found = [
        subprocess.run(["g++", f"-print-file-name={n}"], text=True, capture_output=True, check=True).stdout.strip() for n in names
    ]
    if not all(map(os.path.isabs, found)):
        pytest.skip("g++ has no AddressSanitizer here")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda way: watch(way, found, tmp_path / str(WAYS.index(way))), WAYS))


def watch(way, found, folder):
    """Runs the program on kernels that are built in this way; `found` are the libraries of the sanitizers."""
    folder.mkdir()
    convolves = "avx512bw" in native._processor()
    compiler = [compiler_with("-O0", folder, "g++"), "-g1", way * convolves, "-fsanitize=address,undefined"]  # -g takes minutes
    environment = os.environ | {
        "CXX": " ".join([*compiler, "-fno-sanitize-recover=undefined"]),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "LD_PRELOAD": " ".join(found),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python and TensorFlow leave memory to the end of the process
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, way + done.stderr[-4000:]
    assert done.stdout.strip() == f"clean {'with' if convolves else 'without'} convolutions"
