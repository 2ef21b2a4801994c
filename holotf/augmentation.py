"""Training images as they might have been taken instead: moved, turned, blurred, drawn anew each time an image is shown.

`shift` moves every image, as a random crop of the padded image does (He et al. 2016, arXiv 1512.03385, section 4.2). `small` is
crop_pad and affine, each for half of the images; `significant` is these, and for each image up to five of LOOKS. Both are after the
small and the heavy example of imgaug's documentation (Jung et al. 2020), whose ranges are RANGES but for the blur's.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from holotf.pictures import captioned

KINDS = {"none": (), "shift": ("shift",), "small": ("crop_pad", "affine"), "significant": ("crop_pad", "affine")}  # their geometry
CHANCES = {"shift": 1.0, "crop_pad": 0.5, "affine": 0.5}
MOST = 5  # looks that one image gets at most; how many is uniform in 0 to 5

RANGES = {  # of what is drawn for an image, uniform in (low, high) and independent
    "shift": ((-0.125, 0.125),) * 2,  # along x, along y, in images; whole px
    "crop_pad": ((-0.05, 0.1),) * 4,  # left, right, top, bottom: shares of the image to add, black; below 0: to cut off
    "affine": (
        (0.8, 1.2),  # scale along x
        (0.8, 1.2),  # along y
        (-0.2, 0.2),  # translation along x, in images
        (-0.2, 0.2),  # along y
        (-45.0, 45.0),  # rotation in degrees, clockwise
        (-16.0, 16.0),  # shear in degrees
    ),
    "blur": ((0.0, 1.5),),  # standard deviation of the Gaussian in px
    "sharpen": ((0.0, 1.0), (0.75, 1.5)),  # share of the sharpened image in the mixture; its lightness
    "emboss": ((0.0, 1.0), (0.0, 2.0)),  # share of the embossed image in the mixture; its strength
    "noise": ((0.0, 0.05),),  # standard deviation, of the whole range of a pixel
    "pixel_dropout": ((0.01, 0.1),),  # share of the pixels that become black
    "brightness": ((-10 / 255, 10 / 255),),  # added
    "contrast": ((0.5, 2.0),),  # factor of the distance to middle grey
    "hue_saturation": ((-20 / 255, 20 / 255),) * 2,  # turns of the colour circle; added to the saturation
    "greyscale": ((0.0, 1.0),),  # share of the grey image in the mixture
}
_BLUR_PX = 3  # radius of the blur's kernel: two of its largest standard deviations


def draw(kind: str, n: int, height: int, width: int, seed: tf.Tensor) -> dict[str, dict[str, tf.Tensor]]:
    """What `apply` is to do to each of `n` images.

    Args:
      kind: "shift", "small" or "significant".
      n: images.
      height, width: theirs, in px.
      seed: [2] int32.

    Returns:
      Dict: `chosen` {operation: bool [n]}, `values` {operation: float32 [n, numbers]}, `fields` {operation: float32
      [n, H, W, C]} of those that draw for every pixel.
    """
    most = 2 * len(KINDS["significant"]) + len(LOOKS) + 4  # as many as the kind that draws most needs
    seeds = tf.unstack(tf.random.split(seed, most))
    chosen = {name: tf.random.stateless_uniform([n], seeds.pop()) < CHANCES[name] for name in KINDS[kind]}
    # An image's looks are those that come first in an order of its own.
    order = tf.argsort(tf.argsort(tf.random.stateless_uniform([n, len(LOOKS)], seeds.pop())))
    count = tf.random.stateless_uniform([n, 1], seeds.pop(), 0, MOST + 1, tf.int32)
    fields = {
        "noise": tf.random.stateless_normal([n, height, width, 3], seeds.pop()),
        "pixel_dropout": tf.random.stateless_uniform([n, height, width, 1], seeds.pop()),
    }
    if kind == "significant":
        chosen |= dict(zip(LOOKS, tf.unstack(order < count, axis=1), strict=True))
    values = {}
    for name in chosen:
        low, high = np.float32(RANGES[name]).T
        values[name] = low + (high - low) * tf.random.stateless_uniform([n, len(low)], seeds.pop())
    return {"chosen": chosen, "values": values, "fields": {k: v for k, v in fields.items() if k in chosen}}


def apply(images: tf.Tensor, drawn: dict[str, dict[str, tf.Tensor]]) -> tf.Tensor:
    """What `draw` gave, done to the images it was drawn for: the geometry in one resampling, then the looks in their order.

    Args:
      images: uint8 [B, H, W, 3], H and W static.
      drawn: of B images.

    Returns:
      uint8 [B, H, W, 3]; an image for which nothing was chosen is what it was.
    """
    chosen, values, x = drawn["chosen"], drawn["values"], tf.cast(images, tf.float32) / 255.0
    found = tf.eye(3)
    for name, matrix in GEOMETRY.items():
        if name in chosen:
            moved = matrix(values[name], *images.shape[1:3])
            found = found @ tf.where(chosen[name][:, tf.newaxis, tf.newaxis], moved, tf.eye(3))
    x = resample(x, found)
    for name, look in LOOKS.items():
        if name in chosen:
            more = [drawn["fields"][name]] if name in drawn["fields"] else []
            y = tf.clip_by_value(look(x, *tf.unstack(values[name], axis=1), *more), 0.0, 1.0)
            x = tf.where(chosen[name][:, tf.newaxis, tf.newaxis, tf.newaxis], y, x)
    return tf.cast(tf.round(x * 255.0), tf.uint8)


def sheet(kind: str, image: tf.Tensor, seed: tf.Tensor, columns: int = 8) -> np.ndarray:
    """A row for each operation, and one for all together as they are drawn in training; on the left the image itself.

    Args:
      kind: "shift", "small" or "significant".
      image: uint8 [H, W, 3].
      seed: [2] int32.
      columns: images in a row.

    Returns:
      A uint8 picture.
    """
    images = tf.repeat(image[tf.newaxis], columns - 1, axis=0)
    drawn, rows = draw(kind, columns - 1, *image.shape[:2], seed), []
    for name in drawn["chosen"]:
        alone = {other: tf.fill([columns - 1], other == name) for other in drawn["chosen"]}
        rows.append(apply(images, drawn | {"chosen": alone}))
    rows.append(apply(images, drawn))
    tiles = tf.concat([tf.concat([image[tf.newaxis], row], axis=0) for row in rows], axis=0).numpy()
    names = [*drawn["chosen"], kind]
    return captioned(tiles, [name if i == 0 else "" for name in names for i in range(columns)], columns)


def resample(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Each image through a map of the plane, bilinear, black outside.

    Args:
      images: [B, H, W, C] float32.
      matrices: [B, 3, 3]; column vectors (x, y, 1) of a pixel that is wanted -> where it is taken from, in px from the
        centre of the first pixel.

    Returns:
      [B, H, W, C] float32.
    """
    rows = tf.reshape(matrices, [-1, 9])[:, :8]  # of an affine map the ninth is 1
    return keras.ops.image.affine_transform(images, rows, "bilinear", "constant", 0.0, data_format="channels_last")


