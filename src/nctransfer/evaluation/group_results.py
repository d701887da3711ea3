"""Accuracies by group as results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.evaluation.fewshot_task import FewShotTask
    from nctransfer.evaluation.multiple_comparisons import Verdict
    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.intervals import Interval

__all__ = ["AcrossResult", "AcrossRow", "GroupAccuracy", "GroupResult", "GroupRow", "Shift", "WorstGroup"]

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class GroupAccuracy:
    """The accuracy on the queries of one group.

    Attributes:
        name: The name of the group.
        images: Images of the group in these classes.
        classes: Classes that the group is asked about.
        queries: Queries of the group over all episodes.
        accuracy: The share of them that were classified right; ``None`` if there were none.
        ci95: Half the width of its 95% interval; ``None`` if there is none over this population, or if the accuracy is
            the same in each episode that asks the group.
        simultaneous: The 95% interval that holds together with those of all other groups, over the population of the
            verdicts; ``None`` if there is none, as for a group of fewer than five classes beside groups of more.
        difference: How much more accurate the group is than the other groups on the same classes, see
            :func:`~nctransfer.evaluation.group_counts.to_others`; ``None`` if no other group has its classes.
        difference_interval: Its 95% interval, together with those of all groups.
        verdict: Whether the group is better or worse than the others on the same classes.
    """

    name: str
    images: int
    classes: int
    queries: int
    accuracy: float | None = None
    ci95: float | None = None
    simultaneous: Range | None = None
    difference: float | None = None
    difference_interval: Range | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, kw_only=True)
class WorstGroup:
    """The group with the lowest accuracy, and the gap to the best; both account for having picked them.

    Attributes:
        name: The group with the lowest accuracy here.
        accuracy: Its accuracy here.
        interval: The 95% interval of the lowest true accuracy of all groups.
        possible: The groups that may be the worst: in 95% of studies, the worst is among them.
        best: The group with the highest accuracy here.
        gap: The highest accuracy less the lowest.
        gap_interval: The 95% interval of the true gap. Its lower end is 0 if the groups are not told apart.
        population: The population of the intervals.
    """

    name: str
    accuracy: float
    interval: Range
    possible: tuple[str, ...]
    best: str
    gap: float
    gap_interval: Range
    population: Interval


@dataclass(frozen=True, kw_only=True)
class GroupRow:
    """The accuracies by group of one classifier with one number of ways and of shots.

    Attributes:
        ways: Classes per episode.
        shots: Support samples per class.
        queries: Query samples per class; ``all`` for every sample that is not in the support.
        episodes: Episodes that were run.
        classifier: The name of the classifier.
        seed: The seed of the episodes.
        accuracy: The mean accuracy of the episodes, over all groups and the samples without a group.
        ci95: Half the width of its 95% interval over episodes.
        interval: What the ``ci95`` of the groups refer to.
        groups: The accuracy of each group.
        worst: The worst group and the gap; ``None`` if there is no interval over a population.
        undefined: Why a value is missing, by name.
    """

    ways: int
    shots: int
    queries: int | Literal["all"]
    episodes: int
    classifier: str
    seed: int
    accuracy: float
    ci95: float
    interval: Interval
    groups: tuple[GroupAccuracy, ...]
    worst: WorstGroup | None = None
    undefined: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The row as a dictionary for JSON."""
        return asdict(self)

    def to_rows(self) -> list[dict[str, Any]]:
        """One row of a table for each group."""
        return _table_rows(self, ("accuracy", "ci95"))


@dataclass(frozen=True, kw_only=True)
class GroupResult(ShownInNotebooks):
    """Few-shot accuracies by group of the queries.

    Attributes:
        features: What was measured.
        column: The attribute that names the groups.
        rows: One row for each number of ways, number of shots and classifier.
        task: What was asked for.
        without_group: The share of the images, of those that queries are drawn from, without a group.
        dropped: The classes that were left out because they have too few samples.
        query_set: Where the queries came from, if not from the features.
        warnings: What weakens a conclusion from the accuracies.
    """

    features: FeatureInfo
    column: str
    rows: tuple[GroupRow, ...]
    task: FewShotTask
    without_group: float
    dropped: tuple[str, ...] = ()
    query_set: FeatureInfo | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
        return _about(self) | {
            "query_set": None if self.query_set is None else self.query_set.to_dict(),
            "warnings": list(self.warnings),
            "results": [row.to_dict() for row in self.rows],
        }

    def to_frame(self) -> pd.DataFrame:
        """One row for each task, classifier and group."""
        import pandas as pd

        return pd.DataFrame([one for row in self.rows for one in row.to_rows()])


class Shift(NamedTuple):
    """An accuracy on new groups less one on groups of which there are labelled examples, on the same queries.

    Attributes:
        value: The difference of the two accuracies.
        interval: Its 95% interval; ``None`` if there is none.
        verdict: Whether new groups are better or worse.
        population: What the interval refers to.
        over_classes: The 95% interval over other classes, for these groups; ``None`` if there is none.
    """

    value: float
    interval: Range | None
    verdict: Verdict | None
    population: Literal["groups", "classes"] | None
    over_classes: Range | None = None


