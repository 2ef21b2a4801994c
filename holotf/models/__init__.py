"""One model a file, found by its name: `config.model.name = "hologan"` is `holotf.models.hologan.build(config)`."""

import importlib
import pkgutil

from holotf.errors import UserError


def build(config):
    """The model that `config.model.name` names.

    A model is a module of this package with a function `build(config) -> keras.Model`.

    Raises:
      UserError: there is no such model; the message names those there are.
    """
    name = config.model.name
    if name not in (found := names()):
        raise UserError(f"model.name={name!r}: use one of {', '.join(found)}")
    return importlib.import_module(f"{__name__}.{name}").build(config)


def names():
    """Names of the models there are: the modules here that say what they build."""
    modules = (m.name for m in pkgutil.iter_modules(__path__))
    return sorted(m for m in modules if hasattr(importlib.import_module(f"{__name__}.{m}"), "build"))
