"""A trajectory as a result: one point per checkpoint, the best checkpoints, and rank correlations."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.episodes.query_prior import BALANCED
from nctransfer.errors import EpisodeError
from nctransfer.evaluation.fewshot_task import Contender
from nctransfer.evaluation.multiple_comparisons import compare_with_best
from nctransfer.evaluation.spread import spread_of
from nctransfer.neural_collapse.registry import correlated_measures
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from nctransfer.evaluation.fewshot_results import FewShotResult, RowKey
    from nctransfer.evaluation.multiple_comparisons import Verdict
    from nctransfer.intervals import Interval
    from nctransfer.neural_collapse.collapse_report import CollapseReport

__all__ = ["SOURCE", "TARGET", "Best", "Point", "Trajectory", "rank_correlations"]

TARGET, SOURCE = "target", ("source-train", "source-test")


@dataclass(frozen=True, kw_only=True)
class Point:
    """What was measured at one checkpoint.

    Attributes:
        checkpoint: The name of its file.
        path: The path of that file.
        step: The number in its name that tells checkpoints apart; ``None`` if there is none.
        same_as: An earlier checkpoint with exactly the same weights, as ``best.pth`` often has; ``None`` if there is
            none.
        reports: The collapse of each sample, by name: ``target``, and perhaps ``source-train`` and ``source-test``.
        fewshot: The few-shot accuracies on the target.
    """

    checkpoint: str
    path: str
    step: int | None = None
    same_as: str | None = None
    reports: Mapping[str, CollapseReport]
    fewshot: FewShotResult

    def to_row(self) -> dict[str, Any]:
        """All numbers as one row of a table. The columns of the source's samples have a prefix."""
        row: dict[str, Any] = {
            "checkpoint": self.checkpoint,
            "step": self.step,
            "same_as": self.same_as,
            "path": self.path,
            "features": self.fewshot.features.id,
        }
        for sample, report in self.reports.items():
            prefix = "" if sample == TARGET else f"{sample.replace('-', '_')}_"
            row |= {f"{prefix}samples": report.features.samples, f"{prefix}classes": report.features.classes}
            row |= {f"{prefix}{name}": value for name, value in report.metrics.items()}
        for one in self.fewshot.rows:
            task = f"{one.label}_{one.ways}way_{one.shots}shot"
            row |= {task: one.accuracy, f"{task}_ci95": one.ci95}
            if one.expected_accuracy is not None:
                row[f"{task}_expected"] = one.expected_accuracy
            row |= {f"{task}_{name}": bound["value"] for name, bound in (one.bounds or {}).items()}
        return row


@dataclass(frozen=True, kw_only=True)
class Best:
    """The checkpoint with the highest accuracy on a task, and what that shows about other images or classes.

    Attributes:
        ways: Classes per episode.
        shots: Support samples per class.
        classifier: The name of the classifier.
        query_prior: How queries are spread over the classes.
        checkpoint: The name of the checkpoint.
        accuracy: Its accuracy.
        population: What the possible bests and the verdict are about: ``samples``, other images of these classes, or
            ``classes``, other classes of this kind.
        possible_bests: Checkpoints that may be the best, the most accurate first. The best is among them in at least
            95% of studies. ``None`` if nothing can be said.
        last: The last checkpoint.
        difference: The accuracy of the last checkpoint minus that of the best of the others.
        interval: The 95% interval of that difference over the population.
        verdict: ``worse`` if the last checkpoint is not a possible best, ``better`` if no other is; else ``not told
            apart``.
        reason: Why nothing can be said.
    """

    ways: int
    shots: int
    classifier: str
    query_prior: str = BALANCED
    checkpoint: str
    accuracy: float
    population: Interval
    possible_bests: tuple[str, ...] | None
    last: str
    difference: float
    interval: tuple[float, float] | None
    verdict: Verdict | None
    reason: str | None = None

    @property
    def key(self) -> RowKey:
        """The key of the rows that are compared: ways, shots and label."""
        return (self.ways, self.shots, Contender(self.classifier, self.query_prior).label)


