"""Can a photograph be found again in the generator, and does the view that is found tell how it was taken?"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from ml_collections import ConfigDict

from holotf import inversion
from holotf.errors import require
from holotf.evaluators import Evaluator, regressor
from holotf.evaluators.pose import azimuth_scores
from holotf.models.base import Turnable


class Judge(Evaluator):
    """`inversion/rmse` of pixels in [0, 255], and where the data say how they were taken, `inversion/azimuth_...`.

    Of `evaluate.photos` images that the model has not seen, where there are such. One sign and one offset of the azimuth are
    fitted to all of them together, as in `pose`.
    """

    MODEL = Turnable
    BETTER: ClassVar = {"inversion/rmse": min, "inversion/azimuth_mae_deg": min}

    @classmethod
    def check(cls, settings: ConfigDict) -> None:
        """The number of photographs."""
        require(settings.photos >= 0, "evaluate.photos", settings.photos, "0 for none, or how many")

    def unfit(self) -> str | None:
        """Why it cannot be asked of this model."""
        reason = self.subject.settings.photos and inversion.impossible(self.subject.model)
        return f"no inversion: {reason}" if reason else None

    def measures(self) -> list[str]:
        """None where `evaluate.photos` is 0, no azimuth where the data do not tell it."""
        known = self.subject.poses_known
        return [name for name in self.BETTER if self.subject.settings.photos and (known or "azimuth" not in name)]

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields `inversion/...`; nothing where `evaluate.photos` is 0."""
        subject, count = self.subject, self.subject.settings.photos
        if not count:
            return
        split = subject.unseen_split or subject.source.settings.split
        names = ("azimuth_deg", "elevation_deg") if subject.poses_known else ()
        images, *poses = regressor.labelled(subject.builder, split, *names, count=count)
        subject.note(f"inversion: of {len(images)} images of split {split}")
        found = [inversion.invert(subject.model, image) for image in images]
        yield "inversion/rmse", float(np.mean([f.error for f in found]))
        if poses:
            scores, _ = azimuth_scores(np.array([[f.view[0] for f in found]], np.float64), poses[0].astype(np.float64))
            yield "inversion/azimuth_mae_deg", scores["azimuth_mae_deg"]
            yield "inversion/azimuth_correlation", scores["correlation"]
            yield "inversion/elevation_mae_deg", float(np.mean(np.abs([f.view[1] for f in found] - poses[1])))
