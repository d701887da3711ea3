"""``nctransfer fewshot``: every option reaches the episodes, and every result is shown as it is."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nctransfer as nct
from nctransfer.cli.set_names import short_name
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.intervals import INTERVALS, Interval
from nctransfer.report.wording import POPULATIONS
from nctransfer.sources.selection import Selection
from terminal import (
    VIT,
    data_of,
    done,
    facts_of,
    missing,
    misused,
    notes_of,
    on_terminal,
    refusal,
    refused,
    shows,
    tables,
    warned,
)

FEW = ("--episodes", "60", "--no-theory")
MEANS = np.random.default_rng(0).normal(size=(26, 8))


def npz(
    path: Path,
    classes: Sequence[str] = "abcdef",
    counts: Sequence[int] | int = 25,
    *,
    seed: int = 0,
    spread: float = 1.0,
    d: int = 8,
    **columns: Any,
) -> Path:
    """Features made elsewhere: classes that overlap, row i of each with the same name in every such file."""
    counts = [counts] * len(classes) if isinstance(counts, int) else counts
    codes = np.repeat(range(len(classes)), counts)
    x = MEANS[codes, :d] * 1.5 + spread * np.random.default_rng(seed).normal(size=(len(codes), d)) + 2
    np.savez(path, feature=x.astype("float32"), label=np.array([*classes])[codes], **columns)
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def one(root: Path) -> Path:
    return npz(root / "one.npz")


@pytest.fixture(scope="module")
def other(root: Path) -> Path:
    """Other samples of the same classes."""
    return npz(root / "other.npz", counts=30, seed=1)


@pytest.fixture(scope="module")
def worse(root: Path) -> Path:
    """The same samples through a worse backbone."""
    return npz(root / "worse.npz", seed=2, spread=3)


@pytest.fixture(scope="module")
def uneven(root: Path) -> Path:
    """Four classes, of which one has three samples only."""
    return npz(root / "uneven.npz", "abcd", [20, 3, 20, 20])


def library(features: Path, **settings: Any) -> nct.FewShotResult:
    return nct.fewshot(nct.load_features(features), **{"episodes": 60, "theory": False, **settings})


def named(number: int, path: Path) -> str:
    """What a set is called beside others."""
    return short_name(nct.load_features(path), number - 1)


def solid(text: str) -> str:
    """Without the places where it was folded."""
    return "".join(text.split())


def but_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


# Options


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (("--ways", "2,all"), {"ways": [2, 6]}),
        (("--ways", "all"), {"ways": 6}),
        (("-w", "3"), {"ways": 3}),
        (("--shots", "5,1"), {"shots": [1, 5]}),
        (("-s", "2"), {"shots": 2}),
        (("--queries", "3"), {"queries": 3}),
        (("--queries", "all"), {"queries": "all"}),
        (("-e", "7"), {"episodes": 7}),
        (("--seed", "4"), {"seed": 4}),
        (("--classifier", "knn"), {"classifiers": "knn"}),
        (("-c", "ncc,cosine"), {"classifiers": ["ncc", "cosine"]}),
        (("-c", "all", "-w", "2"), {"classifiers": "all", "ways": 2}),
        (("--ridge-lambda", "1000"), {"ridge_lambda": 1000.0}),
        (("--ridge-lambda", "loo", "--shots", "2"), {"ridge_lambda": "loo", "shots": 2}),
        (("--ridge-lambda", "paper"), {"ridge_lambda": "paper"}),
        (("--l2-normalise",), {"l2_normalise": True}),
        (("--interval", "classes", "--ways", "2"), {"interval": "classes", "ways": 2}),
        (("--interval", "disjoint", "--queries", "2"), {"interval": "disjoint", "queries": 2}),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_an_option_does_what_it_does_in_the_library(
    options: tuple[str, ...], settings: dict[str, Any], one: Path
) -> None:
    found = data_of("fewshot", one, *FEW, *options)
    expected = json.loads(json.dumps(library(one, **settings).to_dict()))
    assert but_seconds(found["results"]) == but_seconds(expected["results"])
    assert found["settings"] == expected["settings"]
    assert found["results"][0]["accuracy"] < 1
    assert but_seconds(found["results"]) != but_seconds(library(one).to_dict()["results"])
    assert all(row["seconds"] > 0 for row in found["results"])


def test_every_classifier(one: Path) -> None:
    rows = data_of("fewshot", one, *FEW, "--classifier", "all")["results"]
    twice = [name for name in CLASSIFIERS for _ in range(2 if CLASSIFIERS[name].is_transductive else 1)]
    assert [row["classifier"] for row in rows] == twice
    assert len({row["accuracy"] for row in rows}) > 3
    gradients = {row["classifier"]: row["gradient_norm"] for row in rows}
    assert 0 < gradients.pop("logistic") < 1e-5
    assert set(gradients.values()) == {None}


def test_features_are_centred_on_another_set(one: Path, other: Path) -> None:
    options = (*FEW, "--classifier", "simpleshot,cosine")
    found = data_of("fewshot", one, *options, "--center-on", other)
    expected = library(one, classifiers=["simpleshot", "cosine"], center_on=nct.load_features(other))
    assert but_seconds(found["results"]) == but_seconds(json.loads(json.dumps(expected.to_dict()))["results"])
    assert found["settings"]["center_on"] == str(other)
    plain = data_of("fewshot", one, *options)["results"]
    assert all(a["accuracy"] != b["accuracy"] for a, b in zip(plain, found["results"], strict=True))
    assert shows(done("fewshot", one, *options, "--center-on", other).stdout, other)


def test_queries_come_from_another_set(one: Path, other: Path) -> None:
    options = ("--shots", 24, "--queries", 30)  # more than one set has
    found = data_of("fewshot", one, *FEW, *options, "--query-set", other)
    expected = library(one, shots=24, queries=30, query_set=nct.load_features(other))
    assert but_seconds(found["results"]) == but_seconds(json.loads(json.dumps(expected.to_dict()))["results"])
    assert found["features"]["id"] == str(one)
    assert found["settings"]["query_set"]["id"] == str(other)
    shown = done("fewshot", one, *FEW, *options, "--query-set", other).stdout
    assert any(shows(line, other, 180) for line in shown.splitlines())


def test_classes_of_two_sets_are_matched_by_name(one: Path, tmp_path: Path) -> None:
    # c and d in the places of others: by code, hardly a query would be right
    queries = npz(tmp_path / "q.npz", "xcd", seed=5)
    with np.load(one) as arrays:
        means = arrays["feature"].reshape(6, 25, 8).mean(axis=1)
    np.savez(queries, feature=np.repeat(means[[0, 2, 3]], 5, axis=0), label=np.repeat(list("xcd"), 5))
    result = done("fewshot", one, *FEW, "-w", 2, "--queries", 5, "-s", 9, "--query-set", queries, "-f", "json")
    found = json.loads(result.stdout)
    assert [row["accuracy"] for row in found["results"]] == [1.0, 1.0]
    assert {row["name"] for row in found["results"][0]["classes"]} == {"c", "d"}
    assert warned(result, 4, one)  # classes that the other set has not
    assert warned(result, 1, queries)


def test_small_classes_are_an_error_or_left_out(uneven: Path) -> None:
    error = refusal("fewshot", uneven, *FEW, "-w", 2)
    error.expect("EpisodeError", 1, 4, "b", 3, hint="--drop-small")
    result = done("fewshot", uneven, *FEW, "-w", "2,all", "--drop-small")
    assert warned(result, 1, "b")
    assert len(result.stderr.splitlines()) == 1
    assert (
        len(facts_of(result.stdout)) == len(facts_of(done("fewshot", uneven, *FEW, "-w", 2, "--queries", 2).stdout)) + 1
    )
    found = data_of("fewshot", uneven, *FEW, "-w", "2,all", "--drop-small")
    assert found["settings"]["dropped"] == ["b"]
    assert [row["ways"] for row in found["results"]] == [2, 2, 3, 3]
    assert [one["name"] for one in found["results"][0]["classes"]] == ["a", "c", "d"]


def test_nothing_to_leave_out_is_no_note(one: Path) -> None:
    result = done("fewshot", one, *FEW, "--drop-small")
    assert result.stderr == ""
    assert result.stdout == done("fewshot", one, *FEW).stdout
    assert data_of("fewshot", one, *FEW, "--drop-small")["settings"]["dropped"] == []


def test_too_few_classes_are_left(uneven: Path) -> None:
    error = refusal("fewshot", uneven, *FEW, "-w", 2, "--queries", 19, "-s", 2, "--drop-small")
    error.expect("EpisodeError", 2, 19, 21, "a", 20, hint="images")
    assert "--drop-small" not in error.hint  # nothing would be left
    assert "--ways -" not in error.hint


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("shots", ["1", "1,2"])
def test_an_interval_says_what_it_is_of(interval: Interval, shots: str, one: Path) -> None:
    options = ("-w", "2", "--queries", "4", "-s", shots, "--interval", interval)
    shown = done("fewshot", one, *FEW, *options).stdout
    assert interval in tables(shown)[0][0]
    assert INTERVALS[interval] in " ".join(shown.split())
    rows = data_of("fewshot", one, *FEW, *options)["results"]
    assert {row["interval"] for row in rows} == {interval}
    for row in rows:
        assert f"{row['accuracy'] * 100:.2f} ± {row['ci95'] * 100:.2f}" in shown
        assert (row["episodes"] < 60) == (interval == "disjoint")
    assert any(shows(line, rows[0]["episodes"], 4) for line in facts_of(shown))


def test_a_column_of_features(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = [npz(tmp_path / f"{name}.npz", "ab", noise=rng.normal(size=(50, 3))) for name in "xy"]
    easy, hard = (
        data_of("fewshot", files[0], *FEW, "-w", 2, "--feature-column", column) for column in ("feature", "noise")
    )
    assert (easy["features"]["layer"], hard["features"]["layer"]) == ("feature", "noise")
    assert hard["results"][0]["accuracy"] < 0.6 < easy["results"][0]["accuracy"]
    both = data_of("fewshot", *files, *FEW, "-w", 2, "--feature-column", "noise")
    assert [one["features"]["dim"] for one in both["sets"]] == [3, 3]
    found = data_of("fewshot", files[0], *FEW, "-w", 2, "--feature-column", "noise", "--query-set", files[1])
    assert found["settings"]["query_set"]["dim"] == 3
    assert data_of("fewshot", files[0], "--probe", "--feature-column", "noise")["probe"]["train"]["dim"] == 3


@pytest.fixture(scope="module")
def split(root: Path) -> Path:
    """One file of two splits, of which the second is harder."""
    codes, is_test = np.tile(np.repeat(range(6), 20), 2), np.repeat([False, True], 120)
    rng = np.random.default_rng(0)
    x = MEANS[codes] * 1.5 + np.where(is_test, 3, 1)[:, None] * rng.normal(size=(240, 8))
    names = np.where(is_test, "test", "train")
    np.savez(root / "split.npz", feature=x.astype("float32"), label=np.array([*"abcdef"])[codes], split=names)
    return root / "split.npz"


def parts(file: Path) -> list[nct.FeatureSet]:
    return [nct.load_features(file, selection=Selection(name)) for name in ("train", "test")]


def test_queries_come_from_another_split(split: Path) -> None:
    options = (split, "--split", "train", "--query-split", "test")
    found = data_of("fewshot", *FEW, "--shots", 20, "--queries", 20, *options)
    train, test = parts(split)
    expected = nct.fewshot(train, 5, 20, queries=20, episodes=60, theory=False, query_set=test)
    assert but_seconds(found["results"]) == but_seconds(json.loads(json.dumps(expected.to_dict()))["results"])
    assert (found["features"]["split"], found["settings"]["query_set"]["split"]) == ("train", "test")
    same = refusal("fewshot", split, *FEW, "--split", "train", "--query-split", "train")
    same.expect("EpisodeError", split, hint="--query-set")
    absent = refusal("fewshot", split, *FEW, "--split", "train", "--query-split", "dev")
    absent.expect("FeaturesError", "dev", tells=("train", "test"))


def test_queries_come_from_a_split_of_another_set(one: Path, split: Path) -> None:
    found = data_of("fewshot", one, *FEW, "--query-set", split, "--query-split", "test")
    query_set = found["settings"]["query_set"]
    assert (query_set["id"], query_set["split"], query_set["samples"]) == (str(split), "test", 120)
    expected = library(one, query_set=parts(split)[1])
    assert but_seconds(found["results"]) == but_seconds(json.loads(json.dumps(expected.to_dict()))["results"])


def test_a_probe_is_tested_on_another_split(split: Path) -> None:
    found = data_of("fewshot", split, "--probe", "--split", "train", "--query-split", "test")["probe"]
    assert found == json.loads(json.dumps(nct.probe(*parts(split)).to_dict()))["probe"]
    assert found["accuracy"] < found["loo_accuracy"]


# Confusions


@pytest.mark.parametrize("number", ["2", "all"])
def test_what_was_confused(number: str, one: Path) -> None:
    options = (*FEW, "-w", "5,2", "-s", "1,3", "-c", "ncc,ridge", "--confusions", number)
    result = library(one, ways=[2, 5], shots=[1, 3], classifiers=["ncc", "ridge"])
    task, most = (2, 3, "ncc"), None if number == "all" else int(number)
    shown = done("fewshot", one, *options).stdout
    titles = [line for line in shown.splitlines() if shows(line, "2-way", "3-shot", "ncc")]
    assert len(titles) == 2  # of the task that confusions are of
    _, confused, hard = tables(shown)
    expected = result.confusions(task, most)
    assert len(expected) == 2 or number == "all"
    assert confused[1:] == [[pair.name, pair.taken_for, f"{pair.rate * 100:.2f}"] for pair in expected]
    hardest = sorted(result.class_accuracies(task), key=lambda found: found.accuracy or 0)[:most]
    assert hard[1:] == [[found.name, f"{(found.accuracy or 0) * 100:.2f}", f"{found.queries:,}"] for found in hardest]
    found = data_of("fewshot", one, *options)["results"]
    for row in found:
        of_row = (row["ways"], row["shots"], row["classifier"])
        assert row["confusions"] == [pair._asdict() for pair in result.confusions(of_row, most)]
        assert row["classes"] == [name._asdict() for name in result.class_accuracies(of_row)]


def test_confusions_that_nobody_asked_for(one: Path) -> None:
    for options in ((), ("--confusions", "0")):
        assert len(tables(done("fewshot", one, *FEW, *options).stdout)) == 1
    assert len(data_of("fewshot", one, *FEW)["results"][0]["confusions"]) == 5  # JSON always has some
    assert data_of("fewshot", one, *FEW, "--confusions", 0)["results"][0]["confusions"] == []


def test_confusions_of_several_sets(one: Path, worse: Path) -> None:
    found = data_of("fewshot", one, worse, *FEW, "--confusions", 1)["sets"]
    alone = [data_of("fewshot", name, *FEW, "--confusions", 1) for name in (one, worse)]
    assert [len(row["confusions"]) for each in found for row in each["results"]] == [1] * 4
    for each, expected in zip(found, alone, strict=True):
        assert but_seconds(each["results"]) == but_seconds(expected["results"])
    shown = tables(done("fewshot", one, worse, *FEW, "--confusions", 1).stdout)
    assert len(shown) == 2 + 2 * 2  # accuracies, differences; and of each set the pairs and the classes
    assert [len(table[1:]) for table in shown[2:]] == [1] * 4


# Episodes


def test_episodes_are_saved(one: Path, tmp_path: Path) -> None:
    file = tmp_path / "e.parquet"
    options = (*FEW, "-w", "2,all", "-s", "1,5", "--save-episodes", file)
    found = data_of("fewshot", one, *options)
    table = pd.read_parquet(file)
    about = ["features", "ways", "shots", "classifier", "query_prior"]
    assert list(table.columns) == [*about, "episode", "classes", "accuracy"]
    assert set(table.features) == {str(one)}
    assert len(table) == 8 * 60
    groups = dict(iter(table.groupby(["ways", "shots", "classifier"])))
    for row in found["results"]:
        own = groups[row["ways"], row["shots"], row["classifier"]]
        assert list(own.episode) == list(range(60))
        assert own.accuracy.mean() == pytest.approx(row["accuracy"], rel=1e-12)
        assert own.accuracy.std() == pytest.approx(row["std"], rel=1e-12)
        assert {len(set(classes)) for classes in own.classes} == {row["ways"]}
        assert set(own.classes.explode()) == set("abcdef")
    classes = [[tuple(names) for names in groups[key].classes] for key in ((2, 1, "ridge"), (2, 5, "ncc"))]
    assert classes[0] == classes[1]  # the same episodes
    assert len(set(classes[0])) > 10
    expected = library(one, ways=[2, 6], shots=[1, 5])
    assert list(groups[2, 5, "ncc"].accuracy) == expected.accuracies[2, 5, "ncc"].tolist()
    assert classes[0] == [tuple("abcdef"[code] for code in codes) for codes in expected.drawn[2].tolist()]


def test_episodes_of_several_sets_are_saved(one: Path, worse: Path, tmp_path: Path) -> None:
    found = data_of("fewshot", one, worse, *FEW, "-c", "ncc", "--save-episodes", tmp_path / "e.parquet")
    table = pd.read_parquet(tmp_path / "e.parquet")
    means = table.groupby("features").accuracy.mean()
    assert dict(means) == pytest.approx(
        {each["features"]["id"]: each["results"][0]["accuracy"] for each in found["sets"]}
    )
    a, b = (table[table.features == str(name)] for name in (one, worse))
    assert [tuple(names) for names in a.classes] == [tuple(names) for names in b.classes]


@pytest.mark.parametrize("place", ["missing/e.parquet", "."])
def test_where_episodes_cannot_be_saved_is_said_before_the_work(place: str, tmp_path: Path) -> None:
    error = refusal("fewshot", tmp_path / "no features", "--save-episodes", tmp_path / place)
    error.expect("NCTransferError", tmp_path / place, hint="--save-episodes")


# Several sets


def test_sets_are_compared_on_the_same_episodes(one: Path, worse: Path, root: Path) -> None:
    same = npz(root / "same.npz", spread=1.0)  # of the seed of one
    sets = (one, worse, same)
    found = data_of("fewshot", *sets, *FEW, "-w", "2,5", "-c", "ncc")
    assert [each["name"] for each in found["sets"]] == [named(number, name) for number, name in enumerate(sets, 1)]
    for each, name in zip(found["sets"], sets, strict=True):
        alone = data_of("fewshot", name, *FEW, "-w", "2,5", "-c", "ncc")
        assert but_seconds(each["results"]) == but_seconds(alone["results"])
        assert each["features"] == alone["features"]
    worst = [row for row in found["differences"] if row["name"] == named(2, worse)]
    equal = [row for row in found["differences"] if row["name"] == named(3, same)]
    assert [row["ways"] for row in worst] == [row["ways"] for row in equal] == [2, 5]
    for row, a, b in zip(worst, found["sets"][0]["results"], found["sets"][1]["results"], strict=True):
        assert row["first"] == named(1, one)
        assert row["difference"] == pytest.approx(b["accuracy"] - a["accuracy"], abs=1e-12)
        assert row["interval"][0] < row["difference"] < row["interval"][1] < 0
        assert row["verdict"] == "worse"
    assert [row["population"] for row in worst] == ["classes", "samples"]  # five of six classes leave no jackknife
    assert [(row["difference"], row["interval"], row["verdict"]) for row in equal] == [
        (0, [0, 0], "not told apart")
    ] * 2
    bests = {named(1, one), named(3, same)}
    assert [({*row["names"]}, row["population"]) for row in found["possible_bests"]] == [
        (bests, "classes"),
        (bests, "samples"),
    ]

    shown = done("fewshot", *sets, *FEW, "-w", "2,5", "-c", "ncc").stdout
    for row in found["differences"]:
        low, high = (f"{end * 100:+.2f}" for end in row["interval"])
        [line] = [
            each
            for each in tables(shown)[1]
            if each[:2] == [str(row["ways"]), "1"] and shows(" ".join(each), row["name"])
        ]
        told = " ".join(line)
        assert shows(told, f"{row['difference'] * 100:+.2f}", low, high, row["population"], row["verdict"])
    assert len(tables(shown)) == 3
    assert all(shows(" ".join(line), *sorted(bests)) for line in tables(shown)[2][1:])
    better = done("fewshot", worse, one, *FEW, "-c", "ncc").stdout
    assert shows(" ".join(better.split()), POPULATIONS["samples"], "better")


@pytest.mark.parametrize(("interval", "ways"), [("samples", 2), ("samples", 6), ("classes", 2), ("disjoint", 2)])
def test_verdicts_are_about_the_population_that_was_asked_for(
    interval: Interval, ways: int, one: Path, worse: Path
) -> None:
    found = data_of("fewshot", one, worse, *FEW, "-w", ways, "--queries", 4, "-c", "ncc", "--interval", interval)
    [difference] = found["differences"]
    assert difference["population"] == ("samples" if interval == "disjoint" else interval)
    assert difference["verdict"] in ("worse", "not told apart")


@pytest.mark.parametrize("interval", ["samples", "classes"])
def test_numbers_are_shown_where_there_is_no_interval(interval: Interval, tmp_path: Path) -> None:
    two = npz(tmp_path / "two.npz", "ab", [2, 2])
    options = ("-w", 2, "--queries", 1, "-s", 1, "-c", "ncc", "--interval", interval)
    [row] = data_of("fewshot", two, *FEW, *options)["results"]
    assert row["ci95"] is None
    shown = done("fewshot", two, *FEW, *options).stdout
    assert shows(shown, f"{row['accuracy'] * 100:.2f}")
    assert solid(row["undefined"]["ci95"]) in solid(shown)


def test_settings_are_shown_for_several_sets_too(uneven: Path, tmp_path: Path) -> None:
    twin = npz(tmp_path / "twin.npz", "abcd", [20, 3, 20, 20], seed=3)
    command = ("fewshot", uneven, twin, *FEW, "-w", 2, "--drop-small")
    plain, dropped, both = (
        facts_of(done(*command, *options).stdout) for options in (("--queries", 2), (), ("--l2-normalise",))
    )
    assert [len(facts) for facts in (dropped, both)] == [len(plain) + 1, len(plain) + 2]
    for path in (uneven, twin):
        assert any(shows(line, path.name, 63) for line in plain)


def test_samples_that_one_set_lacks_are_left_out(one: Path, tmp_path: Path) -> None:
    with np.load(one) as arrays:
        features, labels = arrays["feature"], arrays["label"]
    ids = np.array([f"{number:03d}" for number in range(150)])
    whole, part = tmp_path / "whole.npz", tmp_path / "part.npz"
    np.savez(whole, feature=features, label=labels, id=ids)
    np.savez(part, feature=features[4:], label=labels[4:], id=ids[4:])
    result = done("fewshot", whole, part, *FEW, "-f", "json")
    assert warned(result, 4, whole)
    found = json.loads(result.stdout)
    assert {row["difference"] for row in found["differences"]} == {0}
    assert found["sets"][0]["features"]["samples"] == 146


def test_sets_of_nothing_in_common(one: Path, tmp_path: Path) -> None:
    refusal("fewshot", one, npz(tmp_path / "f.npz", "uvwxyz"), *FEW).expect("EpisodeError")


@pytest.mark.parametrize("options", [("--query-set", "x"), ("--query-split", "x"), ("--center-on", "x"), ("--probe",)])
def test_what_does_not_go_with_several_sets(options: tuple[str, ...], one: Path, worse: Path) -> None:
    refusal("fewshot", one, worse, *options).expect("SettingError", options[0])


# The probe


@pytest.mark.parametrize("with_test", [False, True])
def test_a_probe_on_all_labels(with_test: bool, one: Path, other: Path) -> None:
    options = ("--query-set", other) if with_test else ()
    found = data_of("fewshot", one, "--probe", *options)
    expected = nct.probe(nct.load_features(one), nct.load_features(other) if with_test else None)
    assert found["probe"] == json.loads(json.dumps(expected.to_dict()))["probe"]
    assert 0.5 < expected.accuracy < 1

    shown = done("fewshot", one, "--probe", *options).stdout
    accuracy, low, high = (f"{share * 100:.2f}" for share in (expected.accuracy, *expected.ci95))
    lines = facts_of(shown)
    assert any(shows(line, accuracy, low, high) for line in lines)
    assert any(shows(line, f"{expected.balanced_accuracy * 100:.2f}") for line in lines)
    assert any(shows(line, f"{expected.ridge_lambda:.4g}") for line in lines)
    assert any(shows(line, other, 180) for line in lines) == with_test
    if with_test:
        assert any(shows(line, f"{expected.loo_accuracy * 100:.2f}") for line in lines)

    table = pd.read_csv(io.StringIO(done("fewshot", one, "--probe", *options, "-f", "csv").stdout))
    [row] = table.to_dict("records")
    assert {name: value for name, value in row.items() if name != "test"} == {
        name: value for name, value in expected.to_row().items() if name != "test"
    }
    assert row["test"] == str(other) if with_test else pd.isna(row["test"])
    assert done("fewshot", one, "--probe", *options, "-f", "markdown").stdout.startswith("### ")


def test_a_probe_says_that_its_penalty_is_at_the_end(one: Path, tmp_path: Path) -> None:
    words = {}
    for path in (one, npz(tmp_path / "f.npz", spread=0.01)):
        found = data_of("fewshot", path, "--probe")["probe"]
        penalty = f"{found['ridge_lambda']:.4g}"
        [line] = [line for line in facts_of(done("fewshot", path, "--probe").stdout) if shows(line, penalty)]
        words[found["is_at_end"]] = line.partition(penalty)[2].strip()
    assert words[False] == ""
    assert words[True] != ""


@pytest.mark.parametrize(
    "option",
    [
        ("--l2-normalise",),
        ("--center-on", "{other}"),
        ("--ridge-lambda", "1"),
        ("--classifier", "ncc"),
        ("--interval", "classes"),
        ("--save-episodes", "e.parquet"),
        ("--confusions", "3"),
        ("--shots", "5"),
        ("--ways", "2"),
        ("--episodes", "7"),
    ],
    ids=lambda option: option[0],
)
def test_a_probe_passes_over_nothing_in_silence(option: tuple[str, ...], one: Path, other: Path) -> None:
    error = refusal("fewshot", one, "--probe", *(word.format(other=other) for word in option))
    error.expect("SettingError", "--probe", option[0], hint=option[0])


def test_a_probe_of_the_set_itself(one: Path) -> None:
    refusal("fewshot", one, "--probe", "--query-set", one).expect("FeaturesError", one)


@pytest.mark.parametrize("more", [(), ("--probe",)])
def test_an_empty_name_is_no_set(more: tuple[str, ...], one: Path) -> None:
    refusal("fewshot", one, *more, "--query-set", "").expect("FeaturesError", "")


# Formats


def test_one_task_has_a_row_a_classifier(one: Path) -> None:
    shown = done("fewshot", one, *FEW).stdout
    rows = data_of("fewshot", one, *FEW)["results"]
    assert any(shows(line, "5-way", "1-shot", "20.00", 60, 15, 0) for line in facts_of(shown))
    for row, cells in zip(rows, tables(shown)[0][1:], strict=True):
        accuracy, ci95, *others = (f"{row[name] * 100:.2f}" for name in ("accuracy", "ci95", "std", "lowest_decile"))
        assert cells[:6] == [row["classifier"], accuracy, "±", ci95, *others]


def test_several_tasks_have_a_column_a_classifier(one: Path) -> None:
    shown = done("fewshot", one, *FEW, "-w", "2,3", "-s", "1,5").stdout
    rows = data_of("fewshot", one, *FEW, "-w", "2,3", "-s", "1,5")["results"]
    head = tables(shown)[0][0]
    assert head.index("ridge") < head.index("ncc")
    for ridge, ncc in zip(rows[::2], rows[1::2], strict=True):
        cells = [f"{row['accuracy'] * 100:.2f} ± {row['ci95'] * 100:.2f}" for row in (ridge, ncc)]
        chance = {2: "50.00", 3: "33.33"}[ridge["ways"]]
        pattern = rf"^ +{ridge['ways']} +{ridge['shots']} +{cells[0]} +{cells[1]} +{chance}$"
        assert re.search(pattern, shown, re.MULTILINE)


@pytest.mark.parametrize("sets", [1, 2])
def test_csv_holds_the_rows_in_full(sets: int, one: Path, worse: Path) -> None:
    command = ("fewshot", *(one, worse)[:sets], *FEW, "-w", "2,3", "-c", "ncc,logistic")
    table = pd.read_csv(io.StringIO(done(*command, "--format", "csv").stdout))
    found = data_of(*command)
    results = [each["results"] for each in found["sets"]] if sets == 2 else [found["results"]]
    rows = [row for rows in results for row in rows]
    assert len(table) == len(rows) == 4 * sets
    for name in ("ways", "shots", "queries", "episodes", "classifier", "interval"):
        assert list(table[name]) == [row[name] for row in rows]
    for name in ("accuracy", "ci95", "std", "lowest_decile"):
        assert list(table[name]) == pytest.approx([row[name] for row in rows], rel=1e-15)
    if sets == 2:
        assert list(table["set"]) == [named(1, one)] * 4 + [named(2, worse)] * 4


def test_markdown_has_every_table(one: Path, worse: Path) -> None:
    text = done("fewshot", one, worse, *FEW, "-f", "markdown").stdout
    assert len(re.findall("^### .", text, re.MULTILINE)) == 2
    assert len(re.findall(r"^\|( -{3}:? \|)+$", text, re.MULTILINE)) == 2
    alone = done("fewshot", one, *FEW, "--confusions", 2, "-s", "1,2", "-f", "markdown").stdout
    assert len(re.findall(r"^\|( -{3}:? \|)+$", alone, re.MULTILINE)) == 3
    assert "█" not in alone


def test_names_are_no_markup(tmp_path: Path) -> None:
    names = ["[bold]a", "b|c", "[/red]", "x" * 70]
    file = npz(tmp_path / "[red]f.npz", names)
    options = (*FEW, "-w", 4, "--confusions", "all")
    shown = done("fewshot", file, *options).stdout
    assert str(file.name) in shown
    assert [name for name in names if name not in shown] == []
    markdown = done("fewshot", file, *options, "-f", "markdown").stdout
    assert r"\[bold\]a" in markdown
    assert r"b\|c" in markdown
    done("fewshot", file, *FEW, "-w", 4, "--save-episodes", tmp_path / "[b].parquet")
    assert set(pd.read_parquet(tmp_path / "[b].parquet").classes.explode()) == set(names)
    twin = npz(tmp_path / "[blue]f.npz", names, seed=1)
    compared = done("fewshot", file, twin, *FEW, "-w", 4).stdout
    assert solid(compared).count(solid(named(1, file))) == 2 + 2  # and in each sentence
    assert solid(compared).count(solid(named(2, twin))) == 1 + 2 + 2  # and in each row of the differences


# A terminal

NUMBER = re.compile(r"\d+\.\d\d(?: ± \d+\.\d\d)?")
SEVERAL = ("-w", "2,5", "-s", "1,5", "-c", "ridge,ncc,knn", "--confusions", "3")


def test_a_narrow_terminal_shows_every_number_and_the_learning_curve(one: Path) -> None:
    expected = done("fewshot", one, *FEW, *SEVERAL).stdout
    assert "█" not in expected  # no terminal
    code, screen = on_terminal("fewshot", one, *FEW, *SEVERAL, "--quiet", COLUMNS="40", NO_COLOR="1", PYTHONUTF8="1")
    screen = re.sub(r"\x1b\[[\d;]*m", "", screen)
    assert code == 0
    numbers = NUMBER.findall(expected)
    assert len(numbers) > 15
    assert [number for number in numbers if number not in screen] == []
    assert max(map(len, screen.splitlines())) == 40
    assert len(re.findall(r"^(?:[25]-way (?:ridge|ncc|knn))? .*\b[15]\b.* █+.?", screen, re.MULTILINE)) == 12


def test_a_terminal_that_knows_ascii_only_shows_no_bars(one: Path) -> None:
    code, screen = on_terminal(
        "fewshot", one, *FEW, *SEVERAL, "--quiet", NO_COLOR="1", PYTHONIOENCODING="ascii", PYTHONUTF8="0"
    )
    assert code == 0
    assert screen.isascii()
    plain = done("fewshot", one, *FEW, *SEVERAL).stdout
    assert len(re.findall(r"\b[25]-way\b", screen)) == len(re.findall(r"\b[25]-way\b", plain))
    accuracy = data_of("fewshot", one, *FEW, *SEVERAL)["results"][0]["accuracy"]
    assert f"{accuracy * 100:.2f} " in screen


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}])
def test_a_file_holds_no_bars(environment: dict[str, str], one: Path, tmp_path: Path) -> None:
    expected = done("fewshot", one, *FEW, *SEVERAL).stdout
    done("fewshot", one, *FEW, *SEVERAL, "--output", tmp_path / "out.txt", **environment)
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == expected


# Wrong values


@pytest.mark.parametrize(
    ("options", "kind", "named", "tells"),
    [
        (("--ways", "7"), "EpisodeError", (7, 6), ("--ways", 6)),
        (("--shots", "11"), "EpisodeError", (11, 15, 26, "a", 25), ("--queries", 14)),
        (("--queries", "25"), "EpisodeError", (25, 26), ("--queries", 24)),
        (("--queries", "all", "--shots", "25"), "EpisodeError", (25, 26), "images"),
        (("--classifier", "svm"), "SettingError", ("svm",), ("ridge", "ncc", "--classifier")),
        (("--classifier", ""), "SettingError", ("",), "--classifier"),
        (("--interval", "x"), "SettingError", ("x",), (*INTERVALS, "--interval")),
        (("--interval", "disjoint", "--queries", "all"), "SettingError", (), "--queries"),
        (("--interval", "disjoint", "-w", "all", "--queries", "14"), "EpisodeError", (1,), ("--queries", "--interval")),
        (("--ridge-lambda", "0"), "SettingError", (0.0,), "--ridge-lambda"),
        (("--ridge-lambda", "-1"), "SettingError", (-1.0,), "--ridge-lambda"),
        (("--ridge-lambda", "nan"), "SettingError", ("nan",), "--ridge-lambda"),
        (("--ridge-lambda", "inf"), "SettingError", ("inf",), "--ridge-lambda"),
        (("--ridge-lambda", "loo"), "SettingError", (2,), "--ridge-lambda"),
        (("--query-set", "{here}"), "EpisodeError", ("{here}",), "--query-set"),
        (("--query-set", "{narrow}"), "EpisodeError", (3, 8), "--query-set"),
        (("--query-set", "{strange}"), "EpisodeError", (0, "{strange}"), ()),
        (("--center-on", "{narrow}"), "EpisodeError", (3, 8), "--center-on"),
    ],
    ids=lambda value: "_".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_tasks_that_cannot_be(
    options: tuple[str, ...], kind: str, named: tuple[object, ...], tells: object, one: Path, tmp_path: Path
) -> None:
    files = {
        "here": one,
        "narrow": npz(tmp_path / "narrow.npz", d=3),
        "strange": npz(tmp_path / "strange.npz", "uvwxyz"),
    }
    error = refusal("fewshot", one, *FEW, *(word.format(**files) for word in options))
    values = (value.format(**files) if isinstance(value, str) else value for value in named)
    error.expect(kind, *values, tells=tells)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (("--query-set", "no such"), "FeaturesError"),
        (("--center-on", "no such"), "FeaturesError"),
        (("--feature-column", "absent"), "FeaturesError"),
        (("--device", "abacus"), "DeviceError"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_not_there(options: tuple[str, str], kind: str, one: Path) -> None:
    refusal("fewshot", one, *FEW, *options).expect(kind, options[1])


@pytest.mark.parametrize(
    ("command", "named", "tells"),
    [
        ("fewshot --ways 50", (50, 3), ("--ways", 3)),
        ("fewshot --ways 2 --shots 4 --queries 5", (4, 5, 9, "'one'", 6), "images"),
        ("fewshot --ways 4 --queries 2 --max-per-class 3", (4, 3), "--ways"),
        ("expect --ways 50", (50, 3), ("--ways", 3)),
        ("expect --ways 2 --shots 6", (6, 7, "'one'"), ()),
        ("bounds --ways 50", (50, 3), ("--ways", 3)),
    ],
)
def test_what_the_labels_cannot_give_is_refused_before_any_image_runs(
    command: str, named: tuple[object, ...], tells: object, pets: Path, ran: Callable[[], int]
) -> None:
    name, *options = command.split()
    error = refusal(name, *VIT, "--data", pets, *options)
    error.expect("EpisodeError", *named, hint=None, tells=tells)
    assert ran() == 0


def test_a_single_class_is_refused_before_any_image_runs(pets: Path, tmp_path: Path, ran: Callable[[], int]) -> None:
    (tmp_path / "one.txt").write_text("one\n", encoding="utf-8")
    error = refusal("collapse", *VIT, "--data", pets, "--classes", tmp_path / "one.txt")
    error.expect("FeaturesError", 1, hint=None)
    assert ran() == 0


@pytest.mark.parametrize(
    "command",
    ["fewshot --ways 2 --queries 3 --episodes 20", "expect --ways 2,3 --shots 1,5", "bounds --ways 3", "collapse"],
)
def test_what_the_labels_can_give_is_run(command: str, pets: Path, ran: Callable[[], int]) -> None:
    name, *options = command.split()
    assert data_of(name, *VIT, "--data", pets, *options)["features"]["samples"] == 18
    assert ran() == 18


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--ways", "x"),
        ("--ways", "5,"),
        ("--ways", "ALL"),
        ("--shots", "all"),
        ("--shots", ""),
        ("--queries", "1,2"),
        ("--queries", "x"),
        ("--episodes", "1"),
        ("--ridge-lambda", "x"),
        ("--ridge-lambda", ""),
        ("--confusions", "x"),
        ("--confusions", "1,2"),
        ("--confusions", "-1"),
        ("--confusions", ""),
    ],
)
def test_what_no_option_can_mean(option: str, value: str, one: Path) -> None:
    told = {"5,": "", "1": 2}.get(value, value)  # the part that is wrong; what it must be at least
    assert missing(misused("fewshot", one, option, value), option, told) == []


def test_an_error_is_words_too(one: Path) -> None:
    assert shows(refused("fewshot", one, "--ways", "7"), 7, "--ways", 6)


def test_verbose_says_how_inner_products_are_made(one: Path) -> None:
    notes = []
    for episodes in (20_000, 5):  # all at once and looked up; or of the rows of each episode
        arguments = ("fewshot", one, "--episodes", episodes, "--no-theory", "-c", "ncc")
        notes.append(set(notes_of(done(*arguments, "--verbose"))))
        assert done(*arguments).stderr == ""
    assert notes[0]
    assert notes[1]
    assert notes[0] != notes[1]
