"""The worker processes. Imports no TensorFlow itself: the workers import this module to find the functions."""

import functools
import os
import sys

import pytest

from data_prep import blocks, work


def square(number):
    return number * number, os.getpid()


def explode(number):
    if number == 3:
        raise ZeroDivisionError("three")
    return number


def blocks_and_tensorflow(task):
    views = {"azimuth_deg": (0, 360), "elevation_deg": (15, 35), "distance": (3.5, 3.5)}
    made = blocks.examples(task, seed=0, kinds=("chair",), views=views, size=16)
    return len(made), sorted(name for name in sys.modules if name.startswith("tensorflow"))


def test_results_come_in_order_from_other_processes():
    results = list(work.ordered_map(square, range(40), workers=2))
    assert [value for value, _ in results] == [n * n for n in range(40)]
    assert os.getpid() not in {pid for _, pid in results}


def test_no_workers_means_this_process():
    assert {pid for _, pid in work.ordered_map(square, range(3), workers=0)} == {os.getpid()}


def test_an_error_reaches_the_caller():
    with pytest.raises(ZeroDivisionError, match="three"):
        list(work.ordered_map(explode, range(40), workers=1))


def test_tasks_are_read_only_a_little_ahead():
    read = []
    results = work.ordered_map(functools.partial(int), (read.append(n) or n for n in range(1000)), workers=1)
    next(results)
    assert len(read) < 10
    results.close()


def test_ray_casting_workers_never_import_tensorflow():
    assert list(work.ordered_map(blocks_and_tensorflow, [(0, 2)], workers=1)) == [(2, [])]
