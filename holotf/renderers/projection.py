"""The paper's renderer: the turned volume, then the projection unit, a 1x1 convolution over depth and channels.

It can read the angle of the view off the turned volume (the corners that turned out of it are empty), so nothing forces one turn
of the view to be one turn of the object: docs/decisions/0005-compositing.md.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from holotf.layers.convolution import Conv2D
from holotf.layers.initialisers import normal
from holotf.layers.normalise import leaky_relu
from holotf.layers.rigid import rigid_transform


class Projection(keras.layers.Layer):
    """Depth and channels are merged and mixed by a 1x1 convolution, which learns visibility: which depth hides which.

    h = leaky(conv_1x1(reshape(x, [B, H, W, D C]))). Source: HoloGAN, section 3.2; RenderNet (Nguyen-Phuoc et al. 2018).

    Args:
      filters: output channels.
      negative_slope: of the leaky ReLU; 0 is a ReLU.
    """

    def __init__(self, filters: int, negative_slope: float, **kwargs):
        super().__init__(**kwargs)
        self.negative_slope = negative_slope
        self.mix = Conv2D(filters, 1)

    def build(self, input_shape: tuple) -> None:
        """Makes the weights."""
        batch, depth, height, width, channels = input_shape
        self.mix.build((batch, height, width, depth * channels))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[B, D, H, W, C] -> [B, H, W, filters]."""
        _, depth, height, width, channels = x.shape
        x = tf.transpose(x, [0, 2, 3, 1, 4])  # [B,D,H,W,C] -> [B,H,W,D,C]
        x = tf.reshape(x, [-1, height, width, depth * channels])  # [B,H,W,D,C] -> [B,H,W,D*C]
        return leaky_relu(self.mix(x), self.negative_slope)


class Renderer(keras.layers.Layer):
    """Rigid transform -> [3D convolutions, 3^3, leaky ReLU] -> projection unit. Source: HoloGAN, sections 3.1 and 3.2.

    Args:
      filters: output channels.
      negative_slope: of the leaky ReLUs; 0 is a ReLU.
      convolutions: widths of the 3D convolutions.
    """

    def __init__(self, filters: int, negative_slope: float, convolutions: Sequence[int] = (), **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.negative_slope = negative_slope
        self.convolutions = [keras.layers.Conv3D(width, 3, padding="same", kernel_initializer=normal()) for width in convolutions]
        self.projection = Projection(filters, negative_slope)

    def call(self, volume: tf.Tensor, views: tf.Tensor) -> dict[str, tf.Tensor]:
        """Volume [B, D, H, W, C], views [B, 6] float32 -> {"features": [B, H, W, filters]}."""
        x = rigid_transform(volume, views)
        for convolution in self.convolutions:
            x = leaky_relu(convolution(x), self.negative_slope)
        return {"features": self.projection(x)}
