"""What is asked of a model, whoever asks and in whichever format: endpoints, and pictures of objects."""

import asyncio
import dataclasses
from collections.abc import Mapping

import numpy as np
from starlette.exceptions import HTTPException

from holotf import surface
from holotf.serving.batching import Batcher
from holotf.serving.exported import Endpoint, Exported
from holotf.serving.metrics import Metrics
from holotf.serving.volumes import Volumes
from holotf.views import COLUMNS

_SEEDS = 4096  # latents of so many seeds are remembered


@dataclasses.dataclass
class _Coming:
    """A volume that is being made."""

    task: asyncio.Task
    waiting: int = 0  # how many want it


class Service:
    """An export's endpoints behind one queue, and the objects that were turned last.

    Where the export has `volume` and `render`, `generate` is done by these two, without the first for objects that are kept.

    Args:
      exported: the model.
      batch: rows that are worked on at once, at most, and that one request may have.
      wait_s: for which a request waits for others to be joined with.
      volumes_bytes: of objects that are kept; 0 for none.
      metrics: that is told what happens.
    """

    def __init__(self, exported: Exported, batch: int, wait_s: float, volumes_bytes: int, metrics: Metrics):
        self.exported, self.batch, self._metrics = exported, batch, metrics
        self._ask = Batcher(batch, wait_s, metrics.batch)
        self._volumes = Volumes(volumes_bytes)
        self._coming: dict[bytes, _Coming] = {}
        self._seeds: dict[int, np.ndarray] = {}
        self._halves = bool(volumes_bytes) and {"generate", "volume", "render"} <= exported.endpoints.keys()

    async def close(self) -> None:
        """To be called when nobody asks any more."""
        await asyncio.gather(*(coming.task for coming in self._coming.values()), return_exceptions=True)
        await self._ask.close()

    async def predict(self, endpoint: Endpoint, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """An endpoint's outputs.

        Raises:
          HTTPException: 400: the endpoint refuses an input, or there are too many rows.
        """
        rows = endpoint.rows(feeds)
        if rows > self.batch:
            raise HTTPException(400, f"Task size {rows} is larger than maximum input batch size {self.batch}")
        if self._halves and endpoint.name == "generate" and self._each_has_views(feeds):
            views = {key: value for key, value in feeds.items() if key != "z"}
            z = feeds["z"].repeat(rows // len(feeds["z"]), axis=0)
            volumes = await asyncio.gather(*map(self._volume, z))
            return await self._ask(self.exported.endpoints["render"], {"volume": np.stack(volumes), "z": z, **views})
        return await self._ask(endpoint, feeds)

    @staticmethod
    def _each_has_views(feeds):
        """Whether every latent has equally many views; where not, `generate` itself says what is wrong."""
        views = {len(value) for key, value in feeds.items() if key != "z"}
        return len(views) == 1 and len(feeds["z"]) > 0 and min(views) > 0 and min(views) % len(feeds["z"]) == 0

    async def _volume(self, z):
        """The volume of one latent [Z], kept or made; those who ask at the same time wait for the same one, until all have gone."""
        latent = z.tobytes()
        if (kept := self._volumes.get(latent)) is not None:
            self._metrics.volume(kept=True)
            return kept
        self._metrics.volume(kept=False)
        if latent not in self._coming:
            self._coming[latent] = _Coming(asyncio.create_task(self._make(z, latent)))
        coming = self._coming[latent]
        coming.waiting += 1
        try:
            return await asyncio.shield(coming.task)  # others may want it, even if the one who asked first has gone
        finally:
            coming.waiting -= 1
            if not coming.waiting:
                del self._coming[latent]
                coming.task.cancel()  # where it is not done, nobody wants it any more

    async def _make(self, z, latent):
        outputs = await self._ask(self.exported.endpoints["volume"], {"z": z[np.newaxis]})
        volume = outputs["volume"][0].copy()  # not a part of the batch, which would be kept whole
        self._volumes.put(latent, volume)
        self._metrics.volumes(len(self._volumes), self._volumes.bytes)
        return volume

    async def latent(self, seed: int) -> np.ndarray:
        """The object that `--mode generate` draws of a seed: [Z].

        Raises:
          HTTPException: 400: a seed out of range, or an export that has no such endpoint.
        """
        if seed not in self._seeds:
            if "latents" not in self.exported.endpoints:
                raise HTTPException(400, "seed: this export has no endpoint latents: give z, or export the run again")
            if not -(2**63) <= seed < 2**63:
                raise HTTPException(400, "seed: use 0 to 2147483647")
            outputs = await self._ask(self.exported.endpoints["latents"], {"seed": np.array([seed], np.int64)})
            while len(self._seeds) >= _SEEDS:
                del self._seeds[next(iter(self._seeds))]
            self._seeds[seed] = outputs["z"][0].copy()
        return self._seeds[seed]

    async def pictures(self, z: np.ndarray, others: Mapping[str, np.ndarray]) -> np.ndarray:
        """Images of one object.

        Args:
          z: [Z].
          others: what the endpoint takes beside z: {input: [n, ...]}.

        Returns:
          uint8 [n, H, W, 3]; n may be larger than a batch.

        Raises:
          HTTPException: 400, as from `predict`.
        """
        parts = []
        for n, part in self._parts(others):
            latents = np.repeat(z[np.newaxis], n, axis=0)
            parts.append((await self.predict(self.exported.pictured, {"z": latents, **part}))["images"])
        return np.concatenate(parts)

    async def depths(self, z: np.ndarray, views: Mapping[str, np.ndarray]) -> np.ndarray:
        """How near one object is, of an export that shows depth: under the arguments of `pictures`, float32 [n, h, w]."""
        volume, parts = await self._volume(z), []
        for _, part in self._parts(views):
            parts.append((await self._ask(self.exported.endpoints["depth"], part | {"volume": volume[np.newaxis]}))["depth"])
        return np.concatenate(parts)

    async def measured(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What `holotf.surface.mesh` takes, of one object [Z] of an export that makes meshes."""
        volume = await self._volume(z)
        density = (await self._ask(self.exported.endpoints["density"], {"volume": volume[np.newaxis]}))["density"][0]
        asked = surface.photographed(self.exported.card["views"]["ranges"])
        columns = dict(zip(COLUMNS, asked.T, strict=True))
        translation = np.stack([columns.pop(axis) for axis in "xyz"], axis=1)
        return density, await self.pictures(z, columns | {"translation": translation}), asked

    def _parts(self, others):
        """What is asked for, in parts of a batch at most: (rows, {input: rows of it})."""
        n = max((len(value) for value in others.values()), default=1)
        for first in range(0, n, self.batch):
            yield min(self.batch, n - first), {key: value[first : first + self.batch] for key, value in others.items()}
