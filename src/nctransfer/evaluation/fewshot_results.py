"""Few-shot accuracies as results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nctransfer.episodes.query_prior import BALANCED
from nctransfer.errors import EpisodeError
from nctransfer.evaluation.fewshot_task import Contender, FewShotTask
from nctransfer.evaluation.leaks import Leaks
from nctransfer.intervals import wilson
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import torch

    from nctransfer.evaluation.tally import Counts
    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.intervals import Interval

__all__ = ["ClassAccuracy", "Confusion", "FewShotResult", "FewShotRow", "RowKey"]

RowKey = tuple[int, int, str]  # ways, shots, and the label of the row: its classifier, and a query prior where needed


@dataclass(frozen=True, kw_only=True)
class FewShotRow:
    """The accuracy of one classifier with one number of ways and of shots.

    Attributes:
        ways: Classes per episode.
        shots: Support samples per class.
        queries: Query samples per class, on average over the classes of an episode; ``all`` for every sample that is
            not in the support.
        query_prior: How queries are spread over the classes, see
            :class:`~nctransfer.episodes.query_prior.QueryPrior`.
        shortened: The share of episodes with fewer queries, because a class has fewer images than were drawn of it;
            ``None`` for balanced queries, of which there are always as many.
        episodes: Episodes that were run.
        classifier: The name of the classifier.
        seed: The seed of the episodes.
        accuracy: The mean over episodes of the share of queries that are classified right.
        ci95: Half the width of its 95% interval; ``None`` if there is none over this population.
        interval: What the interval refers to, see :data:`~nctransfer.intervals.INTERVALS`.
        std: The standard deviation over episodes.
        lowest_decile: The accuracy that a tenth of the episodes do not exceed.
        seconds: The time of the episodes: drawing, inner products and classifier.
        reported: What classifiers report beside scores, by name: the largest value over the episodes; ``None`` for what
            this classifier does not report. ``gradient_norm`` is the norm of the gradient at which logistic regression
            stopped, relative to that at zero weights. ``proxies_per_class`` is the mean number of proxies per class.
        expected_accuracy: The mean over all episodes, computed without drawing them; ``None`` if theory does not
            describe the classifier.
        bounds: Bounds of the error, by name: value, and whether it is vacuous or uninformative.
        undefined: Why a value is missing, by name.
    """

    ways: int
    shots: int
    queries: int | Literal["all"]
    query_prior: str = BALANCED
    shortened: float | None = None
    episodes: int
    classifier: str
    seed: int
    accuracy: float
    ci95: float | None
    interval: Interval
    std: float
    lowest_decile: float
    seconds: float
    reported: Mapping[str, float | None] = field(default_factory=dict)
    expected_accuracy: float | None = None
    bounds: Mapping[str, Mapping[str, Any]] | None = None
    undefined: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The classifier; a transductive one with the query prior, under two of which it is always shown."""
        return Contender(self.classifier, self.query_prior).label

    @property
    def key(self) -> RowKey:
        """Ways, shots and label, which tell the rows of a result apart."""
        return (self.ways, self.shots, self.label)

    def to_dict(self) -> dict[str, Any]:
        """The row as a dictionary for JSON. Numbers that the classifier reports are further keys."""
        row: dict[str, Any] = {}
        for name, value in asdict(self).items():
            row |= value if name == "reported" else {name: value}
        return row

    def to_row(self) -> dict[str, Any]:
        """The row of a table: each bound is a column."""
        row = self.to_dict()
        del row["undefined"]
        bounds = row.pop("bounds") or {}
        return row | {f"bound_{name}": one["value"] for name, one in bounds.items()}


class ClassAccuracy(NamedTuple):
    """How often the queries of a class were classified right; ``None`` if no episode had the class."""

    name: str
    accuracy: float | None
    queries: int


class Confusion(NamedTuple):
    """How often queries of one class were taken for another, among those in episodes that had both classes."""

    name: str
    taken_for: str
    rate: float
    queries: int


