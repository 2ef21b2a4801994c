"""The exceptions whose messages are meant for the person at the keyboard."""


class UserError(ValueError):
    """Bad input: the message names the field, the value and the fix, on one line.

    The command lines (`main.py`, `python -m data_prep`) print it without a traceback and leave with exit code 2; code that
    uses the package as a library sees an ordinary `ValueError`.
    """


class RunError(RuntimeError):
    """A run that broke off for a reason that is not the user's input. The message says why and how to go on."""
