"""Class statistics of a feature set: what the collapse measures need, computed in two passes over its rows.

The first pass, :class:`~nctransfer.neural_collapse.moments.Means`, counts and averages. The second,
:class:`~nctransfer.neural_collapse.moments.Moments`, needs the class means of the first. Both can be added, so that the
parts of a set, on several machines if necessary, give the same result as the whole set. The memory is about 6·C·d + d²
+ C² numbers and one batch. Rows may come in any order. Everything is float64.

With ``mu_c`` the class means, ``mu_G`` their unweighted mean and ``r = f − mu_c`` the residual of a sample, one matrix
product ``g = r · (mu_j − mu_G)`` for all classes j gives every quantity of two classes:

- the directional variance: ``u_ijᵀ Sigma_i u_ij d_ij²`` is the mean over class i of ``(g_j − g_i)²``;
- the nearest centre: ``‖f − mu_j‖² = ‖r‖² − 2 (g_j − g_i) + d_ij²``.

So no class covariance is ever computed. A second product, ``rᵀ r``, gives ``Sigma_W``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from nctransfer.devices import with_float64
from nctransfer.errors import FeaturesError, counted
from nctransfer.features.sample_content import Duplicates
from nctransfer.features.size_limits import check_size
from nctransfer.neural_collapse.halves import Halves, first_halves
from nctransfer.neural_collapse.moments import Geometry, Means, Moments, symmetric
from nctransfer.neural_collapse.spectra import spectra

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_stream import Features
    from nctransfer.neural_collapse.linear_head import LinearHead

__all__ = ["ClassStatistics", "PairStatistics", "ncc_accuracies", "nearest_centre"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairStatistics:
    """What the debiased measures of pairs of classes need, which costs no covariance; float64, on the CPU.

    Attributes:
        counts: The number of samples of each class, ``(C,)``.
        variances: ``v_c = (1/n_c) sum ‖f − mu_c‖²``, ``(C,)``.
        distances: ``d_ij = ‖mu_i − mu_j‖``, ``(C, C)``.
        crossed: An estimate of ``(mu_j − mu_i)ᵀ Sigma_i (mu_j − mu_i)`` in which the noise of the means is not squared,
            ``(C, C)``, see :mod:`~nctransfer.neural_collapse.halves`; ``None`` if a class has fewer than 4 samples.
    """

    counts: torch.Tensor
    variances: torch.Tensor
    distances: torch.Tensor
    crossed: torch.Tensor | None = None

    @classmethod
    def of(cls, features: Features, device: str = "auto") -> PairStatistics:
        """The statistics of a feature set, the same numbers as those of :meth:`ClassStatistics.of`.

        Args:
            features: At least 2 classes, each with at least 2 samples.
            device: Where to compute, see :func:`~nctransfer.devices.with_float64`.

        Raises:
            FeaturesError: There are fewer than 2 classes, a class has fewer than 2 samples, or the features are so
                large or small that their moments leave float64.
        """
        means, moments = _two_passes(features, device, covariances=False)
        return PairStatistics(**_of_pairs(means, moments, Geometry(means)))


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassStatistics(PairStatistics):
    """First and second moments of C classes of width d; float64, on the CPU. Those of pairs of classes are among them.

    Attributes:
        centred_means: ``mu_c − mu_G``, ``(C, d)``.
        centre: ``mu_G``, ``(d,)``.
        fourths: ``q_c = (1/n_c) sum ‖f − mu_c‖⁴``, ``(C,)``.
        directional: ``(mu_j − mu_i)ᵀ Sigma_i (mu_j − mu_i)``, ``(C, C)``, zero on the diagonal.
        within: ``Sigma_W``, ``(d, d)``.
        covariance: The covariance of all samples about their mean, ``(d, d)``; classes are weighted by their size.
        ncc_accuracies: The leave-one-out nearest-class-centre accuracy of each class, ``(C,)``.
        duplicates: How many rows are equal to an earlier row.
        head: A linear classifier for these classes; ``None`` if there is none.
        agreement: The share of samples for which the head and the nearest centre predict the same class; ``None`` if
            there is no head.
        answers: How often samples of each class get each class as the head's answer, ``(2, C, C)``: every other sample
            of a class counts in the second half. ``None`` if there is no head, or there are too many classes.
    """

    centred_means: torch.Tensor
    centre: torch.Tensor
    fourths: torch.Tensor
    directional: torch.Tensor
    within: torch.Tensor
    covariance: torch.Tensor
    ncc_accuracies: torch.Tensor
    duplicates: Duplicates = field(default_factory=Duplicates)
    head: LinearHead | None = None
    agreement: float | None = None
    answers: torch.Tensor | None = None

    @functools.cached_property
    def between(self) -> torch.Tensor:
        """``Sigma_B``, ``(d, d)``."""
        return self.centred_means.T @ self.centred_means / len(self.counts)

    @property
    def total(self) -> torch.Tensor:
        """``Sigma_T = Sigma_W + Sigma_B``, ``(d, d)``."""
        return self.within + self.between

    @functools.cached_property
    def _spectra(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The eigenvalues of the covariance of all samples, and of their second moments about zero, ``(d,)`` each."""
        mean = self.centre + self.counts / self.counts.sum() @ self.centred_means
        return spectra(self.covariance, mean)

    @property
    def spectrum(self) -> torch.Tensor:
        """The eigenvalues of the covariance of all samples that are larger than rounding, ``(rank,)``."""
        return _above_rounding(self._spectra[0])

    @property
    def spectrum_about_zero(self) -> torch.Tensor:
        """The eigenvalues of ``(1/n) sum f fᵀ`` over all samples that are larger than rounding, ``(rank,)``."""
        return _above_rounding(self._spectra[1])

    @classmethod
    def of(cls, features: Features, device: str = "auto") -> ClassStatistics:
        """The statistics of a feature set.

        Args:
            features: At least 2 classes, each with at least 2 samples.
            device: Where to compute, see :func:`~nctransfer.devices.with_float64`.

        Raises:
            FeaturesError: There are fewer than 2 classes, or a class has fewer than 2 samples.
        """
        return cls.from_passes(*_two_passes(features, device))

    @classmethod
    def from_passes(cls, means: Means, moments: Moments) -> Self:
        """The statistics from the results of both passes, each added up over all parts of the set.

        Raises:
            FeaturesError: The features are so large or small that their moments leave float64.
        """
        geometry = Geometry(means)
        counts, offsets = means.counts, _offsets(means, geometry)
        total = counts.sum()
        within = symmetric(moments.within)
        pooled = within * total if moments.pooled is None else symmetric(moments.pooled)
        return cls(
            **_of_pairs(means, moments, geometry),
            centred_means=geometry.centred.cpu(),
            centre=geometry.means.mean(dim=0).cpu(),
            fourths=(moments.fourths / counts).cpu(),
            directional=(moments.directional / counts[:, None]).cpu(),
            within=geometry.without_rounding(within).cpu(),
            covariance=geometry.without_rounding((pooled + (offsets.T * counts) @ offsets) / total).cpu(),
            ncc_accuracies=(moments.right / counts).cpu(),
            duplicates=means.duplicates,
        )


