"""Collapse measures: how tightly the classes of a feature set cluster, and how their means lie.

One quantity is one function of :class:`~nctransfer.statistics.ClassStatistics`. The papers are Galanti, György, Hutter
(ICLR 2022, arXiv 2112.15121; "G22" below), Papyan, Han, Donoho (PNAS 2020; "P20"), and Luthra, Yang, Galanti
(arXiv 2506.04411; "L25"). ``v_c`` has divisor n_c; averages over pairs run over ordered pairs i ≠ j with equal
weight; standard deviations are the population's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.errors import FeaturesError, counted
from nctransfer.features import FeatureSet
from nctransfer.statistics import ClassStatistics

if TYPE_CHECKING:
    import pandas as pd
    import torch

__all__ = [
    "MEASURES",
    "CollapseReport",
    "Measure",
    "PairCollapse",
    "cdnv",
    "cdnv_debiased",
    "collapse",
    "directional_cdnv",
    "equiangularity",
    "equinorm",
    "nc1",
    "ncc_accuracy",
]


class Undefined(ValueError):  # noqa: N818 - a state of the data, not an error of the caller
    """A quantity has no value for these data; the message is the reason."""


def _pair_average(pairs: torch.Tensor) -> float:
    classes = len(pairs)
    return float((pairs.sum() - pairs.diagonal().sum()) / (classes * (classes - 1)))


def _over_square(numerator: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
    """``numerator / squared`` off the diagonal, infinite where two means coincide; zero on it."""
    import torch

    ratio = torch.where(squared > 0, numerator / squared, torch.inf)
    return ratio.fill_diagonal_(0)


def cdnv_pairs(stats: ClassStatistics) -> torch.Tensor:
    """``V_ij = (v_i + v_j) / (2 d_ij²)``, symmetric ``(C, C)``, zero on the diagonal (G22)."""
    sums = stats.variances[:, None] + stats.variances
    return _over_square(sums / 2, stats.distances.square())


def directional_pairs(stats: ClassStatistics) -> torch.Tensor:
    """``u_ijᵀ Sigma_i u_ij / d_ij²``, ``(C, C)``: row i the class that varies, column j the one it looks at."""
    squared = stats.distances.square()
    return _over_square(stats.directional, squared.square())


def debiased_pairs(stats: ClassStatistics) -> tuple[torch.Tensor, torch.Tensor]:
    """Debiased ``V_ij``, and which ordered pairs the data resolve; both ``(C, C)``."""
    import torch

    unbiased = stats.variances * stats.counts / (stats.counts - 1)
    bias = unbiased / stats.counts
    bias_pairs = bias[:, None] + bias
    squared = stats.distances.square() - bias_pairs
    coincide = stats.distances == 0
    resolved = ((squared > bias_pairs) | coincide).fill_diagonal_(False)
    values = (unbiased[:, None] + unbiased) / (2 * squared)
    return torch.where(coincide, torch.inf, values), resolved


def cdnv(stats: ClassStatistics) -> float:
    """Class-distance normalised variance: ``V_ij = (v_i + v_j) / (2 d_ij²)``, averaged over pairs.

    With the factor ½, as in G22 (L26 writes V without it, twice as large). Range 0 to ∞; lower is more collapsed.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> cdnv(ClassStatistics.of(two))  # v = 1 and 1, d² = 100
    0.01
    """
    return _pair_average(cdnv_pairs(stats))


def cdnv_debiased(stats: ClassStatistics) -> float:
    """CDNV with unbiased variances and squared distances.

    ``v_c → n_c/(n_c−1) v_c`` and ``d_ij² → d_ij² − v_i/n_i − v_j/n_j``. The plug-in value is too low when classes
    are small, because class means of few samples lie too far apart. Pairs whose debiased squared distance is not
    above the bias taken off are not resolved by the data and left out of the average.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(cdnv_debiased(ClassStatistics.of(two)), 6)  # v = 2 and 2, d² = 100 − 1 − 1
    0.020408
    """
    values, resolved = debiased_pairs(stats)
    if not bool(resolved.any()):
        raise Undefined("no pair of classes is resolved: distances are within the noise of the class means")
    return float(values[resolved].mean())


def directional_cdnv(stats: ClassStatistics) -> float:
    """CDNV along the line between the means: ``u_ijᵀ Sigma_i u_ij / d_ij²`` over ordered pairs (L25).

    Range 0 to ∞, and at most the CDNV; lower is more collapsed. It counts only the variance that can confuse the
    two classes.

    >>> two = FeatureSet.from_arrays([[0.0, 5.0], [2.0, 5.0], [1.0, 0.0], [1.0, 0.0]], "aabb")
    >>> directional_cdnv(ClassStatistics.of(two))  # class a varies across the line to b, not along it
    0.0
    """
    return _pair_average(directional_pairs(stats))


def nc1(stats: ClassStatistics) -> float:
    """Within-class relative to between-class covariance: ``tr(Sigma_W Sigma_B⁺) / C`` (P20).

    Computed through the C×C Gram matrix ``M Mᵀ = U S² Uᵀ`` of the centred means. Range 0 to ∞; lower is more collapsed.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(nc1(ClassStatistics.of(two)), 6)  # Sigma_W = 1, Sigma_B = 25
    0.02
    """
    import torch

    means = stats.centred_means
    values, vectors = torch.linalg.eigh(means @ means.T)  # ascending
    cutoff = values[-1] * max(means.shape) * torch.finfo(values.dtype).eps
    kept = values > cutoff
    if not bool(kept.any()):
        raise Undefined("all class means coincide")
    within = ((vectors.T @ stats.projected_within) * vectors.T).sum(dim=1)  # uᵀ M Sigma_W Mᵀ u
    # Sigma_B⁺ = C (MᵀM)⁺; the C cancels the one of the definition
    return float((within[kept] / values[kept].square()).sum())


def equinorm(stats: ClassStatistics) -> float:
    """Coefficient of variation of the lengths ``‖mu_c − mu_G‖`` (P20).

    Range 0 to ∞; 0 if all class means are equally far from their centre, as in collapse.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> equinorm(ClassStatistics.of(two))
    0.0
    """
    lengths = stats.centred_means.norm(dim=1)
    if float(lengths.max()) == 0:
        raise Undefined("all class means coincide")
    return float(lengths.std(correction=0) / lengths.mean())


def equiangularity(stats: ClassStatistics) -> float:
    """Standard deviation of ``cos(mu_i − mu_G, mu_j − mu_G)`` over pairs (P20).

    Range 0 to 1; 0 if all class means enclose the same angle, as in collapse.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> equiangularity(ClassStatistics.of(two))
    0.0
    """
    import torch

    lengths = stats.centred_means.norm(dim=1, keepdim=True)
    if float(lengths.min()) == 0:
        raise Undefined("a class mean lies on the centre of all, and has no direction")
    unit = stats.centred_means / lengths
    pairs = torch.triu_indices(len(unit), len(unit), offset=1)
    return float((unit @ unit.T)[pairs[0], pairs[1]].std(correction=0))


def ncc_accuracy(stats: ClassStatistics) -> float:
    """Leave-one-out accuracy of the nearest class centre, classes weighted equally (NC4 in P20).

    Leaving a sample out moves its own class centre: ``‖f − mu_c‖`` becomes ``n_c/(n_c−1) ‖f − mu_c‖``. Range 0 to 1;
    higher is more collapsed.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> ncc_accuracy(ClassStatistics.of(two))
    1.0
    """
    return float(stats.ncc_accuracies.mean())


class Measure(NamedTuple):
    """A quantity of the collapse report, and how to read it."""

    function: Any
    meaning: str
    collapsed: str  # which way is collapsed


MEASURES: Mapping[str, Measure] = {
    "cdnv": Measure(cdnv, "variance over distance²", "lower"),
    "cdnv_debiased": Measure(cdnv_debiased, "corrected for few samples", "lower"),
    "directional_cdnv": Measure(directional_cdnv, "along the line to the other", "lower"),
    "nc1": Measure(nc1, "within over between classes", "lower"),
    "equinorm": Measure(equinorm, "spread of mean lengths", "lower"),
    "equiangularity": Measure(equiangularity, "spread of mean angles", "lower"),
    "ncc_accuracy": Measure(ncc_accuracy, "nearest class centre", "higher"),
}
"""Every measure by name, in the order of the tables."""


class PairCollapse(NamedTuple):
    """Two classes and how well they are apart; ``directional_ab`` is class a along the line to b."""

    class_a: str
    class_b: str
    cdnv: float
    directional_ab: float
    directional_ba: float
    distance: float


@dataclass(frozen=True)
class CollapseReport:
    """The collapse of one feature set.

    Attributes:
        features: What was measured, as :meth:`~nctransfer.features.FeatureSet.to_dict` says it.
        metrics: Every measure by name; ``None`` where it is not defined. Also attributes: ``report.cdnv``.
        intervals: 95% intervals of averages over pairs: delete-one-class jackknife, for 3 classes and more.
        undefined: The reason for each ``None``.
        pairs: Pairs of classes, those of highest CDNV first.
        notes: What the reader should know: classes left out, pairs not resolved.
    """

    features: dict[str, Any]
    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    undefined: dict[str, str]
    pairs: tuple[PairCollapse, ...]
    notes: tuple[str, ...]

    def __getattr__(self, name: str) -> float | None:
        """A measure by its name."""
        try:
            return self.__dict__["metrics"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"there is no measure {name!r}") from None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "features": self.features,
            "metrics": self.metrics,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "undefined": self.undefined,
            "pairs": [pair._asdict() for pair in self.pairs],
            "notes": list(self.notes),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row a measure: ``metric``, ``value``, ``low``, ``high``."""
        import pandas as pd

        nothing = (math.nan, math.nan)
        rows = [(name, value, *self.intervals.get(name, nothing)) for name, value in self.metrics.items()]
        return pd.DataFrame(rows, columns=["metric", "value", "low", "high"])


