"""Collapse and few-shot accuracy of a training, checkpoint by checkpoint."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import spearmanr

import nctransfer as nct
import tiny
from messages import logged, only, raises
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.request import BackboneRequest
from nctransfer.checkpoints import following
from nctransfer.checkpoints.files import find_checkpoints, steps
from nctransfer.checkpoints.following import follow, trajectory
from nctransfer.checkpoints.rehearsal import rehearse
from nctransfer.checkpoints.samples import samples_of
from nctransfer.checkpoints.trajectory_result import Trajectory, rank_correlations
from nctransfer.errors import (
    BrokenImagesError,
    DataError,
    EpisodeError,
    FeaturesError,
    ModelError,
    NCTransferError,
    SettingError,
    WeightsError,
)
from nctransfer.evaluation.fewshot_accuracy import fewshot, run_fewshot
from nctransfer.evaluation.fewshot_comparison import find_possible_bests
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.collapse_report import collapse
from nctransfer.neural_collapse.comparisons import compare_samples
from nctransfer.neural_collapse.registry import MEASURES, correlated_measures
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.extraction import extract_to_store
from nctransfer.store.pipeline import Runtime
from terminal import missing

MODEL = "test_resnet"
TASK = {"ways": 2, "shots": (1, 2), "queries": 3, "episodes": 30}
SMALL = {"img_size": 32, "ways": 2, "shots": 1, "queries": 3, "episodes": 30, "theory": False}
"""A small task at a small size, quickly."""
NEW, TRAINED = ("c2", "c3", "c4"), ("c0", "c1")


@functools.cache
def weights(seed: int) -> tiny.State:
    return tiny.state_of(MODEL, seed)


def save(path: Path, seed: int, scale: float = 1.0) -> Path:
    """A checkpoint of random weights, as its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor * scale if scale != 1 else tensor for name, tensor in weights(seed).items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": seed}, path)
    return path


def write_splits(root: Path, each: int = 7) -> Path:
    """Five classes, and of each other images in ``train`` than in ``test``."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number in range(5):
        chosen = digits.images[digits.target == number]
        for split, images in (("train", chosen[:each]), ("test", chosen[each : 2 * each])):
            folder = root / split / f"c{number}"
            folder.mkdir(parents=True)
            for index, pixels in enumerate(images):
                Image.fromarray((pixels * (255 / 16)).round().astype("uint8")).save(folder / f"{index}.png")
    return root


def own(checkpoint: Path, data: Path, cache: Path, **selection: Any) -> FeatureSet:
    """The features of one checkpoint, by themselves."""
    return nct.extract(MODEL, data, checkpoint=checkpoint, img_size=32, cache_dir=cache, **selection)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and a training of three checkpoints."""
    root = tmp_path_factory.mktemp("originals")
    write_splits(root / "data")
    for name, seed in (("epoch-1.safetensors", 1), ("epoch-9.safetensors", 9), ("epoch-10.pth", 10)):
        save(root / "run" / name, seed)
    return root


@pytest.fixture
def data(originals: Path, tmp_path: Path) -> Path:
    return shutil.copytree(originals / "data", tmp_path / "data")


