"""What a command shows: no noise that is not ours, and its progress, in a terminal or in a file."""

import contextlib
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

PART = "HOLOTF_PART"  # in the environment of a command that another one runs, which says what to do next
LINES_S = 10.0  # between the lines of progress in a file
# What TensorFlow says of oneDNN, of the processor's instructions and of a CUDA that is not there, before any log level counts.
_NOISE = re.compile(
    r"oneDNN custom operations are on|cpu_feature_guard|To enable the following instructions|Unable to register cu|"
    r"computation placer already registered|All log messages before absl::InitializeLog"
)
_NO_GPU = re.compile(r"cudart_stub|cuda_platform")  # where there is a GPU, these say why it is not used


def import_tensorflow() -> None:
    """Imports TensorFlow and has it look for devices, without the lines that it then always writes; any others are passed on."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # from then on: errors only
    with _without_noise():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextlib.contextmanager
def errors_only() -> Iterator[None]:
    """For loading an export: of one that was trained first TensorFlow warns, thirty lines long, that gradients cannot be taken."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def in_terminal() -> bool:
    """Whether somebody looks at standard error as it comes."""
    return sys.stderr is not None and sys.stderr.isatty()


def progress(**options: Any) -> tqdm:
    """A bar of tqdm, with its options, in a terminal; elsewhere a line every ten seconds."""
    if sys.stderr is None:
        return _Bar(**options | {"disable": True})
    if in_terminal():
        return _Bar(mininterval=0.5, **options)
    told = "{n_fmt} of {total_fmt}{unit}, {rate_fmt}, {elapsed} gone, {remaining} left{postfix}"
    told = "{desc}: " + told if options.get("desc") else told
    return _Bar(mininterval=LINES_S, miniters=1, file=_Lines(), bar_format=told, **options)


class _Bar(tqdm):
    """One that Ctrl-C may break off while it is made: what is half made has nothing to close, and tqdm would trip over it."""

    def __del__(self):
        if hasattr(self, "start_t"):  # which is set last
            super().__del__()


class _Lines:
    """Standard error, for tqdm, which goes back to the start of its line: a new line there instead."""

    def write(self, text: str) -> None:
        if text := text.strip("\r\n "):
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Passes standard error, C's too, on without its noise. A process of its own does so: what a crash says is shown, too."""
    if sys.stderr is None or not hasattr(os, "fork"):
        yield
        return
    sys.stderr.flush()
    shown, (source, sink) = os.dup(2), os.pipe()
    child = os.fork()  # before TensorFlow is imported there is one thread
    if child == 0:
        os.close(sink)
        _filter(source, shown)
    os.close(source)
    os.dup2(sink, 2)
    os.close(sink)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(shown, 2)
        os.close(shown)
        os.waitpid(child, 0)


def _filter(source: int, shown: int) -> None:
    """Copies lines from one descriptor to another, to the end, but for the noise; and leaves."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the one that writes
        with open(source, "rb") as lines:
            for line in lines:
                if not _is_noise(line.decode(errors="replace")):
                    os.write(shown, line)
    finally:
        os._exit(0)


def _is_noise(line: str) -> bool:
    if line.startswith("F"):  # what TensorFlow dies of
        return False
    return bool(_NOISE.search(line)) or (not os.path.exists("/dev/nvidiactl") and bool(_NO_GPU.search(line)))
