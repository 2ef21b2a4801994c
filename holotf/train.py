"""The training loop: one for every model and every strategy."""

import functools
import math
import os
import signal
import time

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import console, data, devices, evaluate, evaluators, export, generate, models, native, run_folder
from holotf.checkpoints import Checkpoints
from holotf.errors import RunError, UserError, require
from holotf.explain import explained
from holotf.lock import locked
from holotf.models.base import Generative, Learner, Turnable
from holotf.summaries import Board


class Diverged(RunError):
    """A loss stopped being a number; the message names the iteration, the losses and what to go back to."""


def train(config: ConfigDict, workdir: str) -> int:
    """Trains, or goes on training, until `config.train.kimg` thousand images were shown.

    Running it again on the same workdir resumes from the latest checkpoint. SIGTERM and Ctrl-C write a checkpoint first.

    Args:
      config: the experiment (configs/base.py).
      workdir: folder of the run; it gets `checkpoints/`, `events/` (TensorBoard), and at the end `pictures/` and `saved_model/`.

    Returns:
      0 when the run is complete, 128 + the signal's number when a signal ended it.

    Raises:
      UserError: config, data or checkpoint do not fit.
      Diverged: a loss became NaN or Inf; the last good checkpoint stays.
      WorkerLost: another worker died; so did this job.
    """
    devices.configure(config.device)
    strategy = devices.strategy(config.device)
    (worker, workers), replicas = devices.worker(strategy), strategy.num_replicas_in_sync
    batch_size = config.train.batch_size
    if batch_size < 1 or batch_size % replicas:
        raise UserError(f"train.batch_size={batch_size} cannot be shared by {replicas} replicas: use a multiple of {replicas}")
    require(0 <= config.seed < 2**32, "seed", config.seed, "0 to 4294967295")
    # What is wrong with the data, or would be wrong at the end, is said before anything is written.
    sources = data.open_sources(config.data)
    generate.check(config.generate)
    evaluate.check(config.evaluate)
    run_folder.reconcile(config, workdir, sources)
    run_folder.check_folders(workdir)
    with strategy.scope():
        model = models.initial(config)
    generate.check_labels(model)
    if config.evaluate.kimg > 0:
        evaluate.check_best(model, config, chief=worker == 0)
    data.check(sources, model.FEATURES, config.model.image_size, batch_size)
    with locked(workdir, active=worker == 0):
        checkpoints, pending = Checkpoints(model, workdir, config.train.keep_checkpoints, chief=worker == 0), []
        if (path := checkpoints.restore(checkpoints.to_go_on_from(config.train.resume_from))) is not None:
            print(f"resumed from {path}")
        with explained(sources, workers, checkpoints, lambda: _settle(pending, checkpoints)):
            if worker == 0:
                checkpoints.check_room()
                run_folder.record(config, workdir, sources)
                print(f"CPU kernels: {native.described()}")
            code = _loop(model, config, workdir, strategy, sources, checkpoints, pending)
            if worker == 0 and code == 0:
                publish(model, config, workdir)
            return code