@pytest.fixture
def training(originals: Path, tmp_path: Path) -> Path:
    return shutil.copytree(originals / "run", tmp_path / "run")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, two checkpoints, and a cache."""
    root = tmp_path_factory.mktemp("home")
    write_splits(root / "data")
    save(root / "run" / "epoch-1.safetensors", 1)
    save(root / "run" / "epoch-2.pth", 2)
    return root


@pytest.fixture(scope="module")
def followed(home: Path) -> Trajectory:
    """With the samples of the source."""
    return trajectory(
        MODEL,
        home / "run",
        home / "data",
        split="test",
        classes=NEW,
        source_classes=TRAINED,
        cache_dir=home / "cache",
        img_size=32,
        **TASK,
    )


# Which checkpoints


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


@pytest.mark.parametrize(
    "ordered",
    [
        ["epoch-1.pth", "epoch-2.pth", "epoch-9.pth", "epoch-10.pth", "epoch-100.pth"],
        ["epoch=0-step=100.ckpt", "epoch=0-step=1000.ckpt", "epoch=2-step=50.ckpt", "epoch=10-step=20.ckpt"],
        ["vit_16-1.safetensors", "vit_16-12.pt", "vit_16-100.bin"],
        ["9.pth", "10.pth", "a-1.pth"],
    ],
)
def test_checkpoints_go_by_the_numbers_in_their_names(tmp_path: Path, ordered: list[str]) -> None:
    touch(tmp_path, *ordered)
    assert names(find_checkpoints(tmp_path)) == ordered
    assert names(find_checkpoints([tmp_path / name for name in reversed(ordered)])) == ordered
    assert names(find_checkpoints(str(tmp_path / "*"))) == ordered


def test_of_a_folder_its_checkpoints_are_taken(tmp_path: Path) -> None:
    kept = ["1.safetensors", "2.pth", "3.pt", "4.ckpt", "5.pth.tar", "6.bin"]
    touch(tmp_path, *kept, "log.txt", "args.yaml", "7.tar", "pth", "deeper/8.pth")
    (tmp_path / "9.pth").mkdir()
    assert names(find_checkpoints(tmp_path)) == kept
    assert names(find_checkpoints(str(tmp_path))) == kept


def test_a_pattern_takes_what_fits(tmp_path: Path) -> None:
    touch(tmp_path, "a/epoch-1.pth", "a/epoch-2.pth", "a/b/epoch-3.pth", "a/other-4.pth", "a/epoch-5.weights")
    assert names(find_checkpoints(str(tmp_path / "a" / "epoch-*"))) == ["epoch-1.pth", "epoch-2.pth", "epoch-5.weights"]
    every = names(find_checkpoints(tmp_path / "a" / "**" / "epoch-?.pth"))
    assert sorted(every) == ["epoch-1.pth", "epoch-2.pth", "epoch-3.pth"]


def test_a_named_file_is_taken_whatever_its_name(tmp_path: Path) -> None:
    odd = ["epoch[1].pth", "what?.pth", "star*.pth", "two words.pth", "naïve $x$ 模型.weights", "-3"]
    touch(tmp_path, *odd, "epoch1.pth", "whatx.pth", "starry.pth")
    for name in odd:
        assert names(find_checkpoints(tmp_path / name)) == [name]
    assert sorted(names(find_checkpoints(tmp_path / name for name in odd))) == sorted(odd)


def test_what_is_meant_twice_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "epoch-1.pth", "epoch-2.pth")
    monkeypatch.chdir(tmp_path)
    found = find_checkpoints(["epoch-2.pth", tmp_path, "epoch-*.pth", tmp_path / "epoch-1.pth", "./epoch-1.pth"])
    assert found == (tmp_path / "epoch-1.pth", tmp_path / "epoch-2.pth")


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "run/epoch-1.pth")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_checkpoints("~/run/*.pth") == find_checkpoints("~/run") == (tmp_path / "run" / "epoch-1.pth",)


@pytest.mark.parametrize("given", ["none.pth", "epoch-*.pt", "empty", "not/there/", "a\0b.pth"])
def test_what_is_not_there_is_named(tmp_path: Path, given: str) -> None:
    touch(tmp_path, "epoch-1.pth", "empty/log.txt")
    with pytest.raises(WeightsError) as caught:
        find_checkpoints([tmp_path / "epoch-1.pth", f"{tmp_path}/{given}"])
    assert repr(f"{tmp_path}/{given}") in caught.value.message
    assert "*.safetensors" in caught.value.hint  # what a pattern looks like


@pytest.mark.parametrize("given", [f"{'x' * 300}.pth", "~nobody-of-this-name/x.pth"])
def test_what_cannot_be_a_file_is_not_there(given: str) -> None:
    with pytest.raises(WeightsError):
        find_checkpoints(given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["epoch-1.pth", "epoch-12.pth", "epoch-003.pth"], [1, 12, 3]),
        (["epoch=0-step=100.ckpt", "epoch=0-step=200.ckpt"], [100, 200]),
        (["epoch=0-step=100.ckpt", "epoch=1-step=100.ckpt"], [0, 1]),
        (["epoch=1-step=300.ckpt", "epoch=2-step=100.ckpt"], [1, 2]),
        (["seed1/epoch-5.pth", "seed1/epoch-6.pth"], [5, 6]),
        (["resnet50-1.safetensors", "resnet50-2.pth"], [1, 2]),
        (["1-5.pth", "1-6.pth", "2-6.pth"], [None, None, None]),
        (["epoch-1.pth", "last.pth"], [1, None]),
        (["epoch-1.pth", "epoch-2.pth", "best.pth"], [1, 2, None]),
        (["best.pth", "1-5.pth", "1-6.pth", "last.pth"], [None, 5, 6, None]),
        (["a.pth", "b.pth"], [None, None]),
        (["epoch-7.pth"], [7]),
        (["vit_16-epoch-7.pth"], [None]),
        (["20240101000000123456-1.pth", "20240101000000123457-2.pth"], [1, 2]),
        (["best.pth"], [None]),
        ([], []),
    ],
)
def test_the_step_is_the_first_number_that_tells_all_apart(given: list[str], expected: list[int | None]) -> None:
    assert steps(given) == expected


# The numbers


def test_every_number_is_that_of_the_checkpoint_by_itself(followed: Trajectory, home: Path, tmp_path: Path) -> None:
    frame = followed.to_frame()
    assert frame["checkpoint"].tolist() == ["epoch-1.safetensors", "epoch-2.pth"]
    for row in frame.to_dict("records"):
        path = home / "run" / row["checkpoint"]
        target = own(path, home / "data", tmp_path, split="test", classes=NEW)
        samples = [own(path, home / "data", tmp_path, split=split, classes=TRAINED) for split in ("train", "test")]
        reports = compare_samples(target, *samples).reports
        for sample, prefix in (("target", ""), ("source-train", "source_train_"), ("source-test", "source_test_")):
            assert row[f"{prefix}samples"] == reports[sample].features.samples
            assert row[f"{prefix}classes"] == reports[sample].features.classes
            for name, value in reports[sample].metrics.items():
                found = row[f"{prefix}{name}"]
                assert found == pytest.approx(value, rel=1e-3, abs=1e-5) if value is not None else pd.isna(found)
        expected = fewshot(target, (2,), (1, 2), queries=3, episodes=30)
        assert [one.classifier for one in expected.rows].count("ncc") == 2
        for one in expected.rows:
            task = f"{one.classifier}_2way_{one.shots}shot"
            assert row[task] == pytest.approx(one.accuracy, abs=0.02)
            assert row[f"{task}_ci95"] == pytest.approx(one.ci95, abs=0.01)
            if one.classifier == "ncc":
                assert row[f"{task}_expected"] == pytest.approx(one.expected_accuracy, abs=0.02)
                assert {f"{task}_{name}" for name in one.bounds} <= row.keys()
                for name, bound in one.bounds.items():
                    found = row[f"{task}_{name}"]
                    value = bound["value"]
                    assert pd.isna(found) if value is None else found == pytest.approx(value, rel=1e-3)
    assert (frame["samples"] == 21).all()
    assert (frame["source_train_samples"] == 14).all()
    assert frame["cdnv"].nunique() == frame["source_train_cdnv"].nunique() == frame["source_test_cdnv"].nunique() == 2


def test_alone_the_numbers_are_those_of_the_target(training: Path, data: Path, tmp_path: Path) -> None:
    task = {"ways": [2, "all"], "shots": 1, "queries": "all", "episodes": 20, "seed": 4}
    found = trajectory(MODEL, training, data, split="train", img_size=32, **task)
    assert [point.step for point in found.points] == [1, 9, 10]
    for point in found.points:
        features = own(Path(point.path), data, tmp_path / "other", split="train")
        assert set(point.reports) == {"target"}
        for name, value in collapse(features).metrics.items():
            found_value = point.reports["target"].metrics[name]
            assert found_value == pytest.approx(value, rel=1e-5) if value is not None else found_value is None
        expected = fewshot(features, **task)
        assert [one.ways for one in expected.rows] == [2, 2, 5, 5]
        for one, other in zip(point.fewshot.rows, expected.rows, strict=True):
            assert one.accuracy == pytest.approx(other.accuracy, abs=0.01)
            assert (one.ways, one.classifier, one.seed) == (other.ways, other.classifier, 4)


def test_one_row_a_checkpoint_of_plain_columns(followed: Trajectory, home: Path) -> None:
    frame = followed.to_frame()
    assert frame["path"].tolist() == [str(home / "run" / name) for name in frame["checkpoint"]]
    assert frame["step"].tolist() == [1, 2]
    for prefix in ("", "source_train_", "source_test_"):
        assert {f"{prefix}{name}" for name in (*MEASURES, "samples", "classes")} <= set(frame.columns)
    assert frame.columns.is_unique
    tasks = {name for name in frame.columns if name.endswith("shot")}
    assert tasks == {f"{name}_2way_{shots}shot" for name in ("ridge", "ncc") for shots in (1, 2)}
    assert not [name for name in frame.columns if name.startswith("ridge") and name.endswith("_expected")]
    assert frame["self_duality"].isna().all()  # not defined without a head


def test_the_dictionary_is_json_of_everything(followed: Trajectory) -> None:
    content = json.loads(json.dumps(followed.to_dict()))
    assert content["model"] == MODEL
    assert content["failed"] == {}
    for entry, point in zip(content["checkpoints"], followed.points, strict=True):
        assert (entry["checkpoint"], entry["path"], entry["step"]) == (point.checkpoint, point.path, point.step)
        by_name = {sample["name"]: sample for sample in entry["samples"]}
        assert by_name.keys() == {"target", "source-train", "source-test"}
        for name, sample in by_name.items():
            assert sample["metrics"] == dict(point.reports[name].metrics)
        accuracies = [one["accuracy"] for one in entry["fewshot"]["results"]]
        assert accuracies == [one.accuracy for one in point.fewshot.rows]


def test_infinite_measures_stay_in_the_frame(training: Path, data: Path) -> None:
    dead = {name: torch.zeros_like(value) for name, value in weights(1).items()}
    dead |= {name: value + 1 for name, value in dead.items() if name.endswith("running_var")}
    save_file(dead, training / "epoch-11.safetensors")  # all features equal
    frame = trajectory(MODEL, training, data, split="test", **SMALL).to_frame()
    assert frame["cdnv"].iloc[-1] == math.inf
    assert np.isfinite(frame["cdnv"].iloc[:-1]).all()
    assert pd.isna(frame["nc1"].iloc[-1])
    found = rank_correlations(frame, "ncc_2way_1shot")
    assert found["cdnv"] == pytest.approx(spearmanr(frame["cdnv"], frame["ncc_2way_1shot"]).statistic)
    assert found["variability_collapse_index"] is None


def test_the_task_is_as_asked(training: Path, data: Path) -> None:
    asked = {"ways": [2, 3], "shots": 2, "queries": 2, "episodes": 12, "classifiers": ["ncc", "simpleshot"], "seed": 5}
    found = trajectory(MODEL, training / "epoch-1.safetensors", data, split="test", theory=False, img_size=32, **asked)
    rows = found.points[0].fewshot.rows
    assert [(one.ways, one.shots, one.classifier) for one in rows] == [
        (2, 2, "ncc"),
        (2, 2, "simpleshot"),
        (3, 2, "ncc"),
        (3, 2, "simpleshot"),
    ]
    assert {(one.queries, one.episodes, one.seed) for one in rows} == {(2, 12, 5)}
    assert not [name for name in found.to_frame().columns if "expected" in name or "luthra" in name]


def test_the_images_are_as_asked(training: Path, data: Path) -> None:
    path = training / "epoch-1.safetensors"
    options = {**SMALL, "ways": 2, "shots": 1, "queries": 1, "max_per_class": 4, "seed": 3}
    found = trajectory(
        MODEL, path, data, split="test", exclude_classes=["c4"], source_classes=["c0", "c4"], train_split="test",
        test_split="train", **options,
    )  # fmt: skip
    reports = found.points[0].reports
    sizes = {name: (one.features.samples, one.features.classes) for name, one in reports.items()}
    assert sizes == {"target": (16, 4), "source-train": (8, 2), "source-test": (8, 2)}
    splits = {name: one.features.split for name, one in reports.items()}
    assert splits == {"target": "test", "source-train": "test", "source-test": "train"}
    expected = own(path, data, None, split="test", exclude_classes=["c4"], max_per_class=4, seed=3)
    assert reports["target"].cdnv == pytest.approx(collapse(expected).cdnv, rel=1e-6)


def test_the_source_may_be_other_data(training: Path, data: Path, pets: Path, tmp_path: Path) -> None:
    path = training / "epoch-9.safetensors"
    found = trajectory(MODEL, path, pets, source=data, **SMALL)
    reports = found.points[0].reports
    assert {name: one.features.classes for name, one in reports.items()} == {
        "source-train": 5,
        "source-test": 5,
        "target": 3,
    }
    train, test = (own(path, data, tmp_path / "other", split=split) for split in ("train", "test"))
    target = own(path, pets, tmp_path / "other")
    expected = compare_samples(target, train, test).reports
    for name, report in reports.items():
        assert report.cdnv == pytest.approx(expected[name].cdnv, rel=1e-3)
        assert report.ncc_accuracy == pytest.approx(expected[name].ncc_accuracy, abs=0.03)


def test_samples_of_a_target_alone(data: Path) -> None:
    wanted = Selection("test", classes=NEW, max_per_class=3, seed=1)
    assert samples_of(data, wanted, ReadingOptions()).keys() == {"target"}
    found = samples_of(data, wanted, ReadingOptions(), None, TRAINED, ("a", "b"))
    assert list(found) == ["target", "source-train", "source-test"]
    assert found["target"].selection == wanted
    assert found["source-train"].selection == Selection("a", classes=TRAINED, max_per_class=3, seed=1)
    assert found["source-test"].selection == Selection("b", classes=TRAINED, max_per_class=3, seed=1)


# What runs


def test_each_image_runs_once_a_checkpoint(training: Path, data: Path, ran: Callable[[], int]) -> None:
    arguments = {"split": "test", "classes": NEW, "source_classes": TRAINED, **SMALL}
    first = trajectory(MODEL, training, data, **arguments)
    assert ran() == 3 * (21 + 14 + 14)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("timm.create_model", lambda *_, **__: pytest.fail("a backbone is made"))
        second = trajectory(MODEL, training, data, **arguments)
    assert ran() == 0
    pd.testing.assert_frame_equal(second.to_frame(), first.to_frame())


def test_an_added_checkpoint_runs_alone(training: Path, data: Path, ran: Callable[[], int]) -> None:
    before = trajectory(MODEL, training, data, split="test", **SMALL).to_frame()
    ran()
    save(training / "epoch-2.pth", 2)
    after = trajectory(MODEL, training, data, split="test", **SMALL).to_frame()
    assert ran() == 35
    assert after["step"].tolist() == [1, 2, 9, 10]
    pd.testing.assert_frame_equal(after[after["step"] != 2].reset_index(drop=True), before)


def test_what_was_stopped_is_taken_up(training: Path, data: Path, ran: Callable[[], int]) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if "epoch-9" in stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trajectory(MODEL, training, data, split="test", progress=stop, **SMALL)
    ran()
    trajectory(MODEL, training, data, split="test", **SMALL)
    assert ran() == 2 * 35


def test_a_rewritten_checkpoint_runs_again(training: Path, data: Path, ran: Callable[[], int]) -> None:
    path = training / "epoch-9.safetensors"
    before = trajectory(MODEL, path, data, split="test", **SMALL).points[0].reports["target"].cdnv
    ran()
    save(path, 99)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))
    after = trajectory(MODEL, path, data, split="test", **SMALL).points[0].reports["target"].cdnv
    assert ran() == 35
    assert after != before


def test_the_same_weights_run_once(training: Path, data: Path, ran: Callable[[], int]) -> None:
    shutil.copy(training / "epoch-10.pth", training / "last.pth")
    found = trajectory(MODEL, training, data, split="test", **SMALL)
    assert ran() == 3 * 35
    assert [point.checkpoint for point in found.points][-1] == "last.pth"
    assert [point.step for point in found.points] == [1, 9, 10, None]
    assert [point.same_as for point in found.points] == [None, None, None, "epoch-10.pth"]
    assert found.distinct == found.points[:3]
    assert {one.last for one in found.best()} == {"epoch-10.pth"}
    frame = found.to_frame().drop(columns=["checkpoint", "path", "step", "same_as"])
    assert frame.iloc[-1].equals(frame.iloc[-2])


def test_the_best_of_each_task_and_what_may_be_best(training: Path, data: Path) -> None:
    found = trajectory(MODEL, training, data, split="test", **SMALL)
    results = {point.checkpoint: point.fewshot for point in found.distinct}
    for one in found.best():
        task = (one.ways, one.shots, one.classifier)
        accuracies = {name: float(result.accuracies[task].mean()) for name, result in results.items()}
        assert one.accuracy == max(accuracies.values()) == accuracies[one.checkpoint]
        assert one.last == "epoch-10.pth"
        others = [value for name, value in accuracies.items() if name != one.last]
        assert one.difference == pytest.approx(accuracies[one.last] - max(others))
        assert one.possible_bests == find_possible_bests(results, task).names
        assert one.possible_bests[0] == one.checkpoint
        assert (one.verdict == "worse") == (one.last not in one.possible_bests)
        assert one.interval[0] <= one.difference <= one.interval[1]
        assert one.population == "classes"


def test_one_checkpoint_has_nothing_to_be_compared_with(training: Path, data: Path) -> None:
    found = trajectory(MODEL, sorted(training.iterdir())[0], data, split="test", **SMALL)
    assert found.best() == ()


def test_a_target_that_is_trained_on_is_said(training: Path, data: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = sorted(path.name for path in (data / "test").iterdir())
    trajectory(MODEL, training, data, split="test", source_classes=names[:2], **SMALL)
    assert logged(caplog, 2, len(names), repr(names[0]))


def test_checkpoints_in_several_folders_are_told_apart(tmp_path: Path, data: Path) -> None:
    for seed in (1, 2):
        save(tmp_path / f"seed-{seed}" / "last.pth", seed)
    found = trajectory(MODEL, str(tmp_path / "seed-*" / "*.pth"), data, split="test", **SMALL)
    assert [point.checkpoint for point in found.points] == ["seed-1/last.pth", "seed-2/last.pth"]
    assert [point.step for point in found.points] == [1, 2]


def test_progress_names_the_checkpoint(training: Path, data: Path) -> None:
    told: list[tuple[str, int, int]] = []
    trajectory(MODEL, training, data, split="test", progress=lambda *what: told.append(what), **SMALL)
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    for number, name in enumerate(("epoch-1.safetensors", "epoch-9.safetensors", "epoch-10.pth"), 1):
        own_stages = [stage for stage in stages if name in stage]
        assert len(own_stages) == 2  # images, and then episodes
        assert [missing(stage, repr(name), f"{number}/3") for stage in own_stages] == [[], []]
    assert all(0 <= done <= total for _, done, total in told)


# What cannot be used


def spoil(path: Path, how: str, marker: Path) -> None:
    """A file that cannot be a checkpoint of the model, or gives nothing."""
    if how == "truncated":
        whole = save(path.with_name("whole.safetensors"), 1)
        path.write_bytes(whole.read_bytes()[:-100])
        whole.unlink()
    elif how == "pickled":
        path.write_bytes(tiny.pickled({"state_dict": tiny.Bomb(marker)}))
    elif how == "foreign":
        save_file({"weight": torch.ones(3)}, path)
    elif how == "diverged":
        save(path, 1, math.nan)
    else:
        path.write_bytes(b"")


HOW = ("truncated", "pickled", "foreign", "diverged", "empty")


@pytest.mark.parametrize(
    ("how", "place"),
    [("truncated", "epoch-11"), ("pickled", "epoch-5"), ("foreign", "epoch-0"), ("empty", "epoch-5")]
    + [("diverged", place) for place in ("epoch-0", "epoch-5", "epoch-11")],
)
def test_a_bad_checkpoint_is_left_out_and_named(
    training: Path, data: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path, how: str, place: str
) -> None:
    bad = f"{place}{'.pth' if how == 'pickled' else '.safetensors'}"
    spoil(training / bad, how, tmp_path / "executed")
    with caplog.at_level(logging.WARNING, "nctransfer"):
        found = trajectory(MODEL, training, data, split="test", **SMALL)
    assert [point.checkpoint for point in found.points] == [
        "epoch-1.safetensors",
        "epoch-9.safetensors",
        "epoch-10.pth",
    ]
    assert list(found.failed) == [bad]
    assert bad in found.failed[bad] or how == "diverged"
    assert found.failed[bad] in logged(caplog, repr(bad))[0]
    assert not (tmp_path / "executed").exists()
    assert found.to_dict()["failed"] == dict(found.failed)


def test_bad_ones_change_nothing_of_the_others(training: Path, data: Path, tmp_path: Path) -> None:
    alone = trajectory(MODEL, training, data, split="test", **SMALL).to_frame()
    for number, how in enumerate(HOW, 2):
        spoil(training / f"epoch-{number}.safetensors", how, tmp_path / "executed")
    found = trajectory(MODEL, training, data, split="test", cache_dir=tmp_path / "other", **SMALL)
    assert len(found.failed) == len(HOW)
    pd.testing.assert_frame_equal(found.to_frame(), alone)


def test_a_checkpoint_that_has_become_whole_is_measured(training: Path, data: Path, ran: Callable[[], int]) -> None:
    path = training / "epoch-11.safetensors"
    spoil(path, "truncated", path)
    assert trajectory(MODEL, training, data, split="test", **SMALL).failed
    ran()
    save(path, 11)
    found = trajectory(MODEL, training, data, split="test", **SMALL)
    assert ran() == 35
    assert (found.points[-1].step, found.failed) == (11, {})


def test_if_all_are_bad_the_first_error_is_raised(tmp_path: Path, data: Path) -> None:
    (tmp_path / "run").mkdir()
    for number, how in enumerate(("foreign", "truncated", "diverged", "empty"), 2):
        spoil(tmp_path / "run" / f"epoch-{number}.safetensors", how, tmp_path)
    with raises(WeightsError, "epoch-2.safetensors", "test_resnet", hint=("--model",)):
        trajectory(MODEL, tmp_path / "run", data, split="test", **SMALL)


def test_a_file_that_is_left_out_takes_no_step_from_the_others(training: Path, data: Path) -> None:
    (training / "optimizer.bin").write_bytes(b"of another kind")
    found = trajectory(MODEL, training, data, split="test", **SMALL)
    assert list(found.failed) == ["optimizer.bin"]
    assert [point.step for point in found.points] == [1, 9, 10]


@pytest.mark.parametrize("given", [(), []])
def test_no_checkpoints_are_an_error(data: Path, given: Any) -> None:
    with pytest.raises(WeightsError):
        trajectory(MODEL, given, data, **SMALL)


@pytest.mark.parametrize("other", [{"random_init": True}, {"checkpoint": Path("other.pth")}])
def test_other_weights_are_refused(training: Path, data: Path, other: dict[str, Any]) -> None:
    with raises(WeightsError, hint=("--checkpoint", "--random-init")):
        trajectory(MODEL, training, data, **SMALL, **other)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"split": "val"}, "'val'"),
        ({"classes": ["c2", "zebra"]}, "'zebra'"),
        ({"exclude_classes": ["zebra"]}, "'zebra'"),
        ({"source_classes": ["zebra", "c1"]}, "'zebra'"),
        ({"source_classes": TRAINED, "test_split": "val"}, "'val'"),
    ],
)
def test_images_that_are_not_there_are_said_before_anything_runs(
    training: Path, data: Path, ran: Callable[[], int], wrong: dict[str, Any], name: str
) -> None:
    with raises(FeaturesError, name):
        trajectory(MODEL, training, data, **SMALL, **wrong)
    assert ran() == 0


def test_data_that_are_not_there(training: Path, tmp_path: Path) -> None:
    with raises(DataError, str(tmp_path / "nowhere")):
        trajectory(MODEL, training, tmp_path / "nowhere", **SMALL)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        *(({name: value}, EpisodeError) for name, value in {"ways": 50, "shots": 30, "queries": 7}.items()),
        *(
            ({name: value}, SettingError)
            for name, value in {"classifiers": "oracle", "episodes": 1, "ways": ()}.items()
        ),
    ],
)
def test_a_task_that_the_data_cannot_give_is_said_before_anything_runs(
    training: Path, data: Path, ran: Callable[[], int], wrong: dict[str, Any], error: type[NCTransferError]
) -> None:
    with pytest.raises(error):
        trajectory(MODEL, training, data, split="test", **{**SMALL, **wrong})
    assert ran() == 0


@pytest.mark.parametrize(
    ("wrong", "said", "hint"),
    [
        ({"classes": ["c1"]}, [1], []),
        ({"source_classes": TRAINED, "test_split": "train"}, ["source-train"], ["source-test"]),
        ({"source_classes": ["c0", "c1", "rare"]}, ["'rare'"], []),
    ],
    ids=["one class", "one set", "other classes"],
)
def test_samples_that_make_no_collapse_are_said_before_anything_runs(
    training: Path, data: Path, ran: Callable[[], int], wrong: dict[str, Any], said: list[object], hint: list[str]
) -> None:
    shutil.copytree(data / "train" / "c4", data / "train" / "rare")
    with raises(FeaturesError, *said, hint=hint):
        trajectory(MODEL, training, data, **{"split": "test", **SMALL, **wrong})
    assert ran() == 0


def test_what_weakens_a_conclusion_is_said_once_before_anything_runs(
    training: Path, data: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target holds classes, and in the same split images, that the source has."""
    call = following.extract_to_store

    def extract(*arguments: Any, **named: Any) -> Any:
        assert len(logged(caplog)) == 2
        return call(*arguments, **named)

    monkeypatch.setattr(following, "extract_to_store", extract)
    found = trajectory(MODEL, training, data, split="test", classes=["c1", *NEW], source_classes=TRAINED, **SMALL)
    assert len(found.points) == 3
    assert list(found.warnings) == logged(caplog) == found.to_dict()["warnings"]
    shared, classes = found.warnings
    only([shared], 7, 28, "source-test", "target")
    only([classes], 1, 4, "'c1'")


