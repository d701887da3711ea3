"""Heads in another order are said to be; right heads never are, whatever the data."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from clusters import normal_classes, set_of
from messages import only
from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse import linear_head
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.collapse_report import CollapseReport, collapse
from nctransfer.neural_collapse.head_order import best_order
from nctransfer.neural_collapse.linear_head import LinearHead

D = 24


def samples(classes: int, each: int, apart: float, draw: int = 0) -> FeatureSet:
    return set_of(normal_classes([each] * classes, D, apart=apart, seed=classes, draw=draw), np.float32)


def head_for(features: FeatureSet) -> LinearHead:
    return LinearHead.ridge(ClassStatistics.of(features, "cpu"), "others")


def in_order(head: LinearHead, order: Sequence[int]) -> LinearHead:
    return LinearHead(head.weight[list(order)], head.bias[list(order)], "another order")


def shifted(features: FeatureSet, strength: float, seed: int = 0) -> FeatureSet:
    """The samples as another domain would have them: stretched, turned and moved."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(D) + strength * rng.normal(size=(D, D)) / np.sqrt(D)
    rows = features.features.numpy() @ matrix + strength * rng.normal(size=D)
    return FeatureSet.from_arrays(rows, [features.classes[label] for label in features.labels])


def about_head(report: CollapseReport) -> list[str]:
    """The notes on a head that is not right."""
    found = [note for note in report.notes if re.search("the head agrees|the head seem", note)]
    assert len(found) <= 1
    return found


CASES = list(itertools.product((2, 3, 5, 20), (2, 4, 12), (0.0, 0.3, 0.6, 1.0, 2.0)))  # classes, samples, distance


# No false alarm


@pytest.mark.parametrize(("classes", "each", "apart"), CASES)
def test_a_right_head_is_never_doubted(classes: int, each: int, apart: float) -> None:
    """Fitted on the samples themselves or on others, on this domain and on one nearby, from chance to certainty."""
    for draw in range(3):
        features, others = samples(classes, each, apart, draw), samples(classes, 30, apart, draw=99)
        own = head_for(others)
        assert about_head(collapse(features, head="ridge", device="cpu")) == []
        assert about_head(collapse(features, head=own, device="cpu")) == []
        assert about_head(collapse(shifted(features, 0.5, draw), head=own, device="cpu")) == []


# Another order


def orders(classes: int) -> Iterator[tuple[int, ...]]:
    """Every other order of few classes; some of many."""
    if classes <= 4:
        yield from list(itertools.permutations(range(classes)))[1:]
    else:
        for seed in range(5):
            yield tuple(np.random.default_rng(seed).permutation(classes).tolist())
        yield (1, 0, *range(2, classes))  # two classes are exchanged
        yield (*range(1, classes), 0)  # one row too far


@pytest.mark.parametrize("classes", [2, 3, 4, 10, 40])
def test_another_order_is_always_found(classes: int) -> None:
    features, head = samples(classes, 12, 1.5), head_for(samples(classes, 30, 1.5, draw=5))
    for order in orders(classes):
        [note] = about_head(collapse(features, head=in_order(head, order), device="cpu"))
        moved = sum(row != place for place, row in enumerate(order))
        only([note], moved, classes, "--head-names")
        # row r of the head in this order is that of class order[r]
        [(row, right, wrong)] = re.findall(r"row (\d+) .* to be '(\d+)', not '(\d+)'", note)
        assert (order[int(row)], int(row)) == (int(right), int(wrong))


@pytest.mark.parametrize("apart", [0.3, 0.4, 0.6])
def test_another_order_of_classes_that_overlap(apart: float) -> None:
    """Where nearest centres reach but 50 to 95%."""
    features, head = samples(6, 30, apart), head_for(samples(6, 60, apart, draw=5))
    assert 0.45 < collapse(features).ncc_accuracy < 0.97
    for seed in range(8):
        order = np.roll(np.random.default_rng(seed).permutation(6), 1).tolist()
        if order != sorted(order):
            assert about_head(collapse(features, head=in_order(head, order), device="cpu"))


def test_numbers_of_rows_are_those_of_the_whole_head() -> None:
    """A data set of three of the head's eight classes, under names that go round."""
    whole, features = head_for(samples(8, 30, 1.5, draw=5)), samples(8, 12, 1.5)
    few = features.only_classes(torch.tensor([2, 4, 7]))
    names = [f"{code:04}" for code in range(8)]
    assert about_head(collapse(few, head=whole, head_names=names, device="cpu")) == []
    names[2], names[4], names[7] = names[4], names[7], names[2]
    [note] = about_head(collapse(few, head=whole, head_names=names, device="cpu"))
    [(row, right, wrong)] = re.findall(r"row (\d+) .* to be '(\d+)', not '(\d+)'", note)
    assert (int(row), names[int(row)]) == (int(right), wrong)


# A head of nothing here


@pytest.mark.parametrize("kind", ["random", "one answer"])
def test_a_head_that_knows_nothing(kind: str) -> None:
    features = samples(10, 20, 1.5)
    weight = torch.randn(10, D, generator=torch.Generator().manual_seed(0)) * (kind == "random")
    report = collapse(features, head=LinearHead(weight, torch.arange(10.0), "nowhere"), device="cpu")
    [note] = about_head(report)
    only([note], f"{report.ncc_agreement:.0%}", f"{report.ncc_accuracy:.0%}")
    assert "--head-names" not in note


def test_where_nearest_centres_fail_a_head_is_not_judged() -> None:
    report = collapse(
        samples(5, 20, 0.0),
        head=LinearHead(torch.randn(5, D, generator=torch.Generator().manual_seed(0)), torch.zeros(5), "x"),
        device="cpu",
    )
    assert about_head(report) == []


def test_answers_of_very_many_classes_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_head, "MOST_CLASSES", 9)
    features, head = samples(10, 12, 1.5), head_for(samples(10, 30, 1.5, draw=5))
    assert about_head(collapse(features, head=head, device="cpu")) == []
    [note] = about_head(collapse(features, head=in_order(head, [*range(1, 10), 0]), device="cpu"))
    assert "--head-names" not in note


def test_the_best_order_is_that_of_all_orders() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        answers = rng.integers(30, size=(5, 5))
        found = answers[range(5), best_order(torch.from_numpy(answers))].sum()
        assert found == max(answers[range(5), list(order)].sum() for order in itertools.permutations(range(5)))
