"""Checkpoints: the whole state of a run, written beside the old one and only then announced."""

import glob
import itertools
import json
import os
import re
import shutil
import tempfile

import tensorflow as tf

from holotf import devices, models
from holotf.errors import UserError

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


class Checkpoints:
    """The checkpoints of a run: networks, averages, optimizers and the iteration, from which the position in the data follows.

    `tf.train.CheckpointManager` writes each to names of its own and then replaces the small file that says which is the latest,
    so a process killed at any moment leaves the latest whole one in place.

    Args:
      model: with its optimizers, built.
      workdir: of the run; checkpoints lie in its folder `checkpoints`.
      keep: how many to keep.
      chief: whether this worker's files count; the others write theirs, as saving is collective, and throw them away.
    """

    def __init__(self, model, workdir, keep=3, chief=True):
        self._model, self._workdir = model, workdir
        self._state = _state(model)
        self._checkpoint = tf.train.Checkpoint(**self._state)
        self._latest = tf.train.CheckpointManager(self._checkpoint, os.path.join(workdir, "checkpoints"), max_to_keep=keep)
        self._scratch = None if chief else tempfile.TemporaryDirectory()
        self._manager = self._latest if chief else tf.train.CheckpointManager(self._checkpoint, self._scratch.name, max_to_keep=1)

    @property
    def latest(self):
        """Path of the latest whole checkpoint, or None."""
        return tf.train.latest_checkpoint(self._latest.directory)  # as on disk: the chief may have written since

    def save(self):
        """Writes the state; returns the path."""
        return self._manager.save(checkpoint_number=int(self._model.iteration.numpy()))

    def keep_best(self, name, value, better):
        """Keeps a copy of the latest checkpoint as WORKDIR/best/checkpoints if it is the best yet by a metric.

        `--workdir WORKDIR/best` then generates, evaluates or exports it.

        Args:
          name: path of the metric.
          value: of the latest checkpoint.
          better: function of two values that gives the better one, `min` or `max`.

        Returns:
          Whether it is.
        """
        best, record = os.path.join(self._workdir, "best"), os.path.join(self._workdir, "best", "metric.json")
        if os.path.exists(record):
            with open(record, encoding="utf-8") as file:
                before = json.load(file)
            if before["name"] == name and better(before["value"], value) == before["value"]:
                return False
        temporary, old = f"{best}.tmp-{os.getpid()}", f"{best}.tmp-old-{os.getpid()}"
        folder, latest = os.path.join(temporary, "checkpoints"), self.latest
        os.makedirs(folder)
        for path in glob.glob(f"{glob.escape(latest)}.*"):
            shutil.copy(path, folder)
        with open(os.path.join(folder, "checkpoint"), "w", encoding="utf-8") as file:  # what `tf.train.latest_checkpoint` reads
            file.write(f'model_checkpoint_path: "{os.path.basename(latest)}"\n')
        with open(os.path.join(temporary, "metric.json"), "w", encoding="utf-8") as file:
            json.dump({"name": name, "value": value, "checkpoint": os.path.basename(latest)}, file)
        if os.path.exists(best):
            os.rename(best, old)
        os.rename(temporary, best)
        shutil.rmtree(old, ignore_errors=True)
        return True

    def restore(self):
        """Loads the latest checkpoint, if there is one.

        Returns:
          Its path, or None.

        Raises:
          UserError: it is of another architecture; the message names the first weight that differs.
        """
        path = self.latest
        if path is None:
            return None
        shapes = tf.train.load_checkpoint(path).get_variable_to_shape_map()
        saved = {k.removesuffix(_SUFFIX): tuple(v) for k, v in shapes.items() if k.endswith(_SUFFIX)}
        saved.pop("save_counter")  # TensorFlow's own
        wanted = {f"{group}/{name}": tuple(v.shape) for group, variables in self._state.items() for name, v in variables.items()}
        for name in [*wanted, *saved]:
            here, there = wanted.get(name), saved.get(name)
            if here != there:
                raise UserError(
                    f"{path} is of another architecture: {name} has shape {there or 'none'} there, {here or 'none'} here; "
                    "use the config that made it, or another --workdir"
                )
        self._checkpoint.restore(path).assert_existing_objects_matched()
        return path


def restore(config, workdir):
    """The model of a run as its latest checkpoint left it, or as it was exported.

    Args:
      config: the experiment that made it.
      workdir: of the run, or a SavedModel of `--mode export`, which holds what is served: averages, no optimizers.

    Raises:
      UserError: there is no checkpoint, or it is of another architecture.
    """
    devices.configure(config.device)
    model = models.build(config)
    if os.path.exists(os.path.join(workdir, "saved_model.pb")):
        _load_export(model, workdir)
    elif Checkpoints(model, workdir).restore() is None:
        raise UserError(f"no checkpoint in {workdir}: train first, or name the run, or its saved_model, with --workdir")
    return model


def _load_export(model, folder):
    wanted, found = model.servable()[0].vars, getattr(tf.saved_model.load(folder), "vars", ())
    shapes = ([tuple(v.shape) for v in variables] for variables in (wanted, found))
    for i, (here, there) in enumerate(itertools.zip_longest(*shapes)):
        if here != there:
            raise UserError(
                f"{folder} is of another architecture: weight {i} has shape {there or 'none'} there, {here or 'none'} here; "
                "use the config that made it"
            )
    for mine, theirs in zip(wanted, found, strict=True):
        mine.assign(theirs)


def _state(model):
    """Every variable under a name that does not depend on what else was built in the process: {part: {name: tf.Variable}}."""
    parts = {name: getattr(model, name) for name in model.PARTS}
    state = {part: {f"{i:03d}_{_bare(v.name)}": v.value for i, v in enumerate(owner.variables)} for part, owner in parts.items()}
    return state | {"progress": {"iteration": model.iteration.value}}


def _bare(name):
    """A variable's name without Keras' counters: an optimizer's variables bear the names of networks, as in `conv2d_9_kernel`."""
    return re.sub(r"_\d+(?=_|$)", "", name)
