"""The samples that are measured at every checkpoint: the target, and perhaps two of the source."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.checkpoints.trajectory_result import SOURCE, TARGET
from nctransfer.neural_collapse.collapse_report import collapse
from nctransfer.neural_collapse.comparisons import CollapseComparison, compare_samples
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.sources.source import ImageSource
    from nctransfer.sources.source_kind import ReadingOptions

__all__ = ["Sample", "collapse_of_samples", "samples_by_source", "samples_of"]


class Sample(NamedTuple):
    """Images that are measured at every checkpoint: a source, and which of its images."""

    source: ImageSource
    selection: Selection


def samples_of(
    data: str | os.PathLike[str],
    selection: Selection,
    reading: ReadingOptions,
    source: str | os.PathLike[str] | None = None,
    source_classes: Sequence[str] | None = None,
    splits: tuple[str, str] = ("train", "test"),
) -> dict[str, Sample]:
    """The samples that are measured: the target and, if a source or its classes are named, two samples of the source.

    Args:
        data: The target, as :func:`~nctransfer.sources.opening.open_source` takes it.
        selection: Which images of the target; its limit of images per class holds for the source too.
        reading: How to read the data.
        source: The source, if it is not in the same data.
        source_classes: The classes of the source, if not all.
        splits: The split of the source that the backbone is trained on, and another split.

    Raises:
        DataError: There is no such data.
    """

    def sample(name: str | os.PathLike[str], wanted: Selection) -> Sample:
        return Sample(open_source(name, replace(reading, split=wanted.split)), wanted)

    found = {TARGET: sample(data, selection)}
    if source is not None or source_classes is not None:
        chosen = tuple(source_classes) if source_classes is not None else None
        for name, split in zip(SOURCE, splits, strict=True):
            wanted = Selection(split, classes=chosen, max_per_class=selection.max_per_class, seed=selection.seed)
            found[name] = sample(data if source is None else source, wanted)
    return found


def samples_by_source(samples: Mapping[str, Sample]) -> dict[ImageSource, dict[str, Selection]]:
    """The samples of each source, whose images go through a backbone in one pass; the target's source comes last."""
    found: dict[ImageSource, dict[str, Selection]] = {}
    same: dict[str, ImageSource] = {}
    for name, (source, selection) in samples.items():
        found.setdefault(same.setdefault(source.id, source), {})[name] = selection
    return dict(reversed(found.items()))


def collapse_of_samples(sets: Mapping[str, FeatureSet], device: str) -> CollapseComparison:
    """The collapse of every sample; with the two samples of the source, all three compared."""
    if len(sets) == 1:
        return CollapseComparison(reports={TARGET: collapse(sets[TARGET], device=device)})
    return compare_samples(sets[TARGET], *(sets[name] for name in SOURCE), device=device)
