"""Programs that start at once: forks of one process that has imported TensorFlow, and has done nothing else.

A test that runs `python main.py ...` spends most of its time on imports. Here a program is a process of its own all the same, with
its own arguments, folder, environment, streams and exit code; only its interpreter is a copy of one that stood ready. What looks
at imports, at the interpreter's start or at its environment needs a real one.
"""

import atexit
import contextlib
import functools
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import forkserver

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tensorflow", "tensorflow_datasets", "ml_collections.config_flags", "scipy.linalg", "imageio"])


class Program:
    """`python main.py ARGUMENTS` in a folder, as `subprocess.Popen` has it; what it prints goes to files.

    Args:
      arguments: its command line after the interpreter: a script or -m MODULE, then arguments.
      folder: where it runs.
      together: whether what it prints on standard error comes with the rest.
      environment: variables besides this process's own; those that TensorFlow reads as it is imported come too late.
    """

    def __init__(self, arguments, folder, together=False, **environment):
        self.args, self._streams = list(arguments), []
        for _ in range(1 if together else 2):
            number, path = tempfile.mkstemp(prefix="holotf-")
            os.close(number)
            self._streams.append(path)
        _stand_ready()
        self._process = _FORKS.Process(target=_program, args=(self.args, str(folder), {**os.environ, **environment}, self._streams))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self._process.kill()

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout=None):
        """(what it printed, and on standard error if that was kept apart or None), once it has ended."""
        self.wait(timeout)
        texts = []
        while self._streams:
            with open(path := self._streams.pop(0)) as file:
                texts.append(file.read())
            os.unlink(path)
        return (*texts, None)[:2]

    def said(self):
        """What it printed so far on standard output."""
        with open(self._streams[0]) as file:
            return file.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        self._process.join()


@functools.cache
def _stand_ready():
    """Starts the process that the programs are forks of; TensorFlow takes its log level as it is imported."""
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # of a GPU that is not there each fork would tell anew
    forkserver.ensure_running()
    os.environ.pop("TF_CPP_MIN_LOG_LEVEL")
    if level is not None:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = level


def _program(arguments, folder, environment, streams):
    """In the fork: becomes the program, and leaves with its code."""
    for number, path in ((1, streams[0]), (2, streams[-1])):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, folder)
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a fork leaves without them
