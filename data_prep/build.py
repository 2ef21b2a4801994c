"""Writes a tfds folder whole or not at all; and the builder that the sources share, a `tfds.core.GeneratorBasedBuilder`.

Imports tfds: worker processes must not import this module, and sources import it inside their `builder()` only.
"""

import contextlib
import fcntl
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from data_prep.names import is_text, printable
from data_prep.splits import Split
from data_prep.work import Skipped, ordered_map
from holotf import console
from holotf.errors import UserError

_FINISHED = ("dataset_info.json", "features.json")
SKIPPED_FILE = "skipped.txt"


class ImageBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Named splits, made from independent tasks: on all cores of this machine, or by an Apache Beam runner.

    Args:
      data_dir: the temporary folder `build` hands to a source's `builder(args, data_dir)`.
      name: the source's name; the dataset carries it.
      description: one paragraph on what the examples are, where they come from and under what licence.
      features: name -> tfds feature; `image` is `tfds.features.Image(shape=(size, size, 3), ...)`, with, where known,
        `label` (ClassLabel), `azimuth_deg`, `elevation_deg` (float32).
      function: picklable; task -> list of (key, example). Keys are strings or integers, unique over all splits, an example is a
        dict of the features (an image as uint8 [H,W,3], or as PNG/JPEG bytes already encoded, which spares this process the work)
        or a `Skipped(reason)`. It runs in spawned processes: the module that defines it must not import TensorFlow at top level.
      splits: name -> `Split`: picklable tasks, and how many examples they make; the result does not depend on how the work is cut
        into tasks. Splits of no examples are not written.
      workers: spawned processes; 0 calls `function` in this process.
      beam: True returns a Beam transform instead of a Python iterator; examples have the same bytes.
      max_bad: the largest share of skipped inputs, of those of all splits, that is still acceptable, 0 to 1.
      files: name -> text of files to lie beside the shards, such as CREDITS.
      config: the experiment in configs/ to start from; printed when the build is done.
      section: of that experiment, which names the data set.
      citation, homepage: as in `tfds.core.DatasetInfo`.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike,
        name: str,
        description: str,
        features: dict[str, Any],
        function: Callable[[Any], list[tuple[str | int, Any]]],
        splits: dict[str, Split],
        workers: int,
        beam: bool = False,
        max_bad: float = 0.0,
        config: str = "hologan_folder",
        section: str = "data",
        files: dict[str, str] | None = None,
        citation: str | None = None,
        homepage: str | None = None,
    ):
        self.name = name
        self._about = {"description": description, "citation": citation, "homepage": homepage}
        self._features = features
        self._function = function
        self._splits = {split: work for split, work in splits.items() if work.total}
        self._total = sum(work.total for work in self._splits.values())
        self._workers = workers
        self._beam = beam
        self._max_bad = max_bad
        self.config_name, self.config_section = config, section
        self._files = files or {}
        self._skipped_paths = {split: Path(data_dir) / f"{split}-{SKIPPED_FILE}" for split in self._splits}
        super().__init__(data_dir=os.fspath(data_dir))

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(self._features)
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=None, **self._about)

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in self._splits}

    def _generate_examples(self, split):
        return self._beam_examples(split) if self._beam else self._local_examples(split)

    def _local_examples(self, split: str) -> Iterator[tuple[str | int, dict[str, Any]]]:
        names = list(self._splits)
        before = sum(self._splits[name].total for name in names[: names.index(split)])
        bar = {"total": self._total, "initial": before, "desc": f"{self.name} {split}", "unit": " examples"}
        results = ordered_map(self._function, self._splits[split].tasks, self._workers)
        # Closed by name, so that workers end with a failed or interrupted build and not when garbage is collected.
        with (
            contextlib.closing(results),
            open(self._skipped_paths[split], "w", encoding="utf-8") as skipped,
            console.progress(**bar) as progress,
        ):
            for result in results:
                for key, example in result:
                    if isinstance(example, Skipped):
                        skipped.write(_skipped_line((key, example)) + "\n")
                    else:
                        yield _exact(key), example
                progress.update(len(result))
        self._check_skipped()  # here too: tfds itself fails on no examples at all, with a riddle

    def _beam_examples(self, split: str):
        import apache_beam as beam

        # Bound to locals: a lambda that held `self` would pickle the builder.
        function, tasks, skipped_path = self._function, self._splits[split].tasks, os.fspath(self._skipped_paths[split])

        @beam.ptransform_fn
        def examples(pipeline):
            made = pipeline | beam.Create(tasks) | beam.Reshuffle() | beam.FlatMap(function)
            lines = made | "Skipped" >> beam.Filter(_is_skipped) | beam.Map(_skipped_line)
            lines | beam.io.WriteToText(skipped_path, num_shards=1, shard_name_template="")
            return made | "Kept" >> beam.Filter(_is_kept) | beam.MapTuple(lambda key, example: (_exact(key), example))

        return examples()

    def finish(self, folder: Path) -> None:
        """Puts skipped.txt and the source's own files into the finished `folder`, or stops where too much was skipped."""
        for name, text in self._files.items():
            (folder / name).write_text(text, encoding="utf-8")
        lines = self._check_skipped()
        if lines:
            (folder / SKIPPED_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
            print(f"{len(lines)} of {self._total} inputs skipped: see {SKIPPED_FILE}", file=sys.stderr)

    def _check_skipped(self) -> list[str]:
        """The lines of skipped.txt, of the splits made so far; UserError where they are too many, or all that a split has."""
        paths = {split: path for split, path in self._skipped_paths.items() if path.exists()}
        by_split = {split: path.read_text(encoding="utf-8").splitlines() for split, path in paths.items()}
        lines = sorted(line for part in by_split.values() for line in part)
        listed = "\n  ".join(lines[:50]) + (f"\n  ... and {len(lines) - 50} more" if len(lines) > 50 else "")
        if len(lines) > self._max_bad * self._total * (1 + 1e-12) or len(lines) == self._total:
            raise UserError(
                f"{len(lines)} of {self._total} inputs could not be used, more than --max-bad {self._max_bad:.2%} allows: "
                f"mend or remove them, or raise --max-bad\n  {listed}"
            )
        for split, part in by_split.items():
            if len(part) == self._splits[split].total:
                raise UserError(f"none of {len(part)} inputs of the split {split} could be used: mend or remove them\n  {listed}")
        return lines


def _is_skipped(pair: tuple[Any, Any]) -> bool:
    return isinstance(pair[1], Skipped)


def _is_kept(pair: tuple[Any, Any]) -> bool:
    return not isinstance(pair[1], Skipped)


def _exact(key: str | int) -> bytes | int:
    """The key as tfds takes it unchanged: in strings it makes slashes of backslashes, and two files would have one key."""
    return key.encode() if isinstance(key, str) else key


def _skipped_line(pair: tuple[Any, Skipped]) -> str:
    reason = " ".join(pair[1].reason.split()).encode(errors="backslashreplace").decode()
    return f"{printable(str(pair[0]))}\t{reason}"


def build(
    make_builder: Callable[[Path], ImageBuilder],
    out: Path,
    overwrite: bool = False,
    beam_options: str | None = None,
) -> None:
    """Builds into a hidden sibling of `out`, then renames it to `out`: what is called `out` is always whole.

    Args:
      make_builder: temporary folder -> builder. Its `finish(folder)` is called once with the complete folder before that is
        renamed: it may add files (CREDITS, skipped.txt), or raise, and then nothing is left.
      out: becomes the tfds folder itself, for `tfds.builder_from_directory(out)`.
      overwrite: replaces a finished `out`, once the new one is complete.
      beam_options: Apache Beam pipeline options in one string, as on Beam's own command lines; None builds without Beam.

    Raises:
      UserError: `out` is something other than a finished dataset, or cannot be written; or the builder's own.
    """
    named = Path(out).absolute()
    out = _resolved(out)
    with _said_of(out):
        finished = _is_dataset(out)
    if finished and not overwrite:
        print(f"{printable(named)} is finished already; --overwrite builds it anew")
        return
    download_config = tfds.download.DownloadConfig(beam_options=_beam_options(beam_options))
    start_s = time.monotonic()
    with _temporary_sibling(out) as temporary:
        # Asked again here: _temporary_sibling may just have brought back what an interrupted --overwrite had set aside.
        if out.exists() and not _is_dataset(out):
            raise UserError(f"--out {printable(named)} exists and is not a dataset: name a new folder, or remove it")
        if _is_dataset(out) and not overwrite:
            print(f"{printable(named)} is finished already; --overwrite builds it anew")
            return
        builder = make_builder(temporary)
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):  # tfds prints where it writes, and that name will be gone.
            builder.download_and_prepare(download_config=download_config)
        folder = Path(builder.data_dir)
        builder.finish(folder)
        made = {split: info.num_examples for split, info in builder.info.splits.items()}
        with _said_of(out):
            if not _put(folder, out, overwrite, aside=temporary.with_name(temporary.name + _ASIDE)):
                print(f"{printable(named)} was finished by another build meanwhile; --overwrite builds it anew")
                return
    seconds = time.monotonic() - start_s
    listed = ", ".join(f"{split} {count:,}" for split, count in made.items())
    print(f"{printable(named)}: {sum(made.values()):,} examples in {seconds:.1f} s ({listed})")
    if console.PART not in os.environ:
        print(
            f"train on it: python main.py --config configs/{builder.config_name}.py "
            f"--config.{builder.config_section}.dir={shlex.quote(os.fspath(named))} "
            f"--config.model.image_size={builder.info.features['image'].shape[0]}"
        )


