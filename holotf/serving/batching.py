"""Requests of different clients, worked on together."""

import asyncio
import collections
import concurrent.futures
import dataclasses
import logging
import re
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from starlette.exceptions import HTTPException

from holotf.serving.exported import Endpoint

_LOG = logging.getLogger("uvicorn.error")


@dataclasses.dataclass(eq=False)
class _Asked:
    endpoint: Endpoint
    feeds: dict[str, np.ndarray]
    rows: int | None  # None: not to be joined with others
    answer: asyncio.Future
    since: float


class Batcher:
    """One thread that calls the endpoints, the oldest request first, together with those that wait for the same endpoint.

    Requests are joined along their first axis where every input has the same number of rows and the endpoint works row by row.
    An endpoint that refuses a batch is asked again request by request, so nobody's answer depends on what others sent.

    Args:
      batch: rows of a batch, at most.
      wait_s: for which a request waits for others, counted from when it came.
      seen: function that is told (endpoint's name, rows, seconds) of each batch.
    """

    def __init__(self, batch: int, wait_s: float, seen: Callable[[str, int, float], None]):
        self._batch, self._wait_s, self._seen = batch, wait_s, seen
        self._waiting: collections.deque[_Asked] = collections.deque()
        self._came = asyncio.Event()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "tensorflow")
        self._runner = asyncio.create_task(self._run())

    async def __call__(self, endpoint: Endpoint, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The endpoint's outputs. A caller that is cancelled takes its request back, unless it is being worked on.

        Raises:
          HTTPException: 400 with what the endpoint says of an input; 500 where it broke.
        """
        lengths = {len(value) for value in feeds.values()} if endpoint.by_row else set()
        asked = _Asked(
            endpoint,
            feeds,
            lengths.pop() if len(lengths) == 1 else None,
            asyncio.get_running_loop().create_future(),
            time.monotonic(),
        )
        self._waiting.append(asked)
        self._came.set()
        return await asked.answer

    async def close(self) -> None:
        """Ends the thread; to be called when nobody waits any more."""
        self._runner.cancel()
        await asyncio.gather(self._runner, return_exceptions=True)
        self._thread.shutdown()

    async def _run(self):
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next()
            try:
                outcomes = await loop.run_in_executor(self._thread, self._work, batch)
            except Exception as error:  # such as memory for joining them: the next ones are worked on all the same
                outcomes = [_broken(batch[0].endpoint, error)] * len(batch)
            for asked, outcome in zip(batch, outcomes, strict=True):
                if asked.answer.cancelled():
                    continue
                if isinstance(outcome, Exception):
                    asked.answer.set_exception(outcome)
                else:
                    asked.answer.set_result(outcome)

    async def _next(self):
        """The requests to be worked on next: the oldest one, and those that can join it."""
        while True:
            while self._waiting and self._waiting[0].answer.cancelled():
                self._waiting.popleft()
            self._came.clear()
            if not self._waiting:
                await self._came.wait()
                continue
            batch = self._joined(self._waiting[0])
            left = self._waiting[0].since + self._wait_s - time.monotonic()
            if batch[0].rows is None or sum(a.rows for a in batch) >= self._batch or left <= 0:
                break
            try:
                async with asyncio.timeout(left):
                    await self._came.wait()
            except TimeoutError:
                continue
        self._waiting = collections.deque(a for a in self._waiting if not any(a is taken for taken in batch))
        return batch

    def _joined(self, first):
        batch, rows = [first], first.rows
        if rows is None:
            return batch
        for asked in list(self._waiting)[1:]:
            fits = asked.endpoint is first.endpoint and asked.rows is not None and rows + asked.rows <= self._batch
            if fits and not asked.answer.cancelled():
                batch.append(asked)
                rows += asked.rows
        return batch

    def _work(self, batch):
        """What each request of a batch gets: its outputs, or an exception. Runs in the thread."""
        started, endpoint = time.monotonic(), batch[0].endpoint
        if len(batch) == 1:
            outcomes = [self._outcome(endpoint, batch[0].feeds)]
        else:
            joined = {key: np.concatenate([asked.feeds[key] for asked in batch]) for key in endpoint.inputs}
            outputs = self._outcome(endpoint, joined)
            if isinstance(outputs, Exception):
                outcomes = [self._outcome(endpoint, asked.feeds) for asked in batch]
            else:
                ends = np.cumsum([asked.rows for asked in batch])[:-1]
                split = {key: np.split(value, ends) for key, value in outputs.items()}
                outcomes = [{key: parts[i] for key, parts in split.items()} for i in range(len(batch))]
        self._seen(endpoint.name, sum(endpoint.rows(asked.feeds) for asked in batch), time.monotonic() - started)
        return outcomes

    @staticmethod
    def _outcome(endpoint, feeds):
        try:
            return endpoint(feeds)
        except tf.errors.InvalidArgumentError as error:
            return HTTPException(400, said(error.message))
        except Exception as error:
            return _broken(endpoint, error)


def _broken(endpoint, error):
    _LOG.error("%s broke", endpoint.name, exc_info=error)
    return HTTPException(500, f"{endpoint.name}: {type(error).__name__}; the server's log says more")


def said(message: str) -> str:
    """What an endpoint says, out of TensorFlow's account of it: "assertion failed: [z: give one row or more] ..." and the like."""
    asserted = re.search(r"assertion failed: \[(.*?)\]", message)
    return asserted[1] if asserted else re.sub(r"\{\{.*?\}\} ?", "", message.partition("\n")[0])
