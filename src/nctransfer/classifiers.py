"""Few-shot classifiers, batched over episodes.

All of them need inner products only: of the support with itself, and of the queries with the support. Shapes: E
episodes, w ways, s shots, N = w·s support samples (class by class), Q queries. A classifier returns a score for
each query and class, ``(E, Q, w)``; the highest wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["CLASSIFIERS", "Classifier", "ncc", "ridge"]

Classifier = Callable[["torch.Tensor", "torch.Tensor", int], "torch.Tensor"]


def ncc(support: torch.Tensor, cross: torch.Tensor, ways: int) -> torch.Tensor:
    """Nearest class centre: ``−‖f − m_c‖²`` up to a constant of the query, m_c the mean of the support of class c.

    Args:
        support: ``(E, N, N)`` inner products of the support.
        cross: ``(E, Q, N)`` inner products of queries with support.
        ways: w; N is a multiple of it.

    >>> import torch
    >>> x, f = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.4], [1.6]]])  # one episode, 2-way 1-shot
    >>> ncc(x @ x.mT, f @ x.mT, 2).argmax(dim=2).tolist()
    [[0, 1]]
    """
    shots = support.shape[1] // ways
    blocks = support.reshape(-1, ways, shots, ways, shots)
    squares = blocks.mean(dim=(2, 4)).diagonal(dim1=1, dim2=2)  # (E, w): ‖m_c‖²
    return cross.reshape(*cross.shape[:2], ways, shots).mean(dim=3) - squares[:, None] / 2


def ridge(support: torch.Tensor, cross: torch.Tensor, ways: int, penalty: float | None = None) -> torch.Tensor:
    """Ridge regression on one-hot labels: ``argmin ‖XW + b − Y‖² + λ‖W‖²``, the intercept not penalised.

    In the dual, with K the inner products of the centred support: ``scores = k (K + λI)⁻¹ Y + 1/w``.

    Args:
        support: ``(E, N, N)`` inner products of the support.
        cross: ``(E, Q, N)`` inner products of queries with support.
        ways: w; N is a multiple of it.
        penalty: λ > 0; by default ``√(ways · shots)``, as Galanti et al. (ICLR 2022) is remembered.

    >>> import torch
    >>> x, f = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.4], [1.6]]])
    >>> ridge(x @ x.mT, f @ x.mT, 2).argmax(dim=2).tolist()
    [[0, 1]]
    """
    import torch

    size = support.shape[1]  # N
    penalty = math.sqrt(size) if penalty is None else penalty
    support, cross = support.double(), cross.double()  # or 1/w would swallow the scores of short features
    rows = support.mean(dim=2, keepdim=True)  # (E, N, 1)
    total = rows.mean(dim=1, keepdim=True)  # (E, 1, 1)
    kernel = support - rows - rows.mT + total
    diagonal = kernel.diagonal(dim1=1, dim2=2)
    # the second term is far below any penalty, but for features so long that their rounding exceeds it
    diagonal.add_(penalty + 4 * torch.finfo(kernel.dtype).eps * diagonal.sum(dim=1, keepdim=True))
    k = cross - cross.mean(dim=2, keepdim=True) - rows.mT + total  # (E, Q, N)
    targets = torch.eye(ways, dtype=kernel.dtype, device=kernel.device).repeat_interleave(size // ways, dim=0)
    targets = (targets - 1 / ways).expand(len(kernel), -1, -1)  # (E, N, w), centred
    weights = torch.cholesky_solve(targets, torch.linalg.cholesky(kernel))
    return k @ weights + 1 / ways


CLASSIFIERS: Mapping[str, Classifier] = {"ridge": ridge, "ncc": ncc}
"""Every classifier by name."""
