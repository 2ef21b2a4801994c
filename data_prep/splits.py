"""What is kept from training: `--test` and its like, a share or a number, and cuts by hash, which no order can change."""

import argparse
import hashlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from holotf.errors import UserError

DEFAULT_TEST = "10%"


class Split(NamedTuple):
    """The work that makes one split of a data set.

    Attributes:
      tasks: what `ImageBuilder`'s function takes, one after another; for Beam in a list.
      total: how many examples (with skipped ones) there will be; a split of none is not written.
    """

    tasks: Iterable[Any]
    total: int


class Part(NamedTuple):
    """A part of a whole, as a flag gave it: a `share` below 1, or else so many (`number`)."""

    flag: str
    text: str
    share: float | None
    number: int

    def __bool__(self) -> bool:
        return bool(self.share or self.number)

    def of(self, total: int, things: str = "images") -> int:
        """How many of `total` that is; UserError where nothing would be left to train on."""
        number = self.number if self.share is None else round(self.share * total)
        if number >= total:
            raise UserError(f"{self} of {total} {things} leaves none to train on: use at most {total - 1}, or 0 for none")
        return number

    def __str__(self) -> str:
        return f"{self.flag} {self.text}"


def parse_part(flag: str, text: str) -> Part:
    """Reads `10%` or a plain number, or raises a UserError that names `flag`."""
    percent = re.fullmatch(r"(\d+\.?\d*|\.\d+)%", text)
    if percent and float(percent[1]) < 100:
        return Part(flag, text, float(percent[1]) / 100, 0)
    if re.fullmatch(r"\d+", text):
        return Part(flag, text, None, int(text))
    why = "leaves none to train on: " if percent else ""
    raise UserError(f"{flag} {text}: {why}use a share below 100% such as 10%, a number such as 1000, or 0 for none")


def add_test_flag(parser: argparse.ArgumentParser, about: str) -> None:
    """Adds `--test`; `about` says which images it takes, and what the default is."""
    parser.add_argument("--test", metavar="PART", help=f"kept from training, as 10%% or 1000; 0: train only; {about}")


def hash_of(*parts: bytes | str) -> int:
    """64 bits that depend on the parts alone, alike on every machine."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return int.from_bytes(digest.digest()[:8], "big")


def test_below(hashes: list[int], part: Part) -> int:
    """The bound below which a hash is of the test split.

    Equal hashes fall to one side. A share cuts the hashes' range, so that which side an image falls on depends on nothing but
    the image; a number takes so many from below, and the copies of the last.
    """
    if part.share is not None:
        return int(part.share * 2**64)
    number = part.of(len(hashes))
    return sorted(hashes)[number - 1] + 1 if number else 0
