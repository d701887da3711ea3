"""Samples that give answers away: they are counted, said and left out if wanted; and there is no false alarm."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nctransfer as nct
from clusters import labelled, normal_classes
from conftest import write_digits
from messages import logged, only, those
from nctransfer.evaluation.leaks import Leaks
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.features.sample_content import Duplicates, without_duplicates
from nctransfer.neural_collapse.bound_table import bound_table
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from terminal import VIT, data_of, done, noted, warned, warnings_of

FEW = {"ways": 3, "shots": 1, "queries": 5, "episodes": 200, "classifiers": "ncc", "theory": False}


def a_set(
    each: int = 20, *, copied: int = 0, moved: int = 0, draw: int = 0, apart: float = 0.3, d: int = 30
) -> FeatureSet:
    """Three classes that overlap, with this many copies per class, and this many of the first class in the second."""
    rows, labels = labelled(normal_classes([each] * 3, d, apart=apart, draw=draw), np.float32)
    of_class = [rows[labels == name] for name in sorted(set(labels))]
    copies = [*(one[:copied] for one in of_class), of_class[0][:moved]]
    owners = [*np.repeat(sorted(set(labels)), copied), *["0001"] * moved]
    return FeatureSet.from_arrays(np.concatenate([rows, *copies]), [*labels, *owners], info=FeatureInfo(f"set {draw}"))


MEASURES: dict[str, Callable[[FeatureSet], Any]] = {
    "fewshot": lambda features: nct.fewshot(features, **FEW),
    "expect": lambda features: nct.expect(features, 3, 1),
    "probe": nct.probe,
}


# One set


@pytest.mark.parametrize("measure", MEASURES)
def test_no_false_alarm(measure: str, caplog: pytest.LogCaptureFixture) -> None:
    found = MEASURES[measure](a_set())
    assert (found.leaks.duplicates, found.warnings) == (Duplicates(), ())
    assert logged(caplog) == []


@pytest.mark.parametrize("measure", MEASURES)
def test_duplicates_are_said(measure: str, caplog: pytest.LogCaptureFixture) -> None:
    found = MEASURES[measure](a_set(copied=6, moved=2))
    assert found.leaks.duplicates == Duplicates(samples=20, across_classes=2)
    only(found.warnings, 20, 2, "--drop-duplicates")
    assert logged(caplog, 20, 2) == list(found.warnings)
    as_json = json.loads(json.dumps(found.to_dict()))
    leaks = as_json["probe"]["leaks"] if measure == "probe" else as_json["leaks"]
    assert leaks == {"duplicates": {"samples": 20, "across_classes": 2}, "queries_in_support": None}
    assert as_json["warnings"] == list(found.warnings)


def test_a_pair_is_explained_with_the_same_warning(caplog: pytest.LogCaptureFixture) -> None:
    nct.explain(a_set(copied=6), "0000", "0001", episodes=10)
    assert set(logged(caplog)) == set(logged(caplog, 12))
    assert logged(caplog)


@pytest.mark.parametrize("seed", range(3))
def test_duplicates_raise_the_accuracy_and_without_them_it_is_right(seed: int) -> None:
    """Noise, of which every image is there three times: it is told apart in far more than a third of the queries."""
    rows = np.random.default_rng(seed).normal(size=(3 * 6, 40))
    alone = FeatureSet.from_arrays(rows, np.repeat([*"abc"], 6), [f"{i:02d} 0" for i in range(18)])
    names = [f"{i:02d} {copy}" for copy in range(3) for i in range(18)]
    thrice = FeatureSet.from_arrays(np.tile(rows, (3, 1)), np.tile(np.repeat([*"abc"], 6), 3), names)
    assert nct.fewshot(thrice, **FEW | {"shots": 5}).rows[0].accuracy > 0.5
    again = nct.fewshot(without_duplicates(thrice), **FEW)
    assert again.warnings == ()
    assert again.rows[0].accuracy == nct.fewshot(alone, **FEW).rows[0].accuracy < 0.45


def test_collapse_and_bounds() -> None:
    features = a_set(copied=6, moved=2)
    report = nct.collapse(features)
    assert report.duplicates == Duplicates(samples=20, across_classes=2)
    assert report.to_dict()["duplicates"] == {"samples": 20, "across_classes": 2}
    only(those(report.notes, "--drop-duplicates"), 20, 2, "ncc_accuracy")
    table = bound_table(ClassStatistics.of(features, "cpu"), features.describe(), [2], [1])
    only(table.warnings, 20, 2, "--drop-duplicates")
    assert table.to_dict()["duplicates"] == report.to_dict()["duplicates"]
    assert table.to_dict()["warnings"] == list(table.warnings)

    report, stats = nct.collapse(a_set()), ClassStatistics.of(a_set(), "cpu")
    assert those(report.notes, "--drop-duplicates") == []
    assert bound_table(stats, a_set().describe(), [2], [1]).warnings == ()


# Two sets


@pytest.mark.parametrize("measure", ["fewshot", "probe"])
def test_queries_that_are_labelled_examples(measure: str, caplog: pytest.LogCaptureFixture) -> None:
    features, others = a_set(), a_set(draw=1)
    mixed = FeatureSet.from_arrays(
        np.concatenate([others.features, features.features[:7]]),
        [*(others.classes[label] for label in others.labels), *["0000"] * 7],
        info=FeatureInfo("queries"),
    )
    run = nct.probe if measure == "probe" else lambda one, two: nct.fewshot(one, query_set=two, **FEW)
    assert (run(features, others).warnings, logged(caplog)) == ((), [])
    assert run(features, others).leaks.queries_in_support == 0
    found = run(features, mixed)
    assert found.leaks.queries_in_support == 7
    only(found.warnings, 7, "--drop-duplicates")
    assert logged(caplog, 7) == list(found.warnings)
    assert run(features, without_duplicates(mixed, features)).warnings == ()


def test_copies_among_the_labelled_examples_give_no_answer_away() -> None:
    found = nct.fewshot(a_set(copied=3), query_set=a_set(draw=1), **FEW)
    assert found.leaks == Leaks(duplicates=Duplicates(samples=9), queries_in_support=0)
    assert found.warnings == ()


def test_all_of_a_set_is_in_the_other() -> None:
    with pytest.raises(nct.NCTransferError):
        without_duplicates(a_set(), a_set())


# Several sets on the same episodes


def test_sets_of_the_same_images_and_of_others(caplog: pytest.LogCaptureFixture) -> None:
    one, turned = a_set(), a_set()
    turned = dataclasses.replace(turned, features=turned.features.flip(1))
    assert nct.compare_fewshot({"one": one, "turned": turned}, **FEW).warnings == ()
    numbered = [dataclasses.replace(features, images=torch.arange(60)) for features in (one, turned)]
    found = nct.compare_fewshot({"one": numbered[0], "turned": numbered[1]}, **FEW)
    assert (found.warnings, found.to_dict()["warnings"], logged(caplog)) == ((), [], [])
    numbered[1].images[[3, 50]] = torch.tensor([77, 78])
    found = nct.compare_fewshot({"one": numbered[0], "turned": numbered[1]}, **FEW)
    only(found.warnings, 2, 60, "one", "turned")
    assert logged(caplog) == list(found.warnings) == found.to_dict()["warnings"]


def test_images_are_compared_in_the_order_of_the_samples_in_common() -> None:
    rows, labels = labelled(normal_classes([12, 12, 12], 6))
    names = [f"{i:02d}" for i in range(36)]
    one = FeatureSet.from_arrays(rows, labels, names, images=torch.arange(36))
    keep = np.random.default_rng(0).permutation(36)[:30]
    other = FeatureSet.from_arrays(rows[keep], labels[keep], [names[i] for i in keep], images=torch.from_numpy(keep))
    task = FEW | {"queries": 2}
    assert nct.compare_fewshot({"one": one, "other": other}, **task).warnings == ()


def test_other_images_under_the_same_names(tmp_path: Path) -> None:
    """Two folders whose files have the same names, with other images; a renamed copy of a folder has the same."""
    train, test = (write_digits(tmp_path / name, {"zero": digit, "one": 1}, 6) for name, digit in (("a", 0), ("b", 8)))
    sets = [data_of("extract", *VIT, "--data", folder)["id"] for folder in (train, test)]
    sets.append(data_of("extract", "--model", "test_resnet", "--random-init", "--data", train)["id"])
    command = ("--ways", 2, "--queries", 3, "--episodes", 20, "--no-theory")
    assert warned(done("fewshot", *sets[:2], *command), 6, 12)
    assert warnings_of(done("fewshot", sets[0], sets[2], *command)) == []


# The command line


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A set, the same with copies, and other samples of which four are in the first."""
    clean, other = a_set(), a_set(draw=1)
    sets = {"clean": clean, "copies": a_set(copied=6, moved=2), "other": other}
    found = []
    for name, one in sets.items():
        rows, labels = one.features.numpy(), [one.classes[label] for label in one.labels]
        if name == "other":
            rows, labels = np.concatenate([rows, clean.features[:4].numpy()]), [*labels, *["0000"] * 4]
        np.savez(tmp_path / f"{name}.npz", feature=rows, label=labels)
        found.append(tmp_path / f"{name}.npz")
    return found[0], found[1], found[2]


