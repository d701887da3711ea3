"""Soft k-means: by a plain loop on features, what must not matter, where it is refused, and that it is shown twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from clusters import normal_classes, set_of
from messages import raises
from nctransfer.checkpoints.stored_checkpoints import trajectory_of_sets
from nctransfer.cli import app
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.inner_products import Products
from nctransfer.episodes.pool import Pool
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.sampling import sample
from nctransfer.episodes.soft_kmeans import DIMENSIONS, PSEUDO_QUERIES, STEPS, soft_kmeans
from nctransfer.episodes.uneven_queries import PackedQueries
from nctransfer.errors import SettingError
from nctransfer.evaluation.all_ways import AllWaysTask
from nctransfer.evaluation.fewshot_accuracy import fewshot
from nctransfer.evaluation.fewshot_comparison import compare_fewshot
from nctransfer.evaluation.fewshot_task import FewShotTask, only_balanced
from nctransfer.evaluation.learning_curve import curve_task
from nctransfer.features.feature_set import FeatureSet
from nctransfer.figures.fewshot_figure import fewshot_figure
from nctransfer.heads.fitting import fit
from nctransfer.report.fewshot_sheets import fewshot_comparison_sheets, fewshot_sheets
from nctransfer.report.trajectory_sheets import trajectory_sheets

BOTH = ["soft-kmeans (balanced)", "soft-kmeans (dirichlet:2)"]


def by_hand(
    x: np.ndarray,
    f: np.ndarray,
    ways: int,
    dimensions: float = DIMENSIONS,
    pseudo: float = PSEUDO_QUERIES,
    steps: int = STEPS,
) -> np.ndarray:
    """The shares of each query and class: expectation maximisation on features of one episode, float64."""
    shots, count = len(x) // ways, len(f)
    support = [x[way * shots : (way + 1) * shots] for way in range(ways)]
    centres = [rows.mean(axis=0) for rows in support]
    proportions = np.full(ways, 1 / ways)
    shares = np.zeros((count, ways))
    for step in range(steps + 1):
        squares = np.array([[((row - centre) ** 2).sum() for centre in centres] for row in f])
        spread = squares.min(axis=1).mean() if step == 0 else (shares * squares).sum() / count
        for q in range(count):
            logs = np.log(proportions) - dimensions * squares[q] / (2 * spread)
            likely = np.exp(logs - logs.max())
            shares[q] = likely / likely.sum()
        proportions = (shares.sum(axis=0) + pseudo) / (count + ways * pseudo)
        centres = [
            (support[way].sum(axis=0) + shares[:, way] @ f) / (shots + shares[:, way].sum()) for way in range(ways)
        ]
    return shares


def episodes(ways: int, shots: int, queries: int, seed: int = 0, width: int = 12, count: int = 3):
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(count, ways, 1, width))
    x = means + rng.normal(size=(count, ways, shots, width))
    f = means + rng.normal(size=(count, ways, queries, width))
    return x.reshape(count, ways * shots, width), f.reshape(count, ways * queries, width)


def shares_of(x: np.ndarray, f: np.ndarray, ways: int, **options: float) -> torch.Tensor:
    products = Products.of(torch.from_numpy(x), torch.from_numpy(f), ways)
    return soft_kmeans(products, **options).softmax(dim=2)


@pytest.mark.parametrize(("ways", "shots"), [(2, 1), (5, 1), (3, 5)])
@pytest.mark.parametrize("options", [{}, {"dimensions": 3.0, "pseudo_queries": 0.5, "steps": 6}])
def test_shares_are_those_of_a_plain_loop(ways: int, shots: int, options: dict[str, float]) -> None:
    x, f = episodes(ways, shots, 8)
    names = {"pseudo_queries": "pseudo"}
    for found, rows, queries in zip(shares_of(x, f, ways, **options), x, f, strict=True):
        expected = by_hand(rows, queries, ways, **{names.get(name, name): value for name, value in options.items()})
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("has_gram", [False, True])
@pytest.mark.parametrize("prior", ["balanced", "dirichlet:1"])
def test_answers_from_a_pool_are_those_of_a_plain_loop(prior: str, has_gram: bool) -> None:
    features = set_of(normal_classes([30, 14, 40, 25], 12, apart=0.5))
    spec = EpisodeSpec(3, 2, 8, query_prior=prior)
    pool = Pool(features.features, "cpu")
    if has_gram:
        pool.prepare([spec], 10_000, 0)
    assert pool.has_gram == has_gram
    [batch] = sample(features, spec, 70)
    batch = batch.cut(2)
    packed = PackedQueries.of(batch) if prior != "balanced" else None
    asked = packed.episodes if packed is not None else batch
    scores = soft_kmeans(pool(asked))
    matrix = features.features.double().numpy()
    for e in range(70):
        mask = asked.is_query[e].flatten() if packed is not None else slice(None)
        rows = asked.queries[e].flatten()[mask]
        expected = by_hand(matrix[asked.support[e].flatten()], matrix[rows], 3)
        np.testing.assert_allclose(scores[e][mask].softmax(dim=1).numpy(), expected, atol=2e-3)


@given(
    seed=st.integers(0, 10_000),
    ways=st.integers(2, 4),
    shots=st.integers(1, 3),
    queries=st.integers(1, 6),
    scale=st.sampled_from([1e-6, 0.1, 1.0, 30.0, 1e6]),
)
@settings(max_examples=40, deadline=None)
def test_neither_place_scale_nor_order_matter(seed: int, ways: int, shots: int, queries: int, scale: float) -> None:
    x, f = episodes(ways, shots, queries, seed, count=2)
    rng = np.random.default_rng(seed)
    before = shares_of(x, f, ways)
    shift = rng.normal(size=x.shape[2])
    torch.testing.assert_close(shares_of(scale * (x + shift), scale * (f + shift), ways), before, rtol=1e-5, atol=1e-6)
    order = torch.from_numpy(rng.permutation(f.shape[1]))
    torch.testing.assert_close(shares_of(x, f[:, order], ways), before[:, order], rtol=1e-6, atol=1e-8)
    classes = rng.permutation(ways)
    turned = x.reshape(2, ways, shots, -1)[:, classes].reshape(x.shape)
    torch.testing.assert_close(shares_of(turned, f, ways), before[:, :, classes], rtol=1e-6, atol=1e-8)


def test_episodes_do_not_know_of_each_other_and_padding_does_not_matter() -> None:
    x, f = episodes(3, 2, 5, count=70)
    together = shares_of(x, f, 3)
    torch.testing.assert_close(together[66:68], shares_of(x[66:68], f[66:68], 3))
    padded = np.concatenate([f, np.full((70, 4, 12), 9.0)], axis=1)
    products = Products.of(torch.from_numpy(x), torch.from_numpy(padded), 3)
    products.is_query = torch.arange(19).expand(70, -1) < 15
    torch.testing.assert_close(soft_kmeans(products).softmax(dim=2)[:, :15], together)


def test_an_answer_depends_on_the_other_queries() -> None:
    """A query between two classes goes with the cloud that it is a part of."""
    x = np.array([[[0.0], [2.0]]])
    lone, near_right = np.array([[[0.95]]]), np.array([[[0.95], [1.1], [1.2], [1.0], [1.3], [2.4], [0.0]]])
    assert shares_of(x, lone, 2)[0, 0].argmax() == 0
    assert shares_of(x, near_right, 2)[0, 0].argmax() == 1


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_features_that_are_all_the_same_have_equal_shares(value: float) -> None:
    found = shares_of(np.full((2, 6, 4), value), np.full((2, 5, 4), value), 3)
    torch.testing.assert_close(found, torch.full_like(found, 1 / 3))


def test_more_is_right_than_without_the_other_queries_under_both_priors() -> None:
    features = set_of(normal_classes([60] * 8, 64, apart=0.35))
    found = fewshot(features, 5, 1, episodes=600, precision=0, classifiers=("ncc", "soft-kmeans"))
    ncc, balanced, uneven = (row.accuracy for row in found.rows)
    assert ncc + 0.05 < min(balanced, uneven)


# shown with both query priors, everywhere


@pytest.fixture(scope="module")
def features() -> FeatureSet:
    return set_of(normal_classes([40] * 6, 8, apart=0.5))


@pytest.mark.parametrize("prior", ["balanced", "dirichlet:2", "dirichlet:0.5", "empirical"])
def test_there_are_always_two_rows(features: FeatureSet, prior: str) -> None:
    found = fewshot(features, 3, (1, 2), queries=6, episodes=40, classifiers=("ncc", "soft-kmeans"), query_prior=prior)
    uneven = "dirichlet:2" if prior == "balanced" else prior
    rows = [(row.shots, row.classifier, row.query_prior) for row in found.rows]
    each = [("ncc", prior), ("soft-kmeans", "balanced"), ("soft-kmeans", uneven)]
    assert rows == [(shots, *one) for shots in (1, 2) for one in each]
    assert list(found.accuracies) == list(found.counts) == [row.key for row in found.rows]
    assert list(found.to_frame().query_prior) == [row.query_prior for row in found.rows]
    assert [row["query_prior"] for row in found.to_dict()["results"]] == [row.query_prior for row in found.rows]
    table = found.episodes_table().to_pandas()
    assert len(table.groupby(["shots", "classifier", "query_prior"])) == 6
    for row in found.rows:
        own = table[
            (table.shots == row.shots) & (table.classifier == row.classifier) & (table.query_prior == row.query_prior)
        ]
        assert own.accuracy.mean() == pytest.approx(row.accuracy, rel=1e-12)


def test_sheets_and_figures_name_both(features: FeatureSet) -> None:
    for shots in (1, (1, 2)):
        found = fewshot(features, 3, shots, queries=6, episodes=40, classifiers=("soft-kmeans", "ncc"))
        [sheet, *_] = fewshot_sheets(found, 1)
        shown = sheet.heads if shots != 1 else [row[0] for row in sheet.rows]
        assert all(any(one in cell for cell in shown) for one in BOTH)
        words = [text.get_text() for text in fewshot_figure(found).findobj() if hasattr(text, "get_text")]
        assert all(any(one in word for word in words) for one in BOTH)


def test_comparisons_have_a_verdict_for_both(features: FeatureSet) -> None:
    other = FeatureSet.from_arrays(
        features.features.flip(1) * 2, [features.classes[code] for code in features.labels.tolist()], features.ids
    )
    found = compare_fewshot(
        {"a": features, "b": other, "c": features}, 3, 1, queries=6, episodes=600, classifiers="soft-kmeans"
    )
    assert [one.key[2] for one in found.differences] == [name for name in BOTH for _ in "bc"]
    assert [one.query_prior for one in found.possible_bests] == ["balanced", "dirichlet:2"]
    assert {len(result.accuracies[3, 1, name]) for result in found.results.values() for name in BOTH} == {600}
    sheets = fewshot_comparison_sheets(found)
    for sheet in sheets[:3]:
        assert [row[2] for row in sheet.rows if row[2] in BOTH]


def test_a_trajectory_follows_both(features: FeatureSet) -> None:
    more = torch.randn(features.features.shape, generator=torch.Generator().manual_seed(1))
    sets = [
        replace(
            features, features=features.features + scale * more, info=replace(features.info, weights=f"epoch-{step}")
        )
        for step, scale in ((1, 3.0), (2, 1.0))
    ]
    task = FewShotTask(ways=3, queries=6, episodes=200, classifiers=("ncc", "soft-kmeans"), theory=False)
    found = trajectory_of_sets(sets, task)
    assert [one.key[2] for one in found.best()] == ["ncc", *BOTH]
    assert [(one.classifier, one.query_prior) for one in found.best()][1:] == [
        ("soft-kmeans", "balanced"),
        ("soft-kmeans", "dirichlet:2"),
    ]
    columns = [f"{name}_3way_1shot" for name in BOTH]
    frame = found.to_frame()
    for number, column in enumerate(columns, start=1):
        assert list(frame[column]) == [point.fewshot.rows[number].accuracy for point in found.points]
    sheets = trajectory_sheets(found)
    assert all(any(name in cell for sheet in sheets for row in sheet.rows for cell in row) for name in BOTH)


@pytest.mark.parametrize("interval", ["samples", "classes"])
def test_both_have_intervals_over_images_and_classes(features: FeatureSet, interval: str) -> None:
    for row in fewshot(features, 3, 1, queries=6, episodes=300, classifiers="soft-kmeans", interval=interval).rows:
        assert row.ci95 is not None
        assert row.ci95 > 0


# refused where a query's answer must not depend on other queries


def test_settings_that_allow_one_prior_only_are_refused() -> None:
    with raises(SettingError, "soft-kmeans", "transductive", hint=["ridge"]):
        FewShotTask(classifiers="soft-kmeans", queries="all")
    with raises(SettingError, "soft-kmeans", "transductive", "disjoint"):
        FewShotTask(classifiers="soft-kmeans", interval="disjoint")
    inductive = tuple(name for name in CLASSIFIERS if not CLASSIFIERS[name].is_transductive)
    assert FewShotTask(classifiers="all", queries="all").classifiers == inductive
    assert FewShotTask(classifiers="all", interval="disjoint").classifiers == inductive
    assert "soft-kmeans" in FewShotTask(classifiers="all").classifiers


def test_measurements_of_balanced_queries_refuse_it() -> None:
    with raises(SettingError, "soft-kmeans"):
        only_balanced(FewShotTask(classifiers=("ncc", "soft-kmeans")), "this")
    with raises(SettingError, "dirichlet:2", hint="--query-prior"):
        only_balanced(FewShotTask(query_prior="dirichlet:2"), "this")
    assert "soft-kmeans" not in only_balanced(FewShotTask(classifiers="all"), "this").classifiers
    usual = FewShotTask()
    assert only_balanced(usual, "this") is usual


def test_what_classifies_images_one_by_one_refuses_it(features: FeatureSet) -> None:
    with raises(SettingError, "soft-kmeans", "transductive"):
        AllWaysTask(classifiers=("ridge", "soft-kmeans"))
    with raises(SettingError, "soft-kmeans", "transductive"):
        curve_task(features, "soft-kmeans")
    assert "soft-kmeans" not in AllWaysTask(classifiers="all").classifiers
    with raises(SettingError, "soft-kmeans"):
        fit(features, classifier="soft-kmeans")


@pytest.mark.parametrize("command", ["labels", "rank", "fit", "expect"])
def test_commands_that_classify_one_by_one_refuse_it(command: str, features: FeatureSet, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", features=features.features.numpy(), labels=features.labels.numpy())
    where = [str(tmp_path / "set.npz")] * (2 if command == "rank" else 1)
    result = CliRunner().invoke(app, [command, *where, "--classifier", "soft-kmeans", "--quiet"])
    assert result.exit_code == 2
    assert "soft-kmeans" in result.stderr
    assert not result.stdout


def test_the_command_shows_both(features: FeatureSet, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", features=features.features.numpy(), labels=features.labels.numpy())
    given = [
        str(tmp_path / "set.npz"),
        "--ways",
        "3",
        "--episodes",
        "30",
        "--queries",
        "5",
        "--classifier",
        "soft-kmeans",
    ]
    shown = CliRunner().invoke(app, ["fewshot", *given])
    assert all(name in shown.stdout for name in BOTH)
    found = json.loads(
        CliRunner().invoke(app, ["fewshot", *given, "--query-prior", "dirichlet:1", "--format", "json"]).stdout
    )
    assert [row["query_prior"] for row in found["results"]] == ["balanced", "dirichlet:1"]
