"""Ridge regression on one-hot labels with several penalties at once, and its exact leave-one-out scores.

In the eigenbasis of the covariance ``XᵀX = U S Uᵀ`` of the centred training samples every penalty λ costs one product:
``ŷ = z (S + λ)⁻¹ Uᵀ XᵀY`` with ``z = x U``. A leave-one-out residual is the residual over ``1 − h`` with the leverage
``h = 1/n + Σ z²/(s + λ)``, so that leaving out each sample needs no further fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.episodes.ridge import LOO_EXPONENTS

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_stream import Features
    from nctransfer.neural_collapse.class_statistics import ClassStatistics

__all__ = ["LeftOutErrors", "LinearMap", "RidgeRegressions"]


class LinearMap(NamedTuple):
    """Scores as a linear map of features: ``(f − centre) @ weight.T + intercept``.

    Attributes:
        weight: ``(C, d)``, float64.
        intercept: ``(C,)``, float64.
        centre: ``(d,)``, float64.
    """

    weight: torch.Tensor
    intercept: torch.Tensor
    centre: torch.Tensor


class LeftOutErrors(NamedTuple):
    """How well each penalty predicts training samples that are left out.

    Attributes:
        squared: The sum of squared errors of each of the P penalties, ``(P,)``.
        right: How many samples of each class are classified right, ``(P, C)``.
    """

    squared: torch.Tensor
    right: torch.Tensor

    @property
    def best(self) -> int:
        """The number of the penalty with the smallest squared error."""
        return int(self.squared.argmin())


class RidgeRegressions:
    """Ridge regressions on one training set, one for each penalty.

    The intercept is not penalised. The penalties are ``10^{−3…3}`` times the mean squared length of centred samples.

    Args:
        stats: The moments of the training set.
        device: Where to compute.

    Attributes:
        penalties: The penalties λ, ascending.
    """

    def __init__(self, stats: ClassStatistics, device: torch.device) -> None:
        import torch

        self._total = float(stats.counts.sum())
        shares = stats.counts / self._total
        means = stats.centred_means + stats.centre
        mean = shares @ means
        values, vectors = torch.linalg.eigh((stats.covariance * self._total).to(device))
        values = values.clamp(min=0)  # (d,)
        scale = float(values.sum()) / self._total or 1.0
        self.penalties = [10.0**exponent * scale for exponent in LOO_EXPONENTS]
        self._vectors, self._mean, self._shares = vectors, mean.to(device), shares.to(device)
        moments = (stats.counts[:, None] * (means - mean)).to(device)  # (C, d): YᵀX
        self._rotated = (moments @ vectors).T  # (d, C)
        self._inverse = [1 / (values + penalty) for penalty in self.penalties]

    def left_out_errors(self, train: Features) -> LeftOutErrors:
        """The errors of each penalty on the training samples, each left out in turn; one pass over the samples."""
        import torch

        squared = torch.zeros(len(self.penalties), dtype=torch.float64)
        right = torch.zeros(len(self.penalties), len(train.classes), dtype=torch.float64)
        for rows, labels in train.batches():
            z, codes = self._in_basis(rows), labels.to(self._mean.device)
            for number in range(len(self.penalties)):
                scores = self._left_out(z, codes, number)
                right[number].index_add_(0, labels, (scores.argmax(dim=1) == codes).double().cpu())
                scores[torch.arange(len(codes)), codes] -= 1  # now minus the residuals
                squared[number] += float(scores.square().sum())
        return LeftOutErrors(squared, right)

    def scores_without_groups(
        self, rows: torch.Tensor, labels: torch.Tensor, groups: Iterable[torch.Tensor], number: int
    ) -> Iterator[torch.Tensor]:
        """The scores of groups of training samples, the samples of each group being left out together.

        With H the block of the hat matrix of a group, its left-out residuals are ``(I − H)⁻¹`` times its residuals.

        Args:
            rows: All n training samples, ``(n, d)``.
            labels: Their class codes, ``(n,)``.
            groups: The rows of each group.
            number: The number of the penalty.

        Yields:
            The scores of each group, ``(b, C)`` float64, on the CPU.
        """
        import torch

        z, inverse = self._in_basis(rows), self._inverse[number]
        targets = torch.nn.functional.one_hot(labels.to(z.device), len(self._shares)).double()
        residuals = targets - (z @ (inverse[:, None] * self._rotated) + self._shares)
        z *= inverse.sqrt()
        for group in groups:
            chosen = group.to(z.device)
            rest = torch.eye(len(chosen), dtype=z.dtype, device=z.device) - z[chosen] @ z[chosen].T - 1 / self._total
            yield (targets[chosen] - torch.linalg.solve(rest, residuals[chosen])).cpu()

    def predict(self, rows: torch.Tensor, number: int) -> torch.Tensor:
        """The class codes ``(b,)`` that the regression with penalty number ``number`` predicts for some samples."""
        scores = self._in_basis(rows) @ (self._inverse[number][:, None] * self._rotated) + self._shares
        found: torch.Tensor = scores.argmax(dim=1).cpu()
        return found

    def linear_map(self, number: int) -> LinearMap:
        """The regression with penalty number ``number`` as a linear map of features, on the CPU."""
        weight = (self._vectors @ (self._inverse[number][:, None] * self._rotated)).T
        return LinearMap(weight.cpu(), self._shares.cpu(), self._mean.cpu())

    def _in_basis(self, rows: torch.Tensor) -> torch.Tensor:
        """``z = (x − mean) U``, ``(b, d)``."""
        import torch

        z: torch.Tensor = (rows.to(self._mean.device, torch.float64) - self._mean) @ self._vectors
        return z

    def _left_out(self, z: torch.Tensor, codes: torch.Tensor, number: int) -> torch.Tensor:
        """The scores ``(b, C)`` of training samples in the eigenbasis, each left out in turn."""
        import torch

        inverse = self._inverse[number]
        targets = torch.nn.functional.one_hot(codes, len(self._shares)).double()
        residuals = targets - (z @ (inverse[:, None] * self._rotated) + self._shares)
        leverage = z.square() @ inverse + 1 / self._total
        scores: torch.Tensor = targets - residuals / (1 - leverage).clamp(min=torch.finfo(z.dtype).eps)[:, None]
        return scores
