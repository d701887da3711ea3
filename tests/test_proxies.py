"""Several proxies per class, against a plain loop over scikit-learn's k-means."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clusters import normal_classes, set_of
from nctransfer.episodes import proxies as of_proxies
from nctransfer.episodes.inner_products import Products
from nctransfer.episodes.kernel_means import first_points, half_spread, means_of
from nctransfer.episodes.nearest import knn, ncc
from nctransfer.episodes.proxies import PROXIES_PER_CLASS, numbers_tried, proxies
from nctransfer.evaluation.all_ways import AllWaysTask, all_ways_accuracy
from nctransfer.evaluation.fewshot_accuracy import fewshot
from nctransfer.features.feature_set import FeatureSet
from proxies_by_hand import means_by_sklearn, number_of_proxies, proxy_scores, starts_of


def mixtures(episodes: int, ways: int, shots: int, parts: int, apart: float = 2.5, width: int = 8, queries: int = 12):
    """Support, labels, and queries with their labels, of classes of several normal parts."""
    rng = np.random.default_rng([episodes, ways, shots, parts])
    means = apart * rng.normal(size=(episodes, ways, parts, width)) / np.sqrt(width)

    def drawn(each: int) -> np.ndarray:
        chosen = means[:, :, np.arange(each) % parts].reshape(episodes, ways * each, width)
        return chosen + rng.normal(size=chosen.shape) / np.sqrt(width)

    return drawn(shots), np.repeat(np.arange(ways), shots), drawn(queries), np.repeat(np.arange(ways), queries)


def products_of(x: np.ndarray, f: np.ndarray, ways: int) -> Products:
    return Products.of(torch.from_numpy(x), torch.from_numpy(f), ways)


def chosen_by(products: Products) -> list[int]:
    found: list[int] = []
    proxies(products, report=lambda _, values: found.extend(int(one) for one in values))
    return found


# k-means


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_starts_and_means_are_those_of_a_loop_and_of_sklearn(number: int) -> None:
    x, *_ = mixtures(4, 1, 14, 3)
    distances = (torch.from_numpy(x)[:, :, None] - torch.from_numpy(x)[:, None]).square().sum(dim=3)
    starts = first_points(distances, number)
    weights = means_of(distances, torch.ones(1, 14, dtype=torch.bool), starts[:, None])
    spread = half_spread(distances, weights)
    for one, rows, first, of, inertia in zip(x, weights, starts, distances, spread, strict=True):
        assert starts_of(one, number) == first.tolist()
        expected = means_by_sklearn(one, number)
        np.testing.assert_allclose(rows[:, 0].numpy().T @ one, expected, atol=1e-12)
        members = rows[:, 0].numpy().argmax(axis=1)
        for place in range(number):
            own = one[members == place]
            assert float(inertia[0, place]) == pytest.approx(((own - own.mean(axis=0)) ** 2).sum(axis=1).mean())
        assert of.shape == (14, 14)


def test_points_that_are_left_out_move_no_mean() -> None:
    x, *_ = mixtures(3, 1, 12, 3)
    distances = (torch.from_numpy(x)[:, :, None] - torch.from_numpy(x)[:, None]).square().sum(dim=3)
    included = torch.arange(12) % 4 != torch.arange(2)[:, None]
    places = [one.nonzero()[:, 0] for one in included]
    starts = torch.stack([rows[first_points(distances[:, rows][:, :, rows], 3)] for rows in places], dim=1)
    weights = means_of(distances, included, starts)
    for number, rows in enumerate(places):
        assert not weights[:, ~included[number], number].any()
        for one, found in zip(x, weights[:, :, number], strict=True):
            np.testing.assert_allclose(found.numpy().T @ one, means_by_sklearn(one[rows.numpy()], 3), atol=1e-12)


def test_more_means_than_different_points_are_dropped() -> None:
    x = torch.tensor([0.0, 0.0, 5.0, 5.0], dtype=torch.float64)
    distances = (x[:, None] - x)[None].square()
    weights = means_of(distances, torch.ones(1, 4, dtype=torch.bool), first_points(distances, 3)[:, None])
    assert sorted(weights.sum(dim=1).flatten().tolist()) == [0, 1, 1]
    assert sorted((x @ weights[0, :, 0]).tolist()) == [0, 0, 5]


# The classifier


@pytest.mark.parametrize("number", [1, 2, 4, 6])
def test_scores_are_those_of_the_nearest_mean(number: int) -> None:
    x, y, f, _ = mixtures(3, 4, 6, 2)
    found = proxies(products_of(x, f, 4), number).numpy()
    for scores, one, queries in zip(found, x, f, strict=True):
        expected = proxy_scores(one, y, queries, number) + (queries**2).sum(axis=1)[:, None] / 2
        np.testing.assert_allclose(scores, expected, atol=1e-10)


@pytest.mark.parametrize(("shots", "parts", "apart"), [(3, 1, 1), (5, 2, 4), (8, 3, 4), (13, 2, 3), (12, 1, 2)])
def test_the_number_is_that_of_leaving_samples_out(shots: int, parts: int, apart: float) -> None:
    x, y, f, _ = mixtures(4, 3, shots, parts, apart)
    expected = [number_of_proxies(one, y, numbers_tried(shots)) for one in x]
    products = products_of(x, f, 3)
    assert chosen_by(products) == expected
    scores = proxies(products)
    for place, number in enumerate(expected):
        torch.testing.assert_close(scores[place], proxies(products, number)[place])


def test_different_numbers_are_chosen() -> None:
    """Otherwise the test above would show little."""
    chosen = [one for parts in (1, 2, 3) for one in chosen_by(products_of(*mixtures(20, 3, 12, parts, 4)[::2], 3))]
    assert len(set(chosen)) >= 3


@pytest.mark.parametrize(("shots", "number"), [(1, None), (2, None), (5, 1), (1, 1)])
def test_one_proxy_is_the_class_centre(shots: int, number: int | None) -> None:
    x, _, f, _ = mixtures(5, 4, shots, 2)
    products = products_of(x, f, 4)
    assert torch.equal(proxies(products, number), ncc(products))


def test_as_many_proxies_as_shots_are_the_nearest_neighbour() -> None:
    x, _, f, _ = mixtures(5, 4, 6, 2)
    products = products_of(x, f, 4)
    torch.testing.assert_close(proxies(products, 6), knn(products))


def test_numbers_that_are_tried_can_be_compared_by_leaving_out() -> None:
    assert [numbers_tried(shots)[-1] for shots in (1, 2, 3, 4, 5, 10, 11, 20, 1000)] == [1, 1, 2, 3, 4, 8, 8, 16, 32]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_episode_does_not_depend_on_the_others(dtype: torch.dtype) -> None:
    x, _, f, _ = mixtures(30, 3, 10, 2)
    products = products_of(x, f, 3)
    products = Products(
        support=products.support.to(dtype), cross=products.cross.to(dtype), ways=3, squares=products.squares
    )
    together = proxies(products)
    for place in range(0, 30, 7):
        alone = Products(
            support=products.support[place : place + 1],
            cross=products.cross[place : place + 1],
            ways=3,
            squares=products.squares[place : place + 1],
        )
        torch.testing.assert_close(proxies(alone)[0], together[place])


def test_the_scale_of_features_and_a_constant_do_not_matter() -> None:
    x, _, f, _ = mixtures(20, 3, 10, 2, 4)
    plain = chosen_by(products_of(x, f, 3))
    assert chosen_by(products_of(1e-3 * x, 1e-3 * f, 3)) == plain
    assert chosen_by(products_of(x + 7, f + 7, 3)) == plain


def test_equal_samples_give_an_answer() -> None:
    x, f = np.ones((2, 12, 4)), np.ones((2, 5, 4))
    found = proxies(products_of(x, f, 3))
    assert found.isfinite().all()
    assert chosen_by(products_of(x, f, 3)) == [1, 1]


@pytest.mark.parametrize(("parts", "gains"), [(1, False), (2, True)])
def test_classes_of_two_parts_need_more_than_one_mean(parts: int, gains: bool) -> None:
    x, _, f, truth = mixtures(150, 5, 20, parts, 3.5)
    products = products_of(x, f, 5)
    several, one = ((scores.argmax(dim=2).numpy() == truth).mean() for scores in (proxies(products), ncc(products)))
    assert (several - one > 0.05) if gains else (several - one > -0.005)
    assert (np.mean(chosen_by(products)) > 1.5) == gains


# Engines


def two_part_set() -> FeatureSet:
    """Eight classes, each of two of the sixteen clusters."""
    features = set_of(normal_classes([20] * 16, 24, apart=0.6, within=1.0), np.float32)
    return FeatureSet.from_arrays(features.features, [f"class {code // 2}" for code in features.labels.tolist()])


def test_results_hold_the_mean_number_over_episodes() -> None:
    features = two_part_set()
    result = fewshot(features, 3, 12, queries=8, episodes=300, classifiers=("proxies", "ncc"))
    rows = {row.classifier: row.reported[PROXIES_PER_CLASS] for row in result.rows}
    assert rows["ncc"] is None
    assert rows["proxies"] is not None
    assert 1 < rows["proxies"] < 8
    assert not float(rows["proxies"]).is_integer()


@pytest.mark.parametrize("gram", [True, False])
def test_all_classes_at_once_are_classified_as_one_episode_at_a_time(
    monkeypatch: pytest.MonkeyPatch, gram: bool
) -> None:
    features = two_part_set()
    if not gram:
        monkeypatch.setattr("nctransfer.episodes.pool.GRAM_BYTES", 0)
    task = AllWaysTask(shots=10, classifiers=("proxies", "ncc"), draws=64)
    found = all_ways_accuracy(features, task)
    monkeypatch.setattr("nctransfer.evaluation.all_ways.BATCH_BYTES", 1)
    assert (
        all_ways_accuracy(features, task).estimates[10, "proxies"].accuracy == found.estimates[10, "proxies"].accuracy
    )
    assert found.estimates[10, "proxies"].accuracy > found.estimates[10, "ncc"].accuracy


def test_intervals_over_samples() -> None:
    result = fewshot(two_part_set(), 3, 10, queries=5, episodes=200, classifiers="proxies", interval="samples")
    assert 0 < result.rows[0].ci95 < 0.2


def test_larger_numbers_are_not_tried_once_two_are_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _, f, _ = mixtures(40, 3, 20, 1)
    tried: list[int] = []
    margins = of_proxies._LeftOut.margins

    def noted(self: of_proxies._LeftOut, number: int) -> torch.Tensor:
        tried.append(number)
        return margins(self, number)

    monkeypatch.setattr(of_proxies._LeftOut, "margins", noted)
    proxies(products_of(x[:1], f[:1], 3))
    assert tried == [1, 2, 3]
