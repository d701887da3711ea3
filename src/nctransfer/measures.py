"""Collapse measures: how tightly the classes of a feature set cluster, and how their means lie.

One quantity is one function of :class:`~nctransfer.statistics.ClassStatistics`. The papers are Galanti, György, Hutter
(ICLR 2022, arXiv 2112.15121; "G22" below), Papyan, Han, Donoho (PNAS 2020; "P20"), Zhu et al. (2105.02375; "Z21"), He,
Su (PNAS 2023; "H23"), Xu, Liu (ICML 2023; "X23"), Jiang et al. (2310.05351; "J24"), and Luthra, Yang, Galanti
(2506.04411; "L25"). ``v_c`` has divisor n_c; averages over pairs run over ordered pairs i ≠ j with equal
weight; standard deviations are the population's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nctransfer.errors import FeaturesError, counted
from nctransfer.features.feature_stream import Features
from nctransfer.statistics import ClassStatistics, LinearHead, ncc_accuracies, with_head

if TYPE_CHECKING:
    import pandas as pd
    import torch

__all__ = [
    "MEASURES",
    "ClassCollapse",
    "CollapseComparison",
    "CollapseReport",
    "Measure",
    "PairCollapse",
    "collapse",
    "compare_layers",
    "compare_samples",
    "compare_sets",
    "jackknife",
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
    return separation_fuzziness(stats) / len(stats.counts)


def separation_fuzziness(stats: ClassStatistics) -> float:
    """Within-class covariance in units of that between classes: ``tr(Sigma_W Sigma_B⁺)`` (H23).

    Computed from the eigenvectors of ``M Mᵀ`` or of ``MᵀM``, whichever is smaller. Range 0 to ∞; lower is more
    collapsed. Across the layers of a trained network its logarithm falls about linearly.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(separation_fuzziness(ClassStatistics.of(two)), 6)
    0.04
    """
    import torch

    means = stats.centred_means
    by_class = len(means) <= means.shape[1]
    values, vectors = torch.linalg.eigh(means @ means.T if by_class else means.T @ means)  # ascending
    kept = values > values[-1] * max(means.shape) * torch.finfo(values.dtype).eps
    if not bool(kept.any()):
        raise Undefined("all class means coincide")
    values, vectors = values[kept], vectors[:, kept]
    directions = means.T @ vectors / values.sqrt() if by_class else vectors  # (d, k), of unit length
    return float(((stats.within @ directions) * directions).sum(dim=0) @ (len(means) / values))


def variance_ratio(stats: ClassStatistics) -> float:
    """Within-class over between-class variance: ``tr Sigma_W / tr Sigma_B`` (Tirer et al.).

    Range 0 to ∞; lower is more collapsed.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> variance_ratio(ClassStatistics.of(two))
    0.04
    """
    between = float(stats.centred_means.square().sum()) / len(stats.counts)
    if between == 0:
        raise Undefined("all class means coincide")
    return float(stats.within.diagonal().sum()) / between


def variability_collapse_index(stats: ClassStatistics) -> float:
    """Share of the variance that classes do not explain: ``1 − tr(Sigma_T⁺ Sigma_B) / min(d, C−1)`` (X23).

    Range 0 to 1; lower is more collapsed. With few samples a width even noise gives about
    :func:`vci_noise_level`. Not defined where ``Sigma_T`` is singular.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(variability_collapse_index(ClassStatistics.of(two)), 6)  # 1 − 25/26
    0.038462
    """
    import torch

    classes, dim = stats.centred_means.shape
    rank = len(stats.spectrum)  # but for rounding that of Sigma_T, which weights the classes otherwise
    root, failed = torch.linalg.cholesky_ex(stats.total)
    if rank < dim or bool(failed):
        raise Undefined(f"the features span {min(rank, dim - 1):,} of {dim:,} dimensions, so that Sigma_T is singular")
    explained = torch.linalg.solve_triangular(root, stats.centred_means.T, upper=False).square().sum() / classes
    return 1 - float(explained) / min(dim, classes - 1)


def vci_noise_level(stats: ClassStatistics) -> float:
    """What :func:`variability_collapse_index` is about for pure noise: ``1 − d/(n−1)``.

    >>> four = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(vci_noise_level(ClassStatistics.of(four)), 6)
    0.666667
    """
    samples, dim = int(stats.counts.sum()), stats.centred_means.shape[1]
    if samples - 1 < dim:
        raise Undefined(f"{samples:,} samples are fewer than {dim + 1:,}")
    return 1 - dim / (samples - 1)


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
    return float(_cosines(stats).std(correction=0))


def maximal_angle(stats: ClassStatistics) -> float:
    """How far the class means are from the widest angle that all can have: mean of ``|cos + 1/(C−1)|`` (P20).

    Range 0 to 2; 0 in collapse.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> maximal_angle(ClassStatistics.of(two))
    0.0
    """
    return float((_cosines(stats) + 1 / (len(stats.counts) - 1)).abs().mean())


def etf_error(stats: ClassStatistics) -> float:
    """Distance of the class means from a simplex: ``‖ MMᵀ/‖MMᵀ‖_F − (I − 11ᵀ/C)/√(C−1) ‖_F`` (Z21).

    Range 0 to 2; 0 in collapse. Not defined where ``C − 1 > d``: there is no simplex of C vertices.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(etf_error(ClassStatistics.of(two)), 6)
    0.0
    """
    import torch

    classes, dim = stats.centred_means.shape
    if classes - 1 > dim:
        raise Undefined(f"{classes:,} classes make no simplex in {dim:,} dimensions: read mean_uniformity")
    gram = stats.centred_means @ stats.centred_means.T
    if float(gram.abs().max()) == 0:
        raise Undefined("all class means coincide")
    simplex = (torch.eye(classes, dtype=gram.dtype) - 1 / classes) / math.sqrt(classes - 1)
    return float((gram / gram.norm() - simplex).norm())


def mean_uniformity(stats: ClassStatistics) -> float:
    """How unevenly the directions of the class means are spread: mean over pairs of ``log(1/‖m_i − m_j‖)`` (J24).

    m are the unit-length rows of M. Lower is more even; of two opposite directions it is −log 2. The one to read where
    ``C − 1 > d``.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(mean_uniformity(ClassStatistics.of(two)), 6)
    -0.693147
    """
    import torch

    unit = _directions(stats)
    apart = torch.nn.functional.pdist(unit)
    return float(-apart.log().mean())


def _directions(stats: ClassStatistics) -> torch.Tensor:
    """The class means about their centre, of unit length: ``(C, d)``."""
    lengths: torch.Tensor = stats.centred_means.norm(dim=1, keepdim=True)
    if float(lengths.min()) == 0:
        raise Undefined("a class mean lies on the centre of all, and has no direction")
    return stats.centred_means / lengths


def _cosines(stats: ClassStatistics) -> torch.Tensor:
    """The cosines of the class means about their centre, one for each pair."""
    import torch

    unit = _directions(stats)
    pairs = torch.triu_indices(len(unit), len(unit), offset=1)
    return (unit @ unit.T)[pairs[0], pairs[1]]


def self_duality(stats: ClassStatistics) -> float:
    """Distance between a head's weights and the class means: ``‖ W/‖W‖_F − M/‖M‖_F ‖_F`` (NC3 in P20).

    W are the head's rows for the same classes, centred like M. Range 0 to 2; 0 in collapse.
    """
    if stats.head is None:
        raise Undefined(NO_HEAD)
    weight = stats.head.weight.double()
    weight = weight - weight.mean(dim=0)
    norms = float(weight.norm()), float(stats.centred_means.norm())
    if min(norms) == 0:
        raise Undefined("all class means, or all rows of the head, coincide")
    return float((weight / norms[0] - stats.centred_means / norms[1]).norm())


def ncc_agreement(stats: ClassStatistics) -> float:
    """Share of samples on which a head and the nearest class centre agree (NC4 in P20).

    Range 0 to 1; higher is more collapsed.
    """
    if stats.agreement is None:
        raise Undefined(NO_HEAD)
    return stats.agreement


NO_HEAD = "no classifier: --head takes the backbone's own, --fit-head ridge fits one"


def effective_rank(stats: ClassStatistics) -> float:
    """Width that the features use: exponential of the entropy of their normalised singular values.

    Range 1 to d. The features are centred on their mean.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> round(effective_rank(ClassStatistics.of(two)), 6)
    1.0
    """
    if not len(stats.spectrum):
        raise Undefined("all features are equal")
    shares = stats.spectrum.sqrt() / stats.spectrum.sqrt().sum()
    return math.exp(-float((shares * shares.log()).sum()))


def participation_ratio(stats: ClassStatistics) -> float:
    """Width over which the variance is spread: ``(tr Sigma_T)² / tr(Sigma_T²)``.

    Range 1 to d.

    >>> square = FeatureSet.from_arrays([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]], "aabb")
    >>> participation_ratio(ClassStatistics.of(square))
    2.0
    """
    return _participation(stats.total)


def within_participation_ratio(stats: ClassStatistics) -> float:
    """The same within classes: ``(tr Sigma_W)² / tr(Sigma_W²)``.

    Range 1 to d.
    """
    return _participation(stats.within)


def _participation(covariance: torch.Tensor) -> float:
    squared = float(covariance.square().sum())
    if squared == 0:
        raise Undefined("nothing varies")
    return float(covariance.diagonal().sum()) ** 2 / squared


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
    """A quantity of the collapse report, and how to read it.

    Attributes:
        function: Of :class:`~nctransfer.statistics.ClassStatistics`; its docstring is the definition.
        meaning: In a few words.
        collapsed: Which way is collapsed: ``lower``, ``higher``, or "" for a width.
        range: Of its values.
        aspect: NC1 to NC4, or the width.
        is_usual: Whether it is shown unless all are asked for.
    """

    function: Callable[[ClassStatistics], float]
    meaning: str
    collapsed: str
    range: str
    aspect: str
    is_usual: bool = True


MEASURES: Mapping[str, Measure] = {
    "cdnv": Measure(cdnv, "variance over distance²", "lower", "0 to ∞", "NC1"),
    "cdnv_debiased": Measure(cdnv_debiased, "corrected for few samples", "lower", "0 to ∞", "NC1"),
    "directional_cdnv": Measure(directional_cdnv, "along the line to the other", "lower", "0 to ∞", "NC1"),
    "nc1": Measure(nc1, "within over between classes", "lower", "0 to ∞", "NC1"),
    "separation_fuzziness": Measure(separation_fuzziness, "C times nc1", "lower", "0 to ∞", "NC1", False),
    "variance_ratio": Measure(variance_ratio, "ratio of the variances", "lower", "0 to ∞", "NC1", False),
    "variability_collapse_index": Measure(
        variability_collapse_index, "variance left unexplained", "lower", "0 to 1", "NC1", False
    ),
    "vci_noise_level": Measure(vci_noise_level, "the same of pure noise", "", "0 to 1", "NC1", False),
    "equinorm": Measure(equinorm, "spread of mean lengths", "lower", "0 to ∞", "NC2"),
    "equiangularity": Measure(equiangularity, "spread of mean angles", "lower", "0 to 1", "NC2"),
    "maximal_angle": Measure(maximal_angle, "distance to widest angles", "lower", "0 to 2", "NC2", False),
    "etf_error": Measure(etf_error, "distance to a simplex", "lower", "0 to 2", "NC2", False),
    "mean_uniformity": Measure(mean_uniformity, "uneven directions of means", "lower", "−log 2 to ∞", "NC2", False),
    "self_duality": Measure(self_duality, "head against class means", "lower", "0 to 2", "NC3", False),
    "ncc_agreement": Measure(ncc_agreement, "head and nearest centre", "higher", "0 to 1", "NC4", False),
    "ncc_accuracy": Measure(ncc_accuracy, "nearest class centre", "higher", "0 to 1", "NC4"),
    "effective_rank": Measure(effective_rank, "width used", "", "1 to d", "width"),
    "participation_ratio": Measure(participation_ratio, "width of the variance", "", "1 to d", "width", False),
    "within_participation_ratio": Measure(
        within_participation_ratio, "the same within classes", "", "1 to d", "width", False
    ),
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


class ClassCollapse(NamedTuple):
    """A class: its size, its variance ``v_c``, and the share of its samples that lie nearest to its own centre."""

    name: str
    samples: int
    variance: float
    ncc_accuracy: float


@dataclass(frozen=True)
class CollapseReport:
    """The collapse of one feature set.

    Attributes:
        features: What was measured, as :meth:`~nctransfer.features.feature_set.FeatureSet.to_dict` says it.
        metrics: Every measure by name; ``None`` where it is not defined. Also attributes: ``report.cdnv``.
        intervals: 95% intervals of averages over pairs: delete-one-class jackknife, for 3 classes and more.
        undefined: The reason for each ``None``.
        pairs: Pairs of classes, those of highest CDNV first.
        pairs_along: The same by directional CDNV, the higher of the two directions first.
        classes: The widest first.
        notes: What the reader should know: classes left out, pairs not resolved.
    """

    features: dict[str, Any]
    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    undefined: dict[str, str]
    pairs: tuple[PairCollapse, ...]
    pairs_along: tuple[PairCollapse, ...]
    classes: tuple[ClassCollapse, ...]
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
            "pairs_along": [pair._asdict() for pair in self.pairs_along],
            "classes": [one._asdict() for one in self.classes],
            "notes": list(self.notes),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row a measure: ``metric``, ``value``, ``low``, ``high``, and of which set they are."""
        import pandas as pd

        nothing = (math.nan, math.nan)
        rows = [(name, value, *self.intervals.get(name, nothing)) for name, value in self.metrics.items()]
        frame = pd.DataFrame(rows, columns=["metric", "value", "low", "high"])
        for name in ("id", "model", "data", "split", "layer"):  # as objects: a path may hold what is no text
            frame[name] = pd.Series([self.features[name]] * len(frame), dtype=object)
        return frame


