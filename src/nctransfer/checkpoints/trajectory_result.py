"""A trajectory as a result: one point a checkpoint, the best ones, rank correlations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.evaluation.fewshot_comparison import paired_difference

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.evaluation.fewshot_results import FewShotResult
    from nctransfer.neural_collapse.collapse_report import CollapseReport

__all__ = ["SOURCE", "TARGET", "Best", "Point", "Trajectory", "rank_correlations"]

TARGET, SOURCE = "target", ("source-train", "source-test")
CORRELATED = ("cdnv", "directional_cdnv", "nc1", "variability_collapse_index")


@dataclass(frozen=True)
class Point:
    """What was measured at one checkpoint.

    Attributes:
        checkpoint: The name of its file.
        path: Where that is.
        step: The number in its name that tells checkpoints apart; ``None`` if there is none.
        same_as: An earlier checkpoint of the very same weights, as ``best.pth`` often is; ``None`` if there is none.
        reports: Collapse of each sample, by name: ``target``, and perhaps ``source-train`` and ``source-test``.
        fewshot: Few-shot accuracies on the target.
    """

    checkpoint: str
    path: str
    step: int | None
    same_as: str | None
    reports: Mapping[str, CollapseReport]
    fewshot: FewShotResult

    def to_row(self) -> dict[str, Any]:
        """All numbers as one row of a table, those of the target without prefix."""
        row: dict[str, Any] = {
            "checkpoint": self.checkpoint,
            "step": self.step,
            "same_as": self.same_as,
            "path": self.path,
            "features": self.fewshot.features["id"],
        }
        for sample, report in self.reports.items():
            prefix = "" if sample == TARGET else f"{sample.replace('-', '_')}_"
            row |= {f"{prefix}samples": report.features["samples"], f"{prefix}classes": report.features["classes"]}
            row |= {f"{prefix}{name}": value for name, value in report.metrics.items()}
        for one in self.fewshot.rows:
            task = f"{one.classifier}_{one.ways}way_{one.shots}shot"
            row |= {task: one.accuracy, f"{task}_ci95": one.ci95}
            if one.expected_accuracy is not None:
                row[f"{task}_expected"] = one.expected_accuracy
            row |= {f"{task}_{name}": bound["value"] for name, bound in (one.bounds or {}).items()}
        return row


class Best(NamedTuple):
    """The checkpoint of highest accuracy on a task, and how the others compare on the same episodes.

    Attributes:
        ties: Checkpoints whose paired difference to it is not told apart from zero, at 95%.
        last: The last checkpoint.
        difference: How much more accurate that is.
        ci95: Half the width of the 95% interval of this.
    """

    ways: int
    shots: int
    classifier: str
    checkpoint: str
    accuracy: float
    ties: tuple[str, ...]
    last: str
    difference: float
    ci95: float


@dataclass(frozen=True)
class Trajectory:
    """Collapse and few-shot accuracy, checkpoint by checkpoint.

    Attributes:
        model: The architecture.
        transform: What is done to images: size, crop, colours.
        points: One a checkpoint, in the order of training; those without a step last.
        failed: Checkpoints that could not be measured, by name, and why.
    """

    model: str
    transform: Mapping[str, Any]
    points: tuple[Point, ...]
    failed: Mapping[str, str]

    @property
    def distinct(self) -> tuple[Point, ...]:
        """The points without those of the same weights as an earlier one."""
        return tuple(point for point in self.points if point.same_as is None)

    def best(self) -> tuple[Best, ...]:
        """The best checkpoint of each task."""
        found = []
        *_, last = self.distinct
        for number, row in enumerate(self.points[0].fewshot.rows):
            task = (row.ways, row.shots, row.classifier)
            top = max(self.distinct, key=lambda point: point.fewshot.rows[number].accuracy)
            paired = {
                point.checkpoint: paired_difference(point.fewshot, top.fewshot, task, row.interval)
                for point in self.distinct
            }
            ties = tuple(name for name, (mean, reach) in paired.items() if name != top.checkpoint and -mean <= reach)
            accuracy = top.fewshot.rows[number].accuracy
            found.append(Best(*task, top.checkpoint, accuracy, ties, last.checkpoint, *paired[last.checkpoint]))
        return tuple(found)

    def rank_correlations(self, number: int = 0) -> dict[str, float | None]:
        """Of the measures with the accuracy of a task, by its number; see :func:`rank_correlations`."""
        row = self.points[0].fewshot.rows[number]
        frame = self.to_frame()
        column = f"{row.classifier}_{row.ways}way_{row.shots}shot"
        return rank_correlations(frame[frame["same_as"].isna()], column)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
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
            "best": [one._asdict() for one in self.best()],
            "failed": dict(self.failed),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row a checkpoint.

        The measures of the target by their names, those of the source's samples as ``source_train_cdnv``; accuracies as
        ``ridge_5way_1shot``, with ``_ci95``, and of ``ncc`` also ``_expected`` and the bounds of the error.
        """
        import pandas as pd

        return pd.DataFrame([point.to_row() for point in self.points])


def rank_correlations(
    frame: pd.DataFrame, accuracy: str, measures: Sequence[str] = CORRELATED
) -> dict[str, float | None]:
    """Spearman's rank correlation of measures with an accuracy over checkpoints; ``None`` where it is not defined.

    Args:
        frame: Of :meth:`Trajectory.to_frame`; several may be joined.
        accuracy: The column of the accuracy.
        measures: Columns of measures.

    >>> import pandas as pd
    >>> rank_correlations(pd.DataFrame({"cdnv": [3.0, 2.0, 1.0], "acc": [0.2, 0.3, 0.5]}), "acc", ["cdnv"])
    {'cdnv': -1.0}
    """
    import math

    import pandas as pd

    found: dict[str, float | None] = {}
    for name in measures:
        pairs = frame[[name, accuracy]].apply(pd.to_numeric).dropna()
        varies = len(pairs) > 2 and all(pairs[column].nunique() > 1 for column in pairs)
        value = float(pairs[name].corr(pairs[accuracy], method="spearman")) if varies else math.nan
        found[name] = None if math.isnan(value) else round(value, 12)
    return found
