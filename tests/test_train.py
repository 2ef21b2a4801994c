"""The loop as a user runs it: in processes of its own, killed, interrupted, resumed, diverging."""

import glob
import json
import shutil
import signal
import socket
import time

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, SMALL, run, small_config, started
from nursery import Program
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from holotf import train as loop

KIMG = "--config.train.kimg=0.064"  # eight iterations of eight images


def trains(squares, workdir, *more, model="dcgan"):
    config = f"--config=configs/base.py:{model}"
    return (config, *SMALL, KIMG, f"--config.data.dir={squares}", *more, f"--workdir={workdir}")


def state(workdir):
    """{name: array} of the latest checkpoint."""
    reader = tf.train.load_checkpoint(f"{workdir}/checkpoints")
    names = [n for n in reader.get_variable_to_shape_map() if n.endswith("VARIABLE_VALUE") and "save_counter" not in n]
    return {n: reader.get_tensor(n) for n in names}


def stop(arguments, number):
    """Starts a training, and sends the signal once its first checkpoint (iteration 2) is there."""
    program = started(*arguments)
    program.send_signal(number)
    return program.communicate(timeout=200)[0], program.returncode


@pytest.fixture(scope="module")
def uninterrupted(squares, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    done = run(*trains(squares, workdir, model="hologan"))
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


LONG = "--config.train.kimg=8"  # a thousand iterations: time to be caught in the middle


FLAT = "--config.optim.decay_from=1.0"  # the rates of a run then do not depend on how long it was meant to be


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(squares, tmp_path):
    text, code = stop(trains(squares, tmp_path, LONG, FLAT, model="hologan"), signal.SIGKILL)
    assert code == -signal.SIGKILL, text
    reached = int(state(tmp_path)["progress/iteration/.ATTRIBUTES/VARIABLE_VALUE"])
    total = f"--config.train.kimg={(reached + 4) * 0.008}"
    resumed = run(*trains(squares, tmp_path, total, FLAT, model="hologan"))
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed from {tmp_path}/checkpoints/ckpt-{reached}" in resumed.stdout
    assert run(*trains(squares, tmp_path / "straight", total, FLAT, model="hologan")).returncode == 0
    a, b = state(tmp_path), state(tmp_path / "straight")
    assert a.keys() == b.keys()
    assert {n for n in a if not np.array_equal(a[n], b[n])} == set()
    assert any(n.startswith("g_optimizer") for n in a)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_and_says_so(squares, tmp_path, number):
    text, code = stop(trains(squares, tmp_path, LONG), number)
    reached = int(state(tmp_path)["progress/iteration/.ATTRIBUTES/VARIABLE_VALUE"])
    assert 2 <= reached < 1000, text
    assert code == 128 + number
    assert f"{number.name}: checkpoint written at iteration {reached} of 1000; the same command goes on from it" in text
    assert "Traceback" not in text


def test_a_finished_run_leaves_what_it_says(uninterrupted):
    workdir, text = uninterrupted
    for path in ("pictures/sweep_azimuth.gif", "pictures/sweep_azimuth.mp4", "pictures/samples.png", "saved_model/saved_model.pb"):
        assert (workdir / path).stat().st_size > 0
    assert f"{workdir}/pictures/sweep_azimuth.gif" in text
    assert "--config.train.kimg=0.128" in text
    assert not list(workdir.rglob("*tmp*"))


def test_tensorboard_has_it_all(uninterrupted):
    events = EventAccumulator(str(uninterrupted[0] / "events"), size_guidance={"tensors": 0}).Reload()
    tags = set(events.Tags()["tensors"])
    losses = {"loss/d", "loss/g", "loss/identity", "accuracy/real", "accuracy/fake", "grad_norm/d", "grad_norm/g"}
    assert losses | {"lr/d", "lr/g", "speed/images_per_s", "speed/s_per_kimg"} <= tags
    assert {"samples", "sweep/azimuth_deg", "sweep/elevation_deg", "config"} <= tags
    steps = [e.step for e in events.Tensors("loss/d")]
    assert steps == [8 * i for i in range(1, 9)]
    rates = [float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors("lr/g")]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    width, height, png = tf.make_ndarray(events.Tensors("sweep/azimuth_deg")[-1].tensor_proto)[:3]
    assert (int(width), int(height)) == (12 * 32, 8 * 32)
    assert tf.io.decode_png(png).shape == (8 * 32, 12 * 32, 3)
    text = tf.make_ndarray(events.Tensors("config")[0].tensor_proto).item().decode()
    assert "| model.gf | `4` |" in text
    entry = events.summary_metadata["_hparams_/session_start_info"].plugin_data
    assert entry.plugin_name == "hparams"
    assert b"model.gf" in entry.content


@pytest.mark.slow
def test_running_a_finished_run_again_changes_nothing(squares, uninterrupted):
    workdir, _ = uninterrupted
    before = state(workdir)
    again = run(*trains(squares, workdir, model="hologan"))
    assert again.returncode == 0, again.stderr
    assert all(np.array_equal(v, before[n]) for n, v in state(workdir).items())


def test_a_run_is_exported_anew_but_what_is_no_export_is_kept(uninterrupted, tmp_path):
    workdir = shutil.copytree(uninterrupted[0], tmp_path / "run")
    again = ("--workdir", str(workdir), "--mode=export", "--config.export.endpoints=('sample',)")
    done = run(*again)
    assert done.returncode == 0, done.stderr
    assert tf.saved_model.load(str(workdir / "saved_model")).signatures.keys() == {"sample", "serving_default"}
    (workdir / "saved_model" / "saved_model.pb").unlink()
    done = run(*again)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: export folder {workdir}/saved_model exists: remove it first")
    assert (workdir / "saved_model" / "card.json").exists()


def test_a_checkpoint_of_another_architecture_is_refused(squares, uninterrupted, tmp_path):
    """Of a run that does not say what made it."""
    shutil.copytree(uninterrupted[0] / "checkpoints", tmp_path / "checkpoints")
    done = run(*trains(squares, tmp_path, "--config.model.gf=8", model="hologan"))
    assert done.returncode == 2
    assert "is of another architecture: generator/" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(squares, tmp_path):
    done = run(*trains(squares, tmp_path, "--config.optim.g_lr=1e38", "--config.optim.d_lr=1e38", "--config.train.log_kimg=0.008"))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: iteration ")
    assert "loss/d=" in last
    assert "Traceback" not in done.stderr
    for path in glob.glob(f"{tmp_path}/checkpoints/*.index"):
        reader = tf.train.load_checkpoint(path.removesuffix(".index"))
        assert all(
            np.all(np.isfinite(reader.get_tensor(n))) for n in reader.get_variable_to_shape_map() if n.startswith("generator")
        )


def test_divergence_names_the_first_bad_iteration():
    class Saved:
        latest = "ckpt-4"

    good, bad = {"loss/d": tf.constant(1.0), "lr": tf.constant(1.0)}, {"loss/d": tf.constant(float("nan")), "lr": tf.constant(1.0)}
    assert loop._settle([(1, good), (2, good)], Saved) == {"loss/d": 1.0, "lr": 1.0}
    with pytest.raises(loop.Diverged, match=r"iteration 6 gave loss/d=nan: .*ckpt-4"):
        loop._settle([(5, good), (6, bad), (7, bad)], Saved)


@pytest.mark.slow
def test_mirrored_strategy_trains_through_the_same_loop(squares, tmp_path):
    """Two logical CPUs stand for two GPUs (conftest)."""
    config = small_config(
        squares, **{"model.name": "dcgan", "device.strategy": "mirrored", "train.kimg": 0.024, "train.d_steps": ((0.0, 2),)}
    )
    assert loop.train(config, str(tmp_path)) == 0
    found = state(tmp_path)
    names = ("progress/iteration", "d_optimizer/000_iteration", "g_optimizer/000_iteration")
    assert [int(found[f"{name}/.ATTRIBUTES/VARIABLE_VALUE"]) for name in names] == [3, 3, config.train.g_steps]


def start_workers(count, *arguments):
    """MultiWorkerMirroredStrategy in real processes on loopback."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    cluster = {"worker": [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]}
    for s in sockets:
        s.close()
    tasks = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}) for index in range(count)]
    line = ["main.py", *map(str, arguments), "--config.device.strategy=multi_worker"]
    return [Program(line, ROOT, together=True, TF_CONFIG=task) for task in tasks]


def finish(processes):
    outputs = [p.communicate(timeout=600)[0] for p in processes]
    assert [p.returncode for p in processes] == [0] * len(processes), outputs
    assert ["Trained on" in text for text in outputs] == [True] + [False] * (len(processes) - 1)


@pytest.mark.slow
def test_a_killed_worker_ends_the_job_which_then_goes_on(squares, tmp_path):
    """Four workers: when one dies the others say so and leave; started again, all go on from the last checkpoint."""
    processes = start_workers(4, *trains(squares, tmp_path, LONG))
    deadline = time.monotonic() + 400
    while not glob.glob(f"{tmp_path}/checkpoints/checkpoint") and time.monotonic() < deadline:
        assert all(p.poll() is None for p in processes)
        time.sleep(0.05)
    processes[2].kill()
    outputs = [p.communicate(timeout=400)[0] for p in processes]
    reached = int(state(tmp_path)["progress/iteration/.ATTRIBUTES/VARIABLE_VALUE"])
    for index in (0, 1, 3):
        assert processes[index].returncode == 1, outputs[index]
        latest = f"{tmp_path}/checkpoints/ckpt-{reached}\n"
        # Not always the last line: threads of gRPC go on to log.
        assert f"error: another worker is gone: start all workers again, they go on from {latest}" in outputs[index]
    finish(start_workers(4, *trains(squares, tmp_path, f"--config.train.kimg={(reached + 2) * 0.008}")))
    assert int(state(tmp_path)["progress/iteration/.ATTRIBUTES/VARIABLE_VALUE"]) == reached + 2


@pytest.mark.slow
def test_two_workers_train_as_one_process_does(squares, tmp_path):
    """Only the chief's files are there."""
    short = "--config.train.kimg=0.016"
    finish(start_workers(2, *trains(squares, tmp_path / "two", short)))
    assert run(*trains(squares, tmp_path / "one", short)).returncode == 0
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in one:
        if "kernel" in name and not name.startswith(("d_optimizer", "g_optimizer")):
            # The workers share the batch in another order, so sums are rounded differently; where a gradient is rounding noise,
            # Adam's first steps turn its sign into a whole learning rate.
            assert np.mean(np.abs(two[name] - one[name]) > 2e-5) < 0.01, name


def test_a_batch_that_replicas_cannot_share_is_refused(squares, tmp_path):
    config = small_config(squares, **{"device.strategy": "mirrored", "train.batch_size": 7})
    with pytest.raises(loop.UserError, match=r"train.batch_size=7 cannot be shared by 2 replicas: use a multiple of 2"):
        loop.train(config, str(tmp_path))
