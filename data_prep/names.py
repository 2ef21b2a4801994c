"""Names of files as people wrote them: made safe for a line of text, and told apart inside archives."""

import os
import posixpath


def printable(name: str | os.PathLike) -> str:
    r"""Returns a name on one line: control characters, separators and what is not UTF-8 as `repr` writes them, `\n` or `\udcff`.

    Backslashes are doubled, so no two names become one.
    """
    name = os.fspath(name)
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in name)


def label_name(folder: str) -> str:
    r"""Returns the name of a class folder as tfds can keep it: it writes a name a line, and strips blanks when it reads them."""
    name = printable(folder)
    inner = name.strip(" ")
    left = len(name) - len(name.lstrip(" ")) if inner else len(name)
    return r"\x20" * left + inner + r"\x20" * (len(name) - left - len(inner))


def is_text(name: str) -> bool:
    """False for a name that is not UTF-8, in which Python keeps the bytes as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def normalised(member: str) -> str:
    """Returns the path of an archive's member: `./a`, `/a` and `b/../a` are `a`; what climbs out begins with `../`."""
    return posixpath.normpath(member.lstrip("/"))


def climbs_out(name: str) -> bool:
    """True for a normalised name that lies outside its archive."""
    return name.split("/")[0] == ".."