def _loop(model, config, workdir, strategy, sources, checkpoints, pending):
    """The loop; `pending` gets what was not yet logged, [(iteration, {path: scalar tensor})]."""
    (worker, workers), replicas = devices.worker(strategy), strategy.num_replicas_in_sync
    batch_size = config.train.batch_size
    start, total = int(model.iteration.numpy()), model.iterations
    kimg = {k: config.train[f"{k}_kimg"] for k in ("log", "sample", "checkpoint")} | {"evaluate": config.evaluate.kimg}
    every = {k: max(1, round(n * 1000 / batch_size)) for k, n in kimg.items() if n > 0}
    wanted = (sources, model.FEATURES, config.model.image_size, batch_size, config.seed)
    stream = data.batches(*wanted, start, (worker, workers), replicas)
    batches = iter(strategy.distribute_datasets_from_function(lambda _: stream))
    shown_batch = next(iter(data.batches(*wanted)))

    step = devices.compiled(config.device, replicas, model.train_step)

    @tf.function(autograph=False)
    def iterate(batch, **options):
        logs = strategy.run(lambda share: step(model.augment(share), **options), args=(batch,))
        return {k: strategy.reduce("MEAN", v, axis=None) for k, v in logs.items()}

    board = Board(workdir, config, active=worker == 0)

    def judge(shown):
        show = functools.partial(board.pictures, images=shown)
        board.scalars(metrics := evaluate.in_training(model, config, workdir, shown, show), shown)
        name = config.evaluate.best
        checkpoints.keep_best(name, metrics[name], evaluators.better()[name], beside=(run_folder.CONFIG,))

    def due_at(iteration):
        return {k: iteration % n == 0 or iteration == total for k, n in every.items()}

    if worker == 0 and start and due_at(start).get("evaluate") and not evaluate.was_judged(workdir, start * batch_size):
        judge(start * batch_size)  # the run was broken off before it was, or while it was
    counted = {"total": total * batch_size, "initial": start * batch_size, "unit": " images", "unit_scale": True}
    bar = console.progress(**counted, disable=worker > 0)
    clock = time.perf_counter()
    with _Signals() as signals, bar:
        for iteration in range(start + 1, total + 1):
            pending.append((iteration, iterate(next(batches), **model.step_options(iteration - 1))))
            bar.update(batch_size)
            shown = iteration * batch_size
            due = due_at(iteration)
            if caught := signals.caught:  # asked once: what comes after this line is of the next iteration
                due = {"log": True, "checkpoint": True}
            if not any(due.values()):
                continue
            scalars = _settle(pending, checkpoints)
            seconds = (time.perf_counter() - clock) / len(pending)
            scalars |= {"speed/images_per_s": batch_size / seconds, "speed/s_per_kimg": 1000 * seconds / batch_size}
            scalars |= {f"lr/{player}": rate for player, rate in model.learning_rates().items()}
            board.scalars(scalars, shown)
            shown_losses = {k.removeprefix("loss/"): f"{v:.3f}" for k, v in scalars.items() if k.startswith("loss/")}
            bar.set_postfix(shown_losses, refresh=console.in_terminal())
            if due.get("sample") and worker == 0:
                board.pictures(model.pictures(shown_batch), shown)
            if due["checkpoint"] or due.get("evaluate"):
                checkpoints.save()
            if due.get("evaluate") and worker == 0:
                judge(shown)
            if caught:
                break
            pending.clear()
            clock = time.perf_counter()  # pictures and checkpoints do not count as training time
    board.close()
    if signals.caught:
        print(f"{signals.caught.name}: checkpoint written at iteration {iteration} of {total}; the same command goes on from it")
        return 128 + signals.caught
    return 0


def run(config: ConfigDict, workdir: str) -> int:
    """The verb `train`: makes the data if the config says how, trains, and publishes.

    Returns:
      The exit code of `train`.
    """
    named = {f"data.sources.{name}": source for name, source in config.data.sources.items()} or {"data": config.data}
    for key, source in named.items():
        data.prepare_missing(source.dir, source.prepare, f"{key}.prepare")
    return train(config, workdir)


def publish(model: Learner, config: ConfigDict, workdir: str) -> None:
    """Writes `pictures/` and `saved_model/` of a finished run and says where everything lies."""
    folders = {name: os.path.join(workdir, name) for name in ("pictures", "saved_model", "checkpoints", "events")}
    pictures = ""
    if isinstance(model, Generative):
        generate.generate(model, config.generate, folders["pictures"])
        what, film = ("turning picture", "sweep_azimuth") if isinstance(model, Turnable) else ("interpolation", "interpolation")
        pictures = (
            f"  {what:<15}  {folders['pictures']}/{film}.gif, .mp4, .png\n  samples          {folders['pictures']}/samples.png\n"
        )
    export.export(model, folders["saved_model"], workdir, replace=True)
    kimg = int(model.iteration.numpy()) * config.train.batch_size / 1000
    print(
        f"\nTrained on {kimg:g} thousand images.\n"
        f"{pictures}"
        f"  SavedModel       {folders['saved_model']}\n"
        f"  checkpoints      {folders['checkpoints']}\n"
        f"  TensorBoard      tensorboard --logdir {folders['events']}\n"
        f"To judge it: python main.py --workdir {workdir} --mode evaluate\n"
        f"To go on: python main.py --workdir {workdir} --config.train.kimg={2 * kimg:g}"
    )


def _settle(pending, checkpoints):
    """The means of what was logged since the last time: [(iteration, {path: scalar tensor})] -> {path: float}."""
    logs = [(iteration, {k: float(v) for k, v in values.items()}) for iteration, values in pending]
    for iteration, values in logs:
        if not all(map(math.isfinite, values.values())):
            losses = ", ".join(f"{k}={v:g}" for k, v in values.items() if k.startswith("loss/") or not math.isfinite(v))
            raise Diverged(
                f"iteration {iteration} gave {losses}: lower the learning rates in config.optim or set device.precision=float32; "
                f"the last good checkpoint is {checkpoints.latest or 'none yet'}"
            )
    names = dict.fromkeys(k for _, values in logs for k in values)  # not every iteration has every loss
    return {k: float(np.mean([values[k] for _, values in logs if k in values])) for k in names}


class _Signals:
    """Notes SIGTERM and Ctrl-C instead of dying of them; a second one kills as usual."""

    def __enter__(self):
        self.caught = None
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _note(self, number, frame):
        self.caught = signal.Signals(number)
        signal.signal(number, self._before[number])

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)
