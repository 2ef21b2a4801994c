"""The images in a folder, a zip or a tar, by name and by content."""

import functools
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from holotf.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
File = tuple[str, str | None, bytes | None]  # name, class, and where it cannot be read by name, its content


def is_tar(source: Path) -> bool:
    """True for a tar, compressed or not; told by its content."""
    return source.is_file() and not zipfile.is_zipfile(source) and tarfile.is_tarfile(source)


def image_names(source: Path) -> list[str]:
    """Returns the images' sorted paths inside the source, with forward slashes; hidden files and other files are passed over."""
    if source.is_dir():
        found = _walk(source)
    elif not source.exists():
        raise UserError(f"--source {source} does not exist: give a folder, a zip or a tar(.gz) of images")
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            found = archive.namelist()
    elif tarfile.is_tarfile(source):
        try:
            with tarfile.open(source) as archive:
                found = [member.name for member in archive if member.isfile()]
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UserError(f"--source {source} breaks off or is damaged ({error}): copy it again") from error
    else:
        raise UserError(f"--source {source} is neither a folder nor a whole zip or tar(.gz): check it, or copy it again")
    return sorted({str(PurePosixPath(name)) for name in found if _is_image(name)})


def _walk(source: Path) -> Iterator[str]:
    seen = set()
    for folder, folders, files in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # A link to a folder above it: once is enough.
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for file in files:
            yield Path(folder, file).relative_to(source).as_posix()


def _is_image(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return bool(parts) and not hidden and parts[-1].lower().endswith(EXTENSIONS)


def tar_files(source: Path, root: str, names: list[str], labels: dict[str, str]) -> Iterator[File]:
    """Yields (name, label, content) in the archive's own order: a compressed tar can be read in no other."""
    wanted = set(names)
    with tarfile.open(source) as archive:
        for member in archive:
            name = str(PurePosixPath(member.name)).removeprefix(root)
            if name in wanted and member.isfile():
                wanted.remove(name)  # An archive may hold a name twice.
                yield name, labels.get(name), archive.extractfile(member).read()
                if not wanted:
                    return


def content_of(name: str, content: bytes | None, source: Path, root: str) -> bytes:
    """The bytes of a file: those it came with, or those that a folder or a zip has under root + name."""
    if content is not None:
        return content
    return _zip(source).read(root + name) if source.is_file() else (source / root / name).read_bytes()


@functools.lru_cache(maxsize=1)  # Opened once a process: the list of a large zip takes seconds to read.
def _zip(source: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(source)
