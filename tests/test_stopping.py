"""Stopping early: where drawing may stop, what is precise enough, and that nothing else changes."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from clusters import normal_classes, set_of
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.sampling import sample
from nctransfer.evaluation import prior_draws
from nctransfer.evaluation.fewshot_accuracy import fewshot, run_fewshot
from nctransfer.evaluation.fewshot_comparison import run_comparison
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.evaluation.stopping import LEAST, StoppingRule, half_width, sizes
from nctransfer.features.feature_set import FeatureSet
from nctransfer.report.fewshot_sheets import fewshot_sheets

TASK = FewShotTask(
    ways="all", shots=(1, 2), queries=5, episodes=3000, precision=0.4, classifiers=("ncc", "knn"), theory=False
)


def features(apart: float = 0.7, draw: int = 0, classes: int = 6) -> FeatureSet:
    return set_of(normal_classes([20] * classes, apart=apart, draw=draw), np.float32)


def numbers(task: FewShotTask, one: FeatureSet | None = None, **more: Any) -> list[int]:
    return [row.episodes for row in run_fewshot(one or features(), task, device="cpu", **more).rows]


@pytest.mark.parametrize("episodes", [2, 499, 500, 501, 10_000, 123_456])
def test_sizes_are_few_and_end_with_all_episodes(episodes: int) -> None:
    found = list(sizes(episodes))
    assert found[-1] == episodes
    assert found == sorted(set(found))
    assert len(found) == 1 or found[0] >= LEAST
    assert len(found) <= 3 + 2 * max(0.0, math.log2(episodes / LEAST))
    assert list(sizes(episodes, 2000)) == [size for size in found if size >= 2000] or [episodes]


def test_drawing_stops_at_the_first_size_at_which_every_row_is_precise() -> None:
    whole = run_fewshot(features(), dataclasses.replace(TASK, precision=0), device="cpu")
    precise = [
        size
        for size in sizes(TASK.episodes)
        if all(196 * float(np.std(one[:size].numpy(), ddof=1)) / size**0.5 < 0.4 for one in whole.accuracies.values())
    ]
    assert LEAST < precise[0] < TASK.episodes  # the example says something
    found = run_fewshot(features(), TASK, device="cpu")
    assert {row.episodes for row in found.rows} == {precise[0]}
    for row in found.rows:
        assert torch.equal(found.accuracies[row.key], whole.accuracies[row.key][: precise[0]])
        assert row.accuracy == pytest.approx(float(whole.accuracies[row.key][: precise[0]].mean()), rel=1e-12)
        assert row.ci95 is not None
        assert row.ci95 < 0.004
    exact = run_fewshot(features(), dataclasses.replace(TASK, precision=0, episodes=precise[0]), device="cpu")
    for key, counts in found.counts.items():
        assert torch.equal(counts.asked, exact.counts[key].asked)
        assert torch.equal(counts.right, exact.counts[key].right)
        assert counts.taken is not None
        assert torch.equal(counts.taken, exact.counts[key].taken)


@pytest.mark.parametrize("queries", [5, "all"])
def test_every_number_of_shots_stops_by_itself(queries: Any) -> None:
    one_set = features(2.0)
    task = dataclasses.replace(TASK, shots=(1, 5), queries=queries, classifiers="ncc", precision=0.35)
    found = run_fewshot(one_set, task, device="cpu")
    one, five = (found.accuracies[6, shots, "ncc"] for shots in (1, 5))
    assert LEAST <= min(len(one), len(five)) < max(len(one), len(five)) == len(found.drawn[6])
    for shots, values in ((1, one), (5, five)):
        whole = run_fewshot(one_set, dataclasses.replace(task, precision=0), device="cpu")
        assert torch.equal(values, whole.accuracies[6, shots, "ncc"][: len(values)])
        assert torch.equal(found.drawn[6], whole.drawn[6][: len(found.drawn[6])])
    table = found.episodes_table().to_pandas()
    assert table.groupby("shots").size().to_dict() == {1: len(one), 5: len(five)}
    more = run_fewshot(one_set, task, device="cpu", at_least={(6, 1): 2800, (6, 5): 2800}, before=found)
    assert {row.episodes for row in more.rows} == {2800}
    assert len(more.drawn[6]) == 2800
    for key, values in more.accuracies.items():
        assert torch.equal(values, whole.accuracies[key][:2800])


def test_the_number_does_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = numbers(TASK)
    monkeypatch.setattr(prior_draws.PriorDraws, "_batch_size", lambda *_: 37)
    assert numbers(TASK) == expected


def test_precision_zero_draws_all_episodes_and_so_does_5_way() -> None:
    assert set(numbers(dataclasses.replace(TASK, precision=0))) == {3000}
    assert fewshot(features(), queries=15, episodes=3000, classifiers="ncc", device="cpu").rows[0].episodes == 3000


def test_every_number_of_ways_stops_by_itself() -> None:
    task = dataclasses.replace(TASK, ways=(2, "all"), precision=0.7)
    found = {row.ways: row.episodes for row in run_fewshot(features(), task, device="cpu").rows}
    assert found[6] < found[2]


def test_accuracies_that_do_not_vary_say_nothing_of_rare_failures() -> None:
    rule = StoppingRule(precision=1, ways=4)
    values = torch.ones(500, dtype=torch.float64)
    assert half_width(values) == 0
    assert not rule.is_met([values])
    values[7] = 0.9
    assert 100 * half_width(values) < 0.05
    assert not rule.is_met([values])
    assert rule.is_met([1 - 0.1 * (torch.arange(500).double() % 4 == 0)])


def test_differences_may_be_zero_throughout_but_must_be_precise() -> None:
    rule = StoppingRule(precision=1, ways=4)
    assert rule.is_met_by_differences([torch.zeros(500)])
    assert not rule.is_met_by_differences([torch.zeros(500), torch.arange(500) % 2 - 0.5])
    assert not StoppingRule(precision=0).is_met_by_differences([torch.zeros(500)])


def test_intervals_over_classes_are_not_widened_by_stopping() -> None:
    # the draw of episodes adds √(w (C − 1) / (C − w)) times the half-width over episodes to them
    task = dataclasses.replace(TASK, ways=4, precision=0.6)
    by_episodes = numbers(task)[0]
    by_classes = numbers(dataclasses.replace(task, interval="classes"))[0]
    assert by_episodes < by_classes == 3000
    inflated = numbers(dataclasses.replace(task, precision=0.6 / math.sqrt(4 * 5 / 2)))[0]
    assert inflated == by_classes


def test_tenths_are_left_out_of_no_other_episodes_than_were_drawn() -> None:
    many = set_of(normal_classes([20] * 60, 4, apart=0.5), np.float32)
    task = dataclasses.replace(TASK, ways=20, shots=1, classifiers="ncc", interval="samples", precision=5)
    found = run_fewshot(many, task, device="cpu")
    [left_out] = found.left_out.values()
    assert left_out.shape[1] == 16 * 1200 // 20 == 960 < found.rows[0].episodes == 1000
    always = run_fewshot(many, dataclasses.replace(task, precision=0), device="cpu")
    assert torch.equal(left_out, next(iter(always.left_out.values())))


def test_disjoint_episodes_never_stop_early() -> None:
    many = set_of(normal_classes([3000] * 3, 2, apart=0.5), np.float32)
    task = FewShotTask(ways=2, queries=1, episodes=2000, interval="disjoint", precision=50, theory=False)
    assert set(numbers(task, many)) == {2000}


def test_a_result_can_be_continued() -> None:
    one = features()
    first = run_fewshot(one, TASK, device="cpu")
    more = run_fewshot(one, TASK, device="cpu", at_least={(6, 1): 2800, (6, 2): 2800}, before=first)
    same = run_fewshot(one, TASK, device="cpu", at_least={(6, 1): 2800, (6, 2): 2800})
    assert first.rows[0].episodes < 2800 == more.rows[0].episodes
    for row, other in zip(more.rows, same.rows, strict=True):
        assert dataclasses.replace(row, seconds=0.0) == dataclasses.replace(other, seconds=0.0)
    assert torch.equal(more.drawn[6], same.drawn[6])
    for key, counts in more.counts.items():
        for name in ("asked", "right", "together", "taken"):
            assert torch.equal(getattr(counts, name), getattr(same.counts[key], name))


def test_it_is_said_how_many_episodes_were_drawn_and_why() -> None:
    found = run_fewshot(features(), TASK, device="cpu")
    drawn = found.rows[0].episodes
    facts = fewshot_sheets(found)[0].facts
    assert f"{drawn:,} episodes" in facts["task"]
    assert "--precision 0.4" in facts["stopped"]
    assert "3,000" in facts["stopped"]
    data = found.to_dict()
    assert {row["episodes"] for row in data["results"]} == {drawn}
    assert (data["settings"]["max_episodes"], data["settings"]["precision"]) == (3000, 0.4)
    whole = run_fewshot(features(), dataclasses.replace(TASK, precision=0), device="cpu")
    assert "stopped" not in fewshot_sheets(whole)[0].facts


def test_theory_of_a_continued_result_stays() -> None:
    one, task = features(), dataclasses.replace(TASK, classifiers="ncc", shots=1, theory=True)
    first = run_fewshot(one, task, device="cpu")
    more = run_fewshot(one, task, device="cpu", at_least={(6, 1): 2800, (6, 2): 2800}, before=first)
    assert more.rows[0].bounds == first.rows[0].bounds
    assert more.rows[0].expected_accuracy == first.rows[0].expected_accuracy is not None


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_sets_of_a_comparison_meet_the_same_episodes_in_whatever_order(order: tuple[int, ...]) -> None:
    sets = [features(apart) for apart in (0.2, 0.7, 2.0)]
    task = dataclasses.replace(TASK, shots=1, classifiers="ncc", precision=0.5)
    alone = [numbers(task, one, for_comparison=True)[0] for one in sets]
    found = run_comparison({str(place): sets[place] for place in order}, task, device="cpu")
    drawn = {row.episodes for result in found.results.values() for row in result.rows}
    assert min(alone) < max(alone)
    assert len(drawn) == 1
    assert max(alone) <= drawn.pop() < 3000


def test_a_comparison_goes_on_until_its_difference_is_precise() -> None:
    # where two sets are right in different episodes, their difference varies more than each of them
    one, other = features(draw=1), features(draw=2)
    task = dataclasses.replace(TASK, shots=1, classifiers="ncc", precision=0.5)
    found = run_comparison({"one": one, "other": other}, task, device="cpu")
    a, b = (next(iter(result.accuracies.values())) for result in found.results.values())
    alone = max(numbers(task, each, for_comparison=True)[0] for each in (one, other))
    assert len(a) == len(b) > alone
    assert 100 * half_width(a - b) < 0.5 < 100 * half_width(a[:alone] - b[:alone])


@pytest.mark.parametrize("most", [37, 1024])
def test_batches_may_begin_and_end_where_it_is_asked(most: int) -> None:
    one, spec = features(), EpisodeSpec(3, 1, 2)
    whole = torch.cat([batch.support for batch in sample(one, spec, 2500)])
    batches = list(sample(one, spec, 2500, most=most, first=600, ends=(500, 700, 1024, 2000, 4000)))
    assert torch.equal(torch.cat([batch.support for batch in batches]), whole[600:])
    assert max(map(len, batches)) <= most
    assert {700, 1024, 2000, 2048, 2500} <= set(np.cumsum([600, *map(len, batches)]))


def test_accuracies_that_are_all_equal_go_on() -> None:
    for value in (0.6, 2 / 3, 0.8, 0.9):
        assert not StoppingRule(precision=100).is_met([torch.full((700,), value, dtype=torch.float64)])


@pytest.mark.parametrize(("ways", "enough"), [(2, 12_000), (5, 4800), (81, 297)])
def test_a_sample_that_spoils_its_class_must_have_had_its_chance(ways: int, enough: int) -> None:
    values = 1 - 1e-5 * torch.tensor([0.0, 1.0] * (enough // 2 + 1), dtype=torch.float64)
    rule = StoppingRule(precision=0.05, ways=ways)
    assert rule.is_met([values])
    assert not rule.is_met([values[: len(values) - 6]])


def test_a_wrong_label_does_not_hide_behind_many_good_episodes() -> None:
    """One of 400 episodes loses two of five classes; the others vary little."""
    generator = np.random.default_rng(0)
    missed = 0
    for _ in range(40):
        values = torch.from_numpy(
            1 - generator.binomial(75, 0.003, 10_000) / 75 - 0.4 * (generator.random(10_000) < 1 / 400)
        )
        rule = StoppingRule(precision=0.05, ways=5)
        size = next(size for size in sizes(10_000) if size == 10_000 or rule.is_met([values[:size]]))
        missed += abs(float(values[:size].mean()) - (1 - 0.003 - 0.4 / 400)) > half_width(values[:size])
    assert missed <= 8
