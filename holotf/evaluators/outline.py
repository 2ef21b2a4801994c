"""Does the outline turn? Seen level, the outline from behind is the outline from the front, mirrored: no regressor is asked."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from holotf.evaluators import Evaluator, outlines
from holotf.models.base import Turnable


class Judge(Evaluator):
    """`outline/turn_share`: objects whose level outline is mirrored from the opposite side and from no other.

    It tells one turn from none, from half a one, from two and from three; and, where the data look down on the objects, from a
    swing there and back. The sense of a turn no outline tells: that is left to the regressors, hence `pose/agreed_turn_share`. Real
    turntables, drawn level and from far away, are judged beside it. `outline/round_share` are too round to tell.
    """

    MODEL = Turnable
    BETTER: ClassVar = {"outline/turn_share": max}

    def unfit(self) -> str | None:
        """It takes a full circle and a plain ground."""
        if not self.subject.model.turns_fully:
            return "no outline figures: views.azimuth_deg does not go round"
        if self.subject.settings.views % 2:
            return f"no outline figures: evaluate.views={self.subject.settings.views} is odd, so that no view has an opposite"
        if self.subject.ground is None:
            return "no outline figures: the images have no plain ground"
        return None

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields `outline/...`."""
        subject = self.subject
        yield from self._scores("outline/", subject.level_sweep, subject.turns_by_outline)
        (level, _), (tilted, _) = subject.level_turntables, subject.turntables
        if level is not None:
            yield from self._scores("outline/real_", level, subject.outline_turns(level, tilted))

    def _scores(self, prefix, level, turns):
        once, round_ = turns
        overlaps = outlines.mirrored_overlaps(outlines.silhouettes(level, self.subject.ground))
        yield f"{prefix}turn_share", float(np.mean(once))
        yield f"{prefix}round_share", float(np.mean(round_))
        yield f"{prefix}opposite_iou", float(overlaps[:, overlaps.shape[1] // 2].mean())
