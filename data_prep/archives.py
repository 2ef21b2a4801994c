"""The images in a folder, a zip or a tar, by name and by content. What cannot be used is named, never left out without a word."""

import functools
import os
import posixpath
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data_prep.names import climbs_out, is_text, normalised, printable
from data_prep.work import Skipped
from holotf.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_FILE_BYTES = 256 * 2**20  # of one file, unpacked: a small archive may hold gigabytes of zeros
File = tuple[str, str | None, bytes | Skipped | None]  # name, class, content: None where it is still to be read, by name
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class UnusableError(Exception):
    """Why a file's content is not even read."""


class Listing(NamedTuple):
    """What a source holds.

    Attributes:
      names: the images' sorted paths inside the source, with forward slashes.
      unusable: path -> why, of what has no name or content that could be used.
      contents: of a tar, name -> member that has its content, another one for a link; else None.
    """

    names: list[str]
    unusable: dict[str, str]
    contents: dict[str, str] | None = None


def listing(source: Path, flag: str = "--source") -> Listing:
    """Lists the images of a source; hidden files and other files are passed over.

    Args:
      source: a folder, a zip or a tar.
      flag: of the command line, that names it.

    Raises:
      UserError: there is no such source, or it cannot be read as a whole.
    """
    shown = f"{flag} {printable(source)}"
    try:
        mode = os.stat(source).st_mode
        if stat.S_ISDIR(mode):
            return _in_folder(source)
        if not stat.S_ISREG(mode):  # not opened: a FIFO would wait for somebody to write
            raise UserError(f"{shown} is {_kind(mode)}: give a folder, a zip or a tar(.gz) of images")
        with open(source, "rb"):
            pass  # zipfile would take a file that may not be read for one that is no zip.
    except FileNotFoundError as error:
        raise UserError(f"{shown} does not exist: give a folder, a zip or a tar(.gz) of images") from error
    except OSError as error:
        raise UserError(
            f"{shown} cannot be read ({error.strerror}): give a folder, a zip or a tar(.gz) of images, and the right to read it"
        ) from error
    try:
        if tarfile.is_tarfile(source):  # asked first: what a tar ends with may be a zip
            with tarfile.open(source) as archive:
                return _in_tar(archive)
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                return _sifted([normalised(info.filename) for info in archive.infolist() if not info.is_dir()])
    except Exception as error:  # zipfile, tarfile, zlib and lzma each have their own, and struct's and Unicode's beside them.
        raise UserError(f"{shown} breaks off or is damaged ({printable(str(error))}): copy it again") from error
    raise UserError(f"{shown} is neither a folder nor a whole zip or tar(.gz): check it, or copy it again")


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "no regular file")


def _sifted(found: Iterable[str], unusable: dict[str, str] | None = None, contents: dict[str, str] | None = None) -> Listing:
    """Of what was found, normalised, the images that can be used by their name; the others join the `unusable`."""
    names, unusable = set(), dict(unusable or {})
    for name in found:
        if not _is_image(name) or name in unusable:
            continue
        if climbs_out(name):
            unusable[name] = "its name leads out of the archive: pack it anew"
        elif not is_text(name):
            unusable[name] = "its name is not UTF-8: rename it"
        else:
            names.add(name)
    return Listing(sorted(names), unusable, contents)


def _in_folder(source: Path) -> Listing:
    unusable, found, seen = {}, [], set()

    def failed(error: OSError) -> None:
        if error.filename is None or Path(error.filename) == source:
            raise error
        name = Path(error.filename).relative_to(source).as_posix() + "/"
        if not _is_hidden(name):
            unusable[name] = f"the folder cannot be read ({error.strerror}), nor what is in it"

    for folder, folders, files in os.walk(source, followlinks=True, onerror=failed):
        real = os.path.realpath(folder)
        if real in seen:  # A link to a folder above it: once is enough.
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_hidden(name) and not _found_anyway(Path(folder, name), source))
        found += [Path(folder, file).relative_to(source).as_posix() for file in files]
    return _sifted(found, unusable)


