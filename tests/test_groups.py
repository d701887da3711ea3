"""Accuracy by group and on new groups: against plain loops over episodes, exact cases and known quantiles."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm, studentized_range, t
from sklearn.neighbors import NearestCentroid

import nctransfer as nct
from messages import missing, raises
from nctransfer.episodes.across_groups import AcrossPlan, draw_across, unfit_classes
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.groups import Groups
from nctransfer.episodes.sampling import sample
from nctransfer.errors import EpisodeError, FeaturesError, SettingError
from nctransfer.evaluation.group_counts import GroupCounts, spread_of_groups, to_others
from nctransfer.evaluation.group_jackknife import GroupJackknife
from nctransfer.evaluation.group_verdicts import worst_group
from nctransfer.evaluation.multiple_comparisons import band_factor, range_factor
from nctransfer.evaluation.spread import Spread
from nctransfer.report.group_sheets import across_sheets, group_sheets

SITES = ("east", "north", "south", "west")


def sited(
    classes: int = 7, each: int = 24, sites: int = 3, *, shift: float = 1.0, empty: int = 0, seed: int = 0
) -> nct.FeatureSet:
    """Classes with images of several sites, each of which adds something of its own; the first images have no site."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    site = np.tile(np.arange(each) % sites, classes)
    x = (
        rng.normal(size=(classes, 8))[labels]
        + shift * rng.normal(size=(sites, 8))[site]
        + rng.normal(size=(len(labels), 8))
    )
    names = [SITES[code] for code in site]
    names[:empty] = [""] * empty
    return nct.FeatureSet.from_arrays(x, [f"c{label}" for label in labels], attributes={"site": names})


FEW: dict[str, Any] = {"episodes": 60, "classifiers": "ncc", "device": "cpu", "precision": 0}


def answers(features: nct.FeatureSet, episodes: Any) -> list[tuple[int, int, bool]]:
    """Episode, row and whether scikit-learn's nearest centroid is right, for each query of some episodes."""
    x, found = features.features.double().numpy(), []
    for number in range(len(episodes)):
        ways = range(episodes.classes.shape[1])
        support = episodes.support[number].numpy()
        model = NearestCentroid().fit(x[support.ravel()], np.repeat(ways, support.shape[1]))
        for way in ways:
            for place, row in enumerate(episodes.queries[number, way].tolist()):
                if episodes.is_query is None or episodes.is_query[number, way, place]:
                    found.append((number, row, bool(model.predict(x[row][None])[0] == way)))
    return found


# By group


def test_accuracies_are_those_of_a_plain_loop() -> None:
    features = sited(empty=5)
    [row] = nct.fewshot_by_group(features, "site", 3, 2, queries=4, **FEW).rows
    hits: dict[str, list[bool]] = defaultdict(list)
    for batch in sample(features, EpisodeSpec(3, 2, 4), 60):
        for _, place, right in answers(features, batch):
            hits[features.attributes["site"][place]].append(right)
    assert {one.name: (one.accuracy, one.queries) for one in row.groups} == {
        name: (pytest.approx(np.mean(values)), len(values)) for name, values in hits.items() if name
    }
    assert row.accuracy == pytest.approx(np.mean([right for values in hits.values() for right in values]))


def test_over_all_groups_it_is_the_accuracy_of_fewshot() -> None:
    features = sited()
    task: dict[str, Any] = FEW | {"classifiers": ("ridge", "ncc"), "queries": 4}
    by_group = nct.fewshot_by_group(features, "site", (2, 4), (1, 3), **task)
    plain = nct.fewshot(features, (2, 4), (1, 3), theory=False, **task)
    assert [(row.ways, row.shots, row.classifier, row.accuracy) for row in by_group.rows] == [
        (*row.key, pytest.approx(row.accuracy, abs=1e-12)) for row in plain.rows
    ]


def test_it_stops_as_early_as_fewshot() -> None:
    features, task = sited(), {"precision": 2.0, "classifiers": "ncc", "queries": 4, "episodes": 3000, "device": "cpu"}
    assert (
        nct.fewshot_by_group(features, "site", 3, **task).rows[0].episodes  # type: ignore[arg-type]
        == nct.fewshot(features, 3, theory=False, **task).rows[0].episodes  # type: ignore[arg-type]
        < 3000
    )


