"""Exact leave-one-out scores of ridge regression on one-hot labels, with a weight for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from nctransfer.label_audit.unit_rows import UnitRows, WeightedMoments

__all__ = ["RIDGE_PENALTIES", "left_out_ridge"]

RIDGE_PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(-4, 2))  # times the mean squared length


def left_out_ridge(rows: UnitRows, weights: torch.Tensor, moments: WeightedMoments) -> torch.Tensor:
    """Scores of all classes for each row, each row left out in turn.

    With the weighted covariance ``Σ w (x − m)(x − m)ᵀ = U S Uᵀ``, ``z = Uᵀ(x − m)`` and the leverage
    ``h = w (1/Σw + Σ z²/(s + λ))``, the residual of a row that is left out is its residual over ``1 − h``. The penalty
    is the one of :data:`RIDGE_PENALTIES`, times ``tr S / n``, that has the smallest weighted sum of squared residuals.
    For a given penalty, the scores of a row do not depend on its own label.

    Args:
        rows: n rows of C classes.
        weights: The weight of each row, ``(n,)``, above zero.
        moments: The moments of the rows with these weights.

    Returns:
        ``(n, C)`` float64.
    """
    import torch

    total = moments.weights.sum()
    mean, shares = moments.sums.sum(dim=0) / total, moments.weights / total
    values, vectors = torch.linalg.eigh(moments.second - total * torch.outer(mean, mean))
    values = values.clamp(min=0)
    rotated = ((moments.sums - moments.weights[:, None] * mean) @ vectors).T  # (d, C)
    scale = float(values.sum()) / len(rows) or 1.0
    inverses = [1 / (values + penalty * scale) for penalty in RIDGE_PENALTIES]

    def left_out(place: slice, z: torch.Tensor, inverse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        targets = torch.nn.functional.one_hot(rows.labels[place], rows.number).double()
        leverage = weights[place] * (z.square() @ inverse + 1 / total)
        residuals = targets - (z @ (inverse[:, None] * rotated) + shares)
        residuals /= (1 - leverage).clamp(min=torch.finfo(z.dtype).eps)[:, None]
        return targets - residuals, residuals

    errors = [0.0] * len(inverses)
    for place, batch in rows.batches():
        z = (batch - mean) @ vectors
        for number, inverse in enumerate(inverses):
            errors[number] += float(weights[place] @ left_out(place, z, inverse)[1].square().sum(dim=1))
    best = inverses[errors.index(min(errors))]
    return torch.cat([left_out(place, (batch - mean) @ vectors, best)[0] for place, batch in rows.batches()])
