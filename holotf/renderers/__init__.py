"""What turns a volume into an image of features, one renderer a file: `config.model.renderer` names one.

A renderer is a module of this package with a class `Renderer`, a Keras layer: (volume [B, D, H, W, C], views [B, 6]) -> a dict of
float tensors. "features" [B, H, W, filters] is what the 2D network goes on with; a renderer that composites gives more.
"""

import importlib
import pkgutil
from collections.abc import Sequence

import keras

from holotf.errors import UserError


def build(name: str, filters: int, negative_slope: float, convolutions: Sequence[int] = ()) -> keras.layers.Layer:
    """The renderer of that name.

    Args:
      name: a module of this package.
      filters: features that it gives at each pixel.
      negative_slope: of its leaky ReLUs; 0 is a ReLU.
      convolutions: widths of 3D convolutions between the turn and the image, as published networks have them.

    Raises:
      UserError: there is no such renderer, or it can have no such convolutions.
    """
    found = sorted(m.name for m in pkgutil.iter_modules(__path__))
    if name not in found:
        raise UserError(f"model.renderer={name!r}: use one of {', '.join(found)}")
    return importlib.import_module(f"{__name__}.{name}").Renderer(filters, negative_slope, convolutions)
