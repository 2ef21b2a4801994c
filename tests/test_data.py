import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import small_config

from holotf import data
from holotf.errors import UserError


def batches(settings, size, *arguments, features=("image",), **options):
    return data.batches(data.open_sources(settings), features, size, *arguments, **options)


def numbers(settings, count, batch_size=8, **options):
    """Which images `count` batches hold: [count, batch]."""
    stream = batches(settings, 32, batch_size, options.pop("seed", 0), **options)
    return np.stack([b["image"][:, 0, 0, 0] for b in stream.take(count).as_numpy_iterator()])


@pytest.fixture
def settings(squares):
    return small_config(squares).data


def test_an_epoch_shows_every_image_once_in_a_new_order(settings):
    seen = numbers(settings, 24)  # two epochs of 96
    first, second = seen[:12].ravel(), seen[12:].ravel()
    assert sorted(first) == sorted(second) == list(range(96))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, np.arange(96))


def test_the_order_follows_from_the_seed_alone(settings):
    a = numbers(settings, 12)
    tf.random.set_seed(7)
    np.testing.assert_array_equal(numbers(settings, 12), a)
    assert not np.array_equal(numbers(settings, 12, seed=1), a)


@pytest.mark.parametrize("start", [5, 12, 17])
@pytest.mark.parametrize("flip", [False, True])
def test_starting_late_continues_the_stream(settings, start, flip):
    settings.flip = flip
    whole = list(batches(settings, 32, 8, 0).take(20).as_numpy_iterator())
    for a, b in zip(whole[start:], batches(settings, 32, 8, 0, start).take(20 - start).as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])


def test_images_are_the_uint8_pixels_that_were_written(settings):
    batch = next(iter(batches(settings, 32, 96, 0)))["image"].numpy()
    assert batch.dtype == np.uint8
    image = batch[batch[:, 0, 0, 0] == 5][0]
    rng = np.random.default_rng(5)
    y, x = rng.integers(4, 20, 2)
    np.testing.assert_array_equal(image[y, x], rng.integers(0, 200, 3))


def test_flips_are_off_by_default_and_mirror_half_the_images(settings):
    settings.flip = True
    batch = next(iter(batches(settings, 32, 96, 0)))["image"].numpy()
    corner_left, corner_right = ((batch[:, 0, i] != 255).any(-1) for i in (0, -1))
    assert 30 < corner_right.sum() < 66
    assert not (corner_left & corner_right).any()


def test_workers_share_every_global_batch_and_an_epoch_without_overlap(settings):
    whole = numbers(settings, 12)
    shares = [numbers(settings, 12, shard=(i, 2), replicas=2) for i in range(2)]
    assert shares[0].shape == (12, 4)
    for step in range(12):
        assert sorted(np.concatenate([s[step] for s in shares])) == sorted(whole[step])
    assert sorted(np.concatenate(shares, axis=None)) == list(range(96))


def test_a_shuffle_buffer_smaller_than_the_data_still_shows_all_once(settings):
    settings.shuffle_buffer = 10
    assert sorted(numbers(settings, 12).ravel()) == list(range(96))


@pytest.fixture
def copy(squares, tmp_path):
    folder = shutil.copytree(squares, tmp_path / "copy")
    shard = next(p for p in folder.iterdir() if ".tfrecord" in p.name)
    return small_config(folder).data, shard


def test_missing_folder_prints_the_command(tmp_path):
    settings = small_config(tmp_path / "none", **{"data.prepare": "blocks --size 32"}).data
    with pytest.raises(UserError, match=r"does not exist; make it with: python -m data_prep blocks --size 32 --out .*none"):
        batches(settings, 32, 8, 0)


def test_folder_without_data_set(tmp_path):
    with pytest.raises(UserError, match="holds no data set"):
        batches(small_config(tmp_path).data, 32, 8, 0)


def test_missing_and_truncated_shards_are_named(copy):
    settings, shard = copy
    size = os.path.getsize(shard)
    os.truncate(shard, size - 100)
    with pytest.raises(UserError, match=rf"{shard.name} is truncated, 95 of 96 records"):
        batches(settings, 32, 8, 0)
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name} is missing"):
        batches(settings, 32, 8, 0)
    shard.mkdir()
    with pytest.raises(UserError, match=f"{shard.name}: Is a directory: copy it again"):
        batches(settings, 32, 8, 0)