def _above_rounding(values: torch.Tensor) -> torch.Tensor:
    """The eigenvalues of a positive semidefinite matrix, ascending, that are larger than rounding."""
    import torch

    return values[values > values[-1] * len(values) * torch.finfo(values.dtype).eps]


def _two_passes(features: Features, device: str, *, covariances: bool = True) -> tuple[Means, Moments]:
    if len(features.classes) < 2 or int(features.counts.min()) < 2:
        raise FeaturesError(
            "class statistics need 2 classes with 2 samples each; got "
            f"{counted(len(features.classes), 'class', 'classes')}, the smallest with "
            f"{counted(int(features.counts.min()), 'sample')}",
            "give at least 2 classes with 2 samples each",
        )
    is_first = first_halves(features)
    means = Means.of(features, with_float64(device), is_first)
    return means, Moments.of(features, means, is_first, covariances=covariances)


def _offsets(means: Means, geometry: Geometry) -> torch.Tensor:
    """The class means minus the mean of all samples, ``(C, d)``."""
    return geometry.means - (means.shift + means.sums.sum(dim=0) / means.counts.sum())


def _of_pairs(means: Means, moments: Moments, geometry: Geometry) -> dict[str, Any]:
    """The fields of :class:`PairStatistics`.

    Raises:
        FeaturesError: The features are so large or small that their moments leave float64.
    """
    counts = means.counts
    variances = moments.squares / counts
    # about the mean of all samples
    squares = moments.squares.sum() + counts @ _offsets(means, geometry).square().sum(dim=1)
    check_size(max(float(geometry.means.abs().max()), math.sqrt(float(squares / counts.sum()))))
    variances[variances <= geometry.rounding.square()] = 0
    return {
        "counts": counts.cpu(),
        "variances": variances.cpu(),
        "distances": geometry.distances.cpu(),
        "crossed": _crossed(means, moments, geometry, variances),
    }


def _crossed(means: Means, moments: Moments, geometry: Geometry, variances: torch.Tensor) -> torch.Tensor | None:
    halves = Halves.of(means)
    if halves is None or moments.crossed is None:
        return None
    found = moments.crossed - halves.of_means(geometry.centred)
    found[variances == 0] = 0
    return found.fill_diagonal_(0).cpu()


def ncc_accuracies(features: Features, centres: ClassStatistics, device: str = "auto") -> torch.Tensor:
    """The nearest-class-centre accuracy of each class, with the class centres of another set.

    Args:
        features: Samples of C classes.
        centres: The statistics of the other set, with the same classes in the same order.
        device: Where to compute.

    Returns:
        ``(C,)`` float64.
    """
    import torch

    right = torch.zeros(len(centres.counts), dtype=torch.float64)
    for _, labels, nearest in nearest_centre(features, centres, with_float64(device)):
        right.index_add_(0, labels, (nearest == labels).to(torch.float64))
    return right / features.counts


def nearest_centre(
    features: Features, centres: ClassStatistics, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Features minus ``mu_G``, labels, and the number of the nearest class centre, one batch of rows at a time."""
    import torch

    centred, centre = centres.centred_means.to(device), centres.centre.to(device)
    lengths = centred.square().sum(dim=1)
    for rows, labels in features.batches():
        values = rows.to(device, torch.float64) - centre
        yield values, labels, (lengths - 2 * values @ centred.T).argmin(dim=1).cpu()
