"""Episodes: what they hold, what they depend on, and that they are uniform."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from nctransfer.episodes import Episodes, EpisodeSpec, check, sample
from nctransfer.errors import EpisodeError
from nctransfer.features import FeatureSet

FIELDS = [field.name for field in dataclasses.fields(Episodes)]


def classes_of(*counts: int, d: int = 1) -> FeatureSet:
    labels = np.repeat([f"class {c:02d}" for c in range(len(counts))], counts)
    return FeatureSet.from_arrays(np.zeros((len(labels), d)), labels)


def draw(features: FeatureSet, spec: EpisodeSpec, episodes: int) -> Episodes:
    blocks = list(sample(features, spec, episodes))
    return Episodes(*(torch.cat([getattr(block, name) for block in blocks]) for name in FIELDS))


def same(a: Episodes, b: Episodes) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


@pytest.mark.parametrize("counts", [(20,) * 8, (6, 9, 40, 7, 6, 11), (6, 6)])
@pytest.mark.parametrize(("ways", "shots", "queries"), [(2, 1, 5), (2, 5, 1), (2, 3, 3)])
def test_rows_are_distinct_and_of_their_class(counts: tuple[int, ...], ways: int, shots: int, queries: int):
    features = classes_of(*counts)
    found = draw(features, EpisodeSpec(ways, shots, queries), 1100)
    assert found.classes.shape == (1100, ways)
    assert found.queries.shape == (1100, ways, queries)
    assert found.support.shape == (1100, ways, shots)
    for classes in found.classes.tolist():
        assert len(set(classes)) == ways
    rows = torch.cat([found.queries, found.support], dim=2)
    assert torch.equal(features.labels[rows], found.classes[..., None].expand_as(rows))
    for chosen in rows.flatten(1).tolist():
        assert len(set(chosen)) == ways * (shots + queries)


def test_all_classes_and_all_samples_can_be_taken():
    found = draw(classes_of(6, 6, 6), EpisodeSpec(3, 2, 4), 50)
    assert found.classes.sort(dim=1).values.tolist() == [[0, 1, 2]] * 50
    rows = torch.cat([found.queries, found.support], dim=2)
    assert rows.flatten(1).sort(dim=1).values.tolist() == [list(range(18))] * 50


@pytest.mark.parametrize("shots", [1, 2, 4])
def test_fewer_shots_are_more_shots_cut_short(shots: int):
    features = classes_of(15, 20, 12, 30)
    few, many = (draw(features, EpisodeSpec(3, s, 6), 1100) for s in (shots, 5))
    assert torch.equal(few.classes, many.classes)
    assert torch.equal(few.queries, many.queries)
    assert torch.equal(few.support, many.support[:, :, :shots])


@pytest.mark.parametrize("episodes", [1, 10, 1023, 1024, 1025, 2500])
def test_an_episode_does_not_depend_on_how_many_there_are(episodes: int):
    features, spec = classes_of(10, 12, 14, 9), EpisodeSpec(2, 2, 3, seed=4)
    most, some = draw(features, spec, 3000), draw(features, spec, episodes)
    assert len(some.classes) == episodes
    assert same(some, Episodes(*(getattr(most, name)[:episodes] for name in FIELDS)))


def test_no_episodes():
    assert list(sample(classes_of(9, 9), EpisodeSpec(2, 1, 2), 0)) == []


def test_seeds_and_blocks_differ():
    features = classes_of(*[30] * 10)
    draws = [draw(features, EpisodeSpec(5, 1, 5, seed), 2048) for seed in (0, 1, 2)]
    blocks = [part.classes[start : start + 1024] for part in draws for start in (0, 1024)]
    for a, b in itertools.combinations(blocks, 2):
        assert (a == b).all(dim=1).float().mean() < 0.01


def test_classes_and_samples_are_drawn_apart():
    # with one stream for both, the first class and its first query would go together
    found = draw(classes_of(*[10] * 10), EpisodeSpec(2, 1, 1), 5120)
    numbers = found.queries[:, 0, 0] % 10
    table = np.histogram2d(found.classes[:, 0], numbers, bins=10)[0]
    assert chisquare(table.reshape(-1)).pvalue > 1e-3


def test_same_labels_same_episodes():
    spec = EpisodeSpec(3, 2, 4, seed=7)
    assert same(draw(classes_of(9, 8, 7, 30), spec, 50), draw(classes_of(9, 8, 7, 30, d=12), spec, 50))


def test_order_of_rows_in_the_file_does_not_matter():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(60, 3)), np.repeat(list("abcd"), 15)
    ids = [f"{label}/{number}.png" for label, number in zip(labels, np.tile(range(15), 4), strict=True)]
    order = rng.permutation(60)
    spec = EpisodeSpec(3, 2, 4)
    found = []
    for rows in (np.arange(60), order):
        features = FeatureSet.from_arrays(x[rows], labels[rows], [ids[row] for row in rows])
        episodes = draw(features, spec, 100)
        found.append((features.features[episodes.queries], features.features[episodes.support]))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_orders_of_classes_are_uniform():
    found = draw(classes_of(*[3] * 4), EpisodeSpec(3, 1, 1), 20_480)
    _, counts = found.classes.unique(dim=0, return_counts=True)
    assert len(counts) == 4 * 3 * 2
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("size", [5, 6])
def test_orders_of_samples_are_uniform(size: int):
    features = classes_of(5, 6)
    found = draw(features, EpisodeSpec(2, 1, 2), 20_480)
    rows = torch.cat([found.queries, found.support], dim=2)[found.classes == size - 5]
    _, counts = rows.unique(dim=0, return_counts=True)
    assert len(counts) == size * (size - 1) * (size - 2)
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(("part", "place"), [("queries", 0), ("queries", 14), ("support", 0), ("support", 4)])
def test_every_sample_of_a_large_class_is_as_likely(part: str, place: int):
    features = classes_of(*[200] * 5)
    found = getattr(draw(features, EpisodeSpec(5, 5, 15), 10_240), part)
    assert chisquare(found[:, :, place].reshape(-1).bincount(minlength=1000)).pvalue > 1e-3


def test_golden_episodes():
    # Any change here changes every published accuracy within its interval: seeds then no longer say which episodes
    # they were. Change it on purpose only, and say so in the changelog.
    found = draw(classes_of(5, 6, 7, 8), EpisodeSpec(3, 1, 2, seed=0), 1026)
    some = [0, 1, 2, 1024, 1025]  # of the first block and of the second
    assert found.classes[some].tolist() == [[2, 3, 1], [3, 1, 2], [1, 2, 3], [3, 0, 1], [1, 2, 3]]
    assert found.queries[some].tolist() == [
        [[13, 14], [25, 20], [8, 9]],
        [[19, 18], [6, 5], [15, 17]],
        [[8, 5], [16, 17], [24, 22]],
        [[22, 19], [4, 0], [8, 6]],
        [[5, 10], [15, 13], [25, 22]],
    ]
    assert found.support[some].flatten(1).tolist() == [[12, 22, 10], [21, 8, 13], [9, 12, 23], [21, 1, 9], [6, 16, 21]]


# errors


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ways": 1}, "ways is 1; it must be at least 2"),
        ({"shots": 0}, "shots is 0; it must be at least 1"),
        ({"queries": 0}, "queries is 0; it must be at least 1"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
    ],
)
def test_number_too_small(given: dict[str, int], message: str):
    with pytest.raises(EpisodeError, match=message):
        EpisodeSpec(**given)


def test_more_ways_than_classes():
    with pytest.raises(EpisodeError, match="6 ways were asked for, and there are 4 classes") as caught:
        check(classes_of(*[20] * 4), EpisodeSpec(6, 1, 5))
    assert "--ways 4" in caught.value.hint
    check(classes_of(*[20] * 4), EpisodeSpec(4, 1, 5))


def test_too_few_samples_are_named_with_their_counts():
    features = classes_of(20, 9, 10, 3)
    with pytest.raises(EpisodeError, match="need 10 samples of every class; 2 of 4 have fewer") as caught:
        check(features, EpisodeSpec(2, 1, 9))
    assert "'class 01' (9), 'class 03' (3)" in caught.value.message
    assert "class 00" not in caught.value.message
    assert "class 02" not in caught.value.message
    assert "--queries 2 or less" in caught.value.hint
    check(features, EpisodeSpec(2, 1, 2))
    with pytest.raises(EpisodeError) as caught:
        check(features, EpisodeSpec(2, 3, 1))
    assert "fewer shots" in caught.value.hint


def test_many_classes_too_small_are_not_all_listed():
    with pytest.raises(EpisodeError, match=r"12 of 12 have fewer: .*'class 04' \(4\), …$"):
        check(classes_of(*[4] * 12), EpisodeSpec(2, 1, 9))


@pytest.mark.parametrize(("counts", "usable", "small"), [((9, 1), 1, "'class 01'"), ((9,), 1, "")])
def test_fewer_than_two_usable_classes(counts: tuple[int, ...], usable: int, small: str):
    with pytest.raises(EpisodeError, match=f"{usable} class(es)? of two samples or more.*{small}"):
        check(classes_of(*counts), EpisodeSpec(2, 1, 1))


def test_sampling_checks_too():
    with pytest.raises(EpisodeError, match="6 ways"):
        next(sample(classes_of(*[20] * 4), EpisodeSpec(6, 1, 5), 10))
