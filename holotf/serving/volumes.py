"""Objects that were made and are kept: the volumes before any turn, by latent."""

import collections

import numpy as np


class Volumes:
    """The volumes that were asked for last, of a bounded size together.

    Args:
      limit: bytes of all together, at most.
    """

    def __init__(self, limit: int):
        self.limit, self.bytes = limit, 0
        self._kept: collections.OrderedDict[bytes, np.ndarray] = collections.OrderedDict()

    def __len__(self):
        return len(self._kept)

    def get(self, latent: bytes) -> np.ndarray | None:
        """The volume of a latent, which counts as asked for; None where it is not kept."""
        if latent in self._kept:
            self._kept.move_to_end(latent)
        return self._kept.get(latent)

    def put(self, latent: bytes, volume: np.ndarray) -> None:
        """Keeps a volume, and drops those that nobody asked for the longest; one that is larger than the limit is not kept."""
        if volume.nbytes > self.limit or latent in self._kept:
            return
        self._kept[latent] = volume
        self.bytes += volume.nbytes
        while self.bytes > self.limit:
            self.bytes -= self._kept.popitem(last=False)[1].nbytes
