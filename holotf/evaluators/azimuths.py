"""From which sides does the model think that the data were photographed? For models that learn it (`views.azimuth_parts`)."""

from collections.abc import Iterator

from holotf.evaluators import Evaluator, regressor
from holotf.evaluators.angles import arc
from holotf.models.base import Turnable

DRAWS = 4096  # views


class Judge(Evaluator):
    """`azimuths/arc_deg`, the shortest arc that holds nine tenths of the azimuths drawn; that of the data where they know theirs.

    Where an arc lies is the model's own choice, as azimuth 0 is; how long it is can be compared.
    """

    MODEL = Turnable

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields `azimuths/...`; nothing where azimuths are not learnt."""
        subject = self.subject
        if not subject.config.views.azimuth_parts:
            return
        _, drawn = subject.model.draw(DRAWS, [subject.config.seed, 0])
        yield "azimuths/arc_deg", arc(drawn[:, 0].numpy())
        if subject.poses_known:
            _, real = regressor.labelled(subject.builder, subject.config.data.split, "azimuth_deg", count=DRAWS)
            yield "azimuths/real_arc_deg", arc(real)