def _found_anyway(folder: Path, source: Path) -> bool:
    """Whether a folder is a link to another in the source, which is walked under its own name, that of its class."""
    target, top = (Path(os.path.realpath(path)) for path in (folder, source))
    return folder.is_symlink() and target.is_relative_to(top) and not _is_hidden(target.relative_to(top).as_posix())


def _in_tar(archive: tarfile.TarFile) -> Listing:
    contents, links, unusable = {}, {}, {}
    for member in archive:
        name = normalised(member.name)
        if member.isfile():
            contents[name] = name
        elif member.islnk():
            links[name] = normalised(member.linkname)
        elif member.issym():
            links[name] = normalised(posixpath.join(posixpath.dirname(name), member.linkname))
        elif not member.isdir() and _is_image(name):
            unusable[name] = "a FIFO or a device, and no file"
    _check_end(archive)
    for name, target in links.items():
        passed = {name}
        while target in links and target not in passed:
            passed.add(target)
            target = links[target]
        if target in contents:
            contents.setdefault(name, target)
        elif _is_image(name):
            unusable[name] = f"a link to {target}, which is no file in the archive"
    return _sifted(contents, unusable, contents)


def _check_end(archive: tarfile.TarFile) -> None:
    """Raises where a tar ends in anything but zeros: tarfile takes a broken header in the middle for the end."""
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"no file begins at byte {archive.offset}")


def _is_hidden(name: str) -> bool:
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS) and not _is_hidden(name)


def tar_files(source: Path, root: str, names: list[str], labels: dict[str, str], contents: dict[str, str]) -> Iterator[File]:
    """Yields (name, label, content) in the archive's own order: a compressed tar can be read in no other.

    Args:
      source: the tar.
      root: the folder inside it that names are relative to.
      names: what is wanted.
      labels: name -> class.
      contents: as in `Listing`. Links come with the member they lead to: going back to it would unpack all before it again.
    """
    wanted = {}
    for name in names:
        wanted.setdefault(contents[root + name], []).append(name)
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                # Popped, since an archive may hold a name twice.
                linked = wanted.pop(normalised(member.name), ()) if member.isfile() else ()
                if linked:
                    large = _too_large(member.size)
                    content = Skipped(large) if large else archive.extractfile(member).read()
                    yield from ((name, labels.get(name), content) for name in linked)
                if not wanted:
                    return
    except Exception as error:  # as in `listing`
        raise UserError(
            f"--source {printable(source)} has changed since it was listed ({printable(str(error))}): begin again"
        ) from error


def _too_large(size: int) -> str:
    """Why a file of so many bytes is not read; "" where it is."""
    return f"{size:,} bytes: more than {MAX_FILE_BYTES:,} are not unpacked" if size > MAX_FILE_BYTES else ""


def content_of(name: str, content: bytes | Skipped | None, source: Path, root: str) -> bytes:
    """The bytes of a file: those it came with, or those that a folder or a zip has under root + name.

    Raises:
      UnusableError: it is not to be read: it is no regular file, or larger than MAX_FILE_BYTES.
      Exception: it cannot be read.
    """
    if isinstance(content, Skipped):
        raise UnusableError(content.reason)
    if content is not None:
        return content
    if source.is_file():
        archive, members = _zip(source)
        member = members[root + name]
        size, opened = member.file_size, functools.partial(archive.open, member)
    else:
        path = source / root / name
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # asked before it is opened: a FIFO would wait for somebody to write
            raise UnusableError(f"{_kind(status.st_mode)}, and no file")
        size, opened = status.st_size, functools.partial(open, path, "rb")
    if large := _too_large(size):
        raise UnusableError(large)
    with opened() as file:
        return file.read(MAX_FILE_BYTES)  # whatever the size was said to be


@functools.lru_cache(maxsize=1)  # opened once a process: the list of a large zip takes seconds to read
def _zip(source: Path) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    archive = zipfile.ZipFile(source)
    return archive, {normalised(info.filename): info for info in archive.infolist() if not info.is_dir()}
