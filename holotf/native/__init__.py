"""Our own CPU kernels (kernels.cc), compiled on first use where there is a C++ compiler; without one, XLA and oneDNN do the work.

An operation asks `kernels` for them where it is called, and nobody else need know. What is differentiated twice has a formula for
it (`differentiable`); what is served, which must run without our code, is traced without them (`servable.endpoint`).
"""

import contextlib
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

_SOURCE = Path(__file__).with_name("kernels.cc")
_FLAGS = ["-O3", "-march=native", "-fno-trapping-math", "-std=c++17", "-shared", "-fPIC", "-pthread"]
if platform.machine() == "x86_64":
    _FLAGS.append("-mprefer-vector-width=512")  # the default is 256; compilers for other processors refuse it
_state = {"on": True}


@contextlib.contextmanager
def off() -> Iterator[None]:
    """What is traced in this context does without the kernels."""
    before, _state["on"] = _state["on"], False
    try:
        yield
    finally:
        _state["on"] = before


def switch(on: bool) -> None:
    """Allows the kernels, or forbids them, for the process (`device.native_kernels`)."""
    _state["on"] = on


def kernels(*tensors) -> types.ModuleType | None:
    """The op library if it can work on these tensors here and now, or None.

    Args:
      tensors: what the kernels are to read.

    Returns:
      The module of ops that `tf.load_op_library` gives, or None: switched off, a GPU at hand, no compiler, or a type other than
      float32 and bfloat16.
    """
    if not _state["on"] or any(t.dtype not in (tf.float32, tf.bfloat16) for t in tensors):
        return None
    return _load()


def differentiable(kernel: Callable, formula: Callable) -> Callable:
    """A function that is computed by our kernels and differentiated by a formula.

    Args:
      kernel: tensors -> a tensor or a sequence of tensors, by ops that have no gradient.
      formula: the same function by TensorFlow's operations, differentiable.

    Returns:
      `kernel`, with the gradients of `formula`.
    """

    @tf.custom_gradient
    def run(*inputs):
        def gradient(*upstream):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = formula(*inputs)
            return tape.gradient(outputs, inputs, list(upstream) if isinstance(outputs, (list, tuple)) else upstream[0])

        return kernel(*inputs), gradient

    return run


@functools.cache
def threads() -> int:
    """Threads that one kernel uses: TensorFlow's own number where it was set, otherwise one a core."""
    return tf.config.threading.get_intra_op_parallelism_threads() or len(os.sched_getaffinity(0))


@functools.cache
def _load():
    if tf.config.list_physical_devices("GPU") or not sys.platform.startswith("linux"):
        return None
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        print("no C++ compiler (g++ or clang++): training goes on without our own kernels, more slowly", file=sys.stderr)
        return None
    command = [compiler, *_FLAGS, str(_SOURCE), *tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "model name"))][:2]
    identity = "\n".join([tf.__version__, _SOURCE.read_text(), *command, *cpu])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "holotf"
    library = cache / f"kernels-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        temporary = library.with_suffix(f".{os.getpid()}")
        done = subprocess.run([*command, "-o", str(temporary)], text=True, capture_output=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
            print(f"{compiler} cannot build our kernels, training goes on without them: {reason}", file=sys.stderr)
            return None
        temporary.rename(library)  # several processes may build at once: each its own, and the last stays
    return tf.load_op_library(str(library))