def collapse(
    features: Features,
    *,
    pairs: int | None = 5,
    device: str = "auto",
    head: LinearHead | Literal["ridge"] | None = None,
    head_names: Sequence[str] | None = None,
) -> CollapseReport:
    """How collapsed the classes of a feature set are.

    Args:
        features: The feature set.
        pairs: How many of the closest pairs of classes to list; ``None`` for all.
        device: Where to compute.
        head: A linear classifier for NC3 and NC4; ``"ridge"`` fits one on these features.
        head_names: What the head's classes are called; see :meth:`~nctransfer.statistics.LinearHead.of_classes`.

    Raises:
        FeaturesError: There are fewer than two classes of two samples, or the head is of other classes.
    """
    usable, notes = _usable(features)
    stats = ClassStatistics.of(usable, device)
    if head is not None:
        if isinstance(head, str):
            head = LinearHead.ridge(stats, "these features themselves")
        else:
            head = head.of_classes(usable.classes, head_names)
        notes = [*notes, f"self_duality and ncc_agreement are those of a head: {head.origin}"]
        stats = with_head(stats, usable, head, device)
    return _report(stats, usable, notes, pairs)


def _usable(features: Features) -> tuple[Features, list[str]]:
    """The classes of at least 2 samples, and a note on the others."""
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
    return usable, notes


