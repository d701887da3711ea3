"""From a race to a ranking: rows are about the rounds that count, and agree with each other."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from nctransfer.backbones.facts import BackboneFacts
from nctransfer.evaluation.all_ways import AllWaysTask, all_ways_accuracy
from nctransfer.evaluation.image_influence import common_draws
from nctransfer.evaluation.multiple_comparisons import compare_with_best
from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.debiased_measures import debiased_measures
from nctransfer.rank.clear_losers import behind_best, clear_losers
from nctransfer.rank.placing import ranking_of
from nctransfer.rank.race import race
from nctransfer.rank.running import Wishes
from nctransfer.report.rank_sheets import rank_sheets
from nctransfer.store.measured_speed import Speed, SpeedConditions

CLASSES, EACH = 3, 24
CONDITIONS = SpeedConditions(
    device="cpu", processor="EPYC", dtype="float32", batch_size=32, threads=2, workers=2, engine="torch", version="0"
)
TASK = AllWaysTask(shots=2)


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """A candidate whose features are there, of as many images per class as are asked for."""

    name: str
    given: FeatureSet
    is_control: bool = False
    how_fast: float | None = None

    def features(self, images: int | None) -> FeatureSet:
        rows = torch.arange(CLASSES * EACH)
        return self.given.only_rows(rows[rows % EACH < (images or EACH)])

    def facts(self) -> BackboneFacts:
        return BackboneFacts()

    def speed(self) -> Speed | None:
        if self.how_fast is None:
            return None
        return Speed(images=100, seconds=100 / self.how_fast, has_first_batch=False, conditions=CONDITIONS)


def candidate(name: str, noise: float) -> Fixed:
    rows = np.repeat(2 * np.eye(CLASSES, 6), EACH, axis=0)
    rows = rows + noise * np.random.default_rng(len(name)).normal(size=rows.shape)
    return Fixed(name=name, given=FeatureSet.from_arrays(rows.astype(np.float32), np.repeat(list("abc"), EACH)))


def ranking(candidates, calls: int | None = None, *, sizes=(8, EACH), task=TASK):
    """A ranking after a race in which there was time for so many measurements."""
    by_name, counter = {one.name: one for one in candidates}, itertools.count()
    finished = race(
        list(by_name),
        sizes,
        lambda name, images: all_ways_accuracy(by_name[name].features(images), task),
        keys=[(shots, "ridge") for shots in task.shots],
        has_time=lambda: calls is None or next(counter) < calls,
    )
    return ranking_of(
        finished, candidates, task, Wishes(targets=(0.9,), scores=True), class_sizes=[EACH] * CLASSES, data="data"
    )


def test_a_round_that_does_not_count_leaves_no_trace_in_the_rows():
    ones = [candidate("a", 1.5), candidate("bb", 1.5)]
    found = ranking(ones, calls=3)  # time for one of the two in the second round
    assert not found.is_complete
    assert [one.images_per_class for one in found.rounds] == [8]
    for one, row in zip(ones, sorted(found.candidates, key=lambda row: row.name), strict=True):
        assert row.place.images == 8
        assert row.cdnv_debiased == pytest.approx(debiased_measures(one.features(8)).cdnv_debiased)
        assert row.labels_needed[0.9].value is None or row.labels_needed[0.9].value < 8


def test_what_there_was_no_time_for_is_not_saved():
    ones = [candidate("a", 1.5), candidate("bb", 1.5)]
    stopped, whole = rank_sheets(ranking(ones, calls=5, sizes=(8, 16, EACH))), rank_sheets(ranking(ones))
    assert stopped[0].facts["race"] == "images per class (candidates): 8 (2), 16 (2)"
    assert whole[0].facts["race"] == "images per class (candidates): 8 (2), 24 (2); 0% of the image passes saved"


def test_scores_of_unequal_numbers_of_images_are_told_apart():
    found = ranking([candidate("a", 1.5), candidate("bb", 1.5), candidate("bad", 50)])
    assert [row.place.images for row in found.candidates] == [EACH, EACH, 8]
    sheet = next(one for one in rank_sheets(found) if "logme" in one.heads)
    assert sheet.heads[-1] == "images/class"
    assert [row[-1] for row in sheet.rows] == ["24", "24", "8"]
    whole = rank_sheets(replace(found, rounds=found.rounds[:1]))
    assert not any("images/class" in str(one.heads) for one in whole)


def test_the_best_may_be_behind_every_other_candidate_that_is_marked():
    several = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        rows = np.repeat(2.2 * np.eye(5, 12), 8, axis=0)
        rows = rows + 0.35 * rng.normal(size=rows.shape)
        labels, task = np.repeat(list("abcde"), 8), AllWaysTask(shots=1)
        sets = [rows + noise * rng.normal(size=rows.shape) for noise in (0.3, 0.5, 0.9, 1.3)]
        found = [all_ways_accuracy(FeatureSet.from_arrays(one, labels), task).estimates[1, "ridge"] for one in sets]
        kept = [not lost for lost in clear_losers(found, 0.975)]
        compared = behind_best(found, 0.975, kept)
        alone = [one.is_possible for one in compare_with_best(*common_draws(found), 0.975)]
        several += sum(kept) > 1 == sum(alone)
        for one in compared:
            assert one.low <= min(one.value, 0) <= 0 <= one.high
        if sum(kept) > 1:
            assert all(one.low < 0 for one, is_kept in zip(compared, kept, strict=True) if is_kept)
    assert several  # where one comparison alone would have left nobody but the best


def test_easy_images_do_not_bring_who_dropped_out_to_the_front():
    rng, first = np.random.default_rng(0), np.tile(np.arange(EACH) < 8, CLASSES)
    means, labels = np.repeat(4 * np.eye(CLASSES, 6), EACH, axis=0), np.repeat(list("abc"), EACH)
    good = np.where(first[:, None], means, 0) + rng.normal(size=means.shape)  # only its first images can be told apart
    bad = means * (rng.random(len(means)) < 0.65)[:, None] + rng.normal(size=means.shape)
    ones = [
        Fixed(name=name, given=FeatureSet.from_arrays(rows.astype(np.float32), labels), how_fast=speed)
        for name, rows, speed in [("good", good, 20), ("bad", bad, 10)]
    ]
    best, dropped = ranking(ones).candidates
    assert (best.name, best.place.images, dropped.place.images) == ("good", EACH, 8)
    assert dropped.place.accuracy > best.place.accuracy
    assert best.pareto
    assert not dropped.pareto
