"""Inner products of episodes: looked up or gathered, and what is made of them, against plain computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clusters import normal_classes, set_of
from nctransfer.episodes import pool as pools
from nctransfer.episodes.episode import Episodes, EpisodeSpec
from nctransfer.episodes.inner_products import Products
from nctransfer.episodes.pool import Pool
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.sampling import sample
from nctransfer.evaluation.fewshot_accuracy import fewshot
from nctransfer.features.feature_set import FeatureSet

FIELDS = ("support", "cross", "squares", "with_point")


def gaussian(scale: float = 1, offset: float = 0, dtype: str = "float32") -> FeatureSet:
    return set_of(normal_classes([20] * 6, 24, apart=scale, within=scale, offset=offset * scale), dtype)


def pool_of(features: FeatureSet, looked_up: bool, monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr("nctransfer.episodes.pool.GRAM_BYTES", 2**30 if looked_up else 0)
    pool = Pool(features.features, "cpu")
    pool.prepare([EpisodeSpec()], 10**6, 20)
    assert pool.has_gram == looked_up
    return pool


def episodes_of(features: FeatureSet, ways: int = 3, shots: int = 4, queries: int = 5, count: int = 7) -> Episodes:
    return next(sample(features, EpisodeSpec(ways, shots, queries), count))


def rows_of(features: FeatureSet, episodes: Episodes) -> tuple[torch.Tensor, torch.Tensor]:
    x = features.features.double()
    return x[episodes.support.flatten(1)], x[episodes.queries.flatten(1)]


def matrices(found: Products, names: tuple[str, ...] = FIELDS) -> list[torch.Tensor]:
    """Everything that it holds, float64."""
    every: list[torch.Tensor] = []
    for name in names:
        value = getattr(found, name)
        every += [value] if isinstance(value, torch.Tensor) else list(value or ())
    return [one.double() for one in every]


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor], within: float = 1e-6) -> None:
    """Within so much of the largest entry."""
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=within * float(b.abs().max()))


def plain(x: torch.Tensor, f: torch.Tensor) -> list[torch.Tensor]:
    """Support, cross and squares, one entry at a time."""
    return [
        torch.stack([torch.stack([torch.stack([a @ b for b in one]) for a in one]) for one in x]),
        torch.stack(
            [torch.stack([torch.stack([a @ b for b in one]) for a in two]) for one, two in zip(x, f, strict=True)]
        ),
        torch.stack([torch.stack([a @ a for a in one]) for one in f]),
    ]


# pools


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1, 1000), (1e-8, 0), (1e4, 0), (1e4, 1000)])
def test_looked_up_and_gathered_are_the_same(monkeypatch: pytest.MonkeyPatch, scale: float, offset: float, dtype: str):
    features = gaussian(scale, offset, dtype)
    episodes = episodes_of(features)
    gram, gathered = (pool_of(features, kind, monkeypatch)(episodes) for kind in (True, False))
    assert gram.support.dtype == gathered.support.dtype == (torch.float64 if scale == 1e4 else torch.float32)
    assert_close(matrices(gram), matrices(gathered))
    for name in ("about_mean", "about_origin"):
        assert_close(matrices(getattr(gram, name)), matrices(getattr(gathered, name)))


@pytest.mark.parametrize("looked_up", [True, False])
@pytest.mark.parametrize("offset", [0, 1000])
def test_they_are_those_of_features_less_the_mean_of_all(monkeypatch: pytest.MonkeyPatch, looked_up: bool, offset: int):
    features = gaussian(offset=offset)
    episodes = episodes_of(features)
    found = pool_of(features, looked_up, monkeypatch)(episodes)
    mean = features.features.double().mean(dim=0)
    x, f = rows_of(features, episodes)
    within = 1e-6 if offset == 0 else 1e-4  # the mean is that of float32
    assert_close(matrices(found, FIELDS[:3]), plain(x - mean, f - mean), within)
    assert found.ways == 3
    assert found.shots == 4
    assert found.with_point is not None
    assert_close(list(found.with_point), [(x - mean) @ mean, (f - mean) @ mean, mean @ mean], within)


@pytest.mark.parametrize("looked_up", [True, False])
@pytest.mark.parametrize("offset", [0, 30])
def test_about_the_origin_they_are_those_of_the_features_as_they_are(
    monkeypatch: pytest.MonkeyPatch, looked_up: bool, offset: int
):
    features = gaussian(offset=offset)
    episodes = episodes_of(features)
    found = pool_of(features, looked_up, monkeypatch)(episodes).about_origin
    assert found.support.dtype == torch.float64
    assert found.with_point is None
    assert_close(matrices(found), plain(*rows_of(features, episodes)), 1e-6)


@pytest.mark.parametrize("block", [1, 7, 119, 120, 121, 1024])
def test_all_products_in_blocks(block: int):
    rows = gaussian().features.double()
    torch.testing.assert_close(pools._gram(rows, block), rows @ rows.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("limit", [1, 20_000, 10**9])
def test_gathered_some_at_a_time(monkeypatch: pytest.MonkeyPatch, limit: int):
    features = gaussian()
    pool, episodes = Pool(features.features, "cpu"), episodes_of(features)
    expected = matrices(pool(episodes))
    monkeypatch.setattr("nctransfer.episodes.pool.GATHERED_BYTES", limit)
    assert_close(matrices(pool(episodes)), expected)


@pytest.mark.parametrize(("longest", "dtype"), [(250, torch.float32), (350, torch.float64)])
def test_long_features_are_multiplied_in_float64(longest: float, dtype: torch.dtype):
    # eps of float32 times the square of the length reaches 0.01 at 290
    x = torch.tensor([[longest, 0.0], [-longest, 0.0], [0.0, 1.0], [0.0, -1.0]])
    pool = Pool(x + 100, "cpu")
    rows = torch.tensor([[[0], [2]]])
    assert pool(Episodes(torch.tensor([[0, 1]]), rows + 1, rows)).support.dtype == dtype


# which way


def has_gram(n: int, episodes: int, *specs: EpisodeSpec, d: int = 2) -> bool:
    pool = Pool(torch.zeros(n, d), "cpu")
    pool.prepare(specs, episodes, most=40)
    return pool.has_gram


def test_all_products_are_made_where_that_is_less_work():
    spec = EpisodeSpec(5, 1, 15)  # 80 rows an episode, each counted 1.7 · 5 + 10 times: 1,480
    assert not has_gram(1000, 439, spec)
    assert has_gram(1000, 440, spec)  # 440 · 1,480 > 0.65 · 1000²
    assert not has_gram(1000, 219, spec, spec)
    assert has_gram(1000, 220, spec, spec)
    assert has_gram(1000, 124, EpisodeSpec(5, 5, 15))  # 100 · (1.7 · 25 + 10) = 5,250
    assert not has_gram(1000, 123, EpisodeSpec(5, 5, 15))
    assert not has_gram(1000, 1, EpisodeSpec(5, 1, 15))
    assert not has_gram(1000, 171, EpisodeSpec(5, 1, None))  # 40 queries a class: 205 · 18.5 = 3,792.5
    assert has_gram(1000, 172, EpisodeSpec(5, 1, None))


def test_all_products_are_not_made_where_they_are_too_large(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nctransfer.episodes.pool.GRAM_BYTES", 4 * 100 * 100)
    assert has_gram(100, 10**6, EpisodeSpec())
    assert not has_gram(101, 10**6, EpisodeSpec())


def test_batches_are_as_large_as_their_products_may_be(monkeypatch: pytest.MonkeyPatch):
    pool, spec = Pool(torch.zeros(10, 2), "cpu"), EpisodeSpec(5, 2, 15)
    monkeypatch.setattr("nctransfer.episodes.pool.BATCH_BYTES", 4 * 10 * (10 + 75) * 6 + 1)
    assert pool.batch(spec, 15) == 6
    assert pool.batch(spec, 10_000) == 1


# what is made of them


def some(ways: int = 3, shots: int = 4, offset: float = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    return tuple(torch.from_numpy(rng.normal(size=(2, rows, 6)) + offset) for rows in (ways * shots, 5))  # type: ignore[return-value]


def about_a_point(x: torch.Tensor, f: torch.Tensor, ways: int) -> Products:
    """As a pool makes them: about a point that is not the origin."""
    point = torch.linspace(-2, 3, 6, dtype=torch.float64)
    x, f = x - point, f - point
    support, cross, squares = plain(x, f)
    with_point = (x @ point, f @ point, point @ point)
    return Products(support=support, cross=cross, ways=ways, squares=squares, with_point=with_point)


def test_of_features():
    x, f = some()
    found = Products.of(x, f, 3)
    assert_close(matrices(found), plain(x, f), 1e-12)
    assert (found.ways, found.shots, found.with_point) == (3, 4, None)


@pytest.mark.parametrize("shots", [1, 2, 4])
@pytest.mark.parametrize("make", [Products.of, about_a_point])
def test_cut_to_fewer_shots(make, shots: int):
    x, f = some()
    few = torch.stack([x[:, way * 4 + shot] for way in range(3) for shot in range(shots)], dim=1)
    found, expected = make(x, f, 3).cut(shots), make(few, f, 3)
    assert_close(matrices(found), matrices(expected), 1e-12)
    assert (found.ways, found.shots) == (3, shots)
    assert (found.with_point is None) == (expected.with_point is None)


@pytest.mark.parametrize("make", [Products.of, about_a_point])
@pytest.mark.parametrize("offset", [0, 10])
def test_about_the_mean_of_the_support(make, offset: float):
    x, f = some(offset=offset)
    mean = x.mean(dim=1, keepdim=True)
    found = make(x, f, 3).about_mean
    assert_close(matrices(found), plain(x - mean, f - mean), 1e-12)
    assert (found.ways, found.with_point) == (3, None)


def test_about_the_mean_is_float64():
    x, f = some()
    found = Products.of(x.float(), f.float(), 3).about_mean
    assert {one.dtype for one in (found.support, found.cross, found.squares)} == {torch.float64}


@pytest.mark.parametrize("make", [Products.of, about_a_point])
def test_about_the_origin(make):
    x, f = some()
    found = make(x, f, 3).about_origin
    assert_close(matrices(found), plain(x, f), 1e-12)
    assert (found.ways, found.with_point) == (3, None)


def test_scaled_to_unit_length():
    x, f = some()
    x[0, 3], f[1, 2] = 0, 0  # these have no length to scale
    scaled = [part / part.norm(dim=2, keepdim=True).where(part.norm(dim=2, keepdim=True) > 0, 1) for part in (x, f)]
    found = Products.of(x, f, 3).scaled()
    assert_close(matrices(found), plain(*scaled), 1e-12)
    assert found.squares[1, 2] == found.support[0, 3, 3] == 0
    torch.testing.assert_close(found.squares[0], torch.ones(5, dtype=torch.float64))
    assert found.ways == 3


def test_the_factor_stays_with_the_products():
    features = gaussian(scale=1e-30)
    products = Pool(features.features, "cpu")(episodes_of(features))
    assert products.factor == 2.0 ** round(np.log2(products.factor)) > 1e28
    for found in (products.cut(2), products.about_mean, products.about_origin, products.cut(2).about_mean):
        assert found.factor == products.factor
    assert Products.of(*some(), 3).factor == 1


@pytest.mark.parametrize("name", [name for name, entry in CLASSIFIERS.items() if entry.by_centres])
@pytest.mark.parametrize("shots", [1, 4])
def test_centres_take_the_place_of_the_support(name: str, shots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features = gaussian(offset=0.3, dtype="float64")
    pool = pool_of(features, looked_up=False, monkeypatch=monkeypatch)
    episodes = episodes_of(features, shots=shots)
    found = pool(episodes, by_centres=True)
    assert found.support.shape == (7, 3, 3)
    expected = CLASSIFIERS[name].scores(pool(episodes))
    torch.testing.assert_close(CLASSIFIERS[name].scores(found), expected, rtol=1e-5, atol=1e-5)


def test_a_task_of_centres_alone_has_the_accuracies_of_the_whole_support(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.episodes.pool.GRAM_BYTES", 0)
    features, task = gaussian(), {"shots": (1, 3), "queries": 5, "episodes": 50, "theory": False, "device": "cpu"}
    alone = fewshot(features, 3, classifiers=("ncc", "cosine"), **task)
    beside = fewshot(features, 3, classifiers=("ncc", "cosine", "ridge"), **task)
    for key, values in alone.accuracies.items():
        assert torch.equal(values, beside.accuracies[key])


@pytest.mark.parametrize("size", [1, 1000, 2**20])
def test_large_episodes_are_looked_up_by_themselves(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features = gaussian()
    pool = pool_of(features, looked_up=True, monkeypatch=monkeypatch)
    episodes = episodes_of(features)
    expected = pool(episodes)
    monkeypatch.setattr(pools, "LARGE_SUPPORT", 12)
    monkeypatch.setattr(pools, "LOOKED_UP_BYTES", size)
    found = pool(episodes)
    assert torch.equal(found.support, expected.support)
    assert torch.equal(found.cross, expected.cross)
