"""Find the pairs of thumbnails that show the same picture, wherever the thumbnails come from.

Candidates first: each thumbnail becomes a vector of unit length, of its lowest frequencies, and products of matrices
give all cosines of these vectors. In the vector of the mirror image, only signs differ. Then each candidate is checked
by :mod:`nctransfer.sources.alignment`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.sources.alignment import aligned_similarity
from nctransfer.sources.fine_detail import amount_of_detail, cosine_transform, needed_similarity
from nctransfer.sources.loading import map_ahead, threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Places = NDArray[np.intp]

__all__ = ["NearPairs", "near_pairs"]

FREQUENCIES = 8  # waves shorter than a quarter of the image are left to the check
LOOSENESS = 8  # a cosine may be this many times farther from 1 than the similarity that is needed
LEAST_COSINE = 0.68
MOST_CANDIDATES = 20  # of one thumbnail: the most similar ones
ENTRIES = 2**23  # of a matrix of cosines that is in memory at once
TOGETHER = 512  # candidates that are checked at once


class NearPairs(NamedTuple):
    """Pairs of thumbnails that show the same picture, sorted by their positions.

    Attributes:
        first: The position of one thumbnail.
        second: The position of the other one, which is larger.
        mirrored: Whether one shows the mirror image of the other.
        similarity: The correlation of their fine detail, at most 1.
        plain: Of each thumbnail, whether it has too little detail to be compared at all.
    """

    first: Places
    second: Places
    mirrored: NDArray[np.bool_]
    similarity: Floats
    plain: NDArray[np.bool_]


def near_pairs(
    thumbnails: NDArray[np.uint8],
    *,
    rows: int | None = None,
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> NearPairs:
    """The pairs of thumbnails that show the same picture: re-encoded, resized, mirrored, or cropped by a few percent.

    The time grows with the square of the number of thumbnails, but most of it goes into products of matrices. Of each
    thumbnail, at most 20 candidates are checked.

    Args:
        thumbnails: Grey thumbnails, shape (n, 32, 32), dtype uint8.
        rows: If given, only pairs with at least one of the first ``rows`` thumbnails are looked for.
        workers: Number of threads; see :func:`nctransfer.sources.loading.threads`.
        progress: Called as ``progress(stage, done, total)``.

    >>> import numpy as np
    >>> noise = np.random.default_rng(0).integers(0, 256, (3, 32, 32)).astype(np.uint8)
    >>> found = near_pairs(np.concatenate([noise, noise[1:2, :, ::-1] // 2]))
    >>> found.first.tolist(), found.second.tolist(), found.mirrored.tolist()
    ([1], [3], [True])
    """
    import numpy as np

    rows = len(thumbnails) if rows is None else rows
    needed = _in_blocks(lambda block: needed_similarity(amount_of_detail(block)), thumbnails)
    found = [np.zeros((0, 3), np.intp), *_candidates(thumbnails, needed, rows, progress)]
    pairs = np.concatenate(found)
    blocks = [pairs[start : start + TOGETHER] for start in range(0, len(pairs), TOGETHER)]
    check = functools.partial(_similarity, thumbnails, needed)
    similarities = []
    with ThreadPoolExecutor(threads(workers)) as pool:
        for done, block in enumerate(map_ahead(pool, check, blocks, 2 * threads(workers)), 1):
            similarities.append(block)
            if progress:
                progress("checking candidates", done, len(blocks))
    similarity = np.concatenate([np.zeros(0, np.float32), *similarities])
    kept = similarity >= np.maximum(needed[pairs[:, 0]], needed[pairs[:, 1]])
    pairs, similarity = pairs[kept], similarity[kept]
    order = np.lexsort((-similarity, pairs[:, 1], pairs[:, 0]))  # of a pair found both ways, the better one is first
    pairs, similarity = pairs[order], similarity[order]
    new = np.append(True, np.any(pairs[1:, :2] != pairs[:-1, :2], axis=1))[: len(pairs)]
    first, second, mirrored = pairs[new].T
    return NearPairs(first, second, mirrored.astype(bool), similarity[new].clip(max=1), needed > 1)


def _candidates(
    thumbnails: NDArray[np.uint8],
    needed: Floats,
    rows: int,
    progress: Callable[[str, int, int], None] | None,
) -> Iterator[NDArray[np.intp]]:
    """Pairs that may show the same picture: positions of both, and 1 if one of them is to be mirrored."""
    import numpy as np

    kept = np.flatnonzero(needed <= 1)
    last = int(np.searchsorted(kept, rows))  # the first rows among those kept
    vectors = np.ascontiguousarray(_in_blocks(_vectors, thumbnails)[kept])
    least = np.maximum(1 - LOOSENESS * (1 - needed[kept]), LEAST_COSINE).astype(np.float32)
    size = max(1, ENTRIES // max(1, len(kept)))
    for start in range(0, last, size):
        end = min(start + size, last)
        cosines = np.stack([vectors[start:end] @ (vectors[start:] * signs).T for signs in (1, _mirror_signs())])
        loose = cosines > np.maximum(least[start:end].min(), least[start:].min())
        way, row, column = np.nonzero(loose)
        value = cosines[way, row, column]
        good = (column > row) & (value > np.maximum(least[start + row], least[start + column]))
        way, row, column, value = way[good], row[good], column[good], value[good]
        few = _most_similar(row, value)
        yield np.stack([kept[start + row[few]], kept[start + column[few]], way[few]], 1)
        if progress:
            progress("comparing images", end, last)


def _most_similar(row: Places, value: Floats) -> NDArray[np.bool_]:
    """Which candidates are among the most similar ones of their row."""
    import numpy as np

    order = np.lexsort((-value, row))
    ordered = row[order]
    place = np.arange(len(row)) - np.searchsorted(ordered, ordered)
    few = np.zeros(len(row), bool)
    few[order] = place < MOST_CANDIDATES
    return few


def _similarity(thumbnails: NDArray[np.uint8], needed: Floats, pairs: NDArray[np.intp]) -> Floats:
    import numpy as np

    first, second = thumbnails[pairs[:, 0]], thumbnails[pairs[:, 1]]
    mirrored = pairs[:, 2, None, None] == 1
    second = np.where(mirrored, second[:, :, ::-1], second)
    return aligned_similarity(first, second, np.maximum(needed[pairs[:, 0]], needed[pairs[:, 1]]))


def _vectors(thumbnails: NDArray[np.uint8]) -> Floats:
    """The lowest frequencies of thumbnails, weighted by the frequency as photographs have less of the higher ones.

    Returns:
        Shape (n, 51), rows of unit length.
    """
    import numpy as np

    waves = cosine_transform(thumbnails.astype(np.float32))[:, :FREQUENCIES, :FREQUENCIES]
    weighted = (waves * _frequencies())[:, _kept()]
    vectors: Floats = weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), np.float32(1e-6))
    return vectors


@functools.cache
def _frequencies() -> Floats:
    import numpy as np

    down, right = np.mgrid[:FREQUENCIES, :FREQUENCIES]
    frequencies: Floats = np.hypot(down, right).astype(np.float32)
    return frequencies


def _kept() -> NDArray[np.bool_]:
    frequencies = _frequencies()
    kept: NDArray[np.bool_] = (frequencies > 0) & (frequencies < FREQUENCIES)
    return kept


def _mirror_signs() -> Floats:
    """What the vector of a thumbnail is multiplied by to give that of its mirror image: odd waves change their sign."""
    import numpy as np

    _, right = np.mgrid[:FREQUENCIES, :FREQUENCIES]
    return np.where(right % 2, -1, 1)[_kept()].astype(np.float32)


def _in_blocks(function: Callable[[NDArray[np.uint8]], Floats], thumbnails: NDArray[np.uint8]) -> Floats:
    """The function of all thumbnails, of a few thousand at once, to bound memory."""
    import numpy as np

    starts = range(0, max(1, len(thumbnails)), 4096)
    return np.concatenate([function(thumbnails[start : start + 4096]) for start in starts])
