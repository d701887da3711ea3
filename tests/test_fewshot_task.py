"""A few-shot task: what it takes, what it refuses, and that it is one task however it is written."""

from __future__ import annotations

import dataclasses
import math
import pickle
from typing import Any

import numpy as np
import pytest

from clusters import normal_classes, set_of
from messages import says
from nctransfer.episodes.classifier import ClassifierSettings
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.errors import EpisodeError, SettingError
from nctransfer.evaluation.fewshot_accuracy import fewshot, run_fewshot
from nctransfer.evaluation.fewshot_plan import plan_episodes
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.intervals import INTERVALS


def test_defaults_are_those_of_fewshot() -> None:
    features = set_of(normal_classes([20] * 6))
    task = fewshot(features, episodes=20, device="cpu").task
    assert task == FewShotTask(episodes=20)
    assert (task.ways, task.shots, task.queries, task.classifiers) == ((5,), (1,), 15, ("ridge", "ncc"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"ways": 2}, {"ways": [2]}),
        ({"ways": ("all", 5, 2, 5)}, {"ways": (2, 5, "all")}),
        ({"shots": (5, 1, 5)}, {"shots": np.array([1, 5])}),
        ({"shots": range(1, 3)}, {"shots": {2: "", 1: ""}}),
        ({"queries": np.int64(7)}, {"queries": 7}),
        ({"seed": np.int32(3)}, {"seed": 3}),
        ({"classifiers": "ncc"}, {"classifiers": ["ncc", "ncc"]}),
        ({"classifiers": "all"}, {"classifiers": tuple(CLASSIFIERS)}),
    ],
    ids=str,
)
def test_one_task_however_it_is_written(one: dict[str, Any], other: dict[str, Any]) -> None:
    task = FewShotTask(**one)
    assert task == FewShotTask(**other)
    assert hash(task) == hash(dataclasses.replace(task))
    assert pickle.loads(pickle.dumps(task)) == task != FewShotTask(episodes=9)


def test_all_classifiers_keep_the_order_of_the_registry() -> None:
    assert FewShotTask(classifiers="all").classifiers == tuple(CLASSIFIERS)
    assert FewShotTask(classifiers=("knn", "ncc")).classifiers == ("knn", "ncc")


@pytest.mark.parametrize(
    ("given", "facts", "hint"),
    [
        ({"ways": ()}, ["ways"], ""),
        ({"shots": []}, ["shots"], ""),
        ({"classifiers": []}, ["classifiers"], ""),
        ({"ways": (5, 1)}, ["ways", 1], "--ways"),
        ({"shots": (0, 5)}, ["shots", 0], "--shots"),
        ({"queries": 0}, ["queries", 0], "--queries"),
        ({"seed": -1}, ["seed", -1], "--seed"),
        ({"episodes": 1}, ["episodes", 1], "--episodes"),
        ({"precision": -0.1}, ["precision", -0.1], "--precision"),
        ({"precision": math.nan}, ["precision", "nan"], "--precision"),
        ({"interval": "sampels"}, ["'sampels'"], ["--interval", *INTERVALS]),
        ({"interval": "disjoint", "queries": "all"}, ["queries"], "--queries"),
        ({"classifiers": ["ncc", "svm"]}, ["'svm'"], ["--classifier", *CLASSIFIERS]),
        ({"ridge_lambda": "gcv"}, ["'gcv'", "'loo'", "'paper'"], "--ridge-lambda"),
        ({"ridge_lambda": None}, ["None"], "--ridge-lambda"),
        ({"ridge_lambda": 0}, [0], "--ridge-lambda"),
        ({"ridge_lambda": math.nan, "classifiers": "ncc"}, ["nan"], "--ridge-lambda"),
        ({"ridge_lambda": "loo", "shots": (1, 5)}, [1, 2], "--ridge-lambda"),
    ],
    ids=str,
)
def test_what_is_no_task_cannot_be_made(given: dict[str, Any], facts: list[object], hint: str | list[str]) -> None:
    with pytest.raises(SettingError) as error:
        FewShotTask(**given)
    says(error, *facts, hint=hint)
    assert error.value.hint


def test_only_a_chosen_classifier_refuses_settings() -> None:
    assert FewShotTask(ridge_lambda="loo", shots=1, classifiers="ncc").ridge_lambda == "loo"
    assert FewShotTask(ridge_lambda="loo", shots=2, classifiers="ridge").shots == (2,)


@pytest.mark.parametrize("given", [{"ways": 2.5}, {"shots": "1"}, {"queries": 1.5}, {"center_on": None}], ids=str)
def test_what_is_of_no_type_is_an_error_too(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        FewShotTask(**given)


def test_a_task_cannot_be_changed() -> None:
    task = FewShotTask()
    for name in ("ways", "seed"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(task, name, 3)
    with pytest.raises(TypeError):
        FewShotTask(5)  # type: ignore[misc]


def test_what_classifiers_need_of_a_task() -> None:
    task = FewShotTask(shots=(5, 2), ridge_lambda=3.0, queries="all", seed=4)
    assert task.classifier_settings() == ClassifierSettings(shots=2, ridge_lambda=3.0)
    assert task.classifier_settings(has_reference_mean=True).has_reference_mean
    assert task.spec(3) == EpisodeSpec(3, 5, None, 4)


def test_the_plan_fits_a_task_to_classes() -> None:
    features = set_of(normal_classes([20, 3, 20, 20]))
    task = FewShotTask(ways=("all", 2), shots=(1, 4), queries=5, drop_small=True)
    plan = plan_episodes(task, features)
    assert len(plan.features.classes) == 3
    assert plan.dropped == (features.classes[1],)
    assert [spec.ways for spec in plan.specs] == [2, 3]
    assert {spec.shots for spec in plan.specs} == {4}
    with pytest.raises(EpisodeError):
        plan_episodes(dataclasses.replace(task, drop_small=False), features)


def test_fewshot_runs_the_task_that_it_makes() -> None:
    features = set_of(normal_classes([20] * 6))
    given: dict[str, Any] = {"ways": (2, 3), "shots": (1, 2), "classifiers": "all", "l2_normalise": True, "seed": 2}
    task = FewShotTask(**given, episodes=20)
    found = run_fewshot(features, task, center_on=features, device="cpu")
    same = fewshot(features, **given, episodes=20, center_on=features, device="cpu")
    assert found.task == same.task == task
    assert [row.accuracy for row in found.rows] == [row.accuracy for row in same.rows]
    assert found.settings["center_on"] == features.info.id
    assert found.settings["l2_normalise"] is True