@dataclass(frozen=True, kw_only=True)
class FewShotResult(ShownInNotebooks):
    """Few-shot accuracies on one feature set.

    Attributes:
        features: What was measured.
        rows: One row for each number of ways, number of shots and classifier; two, with different query priors, for
            transductive classifiers.
        classes: The names of the classes that took part.
        task: What was asked for.
        query_set: Where the queries came from, if not from the features.
        center_on: The id of the set whose mean was subtracted first.
        dropped: The classes that were left out because they have too few samples.
        leaks: The samples that give answers away: duplicates, and queries that are among the labelled examples.
        accuracies: The accuracy of each episode, ``(E,)``, by the keys of the rows: ways, shots and label, which is the
            classifier, or for transductive ones that and the query prior.
        drawn: The class codes of each episode, ``(E, ways)``, by ways. Where a number of shots has fewer episodes, they
            are the first of these.
        counts: Right answers and confusions, by ways, shots and label.
        left_out: The accuracy of the first episodes without each tenth of the images, ``(10, E′)``, by ways, shots and
            label, where an interval over other images was wanted.
        populations: The population that verdicts are about, by ways.
        impossible: Why there can be no interval, by ways, shots and population.
    """

    features: FeatureInfo
    rows: tuple[FewShotRow, ...]
    classes: tuple[str, ...] = ()
    task: FewShotTask = field(default_factory=FewShotTask)
    query_set: FeatureInfo | None = None
    center_on: str | None = None
    dropped: tuple[str, ...] = ()
    leaks: Leaks = field(default_factory=Leaks)
    accuracies: Mapping[RowKey, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    drawn: Mapping[int, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    counts: Mapping[RowKey, Counts] = field(default_factory=dict, repr=False, compare=False)
    left_out: Mapping[RowKey, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    populations: Mapping[int, Interval] = field(default_factory=dict, repr=False)
    impossible: Mapping[tuple[int, int, Interval], str] = field(default_factory=dict, repr=False)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What weakens a conclusion from the accuracies."""
        return self.leaks.warnings()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that change the numbers and are not columns of the rows, as a dictionary for JSON."""
        settings: dict[str, Any] = {
            "query_set": self.query_set.to_dict() if self.query_set is not None else None,
            "center_on": self.center_on,
            "l2_normalise": self.task.l2_normalise,
            "ridge_lambda": self.task.ridge_lambda,
            "max_episodes": self.task.episodes,
            "precision": self.task.precision,
        }
        return settings | ({"dropped": list(self.dropped)} if self.task.drop_small else {})

    def about(self, key: RowKey) -> dict[str, Any]:
        """Ways, shots, classifier and query prior of a row.

        Args:
            key: The key of the row.
        """
        one = next(one for one in self.task.contenders if one.label == key[2])
        return {"ways": key[0], "shots": key[1], **one._asdict()}

    def class_accuracies(self, key: RowKey) -> tuple[ClassAccuracy, ...]:
        """How often the queries of each class were classified right.

        Args:
            key: The key of a row: ways, shots and label.
        """
        counts = self.counts[key]
        pairs = zip(self.classes, counts.right.tolist(), counts.asked.tolist(), strict=True)
        return tuple(ClassAccuracy(name, right / asked if asked else None, int(asked)) for name, right, asked in pairs)

    def confusions(self, key: RowKey, most: int | None = None) -> tuple[Confusion, ...]:
        """The most confused pairs first: in the order of the lower end of the 95% (Wilson) interval of their rate.

        Args:
            key: The key of a row: ways, shots and label.
            most: The largest number of pairs; ``None`` for all.

        Raises:
            EpisodeError: There are more than 1,000 classes.
        """
        counts = self.counts[key]
        if counts.taken is None or counts.together is None:
            raise EpisodeError(
                f"pairs of {len(self.classes):,} classes are too many to count",
                "choose fewer classes by --classes FILE",
            )
        taken, together = counts.taken.double(), counts.together.double().clamp(min=1)
        lower, _ = wilson(taken, together)
        lower[taken == 0] = 0
        order = lower.flatten().sort(descending=True, stable=True).indices[: int((taken > 0).sum())][:most]
        return tuple(
            Confusion(self.classes[a], self.classes[b], float(taken[a, b] / together[a, b]), int(together[a, b]))
            for a, b in (divmod(place, len(self.classes)) for place in order.tolist())
        )

    def to_dict(self, confusions: int | None = 5) -> dict[str, Any]:
        """The result as a dictionary for JSON.

        Args:
            confusions: How many of the most confused pairs each row lists; ``None`` for all.
        """
        rows = []
        for row in self.rows:
            found = row.to_dict()
            if row.key in self.counts:
                found["classes"] = [one._asdict() for one in self.class_accuracies(row.key)]
                can = self.counts[row.key].taken is not None
                found["confusions"] = [one._asdict() for one in self.confusions(row.key, confusions)] if can else None
            rows.append(found)
        about = {"features": self.features.to_dict(), "settings": self.settings}
        return about | {"leaks": self.leaks.to_dict(), "warnings": list(self.warnings), "results": rows}

    def to_frame(self) -> pd.DataFrame:
        """One row for each number of ways, number of shots and classifier; each bound is a column."""
        import pandas as pd

        return pd.DataFrame([row.to_row() for row in self.rows])

    def episodes_table(self) -> pa.Table:
        """One row for each episode, number of shots and classifier: the classes of the episode, and its accuracy."""
        import numpy as np
        import pyarrow as pa

        names = pa.array(self.classes, pa.string())
        tables = []
        for row in self.rows:
            ways, accuracies = row.ways, self.accuracies[row.key]
            drawn = self.drawn[ways][: len(accuracies)].numpy()
            size = len(drawn)
            codes = pa.DictionaryArray.from_arrays(pa.array(drawn.reshape(-1).astype(np.int32)), names)
            tables.append(
                pa.table(
                    {
                        "features": pa.repeat(self.features.id, size),
                        "ways": pa.repeat(ways, size),
                        "shots": pa.repeat(row.shots, size),
                        "classifier": pa.repeat(row.classifier, size),
                        "query_prior": pa.repeat(row.query_prior, size),
                        "episode": np.arange(size),
                        "classes": pa.FixedSizeListArray.from_arrays(codes, ways).cast(pa.list_(codes.type)),
                        "accuracy": accuracies.numpy(),
                    }
                )
            )
        return pa.concat_tables(tables)
