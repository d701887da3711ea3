"""Features so large or so small that their squares leave float32, brought into its range."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nctransfer.features.size_limits import check_size

if TYPE_CHECKING:
    import torch

__all__ = ["rescaled"]

ORDINARY = 2.0**-32, 2.0**32  # sizes whose squares, and those of small differences, stay in the range of float32


def rescaled(rows: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Features times a power of two if their size is extreme, so that their inner products neither overflow nor vanish.

    Multiplying by a power of two is exact. Features of ordinary size, up to ``2³²`` and not below ``2⁻³²``, stay as
    they are; others are multiplied so that the largest absolute value lies between ½ and 1.

    Args:
        rows: ``(n, d)``.

    Returns:
        The features, and what they were multiplied by.

    Raises:
        FeaturesError: A value is infinite, or all are far outside the range of float32.

    >>> import torch
    >>> rows, factor = rescaled(torch.tensor([[3e-30, 0.0], [0.0, 1e-30]]))
    >>> bool((rows.double() / factor == torch.tensor([[3e-30, 0.0], [0.0, 1e-30]])).all()), 0.5 <= float(rows.max()) < 1
    (True, True)
    >>> rescaled(torch.tensor([[3.0]]))
    (tensor([[3.]]), 1.0)
    """
    low, high = (float(value) for value in rows.aminmax())
    largest = max(-low, high)
    if largest == 0 or ORDINARY[0] <= largest <= ORDINARY[1]:
        return rows, 1.0
    check_size(largest)
    factor = 2.0 ** -math.frexp(largest)[1]
    return (rows.double() * factor).to(rows.dtype), factor  # float32 cannot hold every factor
