"""What is judged: a model and the data beside it, and what several evaluators look at, made once."""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from holotf import data, features
from holotf.errors import UserError
from holotf.evaluators import outlines, regressor
from holotf.features.base import Extractor
from holotf.models.base import Learner

LEVEL = " --elevation 0,0 --distance 1000,1000"  # a camera far away: as good as orthographic


@functools.cache
def extractor(name: str) -> Extractor:
    """The feature extractor of that name, kept."""
    return features.extractor(name)


class Subject:
    """A model, its config, and what is drawn of it and of its data.

    Args:
      model: what is judged.
      config: the experiment; `config.evaluate` says how.
      show: function of {name: uint8 [H, W, 3]} that shows pictures, where they are to be seen.
      project: function that takes what `summaries.Board.project` does, where TensorBoard is to show it.

    Attributes:
      sources: the data: a `data.Source`, or {name: one} of several data sets side by side.
      source: the one that the model is judged on; all of several where it names none (`Learner.JUDGED`).
      show, project: the same; they do nothing where none was given.
      notes: what a reader of the figures has to know, in the order in which it was said.
      alarms: those of the notes that are to be seen at once.

    Raises:
      UserError: the data are not there, or not whole.
    """

    def __init__(
        self,
        model: Learner,
        config: ConfigDict,
        show: Callable[[dict[str, np.ndarray]], None] | None = None,
        project: Callable[[dict, dict, np.ndarray], None] | None = None,
    ):
        self.model, self.config, self.settings = model, config, config.evaluate
        self.show = show or (lambda pictures: None)
        self.project = project or (lambda vectors, labels, images: None)
        self.sources = data.open_sources(config.data)
        self.source = self.sources[model.JUDGED] if model.JUDGED else self.sources
        self.notes, self.alarms = [], []

    def note(self, text: str, alarm: bool = False) -> None:
        """Says something to the reader of the figures."""
        self.notes.append(text)
        if alarm:
            self.alarms.append(text)

    def threads(self) -> contextlib.AbstractContextManager:
        """A context in which scikit-learn, which has to be there, keeps to the threads that `config.device` gives."""
        from threadpoolctl import threadpool_limits  # scikit-learn's own

        return threadpool_limits(self.config.device.threads or None)

    @property
    def builder(self) -> tfds.core.DatasetBuilder:
        """The data set."""
        return self.source.builder

    @property
    def unseen_split(self) -> str | None:
        """The split that the model has not seen, if there is one: `evaluate.split`, unless images of it were trained on."""
        return self.source.unseen(self.settings.split)

    def split_to_judge(self, what: str) -> str:
        """The unseen split, or else that of training: it is then noted that `what` (such as "poses are of") images trained on."""
        if self.unseen_split is None:
            self.note(f"the data have no unseen split {self.settings.split!r}: {what} images that the model was trained on")
        return self.unseen_split or self.source.settings.split

    @property
    def judged_splits(self) -> list[str]:
        """The splits that networks which learn from the data's labels are judged on."""
        return [name for name in dict.fromkeys((self.settings.split, "unseen")) if self.source.unseen(name)]

    @property
    def poses_known(self) -> bool:
        """Whether the data say from where they were drawn."""
        return {"azimuth_deg", "elevation_deg"} <= set(self.builder.info.features)

    @functools.cached_property
    def extractor(self) -> Extractor:
        """The feature extractor that the config names."""
        return extractor(self.settings.extractor)

    def features(self, sweeps: np.ndarray) -> np.ndarray:
        """Features of uint8 [N, K, H, W, 3]: [N, K, F]."""
        return self.extractor(sweeps.reshape(-1, *sweeps.shape[2:])).reshape(*sweeps.shape[:2], -1)

    @functools.cached_property
    def latents(self) -> tf.Tensor:
        """Of the identities whose sweeps are judged."""
        return self.model.latents(range(self.settings.identities))

    @functools.cached_property
    def asked_deg(self) -> np.ndarray:
        """The azimuths of a sweep that closes the circle, from its first: [K]."""
        return np.arange(self.settings.views) * 360.0 / self.settings.views

    @functools.cached_property
    def sweep(self) -> np.ndarray:
        """Each identity from all sides: uint8 [N, K, H, W, 3]."""
        return self.model.sweep(self.latents, "azimuth_deg", self.settings.views)

    @functools.cached_property
    def level_sweep(self) -> np.ndarray:
        """The same, looked at horizontally."""
        return self.model.sweep(self.latents, "azimuth_deg", self.settings.views, elevation_deg=0.0)

    @functools.cached_property
    def turntables(self) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """Real objects from all sides, as `regressor.turntables` gives them; (None, None) where the config has none."""
        return self._turntables(self.settings.turntables)

    @functools.cached_property
    def level_turntables(self) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """The same, looked at horizontally and from far away."""
        return self._turntables(self.settings.turntables and self.settings.turntables + LEVEL)

    def _turntables(self, arguments):
        if not arguments:
            return None, None
        name = hashlib.sha256(arguments.encode()).hexdigest()[:16]
        folder = os.path.join(self.settings.cache, f"turntables-{name}")
        data.prepare_missing(folder, arguments, "evaluate.turntables")
        settings = ConfigDict({"dir": folder, "prepare": arguments, "split": "train"})
        real, sides = regressor.turntables(data.open_folder(settings), "train")
        size = self.config.model.image_size
        if real.shape[2] != size:
            raise UserError(f"evaluate.turntables={arguments!r} draws {real.shape[2]} px: add --size {size}")
        return real, sides

    @functools.cached_property
    def ground(self) -> np.ndarray | None:
        """The one colour behind all objects, uint8 [3], or None where there is none."""
        images, *_ = regressor.labelled(self.builder, self.config.data.split, count=500)
        return outlines.plain_ground(images)

    @functools.cached_property
    def turns_by_outline(self) -> tuple[np.ndarray, np.ndarray]:
        """Which identities turn once, and which are too round to tell, as `outlines.turns_once` says."""
        return self.outline_turns(self.level_sweep, self.sweep)

    def outline_turns(self, level: np.ndarray, tilted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`outlines.turns_once` of uint8 sweeps [N, K, H, W, 3], of which the second looks down as far as the data do."""
        looks_down = np.mean(self.config.views.elevation_deg) >= outlines.LOOKS_DOWN_DEG
        given = [level, tilted] if looks_down else [level]
        return outlines.turns_once(*(outlines.silhouettes(sweep, self.ground) for sweep in given))

    def reader(self, silhouettes: bool = False) -> regressor.PoseRegressor:
        """The pose regressor, on pixels or on silhouettes: from the cache, or trained."""
        return regressor.regressor(
            self.builder,
            self.config.data.split,
            self.judged_splits,
            self.settings.cache,
            self.ground if silhouettes else None,
        )