# --- geometry: the numbers of RANGES [B, K], height and width -> [B, 3, 3], as `resample` takes them


def shift(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Moved by whole px."""
    x, y = tf.unstack(values, axis=1)
    return _matrices(tf.ones_like(x), 0.0, -tf.round(x * width), 0.0, 1.0, -tf.round(y * height))


def crop_pad(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The image with its margins cut or padded, enlarged or reduced to its size again."""
    left, right, top, bottom = tf.unstack(values, axis=1)
    # From the image's edge, half a pixel before the first centre: x_from = x (1 + left + right) - left width.
    across, down = 1.0 + left + right, 1.0 + top + bottom
    return _matrices(across, 0.0, (across - 1.0) / 2.0 - left * width, 0.0, down, (down - 1.0) / 2.0 - top * height)


def affine(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Scaled, sheared, turned about the centre, and moved.

    What is at p, from the centre, goes to A p + t with A = [[sx cos r, -sy sin(r + s)], [sx sin r, sy cos(r + s)]], so what is at
    p comes from A^-1 (p - t), and det A = sx sy cos s.
    """
    scale_x, scale_y, x, y, rotation, shear = tf.unstack(values, axis=1)
    rotation, shear = rotation * (math.pi / 180.0), shear * (math.pi / 180.0)
    a, b = scale_x * tf.cos(rotation), -scale_y * tf.sin(rotation + shear)
    c, d = scale_x * tf.sin(rotation), scale_y * tf.cos(rotation + shear)
    determinant = scale_x * scale_y * tf.cos(shear)
    a, b, c, d = d / determinant, -b / determinant, -c / determinant, a / determinant
    centre_x, centre_y = (width - 1) / 2.0, (height - 1) / 2.0
    from_x, from_y = centre_x + x * width, centre_y + y * height
    return _matrices(a, b, centre_x - a * from_x - b * from_y, c, d, centre_y - c * from_x - d * from_y)


def _matrices(a, b, x, c, d, y):
    """[[a, b, x], [c, d, y], [0, 0, 1]], of numbers and of [B]: [B, 3, 3]."""
    entries = [tf.broadcast_to(entry, tf.shape(a)) for entry in (a, b, x, c, d, y, 0.0, 0.0, 1.0)]
    return tf.reshape(tf.stack(entries, axis=1), [-1, 3, 3])


GEOMETRY = {"shift": shift, "crop_pad": crop_pad, "affine": affine}

# --- looks: images [B, H, W, 3] in [0, 1], the numbers of RANGES [B] each, and the field where there is one -> the same


def filtered(images: tf.Tensor, kernels: tf.Tensor) -> tf.Tensor:
    """Each image with a filter of its own, edges mirrored: y[i, j] = sum_{u, v} k[u, v] x[i + u - r, j + v - r].

    Args:
      images: [B, H, W, C].
      kernels: [B, 2 r + 1, 2 r + 1].

    Returns:
      [B, H, W, C].
    """
    _, height, width, channels = images.shape
    radius = kernels.shape[1] // 2
    x = tf.pad(images, [[0, 0], [radius, radius], [radius, radius], [0, 0]], "SYMMETRIC")
    # [B,H,W,C] -> [1,H,W,B*C]: the images of a batch as channels, each with its kernel
    x = tf.reshape(tf.transpose(x, [1, 2, 0, 3]), [1, height + 2 * radius, width + 2 * radius, -1])
    kernels = tf.repeat(tf.transpose(kernels, [1, 2, 0]), channels, axis=2)[..., tf.newaxis]
    y = tf.nn.depthwise_conv2d(x, kernels, [1, 1, 1, 1], "VALID")
    return tf.transpose(tf.reshape(y, [height, width, -1, channels]), [2, 0, 1, 3])


def blur(images: tf.Tensor, deviation: tf.Tensor) -> tf.Tensor:
    """A Gaussian's."""
    steps = tf.range(-_BLUR_PX, _BLUR_PX + 1, dtype=tf.float32)
    weights = tf.exp(-0.5 * tf.square(steps / tf.maximum(deviation, 1e-3)[:, tf.newaxis]))  # [B,taps]
    kernels = weights[:, :, tf.newaxis] * weights[:, tf.newaxis]
    return filtered(images, kernels / tf.reduce_sum(kernels, axis=[1, 2], keepdims=True))


def sharpen(images: tf.Tensor, share: tf.Tensor, lightness: tf.Tensor) -> tf.Tensor:
    """(1 - share) x + share (8 + lightness, less each of the eight neighbours)."""
    sharp = -tf.ones([3, 3]) + (8.0 + _wide(lightness, 2) + 1.0) * _CENTRE
    return filtered(images, (1.0 - _wide(share, 2)) * _CENTRE + _wide(share, 2) * sharp)


def emboss(images: tf.Tensor, share: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """(1 - share) x + share (x, lit from the top left)."""
    relief = tf.constant([[-1.0, -1.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    ends = tf.constant([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    embossed = ends + _wide(strength, 2) * relief
    return filtered(images, (1.0 - _wide(share, 2)) * _CENTRE + _wide(share, 2) * embossed)


def noise(images: tf.Tensor, deviation: tf.Tensor, field: tf.Tensor) -> tf.Tensor:
    """Gaussian, independent for every pixel and channel."""
    return images + _wide(deviation, 3) * field


def pixel_dropout(images: tf.Tensor, share: tf.Tensor, field: tf.Tensor) -> tf.Tensor:
    """Some pixels are black."""
    return tf.where(field < _wide(share, 3), 0.0, images)


def brightness(images: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    """Added to all."""
    return images + _wide(change, 3)


def contrast(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Away from middle grey, or toward it."""
    return 0.5 + _wide(factor, 3) * (images - 0.5)


def hue_saturation(images: tf.Tensor, turn: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    """Every colour another one."""
    hue, saturation, value = tf.unstack(tf.image.rgb_to_hsv(images), axis=-1)
    hue = tf.math.floormod(hue + _wide(turn, 2), 1.0)
    saturation = tf.clip_by_value(saturation + _wide(change, 2), 0.0, 1.0)
    return tf.image.hsv_to_rgb(tf.stack([hue, saturation, value], axis=-1))


def greyscale(images: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Some of the colour is gone, or all."""
    return images + _wide(share, 3) * (tf.image.rgb_to_grayscale(images) - images)


def _wide(values, axes):
    """[B] -> [B, 1, ...], with so many axes more."""
    return tf.reshape(values, [-1, *[1] * axes])


_CENTRE = np.float32([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
LOOKS = {
    "blur": blur,
    "sharpen": sharpen,
    "emboss": emboss,
    "noise": noise,
    "pixel_dropout": pixel_dropout,
    "brightness": brightness,
    "contrast": contrast,
    "hue_saturation": hue_saturation,
    "greyscale": greyscale,
}
