"""Episodes: what they hold, what they depend on, and that they are uniform."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from messages import logged, says
from nctransfer.episodes.episode import Episodes, EpisodeSpec
from nctransfer.episodes.requirements import check, large_enough, same_classes
from nctransfer.episodes.sampling import sample, sample_disjoint
from nctransfer.errors import EpisodeError, SettingError
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet

FIELDS = ("classes", "queries", "support")


def classes_of(*counts: int, d: int = 1, name: str = "support") -> FeatureSet:
    labels = np.repeat([f"class {c:02d}" for c in range(len(counts))], counts)
    return FeatureSet.from_arrays(np.zeros((len(labels), d)), labels, info=FeatureInfo(name))


def joined(blocks: Iterable[Episodes]) -> Episodes:
    blocks = list(blocks)
    return Episodes(*(torch.cat([getattr(block, name) for block in blocks]) for name in FIELDS))


def draw(
    features: FeatureSet, spec: EpisodeSpec, episodes: int, query_set: FeatureSet | None = None, **most: int
) -> Episodes:
    return joined(sample(features, spec, episodes, query_set, **most))


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


@pytest.mark.parametrize("most", [1, 7, 1000, 1024, 5000])
def test_at_most_so_many_at_a_time(most: int):
    features, spec = classes_of(10, 12, 14, 9), EpisodeSpec(2, 2, 3)
    parts = list(sample(features, spec, 1300, most=most))
    assert max(map(len, parts)) == min(most, 1024)
    assert sum(map(len, parts)) == 1300
    assert same(joined(parts), draw(features, spec, 1300))


# queries of another set


def test_support_from_one_set_and_queries_from_the_other():
    features, query_set = classes_of(9, 3, 20, 7), classes_of(5, 30, 4, 8, name="queries")
    labels = torch.cat([features.labels, query_set.labels])
    found = draw(features, EpisodeSpec(3, 3, 4), 1100, query_set)
    assert found.support.max() < len(features) <= found.queries.min()
    for rows, count in ((found.queries, 4), (found.support, 3)):
        assert rows.shape == (1100, 3, count)
        assert torch.equal(labels[rows], found.classes[..., None].expand_as(rows))
        assert all(len(set(chosen)) == 3 * count for chosen in rows.flatten(1).tolist())


def test_of_a_query_set_all_samples_of_both_sets_can_be_taken():
    found = draw(classes_of(2, 2), EpisodeSpec(2, 2, 3), 20, classes_of(3, 3))
    assert found.support.flatten(1).sort(dim=1).values.tolist() == [list(range(4))] * 20
    assert found.queries.flatten(1).sort(dim=1).values.tolist() == [list(range(4, 10))] * 20


@pytest.mark.parametrize("most", [3, 1024])
@pytest.mark.parametrize("queries", [6, None])
def test_with_a_query_set_too_fewer_shots_are_more_cut_short(queries: int | None, most: int):
    features, query_set = classes_of(15, 20, 12, 30), classes_of(6, 7, 8, 9)
    few, many = (draw(features, EpisodeSpec(3, shots, queries), 1100, query_set, most=most) for shots in (2, 5))
    assert same(few, Episodes(many.classes, many.queries, many.support[:, :, :2]))
    more = draw(features, EpisodeSpec(3, 2, queries), 1300, query_set)
    assert same(few, Episodes(*(getattr(more, name)[:1100] for name in FIELDS)))


def test_a_query_set_does_not_change_the_classes():
    features, spec = classes_of(15, 20, 12, 30), EpisodeSpec(3, 2, 6, seed=3)
    assert torch.equal(draw(features, spec, 50).classes, draw(features, spec, 50, classes_of(9, 9, 9, 9)).classes)


@pytest.mark.parametrize("place", [0, 4])
def test_support_and_queries_of_two_sets_are_uniform_and_apart(place: int):
    found = draw(classes_of(*[10] * 10), EpisodeSpec(2, 5, 5), 10_240, classes_of(*[10] * 10))
    own, other = found.support[:, :, place].flatten(), found.queries[:, :, place].flatten() - 100
    assert chisquare(own.bincount(minlength=100)).pvalue > 1e-3
    assert chisquare(other.bincount(minlength=100)).pvalue > 1e-3
    # of one stream, the same places of both sets would be drawn
    assert chisquare((own % 10 * 10 + other % 10).bincount(minlength=100)).pvalue > 1e-3
    assert chisquare((found.classes[:, 0] * 10 + own[::2] % 10).bincount(minlength=100)).pvalue > 1e-3


# every sample as a query


def queries_of(found: Episodes, episode: int, way: int) -> list[int]:
    assert found.is_query is not None
    return found.queries[episode, way][found.is_query[episode, way]].tolist()


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("with_query_set", [False, True])
def test_every_sample_but_the_support_is_a_query(shots: int, with_query_set: bool):
    features = classes_of(4, 9, 5, 17)
    query_set = classes_of(3, 1, 12, 2) if with_query_set else None
    labels = features.labels if query_set is None else torch.cat([features.labels, query_set.labels])
    [found] = sample(features, EpisodeSpec(2, shots, None), 300, query_set)
    found = found.cut(shots)
    for episode, classes in enumerate(found.classes.tolist()):
        for way, code in enumerate(classes):
            support = found.support[episode, way].tolist()
            assert len(set(support)) == shots
            assert set(features.labels[support].tolist()) == {code}
            every = [row for row, label in enumerate(labels.tolist()) if label == code]
            if query_set is None:
                expected = [row for row in every if row not in support]
            else:
                expected = [row for row in every if row >= len(features)]
            assert sorted(queries_of(found, episode, way)) == expected


@pytest.mark.parametrize("with_query_set", [False, True])
def test_what_fewer_shots_leave_is_a_query_too(with_query_set: bool):
    features = classes_of(6, 9, 8, 17)
    query_set = classes_of(3, 1, 12, 2) if with_query_set else None
    [few], [many] = (list(sample(features, EpisodeSpec(2, shots, None), 100, query_set)) for shots in (2, 5))
    few, cut = few.cut(2), many.cut(2)
    assert torch.equal(few.support, cut.support)
    for episode in range(100):
        for way in range(2):
            assert queries_of(cut, episode, way) == queries_of(few, episode, way)
    assert cut.is_query.sum() == many.cut(5).is_query.sum() + (0 if with_query_set else 100 * 2 * 3)


def test_rows_that_only_fill_up_are_of_the_set():
    [found] = sample(classes_of(9, 2), EpisodeSpec(2, 1, None), 20)
    assert found.queries.shape == found.is_query.shape == (20, 2, 9)
    assert found.queries.min() >= 0
    assert found.queries.max() < 11


@pytest.mark.parametrize("most", [1, 100])
def test_support_is_uniform_where_the_rest_are_queries(most: int):
    found = draw(classes_of(*[10] * 5), EpisodeSpec(5, 2, None), 3000, most=most)
    for place in range(2):
        assert chisquare(found.support[:, :, place].flatten().bincount(minlength=50)).pvalue > 1e-3


# no sample twice


def most_groups(counts: list[int], ways: int) -> int:
    """How many groups of distinct classes there can be, each class having so many tickets.

    T groups can be had just when min(count, T) over all classes add up to T·ways.
    """
    return max(t for t in range(sum(counts) + 1) if sum(min(count, t) for count in counts) >= t * ways)


@pytest.mark.parametrize(
    ("counts", "others", "ways", "shots", "queries"),
    [
        ((20,) * 6, None, 2, 1, 4),
        ((20,) * 6, None, 3, 2, 2),
        ((21,) * 5, None, 2, 1, 1),  # one class is left over
        ((6, 9, 40, 7, 6, 11), None, 2, 2, 1),
        ((50, 5, 5), None, 2, 1, 4),
        ((5, 5), None, 2, 1, 4),
        ((20,) * 6, (40,) * 6, 3, 2, 5),
        ((9, 40, 12, 3), (20, 15, 60, 31), 2, 3, 5),
    ],
)
def test_no_two_episodes_share_a_sample_and_there_are_as_many_as_can_be(
    counts: tuple[int, ...], others: tuple[int, ...] | None, ways: int, shots: int, queries: int
):
    features, query_set = classes_of(*counts), classes_of(*others) if others else None
    labels = features.labels if query_set is None else torch.cat([features.labels, query_set.labels])
    found = joined(sample_disjoint(features, EpisodeSpec(ways, shots, queries), 10_000, query_set))
    if others:
        tickets = [min(a // shots, b // queries) for a, b in zip(counts, others, strict=True)]
        assert found.support.max() < len(features) <= found.queries.min()
    else:
        tickets = [count // (shots + queries) for count in counts]
    assert len(found) == most_groups(tickets, ways)
    assert found.queries.shape[1:] == (ways, queries)
    assert found.support.shape[1:] == (ways, shots)
    rows = torch.cat([found.queries, found.support], dim=2)
    assert torch.equal(labels[rows], found.classes[..., None].expand_as(rows))
    assert all(len(set(classes)) == ways for classes in found.classes.tolist())
    assert len(rows.unique()) == rows.numel()


def test_balanced_data_are_used_up():
    found = joined(sample_disjoint(classes_of(*[20] * 6), EpisodeSpec(3, 1, 4), 10_000))
    assert sorted(torch.cat([found.queries, found.support], dim=2).flatten().tolist()) == list(range(120))


@pytest.mark.parametrize("with_query_set", [False, True])
def test_disjoint_episodes_depend_on_the_seed_and_on_no_count(with_query_set: bool):
    features, query_set = classes_of(*[40] * 6), classes_of(*[40] * 6) if with_query_set else None

    def found(episodes: int = 10_000, seed: int = 0, most: int = 1024) -> Episodes:
        parts = list(sample_disjoint(features, EpisodeSpec(2, 1, 4, seed), episodes, query_set, most))
        assert max(map(len, parts)) <= most
        return joined(parts)

    every = found()
    assert same(every, found(most=5))
    assert same(found(episodes=7), Episodes(*(getattr(every, name)[:7] for name in FIELDS)))
    for name in FIELDS:
        assert (getattr(every, name)[0] != getattr(found(seed=1), name)[0]).any()
    assert not torch.equal(every.support[:, 0, 0].sort().values, every.support[:, 0, 0])


def test_disjoint_episodes_are_uniform_over_seeds():
    features = classes_of(*[6] * 4)
    first = [next(sample_disjoint(features, EpisodeSpec(2, 1, 2, seed), 1)) for seed in range(1500)]
    support, queries, classes = (
        torch.cat([getattr(one, name) for one in first]).flatten() for name in ("support", "queries", "classes")
    )
    assert chisquare(support.bincount(minlength=24)).pvalue > 1e-3
    assert chisquare(queries.bincount(minlength=24)).pvalue > 1e-3
    assert chisquare(classes.bincount(minlength=4)).pvalue > 1e-3


def test_disjoint_episodes_need_a_number_of_queries():
    with pytest.raises(SettingError) as error:
        next(sample_disjoint(classes_of(9, 9), EpisodeSpec(2, 1, None), 5))
    says(error, "queries", hint="--queries")


def test_disjoint_episodes_are_checked_too():
    with pytest.raises(EpisodeError) as error:
        next(sample_disjoint(classes_of(9, 20), EpisodeSpec(2, 1, 9), 5))
    says(error, 10, "'class 00' (9)")


# two sets of the same classes


def named(labels: str, name: str, d: int = 2, ids: str | None = None, **info: str) -> FeatureSet:
    rows = np.arange(len(labels) * d).reshape(-1, d)
    return FeatureSet.from_arrays(rows, list(labels), ids, FeatureInfo(name, **info))


def test_only_the_classes_that_both_sets_have_are_kept(caplog: pytest.LogCaptureFixture):
    features, query_set = named("aabbccdd", "a to d"), named("bddeef", "b to f")
    a, b = same_classes(features, query_set)
    assert a.classes == b.classes == ("b", "d")
    assert a.labels.tolist() == [0, 0, 1, 1]
    assert b.labels.tolist() == [0, 1, 1]
    assert torch.equal(a.features, features.features[[2, 3, 6, 7]])
    assert torch.equal(b.features, query_set.features[[0, 1, 2]])
    assert len(caplog.records) == len(logged(caplog, 2)) == 2
    assert [logged(caplog, name) != [] for name in ("a to d", "b to f")] == [True, True]


def test_sets_of_the_same_classes_are_left_as_they_are(caplog: pytest.LogCaptureFixture):
    features, query_set = named("aabb", "one"), named("ab", "other")
    a, b = same_classes(features, query_set)
    assert a is features
    assert b is query_set
    assert not caplog.records


def test_two_sets_of_arrays_without_names_are_two_sets():
    features = FeatureSet.from_arrays(np.zeros((4, 1)), list("aabb"))
    query_set = FeatureSet.from_arrays(np.ones((4, 1)), list("aabb"))
    assert same_classes(features, query_set) == (features, query_set)
    with pytest.raises(EpisodeError) as error:
        same_classes(features, features)
    says(error, "arrays", hint="--query-set")


def test_other_samples_of_the_same_data_are_a_query_set():
    features, query_set = named("ab", "one", ids="xy", data="pets"), named("ab", "one", ids="zw", data="pets")
    assert same_classes(features, query_set) == (features, query_set)


@pytest.mark.parametrize(
    ("other", "facts", "hint"),
    [
        (named("aabb", "one", data="pets", path="one"), ["one"], ["--query-set"]),
        (named("aab", "other", ids="wxb", data="pets"), [1, "pets"], ["--split", "--query-split"]),
        (named("aabb", "other", d=3), [3, 2], ["--query-set"]),
        (named("bccd", "other"), ["one", "other", 1], ["name"]),
        (named("ccd", "other"), ["one", "other", 0], ["name"]),
    ],
    ids=["itself", "a sample of both", "width", "one class", "no class"],
)
def test_sets_that_do_not_go_together(other: FeatureSet, facts: list[object], hint: list[str]):
    with pytest.raises(EpisodeError) as error:
        same_classes(named("aabb", "one", ids="abcd", data="pets", path="one"), other)
    says(error, *facts, hint=hint)


@pytest.mark.parametrize(
    ("shots", "queries", "alone", "with_others"),
    [
        (1, 4, [True, True, False, False], [True, False, True, True]),
        (4, 1, [True, True, False, False], [True, True, True, False]),
        (4, 2, [True, False, False, False], [True, False, True, False]),
        (3, None, [True, True, True, False], [True, True, True, True]),
    ],
)
def test_large_enough(shots: int, queries: int | None, alone: list[bool], with_others: list[bool]):
    features, query_set, spec = classes_of(9, 5, 4, 3), classes_of(4, 1, 9, 9), EpisodeSpec(2, shots, queries)
    assert large_enough(features, spec).tolist() == alone
    assert large_enough(features, spec, query_set).tolist() == with_others


# errors


@pytest.mark.parametrize(
    ("name", "given", "least"), [("ways", 1, 2), ("shots", 0, 1), ("queries", 0, 1), ("seed", -1, 0)]
)
def test_number_too_small(name: str, given: int, least: int):
    with pytest.raises(SettingError) as error:
        EpisodeSpec(**{name: given})
    says(error, name, given, least, hint=f"--{name} {least}")


def test_more_ways_than_classes():
    with pytest.raises(EpisodeError) as error:
        check(classes_of(*[20] * 4), EpisodeSpec(6, 1, 5))
    says(error, 6, 4, hint="--ways 4")
    check(classes_of(*[20] * 4), EpisodeSpec(4, 1, 5))


def test_too_few_samples_are_named_with_their_counts():
    features = classes_of(20, 9, 10, 3)
    with pytest.raises(EpisodeError) as error:
        check(features, EpisodeSpec(2, 1, 9))
    says(error, 10, 2, 4, "'class 01' (9)", "'class 03' (3)", hint=["--queries 2", "--drop-small"])
    assert "class 00" not in error.value.message
    assert "class 02" not in error.value.message
    check(features, EpisodeSpec(2, 1, 2))
    with pytest.raises(EpisodeError) as error:
        check(features, EpisodeSpec(2, 3, 1))
    says(error, hint="shots")


def test_many_classes_too_small_are_not_all_listed():
    with pytest.raises(EpisodeError) as error:
        check(classes_of(*[4] * 12), EpisodeSpec(2, 1, 9))
    says(error, 12, "'class 04' (4)", "…")
    assert "class 05" not in error.value.message


@pytest.mark.parametrize(("counts", "usable", "small"), [((9, 1), 1, "'class 01'"), ((9,), 1, "")])
def test_fewer_than_two_usable_classes(counts: tuple[int, ...], usable: int, small: str):
    with pytest.raises(EpisodeError) as error:
        check(classes_of(*counts), EpisodeSpec(2, 1, 1))
    says(error, "support", usable, small)


def test_sampling_checks_too():
    with pytest.raises(EpisodeError) as error:
        next(sample(classes_of(*[20] * 4), EpisodeSpec(6, 1, 5), 10))
    says(error, 6, 4)


def test_too_few_samples_for_all_as_queries():
    with pytest.raises(EpisodeError) as error:
        check(classes_of(4, 3), EpisodeSpec(2, 3, None))
    says(error, 3, 1, 4, 2, "'class 01' (3)", hint="shots")
    check(classes_of(4, 3), EpisodeSpec(2, 2, None))


@pytest.mark.parametrize(
    ("shots", "queries", "short", "hint"),
    [
        (2, 8, ["'class 00' (9 and 7)"], "--queries 7"),
        (2, 9, ["'class 00' (9 and 7)", "'class 02' (3 and 8)"], "--queries 7"),
        (4, 7, ["'class 02' (3 and 8)"], "shots"),
        (4, 8, ["'class 00' (9 and 7)", "'class 02' (3 and 8)"], "shots"),
    ],
)
def test_too_few_samples_in_one_of_two_sets(shots: int, queries: int, short: list[str], hint: str):
    features, query_set = classes_of(9, 20, 3), classes_of(7, 20, 8)
    with pytest.raises(EpisodeError) as error:
        check(features, EpisodeSpec(2, shots, queries), query_set)
    says(error, shots, queries, len(short), 3, *short, hint=[hint, "images"])
    assert ("--drop-small" in error.value.hint) == (len(short) < 2)
    assert error.value.message.count("'class ") == len(short)
    check(features, EpisodeSpec(2, 3, 7), query_set)


def test_one_sample_a_class_is_enough_where_queries_are_of_another_set():
    check(classes_of(1, 1), EpisodeSpec(2, 1, 3), classes_of(3, 3))
    with pytest.raises(EpisodeError) as error:
        check(classes_of(4), EpisodeSpec(2, 1, 3), classes_of(3))
    says(error, "support", 1)
