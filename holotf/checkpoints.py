"""Checkpoints: the whole state of a run, written beside the old one, read back, and only then announced."""

import dataclasses
import errno
import glob
import json
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable

import tensorflow as tf

from holotf import files
from holotf.errors import RunError, UserError, brief, unwritten
from holotf.models.base import Learner

_WRITING = ".writing"  # folder of a checkpoint that does not count yet
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
# By which TensorFlow says that a checkpoint, or the index of them, cannot be read.
_READ_ERRORS = (tf.errors.OpError, ValueError, RuntimeError, OSError, IndexError)


@dataclasses.dataclass(frozen=True)
class Damage:
    """Why a checkpoint cannot be read."""

    path: str
    reason: str


def damage(path: str) -> Damage | None:
    """Reads a whole checkpoint, checksums and all: what is wrong with it, or None."""
    for file in (f"{path}.index", *(glob.glob(f"{glob.escape(path)}.data-*") or [f"{path}.data-00000-of-00001"])):
        if not os.path.exists(file) or os.path.getsize(file) == 0:
            return Damage(path, f"{os.path.basename(file)} is {'empty' if os.path.exists(file) else 'missing'}")
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except _READ_ERRORS as error:
        return Damage(path, brief(error))
    return None


class Checkpoints:
    """The checkpoints of a run: networks, averages, optimizers and the iteration, from which the position in the data follows.

    Each is written to a folder of its own and read back; only then does it take its place and is announced in the small file that
    says which is the latest, and only then do old ones go. So a process killed at any moment leaves the latest whole one in place.

    Args:
      model: with its optimizers, built.
      workdir: of the run; checkpoints lie in its folder `checkpoints`.
      keep: how many to keep.
      chief: whether this worker's files count; the others write theirs, as saving is collective, and throw them away.
    """

    def __init__(self, model: Learner, workdir: str, keep: int = 3, chief: bool = True):
        self._model, self._workdir, self._keep, self._chief = model, workdir, keep, chief
        self._state = _state(model)
        self._checkpoint = tf.train.Checkpoint(**self._state)
        self.folder = os.path.join(workdir, "checkpoints")
        self._scratch = None if chief else tempfile.TemporaryDirectory()

    @property
    def latest(self) -> str | None:
        """Path of the latest checkpoint that was announced, or None; as on disk, since the chief may have written meanwhile."""
        try:
            return tf.train.latest_checkpoint(self.folder)
        except _READ_ERRORS:
            return None

    def found(self) -> list[str]:
        """Paths of all checkpoints in the folder, whole or not, the oldest first."""
        paths = {p.rpartition(".")[0] for p in glob.glob(os.path.join(glob.escape(self.folder), "ckpt-*.*"))}
        return sorted((p for p in paths if p.rpartition("-")[2].isdigit()), key=_number)

    def save(self) -> str:
        """Writes the state, reads it back, announces it, and removes what is older than the last `keep`; returns the path.

        Raises:
          RunError: the disk is full, or what was written cannot be read back; the checkpoint before it stays.
        """
        name = f"ckpt-{int(self._model.iteration.numpy())}"
        if not self._chief:
            return self._checkpoint.write(os.path.join(self._scratch.name, "ckpt"))  # one name: each gives way to the next
        path, before, writing = os.path.join(self.folder, name), self.found(), os.path.join(self.folder, _WRITING)
        try:
            shutil.rmtree(writing, ignore_errors=True)
            os.makedirs(writing)
            new = self._checkpoint.write(os.path.join(writing, name))
            if wrong := damage(new):
                raise RunError(f"{path} was written and cannot be read back ({wrong.reason}); {self.last_whole()}")
            for file in sorted(glob.glob(f"{glob.escape(new)}.*")):  # the data first, the index last
                os.replace(file, os.path.join(self.folder, os.path.basename(file)))
            # Where an older one was gone on from, those after it belong to another course: they go, and not what it came from.
            kept = [p for p in before if _number(p) < _number(path)][-(self._keep - 1) :] if self._keep > 1 else []
            _announce(self.folder, path, [*kept, path])
            for old in set(before) - {*kept, path}:
                for file in glob.glob(f"{glob.escape(old)}.*"):
                    os.unlink(file)
        except RunError:
            raise
        except _READ_ERRORS as error:
            full = unwritten(error)
            reason = f"{full}, {self.room()}" if full else brief(error)
            raise RunError(f"{path} could not be written: {reason}; {self.last_whole()}") from error
        finally:
            shutil.rmtree(writing, ignore_errors=True)
        return path

    def is_saved(self) -> bool:
        """Whether the state is that of the latest checkpoint, or of a beginning."""
        iteration = int(self._model.iteration.numpy())
        return iteration == 0 or (self.latest is not None and _number(self.latest) == iteration)

    def needed(self) -> int:
        """Bytes of a checkpoint."""
        return sum(math.prod(v.shape) * v.dtype.size for part in self._state.values() for v in part.values())

    def free(self) -> int:
        """Bytes that the disk has left."""
        return shutil.disk_usage(next(f for f in (self.folder, self._workdir) if os.path.isdir(f))).free

    def check_room(self) -> None:
        """Finds out at the start whether the next checkpoint will fit.

        Raises:
          RunError: it will not.
        """
        if self.free() < self.needed():
            raise RunError(f"{self._workdir}: {os.strerror(errno.ENOSPC)}, {self.room()}; {self.last_whole()}")

    def last_whole(self) -> str:
        """Which checkpoint a run that breaks off now goes on from."""
        return f"the last whole checkpoint is {self.latest or 'none yet'}"

    def room(self) -> str:
        """How much the disk has left, and how much a checkpoint takes."""
        return f"{self.free() / 1e6:.1f} MB are free, a checkpoint takes {self.needed() / 1e6:.1f} MB"

    def keep_best(self, name: str, value: float, better: Callable[[float, float], float], beside: tuple[str, ...] = ()) -> bool:
        """Keeps a copy of the latest checkpoint as WORKDIR/best/checkpoints if it is the best yet by a metric.

        `--workdir WORKDIR/best` then generates, evaluates or exports it.

        Args:
          name: path of the metric.
          value: of the latest checkpoint.
          better: function of two values that gives the better one, `min` or `max`.
          beside: names of files in WORKDIR that go with it.

        Returns:
          Whether it is.
        """
        best, metric = os.path.join(self._workdir, "best"), os.path.join(self._workdir, "best", "metric.json")
        if os.path.exists(metric):
            try:
                with open(metric, encoding="utf-8") as file:
                    before = json.load(file)
                if before["name"] == name and better(before["value"], value) == before["value"]:
                    return False
            except (OSError, ValueError, KeyError, TypeError) as error:
                print(f"{metric} cannot be read ({brief(error)}): the best is sought anew from here", file=sys.stderr)
        with files.new_folder(best) as temporary:
            folder, latest = os.path.join(temporary, "checkpoints"), self.latest
            os.makedirs(folder)
            for path in glob.glob(f"{glob.escape(latest)}.*"):
                shutil.copy(path, folder)
            for path in beside:
                shutil.copy(os.path.join(self._workdir, path), temporary)
            _announce(folder, latest, [latest])
            told = {"name": name, "value": value, "checkpoint": os.path.basename(latest)}
            files.write_json(os.path.join(temporary, "metric.json"), told)
        return True

    def to_go_on_from(self, named: str) -> str:
        """What a training that is told to go on from a checkpoint goes on from: the latest, "", where that is whole and newer.

        For it comes from the named one, or the named one leads to the same; so the same command can be given again.
        """
        found, latest = self.found(), self.latest
        if latest not in found or os.path.join(self.folder, named) not in found:
            return named
        if _number(latest) <= _number(named) or damage(latest):
            return named
        print(f"{os.path.basename(latest)} is whole and newer than {named}")
        return ""

    def restore(self, named: str = "") -> str | None:
        """Loads the latest checkpoint, or the one that is named (`train.resume_from`, such as ckpt-400), if there is one.

        Returns:
          Its path, or None in a folder without checkpoints.

        Raises:
          UserError: it is damaged, or of another architecture, or the one that is named is not there. Nothing was changed; the
            message names the newest whole one, and how to go on from it.
        """
        found = self.found()
        path = os.path.join(self.folder, named) if named else self._announced(found)
        if path is None:
            return None
        if named and path not in found:
            raise UserError(f"train.resume_from={named!r}: use one of {', '.join(map(os.path.basename, found)) or 'none there is'}")
        self._check_whole(path, found)
        self._check_shapes(path)
        status = self._checkpoint.read(path)
        status.assert_existing_objects_matched()
        status.expect_partial()  # what is left over is TensorFlow's own, and no reason to warn
        return path

    def _announced(self, found):
        """The checkpoint that the folder's index names; UserError where there are checkpoints and the index is of no use."""
        path, index = self.latest, os.path.join(self.folder, "checkpoint")
        if path is None and (found or os.path.exists(index)):
            # TensorFlow gives None, too, where the index names files that are gone.
            what = "cannot be read, or names a checkpoint that is gone" if os.path.exists(index) else "is missing"
            raise UserError(f"{index} {what}: {self._way_on(found)}")
        return path

    def _check_whole(self, path, found):
        if wrong := damage(path):
            raise UserError(f"{path} is damaged ({wrong.reason}): {self._way_on([p for p in found if p != path])}")

    def _way_on(self, paths):
        whole = next((p for p in reversed(paths) if damage(p) is None), None)
        if whole is None:
            return "no whole checkpoint is left; give another --workdir"
        name = os.path.basename(whole)
        return f"the newest whole one is {name}; go on from it with --config.train.resume_from={name}, or give another --workdir"

    def _check_shapes(self, path):
        shapes = tf.train.load_checkpoint(path).get_variable_to_shape_map()
        saved = {k.removesuffix(_SUFFIX): tuple(v) for k, v in shapes.items() if k.endswith(_SUFFIX)}
        saved.pop("save_counter", None)  # TensorFlow's own, in runs of version 0.1
        wanted = {f"{group}/{name}": tuple(v.shape) for group, variables in self._state.items() for name, v in variables.items()}
        for name in [*wanted, *saved]:
            here, there = wanted.get(name), saved.get(name)
            if here != there:
                raise UserError(
                    f"{path} is of another architecture: {name} has shape {there or 'none'} there, {here or 'none'} here; "
                    "use the config that made it, or another --workdir"
                )


def _number(path):
    """The iteration of a checkpoint."""
    return int(path.rpartition("-")[2])


def _announce(folder, latest, all_paths):
    """Writes the small file that `tf.train.latest_checkpoint` reads, whole or not at all; paths are those within the folder."""
    lines = [f'model_checkpoint_path: "{os.path.basename(latest)}"']
    lines += [f'all_model_checkpoint_paths: "{os.path.basename(path)}"' for path in all_paths]
    files.write(os.path.join(folder, "checkpoint"), "\n".join(lines) + "\n")


def _state(model):
    """Every variable under a name that does not depend on what else was built in the process: {part: {name: tf.Variable}}."""
    parts = {name: getattr(model, name) for name in model.PARTS}
    state = {part: {f"{i:03d}_{_bare(v.name)}": v.value for i, v in enumerate(owner.variables)} for part, owner in parts.items()}
    return state | {"progress": {"iteration": model.iteration.value}}


def _bare(name):
    """A variable's name without Keras' counters: an optimizer's variables bear the names of networks, as in `conv2d_9_kernel`.

    And without `renderer_`, so that a run of version 0.1, whose projection unit stood in the generator itself, is still read.
    """
    return re.sub(r"_\d+(?=_|$)", "", name).replace("renderer_", "")
