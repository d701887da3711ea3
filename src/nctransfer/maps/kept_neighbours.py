"""How many of the nearest images are also near each other in a picture of two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["kept_neighbours"]


def kept_neighbours(nearest: NDArray[np.int64], points: NDArray[np.floating]) -> float:
    """The share of the K nearest images of an image that are among its K nearest ones in a picture, on average.

    Points that are placed at random keep ``K / (n − 1)``.

    Args:
        nearest: The positions of the K nearest other images of each image, by their features, ``(n, K)``.
        points: Where the n images lie in the picture, ``(n, 2)``.

    Returns:
        A share from 0 to 1; NaN if there is only one image.

    >>> import numpy as np
    >>> nearest = np.array([[1], [0], [3], [2]])
    >>> kept_neighbours(nearest, np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 0.0], [5.0, 9.0]]))  # 3 is not nearest to 2
    0.75
    """
    import numpy as np
    from scipy.spatial import cKDTree

    n, number = nearest.shape
    if number == 0:
        return float("nan")
    _, found = cKDTree(points).query(points, k=number + 1)
    own = found == np.arange(n)[:, None]
    own[~own.any(axis=1), -1] = True  # more images in one place than are asked for
    others = found[~own].reshape(n, number)
    return float((nearest[:, :, None] == others[:, None, :]).any(axis=2).mean())
