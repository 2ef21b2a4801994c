"""Requests that are joined: none gets another's answer, and none suffers from another's fault."""

import asyncio
import threading

import numpy as np
import pytest
import tensorflow as tf
from starlette.exceptions import HTTPException

from holotf.serving.batching import Batcher, said


class Double:
    """An endpoint of one input that refuses negative numbers, and notes its calls."""

    name, by_row, inputs = "double", True, ("x",)

    def __init__(self, by_row=True):
        self.by_row, self.calls, self.open = by_row, [], threading.Event()
        self.open.set()

    def rows(self, feeds):
        return len(feeds["x"])

    def __call__(self, feeds):
        self.open.wait(10)
        self.calls.append(feeds["x"].tolist())
        if min(feeds["x"]) == -2:
            raise MemoryError
        if min(feeds["x"]) < 0:
            raise tf.errors.InvalidArgumentError(None, None, "{{function_node f}} assertion failed: [x: use 0 or more] [Op:Assert]")
        return {"y": 2 * feeds["x"]}


def ask(*requests, batch=8, wait_s=0.05, endpoint=None):
    """(outcomes, batches seen) of requests made at once: lists of numbers."""
    endpoint, seen = endpoint or Double(), []

    async def main():
        batcher = Batcher(batch, wait_s, lambda name, rows, seconds: seen.append(rows))
        asked = [batcher(endpoint, {"x": np.array(request)}) for request in requests]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        await batcher.close()
        return [o if isinstance(o, Exception) else o["y"].tolist() for o in outcomes]

    return asyncio.run(main()), seen


def test_they_are_joined_up_to_the_size_of_a_batch_and_each_gets_its_own():
    outcomes, seen = ask([1], [2, 3], [4], [5, 6, 7], [8, 9], [10])
    assert outcomes == [[2], [4, 6], [8], [10, 12, 14], [16, 18], [20]]
    assert seen == [8, 2]


def test_what_cannot_be_joined_is_worked_on_alone():
    assert ask([1], [2], endpoint=Double(by_row=False))[1] == [1, 1]
    assert ask([1], [2], [3], batch=1)[1] == [1, 1, 1]


def test_a_batch_waits_for_others_no_longer_than_told():
    async def main(wait_s):
        endpoint = Double()
        batcher = Batcher(8, wait_s, lambda *_: None)
        first = asyncio.create_task(batcher(endpoint, {"x": np.array([1])}))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(batcher(endpoint, {"x": np.array([2])}))
        await asyncio.gather(first, second)
        await batcher.close()
        return endpoint.calls

    assert asyncio.run(main(0.0)) == [[1], [2]]
    assert asyncio.run(main(5.0 / 8)) == [[1, 2]]


def test_a_full_batch_waits_for_nobody():
    async def main():
        async with asyncio.timeout(5):
            batcher = Batcher(2, 60.0, lambda *_: None)
            await asyncio.gather(*(batcher(Double(), {"x": np.array([1, 2])}) for _ in range(3)))
            await batcher.close()

    asyncio.run(main())


@pytest.mark.parametrize(("bad", "status", "message"), [(-1, 400, "x: use 0 or more"), (-2, 500, "double: MemoryError")])
def test_a_request_that_is_refused_does_not_spoil_its_neighbours(bad, status, message, caplog):
    (before, refused, after), _ = ask([1], [bad], [2])
    assert (before, after) == ([2], [4])
    assert isinstance(refused, HTTPException)
    assert refused.status_code == status
    assert refused.detail.startswith(message)
    assert ("broke" in caplog.text) == (status == 500)


def test_whoever_has_gone_is_not_worked_for():
    endpoint = Double()

    async def main():
        batcher = Batcher(8, 0.0, lambda *_: None)
        endpoint.open.clear()
        first = asyncio.create_task(batcher(endpoint, {"x": np.array([1])}))
        await asyncio.sleep(0.05)
        gone, stays = (asyncio.create_task(batcher(endpoint, {"x": np.array([n])})) for n in (2, 3))
        await asyncio.sleep(0.05)
        gone.cancel()
        first.cancel()
        await asyncio.sleep(0)
        endpoint.open.set()
        assert (await stays)["y"] == [6]
        await batcher.close()

    asyncio.run(main())
    assert endpoint.calls == [[1], [3]]


def test_what_an_endpoint_says_is_taken_out_of_tensorflows_account():
    assert (
        said("{{function_node __inference_f_1}} assertion failed: [z: give one row or more] [Op:__f]") == "z: give one row or more"
    )
    assert said("{{function_node f}} Incompatible shapes: [2] vs. [3]\n\t [[{{node add}}]]") == "Incompatible shapes: [2] vs. [3]"
