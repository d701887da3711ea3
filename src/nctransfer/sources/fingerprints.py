"""The fingerprint of a decoded image: digests of its pixels, and a small grey copy of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["SIDE", "Fingerprint", "fingerprint"]

SIDE = 32
"""Width and height of a thumbnail in pixels."""

SMALL = 2**16  # pixels: the digest of the mirror image costs little


class Fingerprint(NamedTuple):
    """What is kept of an image to find others that look like it: about one kilobyte.

    Attributes:
        pixels: The digest of its width, its height and its RGB pixels. Equal pixels give equal digests, however the
            image was saved.
        mirrored: The same digest of its mirror image, left and right exchanged; empty for an image of more than 65,536
            pixels. Its thumbnail finds it. Only small drawings may have too little detail for that.
        thumbnail: The image in grey, squeezed into a square of 32×32, dtype uint8.
    """

    pixels: bytes
    mirrored: bytes
    thumbnail: NDArray[np.uint8]


def fingerprint(image: Image.Image) -> Fingerprint:
    """The fingerprint of an RGB image, as :func:`nctransfer.sources.decoding.decode` returns it.

    >>> from PIL import Image
    >>> left, right = Image.new("RGB", (4, 2)), Image.new("RGB", (4, 2))
    >>> left.putpixel((0, 1), (255, 0, 0)), right.putpixel((3, 1), (255, 0, 0))
    (None, None)
    >>> fingerprint(left).pixels == fingerprint(right).pixels, fingerprint(left).pixels == fingerprint(right).mirrored
    (False, True)
    """
    import numpy as np
    from PIL import Image

    mirrored = b""
    if image.width * image.height <= SMALL:
        mirrored = _digest(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)  # Pillow averages all pixels
    return Fingerprint(_digest(image), mirrored, np.asarray(small))


def _digest(image: Image.Image) -> bytes:
    digest = hashlib.blake2b(b"%d %d\n" % image.size, digest_size=16)
    digest.update(image.tobytes())
    return digest.digest()
