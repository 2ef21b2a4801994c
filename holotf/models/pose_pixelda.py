"""A pose estimator that is adapted as PixelDA adapts: labels of one domain, images redrawn to look like those of another."""

from typing import ClassVar

from ml_collections import ConfigDict

from holotf.models.adaptation import PoseAdapting
from holotf.models.pixelda import PixelAdapting


class PosePixelDA(PixelAdapting, PoseAdapting):
    """`PixelAdapting`, of a pose estimator."""

    PARTS: ClassVar = (*PoseAdapting.PARTS, *PixelAdapting.DOMAIN_PARTS)


def build(config: ConfigDict) -> PosePixelDA:
    """The model of an experiment. Raises `UserError` where the config asks for what cannot be."""
    return PosePixelDA(config)
