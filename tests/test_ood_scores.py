"""Out-of-distribution scores against pytorch-ood and plain numpy; AUROC and FPR95 against scikit-learn and loops."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score, roc_curve

from clusters import normal_classes, set_of
from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.unlikeness_kinds import UNLIKENESSES
from nctransfer.ood.detecting import detect_ood
from nctransfer.ood.detection import Part, detection, placements, wilson_of
from nctransfer.ood.held_out_classes import ClassRound, class_detection
from nctransfer.ood.orthogonality import nc5, nc5_by_chance
from nctransfer.ood.registry import SCORES
from nctransfer.ood.score import Reference
from nctransfer.ood.trials import FOLDS, folds_of, held_out_trials, image_trials

KNOWN = set_of(normal_classes([40, 40, 40, 40], 6, apart=1.5, offset=1), np.float32)
NEW = torch.randn(50, 6, generator=torch.manual_seed(0)) * 2 + 1
WIDE = set_of(normal_classes([20, 20, 20], 100, apart=1.0, offset=1), np.float32)


def scored(name: str, features: FeatureSet = KNOWN, new: torch.Tensor = NEW) -> tuple[Reference, np.ndarray]:
    reference = Reference(features, device="cpu")
    return reference, SCORES[name].function(reference)(new).double().numpy()


# Scores


def test_scores_of_logits_are_those_of_pytorch_ood() -> None:
    detector = pytest.importorskip("pytorch_ood.detector")
    reference = Reference(KNOWN, device="cpu")
    logits = reference.logits(NEW)
    assert scored("max-logit")[1] == pytest.approx(detector.MaxLogit.score(logits).numpy())
    assert scored("energy")[1] == pytest.approx(detector.EnergyBased.score(logits).numpy(), rel=1e-5)
    assert scored("msp")[1] == pytest.approx(1 + detector.MaxSoftmax.score(logits).numpy(), abs=1e-6)


def test_knn_is_that_of_pytorch_ood() -> None:
    detector = pytest.importorskip("pytorch_ood.detector")
    theirs = detector.KNN(None, k=10).fit_features(KNOWN.features, KNOWN.labels).predict_features(NEW)
    assert scored("knn")[1] == pytest.approx(theirs.numpy(), abs=2e-3)  # stored in half precision


def test_mahalanobis_is_that_of_pytorch_ood_with_our_penalty() -> None:
    """Theirs is half the distance, with a sum of squares in place of a covariance."""
    detector = pytest.importorskip("pytorch_ood.detector")
    reference, found = scored("mahalanobis")
    within = reference.distances.within
    theirs = detector.Mahalanobis(None).fit_features(torch.nn.functional.normalize(KNOWN.features), KNOWN.labels)
    theirs.precision = torch.linalg.inv(theirs.cov + within.ridge * torch.eye(6))
    expected = 2 * within.degrees * theirs.predict_features(torch.nn.functional.normalize(NEW)).double().numpy()
    assert found + float(reference.distances.noise[0]) == pytest.approx(expected, rel=5e-3)


def test_vim_is_that_of_pytorch_ood() -> None:
    """With five features and six classes the origin that they take from the weights is the mean of the images."""
    detector = pytest.importorskip("pytorch_ood.detector")
    known = set_of(normal_classes([30] * 6, 5, apart=1.5, offset=1), np.float32)
    new = NEW[:, :5]
    reference, found = scored("vim", known, new)
    linear, left_out = reference.fitted
    weight = linear.weight / linear.temperature
    bias = (linear.intercept - linear.weight @ linear.centre) / linear.temperature
    theirs = detector.ViM(None, 2, weight, bias).fit_features(known.features, known.labels)
    residual = (known.features - theirs.u) @ theirs.principal_subspace
    theirs.alpha = float(left_out.amax(dim=1).mean() / residual.norm(dim=1).mean())
    assert found == pytest.approx(theirs.predict_features(new).numpy(), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("known", [KNOWN, WIDE], ids=["more images than features", "fewer"])
def test_neco_and_epa_are_their_formulas(known: FeatureSet) -> None:
    new = torch.randn(30, known.dim, generator=torch.manual_seed(1)) + 1
    reference, neco = scored("neco", known, new)
    pca = PCA(len(known.classes) - 1).fit(known.features.numpy())

    def cosines(rows: torch.Tensor) -> np.ndarray:
        moved = rows.numpy() - pca.mean_
        return np.linalg.norm(moved @ pca.components_.T, axis=1) / np.linalg.norm(moved, axis=1)

    def entropies(logits: torch.Tensor) -> np.ndarray:
        p = logits.double().softmax(dim=1).numpy()
        return -(p * np.log(p)).sum(axis=1)

    assert neco == pytest.approx(1 - cosines(new), abs=1e-3)
    logits = reference.logits(new)
    largest = (logits - logits.mean(dim=1, keepdim=True)).amax(dim=1).numpy()
    assert scored("neco-logit", known, new)[1] == pytest.approx(-cosines(new) * largest, rel=1e-2, abs=1e-3)
    beta = np.arccos(cosines(known.features)).mean() / entropies(reference.fitted[1]).mean()
    expected = np.arccos(cosines(new)) + beta * entropies(logits)
    assert scored("epa", known, new)[1] == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("known", [KNOWN, WIDE], ids=["more images than features", "fewer"])
@pytest.mark.parametrize("name", ["relative-mahalanobis", "mahalanobis"])
def test_distances_are_those_of_heads(known: FeatureSet, name: str) -> None:
    new = torch.randn(30, known.dim, generator=torch.manual_seed(1)) + 1
    expected = UNLIKENESSES[name].fit(known, "cpu")[0].of(new).numpy()
    assert scored(name, known, new)[1] == pytest.approx(expected, rel=2e-3, abs=2e-3 * float(np.ptp(expected)))


@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_larger_far_away(name: str) -> None:
    known = set_of(normal_classes([30] * 5, 16, apart=3.0), np.float32)
    new = set_of(normal_classes([30] * 5, 16, apart=3.0, draw=1), np.float32)
    other = set_of(normal_classes([60], 16, apart=3.0, seed=9), np.float32)
    function = SCORES[name].function(Reference(known, device="cpu"))
    values = torch.cat([function(new.features), function(other.features)]).numpy()
    assert roc_auc_score([0] * 150 + [1] * 60, values) > 0.8


# AUROC and FPR95


def drawn(n: int, m: int, shift: float = 1.0, seed: int = 0) -> Part:
    generator = torch.Generator().manual_seed(seed)
    known = torch.randn(n, generator=generator).mul(4).round() / 4  # with ties
    return Part(known, (torch.randn(m, generator=generator) + shift).mul(4).round() / 4)


@pytest.mark.parametrize("shift", [-0.5, 1.0, 6.0])
def test_auroc_and_fpr95_are_those_of_scikit_learn(shift: float) -> None:
    part = drawn(83, 60, shift)
    found = detection([part])
    truth, values = [0] * 83 + [1] * 60, torch.cat([*part]).numpy()
    assert found.auroc == pytest.approx(roc_auc_score(truth, values))
    rates, hits, _ = roc_curve([1 - one for one in truth], -values, drop_intermediate=False)
    assert found.fpr == pytest.approx(rates[np.searchsorted(hits, 0.95 - 1e-9)])
    low, high = found.auroc_interval
    assert 0 <= low <= found.auroc <= high <= 1
    assert found.fpr_interval[0] <= found.fpr <= found.fpr_interval[1]


def test_the_error_of_the_auroc_is_delong_s_by_loops() -> None:
    part = drawn(30, 20)
    wins = np.array([[1.0 if o > k else 0.5 if o == k else 0.0 for o in part.other] for k in part.known])
    variance = wins.mean(axis=1).var(ddof=1) / 30 + wins.mean(axis=0).var(ddof=1) / 20
    found = detection([part])
    assert float(found.vector.square().sum()) == pytest.approx(variance)
    assert found.auroc == pytest.approx(wins.mean())
    above, below = placements(*part)
    assert above.numpy() == pytest.approx(wins.mean(axis=1))
    assert below.numpy() == pytest.approx(wins.mean(axis=0))


def test_differences_of_two_scores_have_delong_s_covariance() -> None:
    first, second = drawn(30, 20), drawn(30, 20, seed=1)
    both = [detection([one]).vector for one in (first, second)]
    wins = [
        (one.other > one.known[:, None]).double() + 0.5 * (one.other == one.known[:, None]) for one in (first, second)
    ]
    by_known, by_other = ([one.mean(dim=side).numpy() for one in wins] for side in (1, 0))
    expected = np.cov(*by_known)[0, 1] / 30 + np.cov(*by_other)[0, 1] / 20
    assert float(both[0] @ both[1]) == pytest.approx(expected)


def test_parts_compare_each_image_with_the_others_under_its_own_model() -> None:
    parts = [drawn(10, 20, seed=0), drawn(30, 20, seed=1)]
    parts[1] = Part(parts[1].known + 5, parts[1].other + 5)  # another model may have another scale
    pairs = [[float(o > k) + 0.5 * float(o == k) for k in part.known for o in part.other] for part in parts]
    assert detection(parts).auroc == pytest.approx(np.mean(np.concatenate(pairs)))


def test_one_model_in_parts_is_one_model() -> None:
    whole = drawn(40, 25)
    parts = [Part(some, whole.other) for some in (whole.known[:10], whole.known[10:])]
    for one, other in zip(detection([whole]), detection(parts), strict=True):
        assert np.asarray(one) == pytest.approx(np.asarray(other))


def test_perfect_scores_have_an_interval() -> None:
    found = detection([Part(torch.zeros(100), torch.ones(40))])
    assert (found.auroc, found.fpr) == (1.0, 0.0)
    assert found.auroc_interval == pytest.approx((40 / (40 + 2.02269**2), 1.0), abs=1e-5)  # t with 39 degrees
    assert found.fpr_interval == pytest.approx((0.0, 1.96**2 / (40 + 1.96**2)))


def test_few_known_images_say_little_of_fpr95() -> None:
    assert detection([Part(torch.zeros(72), torch.ones(40))]).fpr_interval[1] == 1.0
    assert detection([Part(torch.zeros(73), torch.ones(40))]).fpr_interval[1] < 0.1


def test_wilson_of_is_wilson() -> None:
    from nctransfer.intervals import wilson

    low, high = wilson(torch.tensor(8.0, dtype=torch.float64), torch.tensor(10.0, dtype=torch.float64))
    assert wilson_of(0.8, 10) == pytest.approx((float(low), float(high)))


# Held-out classes


def rounds_of(classes: int = 6) -> list[ClassRound]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(4):
        labels = torch.arange(classes).repeat_interleave(5)
        half = torch.randperm(classes, generator=generator)[: classes // 2] if number % 2 == 0 else half  # noqa: F821
        is_known = torch.isin(labels, half) if number % 2 == 0 else ~torch.isin(labels, half)
        scores = torch.randn(len(labels), generator=generator).mul(3).round() + ~is_known
        found.append(ClassRound(scores[is_known], labels[is_known], scores[~is_known], labels[~is_known]))
    return found


def test_held_out_classes_by_loops() -> None:
    rounds = rounds_of()

    def auroc(without: int) -> float:
        wins = [
            1.0 if o > k else 0.5 if o == k else 0.0
            for one in rounds
            for k, a in zip(one.known.tolist(), one.known_labels.tolist(), strict=True)
            for o, b in zip(one.other.tolist(), one.other_labels.tolist(), strict=True)
            if without not in (a, b)
        ]
        return float(np.mean(wins))

    def fpr(without: int) -> float:
        found = []
        for one in rounds:
            known = np.sort(one.known[one.known_labels != without].numpy())
            other = one.other[one.other_labels != without].numpy()
            found.append(np.mean(other <= known[math.ceil(0.95 * len(known)) - 1]))
        return float(np.mean(found))

    found = class_detection(rounds, 6)
    assert found.auroc == pytest.approx(auroc(-1))
    assert found.fpr == pytest.approx(fpr(-1))
    without = np.array([auroc(code) for code in range(6)])
    assert float(found.vector.square().sum()) == pytest.approx(5 / 6 * ((without - without.mean()) ** 2).sum())
    fprs = np.array([fpr(code) for code in range(6)])
    half = 2.5705818 * math.sqrt(5 / 6 * ((fprs - fprs.mean()) ** 2).sum())  # the 97.5% point of t with 5 degrees
    expected = max(found.fpr - half, 0), min(found.fpr + half, 1)
    assert found.fpr_interval == pytest.approx(expected)


def test_of_perfect_scores_little_is_known_with_few_classes() -> None:
    labels = torch.arange(4).repeat_interleave(3)
    halves = labels < 2, labels >= 2
    rounds = [ClassRound(0 * labels[one], labels[one], 1 + 0 * labels[~one], labels[~one]) for one in halves]
    found = class_detection(rounds, 4)
    assert (found.auroc, found.fpr) == (1, 0)
    squared = 3.1824463**2  # the 97.5% point of t with 3 degrees
    assert found.fpr_interval == pytest.approx((0, squared / (2 + squared)))


def test_differences_of_aurocs_lie_between_minus_one_and_one() -> None:
    other = FeatureSet.from_arrays(KNOWN.features[:3] + 0.5, "???")
    for row in detect_ood(KNOWN, {"other": other}, "all", device="cpu").rows:
        assert row.behind is not None
        assert -1 <= row.behind[0] <= 0 <= row.behind[1] <= 1


# Who is left out


def test_every_image_is_scored_once_by_a_reference_without_it() -> None:
    trials = [*image_trials(KNOWN, 0)]
    assert len(trials) == FOLDS
    assert torch.cat([trial.known for trial in trials]).sort().values.tolist() == [*range(len(KNOWN))]
    for trial in trials:
        assert not {KNOWN.ids[row] for row in trial.known.tolist()} & set(trial.reference.ids)
        assert trial.reference.counts.tolist() == [32] * 4


def test_small_classes_are_spread_over_the_folds() -> None:
    folds = folds_of(torch.arange(10).repeat_interleave(3), 0)
    assert folds.bincount().tolist() == [6] * 5
    for code in range(10):
        assert len(set(folds[3 * code : 3 * code + 3].tolist())) == 3


def test_held_out_classes_are_in_no_reference() -> None:
    times = torch.zeros(4)
    for trial in held_out_trials(KNOWN, 0):
        others = {KNOWN.classes[code] for code in KNOWN.labels[trial.other].tolist()}
        assert len(others) == 2
        assert set(trial.reference.classes) == set(KNOWN.classes) - others
        assert not {KNOWN.ids[row] for row in trial.known.tolist()} & set(trial.reference.ids)
        assert {KNOWN.classes[code] for code in KNOWN.labels[trial.known].tolist()} == set(trial.reference.classes)
        times[KNOWN.labels[trial.other].unique()] += 1
    assert times.tolist() == [5] * 4


@pytest.mark.parametrize("counts", [[3] * 4, [3] * 5, [3, 4, 30, 3, 4], [4] * 4, [20] * 4])
def test_every_known_class_is_scored_in_every_round(counts: list[int]) -> None:
    known = set_of(normal_classes(counts, 6, apart=2.0), np.float32)
    for trial in held_out_trials(known, 0):
        scored = Counter(known.classes[code] for code in known.labels[trial.known].tolist())
        assert set(scored) == set(trial.reference.classes)
        assert all(
            scored[name] in (size // 5, -(-size // 5))
            for name, size in zip(known.classes, counts, strict=True)
            if name in scored
        )
        assert not {known.ids[row] for row in trial.known.tolist()} & set(trial.reference.ids)
        assert int(trial.reference.counts.min()) >= 2
    row = detect_ood(known, None, ["knn", "neco"], device="cpu").rows[0]
    for value, (low, high) in ((row.auroc, row.auroc_interval), (row.fpr95, row.fpr95_interval)):
        assert 0 <= low <= value <= high <= 1
        assert low < high


# NC5


def test_nc5_is_its_formula() -> None:
    rows, other = KNOWN.features.double().numpy(), NEW.double().numpy()
    mean = rows.mean(axis=0)
    found = []
    for code in range(4):
        a, b = rows[KNOWN.labels.numpy() == code].mean(axis=0) - mean, other.mean(axis=0) - mean
        found.append(abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b))
    one = nc5(KNOWN, NEW)
    assert one.value == pytest.approx(np.mean(found))
    assert one.interval[0] < one.value < one.interval[1]


def test_random_directions_have_the_cosine_that_is_said() -> None:
    rng = np.random.default_rng(0)
    for dim in (3, 40):
        a, b = (rng.normal(size=(20_000, dim)) for _ in range(2))
        cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert nc5_by_chance(dim) == pytest.approx(np.abs(cosines).mean(), rel=0.03)


def test_names_of_scores_are_told_apart() -> None:
    assert all(one.formula and one.source and one.meaning for one in SCORES.values())
    assert len({one.formula for one in SCORES.values()}) == len(SCORES)
    reference = Reference(KNOWN, device="cpu")
    values = [one.function(reference)(NEW) for one in SCORES.values()]
    for a, b in itertools.combinations(values, 2):
        assert not np.allclose(a, b)
