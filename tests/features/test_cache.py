"""Features are kept under a key that follows from what they were computed of."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from holotf.errors import UserError
from holotf.features import cached_features, content_key
from holotf.features.base import Extractor

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 24, 40, 3), np.uint8)


class Counting(Extractor):
    """Mean colours; counts the images it sees."""

    seen = 0

    def __init__(self, name="counting"):
        super().__init__(name, lambda images: tf.reduce_mean(tf.cast(images, tf.float32), [1, 2]))

    def __call__(self, images):
        self.seen += len(images)
        return super().__call__(images)


def test_cache_hit_returns_the_same_and_computes_nothing(tmp_path):
    def forbidden():
        raise AssertionError("the images were read again")
        yield

    count = Counting()
    first = cached_features(count, [IMAGES[:3], IMAGES[3:]], "key", tmp_path / "new" / "folder")
    np.testing.assert_array_equal(first, count(IMAGES))
    count.seen = 0
    again = cached_features(count, forbidden(), "key", tmp_path / "new" / "folder")
    assert count.seen == 0
    assert again.dtype == first.dtype == np.float32
    np.testing.assert_array_equal(again, first)
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["key.npz"]


def test_another_key_is_computed_anew(tmp_path):
    cached_features(Counting(), [IMAGES], "key", tmp_path)
    np.testing.assert_array_equal(cached_features(Counting(), [IMAGES[:2]], "other", tmp_path), Counting()(IMAGES[:2]))


def test_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        cached_features(Counting(), [IMAGES], "key", tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_cache_is_made_again(tmp_path):
    first = cached_features(Counting(), [IMAGES], "key", tmp_path)
    whole = (tmp_path / "key.npz").read_bytes()
    for size in (0, 20, len(whole) - 8):
        (tmp_path / "key.npz").write_bytes(whole[:size])
        np.testing.assert_array_equal(cached_features(Counting(), [IMAGES], "key", tmp_path), first)
        assert (tmp_path / "key.npz").read_bytes() == whole


def test_no_images_are_refused(tmp_path):
    with pytest.raises(UserError, match="features of no images"):
        cached_features(Counting(), [], "key", tmp_path)


def test_key_follows_from_the_content_and_the_extractor(tmp_path, squares):
    shards = sorted(pathlib.Path(squares).glob("*.tfrecord*"))
    assert shards
    key = content_key("a", shards)
    moved = []
    for shard in shards:
        moved.append(tmp_path / shard.name)
        moved[-1].write_bytes(shard.read_bytes())
    assert content_key("a", moved) == key  # wherever it lies
    assert content_key("b", moved) != key
    assert content_key("a", moved, "train[:10]") != key
    assert content_key("a", [*moved, moved[0]]) != key
    with open(moved[0], "r+b") as shard:
        shard.seek(100)
        byte = shard.read(1)
        shard.seek(100)
        shard.write(bytes([byte[0] ^ 1]))
    assert content_key("a", moved) != key
