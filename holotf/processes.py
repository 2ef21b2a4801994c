"""Who a process is, so that others can tell later whether it is still there: of locks and of what lies under temporary names."""

import dataclasses
import os
import socket
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Process:
    """A process, told from all that were or will be given its number.

    Attributes:
      pid: its number.
      started: when, in the system's ticks since it was booted; None where the system does not say.
      host: on which it runs.
      space: of the numbers that the system gives to processes, one for each container; None where there are none.
    """

    pid: int
    started: int | None
    host: str
    space: int | None

    @property
    def is_near(self) -> bool:
        """Whether this process can find out how that one is: it is on this host and not in another container."""
        return (self.host, self.space) == (socket.gethostname(), _space())

    @property
    def has_ended(self) -> bool:
        """Whether it is certain that it has."""
        return self.is_near and not self._is_there()

    def _is_there(self):
        try:
            os.kill(self.pid, 0)
        except PermissionError:  # it is another user's
            pass
        except (OSError, OverflowError):
            return False
        return self.started is None or _started(self.pid) == self.started


def this() -> Process:
    """The process that asks."""
    return Process(os.getpid(), _started(os.getpid()), socket.gethostname(), _space())


def _started(pid):
    """When a process started; -1 of one that has ended and was not yet waited for."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return -1 if state in "ZX" else int(fields[18])


def _space():
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None
