"""Whether a feature set has enough classes and samples for a few-shot task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nctransfer.episodes.query_prior import BALANCED
from nctransfer.errors import EpisodeError, SettingError, counted, join_names
from nctransfer.sources.label_depth import MORE_CLASSES

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.episode import EpisodeSpec
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["check", "check_disjoint", "large_enough", "same_classes"]

MOST = 2**60  # samples per class: tensors cannot hold larger numbers

log = logging.getLogger(__name__)


def same_classes(features: FeatureSet, query_set: FeatureSet) -> tuple[FeatureSet, FeatureSet]:
    """Both sets with only the classes that they share.

    Raises:
        EpisodeError: The query set is the set itself or shares samples with it, has another width, or shares fewer than
            two classes with it.
    """
    import torch

    if query_set is features or (query_set.info == features.info and features.info.path is not None):
        raise EpisodeError(
            f"the query set is the set itself, {features.info.id}: support samples would be among the queries",
            "leave out --query-set, or give it other samples",
        )
    is_one_source = features.info.data is not None and query_set.info.data == features.info.data
    if is_one_source and (both_have := set(features.ids) & set(query_set.ids)):
        raise EpisodeError(
            f"{counted(len(both_have), 'sample')} of {features.info.data} would be in the support and in the queries",
            "choose another split for one of them by --split or --query-split",
        )
    if query_set.dim != features.dim:
        raise EpisodeError(
            f"a query set of width {query_set.dim:,} does not go with features of {features.dim:,}",
            "give --query-set features of the same backbone",
        )
    shared = set(features.classes) & set(query_set.classes)
    if len(shared) < 2:
        raise EpisodeError(
            f"{features.info.id} and the queries {query_set.info.id} share {counted(len(shared), 'class', 'classes')}; "
            "episodes need at least two",
            "give sets that share classes by name",
        )
    both: list[FeatureSet] = []
    for given in (features, query_set):
        codes = [code for code, name in enumerate(given.classes) if name in shared]
        if left_out := len(given.classes) - len(codes):
            log.warning(
                "%s of %s left out: the other set does not have them",
                counted(left_out, "class", "classes"),
                given.info.id,
            )
        both.append(given.only_classes(torch.tensor(codes)) if left_out else given)
    return both[0], both[1]


def large_enough(features: FeatureSet, spec: EpisodeSpec, query_set: FeatureSet | None = None) -> torch.Tensor:
    """Which classes have enough samples for the episodes, ``(C,)`` bool."""
    shots, queries = (min(number, MOST) for number in (spec.shots, spec.queries or 1))
    if query_set is None:
        return features.counts >= shots + queries
    return (features.counts >= shots) & (query_set.counts >= queries)


def check(features: FeatureSet, spec: EpisodeSpec, query_set: FeatureSet | None = None) -> None:
    """Check that the episodes can be drawn from a feature set.

    Args:
        features: The feature set.
        spec: What is drawn.
        query_set: Where the queries come from, if not from the features; it has the same classes.

    Raises:
        EpisodeError: There are more ways than classes, or a class has too few samples; the message names the classes.
    """
    least = 2 if query_set is None else 1
    usable = features.counts >= least
    if int(usable.sum()) < 2:
        small = [repr(features.classes[code]) for code in (~usable).nonzero()[:, 0].tolist()]
        raise EpisodeError(
            f"{features.info.id} has {counted(int(usable.sum()), 'class', 'classes')} with "
            f"{counted(least, 'sample')} or more; episodes need at least two"
            + (f". Too small: {join_names(small)}" if small else ""),
            f"give data with more samples per class, or {MORE_CLASSES}",
        )
    if spec.ways > len(features.classes):
        raise EpisodeError(
            f"{spec.ways} ways were asked for, and there are {len(features.classes)} classes",
            f"give --ways {len(features.classes)} or less",
        )
    small_codes = (~large_enough(features, spec, query_set)).nonzero()[:, 0].tolist()
    if small_codes:
        raise _too_few(features, spec, query_set, small_codes)


def _too_few(
    features: FeatureSet, spec: EpisodeSpec, query_set: FeatureSet | None, small_codes: list[int]
) -> EpisodeError:
    """The error that classes have too few samples."""
    counts = features.counts.tolist()
    queries = spec.queries or 1
    asked = f"{counted(spec.shots, 'shot')} and {counted(queries, 'query', 'queries')} need"
    if query_set is None:
        short = [f"{features.classes[code]!r} ({counts[code]})" for code in small_codes]
        needed = f"{asked} {spec.shots + queries} samples per class"
        fewer = min(counts) - spec.shots
    else:
        others = query_set.counts.tolist()
        short = [f"{features.classes[code]!r} ({counts[code]} and {others[code]})" for code in small_codes]
        needed = f"{asked} {counted(spec.shots, 'sample')} per class in the features and {queries} in the query set"
        fewer = min(others) if min(counts) >= spec.shots else 0
    others_remain = len(counts) - len(short) >= 2
    return EpisodeError(
        f"{needed}; {len(short)} of {len(counts)} have fewer: {join_names(short)}",
        (f"give --queries {fewer} or less, " if 0 < fewer < queries else "give fewer shots, ")
        + "or more images of these classes"
        + (", or leave them out by --drop-small" if others_remain else ""),
    )


def check_disjoint(spec: EpisodeSpec) -> None:
    """Check that episodes can be drawn that share no sample.

    Raises:
        SettingError: All samples are queries, or there are not as many queries of each class.
    """
    if spec.query_prior != BALANCED:
        raise SettingError(
            f"episodes that share no sample cannot have queries drawn by {spec.query_prior}",
            "give --query-prior balanced, or another --interval",
        )
    if spec.queries is None:
        raise SettingError(
            "episodes that share no sample cannot have all samples as queries", "give --queries a number, such as 15"
        )
