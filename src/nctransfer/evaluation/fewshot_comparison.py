"""Several feature sets on the same episodes, and their paired differences."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from nctransfer.errors import EpisodeError, counted
from nctransfer.evaluation.fewshot_accuracy import fewshot
from nctransfer.intervals import half_width

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from nctransfer.evaluation.fewshot_results import FewShotResult
    from nctransfer.evaluation.fewshot_task import Task
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.intervals import Interval

__all__ = ["FewShotComparison", "FewShotDifference", "compare_fewshot", "paired_difference"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FewShotDifference:
    """How much more accurate one set is than the first, on the same episodes.

    Attributes:
        difference: Mean over episodes of the accuracy less that of the first.
        ci95: Half the width of its 95% interval.
        is_real: Whether the interval leaves out zero.
    """

    name: str
    first: str
    ways: int
    shots: int
    classifier: str
    difference: float
    ci95: float
    is_real: bool


@dataclass(frozen=True)
class FewShotComparison:
    """Several feature sets of the same samples, on the same episodes.

    Attributes:
        results: By name.
        differences: Of each set but the first, for each task and classifier.
    """

    results: Mapping[str, FewShotResult]
    differences: tuple[FewShotDifference, ...]

    def to_dict(self, confusions: int | None = 5) -> dict[str, Any]:
        """The comparison as JSON has it."""
        return {
            "sets": [{"name": name, **result.to_dict(confusions)} for name, result in self.results.items()],
            "differences": [asdict(one) for one in self.differences],
        }

    def to_frame(self) -> pd.DataFrame:
        """The rows of every set, named by ``set``."""
        import pandas as pd

        return pd.DataFrame([{"set": name, **row.to_row()} for name, one in self.results.items() for row in one.rows])

    def episodes_table(self) -> pa.Table:
        """See :meth:`FewShotResult.episodes_table`; the sets one after the other, named by ``set``."""
        import pyarrow as pa

        tables = {name: result.episodes_table() for name, result in self.results.items()}
        return pa.concat_tables(
            [table.add_column(0, "set", pa.repeat(name, len(table))) for name, table in tables.items()]
        )


def compare_fewshot(sets: Mapping[str, FeatureSet], *args: Any, **settings: Any) -> FewShotComparison:
    """:func:`fewshot` on the same episodes of several feature sets of the same samples, and the paired differences.

    Args:
        sets: By name; the first is what the others are compared with. Samples that not all have are left out.
        args: See :func:`fewshot`.
        settings: Likewise.

    Raises:
        EpisodeError: They have no classes or samples in common; see also :func:`fewshot`.
    """
    if len(sets) < 2:
        raise EpisodeError("a comparison needs at least two sets of features")
    results = {
        name: fewshot(features, *args, **settings)
        for name, features in zip(sets, _same_samples(list(sets.values())), strict=True)
    }
    first, *others = results
    differences = []
    for name, row in ((other, row) for other in others for row in results[other].rows):
        task = (row.ways, row.shots, row.classifier)
        mean, reach = paired_difference(results[name], results[first], task, row.interval)
        differences.append(FewShotDifference(name, first, *task, mean, reach, abs(mean) > reach))
    return FewShotComparison(results, tuple(differences))


def paired_difference(
    one: FewShotResult, other: FewShotResult, task: Task, interval: Interval = "episodes"
) -> tuple[float, float]:
    """How much more accurate one set is than another on the same episodes, and half the width of its 95% interval.

    Args:
        one: Of the same samples as ``other``, drawn by the same seed.
        other: What it is compared with.
        task: Ways, shots and classifier.
        interval: What the interval is of.
    """
    values = one.accuracies[task] - other.accuracies[task]
    return float(values.mean()), half_width(values, one.drawn[task[0]], len(one.classes), interval)


def _same_samples(sets: Sequence[FeatureSet]) -> list[FeatureSet]:
    """The samples that all sets have, by class and id."""
    import torch

    keys = [
        [(one.classes[label], key) for label, key in zip(one.labels.tolist(), one.ids, strict=True)] for one in sets
    ]
    shared = set(keys[0]).intersection(*keys[1:])
    if not shared:
        raise EpisodeError(
            "the sets have no sample in common, by class and id: they cannot be compared on the same episodes",
            "compare backbones on the same data",
        )
    order = [key for key in keys[0] if key in shared]  # that of the first: a set orders its ids by what they all are
    same: list[FeatureSet] = []
    for one, own in zip(sets, keys, strict=True):
        if left_out := len(one) - len(order):
            log.warning("%s of %s that not all sets have are left out", counted(left_out, "sample"), one.info.id)
        places = {key: row for row, key in enumerate(own)}
        rows = torch.tensor([places[key] for key in order])
        part = replace(one, features=one.features[rows], labels=one.labels[rows], ids=tuple(key for _, key in order))
        same.append(part.only_classes(part.counts.nonzero()[:, 0]))
    return same
