"""TFRecords -> batches: a tfds folder becomes an endless, reproducible stream of uint8 images."""

import os
import shlex
import struct
import subprocess
import sys

import tensorflow as tf
import tensorflow_datasets as tfds

from holotf.errors import UserError

_NEVER = 1 << 40  # epochs; the stream has no end of its own


def prepare_missing(folder, arguments, field="data.prepare"):
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
        command = [sys.executable, "-m", "data_prep", *shlex.split(arguments), "--out", folder]
        if subprocess.run(command, check=False).returncode:
            raise UserError(f"{field}={arguments!r} failed; what it needs is said above")


def open_folder(data):
    """The data set that data_prep (or tfds) wrote to a folder, its shards checked for completeness.

    Args:
      data: `config.data`.

    Returns:
      A `tfds.core.DatasetBuilder`.

    Raises:
      UserError: no folder, no data set in it, no such split, an empty split, a missing or truncated shard.
    """
    if not os.path.exists(os.path.join(data.dir, "dataset_info.json")):
        command = f"python -m data_prep {data.prepare or 'folder --source YOUR_IMAGES --size SIZE'} --out {data.dir or 'DIR'}"
        what = "holds no data set" if os.path.isdir(data.dir) else "does not exist"
        raise UserError(f"data.dir={data.dir!r} {what}; make it with: {command}")
    builder = tfds.builder_from_directory(data.dir)
    try:
        split = builder.info.splits[data.split]
    except (KeyError, ValueError):
        raise UserError(f"data.split={data.split!r}: {data.dir} has {', '.join(builder.info.splits)}") from None
    if split.num_examples == 0:
        raise UserError(f"data.split={data.split!r} of {data.dir} is empty: prepare it again, or name another split")
    for name in builder.info.splits:
        whole = builder.info.splits[name]
        for path, expected in zip(whole.filepaths, whole.shard_lengths, strict=True):
            _check_shard(os.fspath(path), expected)
    return builder


def batches(data, image_size, batch_size, seed, start=0, shard=(0, 1), replicas=1):
    """Batches of images, for ever.

    The order is a function of (seed, epoch), so the position in the data is the number of batches seen, and nothing else has to
    be stored to resume: batch `start` comes first, equal to the one an uninterrupted run would see. Images that do not fill a
    last batch open the next epoch. With several workers each decodes its own share of every global batch, and no image is seen
    twice in an epoch.

    Args:
      data: `config.data`.
      image_size: px, what the model wants.
      batch_size: of the global batch.
      seed: of order and flips.
      start: global batches to pass over.
      shard: (index, count) of this worker.
      replicas: over all workers; each takes one element of the data set a step.

    Returns:
      A `tf.data.Dataset` of uint8 [batch_size / replicas, image_size, image_size, 3].

    Raises:
      UserError: as `open_folder`; images of another size; fewer images than one batch.
    """
    builder = open_folder(data)
    shape = builder.info.features["image"].shape
    if tuple(shape) != (image_size, image_size, 3):
        raise UserError(
            f"model.image_size={image_size}, but {data.dir} holds images of shape {tuple(shape)}: "
            f"set model.image_size, or prepare the data with --size {image_size}"
        )
    count = builder.info.splits[data.split].num_examples
    if count < batch_size:
        raise UserError(f"train.batch_size={batch_size}, but {data.dir} holds {count} images: use at most {count}")
    if batch_size % replicas:
        raise UserError(f"train.batch_size={batch_size} cannot be shared by {replicas} replicas: use a multiple of {replicas}")
    index, workers = shard
    read = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
    records = builder.as_dataset(data.split, decoders={"image": tfds.decode.SkipDecoding()}, read_config=read)
    records = records.map(lambda example: example["image"])
    position = start * batch_size

    def epoch(number):
        tf.random.set_seed(1)  # of this function's graph alone: the order is to follow from `order`, not from the global seed
        order = tf.random.stateless_uniform([], [seed, number], None, None, tf.int64)
        shuffled = records.shuffle(min(count, data.shuffle_buffer), seed=order, reshuffle_each_iteration=False)
        return shuffled.skip(tf.where(number == position // count, tf.constant(position % count, tf.int64), 0))

    def decode(number, encoded):
        image = tf.image.decode_image(encoded, channels=3, expand_animations=False)
        image = tf.ensure_shape(image, shape)
        if data.flip:
            image = tf.image.stateless_random_flip_left_right(image, tf.random.fold_in([seed, 2], number))
        return image

    stream = tf.data.Dataset.range(position // count, _NEVER).flat_map(epoch).enumerate(start=position)
    stream = stream.shard(workers, index).map(decode, tf.data.AUTOTUNE, deterministic=True)
    return stream.batch(batch_size // replicas, drop_remainder=True).prefetch(2)


def corrupt_shard(data):
    """Names the first record that cannot be read: a `UserError` to raise when reading failed, or None if all are whole."""
    builder = tfds.builder_from_directory(data.dir)
    for path in (os.fspath(p) for split in builder.info.splits.values() for p in split.filepaths):
        number = 0
        try:
            for number, _ in enumerate(tf.data.TFRecordDataset(path), start=1):  # noqa: B007
                pass
        except tf.errors.DataLossError:
            return UserError(f"{path} is corrupt at record {number}: copy it again from its source, or prepare {data.dir} again")
    return None


def _check_shard(path, expected):
    """Walks the record headers (8 bytes of length, 4 of CRC, the data, 4 of CRC) without reading the data."""
    if not os.path.exists(path):
        raise UserError(f"{path} is missing: copy it again from its source, or prepare the data again")
    found, size = 0, os.path.getsize(path)
    with open(path, "rb") as shard:
        position = 0
        while position + 12 <= size:
            shard.seek(position)
            position += 16 + struct.unpack("<Q", shard.read(8))[0]
            found += position <= size
    if found != expected or position != size:
        raise UserError(f"{path} is truncated, {found} of {expected} records: copy it again from its source, or prepare it again")
