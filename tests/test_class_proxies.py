"""Heads with several proxies per class, against scikit-learn's k-means on what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nctransfer as nct
from clusters import normal_classes, set_of
from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads import class_proxies
from nctransfer.heads.class_proxies import ClassProxies
from nctransfer.heads.fitting import fit
from nctransfer.heads.left_out_groups import left_out_groups
from nctransfer.heads.left_out_scores import left_out_scores
from nctransfer.heads.linear_classifier import LinearClassifier
from proxies_by_hand import number_of_proxies, proxy_scores

CPU = torch.device("cpu")


def parts(counts: tuple[int, ...] = (24, 18, 30), each: int = 2, apart: float = 1.5, seed: int = 0) -> FeatureSet:
    """Classes of several clusters."""
    rng = np.random.default_rng(seed)
    rows, labels = [], []
    for code, count in enumerate(counts):
        means = apart * np.random.default_rng([7, code]).normal(size=(each, 6)) + 1
        rows.append(means[np.arange(count) % each] + rng.normal(size=(count, 6)))
        labels += [f"class {code}"] * count
    return FeatureSet.from_arrays(np.concatenate(rows), labels)


def relative(scores: np.ndarray) -> np.ndarray:
    """What is the same for all classes is left out."""
    return scores - scores[:, :1]


@pytest.mark.parametrize("number", [1, 2, 5])
def test_scores_without_groups_are_those_of_refits(number: int) -> None:
    data = parts()
    x, y = data.features.double().numpy(), data.labels.numpy()
    groups = left_out_groups(data.labels, 1, 4)
    found = ClassProxies(data, CPU).scores_without_groups(groups, number)
    for group, scores in zip(groups, found, strict=True):
        kept = np.setdiff1d(np.arange(len(x)), group.numpy())
        expected = proxy_scores(x[kept], y[kept], x[group.numpy()], number)
        np.testing.assert_allclose(relative(scores.numpy()), relative(expected), atol=1e-5)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_the_classifier_is_fitted_to_all_images(number: int) -> None:
    data = parts()
    (weight, intercept, centre), owners = ClassProxies(data, CPU).linear_map(number)
    linear = LinearClassifier(
        classes=data.classes, weight=weight.float(), intercept=intercept.float(), centre=centre.float(), owners=owners
    )
    new = np.random.default_rng(9).normal(size=(20, 6))
    expected = proxy_scores(data.features.double().numpy(), data.labels.numpy(), new, number)
    assert linear.rows_per_class == number
    np.testing.assert_allclose(relative(linear.scores(torch.from_numpy(new)).numpy()), relative(expected), atol=1e-4)


def test_one_proxy_is_the_class_centre() -> None:
    data = parts(each=1, apart=3)
    several, one = (left_out_scores(data, name, "cpu") for name in ("proxies", "ncc"))
    assert several.linear.rows_per_class == 1
    new = torch.randn(20, 6)
    expected = relative(one.linear.scores(new).numpy())
    np.testing.assert_allclose(relative(several.linear.scores(new).numpy()), expected, atol=1e-4)


@pytest.mark.parametrize(("each", "apart"), [(1, 1), (2, 2), (3, 2.5)])
def test_the_number_is_that_of_the_episodes_rule(each: int, apart: float) -> None:
    """With classes of equal size and groups taken in order, the choice is that of the loop by hand."""
    data = parts((20, 20, 20), each, apart)
    found = ClassProxies(data, CPU).best_number()
    x, y = data.features.double().numpy(), data.labels.numpy()
    order = np.empty(len(y), int)  # the rows of a fold must be those of a group
    groups = left_out_groups(data.labels, 1, class_proxies.FOLDS, class_proxies.CHOICE)
    for place, group in enumerate(groups):
        rows = group.numpy()
        for code in range(3):
            own = rows[y[rows] == code]
            order[code * 20 + place + 10 * np.arange(len(own))] = own
    assert found == number_of_proxies(x[order], y[order], (1, 2, 3, 4, 6, 8, 12, 16))


@pytest.mark.parametrize(("each", "taken"), [(1, 1), (2, 2)])
def test_more_proxies_are_taken_only_if_they_are_as_accurate(
    monkeypatch: pytest.MonkeyPatch, each: int, taken: int
) -> None:
    def two(left_out: Any, numbers: Any) -> torch.Tensor:  # whatever the losses are
        return torch.tensor([one for one in numbers if left_out.margins(one) is not None and one == 2])

    monkeypatch.setattr(class_proxies, "chosen_numbers", two)
    data = parts((30,) * 4, each, 2.5 if each == 2 else 1.0)
    assert ClassProxies(data, CPU).best_number() == taken


def test_classes_of_two_parts_get_two_proxies_and_a_better_head(tmp_path: Path) -> None:
    data, new = parts((30,) * 4, 2, 2.5), parts((400,) * 4, 2, 2.5, seed=1)
    heads = {name: fit(data, name).head for name in ("proxies", "ncc")}
    right = {name: (head.linear.scores(new.features).argmax(1) == new.labels) for name, head in heads.items()}
    assert heads["proxies"].linear.rows_per_class >= 2
    assert right["proxies"].double().mean() > right["ncc"].double().mean() + 0.03
    assert abs(heads["proxies"].promise.accuracy - float(right["proxies"].double().mean())) < 0.08
    probability = heads["proxies"].linear.probabilities(new.features).amax(dim=1)
    assert abs(float(probability.mean()) - float(right["proxies"].double().mean())) < 0.08
    heads["proxies"].save(tmp_path / "parts.head")
    assert (
        nct.load_head(tmp_path / "parts.head")
        .linear.scores(new.features[:5])
        .equal(heads["proxies"].linear.scores(new.features[:5]))
    )


def test_the_result_names_the_number() -> None:
    found = fit(parts((30,) * 4, 2, 2.5), "proxies")
    assert found.to_dict()["head"]["proxies_per_class"] == found.head.linear.rows_per_class >= 2
    assert fit(parts(), "ncc").to_dict()["head"]["proxies_per_class"] is None


def test_auto_leaves_proxies_to_who_asks_for_them() -> None:
    assert "proxies" not in {one.name for one in fit(parts(), "auto").candidates}


def test_a_class_with_few_different_images_has_fewer_proxies() -> None:
    data = set_of(normal_classes([20, 20], 4, apart=2.0, within=1.0), np.float32)
    rows = torch.cat([data.features, torch.zeros(5, 4)])
    small = FeatureSet.from_arrays(rows, [*"a" * 20, *"b" * 20, *"c" * 5])
    _, owners = ClassProxies(small, CPU).linear_map(4)
    assert owners.bincount().tolist() == [4, 4, 1]


def test_large_classes_are_clustered_by_some_of_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    data = parts((60, 80, 70), 2, 6)
    exact = ClassProxies(data, CPU).linear_map(2)[0].weight.sum(dim=1).sort().values
    groups = left_out_groups(data.labels, 1, 3)
    scores = torch.cat(list(ClassProxies(data, CPU).scores_without_groups(groups, 2)))
    monkeypatch.setattr(class_proxies, "MOST_CLUSTERED", 20)
    some = ClassProxies(data, CPU)
    found = some.linear_map(2)[0].weight.sum(dim=1).sort().values  # the order of proxies does not matter
    torch.testing.assert_close(found, exact)  # they are far apart, so that each image finds its own
    torch.testing.assert_close(torch.cat(list(some.scores_without_groups(groups, 2))), scores)
    mean = data.features.double()[data.labels == 0].mean(dim=0)
    torch.testing.assert_close(some.linear_map(1)[0].weight[0] + some.centre, mean)