def test_a_flipped_bit_is_found_and_named(copy):
    settings, shard = copy
    content = bytearray(shard.read_bytes())
    content[len(content) // 2 + 40] ^= 1  # in a record's data, not in its header
    shard.write_bytes(content)
    with pytest.raises(tf.errors.DataLossError):
        list(batches(settings, 32, 96, 0).take(1))
    assert f"{shard.name} is corrupt at record" in str(data.damage(data.open_sources(settings)))


def test_whole_shards_are_not_called_corrupt(settings):
    assert data.damage(data.open_sources(settings)) is None


@pytest.mark.parametrize(
    ("change", "size", "batch", "message"),
    [
        ({}, 64, 8, r"model.image_size=64, but .* \(32, 32, 3\): .*--size 64"),
        ({}, 32, 97, r"train.batch_size=97, but .* holds 96 images"),
        ({"data.split": "test"}, 32, 8, r"data.split='test': .* has train"),
        ({"data.split": "train[:0]"}, 32, 8, r"data.split='train\[:0\]' .* is empty"),
        ({"data.split": "train[5:2]"}, 32, 8, r"data.split='train\[5:2\]' .* is empty"),
    ],
)
def test_what_does_not_fit_is_said(squares, change, size, batch, message):
    with pytest.raises(UserError, match=message):
        batches(small_config(squares, **change).data, size, batch, 0)


def test_a_batch_holds_the_features_that_are_asked_for(settings):
    batch = next(iter(batches(settings, 32, 8, 0, features=("image", "label"))))
    assert set(batch) == {"image", "label"}
    np.testing.assert_array_equal(batch["label"], batch["image"][:, 0, 0, 0] % 3)
    assert set(next(iter(batches(settings, 32, 8, 0, features=("label",))))) == {"label"}
    with pytest.raises(UserError, match=r"the model needs 'azimuth_deg', and .* has image, label: prepare data that have it"):
        batches(settings, 32, 8, 0, features=("image", "azimuth_deg"))


@pytest.fixture
def two(settings):
    config = small_config(settings.dir).data
    with config.unlocked():
        one = {key: value for key, value in config.items() if key != "sources"}
        config.sources = {"source": dict(one), "target": one | {"split": "train[:40]"}}
    return config


WANTED = {"source": ("image", "label"), "target": ("image",)}


def both(settings, count, start=0, **options):
    """Numbers of the images that `count` batches hold: {source: [count, batch]}."""
    found = list(batches(settings, 32, 8, 0, start, features=WANTED, **options).take(count).as_numpy_iterator())
    return {name: np.stack([batch[name]["image"][:, 0, 0, 0] for batch in found]) for name in found[0]}


def test_data_sets_side_by_side_have_orders_and_epochs_of_their_own(two):
    seen = both(two, 12)
    assert sorted(seen["source"].ravel()) == list(range(96))
    assert sorted(seen["target"][:5].ravel()) == sorted(seen["target"][5:10].ravel())
    assert len(set(seen["target"].ravel())) == 40
    two.sources.target.split = "train"
    alike = both(two, 12)
    assert not np.array_equal(alike["source"], alike["target"]), "the same data in the same order would be pairs"
    np.testing.assert_array_equal(alike["source"], seen["source"])


@pytest.mark.parametrize("start", [3, 7])
def test_data_sets_side_by_side_go_on_where_they_were(two, start):
    whole, late = both(two, 14), both(two, 14 - start, start)
    for name in WANTED:
        np.testing.assert_array_equal(whole[name][start:], late[name])


def test_sources_that_the_model_does_not_want_are_refused(settings, two):
    with pytest.raises(UserError, match=r"data.sources=\['source', 'target'\]: the model wants none"):
        batches(two, 32, 8, 0)
    with pytest.raises(UserError, match=r"data.sources=none: the model wants \['source', 'target'\]"):
        batches(settings, 32, 8, 0, features=WANTED)


def test_shards_are_walked_once(settings, monkeypatch):
    walked = []
    check = data._check_shard
    monkeypatch.setattr(data, "_check_shard", lambda path, expected: walked.append(path) or check(path, expected))
    sources = data.open_sources(settings)
    for _ in range(2):
        data.batches(sources, ("image",), 32, 8, 0)
    assert len(walked) == len(set(walked)) == 1
