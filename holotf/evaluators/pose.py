"""Does it turn? Poses read off generated sweeps by a regressor that was trained on labelled renders."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from holotf.evaluators import Evaluator
from holotf.evaluators.angles import wrap
from holotf.models.base import Turnable

JUDGES = ("", "silhouette_")  # by pixels and by silhouettes
SHOWN_OF_REAL = ("azimuth_mae_deg", "monotonicity", "coverage_deg", "full_turn_share")


class Judge(Evaluator):
    """`pose/...`, as a regressor on pixels reads it, and `pose/silhouette_...`, as one on silhouettes does.

    Where an object is plain, pixels tell front from back no better than its outline does, and a regressor that learnt from shading
    misreads them. `pose/agreed_turn_share` counts the objects that turn exactly once by the pixels and by their outlines.
    """

    MODEL = Turnable
    BETTER: ClassVar = {
        "pose/azimuth_mae_deg": min,
        "pose/coverage_deg": max,
        "pose/full_turn_share": max,
        "pose/agreed_turn_share": max,
        "pose/monotonicity": max,
        "pose/correlation": max,
        "pose/elevation_mae_deg": min,
        "pose/elevation_correlation": max,
        "pose/silhouette_azimuth_mae_deg": min,
        "pose/silhouette_full_turn_share": max,
        "pose/silhouette_monotonicity": max,
    }

    def unfit(self) -> str | None:
        """It takes labels to learn from."""
        if not self.subject.poses_known:
            return f"no pose figures: {self.subject.config.data.dir} has no azimuth_deg and elevation_deg to learn from"
        return None

    def measures(self) -> list[str]:
        """Those of the elevation where there is a range of it, the others where views go round; by outlines on a plain ground."""
        (low, high), turns = self.subject.config.views.elevation_deg, self.subject.model.turns_fully
        plain = turns and self.subject.ground is not None
        there = {"elevation": high > low, "silhouette": plain, "agreed": plain}
        return [name for name in self.BETTER if next((there[what] for what in there if what in name), turns)]

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields `pose/...`."""
        subject, turns = self.subject, {}
        for kind in JUDGES:
            if kind and subject.ground is None:
                subject.note("no silhouettes to read poses from: the images have no plain ground")
                continue
            read = subject.reader(silhouettes=bool(kind))
            yield from self._regressor(kind, read)
            if subject.model.turns_fully:
                scores, each = azimuth_scores(read(subject.sweep)[0], subject.asked_deg)
                turns[kind] = np.round(each["coverage_deg"] / 360.0) == 1
                yield from ((f"pose/{kind}{name}", value) for name, value in scores.items())
                yield from self._real(kind, read)
                if not kind:
                    covered = ", ".join(f"{c:.0f}" for c in sorted(each["coverage_deg"]))
                    subject.note(f"degrees covered by each identity's sweep, sorted: {covered}")
            if not kind:
                yield from self._elevation(read)
        if not subject.model.turns_fully:
            subject.note("no azimuth figures: views.azimuth_deg does not go round")
        elif len(turns) == len(JUDGES):
            yield from self._agreed(*turns.values())

    def _regressor(self, kind, read):
        """How well the regressor reads real images: its error stands beside every figure."""
        yield from ((f"pose/{kind}regressor_{name}", value) for name, value in read.held_out.items())
        for split, found in read.elsewhere.items():
            yield f"pose/{kind}regressor_{split}_azimuth_mae_deg", found["azimuth_mae_deg"]
        what = "silhouettes" if kind else "pixels"
        self.subject.note(f"poses read off {what} with an azimuth error of {read.held_out['azimuth_mae_deg']:.1f} degrees")
        if read.held_out["ambiguous_share"] > 0.05:
            share = 100 * read.held_out["ambiguous_share"]
            self.subject.note(f"azimuth is ambiguous by {what}: {share:.0f} % of real images are misread by over 90 degrees")

    def _real(self, kind, read):
        """The same of real objects on a turntable."""
        real, sides = self.subject.turntables
        if real is not None:
            judged, _ = azimuth_scores(read(real)[0], sides)
            yield from ((f"pose/real_{kind}{name}", judged[name]) for name in SHOWN_OF_REAL)

    def _elevation(self, read):
        subject, (low, high) = self.subject, self.subject.config.views.elevation_deg
        if high > low:
            tilted = subject.model.sweep(subject.latents, "elevation_deg", subject.settings.views)
            scores = elevation_scores(read(tilted)[1], np.linspace(low, high, subject.settings.views))
            yield from ((f"pose/{name}", value) for name, value in scores.items())

    def _agreed(self, by_pixels, by_silhouettes):
        """What the judges agree on; and a note where they do not."""
        by_outline, _ = self.subject.turns_by_outline
        yield "pose/agreed_turn_share", float(np.mean(by_pixels & by_outline))
        for name, other in (("silhouettes", by_silhouettes), ("outlines", by_outline)):
            if (apart := np.mean(by_pixels != other)) > 0.1:
                self.subject.note(f"pixels and {name} disagree on whether {apart:.0%} of the identities turn once")


