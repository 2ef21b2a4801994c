"""TFRecords -> batches: a tfds folder becomes an endless, reproducible stream of named features."""

import dataclasses
import hashlib
import os
import shlex
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from holotf import console
from holotf.errors import UserError, brief

_NEVER = 1 << 40  # epochs; the stream has no end of its own


def prepare_missing(folder: str, arguments: str, field: str = "data.prepare") -> None:
    """Runs data_prep where a folder is missing and there are arguments that make it.

    Args:
      folder: of the data set.
      arguments: of `python -m data_prep`, without --out; "" for none.
      field: of the config that holds them, for the error.

    Raises:
      UserError: data_prep failed; its own message stands above.
    """
    if arguments and not os.path.exists(folder):
        # A process of its own: renderers and TensorFlow do not share one.
        try:
            words = shlex.split(arguments)
        except ValueError as error:
            raise UserError(f"{field}={arguments!r}: {error}: write it as on a command line") from None
        if "\0" in folder + arguments:
            raise UserError(f"{field}={arguments!r} into {folder!r}: take the NUL out, which no command line can hold")
        command = [sys.executable, "-m", "data_prep", *words, "--out", folder]
        if subprocess.run(command, env=os.environ | {console.PART: "1"}, check=False).returncode:
            raise UserError(f"{field}={arguments!r} failed; what it needs is said above")


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set whose shards were found whole, and how it is to be read.

    Attributes:
      settings: `config.data`, or one of `config.data.sources`.
      builder: a `tfds.core.DatasetBuilder`.
      index: its place among the sources; each has an order of its own.
    """

    settings: ConfigDict
    builder: tfds.core.DatasetBuilder
    index: int = 0

    def of(self, split: str, **changes: Any) -> "Source":
        """The same data set, another split; `changes` are other settings that differ."""
        settings = ConfigDict(self.settings)
        settings.update(changes | {"split": split})
        return dataclasses.replace(self, settings=settings)

    @property
    def count(self) -> int:
        """Examples in the split."""
        return self.builder.info.splits[self.settings.split].num_examples

    def unseen(self, name: str) -> str | None:
        """`name`, where there is such a split and no image of it is one of `settings.split`; or None."""
        if not has_split(self.builder, name):
            return None
        parts = [self.builder.info.splits[split].file_instructions for split in (name, self.settings.split)]
        one, other = ([(p.filename, p.skip, p.skip + p.take) for p in found] for found in parts)
        shared = any(a[0] == b[0] and max(a[1], b[1]) < min(a[2], b[2]) for a in one for b in other)
        return None if shared else name


def open_sources(data: ConfigDict, whole: bool = True) -> Source | dict[str, Source]:
    """What a config names: a data set, or several that are read side by side.

    Args:
      data: `config.data`.
      whole: whether to find out if the shards are whole, which takes a walk over them.

    Returns:
      A `Source`, or {name: Source} where `data.sources` has any.

    Raises:
      UserError: as `open_folder`.
    """
    if not data.sources:
        return Source(data, open_folder(data, whole))
    return {name: Source(s, open_folder(s, whole), index) for index, (name, s) in enumerate(sorted(data.sources.items()))}


def open_folder(data: ConfigDict, whole: bool = True) -> tfds.core.DatasetBuilder:
    """The data set that data_prep (or tfds) wrote to a folder, its shards checked for completeness.

    Args:
      data: `config.data`.
      whole: False does without that check.

    Returns:
      A `tfds.core.DatasetBuilder`.

    Raises:
      UserError: no folder, no data set in it, no such split, an empty split, a missing or truncated shard.
    """
    if not os.path.exists(os.path.join(data.dir, "dataset_info.json")):
        # One line, whatever they hold.
        out = shlex.quote(data.dir) if data.dir and data.dir.isprintable() else "DIR"
        arguments = data.prepare if data.prepare and data.prepare.isprintable() else "folder --source YOUR_IMAGES --size SIZE"
        command = f"python -m data_prep {arguments} --out {out}"
        what = "holds no data set" if os.path.isdir(data.dir) else "does not exist"
        raise UserError(f"data.dir={data.dir!r} {what}; make it with: {command}")
    try:
        builder = tfds.builder_from_directory(data.dir)
        files = [s for split in builder.info.splits.values() for s in zip(split.filepaths, split.shard_lengths, strict=True)]
    except Exception as error:  # tfds and protobuf raise whatever a damaged file makes them raise
        what = f"dataset_info.json or features.json is damaged ({brief(error)})"
        raise UserError(f"data.dir={data.dir!r}: {what}: prepare it again") from error
    if not has_split(builder, data.split):
        raise UserError(f"data.split={data.split!r}: {data.dir} has {', '.join(builder.info.splits)}")
    if builder.info.splits[data.split].num_examples <= 0:  # of a slice that ends before it begins
        raise UserError(f"data.split={data.split!r} of {data.dir} is empty: prepare it again, or name another split")
    for path, expected in files if whole else ():
        _check_shard(os.fspath(path), expected)
    return builder


def open_beside(folder: str, field: str) -> tfds.core.DatasetBuilder:
    """A data set that is looked at beside the run's own, its shards checked.

    Args:
      folder: that data_prep (or tfds) wrote, with a split train.
      field: of the config that names it, for the error.

    Raises:
      UserError: no data set is there; and as `open_folder`.
    """
    if not os.path.exists(os.path.join(folder, "dataset_info.json")):
        raise UserError(f"{field}={folder!r} is no data set: name a folder that data_prep wrote")
    return open_folder(ConfigDict({"dir": folder, "prepare": "", "split": "train"}))


def has_split(builder: tfds.core.DatasetBuilder, name: str) -> bool:
    """Whether a data set has a split, such as test or train[90%:]."""
    try:
        builder.info.splits[name]
    except (KeyError, ValueError):
        return False
    return True


def shards(builder: tfds.core.DatasetBuilder, *names: str) -> list[str]:
    """Paths of the files that hold some splits."""
    return [os.fspath(path) for name in names for path in builder.info.splits[name].filepaths]


def class_names(source: Source, feature: str) -> tuple[str, ...] | None:
    """Names of the classes that a feature tells apart, one or several an image; None where it is of another sort, or not there."""
    found = dict(source.builder.info.features).get(feature)
    found = found.feature if isinstance(found, tfds.features.Sequence) else found
    return tuple(found.names) if isinstance(found, tfds.features.ClassLabel) else None


def of_example(builder: tfds.core.DatasetBuilder, example: dict[str, tf.Tensor], names: Sequence[str]) -> dict[str, tf.Tensor]:
    """Features of an example by their names, labels of which there may be several as a row: float32 [K], 1 for those it has."""
    found = {}
    for name in names:
        feature, value = builder.info.features[name], example[name]
        if isinstance(feature, tfds.features.Sequence) and isinstance(feature.feature, tfds.features.ClassLabel):
            each = tf.one_hot(value, feature.feature.num_classes)  # [labels,K]
            value = tf.minimum(tf.reduce_sum(each, axis=0), 1.0)
        found[name] = value
    return found


def batches(
    sources: Source | dict[str, Source],
    features: Sequence[str] | dict[str, Sequence[str]],
    image_size: int,
    batch_size: int,
    seed: int,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
    replicas: int = 1,
) -> tf.data.Dataset:
    """Batches of named features, for ever.

    The order is a function of (seed, epoch), so the position in the data is the number of batches seen, and nothing else has to
    be stored to resume: batch `start` comes first, equal to the one an uninterrupted run would see. Images that do not fill a
    last batch open the next epoch. With several workers each decodes its own share of every global batch, and no image is seen
    twice in an epoch.

    Args:
      sources: what `open_sources` gave.
      features: names of those that a batch is to hold, "image" among them or not; {source: names} for several sources.
      image_size: px, what the model wants.
      batch_size: of the global batch, from each source.
      seed: of order and flips.
      start: global batches to pass over.
      shard: (index, count) of this worker.
      replicas: over all workers; each takes one element of the data set a step.

    Returns:
      A `tf.data.Dataset` of {feature: [batch_size / replicas, ...]}, the image uint8 [.., image_size, image_size, 3], a sequence
      of labels as `of_example` has it; of {source: {feature: ...}} for several sources.

    Raises:
      UserError: as `check`; a batch that the replicas cannot share.
    """
    check(sources, features, image_size, batch_size)
    if batch_size % replicas:
        raise UserError(f"train.batch_size={batch_size} cannot be shared by {replicas} replicas: use a multiple of {replicas}")
    if isinstance(sources, dict):
        each = {name: _examples(s, features[name], image_size, batch_size, seed, start, shard) for name, s in sources.items()}
        stream = tf.data.Dataset.zip(each)
    else:
        stream = _examples(sources, features, image_size, batch_size, seed, start, shard)
    return stream.batch(batch_size // replicas, drop_remainder=True).prefetch(2)


def _examples(source, features, image_size, batch_size, seed, start, shard):
    """One source's examples of this worker, in order: a `tf.data.Dataset` of {feature: tensor}."""
    data, count, (index, workers), position = source.settings, source.count, shard, start * batch_size
    read = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
    records = source.builder.as_dataset(data.split, decoders={"image": tfds.decode.SkipDecoding()}, read_config=read)
    records = records.map(lambda example: of_example(source.builder, example, features))

    def draw(*numbers):
        return [seed, *numbers] if source.index == 0 else tf.random.fold_in([seed, *numbers], source.index)

    def epoch(number):
        tf.random.set_seed(1)  # of this function's graph alone: the order is to follow from `order`, not from the global seed
        order = tf.random.stateless_uniform([], draw(number), None, None, tf.int64)
        shuffled = records.shuffle(min(count, data.shuffle_buffer), seed=order, reshuffle_each_iteration=False)
        return shuffled.skip(tf.where(number == position // count, tf.constant(position % count, tf.int64), 0))

    def decode(number, example):
        if "image" in example:
            image = tf.image.decode_image(example["image"], channels=3, expand_animations=False)
            image = tf.ensure_shape(image, [image_size, image_size, 3])
            if data.flip:
                image = tf.image.stateless_random_flip_left_right(image, tf.random.fold_in(draw(2), number))
            example = example | {"image": image}
        return example

    stream = tf.data.Dataset.range(position // count, _NEVER).flat_map(epoch).enumerate(start=position)
    return stream.shard(workers, index).map(decode, tf.data.AUTOTUNE, deterministic=True)


def check(
    sources: Source | dict[str, Source],
    features: Sequence[str] | dict[str, Sequence[str]],
    image_size: int,
    batch_size: int,
) -> None:
    """Finds what of the data does not fit the model, before anything is written. Arguments as of `batches`.

    Raises:
      UserError: a source or a feature that is not there; images of another size; fewer images than one batch; no buffer.
    """
    if isinstance(sources, dict) != isinstance(features, dict) or (isinstance(sources, dict) and set(sources) != set(features)):
        has, wants = (sorted(t) if isinstance(t, dict) else "none" for t in (sources, features))
        raise UserError(f"data.sources={has}: the model wants {wants}")
    for name in sources if isinstance(sources, dict) else ():
        _check_features(sources[name], features[name], image_size, batch_size)
    if not isinstance(sources, dict):
        _check_features(sources, features, image_size, batch_size)


def _check_features(source, features, image_size, batch_size):
    data, found = source.settings, source.builder.info.features
    for name in features:
        if name not in found:
            raise UserError(f"the model needs {name!r}, and {data.dir} has {', '.join(sorted(found))}: prepare data that have it")
    if "image" in features and tuple(found["image"].shape) != (image_size, image_size, 3):
        raise UserError(
            f"model.image_size={image_size}, but {data.dir} holds images of shape {tuple(found['image'].shape)}: "
            f"set model.image_size, or prepare the data with --size {image_size}"
        )
    if source.count < batch_size:
        raise UserError(f"train.batch_size={batch_size}, but {data.dir} holds {source.count} images: use at most {source.count}")
    if data.shuffle_buffer < 1:
        raise UserError(f"data.shuffle_buffer={data.shuffle_buffer}: use 1 (no shuffling) or more")


def fingerprints(sources: Source | dict[str, Source]) -> dict:
    """`fingerprint` of what `open_sources` gave: of the data set, or {name: ...} of several."""
    return {name: fingerprint(s) for name, s in sources.items()} if isinstance(sources, dict) else fingerprint(sources)


def fingerprint(source: Source) -> dict:
    """What tells one data set from another without reading its shards.

    Returns:
      Dict: name, version; splits {name: examples in each shard}; bytes {name: size of each shard}; sha256 of what describes it.

    Raises:
      UserError: a shard is missing.
    """
    info, folder = source.builder.info, source.settings.dir
    digest = hashlib.sha256()
    for name in ("dataset_info.json", "features.json"):
        with open(os.path.join(folder, name), "rb") as file:
            digest.update(file.read())
    return {
        "name": info.name,
        "version": str(info.version),
        "splits": {name: list(split.shard_lengths) for name, split in info.splits.items()},
        "bytes": {name: [_size(os.fspath(p)) for p in split.filepaths] for name, split in info.splits.items()},
        "sha256": digest.hexdigest(),
    }


def damage(sources: Source | dict[str, Source]) -> str | None:
    """What is wrong with the data, after reading them failed: the first shard or record that cannot be read, or None.

    Args:
      sources: what `open_sources` gave.
    """
    for source in sources.values() if isinstance(sources, dict) else [sources]:
        builder, folder = source.builder, source.settings.dir
        for split in builder.info.splits.values():
            for path, expected in zip(map(os.fspath, split.filepaths), split.shard_lengths, strict=True):
                if not os.path.exists(path):
                    found = "is gone"
                elif (found := _damaged_record(path, expected, builder.info.features)) is None:
                    continue
                return f"{path} {found}: copy it again from its source, or prepare {folder} again"
    return None


def _damaged_record(path, expected, features):
    """What is wrong with the first record of a shard (they count from 0) that is broken, or no image, or one of another size."""
    number = 0
    try:
        for record in tf.data.TFRecordDataset(path):
            example = features.deserialize_example(record, decoders={"image": tfds.decode.SkipDecoding()})
            if "image" in features:
                try:
                    shape = tuple(tf.io.decode_image(example["image"], channels=3, expand_animations=False).shape)
                except tf.errors.InvalidArgumentError:
                    return f"holds no image in record {number}"
                if shape != tuple(features["image"].shape):
                    return f"holds an image of shape {shape} in record {number}"
            number += 1
    except tf.errors.OpError:
        return f"is corrupt at record {number}"
    return None if number == expected else f"is truncated, {number} of {expected} records"


def _check_shard(path, expected):
    """Walks the record headers (8 bytes of length, 4 of CRC, the data, 4 of CRC) without reading the data."""
    found, size = 0, _size(path)
    try:
        with open(path, "rb") as shard:
            position = 0
            while position + 12 <= size:
                shard.seek(position)
                position += 16 + struct.unpack("<Q", shard.read(8))[0]
                found += position <= size
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: copy it again from its source, or prepare the data again") from None
    if found != expected or position != size:
        raise UserError(f"{path} is truncated, {found} of {expected} records: copy it again from its source, or prepare it again")


def _size(path):
    """Bytes of a shard."""
    if not os.path.exists(path):
        raise UserError(f"{path} is missing: copy it again from its source, or prepare the data again")
    return os.path.getsize(path)
