"""Your own images: a folder, a zip or a tar(.gz) of jpg, jpeg, png, webp or bmp files, with or without a folder per class.

With two or more class folders (after outer folders that hold everything are passed over) each image carries its folder as
`label`. Images are turned upright (EXIF), made RGB on white, cropped, and resized with antialiasing. What cannot be read is
listed in skipped.txt beside the shards.
"""

import argparse
import functools
import io
import itertools
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from PIL import Image

from data_prep.images import Crop, encode, parse_crop, prepare
from data_prep.work import Skipped
from holotf.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
FILES_PER_TASK = 32
_SPLITS = {"train", "test", "val", "valid", "validation"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this source's flags."""
    parser.add_argument("--source", type=Path, required=True, metavar="PATH", help="a folder, .zip, .tar, .tar.gz or .tgz")
    parser.add_argument("--subdir", metavar="DIR", help="use only this folder inside it, e.g. train; . for all of it")
    parser.add_argument(
        "--crop", default="center", help="center: the largest centred square (default); none; H,W: a centred H x W, in pixels"
    )
    parser.add_argument("--encoding", default="png", choices=("png", "jpeg"), help="png is lossless (default); jpeg is smaller")
    parser.add_argument("--max-bad", default="1%", metavar="SHARE", help="stop where more than this is unreadable (default 1%%)")


def builder(args: argparse.Namespace, data_dir: str | os.PathLike):
    """Returns the tfds builder for the parsed flags; UserError names a flag or a source that makes no sense."""
    import tensorflow_datasets as tfds

    from data_prep.build import ImageBuilder

    crop, max_bad = parse_crop(args.crop), parse_share("--max-bad", args.max_bad)
    source = args.source.absolute()
    names = image_names(source)
    if not names:
        raise UserError(f"--source {args.source} holds no image: it needs files ending in {', '.join(EXTENSIONS)}")
    root, names = choose(names, args.subdir)
    labels = classes(names, merged=args.subdir == ".")
    features = {"image": tfds.features.Image(shape=(args.size, args.size, 3), encoding_format=args.encoding)}
    if labels:
        features["label"] = tfds.features.ClassLabel(names=sorted(set(labels.values())))
    if is_tar(source) and args.beam is not None:
        raise UserError(f"--source {args.source} can only be read from front to back: unpack it, or make it a zip, for --beam")
    items = _tar_files(source, root, names, labels) if is_tar(source) else ((name, labels.get(name), None) for name in names)
    return ImageBuilder(
        data_dir=data_dir,
        name="folder",
        description=f"Images of {source.name}/{root} by holotf's data_prep.folder: crop {args.crop}, resized to {args.size} px.",
        features=features,
        function=functools.partial(examples, source=source, root=root, size=args.size, crop=crop, encoding=args.encoding),
        tasks=_chunks(items) if is_tar(source) else list(_chunks(items)),
        total=len(names),
        workers=args.workers,
        beam=args.beam is not None,
        max_bad=max_bad,
    )


def parse_share(flag: str, text: str) -> float:
    """Reads `1%` or `0.01` as 0.01, or raises a UserError that names `flag`."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"{flag} {text!r}: use a share from 0% to 100%, for example 1%")
    return share


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


def choose(names: list[str], subdir: str | None) -> tuple[str, list[str]]:
    """Finds what the data set is made of.

    Args:
      names: of all images in the source.
      subdir: the folder asked for, as a path from the source or from below its outer folders; `.` for all; None where not said.

    Returns:
      root: the folder all of them lie in, "" or ending in a slash.
      names: relative to root, sorted.
    """
    root = _outer_folders(names)
    if subdir not in (None, "."):
        asked = PurePosixPath(subdir).as_posix().strip("/") + "/"
        roots = [r for r in (asked, root + asked) if any(name.startswith(r) for name in names)]
        if not roots:
            tops = sorted({name[len(root) :].split("/")[0] for name in names if "/" in name[len(root) :]})
            raise UserError(f"--subdir {subdir!r} holds no image: use {', '.join(tops) if tops else '.'}")
        inside = [name[len(roots[0]) :] for name in names if name.startswith(roots[0])]
        deeper = _outer_folders(inside)
        return roots[0] + deeper, [name[len(deeper) :] for name in inside]
    inside = [name[len(root) :] for name in names]
    tops = {name.split("/")[0] for name in inside}
    if subdir is None and len(tops) > 1 and tops <= _SPLITS:
        raise UserError(
            f"--source holds the splits {', '.join(sorted(tops))}: "
            f"choose one with --subdir {sorted(tops)[-1]}, or all with --subdir ."
        )
    return root, inside


def _outer_folders(names: list[str]) -> str:
    """The folders that hold everything, outermost first: "" or a path that ends in a slash."""
    first, last = min(names).split("/")[:-1], max(names).split("/")[:-1]  # In sorted order these two speak for all.
    pairs = zip(first, last, strict=False)
    return "".join(one + "/" for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def classes(names: list[str], merged: bool) -> dict[str, str]:
    """Returns name -> class: the first folder (`merged`: the second where the first is a split); {} where there are no classes."""
    parts = {name: name.split("/") for name in names}
    depth = 1 if merged and {part[0] for part in parts.values()} <= _SPLITS else 0
    if any(len(part) < depth + 2 for part in parts.values()):
        return {}  # Some image lies in no class folder.
    labels = {name: part[depth] for name, part in parts.items()}
    return labels if len(set(labels.values())) > 1 else {}


def _chunks(items: Iterable) -> Iterator[list]:
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == FILES_PER_TASK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _tar_files(source: Path, root: str, names: list[str], labels: dict[str, str]) -> Iterator[tuple[str, str | None, bytes]]:
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


def examples(
    task: list[tuple[str, str | None, bytes | None]], source: Path, root: str, size: int, crop: Crop, encoding: str
) -> list[tuple[str, dict | Skipped]]:
    """Returns (name, example) for each item of the task.

    Args:
      task: (name, label, content) of each file; label is None where there are no classes, content where it is still to be read.
      source: a folder or a zip; a tar's files come with their content.
      root: the folder inside the source that names are relative to.
      size: pixels a side.
      crop: as in `data_prep.images.crop_box`.
      encoding: png or jpeg.
    """
    return [(name, _example(name, label, content, source, root, size, crop, encoding)) for name, label, content in task]


def _example(name, label, content, source, root, size, crop, encoding) -> dict | Skipped:
    try:
        if content is None:
            content = _zip(source).read(root + name) if source.is_file() else (source / root / name).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            pixels = prepare(image, size, crop)
    except Exception as error:  # A damaged file makes PIL's readers raise whatever it makes them raise.
        return Skipped(f"{type(error).__name__}: {error}"[:200])
    example = {"image": encode(pixels, encoding)}
    return example if label is None else example | {"label": label}


@functools.lru_cache(maxsize=1)  # Opened once a process: the list of a large zip takes seconds to read.
def _zip(source: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(source)