def _report(stats: ClassStatistics, features: Features, notes: Sequence[str], pairs: int | None) -> CollapseReport:
    classes = features.classes
    metrics: dict[str, float | None] = {}
    undefined = {}
    for name, measure in MEASURES.items():
        try:
            metrics[name] = measure.function(stats)
        except Undefined as reason:
            metrics[name], undefined[name] = None, str(reason)
    debiased, resolved = debiased_pairs(stats)
    unresolved = _pairs_where(~resolved, classes)
    averaged = {"cdnv": cdnv_pairs(stats), "directional_cdnv": directional_pairs(stats)}
    if not unresolved:  # the closed form needs every pair
        averaged["cdnv_debiased"] = debiased.fill_diagonal_(0)
    return CollapseReport(
        features=features.to_dict(),
        metrics=metrics,
        intervals=_intervals(averaged),
        undefined=undefined,
        pairs=_closest_pairs(stats, classes, cdnv_pairs(stats), pairs),
        pairs_along=_closest_pairs(stats, classes, directional_pairs(stats), pairs),
        classes=_widest_classes(stats, classes),
        notes=(*notes, *_oddities(stats, classes, unresolved)),
    )


FEW = 10  # samples of a class, below which the plug-in measures are far too low


def _oddities(stats: ClassStatistics, classes: tuple[str, ...], unresolved: list[str]) -> Iterator[str]:
    """What in the data a reader of the numbers should know."""
    if few := int((stats.counts < FEW).sum()):
        yield (
            f"{counted(few, 'class', 'classes')} of fewer than {FEW} samples: all but cdnv_debiased look more "
            "collapsed than they are, and compare only with sets of as many a class"
        )
    if unresolved:
        every = len(classes) * (len(classes) - 1) // 2
        count = f"1 of {every:,} pairs is" if len(unresolved) == 1 else f"{len(unresolved):,} of {every:,} pairs are"
        yield f"{count} closer than the noise of the class means, and left out of cdnv_debiased: " + _some(unresolved)
    if same := _pairs_where(stats.distances == 0, classes):
        yield f"the same mean, and so an infinite CDNV, have {_some(same)}"
    if still := [name for name, variance in zip(classes, stats.variances.tolist(), strict=True) if variance == 0]:
        yield f"all samples equal in {counted(len(still), 'class', 'classes')}: {_some(list(map(repr, still)))}"
    if constant := int((stats.covariance.diagonal() == 0).sum()):
        yield f"{counted(constant, 'feature')} of {len(stats.covariance):,} the same for every sample"
    if stats.duplicates:
        yield f"{counted(stats.duplicates, 'sample')} with the same features as an earlier one"


