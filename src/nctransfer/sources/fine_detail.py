"""The fine detail of thumbnails: what is left of an image without its broad light and dark areas.

Photographs that have nothing in common often have the same broad areas: a bright sky above, a dark thing in the
middle. Their fine detail differs. So images are compared by it, and how much of it they have decides how similar they
must be before the similarity means something.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pictures = NDArray[np.float32]

__all__ = ["LEAST_SIMILARITY", "amount_of_detail", "cosine_transform", "fine_detail", "needed_similarity", "smooth"]

LEAST_SIMILARITY = 0.96
"""How similar two images with much detail must be."""

FAINTEST = 1.0  # grey levels: below this, the detail is noise of the encoding
EVIDENCE = 31.0  # nats, the same for every pair


def smooth(pictures: Pictures) -> Pictures:
    """Each pixel averaged with its neighbours by the weights 1, 2, 1 in both directions.

    Args:
        pictures: Shape (n, height, width).
    """
    import numpy as np

    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) * np.float32(0.25)
    smoothed: Pictures = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) * np.float32(0.25)
    return smoothed


def fine_detail(smoothed: Pictures) -> Pictures:
    """Smoothed pictures without their broad areas: the difference from themselves smoothed four times more.

    Args:
        smoothed: Pictures from :func:`smooth`, shape (n, height, width).
    """
    broad = smoothed
    for _ in range(4):
        broad = smooth(broad)
    return smoothed - broad


def amount_of_detail(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How many independent details each thumbnail has, about.

    The effective number of values of a signal x is (Σx²)² / Σx⁴: it is n if n values are equally large and all others
    are zero. It is taken over pixels, where strokes on an empty ground have few, and over frequencies (the discrete
    cosine transform), where blurred or repeated patterns have few. Six neighbouring pixels count as one, as the
    pictures are smoothed. The amount is the smaller of both. It is 0 if the detail is fainter than one grey level.
    Photographs of objects have about 60, handwritten digits about 10.

    Args:
        thumbnails: Shape (n, 32, 32), dtype uint8.

    >>> import numpy as np
    >>> noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32)).astype(np.uint8)
    >>> amount_of_detail(np.full((1, 32, 32), 7, np.uint8)).tolist(), bool(amount_of_detail(noise)[0] > 60)
    ([0.0], True)
    """
    import numpy as np

    detail = fine_detail(smooth(thumbnails.astype(np.float32)))
    waves = cosine_transform(detail)
    energy = (detail**2).sum((1, 2))
    faint = energy < FAINTEST**2 * detail[0].size if len(detail) else energy > 0
    fourth = [np.maximum((values**4).sum((1, 2)), np.float32(1e-12)) for values in (detail, waves)]
    amount = np.minimum(energy**2 / fourth[0] / 6, energy**2 / fourth[1])
    return np.where(faint, 0, amount).astype(np.float32)


def needed_similarity(amount: NDArray[np.float32]) -> NDArray[np.float32]:
    """How similar two images must be, by the amount of detail of the one that has less of it.

    If n independent normal values have the correlation r in two images, their mutual information is
    -n/2 · log(1 - r²). Every pair needs the same evidence of 31 nats, and a similarity of 0.96 at least: blank images
    and simple drawings need nearly equal thumbnails, since many of them are similar by chance.

    Args:
        amount: From :func:`amount_of_detail`.

    >>> import numpy as np
    >>> print(needed_similarity(np.array([0, 10, 20, 30, 60])).round(4))
    [2.     0.999  0.9772 0.96   0.96  ]
    """
    import numpy as np

    exponent = -2 * EVIDENCE / np.maximum(amount, np.float32(1e-3))
    needed = np.maximum(np.sqrt(1 - np.exp(exponent)), np.float32(LEAST_SIMILARITY))
    return np.where(amount > 0, needed, np.float32(2)).astype(np.float32)  # 2 is never reached


def cosine_transform(pictures: Pictures) -> Pictures:
    """The discrete cosine transform of square pictures (type II, orthonormal), shape (n, side, side)."""
    import numpy as np

    matrix = _cosines(pictures.shape[-1])
    waves: Pictures = np.matmul(np.matmul(matrix, pictures), matrix.T)
    return waves


@functools.cache
def _cosines(side: int) -> NDArray[np.float32]:
    import numpy as np

    frequency, place = np.mgrid[:side, :side]
    matrix = np.cos(np.pi / side * (place + 0.5) * frequency) * np.sqrt(2 / side)
    matrix[0] /= np.sqrt(2)
    single: Pictures = matrix.astype(np.float32)
    return single
