"""The projection unit: a volume becomes an image of features."""

import keras
import tensorflow as tf

from holotf.layers.convolution import Conv2D
from holotf.layers.normalise import leaky_relu


class Projection(keras.layers.Layer):
    """Depth and channels are merged and mixed by a 1x1 convolution, which learns visibility: which depth hides which.

    h = leaky(conv_1x1(reshape(x, [B, H, W, D C]))). Source: HoloGAN, section 3.2; RenderNet (Nguyen-Phuoc et al. 2018).

    Args:
      filters: output channels.
      negative_slope: of the leaky ReLU; 0 is a ReLU.
    """

    def __init__(self, filters, negative_slope, **kwargs):
        super().__init__(**kwargs)
        self.negative_slope = negative_slope
        self.mix = Conv2D(filters, 1)

    def build(self, input_shape):
        """Makes the weights."""
        batch, depth, height, width, channels = input_shape
        self.mix.build((batch, height, width, depth * channels))

    def call(self, x):
        """[B, D, H, W, C] -> [B, H, W, filters]."""
        _, depth, height, width, channels = x.shape
        x = tf.transpose(x, [0, 2, 3, 1, 4])  # [B,D,H,W,C] -> [B,H,W,D,C]
        x = tf.reshape(x, [-1, height, width, depth * channels])  # [B,H,W,D,C] -> [B,H,W,D*C]
        return leaky_relu(self.mix(x), self.negative_slope)
