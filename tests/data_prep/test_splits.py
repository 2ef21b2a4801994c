"""The flag --test, and cuts by hash."""

import pytest

from data_prep.splits import hash_of, parse_part
from data_prep.splits import test_below as bound_of
from holotf.errors import UserError


@pytest.mark.parametrize(
    ("text", "of_1000"), [("10%", 100), ("0%", 0), ("0", 0), ("1", 1), ("999", 999), ("12.5%", 125), (".1%", 1), ("99.9%", 999)]
)
def test_parts_are_read(text, of_1000):
    part = parse_part("--test", text)
    assert part.of(1000) == of_1000
    assert bool(part) == bool(of_1000)


@pytest.mark.parametrize("text", ["100%", "250%", "-1", "-1%", "0.1", "abc", "", "%", "nan%", "1e3", "1_000", "٣%x"])
def test_what_is_no_part_is_named(text):
    with pytest.raises(UserError, match=r"^--test .*: use a share below 100% such as 10%") as caught:
        parse_part("--test", text)
    assert str(caught.value).startswith(f"--test {text}: ")
    assert "\n" not in str(caught.value)


def test_a_part_leaves_something_to_train_on():
    assert parse_part("--test", "999").of(1000) == 999
    for text, total in (("1000", 1000), ("2000", 1000), ("99.99%", 1000), ("60%", 1)):
        with pytest.raises(UserError, match=rf"--test {text} of {total} meshes leaves none to train on: use at most {total - 1}"):
            parse_part("--test", text).of(total, "meshes")


def test_a_hash_tells_its_parts_apart():
    assert hash_of("ab", "c") != hash_of("a", "bc") != hash_of("abc")
    assert hash_of("chair", b"\0") == 0xD863D1F82F870580  # the same on every machine, for ever: else test would leak into train


def test_a_share_is_of_the_range_and_about_that_of_many():
    hashes = [hash_of(str(number)) for number in range(10_000)]
    bound = bound_of(hashes, parse_part("--test", "10%"))
    assert bound == bound_of([], parse_part("--test", "10%")), "which side one falls on depends on no other"
    assert abs(sum(one < bound for one in hashes) - 1000) < 100  # 3.3 standard deviations of a binomial


def test_a_number_is_met_and_only_copies_go_beyond_it():
    hashes = [hash_of(str(number)) for number in range(100)]
    assert sum(one < bound_of(hashes, parse_part("--test", "17")) for one in hashes) == 17
    assert bound_of(hashes, parse_part("--test", "0")) == 0
    twice = hashes * 2
    assert sum(one < bound_of(twice, parse_part("--test", "17")) for one in twice) == 18