def collapse(features: FeatureSet, *, pairs: int | None = 5, device: str = "auto") -> CollapseReport:
    """How collapsed the classes of a feature set are.

    Args:
        features: The feature set.
        pairs: How many of the closest pairs of classes to list; ``None`` for all.
        device: Where to compute.

    Raises:
        FeaturesError: There are fewer than two classes of two samples.
    """
    notes = []
    usable = features
    if single := [name for name, n in zip(features.classes, features.counts.tolist(), strict=True) if n < 2]:
        notes.append(
            f"{counted(len(single), 'class', 'classes')} of one sample left out: {_some(list(map(repr, single)))}"
        )
        usable = features.only_classes((features.counts >= 2).nonzero()[:, 0])
    if (left := len(usable.classes)) < 2:
        raise FeaturesError(
            f"{features.info.id} has {counted(left, 'class', 'classes')} of 2 samples or more; collapse needs two",
            "collapse compares classes: give data with at least two classes of two samples each",
        )
    stats = ClassStatistics.of(usable, device)
    metrics: dict[str, float | None] = {}
    undefined = {}
    for name, measure in MEASURES.items():
        try:
            metrics[name] = measure.function(stats)
        except Undefined as reason:
            metrics[name], undefined[name] = None, str(reason)
    debiased, resolved = debiased_pairs(stats)
    if unresolved := _pairs_where(~resolved, usable.classes):
        count = "1 pair is" if len(unresolved) == 1 else f"{len(unresolved):,} pairs are"
        notes.append(
            f"{count} closer than the noise of the class means, and left out of cdnv_debiased: " + _some(unresolved)
        )
    if same := _pairs_where(stats.distances == 0, usable.classes):
        notes.append(f"the same mean, and so an infinite CDNV, have {_some(same)}")
    averaged = {"cdnv": cdnv_pairs(stats), "directional_cdnv": directional_pairs(stats)}
    if not unresolved:  # the closed form needs every pair
        averaged["cdnv_debiased"] = debiased.fill_diagonal_(0)
    return CollapseReport(
        features=usable.to_dict(),
        metrics=metrics,
        intervals=_intervals(averaged),
        undefined=undefined,
        pairs=_closest_pairs(stats, usable.classes, pairs),
        notes=tuple(notes),
    )


