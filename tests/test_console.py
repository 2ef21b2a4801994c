"""What a command shows: in a terminal, in a file, and of what is not ours."""

import contextlib
import gc
import os
import pty
import signal
import subprocess
import sys
import termios

import pytest
from absl import logging
from conftest import ROOT

from holotf import console

NOISE = ("oneDNN", "cuda", "cpu_feature_guard", "absl::InitializeLog", "rebuild TensorFlow")


def python(program, **streams):
    """Runs a program of one text in a process of its own, from the project's root."""
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=120, check=False, **streams)


def test_tensorflow_starts_without_its_noise():
    """And it makes some, so that this test can fail."""
    program = "import tensorflow as tf; tf.config.list_physical_devices()"
    assert any(word in python(program, capture_output=True, text=True).stderr for word in NOISE)
    program = "from holotf import console; console.import_tensorflow(); " + program + "; print(tf.reduce_sum([1, 2]).numpy())"
    done = python(program, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("3\n", "")


def test_an_export_is_loaded_without_warnings_and_with_errors(caplog):
    with console.errors_only():
        logging.warning("gradients cannot be taken")
        logging.error("broken")
    logging.warning("afterwards")
    assert [record.message for record in caplog.records] == ["broken", "afterwards"]


def test_what_is_no_noise_is_passed_on_whatever_happens():
    program = (
        "import os\nfrom holotf import console\n"
        "with console._without_noise():\n"
        "    os.write(2, b'I0000 port.cc] oneDNN custom operations are on. You may ...\\nE0000 disk on fire\\n')\n"
        "    raise SystemExit(3)\n"
    )
    done = python(program, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "E0000 disk on fire\n")


def test_what_a_crash_says_is_shown():
    program = (
        "import os; from holotf import console\nwith console._without_noise():\n    os.write(2, b'F0000 no AVX\\n'); os.abort()"
    )
    done = python(program, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGABRT, "F0000 no AVX\n")


def test_a_bar_that_is_broken_off_while_it_is_made_leaves_no_trace(monkeypatch):
    def interrupted(self, instance):
        raise KeyboardInterrupt

    monkeypatch.setattr(console.tqdm, "_get_free_pos", interrupted)
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    with pytest.raises(KeyboardInterrupt):
        console.progress(total=3)
    gc.collect()
    assert not said


def test_without_a_standard_error_it_works_in_silence():
    program = "import sys; sys.stderr = None; from holotf import console; console.import_tensorflow()\n"
    program += "with console.progress(total=1) as bar:\n    bar.update(1)\nprint('done')"
    assert python(program, stdout=subprocess.PIPE, text=True).stdout == "done\n"


LOOP = (
    "import time\nfrom holotf import console\nconsole.LINES_S = 0.2\n"
    "with console.progress(total=20, unit=' images', desc='looking') as bar:\n"
    "    for _ in range(20):\n"
    "        time.sleep(0.05)\n"
    "        bar.update(1)\n"
    "        bar.set_postfix(d=0.5, refresh=False)\n"
)


def test_progress_in_a_file_is_a_line_now_and_then():
    lines = python(LOOP, capture_output=True, text=True).stderr.splitlines()
    assert 3 <= len(lines) <= 8
    assert lines[-1].startswith("looking: 20 of 20 images, ")
    assert lines[-1].endswith("00:00 left, d=0.5")
    assert not any("\r" in line for line in lines)


def test_progress_in_a_terminal_is_a_bar():
    main, other = pty.openpty()
    termios.tcsetwinsize(other, (25, 80))
    done = python(LOOP, stderr=other, stdout=subprocess.DEVNULL)
    os.close(other)
    shown = b""
    with open(main, "rb", buffering=0) as terminal, contextlib.suppress(OSError):  # that is how a closed one ends
        while more := terminal.read(4096):
            shown += more
    shown = shown.decode()
    assert done.returncode == 0
    assert "\rlooking" in shown
    assert "100%" in shown
