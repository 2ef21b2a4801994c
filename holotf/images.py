"""What every source does to an image: orientation, three channels, a crop, an antialiased resize. PIL and NumPy alone."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from holotf.errors import UserError

Crop = str | tuple[int, int]
JPEG_QUALITY = 95


def parse_crop(text: str) -> Crop:
    """Reads `center`, `none` or `H,W` (pixels).

    Raises:
      UserError: it is none of these.
    """
    if text in ("center", "none"):
        return text
    try:
        height, width = (int(part) for part in text.split(","))
    except ValueError:
        height = width = 0
    if height < 1 or width < 1:
        raise UserError(f"--crop {text!r}: use center, none or H,W in pixels, for example 108,108")
    return height, width


def open_image(content: bytes) -> Image.Image:
    """Opens an image file without decoding it yet; raises what PIL raises, as of more than 178,956,970 pixels (its bound)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # half of that: a telephone's photo has 108 million
        return Image.open(io.BytesIO(content))


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns the image upright (EXIF orientation), in RGB; transparency lies on white, 16-bit grey is scaled to 8 bits."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        # PIL's own conversion clips at 255 and would turn almost all of a 16-bit image white.
        values = np.asarray(image, np.float32)
        deep = image.mode.startswith("I;16") or values.max() > 255  # the other modes do not say how many bits are meant
        image = Image.fromarray((values / 257 if deep else values).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def crop_box(width: int, height: int, crop: Crop) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom of the crop.

    Args:
      width: of the image, pixels.
      height: of the image, pixels.
      crop: `center` keeps the largest centred square, `none` the whole image, (H, W) a centred H x W
        or what the image has of it.
    """
    if crop == "none":
        return 0, 0, width, height
    crop_height, crop_width = (min(width, height),) * 2 if crop == "center" else crop
    crop_height, crop_width = min(crop_height, height), min(crop_width, width)
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def prepare(image: Image.Image, size: int, crop: Crop = "center") -> np.ndarray:
    """Returns uint8 [size,size,3]: upright RGB, cropped, resized with an antialiasing Lanczos filter.

    What the crop leaves is squashed to a square if it is not one: `none` and an H,W with H != W change the aspect ratio.
    """
    image = to_rgb(image)
    image = image.crop(crop_box(*image.size, crop))  # not resize(box=...): its filter reaches beyond the box
    if image.size == (size, size):
        return np.asarray(image)
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def encode(pixels: np.ndarray, encoding: str) -> bytes:
    """Returns `pixels` (uint8 [H,W,3]) as the bytes of a `png` (lossless) or `jpeg` (quality 95, full chroma) file."""
    stream = io.BytesIO()
    options = {"compress_level": 6} if encoding == "png" else {"quality": JPEG_QUALITY, "subsampling": 0}
    Image.fromarray(pixels).save(stream, encoding, **options)
    return stream.getvalue()
