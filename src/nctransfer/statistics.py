"""Class statistics of a feature set: all that the collapse measures need of it.

With ``mu_c`` the class means, ``mu_G`` their unweighted mean and ``r = f − mu_c`` the residual of a sample, one
matrix product gives everything: ``g = r · (mu_j − mu_G)`` for all classes j.

- directional variance: ``u_ijᵀ Sigma_i u_ij d_ij²`` is the mean over class i of ``(g_j − g_i)²``;
- nearest centre: ``‖f − mu_j‖² = ‖r‖² − 2 (g_j − g_i) + d_ij²``;
- ``tr(Sigma_W Sigma_B⁺)`` needs ``Sigma_W`` only in the span of the class means, so only the mean of ``g gᵀ``.

So no d×d matrix is ever made, and no class covariance. Everything is accumulated in float64 in two passes over
batches of rows in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.devices import with_float64
from nctransfer.errors import FeaturesError
from nctransfer.features import FeatureSet

if TYPE_CHECKING:
    import torch

__all__ = ["ClassStatistics"]


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """First and second moments of C classes of width d, float64.

    Attributes:
        counts: Samples of each class, ``(C,)``.
        centred_means: ``mu_c − mu_G``, ``(C, d)``.
        variances: ``v_c = (1/n_c) sum ‖f − mu_c‖²``, ``(C,)``.
        distances: ``d_ij = ‖mu_i − mu_j‖``, ``(C, C)``.
        directional: ``(mu_j − mu_i)ᵀ Sigma_i (mu_j − mu_i)``, ``(C, C)``, zero on the diagonal.
        projected_within: ``M Sigma_W Mᵀ``, M the centred means, ``(C, C)``.
        ncc_accuracies: Leave-one-out nearest-class-centre accuracy of each class, ``(C,)``.
    """

    counts: torch.Tensor
    centred_means: torch.Tensor
    variances: torch.Tensor
    distances: torch.Tensor
    directional: torch.Tensor
    projected_within: torch.Tensor
    ncc_accuracies: torch.Tensor

    @classmethod
    def of(cls, features: FeatureSet, device: str = "auto") -> ClassStatistics:
        """The statistics of a feature set.

        Args:
            features: At least 2 classes, each of at least 2 samples.
            device: Where to compute, see :func:`~nctransfer.devices.with_float64`.

        Raises:
            FeaturesError: Fewer than 2 classes, or a class of fewer than 2 samples.
        """
        import torch

        if len(features.classes) < 2 or int(features.counts.min()) < 2:
            raise FeaturesError(
                f"{len(features.classes)} classes of at least {int(features.counts.min())} samples "
                "are too few for class statistics",
                "needed are 2 classes of 2 samples each",
            )
        chosen = with_float64(device)
        counts = features.counts.to(chosen, torch.float64)
        classes = len(counts)

        sums = torch.zeros(classes, features.dim, dtype=torch.float64, device=chosen)
        for rows, labels in features.batches():
            sums.index_add_(0, labels.to(chosen), rows.to(chosen, torch.float64))
        means = sums / counts[:, None]
        centred = means - means.mean(dim=0)
        # not by the Gram matrix: close means far from mu_G would lose digits
        distances = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist")
        # what is within the rounding of the means is nothing
        rounding = 8 * torch.finfo(torch.float64).eps * means.norm(dim=1).max()
        distances[distances <= rounding] = 0
        centred[centred.norm(dim=1) <= rounding] = 0

        squares, correct = counts.new_zeros(classes), counts.new_zeros(classes)
        directional, within = (counts.new_zeros(classes, classes) for _ in range(2))
        for rows, labels in features.batches():
            labels = labels.to(chosen)
            residuals = rows.to(chosen, torch.float64) - means[labels]  # (n, d)
            norms = residuals.square().sum(dim=1)
            g = residuals @ centred.T  # (n, C)
            weighted = g / (classes * counts[labels])[:, None]
            within.addmm_(weighted.T, g)
            along = g - g.gather(1, labels[:, None])  # (n, C): r · (mu_j − mu_i)
            squares.index_add_(0, labels, norms)
            directional.index_add_(0, labels, along.square())
            # leave-one-out: without its own share, the own centre is n/(n−1) as far away
            own = norms * (counts[labels] / (counts[labels] - 1)).square()
            others = (norms[:, None] - 2 * along + distances[labels].square()).scatter_(1, labels[:, None], torch.inf)
            correct.index_add_(0, labels, (own < others.amin(dim=1)).to(torch.float64))
        return cls(
            counts=counts.cpu(),
            centred_means=centred.cpu(),
            variances=(squares / counts).cpu(),
            distances=distances.cpu(),
            directional=(directional / counts[:, None]).cpu(),
            projected_within=within.cpu(),
            ncc_accuracies=(correct / counts).cpu(),
        )
