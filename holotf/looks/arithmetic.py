"""Do latents add and subtract? An object, less the mean latent of its attribute, plus that of another: did only this change?

Source: Radford et al. 2015 (arXiv 1511.06434), section 6.3.2, who judged by eye. Here a reader judges, which learnt the attributes
from the data's labels, and beside each difference there is another of its length in a direction drawn at random.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from holotf.evaluators import Evaluator, attributes
from holotf.looks import made
from holotf.models.base import Generative
from holotf.models.conditional import Conditional
from holotf.pictures import SHEET_COLUMNS, captioned

MEMBERS = 10  # samples that a mean is of, at least
CASES = 200  # objects that are changed, of each attribute, at most
NOISE = 0.25  # of the neighbourhood shown: uniform, to either side
TOLD = ("moved", "kept", "both")


class Look(Evaluator):
    """`arithmetic/ATTRIBUTE_...` of each attribute of the data; shows `arithmetic`, a case of each with its neighbourhood.

    `moved`: the share of cases in which the attribute is then read as asked for; `kept`: in which all others are read as before;
    `both`; the same of differences of the same length drawn at random, `noise_moved` ...; `reader`: the share of held-out images
    that the reader reads right, and `common`, that of the most common class. One half of the samples makes the means, the other
    is changed. Objects that turn are read from four sides together. A model that is told labels is told the same ones afterwards.
    """

    MODEL = Generative

    def unfit(self) -> str | None:
        """Where there are no labels, or several data sets."""
        return attributes.unfit(self.subject, "arithmetic")

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields them."""
        subject, model = self.subject, self.subject.model
        read = attributes.reader(subject)
        latents = model.draw(subject.config.analyse.images, [subject.config.seed, 2])[0].numpy()
        before = read(made.from_all_sides(model, tf.constant(latents), "samples"))
        shown = []
        told = len(model.class_names) if isinstance(model, Conditional) else 0
        for attribute, names in read.classes.items():
            cases = Cases(latents, before[attribute], subject.config.seed, told)
            right = read.held_out[attribute]
            if not len(cases.objects):
                subject.note(f"arithmetic: of {attribute}, fewer than two values are read off {MEMBERS} samples or more")
                continue
            yield f"arithmetic/{attribute}_reader", right
            yield f"arithmetic/{attribute}_common", read.common[attribute]
            found = []
            for prefix, moves in (("", cases.differences), ("noise_", cases.noise)):
                changed = tf.constant(latents[cases.objects] + moves)
                after = read(made.from_all_sides(model, changed, f"{prefix}{attribute}".replace("_", " ")))
                scores = shares({k: v[cases.objects] for k, v in before.items()}, after, attribute, cases.targets)
                yield from ((f"arithmetic/{attribute}_{prefix}{name}", share) for name, share in scores.items())
                found.append(scores)
            subject.note(
                f"arithmetic: {attribute}, {len(cases.objects)} cases: it moved in {found[0]['moved']:.0%} (at random "
                f"{found[1]['moved']:.0%}), the others stayed in {found[0]['kept']:.0%} ({found[1]['kept']:.0%}), both in "
                f"{found[0]['both']:.0%} ({found[1]['both']:.0%}); the reader is right on {right:.0%} of {read.judged_on} images"
            )
            shown.append(self._case(attribute, names, latents, cases))
        if shown:
            subject.show({"arithmetic": np.concatenate(shown)})

    def _case(self, attribute, names, latents, cases):
        """The first case: both means, the object before and after, and its neighbourhood; a row for each side."""
        was, target = names[cases.sources[0]], names[cases.targets[0]]
        before = latents[cases.objects[0]]
        after = before + cases.differences[0]
        rng = np.random.default_rng(self.subject.config.seed)
        around = np.repeat(after[np.newaxis], SHEET_COLUMNS - 4, axis=0)
        around[:, : cases.free] += rng.uniform(-NOISE, NOISE, (len(around), cases.free))
        means = [cases.means[cases.targets[0]], cases.means[cases.sources[0]]]
        row = tf.constant(np.stack([*means, before, after, *around]), tf.float32)
        captions = [f"{attribute}:\n{target}", f"- {was}", f"+ {was}", f"= {target}?", "with noise"]
        captions += [""] * (SHEET_COLUMNS - len(captions))
        sides = made.from_all_sides(self.subject.model, row, "sheet")
        return captioned(np.concatenate(sides), captions * len(sides), SHEET_COLUMNS)


class Cases:
    """Objects whose attribute is to change, and by what.

    Args:
      latents: [N, Z].
      values: int [N], the attribute as it is read.
      seed: of the values asked for, and of the random differences.
      told: numbers at the end of a latent that say what is to be shown, which no difference touches.

    Attributes:
      free: numbers of a latent that are not told.
      means: {value: mean latent [Z]}, of the first half, where it has MEMBERS or more.
      objects: int [M], rows of the second half that have one of these values.
      sources, targets: int [M], the value of each and another, drawn from those that have a mean.
      differences: [M, Z], mean of the target less mean of the source.
      noise: [M, Z], of the same lengths, in directions drawn at random.
    """

    def __init__(self, latents: np.ndarray, values: np.ndarray, seed: int, told: int = 0):
        self.free = latents.shape[1] - told
        half, rng = len(latents) // 2, np.random.default_rng(seed)
        found, counts = np.unique(values[:half], return_counts=True)
        self.means = {v: latents[:half][values[:half] == v].mean(axis=0) for v in found[counts >= MEMBERS].tolist()}
        known = np.array(list(self.means), int)
        rows = half + np.flatnonzero(np.isin(values[half:], known)) if len(known) > 1 else np.empty(0, int)
        self.objects = rows[:CASES]
        self.sources = values[self.objects]
        self.targets = np.array([rng.choice(known[known != v]) for v in self.sources], int)
        pairs = zip(self.targets.tolist(), self.sources.tolist(), strict=True)
        self.differences = np.array([self.means[t] - self.means[s] for t, s in pairs], latents.dtype).reshape(-1, latents.shape[1])
        noise = rng.normal(size=self.differences.shape)
        for moves in (self.differences, noise):
            moves[:, self.free :] = 0.0
        lengths = [np.linalg.norm(moves, axis=-1, keepdims=True) for moves in (self.differences, noise)]
        self.noise = (noise * lengths[0] / lengths[1]).astype(latents.dtype)


def shares(before: dict[str, np.ndarray], after: dict[str, np.ndarray], attribute: str, targets: np.ndarray) -> dict[str, float]:
    """In which share of the cases an attribute became what it was to be, all others stayed what they were, and both.

    Args:
      before, after: {attribute: int [M]}.
      attribute: the one that was to change.
      targets: int [M].

    Returns:
      {"moved": ..., "kept": ..., "both": ...}, each 0 to 1.
    """
    moved = after[attribute] == targets
    others = [before[name] == after[name] for name in before if name != attribute]
    kept = np.all(others, axis=0) if others else np.ones_like(moved)
    return dict(zip(TOLD, (float(np.mean(x)) for x in (moved, kept, moved & kept)), strict=True))
