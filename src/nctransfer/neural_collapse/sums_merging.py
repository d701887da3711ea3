"""The sums over all shares of a set, from the files of its workers."""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nctransfer.errors import FeaturesError
from nctransfer.features.sample_content import Duplicates
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.linear_head import HeadAnswers, LinearHead
from nctransfer.neural_collapse.moments import Means
from nctransfer.neural_collapse.sums_files import SUFFIX, SumsFile, write_sums_file
from nctransfer.neural_collapse.sums_folder import (
    ANSWERS,
    MEANS,
    MOMENTS,
    NAMES,
    SumsFolder,
    means_tensors,
    moments_tensors,
    read_means,
    read_moments,
    sum_of_means,
    sum_of_moments,
)

__all__ = ["check_complete", "digests_of", "merge", "passes_for", "whole_answers", "whole_means", "whole_statistics"]

log = logging.getLogger(__name__)


def passes_for(mine: SumsFile) -> tuple[str, ...]:
    """The passes that a report needs."""
    names = (NAMES,) if mine.is_separate else ()
    return (*names, MEANS, MOMENTS, ANSWERS) if mine.head else (*names, MEANS, MOMENTS)


def digests_of(files: Sequence[SumsFile]) -> tuple[str, ...]:
    """The digests of the tensors in some files."""
    return tuple(file.digest for file in files)


def check_complete(opened: SumsFolder) -> None:
    """Refuse a folder in which a share is missing, or older than what it was computed from.

    Raises:
        FeaturesError: There is such a share.
    """
    sources: tuple[str, ...] = ()
    for kind in passes_for(opened.one):
        files = opened.complete(kind, opened.of)
        firsts = files if kind == NAMES else opened.complete(MEANS, opened.of)
        for file, first in zip(files, firsts, strict=True):
            if file.sources != sources or (file.rows, file.check) != (first.rows, first.check):
                raise FeaturesError(
                    f"{str(file.path)!r} is stale: it was computed before other shares were run again",
                    f"run {file.shard} again",
                )
        sources = digests_of(files)


def merge(opened: SumsFolder, kind: str) -> SumsFile:
    """Add up the sums of a pass over all shares, and leave them in the folder."""
    files = opened.complete(kind, opened.of)
    facts: dict[str, Any] = {}
    if kind == MEANS:
        means = sum_of_means(files)
        tensors, facts = means_tensors(means), {"duplicates": means.duplicates.to_dict()}
    else:
        tensors = moments_tensors(sum_of_moments(files))
    merged = replace(
        files[0],
        path=opened.path / f"{kind}{SUFFIX}",
        shard=None,
        rows=sum(file.rows for file in files),
        check=0,
        sources=digests_of(files),
        facts=facts,
    )
    return write_sums_file(merged, tensors)


def _merged(opened: SumsFolder, kind: str) -> SumsFile | None:
    """The sums of a pass over all shares, if a worker has left them, and no share was run again since."""
    found = opened.merged.get(kind)
    is_fresh = found is not None and found.sources == digests_of(opened.complete(kind, opened.of))
    return found if is_fresh else None


def whole_means(opened: SumsFolder) -> tuple[Means, Duplicates]:
    """The sums of the first pass over the whole set, and how many rows are equal to an earlier one."""
    if (there := _merged(opened, MEANS)) is not None:
        try:
            return read_means(there), Duplicates(**there.facts["duplicates"])
        except FeaturesError as error:
            log.warning("%s; they are added up again", error)
    means = sum_of_means(opened.complete(MEANS, opened.of))
    return means, means.duplicates


def whole_statistics(opened: SumsFolder) -> ClassStatistics:
    """The statistics of the whole set."""
    means, duplicates = whole_means(opened)
    moments = None
    if (there := _merged(opened, MOMENTS)) is not None:
        try:
            moments = read_moments(there)
        except FeaturesError as error:
            log.warning("%s; they are added up again", error)
    if moments is None:
        moments = sum_of_moments(opened.complete(MOMENTS, opened.of))
    return replace(ClassStatistics.from_passes(means, moments), duplicates=duplicates)


def whole_answers(opened: SumsFolder) -> tuple[LinearHead, HeadAnswers]:
    """The classifier, and its answers for the samples of all shares."""
    files = opened.complete(ANSWERS, opened.of)
    classes, dim = len(files[0].classes), files[0].features["dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "weight": (classes, dim),
        "bias": (classes,),
        "answers": (2, classes, classes),
    }
    found = []
    for file in files:
        tensors = file.tensors(shapes, ["answers"])
        found.append(HeadAnswers(agreeing=file.facts["agreeing"], answers=tensors.get("answers")))
    rows = files[0].facts["rows"]
    head = LinearHead(tensors["weight"], tensors["bias"], files[0].facts["origin"], rows and tuple(rows))
    return head, functools.reduce(operator.add, found)