COMMANDS = {
    "fewshot": ("--ways", 3, "--queries", 5, "--episodes", 20, "--no-theory"),
    "fewshot --probe": (),
    "expect": ("--ways", 3, "--shots", 1),
    "bounds": ("--ways", 2, "--shots", 1),
    "collapse": (),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_warn_of_duplicates_and_leave_them_out(command: str, files: tuple[Path, ...]) -> None:
    clean, copies, _ = files
    name, *flags = command.split()
    options = (*flags, *COMMANDS[command])
    result = done(name, copies, *options)
    assert warned(result, 20, 2, "--drop-duplicates")
    assert not any("--drop-duplicates" in one for one in warnings_of(done(name, clean, *options)))
    fewer = done(name, copies, *options, "--drop-duplicates")
    assert noted(fewer, 20, copies)
    assert not any("--drop-duplicates" in one for one in warnings_of(fewer))
    found, expected = (
        data_of(name, one, *options, *drop) for one, drop in ((copies, ["--drop-duplicates"]), (clean, []))
    )
    for one in (found, expected):
        for key in ("features", "provenance", "seconds"):
            one.pop(key, None)
        for row in one.get("results", ()):
            row.pop("seconds", None)
        for key in ("train",):
            one.get("probe", {}).pop(key, None)
    assert found == expected


def test_the_query_set_is_compared_with_the_labelled_examples(files: tuple[Path, ...]) -> None:
    clean, _, other = files
    command = ("fewshot", clean, "--query-set", other, *COMMANDS["fewshot"])
    assert warned(done(*command), 4, "--drop-duplicates")
    found = data_of(*command, "--drop-duplicates")
    assert (found["leaks"]["queries_in_support"], found["warnings"]) == (0, [])
    assert found["settings"]["query_set"]["samples"] == 60
    probed = data_of("fewshot", clean, "--query-set", other, "--probe", "--drop-duplicates")
    assert probed["probe"]["test"]["samples"] == 60


def test_layers_are_left_the_same_samples(pets: Path) -> None:
    """A copy in another class: one image under two names is one row in the cache, and two samples of the set."""
    for number in (0, 1):
        (pets / "two" / f"copy {number}.png").write_bytes((pets / "one" / f"{number}.png").read_bytes())
    data_of("extract", "--model", "test_vit", "--random-init", "--data", pets, "--layers", "0,1")
    found = data_of("collapse", "--layers", "all", "--drop-duplicates")["sets"]
    assert [one["features"]["samples"] for one in found] == [18, 18, 18]
    assert [one["duplicates"]["samples"] for one in data_of("collapse", "--layers", "all")["sets"]] == [2, 2, 2]


def test_several_sets_are_left_the_same_samples(files: tuple[Path, ...], tmp_path: Path) -> None:
    copies = dict(np.load(files[1]))
    np.savez(tmp_path / "turned.npz", feature=copies["feature"][:, ::-1] * 2, label=copies["label"])
    found = data_of("fewshot", files[1], tmp_path / "turned.npz", *COMMANDS["fewshot"], "--drop-duplicates")
    assert [one["features"]["samples"] for one in found["sets"]] == [60, 60]
    assert dataclasses.asdict(Duplicates()) == found["sets"][0]["leaks"]["duplicates"]
