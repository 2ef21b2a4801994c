"""Is one photograph among the training images more than once? As `data_prep folder --dedupe` finds it, which leaves copies out."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from holotf import console, duplicates
from holotf.evaluators import Evaluator, regressor
from holotf.models.base import Learner
from holotf.pictures import SHEET_COLUMNS, captioned

MOST = 50_000  # training images looked at
ROWS = 8  # of the sheet


class Look(Evaluator):
    """`duplicates/share`, of training images that `--dedupe` would leave out, and `duplicates/groups`; shows `duplicates`, if any.

    A row of the sheet is a group, the largest ones first: the image that stays, and others.
    """

    MODEL = Learner

    def unfit(self) -> str | None:
        """Where imagehash is not installed."""
        reason = duplicates.missing()
        return reason and f"no duplicates: it {reason}"

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields them."""
        subject = self.subject
        (images,) = regressor.labelled(subject.builder, subject.source.settings.split, count=MOST)
        if len(images) < subject.source.count:
            subject.note(f"duplicates: of {subject.source.count} training images, the first {len(images)} are looked at")
        with console.progress(total=len(images), desc="duplicates", unit=" images") as bar:
            seen = []
            for image in images:
                seen.append(duplicates.look_of(Image.fromarray(image)))
                bar.update()
        groups = sorted(duplicates.groups(seen), key=len, reverse=True)
        others = sum(len(group) - 1 for group in groups)
        subject.note(
            f"duplicates: {others} of {len(images)} training images are near-duplicates of others, in {len(groups)} groups"
        )
        yield "duplicates/share", others / len(images)
        yield "duplicates/groups", float(len(groups))
        if groups:
            subject.show({"duplicates": sheet(images, groups[:ROWS])})


def sheet(images: np.ndarray, groups: list[list[int]]) -> np.ndarray:
    """A group a row, as far as it has room, and how many there are: uint8 [N, H, W, 3], positions -> uint8 picture."""
    tiles, captions = [], []
    for group in groups:
        shown = images[group[:SHEET_COLUMNS]]
        blank = np.full((SHEET_COLUMNS - len(shown), *images.shape[1:]), 255, np.uint8)
        tiles.append(np.concatenate([shown, blank]))
        captions += [f"{len(group)} alike", *[""] * (SHEET_COLUMNS - 1)]
    return captioned(np.concatenate(tiles), captions, SHEET_COLUMNS)
