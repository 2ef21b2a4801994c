"""A pose estimator that is adapted as DANN adapts: labels of one domain, images of another."""

from typing import ClassVar

from ml_collections import ConfigDict

from holotf.models.adaptation import PoseAdapting
from holotf.models.dann import DomainAdversarial


class PoseDANN(DomainAdversarial, PoseAdapting):
    """`DomainAdversarial`, of a pose estimator."""

    PARTS: ClassVar = (*PoseAdapting.PARTS, *DomainAdversarial.DOMAIN_PARTS)


def build(config: ConfigDict) -> PoseDANN:
    """The model of an experiment. Raises `UserError` where the config asks for what cannot be."""
    return PoseDANN(config)