def test_queries_of_a_query_set_have_its_groups() -> None:
    support, queries = sited(), sited(seed=1)
    support = nct.FeatureSet.from_arrays(support.features, [support.classes[c] for c in support.labels])
    [row] = nct.fewshot_by_group(support, "site", 3, queries=4, query_set=queries, **FEW).rows
    assert [one.images for one in row.groups] == [56, 56, 56]
    assert sum(one.queries for one in row.groups) == 60 * 3 * 4


def test_images_and_classes_of_groups_are_counted() -> None:
    features = sited(classes=4, each=10, sites=3)
    found = nct.fewshot_by_group(features, "site", 2, queries=3, **FEW)
    assert [(one.name, one.images, one.classes) for one in found.rows[0].groups] == [
        ("east", 16, 4),
        ("north", 12, 4),
        ("south", 12, 4),
    ]
    assert found.without_group == 0
    assert nct.fewshot_by_group(sited(4, 10, empty=8), "site", 2, queries=3, **FEW).without_group == 8 / 40


def counts_of(right: np.ndarray, asked: np.ndarray, classes: np.ndarray) -> GroupCounts:
    """Counts with these right answers and queries of each episode and group, all of the first class of the episode."""
    cells = np.zeros((2, classes.max() + 1, right.shape[1]))
    for episode, first in enumerate(classes[:, 0]):
        cells[:, first] += right[episode], asked[episode]
    tensors = [torch.from_numpy(one.astype(float)) for one in (right, asked, *cells, right.sum(1) / asked.sum(1))]
    return GroupCounts(
        *(), **dict(zip(GroupCounts.__annotations__, [*tensors, torch.from_numpy(classes)], strict=True))
    )


