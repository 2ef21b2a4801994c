"""The files that labelled digits come in, read into arrays: IDX, NumPy's npz, LIBSVM's text, MATLAB's mat.

What is broken ends in one line that names the file and the fault.
"""

import bz2
import gzip
import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.archives import MAX_FILE_BYTES
from data_prep.names import printable
from holotf.errors import UserError

_AGAIN = "copy it again from its source"
_PACKED = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}  # by the first two bytes: names lie


def locate(folder: Path, names: Sequence[str]) -> Path:
    """The first of the names that a folder has.

    Raises:
      UserError: it has none of them, or is no folder.
    """
    for name in names:
        if os.path.isfile(path := folder / name):  # False, too, of a name that no file can have
            return path
    what = f"has no {names[0]}" if os.path.isdir(folder) else "is no folder"
    raise UserError(f"--source {printable(folder)} {what}: give the folder with {' or '.join(names)}")


def read_idx(path: Path) -> np.ndarray:
    """Reads an IDX file of bytes, packed by gzip or not.

    Two zero bytes, the type (8: uint8), the number of axes; each axis' length, 4 bytes big-endian; the numbers. Source: LeCun,
    Cortes and Burges, "The MNIST database", file formats.

    Returns:
      uint8 array.

    Raises:
      UserError: it cannot be read, or is none, or not whole.
    """
    content = _bytes(path)
    if content[:3] != b"\0\0\x08" or len(content) < 4:
        raise _fault(path, "is no IDX file of bytes")
    axes = content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise _fault(path, "breaks off in its header")
    shape = struct.unpack(f">{axes}I", content[4:start])
    if len(content) != start + math.prod(shape):
        raise _fault(path, f"has {len(content) - start:,} bytes of data where its header says {math.prod(shape):,}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an npz file.

    Raises:
      UserError: it cannot be read, or is none, or holds pickled objects.
    """
    _check_there(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and NumPy each have their own
        raise _fault(path, f"is no whole npz file ({_line(error)})") from error


def read_libsvm(path: Path, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads LIBSVM's text, packed by bzip2, gzip or not: a line an example, `LABEL INDEX:VALUE INDEX:VALUE ...`, indices from 1.

    Args:
      path: the file.
      features: how many an example has; those that a line leaves out are 0.

    Returns:
      (labels float64 [N], values float64 [N, features]).

    Raises:
      UserError: it cannot be read, or a line is none of these; the message names the line.
    """
    try:
        lines = [line for line in _bytes(path).decode("ascii").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise _fault(path, "is no text of LIBSVM's kind") from error
    labels, values = np.zeros(len(lines)), np.zeros([len(lines), features])
    for row, line in enumerate(lines):
        try:
            label, *pairs = line.split()
            places, found = zip(*(pair.split(":") for pair in pairs), strict=True)
            places = np.array(places, np.int64)
            if places.min() < 1 or places.max() > features:
                raise ValueError(f"an index beyond {features}")
            labels[row], values[row, places - 1] = float(label), np.array(found, np.float64)
        except (ValueError, OverflowError) as error:
            raise _fault(path, f"has no example of {features} features in line {row + 1} ({_line(error)})") from error
    return labels, values


def read_mat(path: Path, names: Sequence[str]) -> tuple[np.ndarray, ...]:
    """Reads arrays of a MATLAB file of version 4 to 7.2.

    Args:
      path: the file.
      names: of the arrays.

    Raises:
      UserError: it cannot be read, is of version 7.3, or lacks one of them; SciPy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError(f"MATLAB files need SciPy ({error}): pip install 'holotf[digits]'") from error
    _check_there(path)
    try:
        found = loadmat(path, variable_names=list(names))
    except NotImplementedError as error:
        raise _fault(path, "is of MATLAB's version 7.3", "use the files of cropped digits, such as train_32x32.mat") from error
    except Exception as error:  # a damaged file makes loadmat raise whatever it makes it raise
        raise _fault(path, f"is no whole MATLAB file ({_line(error)})") from error
    if missing := [name for name in names if name not in found]:
        raise _fault(path, f"has no {' and no '.join(missing)}", f"use a file with {', '.join(names)}")
    return tuple(found[name] for name in names)


def _bytes(path: Path) -> bytes:
    """The content of a file, unpacked where it is packed by gzip or bzip2."""
    _check_there(path)
    try:
        with open(path, "rb") as file:
            opened = _PACKED.get(file.read(2), open)
        with opened(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except Exception as error:  # gzip, bz2 and zlib each have their own
        raise _fault(path, f"breaks off or is damaged ({_line(error)})") from error
    if len(content) > MAX_FILE_BYTES:
        raise _fault(path, f"holds more than {MAX_FILE_BYTES:,} bytes unpacked")
    return content


def _check_there(path: Path) -> None:
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        raise UserError(f"{printable(path)} cannot be read ({error.strerror}): check the path, and that you may read it") from error


def _fault(path: Path, what: str, fix: str = _AGAIN) -> UserError:
    return UserError(f"{printable(path)} {what}: {fix}")


def _line(error: Exception) -> str:
    return printable(" ".join(f"{type(error).__name__}: {error}".split())[:160])
