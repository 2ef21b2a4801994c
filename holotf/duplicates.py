"""Near-duplicates among images: one photograph saved again, resized, or a little brighter or darker.

Two images are near-duplicates where their perceptual hashes (imagehash's phash: signs of the 16 x 16 lowest frequencies of the
grey image, 256 bits) differ in at most DISTANCE bits, and no patch of a 4 x 4 grid differs by more than CHROMA levels of Cb or
Cr: the hash alone takes a red and a blue shirt for one. Mirrored, cropped and turned copies are different, and so may be copies
of images without any detail, where rounding decides the signs: what is in doubt is kept.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

DISTANCE = 16  # of 256 bits. Measured: docs/data.md
CHROMA = 24  # of 255
_BITS = 256
_GRID = 4


class Look(NamedTuple):
    """What an image looks like: its perceptual hash (32 bytes) and the Cb and Cr (0 to 255) of a coarse grid (32 bytes)."""

    bits: bytes
    chroma: bytes


def missing() -> str | None:
    """What is to be installed before images can be looked at, or None."""
    try:
        import imagehash  # noqa: F401
        import scipy.fftpack  # noqa: F401
    except ImportError as error:
        return f"needs imagehash ({error}): pip install 'holotf[dedupe]'"
    return None


def look_of(image: Image.Image) -> Look:
    """The look of an upright RGB image."""
    import imagehash

    bits = np.packbits(imagehash.phash(image, hash_size=int(_BITS**0.5)).hash).tobytes()
    coarse = image.resize((_GRID, _GRID), Image.Resampling.BOX).convert("YCbCr")
    return Look(bits, np.asarray(coarse)[..., 1:].tobytes())


def groups(looks: list[Look]) -> list[list[int]]:
    """Positions of near-duplicates: one list a group, the one to keep first; images without any are in none.

    In the order given, each image joins the first kept one it is a near-duplicate of, or else is kept: so no two kept ones are
    near-duplicates, and every other one is a near-duplicate of the one kept for it.

    Not all pairs are compared. Hashes are cut into DISTANCE + 1 bands: of DISTANCE different bits at least one band has none, so
    near-duplicates share a bucket in at least one band. Only kept images lie in buckets, which copies therefore do not fill.
    """
    if not looks:
        return []
    bands = DISTANCE + 1
    matrix = np.unpackbits(np.frombuffer(b"".join(look.bits for look in looks), np.uint8).reshape(-1, _BITS // 8), axis=1)
    keys = np.empty((len(looks), bands), np.int64)
    for band in range(bands):
        bits = matrix[:, band::bands]  # of every frequency some, so that no band is the same in all images
        keys[:, band] = bits.astype(np.int64) @ (1 << np.arange(bits.shape[1]))
    hashes = [int.from_bytes(look.bits, "big") for look in looks]
    chroma = np.frombuffer(b"".join(look.chroma for look in looks), np.uint8).reshape(len(looks), -1).astype(np.int16)

    buckets: list[dict[int, list[int]]] = [{} for _ in range(bands)]
    kept_for: dict[int, list[int]] = {}
    for position, row in enumerate(keys.tolist()):
        found = [bucket.get(key, ()) for bucket, key in zip(buckets, row, strict=True)]
        one = hashes[position]
        alike = {other for others in found for other in others if (hashes[other] ^ one).bit_count() <= DISTANCE}
        alike = [other for other in alike if np.abs(chroma[other] - chroma[position]).max() <= CHROMA]
        if alike:
            kept_for.setdefault(min(alike), []).append(position)
        else:
            for bucket, key in zip(buckets, row, strict=True):
                bucket.setdefault(key, []).append(position)
    return [[kept, *others] for kept, others in sorted(kept_for.items())]
