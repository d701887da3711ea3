"""The collapse of one feature set: every measure, the closest pairs, what to know about the data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nctransfer.errors import FeaturesError, counted
from nctransfer.intervals import jackknife
from nctransfer.neural_collapse.cdnv import cdnv_pairs, debiased_pairs, directional_pairs
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.linear_head import LinearHead, with_head
from nctransfer.neural_collapse.measure import Undefined
from nctransfer.neural_collapse.registry import MEASURES

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from nctransfer.features.feature_stream import Features

__all__ = ["ClassCollapse", "CollapseReport", "PairCollapse", "collapse", "make_report", "usable_classes"]


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
        head_names: What the head's classes are called; see ``LinearHead.of_classes``.

    Raises:
        FeaturesError: There are fewer than two classes of two samples, or the head is of other classes.
    """
    usable, notes = usable_classes(features)
    stats = ClassStatistics.of(usable, device)
    if head is not None:
        if isinstance(head, str):
            head = LinearHead.ridge(stats, "these features themselves")
        else:
            head = head.of_classes(usable.classes, head_names)
        notes = [*notes, f"self_duality and ncc_agreement are those of a head: {head.origin}"]
        stats = with_head(stats, usable, head, device)
    return make_report(stats, usable, notes, pairs)


def usable_classes(features: Features) -> tuple[Features, list[str]]:
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


def make_report(stats: ClassStatistics, features: Features, notes: Sequence[str], pairs: int | None) -> CollapseReport:
    """The report that statistics of a feature set lead to."""
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


def _intervals(matrices: Mapping[str, torch.Tensor]) -> dict[str, tuple[float, float]]:
    found = {name: jackknife(pairs) for name, pairs in matrices.items() if len(pairs) >= 3}
    return {name: ends for name, ends in found.items() if all(map(math.isfinite, ends))}


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
