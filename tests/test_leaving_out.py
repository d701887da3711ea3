"""Episodes without some images: none is used, the others stay where they were, and the distribution is right."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from clusters import normal_classes, set_of
from nctransfer.episodes.episode import Episodes, EpisodeSpec
from nctransfer.episodes.leaving_out import without
from nctransfer.episodes.sampling import sample
from nctransfer.features.feature_set import FeatureSet


def of_sizes(*counts: int) -> FeatureSet:
    return set_of(normal_classes(counts, 3))


def drawn(features: FeatureSet, spec: EpisodeSpec, count: int, query_set: FeatureSet | None = None) -> Episodes:
    [batch] = sample(features, spec, count, query_set, with_spare=True)
    return batch


@pytest.mark.parametrize("queries", [4, None])
@pytest.mark.parametrize("with_query_set", [False, True])
def test_spare_samples_change_no_episode(queries: int | None, with_query_set: bool) -> None:
    features, other = of_sizes(8, 20, 50), of_sizes(9, 30, 12) if with_query_set else None
    spec = EpisodeSpec(2, 3, queries)
    [plain] = sample(features, spec, 30, other)
    more = drawn(features, spec, 30, other)
    for name in ("classes", "support", "queries"):
        assert torch.equal(getattr(plain, name), getattr(more, name))
    assert plain.spare is None
    assert more.spare is not None


@pytest.mark.parametrize("queries", [4, None])
@pytest.mark.parametrize("with_query_set", [False, True])
def test_what_is_left_out_is_not_used(queries: int | None, with_query_set: bool) -> None:
    features, other = of_sizes(8, 20, 50), of_sizes(9, 30, 12) if with_query_set else None
    batch = drawn(features, EpisodeSpec(2, 3, queries), 60, other)
    total = len(features) + (len(other) if other else 0)
    is_out = torch.from_numpy(np.random.default_rng(0).random(total) < 0.2)
    part = without(batch, is_out)
    part = part if queries else part.cut(3)
    labels = torch.cat([features.labels, *([other.labels] if other else [])])
    assert torch.equal(part.classes, batch.classes)
    assert part.support.shape == batch.support.shape
    assert not bool(is_out[part.support].any())
    assert not bool((is_out[part.queries] & part.is_query).any())
    for rows in (part.support, part.queries.where(part.is_query, part.support[:, :, :1])):
        assert torch.equal(labels[rows], part.classes[..., None].expand(rows.shape))
    for support, asked, is_query in zip(part.support, part.queries, part.is_query, strict=True):
        for way in range(2):
            own, chosen = support[way].tolist(), asked[way][is_query[way]].tolist()
            assert len({*own, *chosen}) == len(own) + len(chosen)
    kept = (part.support[..., None] == batch.support[:, :, None]).any(dim=3) | is_out[batch.support]
    assert float(kept.double().mean()) > 0.8


def test_nothing_left_out_is_the_same_episodes() -> None:
    features = of_sizes(8, 20, 50)
    batch = drawn(features, EpisodeSpec(2, 3, 4), 30)
    part = without(batch, torch.zeros(len(features), dtype=torch.bool))
    assert torch.equal(part.support, batch.support)
    assert torch.equal(part.queries, batch.queries)
    assert bool(part.is_query.all())


def test_small_classes_lose_queries_not_shots() -> None:
    features = of_sizes(7, 7)
    batch = drawn(features, EpisodeSpec(2, 3, 4), 200)
    is_out = torch.zeros(14, dtype=torch.bool)
    is_out[[0, 8]] = True
    part = without(batch, is_out)
    assert set(part.is_query.sum(dim=2).flatten().tolist()) == {3}
    assert not bool(is_out[part.support].any())


def test_supports_are_drawn_evenly_from_what_remains() -> None:
    """Of five images without one, each pair of the other four is the support equally often."""
    features = of_sizes(5, 5)
    batch = drawn(features, EpisodeSpec(2, 2, 2), 1024)
    is_out = torch.zeros(10, dtype=torch.bool)
    is_out[[2, 9]] = True
    part = without(batch, is_out)
    pairs = Counter(tuple(sorted(rows)) for rows in part.support.flatten(0, 1).tolist())
    assert len(pairs) == 12
    expected = 2048 / 12
    assert sum((count - expected) ** 2 / expected for count in pairs.values()) < 30  # 0.1% point for 10 degrees: 29.6