_ASIDE = "-old"


def _resolved(out: Path) -> Path:
    """`out` without links: a link stays, and what it leads to is written."""
    shown = printable(out)
    if ":/" in str(out):  # gs://, s3://; pathlib folds the slashes.
        raise UserError(f"--out {shown}: use a path in a file system; object stores cannot rename a folder in one step")
    try:
        resolved = Path(out).resolve()
    except RuntimeError as error:  # so pathlib says it
        raise UserError(f"--out {shown} is a link that leads to itself: use another name") from error
    if not is_text(str(resolved)) or "**" in str(resolved):
        raise UserError(f"--out {shown}: tfds takes no path that is not UTF-8 or has ** in it: use another")
    return resolved


@contextlib.contextmanager
def _said_of(out: Path) -> Iterator[None]:
    """Turns what the file system says of a place that cannot be used into a line about --out."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--out {printable(out)} cannot be written ({error.strerror}): name a folder in one that is there, or can be made, and "
            "that you may write to"
        ) from error


def _is_dataset(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _FINISHED)


def _put(folder: Path, out: Path, overwrite: bool, aside: Path) -> bool:
    """Renames the folder to `out`, unless a data set is there that is to stay; returns whether it did.

    Raises:
      UserError: something else has come there since the build began.
    """
    with _lock(out.parent):
        if out.exists() and not _is_dataset(out):
            raise UserError(f"--out {printable(out)} appeared while this was built, and is not a dataset: name another folder")
        if out.exists() and not overwrite:
            return False
        if out.exists():
            out.rename(aside)  # killed before the next line, `out` is missing, and the next run puts it back
        try:
            folder.rename(out)
        except OSError:
            if aside.exists():
                aside.rename(out)
            raise
    shutil.rmtree(aside, ignore_errors=True)
    return True


@contextlib.contextmanager
def _temporary_sibling(out: Path) -> Iterator[Path]:
    """A locked hidden folder beside `out`; what dead runs have left there is removed first, and this one at the end.

    The lock is the kernel's and dies with its process, so neither a kill -9 nor a reused process id misleads the next run.
    """
    prefix = f".{out.name}.tmp-"
    # Not by a glob: a name may hold brackets, or begin like another's.
    ours = re.compile(re.escape(prefix) + r"\w+(-old)?")
    with contextlib.ExitStack() as stack:
        with _said_of(out):
            stack.callback(_remove_empty, [folder for folder in out.parents if not folder.exists()])
            out.parent.mkdir(parents=True, exist_ok=True)
            with _lock(out.parent):  # held for a moment: no other run may see this folder before it is locked
                for stale in sorted(path for path in out.parent.iterdir() if ours.fullmatch(path.name) and path.is_dir()):
                    _remove_if_dead(stale, out)
                temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=out.parent))
                stack.enter_context(_lock(temporary))
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        yield temporary


def _remove_empty(folders: list[Path]) -> None:
    """Removes those that hold nothing, innermost first: they were made for a build that came to nothing."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _remove_if_dead(stale: Path, out: Path) -> None:
    is_aside = stale.name.endswith(_ASIDE)
    if is_aside and not out.exists() and _is_dataset(stale):
        stale.rename(out)
        return
    with contextlib.suppress(OSError), _lock(stale, blocking=False):  # Locked by a run at work, or another user's.
        shutil.rmtree(stale, ignore_errors=True)


@contextlib.contextmanager
def _lock(folder: Path, blocking: bool = True) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _beam_options(text: str | None):
    if text is None:
        return None
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError(f"--beam needs Apache Beam ({error}): pip install 'holotf[beam]'") from error
    return PipelineOptions(shlex.split(text))
