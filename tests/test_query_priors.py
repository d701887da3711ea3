"""Query priors: how many queries of each class an episode has, and what that changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from clusters import normal_classes, set_of
from messages import raises
from nctransfer.episodes.episode import Episodes, EpisodeSpec
from nctransfer.episodes.leaving_out import with_shots, without
from nctransfer.episodes.query_prior import QueryPrior
from nctransfer.episodes.sampling import sample
from nctransfer.errors import SettingError
from nctransfer.evaluation.fewshot_accuracy import fewshot
from nctransfer.evaluation.fewshot_comparison import compare_fewshot
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.features.feature_set import FeatureSet
from nctransfer.report.fewshot_sheets import fewshot_sheets

UNEVEN = ["dirichlet:2", "dirichlet:0.3", "empirical"]


def of_sizes(*counts: int, apart: float = 1.0) -> FeatureSet:
    return set_of(normal_classes(counts, 8, apart=apart))


def one_batch(features: FeatureSet, spec: EpisodeSpec, episodes: int, query_set: FeatureSet | None = None) -> Episodes:
    [batch] = sample(features, spec, episodes, query_set)
    return batch


def rows_asked(part: Episodes, number: int, way: int) -> list[int]:
    mask = part.is_query[number, way] if part.is_query is not None else slice(None)
    return part.queries[number, way][mask].tolist()


# the draw


@pytest.mark.parametrize("name", ["dirichlet:2", "dirichlet:0.5", "empirical"])
def test_numbers_are_drawn_as_numpy_draws_them(name: str) -> None:
    features = of_sizes(200, 300, 400, 250)
    spec = EpisodeSpec(3, 2, 10, seed=7, query_prior=name)
    for block, batch in enumerate(sample(features, spec, 1500)):
        generator = np.random.default_rng(np.random.SeedSequence(7, spawn_key=(block, 6)))
        wanted, classes = batch.wanted.numpy(), batch.classes.numpy()
        if name == "empirical":
            sizes = np.array([200, 300, 400, 250])[classes]
            sizes = np.concatenate([sizes, np.ones((1024 - len(sizes), 3), int)])
            shares = sizes / sizes.sum(axis=1, keepdims=True)
        else:
            shares = generator.dirichlet([float(name.partition(":")[2])] * 3, 1024)
        expected = [generator.multinomial(30, row) for row in shares]
        np.testing.assert_array_equal(wanted, expected[: len(wanted)])


@pytest.mark.parametrize(("ways", "concentration"), [(5, 2.0), (2, 0.5), (4, 20.0)])
def test_dirichlet_numbers_have_the_moments_of_their_law(ways: int, concentration: float) -> None:
    total, draws = 15 * ways, 20_000
    prior = QueryPrior("dirichlet", concentration)
    found = prior.draw(np.random.default_rng(3), np.full((draws, ways), 1000), 15)
    p, whole = 1 / ways, ways * concentration
    variance = total * p * (1 - p) * (total + whole) / (1 + whole)
    assert (found.sum(axis=1) == total).all()
    assert np.abs(found.mean(axis=0) - 15).max() < 4 * math.sqrt(variance / draws)
    assert found.var(axis=0) == pytest.approx(variance, rel=0.06)
    covariance = np.cov(found.T)[0, 1]
    assert covariance == pytest.approx(-variance / (ways - 1), rel=0.12)


def test_empirical_numbers_go_with_the_sizes_of_the_set_that_queries_come_from() -> None:
    features, others = of_sizes(30, 30, 30), of_sizes(600, 300, 100)
    batch = one_batch(features, EpisodeSpec(3, 2, 15, query_prior="empirical"), 1000, others)
    by_class = np.zeros(3)
    np.add.at(by_class, batch.classes.numpy(), batch.wanted.numpy())
    assert by_class / by_class.sum() == pytest.approx([0.6, 0.3, 0.1], abs=0.01)


@pytest.mark.parametrize("name", UNEVEN)
@pytest.mark.parametrize("has_query_set", [False, True])
def test_all_priors_meet_the_same_episodes(name: str, has_query_set: bool) -> None:
    features, others = of_sizes(20, 30, 40, 50), of_sizes(10, 20, 30, 60) if has_query_set else None
    [even] = sample(features, EpisodeSpec(3, 2, 6, seed=5), 200, others)
    drawn = one_batch(features, EpisodeSpec(3, 2, 6, 5, name), 200, others)
    part = drawn.cut(2)
    assert torch.equal(part.classes, even.classes)
    assert torch.equal(part.support, even.support)
    offset = len(features) if others is not None else 0
    labels = torch.cat([features.labels, others.labels]) if others is not None else features.labels
    sizes = (others or features).counts
    for e, way in np.ndindex(200, 3):
        own, usual = rows_asked(part, e, way), even.queries[e, way].tolist()
        assert own[:6] == usual[: len(own)]  # the same order, of which there are more or fewer
        assert not set(own) & set(part.support[e, way].tolist())
        assert len(set(own)) == len(own) <= int(sizes[part.classes[e, way]]) - (0 if others is not None else 2)
        assert all(int(labels[row]) == int(part.classes[e, way]) and row >= offset for row in own)


def by_hand(wanted: list[int], available: list[int]) -> list[int]:
    factor = min([1.0, *(have / want for want, have in zip(wanted, available, strict=True) if want)])
    return [math.floor(want * factor + 0.5) for want in wanted]


@pytest.mark.parametrize("name", UNEVEN)
@pytest.mark.parametrize("shots", [1, 3])
def test_where_a_class_is_too_small_the_proportions_stay(name: str, shots: int) -> None:
    features = of_sizes(12, 14, 100, 40)
    part = one_batch(features, EpisodeSpec(3, 3, 8, query_prior=name), 400)
    cut = part.cut(shots)
    expected = [
        by_hand(wanted, [int(features.counts[code]) - shots for code in classes])
        for wanted, classes in zip(part.wanted.tolist(), part.classes.tolist(), strict=True)
    ]
    assert cut.is_query.sum(dim=2).tolist() == expected
    assert any(sum(numbers) < 24 for numbers in expected) == (name != "empirical")
    assert any(sum(numbers) == 24 for numbers in expected)


@pytest.mark.parametrize("name", UNEVEN)
def test_several_numbers_of_shots_are_those_one_by_one(name: str) -> None:
    features = of_sizes(14, 16, 60, 40, apart=0.3)
    settings = {"queries": 8, "episodes": 300, "precision": 0, "query_prior": name, "theory": False}
    both = fewshot(features, 3, (1, 4), classifiers=("ridge", "ncc"), **settings)
    for shots in (1, 4):
        alone = fewshot(features, 3, shots, classifiers=("ridge", "ncc"), **settings)
        for classifier in ("ridge", "ncc"):
            key = (3, shots, classifier)
            assert torch.equal(both.accuracies[key], alone.accuracies[key])
            assert torch.equal(both.counts[key].taken, alone.counts[key].taken)


def test_an_episode_does_not_depend_on_batches_or_their_number() -> None:
    features = of_sizes(20, 30, 40, 50)
    spec = EpisodeSpec(3, 2, 6, query_prior="dirichlet:1")
    [few] = sample(features, spec, 9)
    many = [part.cut(2) for part in sample(features, spec, 40, most=7)]
    whole = few.cut(2)
    rows = [[rows_asked(part, e, way) for way in range(3)] for part in many for e in range(len(part))]
    assert rows[:9] == [[rows_asked(whole, e, way) for way in range(3)] for e in range(9)]


@pytest.mark.parametrize("name", ["dirichlet:2", "empirical"])
@pytest.mark.parametrize("has_query_set", [False, True])
def test_without_some_images_the_draw_is_the_same_as_far_as_images_suffice(name: str, has_query_set: bool) -> None:
    features, others = of_sizes(20, 30, 90, 50), of_sizes(12, 20, 30, 60) if has_query_set else None
    [batch] = sample(features, EpisodeSpec(3, 4, 6, query_prior=name), 150, others, with_spare=True)
    total = len(features) + (len(others) if others is not None else 0)
    is_out = torch.from_numpy(np.random.default_rng(1).random(total) < 0.2)
    part = without(with_shots(batch, 2), is_out)
    left = [int((~is_out[rows]).sum()) for rows in torch.arange(len(features)).split(features.counts.tolist())]
    if others is not None:
        of_others = is_out[len(features) :].split(others.counts.tolist())
        left = [int((~rows).sum()) for rows in of_others]
    taken = 2 if others is None else 0
    for e in range(150):
        available = [left[code] - taken for code in part.classes[e].tolist()]
        numbers = part.is_query[e].sum(dim=1).tolist()
        assert numbers == by_hand(batch.wanted[e].tolist(), available)
        for way in range(3):
            own = rows_asked(part, e, way)
            assert not bool(is_out[own].any())
            assert len({*own, *part.support[e, way].tolist()}) == len(own) + 2


# what is measured


def ncc_by_hand(features: FeatureSet, part: Episodes) -> tuple[list[float], np.ndarray, np.ndarray]:
    """The accuracy of each episode, and right answers and queries by class, in float64 loops."""
    x = features.features.double().numpy()
    right, asked, shares = np.zeros(len(features.classes)), np.zeros(len(features.classes)), []
    for e in range(len(part)):
        centres = np.stack([x[rows].mean(axis=0) for rows in part.support[e].numpy()])
        hits = 0
        for way, code in enumerate(part.classes[e].tolist()):
            rows = rows_asked(part, e, way)
            distances = ((x[rows][:, None] - centres) ** 2).sum(axis=2)
            found = int((distances.argmin(axis=1) == way).sum()) if rows else 0
            hits, right[code], asked[code] = hits + found, right[code] + found, asked[code] + len(rows)
        shares.append(hits / int(part.is_query[e].sum()))
    return shares, right, asked


@pytest.mark.parametrize("name", UNEVEN)
@pytest.mark.parametrize("shots", [1, 3])
def test_accuracies_and_counts_are_those_of_a_loop(name: str, shots: int) -> None:
    features = of_sizes(14, 16, 60, 40, apart=0.3)
    found = fewshot(
        features, 3, (1, 3), queries=8, episodes=100, precision=0, classifiers="ncc", query_prior=name, theory=False
    )
    part = one_batch(features, EpisodeSpec(3, 3, 8, query_prior=name), 100).cut(shots)
    shares, right, asked = ncc_by_hand(features, part)
    key = (3, shots, "ncc")
    assert found.accuracies[key].tolist() == pytest.approx(shares, abs=1e-12)
    assert found.counts[key].right.tolist() == right.tolist()
    assert found.counts[key].asked.tolist() == asked.tolist()
    taken = found.counts[key].taken
    assert (taken.sum(dim=1) + found.counts[key].right == found.counts[key].asked).all()
    row = next(row for row in found.rows if row.key == key)
    short = float((part.is_query.sum(dim=(1, 2)) < 24).double().mean())
    assert row.shortened == pytest.approx(short)
    assert 0 < short < 1 or name == "empirical"


def test_an_inductive_classifier_has_the_same_recall_and_mean_accuracy_under_every_prior() -> None:
    features = of_sizes(*[120] * 6, apart=0.25)
    recalls, means = {}, {}
    for name in ("balanced", "dirichlet:2"):
        found = fewshot(features, 4, 2, queries=10, episodes=6000, precision=0, classifiers="ncc", query_prior=name)
        counts = found.counts[4, 2, "ncc"]
        recalls[name], means[name] = (counts.right / counts.asked).numpy(), found.rows[0]
    error = np.sqrt(2 * 0.25 / 4000)  # 4,000 episodes have the class; the recall of one varies by less than a half
    assert np.abs(recalls["balanced"] - recalls["dirichlet:2"]).max() < 4 * error
    even, uneven = means["balanced"], means["dirichlet:2"]
    assert abs(even.accuracy - uneven.accuracy) < 1.5 * (even.ci95 + uneven.ci95)
    assert uneven.std > 1.05 * even.std
    assert uneven.expected_accuracy == even.expected_accuracy  # classes of one size, whatever the prior
    assert uneven.accuracy == pytest.approx(uneven.expected_accuracy, abs=2 * uneven.ci95 + 0.002)


def test_theory_says_why_it_has_no_value_where_classes_weigh_unlike() -> None:
    features = of_sizes(30, 40, 60)
    [row] = fewshot(features, 2, 1, queries=5, episodes=50, classifiers="ncc", query_prior="empirical").rows
    assert row.expected_accuracy is None
    assert row.undefined["expected_accuracy"].startswith("queries are drawn by empirical")
    assert all(bound["value"] is None for bound in row.bounds.values())
    [row] = fewshot(features, 2, 1, queries=5, episodes=50, classifiers="ncc", query_prior="dirichlet:2").rows
    assert row.expected_accuracy is not None  # no class can have too few images
    [row] = fewshot(features, 2, 1, queries=20, episodes=50, classifiers="ncc", query_prior="dirichlet:2").rows
    assert row.expected_accuracy is None


@pytest.mark.parametrize("interval", ["samples", "classes"])
def test_intervals_over_images_and_classes_can_be_had(interval: str) -> None:
    features = of_sizes(*[30] * 8, apart=0.4)
    [row] = fewshot(
        features, 3, 2, queries=6, episodes=500, classifiers="ncc", query_prior="dirichlet:2", interval=interval
    ).rows
    [even] = fewshot(features, 3, 2, queries=6, episodes=500, classifiers="ncc", interval=interval).rows
    assert 0.5 * even.ci95 < row.ci95 < 3 * even.ci95


def test_a_comparison_is_paired() -> None:
    features = of_sizes(*[40] * 8, apart=0.4)
    worse = FeatureSet.from_arrays(
        features.features + 0.5 * torch.randn(features.features.shape, generator=torch.Generator().manual_seed(0)),
        [features.classes[code] for code in features.labels.tolist()],
        ids=list(features.ids),
    )
    found = compare_fewshot(
        {"a": features, "b": worse, "c": features}, 3, 2, queries=6, episodes=800, query_prior="dirichlet:2"
    )
    for one in found.differences:
        assert one.query_prior == "dirichlet:2"
        assert (one.difference == 0) == (one.name == "c")


def test_the_table_says_how_queries_were_drawn_and_how_often_there_were_fewer() -> None:
    features = of_sizes(14, 16, 40, 40)
    settings = {"ways": 3, "queries": 8, "episodes": 60, "classifiers": "ncc", "theory": False}
    found = fewshot(features, query_prior="dirichlet:2", **settings)
    [sheet] = fewshot_sheets(found)
    assert sheet.facts["query prior"].startswith("dirichlet:2")
    assert f"{found.rows[0].shortened:.0%} of the episodes" in sheet.reading
    [usual] = fewshot_sheets(fewshot(features, **settings))
    assert "query prior" not in usual.facts
    assert "of the episodes" not in usual.reading


# what is refused


@pytest.mark.parametrize(
    "text", ["", "dirichlet", "dirichlet:", "dirichlet:0", "dirichlet:-1", "dirichlet:nan", "dirichlet:inf", "uniform"]
)
def test_other_names_are_refused(text: str) -> None:
    with raises(SettingError, "query prior", repr(text), hint=["--query-prior", "dirichlet:2"]):
        FewShotTask(query_prior=text)


def test_names_have_one_form() -> None:
    assert FewShotTask(query_prior="dirichlet:2.00").query_prior == "dirichlet:2"
    assert str(QueryPrior.parse("dirichlet:0.25")) == "dirichlet:0.25"


def test_uneven_queries_do_not_go_with_all_samples_or_disjoint_episodes() -> None:
    with raises(SettingError, "every sample", hint=["--queries"]):
        FewShotTask(queries="all", query_prior="dirichlet:2")
    with raises(SettingError, "share no sample", hint=["--interval"]):
        FewShotTask(interval="disjoint", query_prior="empirical")
