"""What is worked on while who asks comes and goes: of a stand-in whose volumes take their time."""

import asyncio
import threading
import types

import numpy as np

from holotf.serving.metrics import Metrics
from holotf.serving.service import Service


class Volume:
    """An endpoint that is held up until it is opened, and notes which latents it was asked for."""

    name, by_row, inputs = "volume", True, ("z",)

    def __init__(self):
        self.made, self.open = [], threading.Event()

    def rows(self, feeds):
        return len(feeds["z"])

    def __call__(self, feeds):
        self.open.wait(10)
        self.made += feeds["z"][:, 0].tolist()
        return {"volume": feeds["z"]}


async def with_service(scenario):
    """Runs scenario(service, endpoint) on a service that works on one row at a time."""
    endpoint = Volume()
    endpoints = {"volume": endpoint, "render": endpoint, "generate": endpoint}
    service = Service(types.SimpleNamespace(endpoints=endpoints), 1, 0.0, 1 << 20, Metrics())
    try:
        return await scenario(service, endpoint)
    finally:
        endpoint.open.set()
        await service.close()


def latent(number):
    return np.array([number], np.float32)


async def gone(asked):
    for each in asked:
        each.cancel()
    await asyncio.gather(*asked, return_exceptions=True)


def test_objects_that_nobody_waits_for_any_more_are_not_made():
    async def scenario(service, endpoint):
        asked = [asyncio.create_task(service._volume(latent(n))) for n in range(6)]
        await asyncio.sleep(0.05)  # the first is being worked on, the others wait
        await gone(asked)
        endpoint.open.set()
        assert (await service._volume(latent(9))).tolist() == [9.0]
        assert not service._coming
        return endpoint.made

    made = asyncio.run(with_service(scenario))
    assert made in ([0.0, 9.0], [9.0])


def test_an_object_that_another_waits_for_is_made_though_the_first_has_gone():
    async def scenario(service, endpoint):
        first, second = (asyncio.create_task(service._volume(latent(n))) for n in (1, 1))
        other = asyncio.create_task(service._volume(latent(2)))
        await asyncio.sleep(0.05)
        await gone([first])
        endpoint.open.set()
        assert [(await task).tolist() for task in (second, other)] == [[1.0], [2.0]]
        assert (await service._volume(latent(1))).tolist() == [1.0]
        assert not service._coming
        return endpoint.made

    assert asyncio.run(with_service(scenario)) == [1.0, 2.0], "once, and then it is kept"


def test_what_fails_is_told_to_all_who_wait_and_made_anew_afterwards(monkeypatch):
    async def scenario(service, endpoint):
        endpoint.open.set()
        with monkeypatch.context() as broken:
            broken.setattr(Volume, "__call__", lambda *_: 1 / 0)
            outcomes = await asyncio.gather(*(service._volume(latent(1)) for _ in range(2)), return_exceptions=True)
        assert [outcome.status_code for outcome in outcomes] == [500, 500]
        return (await service._volume(latent(1))).tolist()

    assert asyncio.run(with_service(scenario)) == [1.0]