@dataclass(frozen=True, kw_only=True)
class Trajectory(ShownInNotebooks):
    """Collapse and few-shot accuracy, checkpoint by checkpoint.

    Attributes:
        model: The architecture.
        transform: What is done to images: size, crop, colours.
        points: One point per checkpoint, in the order of training; those without a step come last.
        failed: Why a checkpoint could not be measured, by its name.
        warnings: What weakens a conclusion from the samples, such as images that two of them share.
    """

    model: str
    transform: Mapping[str, Any]
    points: tuple[Point, ...]
    failed: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def distinct(self) -> tuple[Point, ...]:
        """The points without those that have the same weights as an earlier one."""
        return tuple(point for point in self.points if point.same_as is None)

    def best(self) -> tuple[Best, ...]:
        """The best checkpoint of each task and classifier, if there are two that differ."""
        return self._best

    @functools.cached_property
    def _best(self) -> tuple[Best, ...]:
        if len(self.distinct) < 2:
            return ()
        return tuple(_best_of(self.distinct, row.key) for row in self.points[0].fewshot.rows)

    def rank_correlations(self, number: int = 0) -> dict[str, float | None]:
        """Rank correlations of the measures with the accuracy in row ``number`` of the few-shot results.

        See :func:`rank_correlations`.
        """
        row = self.points[0].fewshot.rows[number]
        rows = [point.to_row() for point in self.distinct]
        columns = {name: [one[name] for one in rows] for name in rows[0]}
        return _correlations(columns, f"{row.label}_{row.ways}way_{row.shots}shot", correlated_measures())

    def to_dict(self) -> dict[str, Any]:
        """The trajectory as a dictionary for JSON."""
        rows = []
        for point in self.points:
            found = point.fewshot.to_dict(0)
            samples = [{"name": name, **report.to_dict()} for name, report in point.reports.items()]
            about = {
                "checkpoint": point.checkpoint,
                "path": point.path,
                "step": point.step,
                "same_as": point.same_as,
            }
            rows.append({**about, "samples": samples, "fewshot": found})
        return {
            "model": self.model,
            "transform": dict(self.transform),
            "checkpoints": rows,
            "best": [asdict(one) for one in self.best()],
            "failed": dict(self.failed),
            "warnings": list(self.warnings),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per checkpoint.

        The measures of the target have their own names, and those of the source's samples names such as
        ``source_train_cdnv``. Accuracies have names such as ``ridge_5way_1shot``, and beside them columns with
        ``_ci95`` and, for ``ncc``, with ``_expected`` and the names of the bounds of the error.
        """
        import pandas as pd

        return pd.DataFrame([point.to_row() for point in self.points])


def _best_of(points: Sequence[Point], key: RowKey) -> Best:
    """The best of two or more checkpoints on one task."""
    results = [point.fewshot for point in points]
    population = results[0].populations[key[0]]
    means = [float(one.accuracies[key].mean()) for one in results]
    order = sorted(range(len(points)), key=lambda number: -means[number])
    try:
        found, reason = compare_with_best(means, spread_of(results, key, population)), None
    except EpisodeError as error:
        found, reason = None, error.message
    last = found[-1] if found else None
    return Best(
        **results[0].about(key),
        checkpoint=points[order[0]].checkpoint,
        accuracy=means[order[0]],
        population=population,
        possible_bests=tuple(points[one].checkpoint for one in order if found[one].is_possible) if found else None,
        last=points[-1].checkpoint,
        difference=means[-1] - max(means[:-1]),
        interval=(last.low, last.high) if last else None,
        verdict=last.verdict if last else None,
        reason=reason,
    )


def rank_correlations(
    frame: pd.DataFrame, accuracy: str, measures: Sequence[str] | None = None
) -> dict[str, float | None]:
    """Spearman's rank correlation of measures with an accuracy over checkpoints; ``None`` where it is not defined.

    Args:
        frame: A table of :meth:`Trajectory.to_frame`, or several of them joined.
        accuracy: The column of the accuracy.
        measures: The columns of the measures; by default those that their registry entries name for it, as far as the
            table has them: one that an earlier version wrote has fewer.

    >>> import pandas as pd
    >>> rank_correlations(pd.DataFrame({"cdnv": [3.0, 2.0, 1.0], "acc": [0.2, 0.3, 0.5]}), "acc", ["cdnv"])
    {'cdnv': -1.0}
    """
    there = [name for name in correlated_measures() if name in frame] if measures is None else measures
    return _correlations(frame, accuracy, there)


def _correlations(
    columns: Mapping[str, Iterable[Any]] | pd.DataFrame, accuracy: str, measures: Sequence[str]
) -> dict[str, float | None]:
    import numpy as np

    numbers = {
        name: np.array([math.nan if one is None else float(one) for one in columns[name]], np.float64)
        for name in (*measures, accuracy)
    }
    found: dict[str, float | None] = {}
    for name in measures:
        pair = np.stack([numbers[name], numbers[accuracy]])
        ranks = np.stack([_ranks(values) for values in pair[:, ~np.isnan(pair).any(axis=0)]])
        varies = ranks.shape[1] > 2 and bool((ranks.max(axis=1) > ranks.min(axis=1)).all())
        found[name] = round(float(np.asarray(np.corrcoef(ranks))[0, 1]), 12) if varies else None
    return found


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rank of each value from 1; equal values have the mean of their ranks."""
    import numpy as np

    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = np.take(counts.cumsum() - (counts - 1) / 2, places)
    return ranks