def _widest_classes(stats: ClassStatistics, classes: tuple[str, ...]) -> tuple[ClassCollapse, ...]:
    columns = (stats.counts.long(), stats.variances, stats.ncc_accuracies)
    rows = [ClassCollapse(*row) for row in zip(classes, *(column.tolist() for column in columns), strict=True)]
    return tuple(sorted(rows, key=lambda row: -row.variance))


@dataclass(frozen=True)
class CollapseComparison:
    """Several feature sets side by side.

    Attributes:
        reports: One a set, by its name in the table.
        ratios: Of the measures of two sets, by "numerator/denominator"; empty where sets are not in such a relation.
        fit: Of the layers of a network: how separation grows with depth; empty for other sets.
    """

    reports: dict[str, CollapseReport]
    ratios: dict[str, dict[str, float | None]]
    fit: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        sets = [{"name": name, **report.to_dict()} for name, report in self.reports.items()]
        return {"sets": sets, "ratios": self.ratios, "fit": self.fit}

    def to_frame(self) -> pd.DataFrame:
        """One row a set and measure: ``set``, and the columns of :meth:`CollapseReport.to_frame`."""
        import pandas as pd

        frames = []
        for name, report in self.reports.items():
            frames.append(frame := report.to_frame())
            frame.insert(0, "set", name)
        return pd.concat(frames, ignore_index=True)


