"""How similar two thumbnails are once one is moved and stretched so that it lies on the other.

A cropped image shows a part of the original, stretched over the whole thumbnail. Cropping changes four numbers: scale
and shift in each direction. They are found by the Gauss-Newton method (Lucas and Kanade 1981), together with
brightness and contrast, for many pairs at once: first on thumbnails of half the size, then on the whole ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.sources.fine_detail import fine_detail, smooth

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pictures = NDArray[np.float32]

__all__ = ["aligned_similarity"]

LARGEST_SHIFT = 0.13  # of the width or height: how far the middle may move
LARGEST_STEP = 0.06  # of one iteration
COARSE_STEPS, FINE_STEPS = 5, 4
COARSENESS = 5  # on halved thumbnails, a similarity may be this many times farther from 1 than needed
LEAST_COARSE = 0.8


def aligned_similarity(
    first: NDArray[np.uint8], second: NDArray[np.uint8], needed: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """The correlation of the fine detail of each pair of thumbnails, after one is moved onto the other.

    Either thumbnail is moved onto the other one, and the larger correlation counts. So the order does not matter.

    Args:
        first: Thumbnails, shape (n, 32, 32), dtype uint8.
        second: The other thumbnail of each pair, of the same shape.
        needed: If given, the similarity that each pair needs, shape (n,). A pair that is far from it on thumbnails of
            half the size gets that smaller similarity, which saves most of the time.

    Returns:
        Shape (n,), from -1 to 1: 1 if one shows a part of the other, up to brightness and contrast.

    >>> import numpy as np
    >>> field = np.random.default_rng(0).integers(0, 256, (12, 12)).repeat(3, 0).repeat(3, 1).astype(np.uint8)
    >>> whole, moved, other = field[None, :32, :32], field[None, 1:33, 2:34], field[None, ::-1][:, :32, :32]
    >>> bool(aligned_similarity(whole, moved) > 0.99), bool(aligned_similarity(whole, other) < 0.5)
    (True, True)
    """
    import numpy as np

    a, b = (smooth(pictures.astype(np.float32)) for pictures in (first, second))
    half_a, half_b = _halved(a), _halved(b)
    halves = [(half_a, half_b), (half_b, half_a)]
    places = [_improved(p, q, _unmoved(len(p)), COARSE_STEPS) for p, q in halves]
    similarity = np.maximum(*(_similarity(*pair, place) for pair, place in zip(halves, places, strict=True)))
    near = np.ones(len(a), bool)
    if needed is not None:
        near = similarity >= np.maximum(1 - COARSENESS * (1 - needed), LEAST_COARSE)
    a, b = a[near], b[near]
    ways = zip((a, b), (b, a), places, strict=True)
    fine = [_similarity(p, q, _improved(p, q, place[near], FINE_STEPS)) for p, q, place in ways]
    similarity[near] = np.maximum(*fine)
    return similarity


def _unmoved(count: int) -> Pictures:
    """The places of pictures that are neither moved nor stretched: scales of 1, shifts of 0."""
    import numpy as np

    return np.tile(np.array([1, 0, 1, 0], np.float32), (count, 1))


def _similarity(a: Pictures, b: Pictures, place: Pictures) -> NDArray[np.float32]:
    """The correlation of fine detail of the pictures ``a`` at their places with the pictures ``b``."""
    moved, there = _moved(a, place)
    return _correlation(fine_detail(moved), fine_detail(b), there)


def _improved(a: Pictures, b: Pictures, place: Pictures, steps: int) -> Pictures:
    """Better places of the pictures ``a`` on the pictures ``b``, by some steps of the Gauss-Newton method.

    Args:
        a: Shape (n, side, side).
        b: Shape (n, side, side).
        place: Vertical scale and shift, horizontal scale and shift, shape (n, 4).
        steps: How many.
    """
    import numpy as np

    count, side, _ = a.shape
    along = _coordinates(side)
    for _ in range(steps):
        moved, there = _moved(a, place)
        down, right = np.gradient(moved, axis=1) * side, np.gradient(moved, axis=2) * side
        columns = [down * along[:, None], down, right * along, right, moved, np.ones_like(moved)]
        design = np.stack(columns, 1).reshape(count, 6, side * side)  # (n, 6, side²)
        weighted = design * there.reshape(count, 1, side * side)
        normal = weighted @ design.transpose(0, 2, 1)  # (n, 6, 6)
        scale = np.maximum(np.sqrt(np.einsum("nii->ni", normal)), 1e-3)  # columns of unit length
        normal = normal / (scale[:, :, None] * scale[:, None, :]) + 1e-3 * np.eye(6, dtype=np.float32)
        target = (weighted @ b.reshape(count, side * side, 1))[:, :, 0] / scale
        found = np.linalg.solve(normal, target[:, :, None])[:, :, 0] / scale
        contrast = np.maximum(found[:, 4:5], 0.1)
        place = place + np.clip(found[:, :4] / contrast, -LARGEST_STEP, LARGEST_STEP)
        place[:, 0::2] = place[:, 0::2].clip(1 - 2 * LARGEST_SHIFT, 1 + 2 * LARGEST_SHIFT)
        place[:, 1::2] = place[:, 1::2].clip(-LARGEST_SHIFT, LARGEST_SHIFT)
    return place


def _moved(pictures: Pictures, place: Pictures) -> tuple[Pictures, Pictures]:
    """The pictures at their places by cubic interpolation, and a mask that is 1 where they have pixels."""
    import numpy as np

    side = pictures.shape[-1]
    along = _coordinates(side)
    scaled = place[:, 0::2, None] * along + place[:, 1::2, None]  # (n, 2, side)
    down, right = ((scaled[:, k] + np.float32(0.5)) * side - np.float32(0.5) for k in (0, 1))
    moved: Pictures = np.matmul(
        np.matmul(_cubic_weights(down, side), pictures), _cubic_weights(right, side).transpose(0, 2, 1)
    )
    inside = [((at > -0.25) & (at < side - 0.75)).astype(np.float32) for at in (down, right)]
    return moved, inside[0][:, :, None] * inside[1][:, None, :]


def _cubic_weights(at: Pictures, side: int) -> Pictures:
    """Matrices that interpolate by cubic convolution (Keys 1981): the weights of all pixels for each point.

    Args:
        at: The points, shape (n, side). Points outside are taken at the edge.
        side: The number of pixels.

    Returns:
        Shape (n, side, side).
    """
    import numpy as np

    far = np.abs(at.clip(0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32))
    near = (1.5 * far - 2.5) * far * far + 1
    outer = ((2.5 - 0.5 * far) * far - 4) * far + 2
    kernel = np.where(far < 1, near, np.where(far < 2, outer, np.float32(0)))
    weights: Pictures = kernel / kernel.sum(2, keepdims=True)
    return weights


def _coordinates(side: int) -> NDArray[np.float32]:
    """The middles of the pixels on a scale from -0.5 to 0.5."""
    import numpy as np

    return ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)


def _halved(pictures: Pictures) -> Pictures:
    """The means of two by two pixels."""
    import numpy as np

    rows = pictures[:, ::2] + pictures[:, 1::2]
    means: Pictures = (rows[:, :, ::2] + rows[:, :, 1::2]) * np.float32(0.25)
    return means


def _correlation(a: Pictures, b: Pictures, there: Pictures) -> NDArray[np.float32]:
    """The correlation of two pictures over the pixels of a mask; 0 if one of them is constant."""
    import numpy as np

    total = there.sum((1, 2))
    a, b = (values - ((values * there).sum((1, 2)) / total)[:, None, None] for values in (a, b))
    products = (a * b * there).sum((1, 2))
    spreads = (a * a * there).sum((1, 2)) * (b * b * there).sum((1, 2))
    return np.where(spreads > 1e-6, products / np.sqrt(np.maximum(spreads, 1e-6)), np.float32(0))