def random_counts(classes: int = 6, episodes: int = 40) -> tuple[GroupCounts, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    asked = rng.integers(1, 5, (episodes, 2))
    right = rng.integers(0, asked + 1)
    drawn = np.array([rng.permutation(classes)[:2] for _ in range(episodes)])
    return counts_of(right, asked, drawn), right, asked, drawn


def test_over_episodes_the_variance_is_that_of_a_ratio() -> None:
    counts, right, asked, _ = random_counts()
    ratio = right.sum(0) / asked.sum(0)
    residuals = right - ratio * asked
    errors = np.sqrt(40 / 39 * (residuals**2).sum(0)) / asked.sum(0)
    found = spread_of_groups(counts, "episodes", torch.tensor([9, 9]))
    assert found.errors().tolist() == pytest.approx(errors.tolist())
    assert found.degrees.tolist() == [math.inf, math.inf]


def test_over_classes_it_is_the_jackknife_and_pseudo_images() -> None:
    counts, right, asked, drawn = random_counts()
    images = np.array([9, 30])
    means = np.array([right[(drawn != c).all(1)].sum(0) / asked[(drawn != c).all(1)].sum(0) for c in range(6)])
    ratio = right.sum(0) / asked.sum(0)
    variance = 5 / 6 * ((means - means.mean(0)) ** 2).sum(0) + 2 * ((1 - ratio) ** 2 + ratio**2) / (images + 4) ** 2
    found = spread_of_groups(counts, "classes", torch.from_numpy(images))
    assert found.errors().tolist() == pytest.approx(np.sqrt(variance).tolist())
    assert found.degrees.tolist() == [5, 5]


def test_a_group_whose_few_images_are_all_right_has_an_interval() -> None:
    features = sited(classes=5, each=12, shift=0)
    x = features.features * 0.01 + 100 * features.labels[:, None]
    apart = nct.FeatureSet.from_arrays(x, features.labels.tolist(), attributes=features.attributes)
    [row] = nct.fewshot_by_group(apart, "site", 2, queries=3, **FEW).rows
    assert row.worst is not None
    assert (row.worst.accuracy, row.worst.gap) == (1, 0)
    assert row.worst.interval[0] < 0.9
    assert row.worst.possible == ("east", "north", "south")


def test_other_groups_are_compared_on_the_same_classes() -> None:
    right = np.array([[8, 5, 0], [3, 0, 1], [0, 2, 0]], float)
    asked = np.array([[10, 10, 0], [10, 0, 5], [0, 4, 0]], float)  # nobody else has the third class
    expected = []
    for g in range(3):
        parts = []
        for c in range(3):
            others = [h for h in range(3) if h != g and asked[c, h]]
            if asked[c, g] and others:
                mean = right[c, others].sum() / asked[c, others].sum()
                parts.append((asked[c, g], right[c, g] / asked[c, g] - mean))
        expected.append(sum(n * gap for n, gap in parts) / sum(n for n, _ in parts))
    assert to_others(torch.from_numpy(right), torch.from_numpy(asked)).tolist() == pytest.approx(expected)


def test_a_group_of_easy_classes_is_not_better_on_the_same_classes() -> None:
    """Two sites without any shift; site west has more images of the classes that are far from the others."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 40)
    is_easy = labels >= 5
    x = np.where(is_easy, 4, 0.7)[:, None] * rng.normal(size=(10, 12))[labels] + rng.normal(size=(400, 12))
    in_west = rng.random(400) < np.where(is_easy, 0.8, 0.2)
    features = nct.FeatureSet.from_arrays(x, labels, attributes={"site": np.where(in_west, "west", "east").tolist()})
    [row] = nct.fewshot_by_group(features, "site", 4, 3, queries=10, **FEW | {"episodes": 1500}).rows
    east, west = row.groups
    assert west.accuracy is not None
    assert east.accuracy is not None
    assert west.accuracy - east.accuracy > 0.05
    assert west.difference is not None
    assert abs(west.difference) < 0.03
    assert {east.verdict, west.verdict} == {"not told apart"}


def test_a_group_that_is_never_asked_has_no_accuracy() -> None:
    features = sited(classes=4, each=12)
    lonely = ["far" if place == 0 else site for place, site in enumerate(features.attributes["site"])]
    found = nct.FeatureSet.from_arrays(features.features, features.labels.tolist(), attributes={"site": lonely})
    [row] = nct.fewshot_by_group(found, "site", 2, queries=1, **FEW | {"episodes": 2}).rows
    far = next(one for one in row.groups if one.name == "far")
    assert (far.images, far.queries, far.accuracy, far.simultaneous) == (1, 0, None, None)
    assert missing(row.undefined["groups"], ["'far'"]) == []


def test_a_group_that_is_right_in_every_episode_has_no_interval_over_episodes() -> None:
    features = sited(classes=4, each=12, shift=0)
    sites = ["far" if place == 0 else site for place, site in enumerate(features.attributes["site"])]
    x = features.features + 50 * (features.labels == 0)[:, None]  # so that the class of the one image is always right
    given = nct.FeatureSet.from_arrays(x, features.labels.tolist(), attributes={"site": sites})
    found = nct.fewshot_by_group(given, "site", 2, queries=1, **FEW)
    [row] = found.rows
    far = next(one for one in row.groups if one.name == "far")
    assert (far.images, far.queries > 0, far.accuracy, far.ci95) == (1, True, 1, None)
    assert all(one.ci95 is not None and one.ci95 > 0 for one in row.groups if one is not far)
    [sheet] = group_sheets(found)
    cells = {line[0]: line[3] for line in sheet.rows}
    assert cells.pop("far") == "100.00"
    assert all("±" in cell for cell in cells.values())
    assert "in each episode" in sheet.reading


def test_many_classifiers_have_a_line_each() -> None:
    """A line for each group and classifier, and then one for the worst group of each classifier."""
    several = FEW | {"classifiers": ("ncc", "cosine", "ridge")}
    found = nct.fewshot_by_group(sited(), "site", 3, 2, queries=4, **several)
    groups, worst = group_sheets(found)
    by_name = {row.classifier: {one.name: one for one in row.groups} for row in found.rows}
    expected = [
        (site, name, f"{100 * one.accuracy:.2f}", f"{100 * one.difference:+.2f}")
        for site in sorted(by_name["ncc"], key=lambda site: by_name["ncc"][site].accuracy)
        for name in ("ncc", "cosine", "ridge")
        for one in [by_name[name][site]]
    ]
    names = [line[0] for line in groups.rows]
    assert names == [cell for site, *_ in expected[::3] for cell in (site, "", "")]
    shown = [(line[3], line[4].split()[0], line[5].rstrip("*")) for line in groups.rows]
    assert shown == [line[1:] for line in expected]
    assert [line[0] for line in worst.rows] == ["ncc", "cosine", "ridge"]
    for row, line in zip(found.rows, worst.rows, strict=True):
        assert row.worst is not None
        low, high = row.worst.interval
        assert line[1].split()[0] == f"{100 * row.accuracy:.2f}"
        assert [line[2], line[3].split()[0]] == [f"{100 * low:.2f} to {100 * high:.2f}", f"{100 * row.worst.gap:.2f}"]
        assert line[4].startswith(row.worst.possible[0])


def test_with_many_classifiers_the_least_accurate_groups_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.report.group_tables.MOST_LINES", 6)
    several = FEW | {"classifiers": ("ncc", "cosine", "ridge")}
    found = nct.fewshot_across_groups(sited(), "site", 3, 2, queries=3, **several)
    _, groups, worst = across_sheets(found)
    assert len(groups.rows) == 6
    assert "The 2 least accurate of 3 groups" in groups.reading
    assert len(worst.rows) == 3


def test_without_a_verdict_there_is_no_table_of_worst_groups() -> None:
    several = FEW | {"classifiers": ("ncc", "cosine", "ridge")}
    found = nct.fewshot_across_groups(sited(), "site", 7, 1, queries=3, **several)  # all 7 classes: no interval
    _, groups = across_sheets(found)
    assert groups.reading.count("No verdict on the worst group") == 1
    by_group = nct.fewshot_by_group(sited(), "site", 3, queries=4, **several)
    unknown = tuple(replace(row, worst=None, undefined={"worst": "it is a test"}) for row in by_group.rows)
    groups, whole = group_sheets(replace(by_group, rows=unknown))
    assert "No verdict" not in groups.reading
    assert (whole.title, whole.heads) == ("All: 3-way 1-shot", ["classifier", "all ± episodes"])
    assert whole.reading == "Accuracy in %. No verdict on the worst group: it is a test."


@pytest.mark.parametrize("classifiers", [("ncc",), ("ncc", "cosine", "ridge")])
def test_long_names_of_groups_are_shortened_unless_they_would_be_the_same(classifiers: tuple[str, ...]) -> None:
    plain = sited()
    towns = {
        "east": "an exceedingly long name of a hospital in a town",
        "north": "an exceedingly long hospital, wing 2, of the north",
        "south": "an exceedingly long hospital, wing 3, of the north",
    }
    given = replace(plain, attributes={"site": [towns[site] for site in plain.attributes["site"]]})
    found = nct.fewshot_by_group(given, "site", 3, 2, queries=4, **FEW | {"classifiers": classifiers})
    groups, *worst = group_sheets(found)
    shown = {"an exceedingly…in a town", towns["north"], towns["south"]}
    assert {line[0] for line in groups.rows if line[0]} == shown
    assert "Long names are shortened" in groups.reading
    for line in (line for sheet in worst for line in sheet.rows):
        assert line[-1].split(" or ")[0] in shown


@pytest.mark.parametrize(("verdict", "possible"), [("worse", 2), ("worse", 1), ("not told apart", 2)])
def test_a_star_beside_a_worst_group_that_is_not_known_is_explained(verdict: Any, possible: int) -> None:
    found = nct.fewshot_by_group(sited(), "site", 3, classifiers="ncc", queries=3, episodes=60, device="cpu")
    [row] = found.rows
    assert row.worst is not None
    groups = (replace(row.groups[0], verdict=verdict), *(replace(one, verdict=None) for one in row.groups[1:]))
    changed = replace(row, groups=groups, worst=replace(row.worst, possible=("east", "north")[:possible]))
    [sheet] = group_sheets(replace(found, rows=(changed,)))
    assert ("A star is about the same classes" in sheet.reading) == (verdict == "worse" and possible == 2)


def test_a_rare_group_leaves_the_intervals_of_others_as_they_are() -> None:
    plain = sited(classes=12, each=20, sites=2)
    sites = ["rare" if place < 26 and place % 3 == 0 else site for place, site in enumerate(plain.attributes["site"])]
    names = [plain.classes[code] for code in plain.labels.tolist()]
    with_rare = nct.FeatureSet.from_arrays(plain.features, names, attributes={"site": sites})
    settings: dict[str, Any] = FEW | {"episodes": 400, "interval": "classes"}
    [before], [after] = (
        nct.fewshot_by_group(one, "site", 5, queries=10, **settings).rows for one in (plain, with_rare)
    )
    rare = next(one for one in after.groups if one.name == "rare")
    assert (rare.classes, rare.ci95, rare.simultaneous, rare.difference_interval) == (2, 1, None, None)
    assert "'rare'" in after.undefined["groups"]
    for one, other in zip(before.groups, [one for one in after.groups if one is not rare], strict=True):
        assert other.ci95 == pytest.approx(one.ci95, rel=0.2)
        for name in ("simultaneous", "difference_interval"):
            width, as_before = (end[1] - end[0] for end in (getattr(other, name), getattr(one, name)))
            assert width == pytest.approx(as_before, rel=0.3)
    assert after.worst is not None
    assert after.worst.gap_interval[1] < 0.3


def test_over_samples_each_tenth_is_left_out() -> None:
    features = sited(classes=4, each=30)
    [row] = nct.fewshot_by_group(features, "site", "all", queries=4, interval="samples", **FEW).rows
    assert row.worst is not None
    assert row.worst.population == "samples"
    assert all(one.ci95 is not None and 0.01 < one.ci95 < 0.5 for one in row.groups)


def test_without_an_interval_over_the_population_there_is_no_verdict() -> None:
    features = sited(classes=4, each=4, sites=2)
    [row] = nct.fewshot_by_group(features, "site", 3, 3, queries=1, interval="classes", **FEW).rows
    assert row.worst is None
    assert {"worst", "ci95"} <= row.undefined.keys()
    assert row.interval == "episodes"


# Several at once


def independent(count: int, degrees: float) -> Spread:
    return Spread(vectors=0.01 * torch.eye(count, dtype=torch.float64), degrees=degrees)


@pytest.mark.parametrize("count", [1, 2, 5, 150])
def test_a_band_holds_together(count: int) -> None:
    exact = norm.ppf((1 + 0.95 ** (1 / count)) / 2)
    assert band_factor(independent(count, math.inf)) == pytest.approx(exact, rel=0.02)
    assert band_factor(independent(1, 7)) == pytest.approx(t.ppf(0.975, 7))


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_range_is_tukey_s(count: int) -> None:
    exact = studentized_range.ppf(0.95, count, 1e6) / math.sqrt(2)
    assert range_factor(independent(count, math.inf)) == pytest.approx(exact, rel=0.02)
    assert range_factor(independent(2, 7)) == pytest.approx(t.ppf(0.975, 7))


def test_the_worst_of_equal_groups_is_not_picked() -> None:
    found = worst_group(["a", "b", "c"], [0.7, 0.71, 0.69], independent(3, 12), "samples")
    assert (found.name, found.best) == ("c", "b")
    assert found.possible == ("c", "a", "b")
    assert found.gap_interval[0] == 0
    reach = band_factor(independent(3, 12)) * 0.01
    assert found.interval == pytest.approx((0.69 - reach, 0.69 + reach))


def test_the_worst_of_one_group_is_an_error() -> None:
    with raises(EpisodeError):
        worst_group(["a"], [0.5], independent(1, 12), "samples")


# Across groups


def plan_of(features: nct.FeatureSet, spec: EpisodeSpec) -> AcrossPlan:
    return AcrossPlan.of(features, Groups.of(features, "site"), spec)


@pytest.mark.parametrize("queries", [3, None])
def test_queries_are_of_one_group_and_supports_follow_their_rule(queries: int | None) -> None:
    features, spec = sited(), EpisodeSpec(3, 2, queries)
    groups = Groups.of(features, "site")
    [draws] = draw_across(features, plan_of(features, spec), spec, 64, 64)
    for rule, allows in {
        "across": lambda own: not own,
        "mixed": lambda _: True,
        "same": lambda own: own,
    }.items():
        batch = draws.episodes(draws.of_rule(rule), 2)
        for e in range(64):
            assert len(set(batch.classes[e].tolist())) == 3
            for way, code in enumerate(batch.classes[e].tolist()):
                asked = batch.queries[e, way][draws.is_query[e, way]].tolist()
                support = batch.support[e, way].tolist()
                assert len({*asked, *support}) == len(asked) + 2
                assert {int(features.labels[row]) for row in [*asked, *support]} == {code}
                assert {int(groups.codes[row]) for row in asked} == {int(draws.group[e])}
                assert len(asked) == (3 if queries else 6)  # 8 images of each class and site, 2 kept for the support
                assert all(allows(int(groups.codes[row]) == int(draws.group[e])) for row in support)


def test_every_group_class_and_image_has_its_chance() -> None:
    features, spec = sited(classes=4, each=12), EpisodeSpec(2, 1, 1)
    groups = Groups.of(features, "site")
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for draws in draw_across(features, plan_of(features, spec), spec, 6400):
        counts["group"].update(draws.group.tolist())
        counts["class"].update(draws.classes.flatten().tolist())
        counts["query"].update(draws.queries.flatten().tolist())
        mixed = draws.episodes(draws.of_rule("mixed"), 1).support
        own = groups.codes[mixed] == draws.group[:, None, None]
        counts["own"].update(own.flatten().tolist())
    for name, size in {"group": 3, "class": 4, "query": 48}.items():
        expected = sum(counts[name].values()) / size
        assert max(abs(counts[name][one] - expected) for one in range(size)) < 5 * math.sqrt(expected)
    assert counts["own"][True] / 12800 == pytest.approx(3 / 11, abs=0.02)  # of the 11 others, 3 are of the site


def test_an_episode_depends_on_the_seed_and_its_number_only() -> None:
    features, spec = sited(), EpisodeSpec(3, 2, 3, seed=5)
    plan = plan_of(features, spec)
    parts = list(draw_across(features, plan, spec, 100, 40, ends=(64,)))
    [whole] = draw_across(features, plan, spec, 500, 1024)
    assert [len(part) for part in parts] == [32, 32, 32, 4]
    for name in ("group", "classes", "queries", "others"):
        together = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(together, getattr(whole, name)[:100])


def test_accuracies_across_groups_are_those_of_a_plain_loop() -> None:
    features, spec = sited(empty=7), EpisodeSpec(3, 2, 3)
    [row] = nct.fewshot_across_groups(features, "site", 3, 2, queries=3, **FEW).rows
    groups = Groups.of(features, "site")
    kept = features.only_rows((groups.codes < 3).nonzero()[:, 0])
    [draws] = draw_across(kept, plan_of(kept, spec), spec, 60)
    accuracies = {}
    for rule in ("across", "mixed", "same"):
        of_episode = defaultdict(list)
        for episode, _, right in answers(kept, draws.episodes(draws.of_rule(rule), 2)):
            of_episode[episode].append(right)
        accuracies[rule] = np.mean([np.mean(values) for values in of_episode.values()])
    assert row.accuracy == pytest.approx(accuracies["across"])
    assert row.references == pytest.approx({name: accuracies[name] for name in ("mixed", "same")})
    for name in ("mixed", "same"):
        assert row.shifts[name].value == pytest.approx(accuracies["across"] - accuracies[name])


def test_sites_that_differ_are_told_from_the_same_site() -> None:
    features = sited(classes=8, each=60, sites=4, shift=3.0)
    [row] = nct.fewshot_across_groups(features, "site", 5, 3, queries=5, **FEW | {"episodes": 600}).rows
    shift = row.shifts["same"]
    assert (shift.verdict, shift.population) == ("worse", "groups")
    assert shift.value < -0.1
    assert row.over_groups is not None
    assert row.over_groups[0] < row.accuracy < row.over_groups[1]


def test_sites_that_do_not_differ_are_not_told_apart() -> None:
    features = sited(classes=8, each=60, sites=4, shift=0.0)
    [row] = nct.fewshot_across_groups(features, "site", 5, 3, queries=5, **FEW | {"episodes": 600}).rows
    assert {shift.verdict for shift in row.shifts.values()} == {"not told apart"}


def test_the_jackknife_leaves_out_each_group_in_both_of_its_roles() -> None:
    features, spec = sited(each=32, sites=4), EpisodeSpec(3, 2, 3)
    [row] = nct.fewshot_across_groups(features, "site", 3, 2, queries=3, **FEW | {"episodes": 24}).rows
    [draws] = draw_across(features, plan_of(features, spec), spec, 24)

    def by_episode(allowed: torch.Tensor) -> np.ndarray:
        of_episode = defaultdict(list)
        for episode, _, right in answers(features, draws.episodes(allowed, 2)):
            of_episode[episode].append(right)
        return np.array([np.mean(of_episode[episode]) for episode in range(24)])

    across = draws.of_rule("across")
    before, group = by_episode(across), draws.group.numpy()
    means = []
    for out in range(4):
        stays = group != out
        changed = by_episode(across & (draws.others_group != out))
        of_groups = np.mean([before[group == other].mean() for other in range(4) if other != out])
        means.append(of_groups + (changed - before)[stays].mean())
    error = math.sqrt(3 / 4 * ((np.array(means) - np.mean(means)) ** 2).sum())
    reach = t.ppf(0.975, 3) * error
    assert row.over_groups == pytest.approx((max(0, row.accuracy - reach), min(1, row.accuracy + reach)))


def test_many_groups_are_left_out_in_blocks() -> None:
    names = [f"{place % 45:02d}" for place in range(45 * 8)]
    labels = np.repeat(np.arange(4), 90)
    features = nct.FeatureSet.from_arrays(
        np.random.default_rng(0).normal(size=(360, 4)), labels, attributes={"site": names}
    )
    spec = EpisodeSpec(2, 1, 1)
    blocks = GroupJackknife(plan=plan_of(features, spec), spec=spec, rules=("across",)).blocks
    assert blocks.shape == (20, 45)
    assert blocks.sum(dim=0).tolist() == [1] * 45
    assert set(blocks.sum(dim=1).tolist()) == {2, 3}


def test_two_groups_have_no_interval_over_groups() -> None:
    [row] = nct.fewshot_across_groups(sited(each=16, sites=2), "site", 3, queries=3, **FEW).rows
    assert row.over_groups is None
    assert missing(row.undefined["over_groups"], [3, 2]) == []
    assert {shift.population for shift in row.shifts.values()} == {"classes"}


def sparse(few: int) -> nct.FeatureSet:
    """4 classes with 8 images at each of 3 sites and few at a fourth, and classes with 2 images at each of 3 sites."""
    sites = [*SITES[:3]] * 8 + ["west"] * 2, [*SITES[:3]] * 2
    labels = [f"c{code}" for code in range(4 + few) for _ in sites[code >= 4]]
    site = [name for code in range(4 + few) for name in sites[code >= 4]]
    drawn = [np.random.default_rng([code, 3]).normal(size=(27, 8)) for code in range(4 + few)]
    x = np.concatenate([own[0] + own[1 : 1 + len(sites[code >= 4])] for code, own in enumerate(drawn)])
    return nct.FeatureSet.from_arrays(x, labels, attributes={"site": site})


def test_classes_that_are_never_asked_tell_nothing_of_other_classes(caplog: pytest.LogCaptureFixture) -> None:
    features, spec = sparse(26), EpisodeSpec(2, 3, 4)
    found = nct.fewshot_across_groups(features, "site", 2, 3, queries=4, interval="classes", **FEW)
    assert found.asked_classes == {2: 4}
    said = "26 of 30 classes", "1 of 4 groups"
    assert [[words in one for words in said] for one in found.warnings] == [[True, False], [False, True]]
    assert all(one in caplog.text for one in found.warnings)
    [row], [draws] = found.rows, draw_across(features, plan_of(features, spec), spec, 60)
    assert [(one.name, one.classes, one.images) for one in row.groups[:2]] == [("east", 4, 32), ("north", 4, 32)]
    of_episode = defaultdict(list)
    for episode, _, right in answers(features, draws.episodes(draws.of_rule("across"), 3)):
        of_episode[episode].append(right)
    accuracies = np.array([np.mean(of_episode[episode]) for episode in range(60)])
    asked = draws.classes.unique().tolist()
    without = np.array([accuracies[~(draws.classes == code).any(dim=1).numpy()].mean() for code in asked])
    error = math.sqrt(3 / 4 * ((without - without.mean()) ** 2).sum())
    assert row.ci95 == pytest.approx(t.ppf(0.975, 3) * error)


def test_the_classes_that_are_asked_are_enough_for_an_interval() -> None:
    [row] = nct.fewshot_across_groups(sparse(9), "site", 3, 3, queries=4, interval="classes", **FEW).rows
    assert row.interval == "episodes"
    assert "4 classes are asked" in row.undefined["ci95"]


def test_single_images_of_a_class_and_group_have_no_reference() -> None:
    """As in Omniglot: each drawer draws each character once."""
    features = sited(classes=5, each=4, sites=4)
    [row] = nct.fewshot_across_groups(features, "site", 3, queries=5, **FEW).rows
    assert dict(row.references) == {}
    assert "references" in row.undefined
    assert sum(one.queries for one in row.groups) == 60 * 3


def lonely() -> nct.FeatureSet:
    """Class c6 is of one site only, c5 of two."""
    features = sited()
    names = [features.classes[code] for code in features.labels.tolist()]
    sites = ["east" if name == "c6" else site for name, site in zip(names, features.attributes["site"], strict=True)]
    return nct.FeatureSet.from_arrays(features.features, names, attributes={"site": sites})


def test_a_class_of_one_group_is_an_error_or_left_out(caplog: pytest.LogCaptureFixture) -> None:
    features = lonely()
    assert unfit_classes(Groups.of(features, "site").cells(features), 1).tolist() == [False] * 6 + [True]
    with raises(EpisodeError, "'c6'", "'site'", 24, hint="--drop-small"):
        nct.fewshot_across_groups(features, "site", 3, queries=3, **FEW)
    found = nct.fewshot_across_groups(features, "site", 3, queries=3, drop_small=True, **FEW)
    assert found.dropped == ("c6",)
    assert found.features.classes == 6


def test_fewer_shots_are_advised_only_where_they_help() -> None:
    with pytest.raises(EpisodeError) as lone:
        nct.fewshot_across_groups(lonely(), "site", 3, 1, queries=3, **FEW)
    assert "--shots" not in lone.value.hint
    assert "--drop-small" in lone.value.hint
    features = sited(classes=4, each=12)
    with raises(EpisodeError, "'c0'", "3 groups", hint="--shots"):
        nct.fewshot_across_groups(features, "site", 3, 11, queries=3, **FEW)


def test_groups_inside_classes_cannot_be_new() -> None:
    """As of patients who each have one diagnosis: fewer shots or fewer classes would not help."""
    features = sited()
    names = [features.classes[code] for code in features.labels.tolist()]
    sites = [f"{name} {site}"[:2] for name, site in zip(names, features.attributes["site"], strict=True)]
    nested = nct.FeatureSet.from_arrays(features.features, names, attributes={"site": sites})
    for drop_small in (False, True):
        with pytest.raises(EpisodeError) as error:
            nct.fewshot_across_groups(nested, "site", 3, 1, queries=3, drop_small=drop_small, **FEW)
        assert missing(error.value.message, ["'site'", "'c0'"]) == []
        assert missing(error.value.hint, ["--label-column", "--group"]) == []
        assert "--shots" not in error.value.hint


def test_too_many_ways_for_the_groups_are_an_error() -> None:
    features = sited(classes=4, each=12)
    names = [features.classes[code] for code in features.labels.tolist()]
    gone = {"c0": "north", "c1": "north", "c2": "south", "c3": "south"}
    given = nct.FeatureSet.from_arrays(
        features.features,
        names,
        attributes={
            "site": [
                "east" if gone[name] == site else site
                for name, site in zip(names, features.attributes["site"], strict=True)
            ]
        },
    )
    with raises(EpisodeError, "'site'", 4, hint="--ways"):
        nct.fewshot_across_groups(given, "site", 4, queries=1, **FEW)


# What is refused


def test_a_column_that_is_not_there_is_named() -> None:
    with raises(FeaturesError, "'sight'", hint="'site'"):
        nct.fewshot_by_group(sited(), "sight", 3)
    with raises(FeaturesError, "'site'", hint="load_features"):
        nct.fewshot_by_group(nct.FeatureSet.from_arrays(np.eye(4), "aabb"), "site", 2, queries=1)


@pytest.mark.parametrize(("sites", "count"), [(["east"] * 168, 1), ([""] * 168, 0)])
def test_fewer_than_two_groups_are_an_error(sites: list[str], count: int) -> None:
    features = sited()
    given = nct.FeatureSet.from_arrays(features.features, features.labels.tolist(), attributes={"site": sites})
    with raises(EpisodeError, "'site'", count):
        nct.fewshot_by_group(given, "site", 3, queries=3)


def test_intervals_that_are_not_there_are_refused() -> None:
    with raises(SettingError, hint="--interval"):
        nct.fewshot_by_group(sited(), "site", 3, queries=3, interval="disjoint")
    with raises(SettingError, "samples", hint="--interval"):
        nct.fewshot_across_groups(sited(), "site", 3, queries=3, interval="samples")  # type: ignore[arg-type]


def test_results_are_tables() -> None:
    by_group = nct.fewshot_by_group(sited(), "site", 3, (1, 2), queries=3, **FEW)
    frame = by_group.to_frame()
    assert len(frame) == 2 * 3
    assert frame["group"].tolist() == ["east", "north", "south"] * 2
    assert frame["accuracy"].tolist() == [one.accuracy for row in by_group.rows for one in row.groups]
    across = nct.fewshot_across_groups(sited(), "site", 3, (1, 2), queries=3, **FEW)
    rows = across.to_frame()
    frame, by_site = rows[rows["group"].isna()], rows[rows["group"].notna()]
    assert by_site["group"].tolist() == ["east", "north", "south"] * 2
    assert by_site["shots"].tolist() == [1] * 3 + [2] * 3
    assert by_site["accuracy"].tolist() == [one.accuracy for row in across.rows for one in row.groups]
    assert by_site["group_queries"].sum() == sum(one.queries for row in across.rows for one in row.groups)
    assert frame["accuracy"].tolist() == [row.accuracy for row in across.rows]
    assert frame["shift_same_low"].tolist() == [row.shifts["same"].interval[0] for row in across.rows]  # type: ignore[index]
    assert across.to_dict()["results"][0]["shifts"]["same"]["population"] == "groups"
