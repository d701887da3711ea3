"""Random supports for rounds of the expected accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["draw_supports", "leaves_all_out", "permutations", "windows"]


def leaves_all_out(size: int, shots: int, supports: int) -> bool:
    """Whether every sample of a class is outside of at least one of the supports that :func:`draw_supports` draws.

    >>> leaves_all_out(20, 10, 2), leaves_all_out(20, 15, 3), leaves_all_out(20, 15, 4)
    (True, False, True)
    """
    return size // shots > 1 or supports * (size - shots) >= size


def draw_supports(
    sizes: Sequence[int], shots: int, supports: int, groups: int, generator: np.random.Generator
) -> np.ndarray:
    """Supports of every class for every group of queries.

    The samples of a class are put into a random order and divided into supports, so that what a single sample adds
    cancels. Where a class has fewer supports than a group needs, it is divided several times. Where it has one only, a
    random order is rotated, so that each sample is left out by the next supports.

    Args:
        sizes: The number of samples of each of C classes, whose rows follow each other.
        shots: Samples per support, m; at most one less than the samples of a class.
        supports: Supports per class and group, R, at least 2.
        groups: Groups of queries, J.
        generator: Of the random orders.

    Returns:
        Row numbers, ``(J, C, R, m)``.

    >>> import numpy as np
    >>> drawn = draw_supports([6, 9], 3, 2, 4, np.random.default_rng(0))
    >>> drawn.shape, sorted(drawn[0, 0].ravel().tolist())
    ((4, 2, 2, 3), [0, 1, 2, 3, 4, 5])
    """
    import numpy as np

    found = np.empty((groups, len(sizes), supports, shots), dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes).tolist():
        classes = np.flatnonzero(np.equal(sizes, size))
        some = _of_classes(len(classes), size, found.shape, generator)
        found[:, classes] = some.swapaxes(0, 1) + starts[classes][:, None, None]
    return found


def _of_classes(
    classes: int, size: int, shape: tuple[int, int, int, int], generator: np.random.Generator
) -> np.ndarray:
    """Supports of classes of one size, ``(classes, J, R, m)``."""
    groups, _, supports, shots = shape
    count = size // shots
    if count == 1:
        orders = permutations(classes * groups, size, generator)
        return orders[:, windows(size, shots, supports)].reshape(classes, groups, supports, shots)
    if count >= supports:
        in_one = count // supports  # groups that one division serves
        orders = permutations(classes * -(-groups // in_one), size, generator)[:, : in_one * supports * shots]
        return orders.reshape(classes, -1, supports, shots)[:, :groups]
    divisions = -(-supports // count)
    orders = permutations(classes * groups * divisions, size, generator)[:, : count * shots]
    return orders.reshape(classes, groups, divisions * count, shots)[:, :, :supports]


def permutations(number: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """Random orders of ``range(size)``, ``(number, size)``: sorted random keys, whose low bits hold the numbers."""
    import numpy as np

    keys = generator.integers(0, 2**31, size=(number, size), dtype=np.int64)
    keys <<= 32
    keys |= np.arange(size)
    keys.sort(axis=1)
    keys &= 2**32 - 1
    return keys


def windows(size: int, shots: int, supports: int) -> np.ndarray:
    """Places in an order, rotated by as many places as a support leaves out, ``(R, m)``.

    >>> windows(5, 4, 3).tolist()
    [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 0]]
    """
    import numpy as np

    places: np.ndarray = (np.arange(supports)[:, None] * (size - shots) + np.arange(shots)) % size
    return places
