"""A trajectory as a result: one point per checkpoint, the best checkpoints, and rank correlations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.evaluation.fewshot_comparison import paired_difference
from nctransfer.neural_collapse.registry import correlated_measures
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.evaluation.fewshot_results import FewShotResult
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
            task = f"{one.classifier}_{one.ways}way_{one.shots}shot"
            row |= {task: one.accuracy, f"{task}_ci95": one.ci95}
            if one.expected_accuracy is not None:
                row[f"{task}_expected"] = one.expected_accuracy
            row |= {f"{task}_{name}": bound["value"] for name, bound in (one.bounds or {}).items()}
        return row


@dataclass(frozen=True, kw_only=True)
class Best:
    """The checkpoint with the highest accuracy on a task, and how the others compare on the same episodes.

    Attributes:
        ways: Classes per episode.
        shots: Support samples per class.
        classifier: The name of the classifier.
        checkpoint: The name of the checkpoint.
        accuracy: Its accuracy.
        ties: Checkpoints whose paired difference to it has a 95% interval that contains zero.
        last: The last checkpoint.
        difference: The accuracy of the last checkpoint minus that of the best.
        ci95: Half the width of the 95% interval of that difference.
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
        """The best checkpoint of each task and classifier."""
        return tuple(self._best(number) for number in range(len(self.points[0].fewshot.rows)))

    def _best(self, number: int) -> Best:
        """The best checkpoint for row ``number`` of the few-shot results."""
        *_, last = self.distinct
        top = max(self.distinct, key=lambda point: point.fewshot.rows[number].accuracy)
        row = top.fewshot.rows[number]
        paired = {
            point.checkpoint: paired_difference(point.fewshot, top.fewshot, row.key, row.interval)
            for point in self.distinct
        }
        difference, half = paired[last.checkpoint]
        return Best(
            ways=row.ways,
            shots=row.shots,
            classifier=row.classifier,
            checkpoint=top.checkpoint,
            accuracy=row.accuracy,
            ties=tuple(name for name, (mean, width) in paired.items() if name != top.checkpoint and -mean <= width),
            last=last.checkpoint,
            difference=difference,
            ci95=half,
        )

    def rank_correlations(self, number: int = 0) -> dict[str, float | None]:
        """Rank correlations of the measures with the accuracy in row ``number`` of the few-shot results.

        See :func:`rank_correlations`.
        """
        row = self.points[0].fewshot.rows[number]
        frame = self.to_frame()
        column = f"{row.classifier}_{row.ways}way_{row.shots}shot"
        return rank_correlations(frame[frame["same_as"].isna()], column)

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


def rank_correlations(
    frame: pd.DataFrame, accuracy: str, measures: Sequence[str] | None = None
) -> dict[str, float | None]:
    """Spearman's rank correlation of measures with an accuracy over checkpoints; ``None`` where it is not defined.

    Args:
        frame: A table of :meth:`Trajectory.to_frame`, or several of them joined.
        accuracy: The column of the accuracy.
        measures: The columns of the measures; by default those that their registry entries name for it.

    >>> import pandas as pd
    >>> rank_correlations(pd.DataFrame({"cdnv": [3.0, 2.0, 1.0], "acc": [0.2, 0.3, 0.5]}), "acc", ["cdnv"])
    {'cdnv': -1.0}
    """
    import math

    import pandas as pd

    found: dict[str, float | None] = {}
    for name in correlated_measures() if measures is None else measures:
        pairs = frame[[name, accuracy]].apply(pd.to_numeric).dropna()
        varies = len(pairs) > 2 and all(pairs[column].nunique() > 1 for column in pairs)
        value = float(pairs[name].corr(pairs[accuracy], method="spearman")) if varies else math.nan
        found[name] = None if math.isnan(value) else round(value, 12)
    return found