def test_copies_under_another_name_are_found_by_their_content(
    training: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = {"split": "test", "classes": NEW, "source_classes": TRAINED, **SMALL}
    assert trajectory(MODEL, training, data, **run).warnings == ()
    for number in range(2):
        shutil.copy(data / "train" / "c0" / f"{number}.png", data / "test" / "c0" / f"copy {number}.png")
    found = trajectory(MODEL, training, data, **run).warnings
    assert list(found) == logged(caplog, 16)  # once, and not for each checkpoint
    only(found, 2, 16, "source-train", "source-test")


def test_a_checkpoint_that_overflows_for_some_images_has_diverged(tmp_path: Path, data: Path) -> None:
    """The rows are of the same images, so that it is left out also where broken images are skipped."""
    state = tiny.state_of("test_vit", 1)
    for number in (1, 2, 3):
        tmp_path.joinpath("run").mkdir(exist_ok=True)
        save_file(state, tmp_path / "run" / f"epoch-{number}.safetensors")
    alone = nct.extract("test_vit", data, checkpoint=tmp_path / "run" / "epoch-1.safetensors", split="test")
    largest = alone.features.abs().amax(dim=1)
    scale = 65504 / float(largest.quantile(0.45, interpolation="midpoint"))  # the largest float16
    overflows = int((largest * scale > 65504).sum())
    assert 0 < overflows < 35
    wide = {name: tensor * scale if name.startswith("norm.") else tensor for name, tensor in state.items()}
    save_file(wide, tmp_path / "run" / "epoch-2.safetensors")
    options = {**SMALL, "img_size": None, "queries": 6, "store_dtype": "float16"}
    for skip_broken in (False, True):
        found = trajectory("test_vit", tmp_path / "run", data, split="test", skip_broken=skip_broken, **options)
        assert [point.step for point in found.points] == [1, 3]
        assert found.to_frame()["samples"].tolist() == [35, 35]
        assert missing(found.failed["epoch-2.safetensors"], overflows) == []


def test_broken_images_are_an_error_unless_they_are_skipped(training: Path, data: Path) -> None:
    (data / "test" / "c2" / "0.png").write_bytes(b"no image")
    with pytest.raises(BrokenImagesError) as caught:
        trajectory(MODEL, training, data, split="test", **SMALL)
    assert [one.id for one in caught.value.broken] == ["test/c2/0.png"]
    found = trajectory(MODEL, training, data, split="test", skip_broken=True, **SMALL)
    assert found.to_frame()["samples"].tolist() == [34, 34, 34]
    assert not found.failed


def test_a_model_that_is_not_there_is_no_fault_of_the_checkpoints(training: Path, data: Path) -> None:
    with raises(ModelError, "no_such_model"):
        trajectory("no_such_model", training, data, split="test", **SMALL)


# Several selections in one pass


def request(path: Path) -> BackboneRequest:
    return BackboneRequest(MODEL, checkpoint=path, img_size=32)


def test_more_selections_run_in_the_same_pass(training: Path, data: Path, ran: Callable[[], int]) -> None:
    store, source = FeatureStore(), open_source(data)
    first, second = Selection("test", classes=NEW), Selection("train", classes=("c2",))
    more = [second, Selection("test", classes=("c2", "c3"))]  # the last is part of the first
    batches: list[tuple[str, int, int]] = []
    report = extract_to_store(
        store, request(training / "epoch-10.pth"), source, first, Runtime(), lambda *what: batches.append(what), more
    )
    assert ran() == 28 == report.extracted == report.samples
    assert {total for _, _, total in batches} == {28}
    assert report.selection == first
    assert store.last_used() is None
    alone = nct.extract(MODEL, data, checkpoint=training / "epoch-10.pth", img_size=32, split="train", classes=("c2",))
    assert ran() == 0
    assert alone.ids == report.stored.read(second).ids
    assert len(report.stored.read(more[1])) == 14
    assert report.stored.read(first).classes == NEW


def test_a_wrong_selection_among_more_is_an_error(training: Path, data: Path, ran: Callable[[], int]) -> None:
    with raises(FeaturesError, "'zebra'"):
        extract_to_store(
            FeatureStore(), request(training / "epoch-10.pth"), open_source(data), Selection(), Runtime(),
            also=[Selection(classes=("zebra",))],
        )  # fmt: skip
    assert ran() == 0


def test_broken_images_of_any_selection_are_reported(training: Path, data: Path) -> None:
    (data / "train" / "c0" / "0.png").write_bytes(b"no image")
    report = extract_to_store(
        FeatureStore(), request(training / "epoch-10.pth"), open_source(data), Selection("test"), Runtime(),
        also=[Selection("train")],
    )  # fmt: skip
    assert [one.id for one in report.failed] == ["train/c0/0.png"]
    assert report.samples == 69
    with pytest.raises(BrokenImagesError):
        trajectory(MODEL, training, data, split="test", source_classes=TRAINED, **SMALL)


# The listing of a source


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each listing had that was saved."""
    sizes: list[int] = []
    save_listing = FeatureStore.save_listing

    def counted(self: FeatureStore, source_id: str, listing: Any, *how: Any) -> Any:
        sizes.append(len(listing))
        return save_listing(self, source_id, listing, *how)

    monkeypatch.setattr(FeatureStore, "save_listing", counted)
    return sizes


def test_a_listing_that_says_nothing_new_is_not_saved_again(training: Path, data: Path, saved: list[int]) -> None:
    first = own(training / "epoch-10.pth", data, None, split="test")
    assert saved
    saved.clear()
    own(training / "epoch-10.pth", data, None, split="test")
    own(training / "epoch-1.safetensors", data, None, split="test")
    own(training / "epoch-10.pth", data, None, split="test", classes=["c1"])
    assert saved == []
    own(training / "epoch-10.pth", data, None, split="train")
    assert saved == [70]
    assert own(training / "epoch-10.pth", data, None, split="test").ids == first.ids


def test_a_changed_listing_is_saved(training: Path, data: Path, saved: list[int]) -> None:
    path = training / "epoch-10.pth"

    def listed() -> dict[str, Any]:
        return {row.id: row for row in FeatureStore().listing(open_source(data).id)}

    own(path, data, None)
    before = listed()
    touched_file = data / "test" / "c1" / "2.png"
    os.utime(touched_file, ns=(10**18, 10**18))
    own(path, data, None)
    assert listed()["test/c1/2.png"] == before["test/c1/2.png"]._replace(mtime_ns=10**18)
    touched_file.unlink()
    own(path, data, None)
    assert listed().keys() == before.keys() - {"test/c1/2.png"}
    (data / "test" / "c1").rename(data / "test" / "c9")
    assert "c9" in own(path, data, None).classes
    assert listed()["test/c9/3.png"].digest == before["test/c1/3.png"].digest


def test_a_lost_listing_is_saved_again(training: Path, data: Path, cache: Path) -> None:
    before = own(training / "epoch-10.pth", data, None)
    (listing,) = (cache / "sources").glob("*.parquet")
    whole = list(FeatureStore().listing(listing.stem))
    for spoilt in (lambda: listing.unlink(), lambda: listing.write_bytes(b"damaged")):
        spoilt()
        again = own(training / "epoch-10.pth", data, None)
        assert list(FeatureStore().listing(listing.stem)) == whole
        assert torch.equal(again.features, before.features)


def test_what_another_process_found_out_meanwhile_is_kept(
    training: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, inside = Backbone.__call__, []

    def meanwhile(self: Backbone, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        if not inside:
            inside.append(True)
            own(training / "epoch-1.safetensors", data, None, split="train")
        return call(self, pixels)

    monkeypatch.setattr(Backbone, "__call__", meanwhile)
    own(training / "epoch-10.pth", data, None, split="test")
    listed = FeatureStore().listing(open_source(data).id)
    assert len(listed) == 70
    assert all(row.digest for row in listed)


# Rank correlations


def table(seed: int, size: int = 25) -> pd.DataFrame:
    """Measures with ties, gaps and infinite values."""
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "accuracy": generator.integers(0, 8, size) / 8,
            "ties": generator.integers(0, 5, size).astype(float),
            "gaps": generator.normal(size=size),
            "infinite": generator.normal(size=size),
            "objects": [None if value < 0.3 else value for value in generator.uniform(size=size)],
            "constant": 1.0,
        }
    )
    frame.loc[::4, "gaps"] = math.nan
    frame.loc[[1, 5], "infinite"] = math.inf
    frame.loc[[2, 3], "infinite"] = -math.inf
    return frame


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_those_of_scipy(seed: int) -> None:
    frame = table(seed)
    measures = ["ties", "gaps", "infinite", "objects"]
    found = rank_correlations(frame, "accuracy", measures)
    assert list(found) == measures
    for name, value in found.items():
        pairs = frame[[name, "accuracy"]].astype(float).dropna()
        assert value == pytest.approx(spearmanr(pairs[name], pairs["accuracy"]).statistic, abs=1e-9)
        assert type(value) is float


def test_an_accuracy_with_gaps() -> None:
    frame = table(7)
    frame.loc[:6, "accuracy"] = math.nan
    found = rank_correlations(frame, "accuracy", ["gaps"])["gaps"]
    pairs = frame[["gaps", "accuracy"]].dropna()
    assert found == pytest.approx(spearmanr(pairs["gaps"], pairs["accuracy"]).statistic)


def test_correlations_that_are_not_defined() -> None:
    frame = table(0).assign(nothing=None, one=[1.0] + [math.nan] * 24)
    assert rank_correlations(frame, "accuracy", ["constant", "nothing", "one"]) == {
        "constant": None,
        "nothing": None,
        "one": None,
    }
    assert rank_correlations(frame, "constant", ["ties"]) == {"ties": None}
    assert rank_correlations(frame[:0], "accuracy", ["ties"]) == {"ties": None}
    assert rank_correlations(frame[:1], "accuracy", ["ties"]) == {"ties": None}


def test_by_default_the_measures_of_the_paper(followed: Trajectory) -> None:
    frame = followed.to_frame()
    joined = pd.concat([frame, frame.assign(cdnv=frame["cdnv"] * 3)], ignore_index=True)
    found = rank_correlations(joined, "ncc_2way_1shot")
    assert tuple(found) == correlated_measures()
    assert found["cdnv"] == pytest.approx(spearmanr(joined["cdnv"], joined["ncc_2way_1shot"]).statistic)
    fewer = rank_correlations(joined.drop(columns="rankme"), "ncc_2way_1shot")
    assert fewer == {name: value for name, value in found.items() if name != "rankme"}


# In the library's own types


def test_follow_is_what_trajectory_does(followed: Trajectory, home: Path, ran: Callable[[], int]) -> None:
    found = follow(
        FeatureStore(home / "cache"),
        BackboneRequest(MODEL, img_size=32),
        find_checkpoints(home / "run"),
        samples_of(home / "data", Selection("test", classes=NEW), ReadingOptions(), None, TRAINED),
        Runtime(),
        FewShotTask(**TASK),
    )
    assert ran() == 0
    pd.testing.assert_frame_equal(found.to_frame(), followed.to_frame())


EVERY_FIELD = FewShotTask(
    ways=(2, "all"),
    shots=(2, 3),
    queries="all",
    episodes=20,
    classifiers="all",
    seed=3,
    ridge_lambda="loo",
    l2_normalise=True,
    drop_small=True,
    theory=False,
)


def test_any_task_can_be_followed(home: Path) -> None:
    store, samples = (
        FeatureStore(home / "cache"),
        samples_of(home / "data", Selection("test", classes=NEW), ReadingOptions()),
    )
    rehearse(samples, EVERY_FIELD)
    checkpoints = find_checkpoints(home / "run")[:1]
    [point] = follow(store, BackboneRequest(MODEL, img_size=32), checkpoints, samples, Runtime(), EVERY_FIELD).points
    features = store.find(point.fewshot.features.id).read(Selection("test", classes=NEW))
    expected = run_fewshot(features, EVERY_FIELD, device="cpu")
    assert point.fewshot.task == EVERY_FIELD
    assert [row.key for row in point.fewshot.rows] == [row.key for row in expected.rows]
    assert [row.accuracy for row in point.fewshot.rows] == [row.accuracy for row in expected.rows]


def test_no_task_has_feature_sets() -> None:
    # a trajectory has one set per checkpoint, so that no other set could suit all of them
    for name in ("center_on", "query_set"):
        with pytest.raises(TypeError, match=name):
            FewShotTask(**{name: None})
