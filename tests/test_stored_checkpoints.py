"""Stored sets that are checkpoints of one training, as a trajectory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nctransfer as nct
from clusters import labelled, normal_classes
from made_heads import some_key
from messages import raises
from nctransfer.checkpoints.stored_checkpoints import are_checkpoints, trajectory_of_sets
from nctransfer.errors import EpisodeError
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.features.feature_info import FeatureInfo

STEPS = (10, 2, 1)  # in the order in which the sets are given


def checkpoint(step: int, **info: Any) -> nct.FeatureSet:
    """Features whose classes vary less the later the step."""
    rows, labels = labelled(normal_classes([8] * 4, 6))
    noise = np.random.default_rng(step).normal(size=rows.shape)
    about: dict[str, Any] = {
        "model": "test_vit",
        "weights": f"epoch-{step}.safetensors (digest {step:08})",
        "data": "pets",
        "key": some_key(weights=f"{step:08}"),
    }
    about |= info
    return nct.FeatureSet.from_arrays(rows + 3 / step * noise, labels, info=FeatureInfo(f"set-{step}", **about))


@pytest.fixture(scope="module")
def sets() -> list[nct.FeatureSet]:
    return [checkpoint(step) for step in STEPS]


def test_sets_that_differ_in_their_weights_alone_are_checkpoints(sets: list[nct.FeatureSet]) -> None:
    assert are_checkpoints(sets)
    assert not are_checkpoints(sets[:1])
    assert not are_checkpoints([*sets, sets[0]])


@pytest.mark.parametrize(
    "info",
    [
        {"data": "cars"},
        {"split": "test"},
        {"layer": "layer_3"},
        {"key": some_key(model="other")},
        {"key": some_key(transform={"input_size": [3, 64, 64]})},
        {"key": None},
        {"weights": "random, seed 0 (digest 01234567)"},
    ],
)
def test_sets_that_differ_in_more_are_none(sets: list[nct.FeatureSet], info: dict[str, Any]) -> None:
    assert not are_checkpoints([*sets, checkpoint(3, **info)])


def test_points_are_in_the_order_of_their_steps(sets: list[nct.FeatureSet]) -> None:
    task = FewShotTask(ways=3, shots=2, queries=4, episodes=200, classifiers=("ncc", "ridge"), theory=False)
    found = trajectory_of_sets(sets, task, device="cpu")
    assert [point.step for point in found.points] == [1, 2, 10]
    assert [point.checkpoint for point in found.points] == [f"epoch-{step}.safetensors" for step in (1, 2, 10)]
    assert (found.model, found.transform) == ("test_vit", some_key().transform)
    for point, features in zip(found.points, reversed(sets), strict=True):
        assert point.reports["target"].cdnv == nct.collapse(features, device="cpu").cdnv
        alone = nct.fewshot(features, 3, 2, queries=4, episodes=200, classifiers=("ncc", "ridge"), device="cpu")
        assert [row.accuracy for row in point.fewshot.rows] == [row.accuracy for row in alone.rows]
    assert found.best()[0].checkpoint == "epoch-10.safetensors"


def test_weights_without_a_step_come_last_and_equal_names_keep_their_digests(sets: list[nct.FeatureSet]) -> None:
    task = FewShotTask(ways=2, shots=1, queries=4, episodes=50, classifiers="ncc", theory=False)
    best = checkpoint(4, weights="best.pth (digest 00000004)")
    found = trajectory_of_sets([best, *sets], task, device="cpu")
    assert [point.step for point in found.points] == [1, 2, 10, None]
    same = [checkpoint(step, weights=f"last.pth (digest {step:08})") for step in (1, 2)]
    named = trajectory_of_sets(same, task, device="cpu")
    assert [point.checkpoint for point in named.points] == ["last.pth (digest 00000001)", "last.pth (digest 00000002)"]


@pytest.mark.parametrize(("each", "shots", "queries"), [(30, (1, 5), 15), (8, (1, 5), 3), (4, (1,), 3), (2, (1,), 1)])
def test_the_usual_task_fits_the_smallest_class(each: int, shots: tuple[int, ...], queries: int) -> None:
    rows, labels = labelled(normal_classes([each, 30, 30], 6))
    fewer = [nct.FeatureSet.from_arrays(rows / step, labels, info=checkpoint(step).info) for step in (1, 2)]
    task = trajectory_of_sets(fewer, device="cpu").points[0].fewshot.task
    assert (task.ways, task.shots, task.queries) == ((3,), shots, queries)


def test_sets_of_other_images_are_refused(sets: list[nct.FeatureSet]) -> None:
    rows, _ = labelled(normal_classes([8] * 4, 6))
    other = nct.FeatureSet.from_arrays(rows, ["x"] * 32, info=sets[0].info)
    with raises(EpisodeError):
        trajectory_of_sets([sets[0], other], device="cpu")
