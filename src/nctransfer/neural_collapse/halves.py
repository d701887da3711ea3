"""Random halves of every class, so that two estimates that are multiplied have independent errors.

Let ``D_A`` and ``D_B`` be the differences ``mu_j − mu_i`` in two halves A and B of the samples, and ``S_t`` the
unbiased covariance of class i in half t. The plug-in value of ``ΔᵀSigma_iΔ`` multiplies the noise of the class means
with itself. ``½ Σ_t D_Aᵀ S_t D_B`` multiplies the noise of one half with that of the other, which are independent.

With ``α_c`` the mean of half A less ``mu_c``, and ``β_c`` that of half B, ``D_A = Δ + α_j − α_i``, and β is a multiple
of α. So one matrix product for each split, ``r · α_j``, beside that of ``r · mu_j``, gives the value for every pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_stream import Features
    from nctransfer.neural_collapse.moments import Means

__all__ = ["LEAST", "SPLITS", "Halves", "first_halves"]

SPLITS = 4
LEAST = 4  # samples per class: each half needs two for a covariance


def first_halves(features: Features) -> torch.Tensor:
    """Which samples are in the first half of their class in each random split.

    The draw depends only on the size of the class and on the places of its samples in the order of their ids. So it is
    the same whatever the order of the rows, the other classes and the backbone. The first half has ``n_c // 2``
    samples.

    Args:
        features: The whole set; for a part of it the draw would be another.

    Returns:
        ``(n, splits)`` bool, in the order of the passes.
    """
    import torch

    drawn: dict[int, torch.Tensor] = {}
    sizes = features.counts.tolist()
    for size in set(sizes):
        generator = torch.Generator().manual_seed(size)
        orders = torch.stack([torch.randperm(size, generator=generator) for _ in range(SPLITS)], dim=1)
        drawn[size] = orders < size // 2
    found = torch.empty(len(features), SPLITS, dtype=torch.bool)
    found[features.order] = torch.cat([drawn[size] for size in sizes])
    return found


@dataclass(frozen=True, eq=False)
class Halves:
    """The means of the halves of C classes in S splits.

    Attributes:
        shifts: ``α_c``, ``(S, C, d)``.
        sizes: The number of samples of the first and of the second half, ``(2, C)``.
    """

    shifts: torch.Tensor
    sizes: torch.Tensor

    @classmethod
    def of(cls, means: Means) -> Halves | None:
        """The halves, or ``None`` if a class is too small."""
        import torch

        if int(means.counts.min()) < LEAST:
            return None
        first = means.half_counts[0]  # the same in every split
        shifts = means.halves / first[:, None]
        shifts -= means.sums / means.counts[:, None]  # in place, because many classes make it large
        return cls(shifts, torch.stack([first, means.counts - first]))

    @property
    def ratios(self) -> torch.Tensor:
        """``ρ_c``, ``(C,)``: ``β_c = −ρ_c α_c``."""
        found: torch.Tensor = self.sizes[0] / self.sizes[1]
        return found

    @property
    def weights(self) -> torch.Tensor:
        """Of each sample in the first and in the second half, ``(2, C)``: that of an average over splits and halves."""
        return 1 / (2 * len(self.shifts) * (self.sizes - 1))

    def products(
        self, residuals: torch.Tensor, projected: torch.Tensor, labels: torch.Tensor, is_first: torch.Tensor
    ) -> torch.Tensor:
        """``Σ w (r · D_A)(r · D_B)`` over the splits, for each of b samples with residual r and each class j.

        Args:
            residuals: r, ``(b, d)``.
            projected: ``r · Δ``, ``(b, C)``.
            labels: ``(b,)``.
            is_first: Whether each sample is in the first half, ``(b, S)``.

        Returns:
            ``(b, C)``.
        """
        import torch

        total = torch.zeros_like(projected)
        (of_first, of_second), ratios = self.weights[:, labels], self.ratios
        for split, shifts in enumerate(self.shifts):
            first = residuals @ shifts.T  # r · α_j
            second = first * -ratios  # r · β_j
            for along in (first, second):
                along -= along.gather(1, labels[:, None])
                along += projected
            weights: torch.Tensor = torch.where(is_first[:, split], of_first, of_second)
            total += first.mul_(second).mul_(weights[:, None])
        return total

    def of_means(self, means: torch.Tensor) -> torch.Tensor:
        """What the products of the means of the halves add to the sums of :meth:`products`, ``(C, C)``.

        Residuals are taken from the mean of the class, and the covariance of a half needs those from the mean of the
        half. The sum of the squares about the one is that about the other, plus the size times the squared shift.

        Args:
            means: Class means about any point, ``(C, d)``.
        """
        total = means.new_zeros(len(means), len(means))
        ratios: torch.Tensor = self.ratios[:, None]
        for shifts in self.shifts:
            differences = []
            for of_half in (shifts, -ratios * shifts):
                along = shifts @ (means + of_half).T  # α_i · mu_j of the half
                own: torch.Tensor = along.diagonal()
                differences.append(along - own[:, None])
            product = differences[0] * differences[1]
            # the second half has the shift −ρ α
            scale: torch.Tensor = self.weights[0] * self.sizes[0] + self.weights[1] * self.sizes[1] * ratios[:, 0] ** 2
            total += scale[:, None] * product
        return total