def _intervals(matrices: Mapping[str, torch.Tensor]) -> dict[str, tuple[float, float]]:
    found = {name: jackknife(pairs) for name, pairs in matrices.items() if len(pairs) >= 3}
    return {name: ends for name, ends in found.items() if all(map(math.isfinite, ends))}


def jackknife(pairs: torch.Tensor) -> tuple[float, float]:
    """95% interval of an average over ordered pairs: delete-one-class jackknife, in closed form.

    ``θ₍₋c₎ = (S − row_c − col_c)/((C−1)(C−2))``, ``se² = (C−1)/C · Σ(θ₍₋c₎ − θ̄)²``, ``θ ± t_{C−1} se``. Classes are
    the random draw, as in G22.

    Args:
        pairs: ``(C, C)`` with zeros on the diagonal, C ≥ 3.

    >>> import torch
    >>> jackknife(torch.ones(4, 4).fill_diagonal_(0))
    (1.0, 1.0)
    """
    from scipy.special import stdtrit

    classes = len(pairs)
    without = (pairs.sum() - pairs.sum(dim=0) - pairs.sum(dim=1)) / ((classes - 1) * (classes - 2))
    error = math.sqrt((classes - 1) / classes * float((without - without.mean()).square().sum()))
    reach = float(stdtrit(classes - 1, 0.975)) * error
    average = _pair_average(pairs)
    return average - reach, average + reach


def _closest_pairs(stats: ClassStatistics, classes: tuple[str, ...], most: int | None) -> tuple[PairCollapse, ...]:
    import torch

    first, second = torch.triu_indices(len(classes), len(classes), offset=1)
    values, along = cdnv_pairs(stats), directional_pairs(stats)
    order = values[first, second].sort(descending=True, stable=True).indices[:most]
    return tuple(
        PairCollapse(
            classes[a],
            classes[b],
            float(values[a, b]),
            float(along[a, b]),
            float(along[b, a]),
            float(stats.distances[a, b]),
        )
        for a, b in zip(first[order].tolist(), second[order].tolist(), strict=True)
    )


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _pairs_where(condition: torch.Tensor, classes: tuple[str, ...]) -> list[str]:
    """The pairs of classes for which a symmetric ``(C, C)`` condition holds, by name."""
    return [f"{classes[a]!r}/{classes[b]!r}" for a, b in condition.triu(diagonal=1).nonzero().tolist()]