def compare_sets(sets: Mapping[str, Features], *, pairs: int | None = 5, device: str = "auto") -> CollapseComparison:
    """Several feature sets side by side: backbones, checkpoints, data.

    Raises:
        FeaturesError: See :func:`collapse`.
    """
    reports = {name: collapse(features, pairs=pairs, device=device) for name, features in sets.items()}
    return CollapseComparison(reports, {}, {})


def compare_samples(
    target: Features,
    source_train: Features,
    source_test: Features,
    *,
    pairs: int | None = 5,
    device: str = "auto",
) -> CollapseComparison:
    """The paper's claim: collapse on the training samples, on new samples of their classes, and on new classes (G22).

    ``ncc_accuracy`` of the source's test samples uses the class centres of its training samples.

    Args:
        target: Classes that the backbone was not trained on.
        source_train: Samples that it was trained on.
        source_test: Other samples of the same classes.
        pairs: See :func:`collapse`.
        device: Where to compute.

    Raises:
        FeaturesError: See :func:`collapse`; or the two samples of the source are not of the same classes.
    """
    if source_test.info == source_train.info and source_train.info.path is not None:
        raise FeaturesError(
            f"source-train and source-test are the same set, {source_train.info.id}",
            "give --source-test other samples of these classes",
        )
    trained, train_notes = _usable(source_train)
    tested, test_notes = _usable(source_test)
    if trained.classes != tested.classes:
        odd = sorted(set(trained.classes) ^ set(tested.classes))
        raise FeaturesError(
            f"source-train and source-test are not of the same classes: {len(odd)} are in one only ({odd[0]!r}, …)",
            "give two samples of the same classes, with at least 2 images of each",
        )
    if trained.dim != tested.dim:
        raise FeaturesError(
            f"source-train has features of width {trained.dim:,}, source-test of {tested.dim:,}",
            "give two samples under the same backbone",
        )
    stats = ClassStatistics.of(trained, device)
    train = _report(stats, trained, train_notes, pairs)
    accuracies = ncc_accuracies(tested, stats, device)
    of_test = replace(ClassStatistics.of(tested, device), ncc_accuracies=accuracies)
    test = _report(of_test, tested, test_notes, pairs)
    reports = {"source-train": train, "source-test": test, "target": collapse(target, pairs=pairs, device=device)}
    ratios = {
        f"{over}/{under}": {
            name: _ratio(reports[over].metrics[name], reports[under].metrics[name]) for name in MEASURES
        }
        for over, under in (("source-test", "source-train"), ("target", "source-test"))
    }
    return CollapseComparison(reports, ratios, {})


