"""The collapse of one feature set: every measure, the closest pairs of classes, and notes on the data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nctransfer.errors import FeaturesError, counted, join_names
from nctransfer.features.feature_set import FeatureSet  # noqa: F401 - for the example
from nctransfer.features.sample_content import Duplicates
from nctransfer.intervals import jackknife, pair_average
from nctransfer.neural_collapse.cdnv import cdnv_pairs, debiased_pairs, directional_pairs
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.head_order import head_warnings
from nctransfer.neural_collapse.linear_head import LinearHead, with_head
from nctransfer.neural_collapse.measure import Undefined
from nctransfer.neural_collapse.measure_attributes import MeasureAttributes
from nctransfer.neural_collapse.numbered_note import NumberedNote
from nctransfer.neural_collapse.pair_matrix import PairMatrix
from nctransfer.neural_collapse.registry import MEASURES
from nctransfer.notebook import ShownInNotebooks
from nctransfer.sources.label_depth import MORE_CLASSES

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.features.feature_stream import Features

__all__ = ["ClassCollapse", "CollapseReport", "PairCollapse", "collapse", "head_note", "make_report", "usable_classes"]


class PairCollapse(NamedTuple):
    """Two classes and how well separated they are.

    ``directional_ab`` is the directional CDNV of class a on the line to class b, ``directional_ba`` that of b.
    """

    class_a: str
    class_b: str
    cdnv: float
    directional_ab: float
    directional_ba: float
    distance: float


class ClassCollapse(NamedTuple):
    """A class: its size, its variance ``v_c``, and the share of its samples that are nearest to its own centre."""

    name: str
    samples: int
    variance: float
    ncc_accuracy: float


@dataclass(frozen=True, kw_only=True)
class CollapseReport(MeasureAttributes, ShownInNotebooks):
    """The collapse of one feature set. Every measure of this package is also an attribute, such as ``report.cdnv``.

    Attributes:
        features: What was measured.
        metrics: Every measure by name, also those of other packages; ``None`` where it is not defined.
        intervals: 95% intervals of averages over pairs, by delete-one-class jackknife, for three classes or more.
        left_out: The share of the pairs that an average leaves out because the samples do not tell the two classes
            apart, by measure, if there is such a pair. These are the closest pairs, so the average is too low.
        undefined: The reason for each ``None``.
        pairs: Pairs of classes, those with the highest CDNV first.
        pairs_along: Pairs of classes, those with the highest directional CDNV first, in the higher of the two
            directions.
        classes: The classes, those with the highest variance first.
        notes: What a reader of the numbers should know, such as classes that were left out.
        duplicates: The samples with the same features as an earlier one.
        pair_matrix: The CDNV of every pair, if it was asked for; not in JSON.
    """

    features: FeatureInfo
    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    left_out: dict[str, float] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    pairs: tuple[PairCollapse, ...] = ()
    pairs_along: tuple[PairCollapse, ...] = ()
    classes: tuple[ClassCollapse, ...] = ()
    notes: tuple[str, ...] = ()
    duplicates: Duplicates = field(default_factory=Duplicates)
    pair_matrix: PairMatrix | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The report as a dictionary for JSON."""
        return {
            "features": self.features.to_dict(),
            "metrics": self.metrics,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "left_out": self.left_out,
            "undefined": self.undefined,
            "pairs": [pair._asdict() for pair in self.pairs],
            "pairs_along": [pair._asdict() for pair in self.pairs_along],
            "classes": [one._asdict() for one in self.classes],
            "notes": list(self.notes),
            "duplicates": self.duplicates.to_dict(),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per measure: ``metric``, ``value``, ``low``, ``high``, and what was measured."""
        import pandas as pd

        nothing = (math.nan, math.nan)
        rows = [(name, value, *self.intervals.get(name, nothing)) for name, value in self.metrics.items()]
        frame = pd.DataFrame(rows, columns=["metric", "value", "low", "high"])
        for name in (
            "id",
            "model",
            "data",
            "split",
            "layer",
        ):  # as objects, because a path may hold bytes that are not text
            frame[name] = pd.Series([getattr(self.features, name)] * len(frame), dtype=object)
        return frame


def collapse(
    features: Features,
    *,
    pairs: int | None = 5,
    device: str = "auto",
    head: LinearHead | Literal["ridge"] | None = None,
    head_names: Sequence[str] | None = None,
    pair_matrix: bool = False,
) -> CollapseReport:
    """How collapsed the classes of a feature set are.

    Args:
        features: The feature set.
        pairs: How many of the closest pairs of classes to list; ``None`` for all.
        device: Where to compute.
        head: A linear classifier for NC3 and NC4; ``"ridge"`` fits one on these features.
        head_names: The names of the head's classes, see
            :meth:`~nctransfer.neural_collapse.linear_head.LinearHead.of_classes`.
        pair_matrix: Whether the report keeps the CDNV of every pair, which the figure needs: 4·C² bytes.

    Raises:
        FeaturesError: There are fewer than two classes with two samples, or the head has other classes.

    >>> two = FeatureSet.from_arrays([[0.0], [2.0], [10.0], [12.0]], "aabb")
    >>> report = collapse(two)
    >>> report.cdnv, report.metrics["ncc_accuracy"]
    (0.01, 1.0)
    """
    usable, notes = usable_classes(features)
    stats = ClassStatistics.of(usable, device)
    if head is not None:
        if isinstance(head, str):
            head = LinearHead.ridge(stats, "these features themselves")
        else:
            head = head.of_classes(usable.classes, head_names)
        notes = [*notes, head_note(head)]
        stats = with_head(stats, usable, head, device)
    report = make_report(stats, usable.classes, usable.describe(), notes, pairs)
    return replace(report, pair_matrix=PairMatrix.of(stats, usable.classes)) if pair_matrix else report


def head_note(head: LinearHead) -> str:
    """A note on which classifier the measures of a head refer to."""
    return (
        "self_duality, mutual_information_ratio, entropy_difference_ratio and ncc_agreement are measured with a head: "
        f"{head.origin}"
    )


def usable_classes(features: Features) -> tuple[Features, list[str]]:
    """The classes with at least two samples, and a note on the others.

    Raises:
        FeaturesError: There are fewer than two such classes.
    """
    notes = []
    usable = features
    if single := [name for name, n in zip(features.classes, features.counts.tolist(), strict=True) if n < 2]:
        notes.append(
            f"{counted(len(single), 'class', 'classes')} of one sample left out: {join_names(list(map(repr, single)))}"
        )
        usable = features.only_classes((features.counts >= 2).nonzero()[:, 0])
    if (count := len(usable.classes)) < 2:
        raise FeaturesError(
            f"{features.info.id} has {counted(count, 'class', 'classes')} of 2 samples or more; collapse needs two",
            "collapse compares classes, of two samples each: give " + MORE_CLASSES,
        )
    return usable, notes


def make_report(
    stats: ClassStatistics, classes: tuple[str, ...], info: FeatureInfo, notes: Sequence[str], pairs: int | None
) -> CollapseReport:
    """The report of a feature set, from its statistics.

    Args:
        stats: The statistics.
        classes: The names of the C classes.
        info: The description of the feature set.
        notes: What is known about it already.
        pairs: How many pairs of classes to list; ``None`` for all.
    """
    metrics: dict[str, float | None] = {}
    undefined = {}
    for name, measure in MEASURES.items():
        try:
            metrics[name] = float(measure.function(stats))
        except Undefined as reason:
            metrics[name], undefined[name] = None, str(reason)
    found = {name: measure.pairs(stats) for name, measure in MEASURES.items() if measure.pairs is not None}
    by_pair = {name: values for name, values in found.items() if values is not None and metrics[name] is not None}
    return CollapseReport(
        features=info,
        metrics=metrics,
        intervals=_intervals(by_pair),
        left_out={name: share for name, values in by_pair.items() if (share := _share_left_out(values)) > 0},
        undefined=undefined,
        pairs=_closest_pairs(stats, classes, cdnv_pairs(stats), pairs),
        pairs_along=_closest_pairs(stats, classes, directional_pairs(stats), pairs),
        classes=_widest_classes(stats, classes),
        notes=(*notes, *head_warnings(stats, classes), *_oddities(stats, classes)),
        duplicates=stats.duplicates,
    )


FEW = 10  # samples per class, below which measures that are not debiased are far off
NOISY = 0.1  # the share of noise in squared distances at which they are off by as much


def _oddities(stats: ClassStatistics, classes: tuple[str, ...]) -> Iterator[str]:
    """What a reader of the numbers should know about the data."""
    few, noise = int((stats.counts < FEW).sum()), _noise_share(stats)
    if few or noise > NOISY:
        why = f"{counted(few, 'class has', 'classes have')} fewer than {FEW} samples, and " if few else ""
        yield NumberedNote(
            f"{why}{{number}} of the squared distance between two class means is their noise: cdnv and nc1 show "
            "more collapse than there is, and ncc_accuracy shows less, because it rises with the number of samples per "
            "class; read cdnv_debiased and directional_cdnv_debiased, and compare only sets with the same number of "
            "samples per class",
            noise,
            ".0%",
        )
    if unresolved := _pairs_where(~debiased_pairs(stats)[1], classes):
        every = len(classes) * (len(classes) - 1) // 2
        yield NumberedNote(
            f"these samples do not tell {{number}} of {counted(every, 'pair')} of classes apart{{detail}}; "
            "cdnv_debiased and directional_cdnv_debiased leave such pairs out, which are the closest, and are too low",
            unresolved.number,
            ",",
            f": {unresolved}",
        )
    if same := _pairs_where(stats.distances == 0, classes):
        yield f"these classes have the same mean, and so an infinite CDNV: {same}"
    if still := [name for name, variance in zip(classes, stats.variances.tolist(), strict=True) if variance == 0]:
        number = counted(len(still), "class has", "classes have")
        yield f"{number} samples that are all equal: {join_names(list(map(repr, still)))}"
    if constant := int((stats.covariance.diagonal() == 0).sum()):
        number = counted(constant, "feature has", "features have")
        yield f"{number} the same value in every sample, of {len(stats.covariance):,}"
    if stats.duplicates.samples:
        yield (
            f"{stats.duplicates}: where one of them is left out, the other is not, so ncc_accuracy is not that of new "
            "images; --drop-duplicates leaves such samples out"
        )


def _noise_share(stats: ClassStatistics) -> float:
    """The share of noise in the squared distance between two class means, averaged over the pairs; 1 at most."""
    import torch

    noise = stats.variances / (stats.counts - 1)
    shares = (noise[:, None] + noise) / stats.distances.square()
    return pair_average(torch.where(stats.distances > 0, shares.clamp(max=1), 0.0))


def _widest_classes(stats: ClassStatistics, classes: tuple[str, ...]) -> tuple[ClassCollapse, ...]:
    columns = (stats.counts.long(), stats.variances, stats.ncc_accuracies)
    rows = [ClassCollapse(*row) for row in zip(classes, *(column.tolist() for column in columns), strict=True)]
    return tuple(sorted(rows, key=lambda row: -row.variance))


def _intervals(by_pair: Mapping[str, torch.Tensor]) -> dict[str, tuple[float, float]]:
    """The intervals of the measures that are averages over pairs, where they are finite."""
    found = {name: jackknife(pairs, MEASURES[name].is_positive) for name, pairs in by_pair.items() if len(pairs) >= 3}
    return {name: ends for name, ends in found.items() if all(map(math.isfinite, ends))}


def _share_left_out(pairs: torch.Tensor) -> float:
    return int(pairs.isnan().sum()) / (len(pairs) * (len(pairs) - 1))


def _closest_pairs(
    stats: ClassStatistics, classes: tuple[str, ...], by: torch.Tensor, most: int | None
) -> tuple[PairCollapse, ...]:
    """The pairs of classes with the highest values in ``by``, ``(C, C)``, in the higher of the two directions."""
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


class _Pairs(NamedTuple):
    """Pairs of classes: how many there are, and the names of the first ones."""

    number: int
    names: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.number > 0

    def __str__(self) -> str:
        return join_names(self.names)


def _pairs_where(condition: torch.Tensor, classes: tuple[str, ...], most: int = 6) -> _Pairs:
    """The pairs of classes for which a symmetric ``(C, C)`` condition holds; the first ones by name."""
    places = condition.triu(diagonal=1).nonzero()
    names = tuple(f"{classes[a]!r}/{classes[b]!r}" for a, b in places[:most].tolist())
    return _Pairs(len(places), names)
