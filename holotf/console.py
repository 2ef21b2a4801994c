"""What a command shows: no noise that is not ours, and its progress, in a terminal or in a file."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

from tqdm import tqdm

LINES_S = 10.0  # between the lines of progress in a file
# What TensorFlow says of oneDNN, of the processor's instructions and of a CUDA that is not there, before any log level counts.
_NOISE = re.compile(
    r"oneDNN custom operations are on|cudart_stub|cuda_platform|cpu_feature_guard|To enable the following instructions|"
    r"Unable to register cu|computation placer already registered|All log messages before absl::InitializeLog"
)


def import_tensorflow() -> None:
    """Imports TensorFlow and has it look for devices, without the lines that it then always writes; any others are passed on."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # from then on: errors only
    with _without_noise():
        import tensorflow as tf

        tf.config.list_physical_devices()


def progress(**options) -> tqdm:
    """A bar of tqdm, with its options, in a terminal; elsewhere a line every ten seconds."""
    if sys.stderr.isatty():
        return tqdm(mininterval=0.5, **options)
    told = "{n_fmt} of {total_fmt}{unit}, {rate_fmt}, {elapsed} gone, {remaining} left{postfix}"
    told = "{desc}: " + told if options.get("desc") else told
    return tqdm(mininterval=LINES_S, maxinterval=LINES_S, file=_Lines(), bar_format=told, **options)


class _Lines:
    """Standard error, for tqdm, which goes back to the start of its line: a new line there instead."""

    def write(self, text: str) -> None:
        if text := text.strip("\r\n "):
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Holds standard error back, C's too, and then passes on what is no noise."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held, contextlib.ExitStack() as stack:
        shown = os.dup(2)
        stack.callback(os.close, shown)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(shown, 2)
            held.seek(0)
            kept = [line for line in held.read().decode(errors="replace").splitlines(keepends=True) if not _NOISE.search(line)]
            os.write(2, "".join(kept).encode())
