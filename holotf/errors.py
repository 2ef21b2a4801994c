"""The exceptions whose messages are meant for the person at the keyboard."""

import errno
import os

_UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_UNUSABLE = (errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)


class UserError(ValueError):
    """Bad input: the message names the field, the value and the fix, on one line.

    The command lines (`main.py`, `python -m data_prep`) print it without a traceback and leave with exit code 2; code that
    uses the package as a library sees an ordinary `ValueError`.
    """


class RunError(RuntimeError):
    """A run that broke off for a reason that is not the user's input. The message says why and how to go on."""


def brief(error: BaseException) -> str:
    """What another library's error says, or else what it is called, on one line that is not too long."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def unwritten(error: BaseException | None) -> str | None:
    """Why the disk takes no more, in the system's words, if an error, or what it came from, is about that; else None."""
    while error is not None:
        for number in _UNWRITTEN:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return os.strerror(number)
        error = error.__cause__ or error.__context__
    return None


def unusable(error: BaseException) -> str | None:
    """Which file or folder is not what it would have to be, in the system's words, if an error is about that; else None."""
    if isinstance(error, OSError) and error.errno in _UNUSABLE and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return None


def require(holds: bool, field: str, value: object, use: str) -> None:
    """Checks a value where it is used. NaN is refused by any comparison that `holds` is made of.

    Args:
      holds: whether the value will do.
      field: its dotted key in the config.
      value: what it is.
      use: what is allowed, for the message: `{field}={value}: use {use}`.

    Raises:
      UserError: it will not do.
    """
    if not holds:
        shown = f"{value:g}" if isinstance(value, float) else repr(value)
        raise UserError(f"{field}={shown}: use {use}")
