"""One at a time works in a folder; a lock whose process is gone gives way."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT, run

from holotf import lock, processes
from holotf.errors import UserError


def owner(pid, **changes):
    """The text of a lock of the process of that number."""
    return json.dumps(dataclasses.asdict(processes.this()) | {"pid": pid, "started": processes._started(pid)} | changes)


def test_it_names_its_owner_and_is_gone_at_the_end(tmp_path):
    with lock.locked(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / "lock.json").read_text()) == json.loads(owner(os.getpid()))
        with pytest.raises(UserError, match=rf"run is in use by process {os.getpid()}: wait for it, stop it, or give another"):
            lock.locked(tmp_path / "run").__enter__()
        assert [p.name for p in (tmp_path / "run").iterdir()] == ["lock.json"]
    with pytest.raises(KeyboardInterrupt), lock.locked(tmp_path / "run"):
        raise KeyboardInterrupt
    assert not list((tmp_path / "run").iterdir())


def test_workers_that_are_not_the_chief_take_none(tmp_path):
    with lock.locked(tmp_path), lock.locked(tmp_path, active=False):
        pass
    with lock.locked(tmp_path / "run", active=False):
        assert not (tmp_path / "run").exists()


def test_a_pid_that_was_given_again_is_another_process(tmp_path):
    (tmp_path / "lock.json").write_text(owner(os.getppid(), started=1))
    with lock.locked(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()


def test_a_process_that_has_ended_and_was_not_waited_for_is_gone(tmp_path):
    """As in a container whose first process waits for nobody."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / "lock.json").write_text(owner(process.pid))
    with pytest.raises(UserError, match=f"in use by process {process.pid}"):
        lock.locked(tmp_path).__enter__()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # until it has ended, without waiting for it in its parent's sense
    with lock.locked(tmp_path):
        pass
    process.communicate()


def test_another_host_cannot_be_asked(tmp_path):
    (tmp_path / "lock.json").write_text(owner(2**22 + 1, host="elsewhere", started=1))  # no such process here
    with pytest.raises(UserError, match=r"is in use by process \d+ on elsewhere \(if that is gone, remove .*lock.json\)"):
        lock.locked(tmp_path).__enter__()


def test_another_container_on_this_host_cannot_be_asked_either(tmp_path):
    """It has numbers of its own: the process that has this one here is another, or there is none."""
    (tmp_path / "lock.json").write_text(owner(2**22 + 1, space=1, started=1))
    with pytest.raises(UserError, match=rf"is in use by process \d+ on {socket.gethostname()} \(if that is gone, remove "):
        lock.locked(tmp_path).__enter__()


@pytest.mark.parametrize("text", ["", "no lock", "[1]", "{}", owner("7"), '{"pid": 1, "host": "of version 0.1"}'])
def test_a_lock_that_cannot_be_read_is_left_to_its_reader(tmp_path, text):
    (tmp_path / "lock.json").write_text(text)
    with pytest.raises(UserError, match=r"lock.json cannot be read: remove it if nothing works in its folder"):
        lock.locked(tmp_path).__enter__()
    assert (tmp_path / "lock.json").read_text() == text


RACE = """
import contextlib, sys, time
from holotf import lock
from holotf.errors import UserError
start, *folders = sys.argv[1:]
check = lock._check_stale
lock._check_stale = lambda *arguments: (check(*arguments), time.sleep(0.1))  # so that the others look, too, before it takes
with contextlib.ExitStack() as held:
    for number, folder in enumerate(folders):
        time.sleep(max(0.0, float(start) + 0.3 * number - time.time()))
        with contextlib.suppress(UserError):
            held.enter_context(lock.locked(folder))
            print(folder, flush=True)
    time.sleep(1.0)
"""


def test_of_many_that_find_a_stale_lock_one_gets_in(tmp_path):
    folders = [tmp_path / str(i) for i in range(5)]
    for folder in folders:
        folder.mkdir()
        (folder / "lock.json").write_text(owner(2**22 + 1, started=1))
    line = [sys.executable, "-c", RACE, str(time.time() + 1.5), *map(str, folders)]
    racers = [subprocess.Popen(line, cwd=ROOT, text=True, stdout=subprocess.PIPE) for _ in range(4)]
    taken = "".join(r.communicate(timeout=60)[0] for r in racers).split()
    assert sorted(taken) == sorted(map(str, folders))


@pytest.mark.parametrize("benchmark", ["study", pytest.param("table1", marks=pytest.mark.slow)])
def test_a_second_benchmark_of_the_same_name_is_refused(squares, tmp_path, benchmark):
    arguments = {"study": ["--config=configs/base.py", "--name=chairs"], "table1": [f"--data={squares}"]}[benchmark]
    folder = tmp_path / benchmark / {"study": "chairs", "table1": os.path.basename(squares)}[benchmark]
    with lock.locked(folder):
        done = run(*arguments, f"--out={tmp_path}", module=f"benchmarks.{benchmark}")
    assert done.returncode == 2, done.stderr
    last = f"error: {folder} is in use by process {os.getpid()}: wait for it, stop it, or give another --out"
    assert done.stderr.splitlines()[-1] == last
    assert not list(folder.iterdir())
