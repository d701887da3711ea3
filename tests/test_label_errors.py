"""Likely label errors: exact leave-one-out scores, what is flagged, and how many of the flagged labels are wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nctransfer.errors import FeaturesError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.label_audit.class_neighbours import nearest_of_class
from nctransfer.label_audit.label_errors import label_errors
from nctransfer.label_audit.left_out_models import LeftOutModels
from nctransfer.label_audit.noise_rate import fitted_noise
from nctransfer.label_audit.unit_rows import UnitRows

CPU = torch.device("cpu")


def clusters(classes: int, each: int, width: int, distance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Normal classes: rows and codes."""
    generator = np.random.default_rng(seed)
    codes = np.repeat(np.arange(classes), each)
    means = generator.normal(size=(classes, width)) * distance
    return means[codes] + generator.normal(size=(len(codes), width)), codes


def named(rows: np.ndarray, codes: np.ndarray, ids: list[str] | None = None) -> FeatureSet:
    return FeatureSet.from_arrays(rows, [f"c{code:03d}" for code in codes], ids)


def weighted_rows(width: int = 3, distance: float = 1.0) -> tuple[UnitRows, torch.Tensor]:
    rows = UnitRows(named(*clusters(4, 5, width, distance)), CPU)
    return rows, torch.from_numpy(np.random.default_rng(1).uniform(0.2, 1, len(rows)))


@pytest.mark.parametrize("width", [3, 30])
def test_ridge_scores_are_those_of_fits_without_the_image(width: int) -> None:
    rows, weights = weighted_rows(width=width)
    models = LeftOutModels(rows, weights)
    x, w, y = rows.rows(torch.arange(len(rows))).numpy(), weights.numpy(), np.eye(4)[rows.labels.numpy()]
    mean = w @ x / w.sum()
    assert models.ridge_scale == pytest.approx((w[:, None] * (x - mean) ** 2).sum() / len(x))

    def without(number: int, penalty: float) -> np.ndarray:
        v = np.where(np.arange(len(x)) == number, 0, w)
        centre, share = v @ x / v.sum(), v @ y / v.sum()
        gram = (v[:, None] * (x - centre)).T @ (x - centre) + penalty * np.eye(width)
        return share + (x[number] - centre) @ np.linalg.solve(gram, (v[:, None] * (x - centre)).T @ (y - share))

    ((seen, more),) = models.projections([0.1, 3.0])
    for penalty, projections in ((0.1, seen), (3.0, more)):
        plain = np.array([without(number, penalty) for number in range(len(x))])
        np.testing.assert_allclose(models.ridge(projections).numpy(), plain, atol=1e-9)