@dataclass(frozen=True, kw_only=True)
class AcrossRow:
    """The accuracy on new groups of one classifier with one number of ways and of shots.

    Attributes:
        ways: Classes per episode.
        shots: Support samples per class.
        queries: Query samples per class, at most; ``all`` for all of the group.
        episodes: Episodes that were run.
        classifier: The name of the classifier.
        seed: The seed of the episodes.
        accuracy: The mean accuracy of the episodes, in which no support sample is of the group of the queries.
        ci95: Half the width of its 95% interval; ``None`` if there is none over this population.
        interval: What ``ci95`` refers to: episodes, or classes.
        over_groups: The 95% interval over other groups (delete-one-group jackknife); ``None`` if there is none.
        references: The accuracy on the same queries if the support is drawn otherwise, by name: ``mixed`` from all
            groups, ``same`` from the group of the queries; without them if groups have too few images.
        shifts: ``accuracy`` less that reference, by name.
        groups: The accuracy on the queries of each group.
        worst: The worst group and the gap; ``None`` if there is no interval over a population.
        undefined: Why a value is missing, by name.
    """

    ways: int
    shots: int
    queries: int | Literal["all"]
    episodes: int
    classifier: str
    seed: int
    accuracy: float
    ci95: float | None
    interval: Interval
    over_groups: Range | None
    references: Mapping[str, float]
    shifts: Mapping[str, Shift]
    groups: tuple[GroupAccuracy, ...]
    worst: WorstGroup | None = None
    undefined: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The row as a dictionary for JSON."""
        return asdict(self) | {"shifts": {name: one._asdict() for name, one in self.shifts.items()}}

    def to_rows(self) -> list[dict[str, Any]]:
        """The row of a table of all groups, whose ``group`` is ``None``, and one for each group."""
        return [self.to_row() | {"group": None}, *_table_rows(self, ())]

    def to_row(self) -> dict[str, Any]:
        """The row of a table of all groups."""
        row = {name: getattr(self, name) for name in ("ways", "shots", "queries", "episodes", "classifier", "seed")}
        row |= {"accuracy": self.accuracy, "ci95": self.ci95, "interval": self.interval}
        row |= _ends("over_groups", self.over_groups)
        for name, accuracy in self.references.items():
            shift = self.shifts[name]
            row |= {name: accuracy, f"shift_{name}": shift.value} | _ends(f"shift_{name}", shift.interval)
            row |= {f"shift_{name}_population": shift.population}
        return row


@dataclass(frozen=True, kw_only=True)
class AcrossResult(ShownInNotebooks):
    """Few-shot accuracies on groups of which there are no labelled examples.

    Attributes:
        features: What was measured: samples without a group are not among them.
        column: The attribute that names the groups.
        rows: One row for each number of ways, number of shots and classifier.
        task: What was asked for.
        without_group: The share of the images without a group.
        dropped: The classes that were left out because their groups have too few samples.
        query_groups: The groups that queries were drawn from, by ways: those with enough images of enough classes.
        asked_classes: The number of classes that took part in episodes, by ways: those of which one of these groups has
            enough images.
        warnings: What weakens a conclusion from the accuracies.
    """

    features: FeatureInfo
    column: str
    rows: tuple[AcrossRow, ...]
    task: FewShotTask
    without_group: float
    dropped: tuple[str, ...] = ()
    query_groups: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    asked_classes: Mapping[int, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
        return _about(self) | {
            "query_groups": {str(ways): list(names) for ways, names in self.query_groups.items()},
            "asked_classes": {str(ways): count for ways, count in self.asked_classes.items()},
            "warnings": list(self.warnings),
            "results": [row.to_dict() for row in self.rows],
        }

    def to_frame(self) -> pd.DataFrame:
        """One row for each task and classifier, with no ``group``, and after it one for each group of the queries."""
        import pandas as pd

        frame = pd.DataFrame([one for row in self.rows for one in row.to_rows()])
        counts = ("images", "classes", "group_queries")
        return frame.astype(dict.fromkeys(counts, "Int64"))  # whole numbers, where some rows have none


def _about(result: GroupResult | AcrossResult) -> dict[str, Any]:
    return {
        "features": result.features.to_dict(),
        "column": result.column,
        "without_group": result.without_group,
        "dropped": list(result.dropped),
        "settings": {"l2_normalise": result.task.l2_normalise, "ridge_lambda": result.task.ridge_lambda},
    }


def _ends(name: str, interval: Range | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _table_rows(row: GroupRow | AcrossRow, of_all: tuple[str, ...]) -> list[dict[str, Any]]:
    task = {name: getattr(row, name) for name in ("ways", "shots", "queries", "episodes", "classifier", "seed")}
    rows = []
    for one in row.groups:
        found = task | {f"all_{name}": getattr(row, name) for name in of_all} | {"interval": row.interval}
        found |= {"group": one.name, "images": one.images, "classes": one.classes, "group_queries": one.queries}
        found |= {"accuracy": one.accuracy, "ci95": one.ci95} | _ends("simultaneous", one.simultaneous)
        found |= {"difference": one.difference} | _ends("difference", one.difference_interval)
        rows.append(found | {"verdict": one.verdict})
    return rows
