"""Objects that are kept."""

import numpy as np

from holotf.serving.volumes import Volumes

ONE = np.zeros(4, np.float32)  # 16 bytes


def test_those_asked_for_last_are_kept_within_the_limit():
    kept = Volumes(48)
    for latent in (b"a", b"b", b"c"):
        kept.put(latent, ONE)
    assert kept.get(b"a") is ONE  # now asked for after b
    kept.put(b"d", ONE)
    assert [latent for latent in (b"a", b"b", b"c", b"d") if kept.get(latent) is not None] == [b"a", b"c", b"d"]
    assert (len(kept), kept.bytes) == (3, 48)
    kept.put(b"d", ONE)
    assert (len(kept), kept.bytes) == (3, 48), "counted once"
    kept.put(b"e", np.zeros(9, np.float32))
    assert (len(kept), kept.bytes) == (1, 36)
    kept.put(b"f", np.zeros(13, np.float32))
    assert (len(kept), kept.bytes) == (1, 36), "larger than all the room there is"
