"""Our own CPU kernels, compiled on first use where there is a C++ compiler; without one, XLA and oneDNN do the work.

kernels.cc tells TensorFlow of them; each kind is a header beside it.

An operation asks `kernels` for them where it is called, and nobody else need know. What is differentiated twice has a formula for
it (`differentiable`); what is served, which must run without our code, is traced without them (`servable.endpoint`).
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

from holotf import files
from holotf.errors import brief

_SOURCE = Path(__file__).with_name("kernels.cc")
_FLAGS = ["-O3", "-march=native", "-fno-trapping-math", "-std=c++17", "-shared", "-fPIC", "-pthread"]
if platform.machine() == "x86_64":
    _FLAGS.append("-mprefer-vector-width=512")  # the default is 256; compilers for other processors refuse it
_allowed = {"process": True}
_thread = threading.local()


@contextlib.contextmanager
def off() -> Iterator[None]:
    """What this thread traces in this context does without the kernels."""
    before, _thread.off = getattr(_thread, "off", False), True
    try:
        yield
    finally:
        _thread.off = before


def switch(on: bool) -> None:
    """Allows the kernels, or forbids them, for the process (`device.native_kernels`)."""
    _allowed["process"] = on


def kernels(*tensors: tf.Tensor) -> types.ModuleType | None:
    """The op library if it can work on these tensors here and now, or None.

    Args:
      tensors: what the kernels are to read.

    Returns:
      The module of ops that `tf.load_op_library` gives, with `convolutions`, what it does these by ("" for not at all); or None:
      switched off, a GPU at hand, no compiler, or a type other than float32 and bfloat16.
    """
    if not _allowed["process"] or getattr(_thread, "off", False) or any(t.dtype not in (tf.float32, tf.bfloat16) for t in tensors):
        return None
    return _load()


def described() -> str:
    """What of the CPU's work our kernels do in this process, in words."""
    ops = kernels()
    if ops is None:
        return "TensorFlow's"
    where = " where oneDNN's are slower" if ops.convolutions == "vectors of bfloat16" else ""
    return "ours" + (f", convolutions of bfloat16 on {ops.convolutions}{where}" if ops.convolutions else "")


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
    """The op library, or None and one line that says why: an accelerator that cannot be had stops nothing."""
    if tf.config.list_physical_devices("GPU") or not sys.platform.startswith("linux"):
        return None
    asked = os.environ.get("CXX", "")
    try:
        compiler = _compiler(asked)
        if not compiler:
            print("no C++ compiler (g++ or clang++): training goes on without our own kernels, more slowly", file=sys.stderr)
            return None
        return _library(compiler)
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip() or f"exit code {error.returncode}"
    except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
        reason = brief(error)
    named = asked or "the compiler"
    print(f"{named} cannot build our kernels, training goes on without them: {reason.splitlines()[0]}", file=sys.stderr)
    return None


def _compiler(asked):
    """The compiler's command, the words of CXX or the first that is found; [] for none."""
    if words := shlex.split(asked):
        return words
    found = shutil.which("g++") or shutil.which("clang++")
    return [found] if found else []


def _library(compiler):
    """The op library, built where it is not in the user's cache yet.

    Its name says of what it was made (sources, command, compiler, C library, processor) and what its own bytes are, so that one
    that is damaged, or of another machine that shares the folder, is not loaded.
    """
    command = [*compiler, *_FLAGS, *tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    version = subprocess.run([*compiler, "--version"], text=True, capture_output=True, check=True).stdout
    sources = [path.read_text(encoding="utf-8") for path in (_SOURCE, *sorted(_SOURCE.parent.glob("*.h")))]
    identity = [tf.__version__, *sources, *command, version, *platform.libc_ver(), _processor()]
    name = f"kernels-{hashlib.sha256(chr(10).join(identity).encode()).hexdigest()[:16]}"
    cache = _cache()
    for path in cache.glob(f"{name}-*.so") if cache else ():
        if _ours(path) and _digest(path) == path.stem.rpartition("-")[2]:
            return _loaded(path)
    with tempfile.TemporaryDirectory(prefix="holotf-") as own:  # what is loaded stays so when its file has gone
        if cache is None or not os.access(cache, os.W_OK):
            print("our kernels are built for this process alone: ~/.cache/holotf cannot be written, or others may", file=sys.stderr)
            cache = Path(own)
        return _loaded(_built([*command, str(_SOURCE)], cache, name))


def _loaded(path):
    ops, convolutions = tf.load_op_library(str(path)), ctypes.CDLL(str(path)).holotf_convolutions
    convolutions.restype = ctypes.c_char_p
    ops.convolutions = convolutions().decode()
    return ops


def _built(command, folder, name):
    """Path of the library that a command makes, under its own name once it is whole: several processes may build at once."""
    with files.temporary(folder / name) as temporary:
        subprocess.run([*command, "-o", temporary], text=True, capture_output=True, check=True)
        os.chmod(temporary, 0o700)
        return Path(temporary).rename(folder / f"{name}-{_digest(temporary)}.so")


def _cache():
    """The folder of compiled libraries in the user's cache; None where it cannot be had, or is not the user's own."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "holotf"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid():
            folder.chmod(folder.stat().st_mode & ~0o022)  # a umask may have let others in; what they left there is not ours
        return folder if _ours(folder) else None
    except (OSError, RuntimeError):  # no such folder can be made; no home
        return None


def _ours(path):
    """Whether nobody but this user (or root) can have written it."""
    status = os.stat(path)
    return status.st_uid in (os.getuid(), 0) and not status.st_mode & 0o022


def _digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def _processor():
    """What of the processor decides which code may run: its kind and what it can do."""
    told = re.compile(r"(model name|flags|Features|CPU (implementer|architecture|variant|part))\s*:")
    return "\n".join(sorted({line for line in Path("/proc/cpuinfo").read_text().splitlines() if told.match(line)}))