@pytest.mark.parametrize(("width", "distance"), [(3, 1.0), (30, 1.0), (3, 1e4)])
def test_distances_of_the_discriminant_are_those_without_the_image(width: int, distance: float) -> None:
    rows, weights = weighted_rows(width=width, distance=distance)
    models = LeftOutModels(rows, weights)
    x, w, y = rows.rows(torch.arange(len(rows))).numpy(), weights.numpy(), rows.labels.numpy()

    def scatter(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        means = np.array([v[y == code] @ x[y == code] / v[y == code].sum() for code in range(4)])
        residuals = x - means[y]
        return (v[:, None] * residuals).T @ residuals, means

    trace = np.trace(scatter(w)[0])
    assert models.scatter_scale == pytest.approx(trace / min(width, len(x)), rel=1e-2)
    penalty = 0.3 * models.scatter_scale
    ((seen,),) = models.projections([penalty])
    found = models.squared_distances(seen, models.kernel(penalty)).numpy()
    for number in range(len(x)):
        within, means = scatter(np.where(np.arange(len(x)) == number, 0, w))
        offsets = x[number] - means
        plain = (offsets * np.linalg.solve(within + penalty * np.eye(width), offsets.T).T).sum(axis=1)
        np.testing.assert_allclose(found[number], plain, rtol=1e-6 if distance == 1 else 0.05)


def test_nearest_images_of_wanted_classes_are_those_of_a_plain_search() -> None:
    rows, _ = weighted_rows()
    wanted = torch.from_numpy(np.random.default_rng(2).integers(0, 4, len(rows)))
    nearest, distances = nearest_of_class([rows], wanted)
    x = rows.rows(torch.arange(len(rows)))
    between = torch.cdist(x, x).fill_diagonal_(torch.inf)
    between[rows.labels[None] != wanted[:, None]] = torch.inf
    assert torch.equal(nearest, between.argmin(dim=1))
    torch.testing.assert_close(distances, between.min(dim=1).values)


def test_the_rate_of_wrong_labels_is_found_whether_or_not_classes_overlap() -> None:
    generator = np.random.default_rng(0)
    for spread in (1.0, 4.0):  # softmax of scores is the true probability of each class, sharp or vague
        scores = torch.from_numpy(generator.normal(size=(4000, 5)) * spread)
        labels = torch.multinomial(scores.softmax(dim=1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
        assert fitted_noise(scores * 3, labels).rate < 0.02
        wrong = torch.from_numpy(generator.random(4000) < 0.1)
        labels[wrong] = (labels[wrong] + torch.from_numpy(generator.integers(1, 5, 4000))[wrong]) % 5
        noise = fitted_noise(scores * 3, labels)
        assert noise.rate == pytest.approx(0.1, abs=0.04)
        assert noise.scale == pytest.approx(1 / 3, rel=0.25)


def test_wrong_labels_come_first_and_about_as_many_as_expected_are_wrong() -> None:
    rows, codes = clusters(6, 40, 16, 1.0)
    given = codes.copy()
    given[::20] = (given[::20] + 1 + np.arange(12) % 5) % 6
    found = label_errors([named(rows, given)], device="cpu")
    order = [int(name) for name in found.ids]
    wrong = torch.from_numpy(given != codes)[order]
    worst = found.score.argsort(descending=True)[:12]
    assert wrong[worst].double().mean() > 0.9
    assert found.suggested[wrong].tolist() == codes[order][wrong.numpy()].tolist()
    flagged = found.expected_precision >= 0.5
    assert float(found.expected_precision[flagged].sum()) == pytest.approx(int(wrong[flagged].sum()), abs=3)
    assert found.noise_rate == pytest.approx(0.05, abs=0.02)
    own, other = found.neighbours.T
    assert torch.equal(found.labels[own], found.labels)
    assert torch.equal(found.labels[other], found.suggested)
    assert bool((own != torch.arange(len(own))).all())


def test_without_wrong_labels_hardly_any_are_expected() -> None:
    for distance in (0.3, 1.5):  # classes that overlap, and classes that do not
        found = label_errors([named(*clusters(6, 40, 16, distance))], device="cpu")
        assert found.noise_rate < 0.02
        assert float(found.expected_precision.sum()) < 6


def test_a_second_backbone_helps_and_its_rows_may_be_in_another_order() -> None:
    rows, codes = clusters(5, 30, 8, 0.9)
    given = codes.copy()
    given[::15] = (given[::15] + 1) % 5
    ids = [f"image {number:03d}" for number in range(len(codes))]
    one = named(rows, given, ids)
    generator = np.random.default_rng(3)
    another = rows @ np.linalg.qr(generator.normal(size=(8, 8)))[0] + generator.normal(size=rows.shape) / 2
    order = generator.permutation(len(codes))
    two = named(another[order], given[order], [ids[number] for number in order])
    alone, both = label_errors([one], device="cpu"), label_errors([one, two], device="cpu")
    assert both.sets == 2
    assert both.ids == alone.ids
    assert set(both.agreement.tolist()) == {0, 1, 2}
    twice = label_errors([one, one], device="cpu")
    torch.testing.assert_close(twice.score, alone.score)


def test_sets_of_other_images_or_labels_are_refused() -> None:
    rows, codes = clusters(3, 4, 5, 1.0)
    one = named(rows, codes)
    with pytest.raises(FeaturesError, match="do not hold the same images"):
        label_errors([one, named(rows[1:], codes[1:], [str(n) for n in range(1, 12)])])
    with pytest.raises(FeaturesError, match="the label of"):
        label_errors([one, named(rows, codes[::-1].copy())])
    with pytest.raises(FeaturesError, match="no feature set"):
        label_errors([])
    with pytest.raises(FeaturesError, match="1 class of two images"):
        label_errors([named(rows[:5], codes[:5])])


def test_an_image_that_is_alone_in_its_class_is_not_judged() -> None:
    rows, codes = clusters(3, 6, 5, 2.0)
    codes[0], codes[1:6] = 7, 1
    found = label_errors([named(rows, codes)], device="cpu")
    alone = found.ids.index("00")
    assert found.score[alone] == found.margin[alone] == found.expected_precision[alone] == 0
    assert found.suggested[alone] == found.labels[alone]
    assert found.neighbours[alone].tolist() == [-1, -1]
    assert bool(found.distances[alone].isinf().all())
    assert int((found.neighbours == alone).sum()) == 0


@pytest.mark.parametrize("rows", [np.ones((12, 4)), np.repeat(np.eye(3), 4, axis=0), np.eye(12), np.eye(12, 500)])
def test_features_without_information_or_without_noise_give_finite_scores(rows: np.ndarray) -> None:
    found = label_errors([named(rows, np.repeat([0, 1, 2], 4))], device="cpu")
    for values in (found.score, found.margin, found.expected_precision):
        assert bool(values.isfinite().all())
    assert float(found.expected_precision.max()) < 0.5


def test_an_equal_image_in_another_class_is_suspicious_in_both() -> None:
    rows, codes = clusters(3, 20, 6, 2.0)
    rows = np.concatenate([rows, rows[:1]])
    found = label_errors([named(rows, np.append(codes, 2))], device="cpu")
    copy = found.ids.index("60")
    assert int(found.score.argmax()) == copy
    assert found.suggested[copy] == 0
    assert found.neighbours[copy, 1] == found.ids.index("00")
    assert found.distances[copy, 1] == pytest.approx(0, abs=1e-6)


def test_progress_counts_two_rounds_for_each_set() -> None:
    one = named(*clusters(3, 5, 4, 1.0))
    seen: list[tuple[int, int]] = []
    label_errors([one, one], device="cpu", progress=lambda done, steps: seen.append((done, steps)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_cleanlab_ranks_and_flags_the_same_images_by_the_same_probabilities() -> None:
    cleanlab_filter = pytest.importorskip("cleanlab.filter")
    rank = pytest.importorskip("cleanlab.rank")
    rows, codes = clusters(2, 60, 6, 0.8)
    given = codes.copy()
    given[::15] = 1 - given[::15]
    found = label_errors([named(rows, given)], device="cpu")
    labels = found.labels.numpy()
    own = np.exp(-found.score.numpy())
    probabilities = np.where(np.arange(2) == labels[:, None], own[:, None], 1 - own[:, None])
    quality = rank.get_label_quality_scores(labels, probabilities)
    np.testing.assert_allclose(quality, own, atol=1e-6)
    issues = cleanlab_filter.find_label_issues(labels, probabilities, n_jobs=1)
    flagged = found.expected_precision.numpy() >= 0.5
    assert flagged.sum() >= 4
    assert issues[flagged].all()
