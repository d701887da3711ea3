"""The same episodes without a tenth of the images: what accuracy on other images of the same classes is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.episodes.uneven_queries import first_wanted

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.episode import Episodes
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["TENTHS", "tenths", "with_shots", "without"]

TENTHS = 10
STREAM = 4  # of the seed, beside those of the episodes


def tenths(features: FeatureSet, query_set: FeatureSet | None, seed: int) -> torch.Tensor:
    """Which tenth each sample belongs to, ``(n,)`` from 0 to 9; the samples of the query set follow.

    Each class is divided at random, as evenly as its size allows. It depends on the classes, the ids and the seed only,
    so that all backbones on the same images have the same tenths.
    """
    import numpy as np
    import torch

    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, STREAM)))
    sizes = [size for one in (features, query_set) if one is not None for size in one.counts.tolist()]
    group = np.empty(sum(sizes), np.int64)
    start = 0
    for size in sizes:
        group[start + generator.permutation(size)] = np.arange(start, start + size) % TENTHS
        start += size
    return torch.from_numpy(group)


def with_shots(episodes: Episodes, shots: int) -> Episodes:
    """The episodes with only the first ``shots`` support samples per class; the others are spare samples.

    They are those that would be drawn for that number of shots alone.
    """
    import torch

    assert episodes.spare is not None
    rest = episodes.support[:, :, shots:]
    return replace(episodes, support=episodes.support[:, :, :shots], spare=torch.cat([rest, episodes.spare], dim=2))


def without(episodes: Episodes, is_out: torch.Tensor) -> Episodes:
    """The episodes without some samples; every other sample keeps its place where it can.

    What is left out of the support or of the queries is replaced by the next samples that were drawn for the class.
    Where there are no more, the support takes queries, and there are fewer queries. The result is distributed as
    episodes that are drawn from the remaining samples.

    Args:
        episodes: Episodes that were drawn with spare samples.
        is_out: Which rows are left out, ``(n,)`` bool.
    """
    import torch

    assert episodes.spare is not None
    nothing = replace(episodes, spare=None, spare_queries=None, wanted=None)
    shots = episodes.support.shape[2]
    if episodes.is_query is not None:  # every sample that is not in the support is a query
        support, _ = _first([episodes.support, episodes.spare], is_out, shots)
        return replace(nothing, support=support, is_query=episodes.is_query & ~is_out[episodes.queries])
    if episodes.spare_queries is not None:
        support, _ = _first([episodes.support, episodes.spare], is_out, shots)
        queries, is_query = _queries(torch.cat([episodes.queries, episodes.spare_queries], dim=2), is_out, episodes)
        return replace(nothing, support=support, queries=queries, is_query=is_query)
    support, _ = _first([episodes.support, episodes.spare, episodes.queries.flip(2)], is_out, shots)
    candidates = torch.cat([episodes.queries, episodes.spare], dim=2)
    is_support = (candidates[..., None] == support[:, :, None]).any(dim=3)
    queries, is_query = _queries(candidates.where(~is_support, -1), is_out, episodes)
    return replace(nothing, support=support, queries=queries, is_query=is_query)


def _queries(rows: torch.Tensor, is_out: torch.Tensor, episodes: Episodes) -> tuple[torch.Tensor, torch.Tensor]:
    """The queries of each class, from its rows in random order, and which of them there are."""
    if episodes.wanted is None:
        return _first([rows], is_out, episodes.queries.shape[2])
    return first_wanted(rows, (rows >= 0) & ~is_out[rows.clamp(min=0)], episodes.wanted)


def _first(orders: Sequence[torch.Tensor], is_out: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first ``count`` rows of each class that are not left out, and whether there are so many."""
    import torch

    rows = torch.cat(list(orders), dim=2)
    is_kept = (rows >= 0) & ~is_out[rows.clamp(min=0)]
    order = (~is_kept).sort(dim=2, stable=True).indices[:, :, :count]
    return rows.gather(2, order).clamp(min=0), is_kept.gather(2, order)
