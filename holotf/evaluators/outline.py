"""Does the outline turn? Seen level, the outline from behind is the outline from the front, mirrored: no regressor is asked."""

from typing import ClassVar

import numpy as np

from holotf.evaluators import Evaluator, outlines
from holotf.models.base import Turnable


class Judge(Evaluator):
    """`outline/turn_share`: objects whose level outline is mirrored from the opposite side and from no other.

    It tells one turn from two, from three, from half a one and from none; not in which sense; and of an object whose left is like
    its right, whose front and back have the same level outline, not a turn from a swing through both sides and back. That a swing
    covers no degrees is seen by the regressors of `pose`, which look down on it: hence `pose/agreed_turn_share`. Real turntables,
    drawn level, are judged beside it. `outline/round_share` are too round to tell.
    """

    MODEL = Turnable
    BETTER: ClassVar = {"outline/turn_share": max, "outline/opposite_iou": max}

    def unfit(self):
        """It takes a full circle and a plain ground."""
        if not self.subject.model.turns_fully:
            return "no outline figures: views.azimuth_deg does not go round"
        if self.subject.settings.views % 2:
            return f"no outline figures: evaluate.views={self.subject.settings.views} is odd, so that no view has an opposite"
        if self.subject.ground is None:
            return "no outline figures: the images have no plain ground"
        return None

    def run(self):
        """Yields `outline/...`."""
        yield from self._scores("outline/", self.subject.level_sweep)
        real, _ = self.subject.level_turntables
        if real is not None:
            yield from self._scores("outline/real_", real)

    def _scores(self, prefix, sweep):
        overlaps = outlines.mirrored_overlaps(outlines.silhouettes(sweep, self.subject.ground))
        once, round_ = outlines.turns_once(overlaps)
        yield f"{prefix}turn_share", float(np.mean(once))
        yield f"{prefix}round_share", float(np.mean(round_))
        yield f"{prefix}opposite_iou", float(overlaps[:, overlaps.shape[1] // 2].mean())
