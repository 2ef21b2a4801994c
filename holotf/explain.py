"""What the errors of TensorFlow and of the system mean for the person at the keyboard; what was trained is saved first."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import tensorflow as tf

from holotf import data
from holotf.errors import RunError, UserError, unwritten

if TYPE_CHECKING:
    from holotf.checkpoints import Checkpoints


class WorkerLost(RunError):
    """Another worker is gone; the message says how to go on."""


# What collectives raise when a worker they wait for has died, by who noticed it.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)
# What reading raises where a shard is gone, or unreadable, or a record is not what it should be.
_READING = (
    tf.errors.DataLossError,
    tf.errors.NotFoundError,
    tf.errors.InvalidArgumentError,
    tf.errors.PermissionDeniedError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnknownError,
)


@contextlib.contextmanager
def explained(
    sources: data.Source | dict[str, data.Source], workers: int, checkpoints: "Checkpoints", settle: Callable[[], object]
) -> Iterator[None]:
    """Turns what breaks a training off into one line, after what was trained has been saved where that is possible.

    Args:
      sources: what `data.open_sources` gave.
      workers: how many; of several, none saves without the others.
      checkpoints: the run's `holotf.checkpoints.Checkpoints`.
      settle: function that raises where a loss is no number; such a state is not saved.

    Raises:
      UserError: the data are damaged.
      RunError: the disk is full or broken.
      WorkerLost: another worker died.
    """
    try:
        yield
    except (UserError, RunError):
        raise
    except _LOST as error:
        if workers == 1:
            raise
        latest = checkpoints.latest or "the beginning"
        raise WorkerLost(f"another worker is gone: start all workers again, they go on from {latest}") from error
    except Exception as error:
        if reason := unwritten(error):
            raise RunError(f"{reason}, {checkpoints.room()}; {_saved(checkpoints, workers, settle)}") from error
        if isinstance(error, _READING) and (reason := data.damage(sources)):
            raise UserError(f"{reason}; {_saved(checkpoints, workers, settle)}") from error
        raise


def _saved(checkpoints, workers, settle):
    """Saves the state, if it was not, and says where it is."""
    if checkpoints.is_saved() or workers > 1:
        return checkpoints.last_whole()
    settle()
    return f"{checkpoints.save()} was written, the same command then goes on from it"
