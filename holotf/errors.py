"""The exceptions whose messages are meant for the person at the keyboard."""


class UserError(ValueError):
    """Bad input: the message names the field, the value and the fix, on one line.

    The command lines (`main.py`, `python -m data_prep`) print it without a traceback and leave with exit code 2; code that
    uses the package as a library sees an ordinary `ValueError`.
    """


class RunError(RuntimeError):
    """A run that broke off for a reason that is not the user's input. The message says why and how to go on."""


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


def of_flags(error: Exception, argv: list[str]) -> str:
    """What absl's and ml_collections' errors say, on one line, with the flag as it was written.

    Args:
      error: what parsing raised.
      argv: the command line.
    """
    reason = str(error.args[0] if error.args else error).replace("\\n", " ").replace("\\", "").replace("''", "'")
    reason = " ".join(reason.split()).rpartition("UserError: ")[2]  # a config's own error, out of its traceback
    if isinstance(error, (AttributeError, KeyError)):
        missing = reason.split("'")[1] if "'" in reason else reason  # of the key only its last part: find where it was written
        given = [a for a in argv if a.startswith("--config.") and missing in a.partition("=")[0].split(".")]
        reason = f"{given[0] if given else missing}: the config has no {reason}"
    return reason
