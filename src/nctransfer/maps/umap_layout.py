"""Images placed by UMAP, which needs the packages of ``nctransfer[umap]``."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from nctransfer.errors import NCTransferError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["UMAP_NEIGHBOURS", "check_umap", "umap_layout"]

UMAP_NEIGHBOURS = 14
"""How many neighbours of each image UMAP looks at; with the image itself they are the 15 of its default."""


def check_umap() -> None:
    """Refuse a layout by UMAP where it is not installed.

    Raises:
        NCTransferError: The package umap-learn is not installed.
    """
    _imported()


def umap_layout(
    nearest: NDArray[np.int64], distances: NDArray[np.float32], start: NDArray[np.floating], seed: int = 0
) -> NDArray[np.float32]:
    """The images placed so that neighbours stay together (McInnes, Healy and Melville, 2018).

    Only who is near whom can be read from it: distances between groups, their sizes and their densities mean nothing.
    The layout begins with the plane of the principal axes, which keeps the coarse order of groups as far as it can be
    kept (Kobak and Linderman, 2021). The same seed gives the same layout, on one machine with one version of the
    packages.

    Args:
        nearest: The positions of the K nearest other images of each image, ``(n, K)``, exactly.
        distances: Their distances, ``(n, K)``, ascending.
        start: Where the images lie at first, ``(n, 2)``.
        seed: Decides the random steps.

    Returns:
        ``(n, 2)`` float32. With fewer than 4 images, it is ``start``.

    Raises:
        NCTransferError: The package umap-learn is not installed.
    """
    import numpy as np

    package = _imported()
    n, number = nearest.shape
    begin = np.asarray(start, dtype=np.float32)
    if n < 4:
        return begin
    flat = np.ptp(begin, axis=0) == 0  # UMAP divides by the range
    begin = np.where(flat, np.random.default_rng(seed).uniform(size=begin.shape), begin).astype(np.float32)
    with_itself = np.concatenate([np.arange(n)[:, None], nearest], axis=1)
    lengths = np.concatenate([np.zeros((n, 1), dtype=np.float32), distances.astype(np.float32)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # new images cannot be placed, and none are
        layout = package.UMAP(
            n_neighbors=number + 1,
            init=begin,
            random_state=seed,
            n_jobs=1,
            precomputed_knn=(with_itself, lengths),
        ).fit_transform(begin)  # only their number counts, since the neighbours are given
    return np.asarray(layout, dtype=np.float32)


def _imported() -> Any:
    """The package, whose import takes seconds.

    Raises:
        NCTransferError: It is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that TensorFlow is missing, which is not used
            import umap
    except ImportError as error:
        raise NCTransferError("UMAP is not installed", "pip install 'nctransfer[umap]'") from error
    return umap
