"""Several feature sets on the same episodes, and their paired differences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.errors import EpisodeError, counted
from nctransfer.evaluation.fewshot_accuracy import fewshot, run_fewshot
from nctransfer.intervals import half_width
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from nctransfer.evaluation.fewshot_accuracy import Progress
    from nctransfer.evaluation.fewshot_results import FewShotResult, RowKey
    from nctransfer.evaluation.fewshot_task import FewShotTask
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.intervals import Interval

__all__ = ["FewShotComparison", "FewShotDifference", "compare_fewshot", "paired_difference", "run_comparison"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FewShotDifference:
    """How much more accurate one set is than the first, on the same episodes.

    Attributes:
        name: The set.
        first: The set that it is compared with.
        ways: Classes per episode.
        shots: Support samples per class.
        classifier: The name of the classifier.
        difference: The mean over episodes of the accuracy minus that of the first.
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


@dataclass(frozen=True, kw_only=True)
class FewShotComparison(ShownInNotebooks):
    """Several feature sets of the same samples, on the same episodes.

    Attributes:
        results: The result of each set, by name.
        differences: The paired difference of each set but the first to the first, for each row.
        warnings: What weakens a conclusion from the differences.
    """

    results: Mapping[str, FewShotResult]
    differences: tuple[FewShotDifference, ...]
    warnings: tuple[str, ...] = ()

    def to_dict(self, confusions: int | None = 5) -> dict[str, Any]:
        """The comparison as a dictionary for JSON.

        Args:
            confusions: How many of the most confused pairs each row lists; ``None`` for all.
        """
        return {
            "sets": [{"name": name, **result.to_dict(confusions)} for name, result in self.results.items()],
            "differences": [asdict(one) for one in self.differences],
            "warnings": list(self.warnings),
        }

    def to_frame(self) -> pd.DataFrame:
        """The rows of every set; the column ``set`` names it."""
        import pandas as pd

        return pd.DataFrame([{"set": name, **row.to_row()} for name, one in self.results.items() for row in one.rows])

    def episodes_table(self) -> pa.Table:
        """The episodes of every set, see :meth:`FewShotResult.episodes_table`; the column ``set`` names it."""
        import pyarrow as pa

        tables = {name: result.episodes_table() for name, result in self.results.items()}
        return pa.concat_tables(
            [table.add_column(0, "set", pa.repeat(name, len(table))) for name, table in tables.items()]
        )


def compare_fewshot(sets: Mapping[str, FeatureSet], *args: Any, **settings: Any) -> FewShotComparison:
    """:func:`fewshot` on the same episodes of several feature sets of the same samples, and the paired differences.

    Args:
        sets: The feature sets by name; the others are compared with the first. Samples that not all sets have are left
            out.
        args: Passed to :func:`~nctransfer.evaluation.fewshot_accuracy.fewshot`.
        settings: Passed to it by name.

    Raises:
        EpisodeError: The sets have no classes or samples in common; see also :func:`fewshot`.
    """
    return _compared(sets, lambda features: fewshot(features, *args, **settings))


def run_comparison(
    sets: Mapping[str, FeatureSet], task: FewShotTask, *, device: str = "auto", progress: Progress | None = None
) -> FewShotComparison:
    """:func:`compare_fewshot` with a task that was made before.

    Args:
        sets: The feature sets by name.
        task: The task.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: The sets have no classes or samples in common, or too few for the task.
    """
    return _compared(sets, lambda features: run_fewshot(features, task, device=device, progress=progress))


def _compared(sets: Mapping[str, FeatureSet], run: Callable[[FeatureSet], FewShotResult]) -> FewShotComparison:
    if len(sets) < 2:
        raise EpisodeError(
            f"a comparison needs at least two sets of features; {len(sets)} was given", "give another set"
        )
    same = _same_samples(list(sets.values()))
    warnings = tuple(_other_images(list(sets), same))
    for warning in warnings:
        log.warning("%s", warning)
    results = {name: run(features) for name, features in zip(sets, same, strict=True)}
    first, *others = results
    differences = []
    for name, row in ((other, row) for other in others for row in results[other].rows):
        mean, half = paired_difference(results[name], results[first], row.key, row.interval)
        differences.append(
            FewShotDifference(
                name=name,
                first=first,
                ways=row.ways,
                shots=row.shots,
                classifier=row.classifier,
                difference=mean,
                ci95=half,
                is_real=abs(mean) > half,
            )
        )
    return FewShotComparison(results=results, differences=tuple(differences), warnings=warnings)


def paired_difference(
    one: FewShotResult, other: FewShotResult, key: RowKey, interval: Interval = "episodes"
) -> tuple[float, float]:
    """How much more accurate one set is than another on the same episodes, and half the width of its 95% interval.

    Args:
        one: A result on the same samples as ``other``, drawn with the same seed.
        other: The result that it is compared with.
        key: Ways, shots and classifier.
        interval: What the interval refers to.
    """
    values = one.accuracies[key] - other.accuracies[key]
    return float(values.mean()), half_width(values, one.drawn[key[0]], len(one.classes), interval)


def _other_images(names: Sequence[str], same: Sequence[FeatureSet]) -> Iterator[str]:
    """A warning for each set that has other images than the first under the same names, as far as images are known."""
    first = same[0].images
    for name, one in zip(names[1:], same[1:], strict=True):
        if first is not None and one.images is not None and (count := int((one.images != first).sum())):
            yield (
                f"{count:,} of {counted(len(one), 'sample')} in {name} are other images than those of the same class "
                f"and name in {names[0]}: their difference is not due to the backbone alone"
            )


def _same_samples(sets: Sequence[FeatureSet]) -> list[FeatureSet]:
    """The samples that all sets have, matched by class and id."""
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
    order = [
        key for key in keys[0] if key in shared
    ]  # the order of the first set, as another set may sort its ids otherwise
    same: list[FeatureSet] = []
    for one, own in zip(sets, keys, strict=True):
        if left_out := len(one) - len(order):
            log.warning("%s of %s that not all sets have are left out", counted(left_out, "sample"), one.info.id)
        places = {key: row for row, key in enumerate(own)}
        rows = torch.tensor([places[key] for key in order])
        part = one.only_rows(rows)
        same.append(part.only_classes(part.counts.nonzero()[:, 0]))
    return same
