"""Few-shot accuracies as results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nctransfer.errors import EpisodeError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import torch

    from nctransfer.evaluation.fewshot_task import Task
    from nctransfer.evaluation.tally import Counts
    from nctransfer.intervals import Interval

__all__ = ["ClassAccuracy", "Confusion", "FewShotResult", "FewShotRow"]


@dataclass(frozen=True)
class FewShotRow:
    """Accuracy of one classifier on one task.

    Attributes:
        accuracy: Mean over episodes of the share of queries classified right.
        ci95: Half the width of its 95% interval.
        interval: What that is of, see :data:`INTERVALS`.
        std: Standard deviation over episodes.
        lowest_decile: What a tenth of the episodes do not exceed.
        seconds: Time of the episodes: drawing, inner products and classifier.
        gradient_norm: Of logistic regression: the largest, relative to that of all weights zero.
        expected_accuracy: Of ``ncc``: the mean over all episodes, computed without drawing them.
        bounds: Of the error of ``ncc``: value and whether it is vacuous, by name.
        undefined: Why there is no value, by name.
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
    std: float
    lowest_decile: float
    seconds: float
    gradient_norm: float | None = None
    expected_accuracy: float | None = None
    bounds: Mapping[str, Mapping[str, Any]] | None = None
    undefined: Mapping[str, str] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """The fields as one row of a table: each bound a column."""
        row = asdict(self)
        del row["undefined"]
        bounds = row.pop("bounds") or {}
        return row | {f"bound_{name}": one["value"] for name, one in bounds.items()}


class ClassAccuracy(NamedTuple):
    """How often the queries of a class were classified right; ``None`` if no episode had it."""

    name: str
    accuracy: float | None
    queries: int


class Confusion(NamedTuple):
    """How often queries of one class were taken for another, of those that could have been."""

    name: str
    taken_for: str
    rate: float
    queries: int


@dataclass(frozen=True)
class FewShotResult:
    """Few-shot accuracies on one feature set.

    Attributes:
        features: What was measured, as :meth:`~nctransfer.features.feature_set.FeatureSet.to_dict` says it.
        rows: One row for each of ways × shots × classifiers.
        classes: The class names.
        settings: What else was asked for: query set, reference mean, normalisation, penalty, classes left out.
        accuracies: Of each episode, ``(E,)``, by ways, shots and classifier.
        drawn: The class codes of each episode, ``(E, ways)``, by ways.
    """

    features: dict[str, Any]
    rows: tuple[FewShotRow, ...]
    classes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    accuracies: Mapping[Task, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    drawn: Mapping[int, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    counts: Mapping[Task, Counts] = field(default_factory=dict, repr=False, compare=False)

    def class_accuracies(self, task: Task) -> tuple[ClassAccuracy, ...]:
        """Of each class, by name."""
        counts = self.counts[task]
        pairs = zip(self.classes, counts.right.tolist(), counts.asked.tolist(), strict=True)
        return tuple(ClassAccuracy(name, right / asked if asked else None, int(asked)) for name, right, asked in pairs)

    def confusions(self, task: Task, most: int | None = None) -> tuple[Confusion, ...]:
        """The most confused pairs first: by the lower end of the 95% (Wilson) interval of their rate.

        Args:
            task: Ways, shots and classifier.
            most: So many at most.

        Raises:
            EpisodeError: There are more than 1,000 classes.
        """
        counts = self.counts[task]
        if counts.taken is None or counts.together is None:
            raise EpisodeError(
                f"pairs of {len(self.classes):,} classes are too many to count", "choose by --classes FILE"
            )
        taken, together = counts.taken.double(), counts.together.double().clamp(min=1)
        rate, z2 = taken / together, 1.96**2
        middle = rate + z2 / (2 * together)
        reach = (z2 * (rate * (1 - rate) + z2 / (4 * together)) / together).sqrt()
        lower = (middle - reach) / (1 + z2 / together)
        lower[taken == 0] = 0
        order = lower.flatten().sort(descending=True, stable=True).indices[: int((taken > 0).sum())][:most]
        return tuple(
            Confusion(self.classes[a], self.classes[b], float(rate[a, b]), int(together[a, b]))
            for a, b in (divmod(place, len(self.classes)) for place in order.tolist())
        )

    def to_dict(self, confusions: int | None = 5) -> dict[str, Any]:
        """The result as JSON has it, with so many of the most confused pairs; ``None`` for all."""
        rows = []
        for row in self.rows:
            task, found = (row.ways, row.shots, row.classifier), asdict(row)
            if task in self.counts:
                found["classes"] = [one._asdict() for one in self.class_accuracies(task)]
                can = self.counts[task].taken is not None
                found["confusions"] = [one._asdict() for one in self.confusions(task, confusions)] if can else None
            rows.append(found)
        return {"features": self.features, "settings": dict(self.settings), "results": rows}

    def to_frame(self) -> pd.DataFrame:
        """One row a task and classifier, the fields of :class:`FewShotRow`, each bound a column."""
        import pandas as pd

        return pd.DataFrame([row.to_row() for row in self.rows])

    def episodes_table(self) -> pa.Table:
        """One row an episode, task and classifier: which classes it had, and its accuracy."""
        import numpy as np
        import pyarrow as pa

        names = pa.array(self.classes, pa.string())
        tables = []
        for (ways, shots, classifier), accuracies in self.accuracies.items():
            drawn = self.drawn[ways].numpy()
            size = len(drawn)
            codes = pa.DictionaryArray.from_arrays(pa.array(drawn.reshape(-1).astype(np.int32)), names)
            tables.append(
                pa.table(
                    {
                        "features": pa.repeat(self.features["id"], size),
                        "ways": pa.repeat(ways, size),
                        "shots": pa.repeat(shots, size),
                        "classifier": pa.repeat(classifier, size),
                        "episode": np.arange(size),
                        "classes": pa.FixedSizeListArray.from_arrays(codes, ways).cast(pa.list_(codes.type)),
                        "accuracy": accuracies.numpy(),
                    }
                )
            )
        return pa.concat_tables(tables)
