"""Bounds over ways and shots, as a result."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nctransfer.errors import EpisodeError
from nctransfer.features.sample_content import Duplicates
from nctransfer.neural_collapse.bounds import Bound, error_bounds, new_classes_term, unresolved_pairs
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.neural_collapse.class_statistics import ClassStatistics

__all__ = ["BoundRow", "BoundTable", "bound_table"]


@dataclass(frozen=True, kw_only=True)
class BoundRow:
    """The bounds for one number of ways and of shots.

    Attributes:
        ways: Classes per task, k.
        shots: Support samples per class, m; may be infinite.
        bounds: The bounds by name.
        new_classes_term: What is added to a bound for it to hold for other classes of this kind, with probability 95%,
            see :func:`~nctransfer.neural_collapse.bounds.new_classes_term`.
    """

    ways: int
    shots: float
    bounds: Mapping[str, Bound]
    new_classes_term: float


@dataclass(frozen=True, kw_only=True)
class BoundTable(ShownInNotebooks):
    """Bounds for several numbers of ways and of shots.

    Attributes:
        features: The feature set whose geometry gives the bounds.
        rows: One row for each number of ways and of shots.
        images_per_class: The fewest and the most.
        unresolved: How many pairs of classes these images do not tell apart.
        duplicates: The samples with the same features as an earlier one.
    """

    features: FeatureInfo
    rows: tuple[BoundRow, ...]
    images_per_class: tuple[int, int]
    unresolved: int
    duplicates: Duplicates = field(default_factory=Duplicates)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What weakens a conclusion from the bounds."""
        warning = (
            f"{self.duplicates}: classes with copies of few images look tighter than they are, so the bounds are not "
            "those of new images; --drop-duplicates leaves such samples out"
        )
        return (warning,) if self.duplicates.samples else ()

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
        rows = [
            {
                "ways": row.ways,
                "shots": row.shots,
                "bounds": {name: one.to_dict() for name, one in row.bounds.items()},
                "new_classes_term": row.new_classes_term,
            }
            for row in self.rows
        ]
        return {
            "features": self.features.to_dict(),
            "images_per_class": list(self.images_per_class),
            "unresolved_pairs": self.unresolved,
            "duplicates": self.duplicates.to_dict(),
            "warnings": list(self.warnings),
            "results": rows,
        }

    def to_frame(self) -> pd.DataFrame:
        """One row for each number of ways, number of shots and bound."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "ways": row.ways,
                    "shots": row.shots,
                    "bound": name,
                    "value": one.value,
                    "vacuous": one.vacuous,
                    "uninformative": one.uninformative,
                    "new_classes_term": row.new_classes_term,
                }
                for row in self.rows
                for name, one in row.bounds.items()
            ]
        )


def bound_table(
    stats: ClassStatistics,
    features: FeatureInfo,
    ways: Iterable[int],
    shots: Sequence[float],
    margins: Callable[[Sequence[int], Sequence[float]], Mapping[tuple[int, float], Mapping[str, Bound]]] | None = None,
) -> BoundTable:
    """Every bound for every number of ways and of shots.

    Args:
        stats: The statistics of all classes that a task may draw.
        features: The feature set that they were computed from.
        ways: Classes per task; one number or more.
        shots: Support samples per class; they may be infinite.
        margins: Gives the bounds that need the features themselves, by ways and shots and then by name.

    Raises:
        EpisodeError: There are more ways than classes.
    """
    all_ways, all_shots = sorted(set(ways)), sorted(set(shots))
    if all_ways and all_ways[-1] > len(stats.counts):
        raise EpisodeError(
            f"{all_ways[-1]} ways were asked for, and there are {len(stats.counts)} classes",
            f"give --ways {len(stats.counts)} or less",
        )
    tasks = list(itertools.product(all_ways, all_shots))
    found = {task: error_bounds(stats, *task) for task in tasks}
    more = margins(all_ways, all_shots) if margins else {}
    return BoundTable(
        features=features,
        rows=tuple(
            BoundRow(
                ways=task[0],
                shots=task[1],
                bounds={**found[task], **more.get(task, {})},
                new_classes_term=new_classes_term(len(stats.counts), task[0]),
            )
            for task in tasks
        ),
        images_per_class=(int(stats.counts.min()), int(stats.counts.max())),
        unresolved=unresolved_pairs(stats),
        duplicates=stats.duplicates,
    )