def azimuth_scores(read_deg: np.ndarray, asked_deg: np.ndarray) -> tuple[dict, dict]:
    """How well azimuth sweeps turn.

    An unsupervised generator may settle on a mirrored world and another zero, so one sign and one offset are fitted to all sweeps
    together. A step is the difference between neighbouring views, the last and the first among them, so a sweep's steps add up to
    whole turns. An object may turn more than once while the view does: each half of a chair then passes for the whole.

    Args:
      read_deg: [N, K] azimuths read off N sweeps of K views.
      asked_deg: [K] azimuths asked for, evenly round the circle.

    Returns:
      (scores, per identity). Scores: `sign` (+1 or -1), `azimuth_mae_deg`, `correlation` (circular, of
      read and asked; Fisher and Lee 1983), `monotonicity` (share of steps that turn the right way), `coverage_deg` (net
      degrees that a sweep covers, mean; swinging there and back is 0), `full_turn_share` (identities that turn round once,
      neither less nor more), `offset_spread_deg` (deviation of each identity's own offset). Per identity, arrays [N]:
      `coverage_deg`, `azimuth_mae_deg`, `offset_deg`.
    """
    steps = wrap(np.roll(read_deg, -1, axis=1) - read_deg)
    fits = [(*_fit(wrap(read_deg - sign * asked_deg)), sign) for sign in (1, -1)]
    error, own, sign = min(fits, key=lambda fit: np.abs(fit[0]).mean())
    net = sign * steps.sum(axis=1)
    scores = {
        "sign": float(sign),
        "azimuth_mae_deg": float(np.abs(error).mean()),
        "correlation": _circular_correlation(sign * read_deg, np.broadcast_to(asked_deg, read_deg.shape)),
        "monotonicity": float(np.mean(sign * steps > 0)),
        "coverage_deg": float(net.mean()),
        "full_turn_share": float(np.mean(np.round(net / 360.0) == 1)),
        "offset_spread_deg": float(np.sqrt(np.mean(own**2))),
    }
    return scores, {"coverage_deg": net, "azimuth_mae_deg": np.abs(error).mean(axis=1), "offset_deg": own}


def _fit(difference_deg):
    """Takes the mean direction off [N, K] angles: (what is left, each row's own mean direction)."""
    common = np.degrees(np.angle(np.exp(1j * np.radians(difference_deg)).mean()))
    left = wrap(difference_deg - common)
    return left, np.degrees(np.angle(np.exp(1j * np.radians(left)).mean(axis=1)))


def _circular_correlation(a_deg, b_deg):
    """Fisher and Lee's T-linear correlation, sum over pairs sin(a_i - a_j) sin(b_i - b_j), normalised; 0 for a constant."""
    a, b = np.exp(1j * np.radians(a_deg.ravel())), np.exp(1j * np.radians(b_deg.ravel()))

    def pairs(u, v):  # sum_ij sin(u_i - u_j) sin(v_i - v_j) = (|sum u v*|^2 - |sum u v|^2) / 2
        return (abs(np.sum(u * v.conj())) ** 2 - abs(np.sum(u * v)) ** 2) / 2

    scale = np.sqrt(max(0.0, pairs(a, a) * pairs(b, b)))  # rounding
    return float(pairs(a, b) / scale) if scale > 1e-9 * len(a) ** 2 else 0.0


def elevation_scores(read_deg: np.ndarray, asked_deg: np.ndarray) -> dict:
    """How well elevation sweeps tilt: one sign and one offset fitted as for the azimuth.

    Args:
      read_deg: [N, K].
      asked_deg: [K].

    Returns:
      Dict: `elevation_mae_deg`, `elevation_correlation` (Pearson's, of the mean sweep and what was asked, in [-1, 1]).
    """
    fits = []
    for sign in (1, -1):
        error = read_deg - sign * asked_deg
        fits.append(np.abs(error - error.mean()).mean())
    mean = read_deg.mean(axis=0)
    correlation = np.corrcoef(mean, asked_deg)[0, 1] if mean.std() > 0 and np.std(asked_deg) > 0 else 0.0
    return {"elevation_mae_deg": float(min(fits)), "elevation_correlation": float(correlation)}