def _ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under and math.isfinite(under) else None


def compare_layers(
    layers: Mapping[str, Features], *, pairs: int | None = 5, device: str = "auto"
) -> CollapseComparison:
    """The layers of one network, the first first: how collapse grows with depth.

    ``fit`` holds the law of data separation, ``D_l = D_0 ρ^l`` with D the separation fuzziness (H23), fitted by least
    squares to its logarithm: ``rho`` and ``r_squared``; and ``saturated``, the first layer whose ``ncc_accuracy`` no
    later one exceeds by more than chance (1.96 standard errors of that accuracy).

    Raises:
        FeaturesError: See :func:`collapse`.
    """
    import numpy as np

    if not layers:
        raise FeaturesError("there are no layers to compare", "name at least one")
    compared = compare_sets(layers, pairs=pairs, device=device)
    reports = list(compared.reports.values())
    fuzziness = np.array([report.separation_fuzziness or math.nan for report in reports], dtype=np.float64)
    fit: dict[str, Any] = {"saturated": _saturated(compared.reports)}
    depth = np.arange(len(fuzziness))
    kept = np.isfinite(fuzziness) & (fuzziness > 0)
    if kept.sum() >= 3:
        x, y = depth[kept], np.log(fuzziness[kept])
        slope, intercept = np.polyfit(x, y, 1)
        spread = ((y - y.mean()) ** 2).sum()
        left = ((y - slope * x - intercept) ** 2).sum()
        fit |= {"rho": math.exp(slope), "r_squared": 1 - left / spread if spread else None}
    return CollapseComparison(compared.reports, {}, fit)


def _saturated(reports: Mapping[str, CollapseReport]) -> str:
    names = list(reports)
    for place, name in enumerate(names):
        accuracy, samples = reports[name].ncc_accuracy or 0.0, reports[name].features["samples"]
        error = math.sqrt(accuracy * (1 - accuracy) / samples)
        if all((reports[later].ncc_accuracy or 0.0) <= accuracy + 1.96 * error for later in names[place + 1 :]):
            return name
    raise AssertionError("the last layer has none after it")


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


def _closest_pairs(
    stats: ClassStatistics, classes: tuple[str, ...], by: torch.Tensor, most: int | None
) -> tuple[PairCollapse, ...]:
    """The pairs of highest value ``by``, ``(C, C)``, in either direction."""
    import torch

    first, second = torch.triu_indices(len(classes), len(classes), offset=1)
    values, along = cdnv_pairs(stats), directional_pairs(stats)
    order = torch.maximum(by, by.T)[first, second].sort(descending=True, stable=True).indices[:most]
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
