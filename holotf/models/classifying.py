"""What a classifier is: a `Classifying` model names what images show; and where the names of classes come from."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import data
from holotf.errors import UserError, require
from holotf.models.base import Learner
from holotf.servable import endpoint, serve


class Classifying(Learner):
    """A model that tells which class an image is of.

    A subclass has `logits`, and tells what is served by `served_variables`.

    Args:
      config: the whole experiment (configs/base.py); `model.classes` names the classes, or else the labels of the data do.

    Attributes:
      class_names: of the classes, in the order of their numbers.

    Raises:
      UserError: nothing names the classes, or `model.classes` names others than as many as the data have.
    """

    FEATURES = ("image", "label")
    LABELLED = None  # of several data sets, the one whose labels name the classes

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        source = config.data.sources[self.LABELLED] if self.LABELLED else config.data
        self.class_names = class_names(config, source, "label")

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 [B, H, W, 3] -> [B, classes] float32."""
        raise NotImplementedError

    def served_variables(self) -> Sequence[keras.Variable]:
        """The Keras variables that `logits` reads."""
        raise NotImplementedError

    @tf.function(autograph=False)
    def log_probabilities(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 [B, H, W, 3] -> [B, classes] float32."""
        return tf.nn.log_softmax(self.logits(images))

    def servable(self) -> tuple[tf.Module, dict]:
        """(module, signatures) to export: `endpoints`; `predict` is the default."""
        return serve(self.served_variables(), "predict", self.endpoints())

    def endpoints(self) -> dict:
        """`predict`: images -> the name of the most probable class, and all probabilities; a subclass adds."""
        size = self.config.model.image_size

        def predict(images):
            probabilities = tf.nn.softmax(self.logits(images))
            return {"classes": tf.gather(self.class_names, tf.argmax(probabilities, axis=-1)), "probabilities": probabilities}

        return {"predict": endpoint(predict, images=([None, size, size, 3], tf.uint8))}

    def meanings(self) -> dict[str, dict]:
        """And of what `predict` answers."""
        return super().meanings() | {
            "classes": {"meaning": "the most probable class, by name"},
            "probabilities": {"range": [0.0, 1.0], "meaning": "of each class, in the order of `classes`"},
        }


def class_names(config: ConfigDict, source: ConfigDict, feature: str) -> tuple[str, ...]:
    """Names of the classes that a feature of a data set tells apart: those of `model.classes`, or else of the data.

    Raises:
      UserError: as `Classifying`.
    """
    named = config.model.classes
    usable = isinstance(named, (tuple, list)) and all(isinstance(n, str) and n for n in named) and len(set(named)) == len(named)
    require(usable, "model.classes", named, "names, each once, such as ('cat', 'dog'), or () for those of the data's labels")
    try:
        labelled = data.class_names(data.Source(source, data.open_folder(source, whole=False)), feature)
    except UserError as error:
        if not named:
            raise UserError(f"model.classes=(): {error}; or name the classes here") from error
        labelled = None
    found = tuple(named or labelled or ())
    require(len(found) >= 2, "model.classes", named, "two or more names: the labels of the data have none")
    if labelled and len(found) != len(labelled):
        raise UserError(f"model.classes={named!r}: the labels of {source.dir} are {len(labelled)}: {', '.join(labelled)}")
    return found
