"""Models that read poses: from which side an image shows its object."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from holotf.errors import require
from holotf.models.base import Learner
from holotf.servable import endpoint, serve

LABELS = ("azimuth_deg", "elevation_deg")
ELEVATION_UNIT_DEG = 30.0  # brings elevations to the size of a cosine
SENSES = (1, -1)


class Posing(Learner):
    """A model that reads azimuth, elevation and how sure it is off an image.

    It gives (c, s, e), fitted by squared error to (cos a, sin a, elevation / 30 degrees): (c, s) is then the mean of the direction
    given the image, so that its angle is the azimuth and its length, at most 1, the **confidence**. This is the mean resultant
    length of the azimuths that the image leaves possible: 1 where it leaves one, 0 where it tells nothing or has a front that
    might as well be the back. Source: Mardia and Jupp 2000, "Directional Statistics", section 2.3.

    A subclass has `outputs`, and tells what is served by `served_variables`.

    Args:
      config: the whole experiment (configs/base.py). What is exported has the zero and the sense of `config.export`.

    Raises:
      UserError: a sense that is none, or an offset that is no angle.
    """

    FEATURES = ("image", *LABELS)

    def __init__(self, config: ConfigDict):
        offset, sense = config.export.azimuth_offset_deg, config.export.azimuth_sense
        require(abs(offset) <= 360.0, "export.azimuth_offset_deg", offset, "-360 to 360")
        require(sense in SENSES, "export.azimuth_sense", sense, "1 or -1")
        super().__init__(config)

    def outputs(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 [B, H, W, 3] -> (c, s, e) [B, 3] float32."""
        raise NotImplementedError

    def served_variables(self) -> Sequence[keras.Variable]:
        """The Keras variables that `outputs` reads."""
        raise NotImplementedError

    @tf.function(autograph=False)
    def poses(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """uint8 [B, H, W, 3] -> (azimuth_deg in [-180, 180], elevation_deg, confidence in [0, 1]), float32 [B] each."""
        outputs = self.outputs(images)
        return azimuth_of(outputs), outputs[:, 2] * ELEVATION_UNIT_DEG, confidence_of(outputs)

    def servable(self) -> tuple[tf.Module, dict]:
        """(module, signatures) to export: `endpoints`; `predict` is the default."""
        return serve(self.served_variables(), "predict", self.endpoints())

    def endpoints(self) -> dict:
        """`predict`: images -> sense * azimuth + offset in [0, 360], elevation, confidence; a subclass adds."""
        size, export = self.config.model.image_size, self.config.export

        def predict(images):
            azimuth, elevation, confidence = self.poses(images)
            azimuth = tf.math.floormod(export.azimuth_sense * azimuth + export.azimuth_offset_deg, 360.0)
            return {"azimuth_deg": azimuth, "elevation_deg": elevation, "confidence": confidence}

        return {"predict": endpoint(predict, images=([None, size, size, 3], tf.uint8))}

    def meanings(self) -> dict[str, dict]:
        """And of what `predict` answers."""
        return super().meanings() | {
            "azimuth_deg": {"range": [0.0, 360.0], "unit": "degrees", "meaning": "camera's, in the zero and sense of the labels"},
            "elevation_deg": {"unit": "degrees", "meaning": "camera's; positive looks down"},
            "confidence": {"range": [0.0, 1.0], "meaning": "length of the azimuth's mean direction: 0 where nothing is told"},
        }


def azimuth_of(outputs: tf.Tensor) -> tf.Tensor:
    """The angle of (c, s): [B, 3] -> degrees [B] in [-180, 180]."""
    return tf.atan2(outputs[:, 1], outputs[:, 0]) * (180.0 / math.pi)


def confidence_of(outputs: tf.Tensor) -> tf.Tensor:
    """min(1, |(c, s)|): [B, 3] -> [B] in [0, 1]."""
    return tf.minimum(tf.norm(outputs[:, :2], axis=1), 1.0)
