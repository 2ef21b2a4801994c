"""One model a file, found by its name: `config.model.name = "hologan"` is `holotf.models.hologan.build(config)`."""

import importlib

import keras
from ml_collections import ConfigDict

from holotf import discovery
from holotf.errors import require
from holotf.models.base import Learner


def build(config: ConfigDict) -> Learner:
    """The model that `config.model.name` names: a `holotf.models.base.Learner`.

    A model is a module of this package with a function `build(config)`.

    Raises:
      UserError: there is no such model; the message names those there are.
    """
    name, found = config.model.name, names()
    require(name in found, "model.name", name, f"one of {', '.join(found)}")
    return importlib.import_module(f"{__name__}.{name}").build(config)


def initial(config: ConfigDict) -> Learner:
    """The same before its first iteration: the weights that `config.seed` gives, from which a training of it starts."""
    keras.utils.set_random_seed(config.seed)
    return build(config)


def names() -> list[str]:
    """Names of the models there are."""
    return discovery.modules(__file__, "build")
