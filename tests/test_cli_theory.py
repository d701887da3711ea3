"""``nctransfer expect``, ``bounds``, ``explain``, and theory beside what ``fewshot`` measures."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nctransfer as nct
from nctransfer.evaluation import expected_accuracy, pair_explanation
from nctransfer.evaluation.margin_bounds import MarginBound, bound_by_margins
from nctransfer.neural_collapse import bounds
from nctransfer.neural_collapse.bound_table import bound_table
from nctransfer.neural_collapse.bounds import BOUNDS
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from terminal import VIT, cli, data_of, done, missing, misused, refusal, shows, warned

MEANS = np.random.default_rng(0).normal(size=(6, 8))
FEW = ("--episodes", "50")
FORMATS = ("table", "json", "csv", "markdown")


def npz(path: Path, names: list[str], counts: Any = 25, seed: int = 0, shift: float = 2.0) -> Path:
    counts = [counts] * len(names) if isinstance(counts, int) else counts
    codes = np.repeat(range(len(names)), counts)
    x = MEANS[codes] * 1.5 + np.random.default_rng(seed).normal(size=(len(codes), 8)) + shift
    np.savez(path, feature=x.astype("float32"), label=np.array(names)[codes])
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def one(root: Path) -> Path:
    return npz(root / "one.npz", [*"abcdef"])


@pytest.fixture(scope="module")
def reference(root: Path) -> Path:
    return npz(root / "reference.npz", ["x", "y"], seed=1, shift=1.0)


def loaded(path: Path) -> nct.FeatureSet:
    return nct.load_features(path)


def csv_of(*arguments: object) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(done(*arguments, "--format", "csv").stdout), comment="#")


# expect


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (("--ways", "2,5"), {"ways": (2, 5)}),
        (("-w", "3", "--shots", "1,10"), {"ways": 3, "shots": (1, 10)}),
        (("-w", "3", "-s", "2", "--seed", "3"), {"ways": 3, "shots": 2, "seed": 3}),
        (("-w", "3", "-c", "cosine"), {"ways": 3, "classifier": "cosine"}),
        (("-w", "3", "--method", "normal"), {"ways": 3, "method": "normal"}),
        (("-w", "3", "--l2-normalise"), {"ways": 3, "l2_normalise": True}),
    ],
    ids=" ".join,
)
def test_expect_does_what_the_library_does(one: Path, options: tuple[str, ...], settings: dict[str, Any]) -> None:
    words = () if {"-s", "--shots"} & {*options} else ("-s", "1,5")
    found = data_of("expect", one, *options, *words)
    expected = expected_accuracy.expect(loaded(one), **{"shots": (1, 5), "device": "cpu", **settings})
    assert len(found["results"]) == len(expected.rows)
    for row, other in zip(found["results"], expected.to_dict()["results"], strict=True):
        assert row == {**other, **{name: pytest.approx(other[name], abs=1e-4) for name in ("accuracy", "ci95")}}
    assert found["provenance"]
    assert found["seconds"] > 0


def test_expect_takes_a_reference_mean(one: Path, reference: Path) -> None:
    words = ("expect", one, "-w", "2", "-s", "1", "-c", "simpleshot", "--center-on", reference)
    [row] = data_of(*words)["results"]
    [expected] = expected_accuracy.expect(
        loaded(one), 2, 1, classifier="simpleshot", center_on=loaded(reference), device="cpu"
    ).rows
    assert (row["classifier"], row["accuracy"]) == ("simpleshot", pytest.approx(expected.accuracy, abs=1e-6))
    plain = expected_accuracy.expect(loaded(one), 2, 1, device="cpu").rows[0].accuracy
    assert row["accuracy"] != pytest.approx(plain, abs=1e-3)


def test_expect_in_every_format(one: Path) -> None:
    words = ("expect", one, "-w", "2,5", "-s", "1,5")
    rows = data_of(*words)["results"]
    assert [(row["ways"], row["shots"]) for row in rows] == [(2, 1), (5, 1), (2, 5), (5, 5)]
    frame = csv_of(*words)
    assert frame["accuracy"].tolist() == pytest.approx([row["accuracy"] for row in rows])
    for name in ("table", "markdown"):
        shown = done(*words, "--format", name).stdout
        assert shows(shown.splitlines()[0], "ncc")
        for row in rows:
            assert row["exact"] == (row["shots"] == 1)
            behind = "exact" if row["exact"] else f"± {row['ci95'] * 100:.2f}"
            assert f"{row['accuracy'] * 100:.2f} {behind}" in shown
        assert {"2-way", "5-way"} <= set(re.findall(r"\d-way", shown))
        assert any(shows(line, "resampled", 150) for line in shown.splitlines())
    assert any(shows(line, "normal", 150) for line in done(*words, "--method", "normal").stdout.splitlines())


def test_expect_of_the_built_in_classes_without_options(root: Path) -> None:
    shown = done("expect", npz(root / "six.npz", [*"abcdef"])).stdout
    assert "5-way" in shown  # by default as many ways as the classes give
    assert "20-way" not in shown


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (("--ways", "x,2"), "x"),
        (("--ways", "all"), "all"),
        (("--shots", "inf"), "inf"),
        (("--shots", ""), ""),
        (("--shots", "1,0"), "0"),
        (("--ways", "1,2"), "1"),
        (("--method", "gaussian"), "gaussian"),
    ],
    ids=str,
)
def test_misuse_of_expect(one: Path, options: tuple[str, str], wrong: str) -> None:
    assert missing(misused("expect", one, *options), options[0], wrong) == []


@pytest.mark.parametrize(
    ("options", "kind", "named", "hint"),
    [
        (("-w", "7"), "EpisodeError", (7, 6), ("--ways", 6)),
        (("-w", "2", "-s", "25"), "EpisodeError", (25, 1, 26), "images"),
        (("-w", "2", "-c", "simpleshot"), "SettingError", ("simpleshot",), "--center-on"),
        (("-w", "2", "-c", "ridge"), "SettingError", ("ridge",), ("--classifier", "ncc", "cosine", "simpleshot")),
        (
            ("-w", "2", "-c", "cosine", "--method", "normal"),
            "SettingError",
            ("cosine", "normal"),
            ("--classifier", "--method", "ncc"),
        ),
    ],
    ids=str,
)
def test_what_expect_refuses(
    one: Path, options: tuple[str, ...], kind: str, named: tuple[object, ...], hint: tuple[object, ...]
) -> None:
    refusal("expect", one, *options).expect(kind, *named, hint=hint)


def test_a_classifier_without_an_expected_form_is_refused_before_any_image_is_run() -> None:
    refusal("expect", *VIT, "--data", "digits", "-c", "ridge").expect("SettingError", "ridge", hint="--classifier")
    assert data_of("cache", "list")["sets"] == []


# bounds


def test_bounds_are_those_of_the_library(one: Path) -> None:
    found = data_of("bounds", one, "--ways", "5,2", "--shots", "1,10,inf")
    features = loaded(one)
    expected = bound_table(
        ClassStatistics.of(features, "cpu"), features.describe(), (2, 5), (1, 10, float("inf"))
    ).to_dict()["results"]
    assert [(row["ways"], row["shots"]) for row in found["results"]] == [
        (ways, shots) for ways in (2, 5) for shots in (1, 10, "inf")
    ]
    margins = bound_by_margins(features, (2, 5), (1, 10, math.inf), device="cpu")
    for row, other in zip(found["results"], expected, strict=True):
        by_margin = {name: row["bounds"].pop(name) for name in MarginBound._fields}
        assert row["bounds"] == other["bounds"]
        values = margins[row["ways"], math.inf if row["shots"] == "inf" else row["shots"]]
        assert [one["value"] for one in by_margin.values()] == pytest.approx(list(values))
        for one in by_margin.values():
            assert (one["vacuous"], one["uninformative"]) == (one["value"] > 1, one["value"] > 1 - 1 / row["ways"])
    assert {row["bounds"]["galanti2022"]["vacuous"] for row in found["results"]} == {True}
    counts = features.counts.tolist()
    assert (found["images_per_class"], found["unresolved_pairs"]) == ([min(counts), max(counts)], 0)


def test_bounds_by_default(one: Path) -> None:
    rows = data_of("bounds", one)["results"]
    assert [(row["ways"], row["shots"]) for row in rows] == [(5, shots) for shots in (1, 5, 10, 50, 500, "inf")]


def test_bounds_in_every_format(one: Path) -> None:
    words = ("bounds", one, "-w", "2", "-s", "1,10,inf")
    rows = data_of(*words)["results"]
    frame = csv_of(*words)
    assert list(frame["bound"]) == 3 * [*BOUNDS, *MarginBound._fields]
    last = frame.iloc[-1]
    expected = rows[-1]["bounds"]["margin_per_query"]["value"]
    assert (last["bound"], last["shots"], last["value"]) == ("margin_per_query", np.inf, pytest.approx(expected))
    for name in ("table", "markdown"):
        shown = done(*words, "--format", name).stdout
        assert shows(shown.splitlines()[0], "ncc")
        assert "∞" in shown
        # a word behind what says nothing
        all_bounds = [bound for row in rows for bound in row["bounds"].values() if bound["value"] != "inf"]
        for bound in all_bounds:
            behind = re.search(rf"\b{bound['value'] * 100:.2f}( ?)([≥a-z]*)", shown)
            assert behind
            assert (len(behind[1]) == 1 and behind[2] != "") == bound["uninformative"]
        assert {bound["vacuous"] for bound in all_bounds} == {True, False}


def test_infinite_bounds(root: Path) -> None:
    x = np.array([[1.0, 0], [-1, 0], [3, 0], [-3, 0]])
    np.savez(root / "same.npz", feature=x, label=np.array([*"aabb"]))
    rows = data_of("bounds", root / "same.npz", "-w", "2", "-s", "10,inf")["results"]
    for row in rows:
        by_pair = {name: one["value"] for name, one in row["bounds"].items() if "capped" in name or "margin" in name}
        assert by_pair.keys() == {"luthra2026_capped", *MarginBound._fields}
        # at infinitely many shots the two are never told apart; at 10 the wider class may win
        assert all(value == 1 if row["shots"] == "inf" else 0.5 < value <= 1 for value in by_pair.values())
        assert {one["value"] for name, one in row["bounds"].items() if name not in by_pair} == {"inf"}
        assert {one["uninformative"] for one in row["bounds"].values()} == {True}
    assert done("bounds", root / "same.npz", "-w", "2", "-s", "10").stdout.count("∞") == 4


def test_bounds_of_classes_that_the_images_do_not_tell_apart(root: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(root / "noise.npz", feature=rng.normal(size=(40, 16)), label=np.repeat([*"abcd"], 10))
    for words in (
        ("bounds", root / "noise.npz", "-w", "2"),
        ("fewshot", root / "noise.npz", *FEW, "-w", "2", "--queries", "5"),
    ):
        row = data_of(*words)["results"][-1]
        unresolved = {name: one for name, one in row["bounds"].items() if one["value"] is None}
        assert {"galanti2022", "luthra2025", "luthra2026"} <= unresolved.keys()
        assert all("6 pairs of classes" in one["reason"] for one in unresolved.values())
        assert all(one["uninformative"] for name, one in row["bounds"].items() if name not in unresolved)
    assert shows(done("bounds", root / "noise.npz", "-w", "2").stdout, "6 pairs of classes")


def test_bounds_state_how_much_is_read_into_memory(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.evaluation.margin_bounds.IN_MEMORY", 100)
    row = data_of("bounds", one)["results"][0]
    for name in MarginBound._fields:
        assert row["bounds"][name]["value"] is None
        assert shows(row["bounds"][name]["reason"], 100)
    assert row["bounds"]["luthra2025"]["value"] is not None


def test_few_shot_bounds_by_margin_of_too_much_work(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.evaluation.fewshot_theory.MARGIN_WORK", 100)
    [row] = data_of("fewshot", one, *FEW, "-c", "ncc")["results"]
    assert {name for name, bound in row["bounds"].items() if bound["value"] is None} == {*MarginBound._fields}
    assert shows(row["undefined"]["margin"], "nctransfer bounds")


@pytest.mark.parametrize(
    ("option", "value", "wrong"),
    [
        ("--ways", "x,2", "x"),
        ("--ways", "all", "all"),
        ("--shots", "-inf", "-inf"),
        ("--shots", "1,nan", "nan"),
        ("--shots", "1.5", "1.5"),
        ("--shots", "0,inf", "0"),
        ("--ways", "5,1", "1"),
    ],
)
def test_misuse_of_bounds(one: Path, option: str, value: str, wrong: str) -> None:
    assert missing(misused("bounds", one, option, value), option, wrong) == []


def test_what_bounds_refuses(one: Path) -> None:
    refusal("bounds", one, "-w", "7").expect("EpisodeError", 7, 6, hint=("--ways", 6))


# explain


def test_explain_is_that_of_the_library(one: Path) -> None:
    found = data_of("explain", "c", "a", one, *FEW, "--shots", "5,1", "--seed", "3")
    expected = pair_explanation.explain(loaded(one), "c", "a", (1, 5), episodes=50, seed=3, device="cpu").to_dict()
    assert [row["measured"] for row in found["shots"]] == [row["measured"] for row in expected["shots"]]
    for name in ("distance", "cdnv", "overlap", "limit", "reason"):
        assert found[name] == (pytest.approx(expected[name]) if name != "reason" else expected[name])
    assert [one["name"] for one in found["directions"]] == ["c", "a"]
    assert set(found["shots"][0]) == {"shots", "closed_form", "expected", "measured", "ci95", "bound"}
    assert [row["shots"] for row in data_of("explain", "a", "b", one, *FEW)["shots"]] == [1, 5, 10]


def test_explain_in_every_format(one: Path) -> None:
    words = ("explain", "a", "b", one, *FEW)
    found = data_of(*words)
    frame = csv_of(*words)
    assert frame["shots"].tolist() == [1, 5, 10]
    assert set(frame["class_a"] + frame["class_b"]) == {"ab"}
    for name in ("table", "markdown"):
        shown = " ".join(done(*words, "--format", name).stdout.split())
        assert found["reason"] in shown
        for row in found["shots"]:
            assert f"{row['measured'] * 100:.2f} ± {row['ci95'] * 100:.2f}" in shown
            assert f"{row['expected'] * 100:.2f}" in shown
            assert f"{row['closed_form'] * 100:.2f}" in shown
            assert row["bound"] > 0 or f"{row['bound'] * 100:.2f}" not in shown  # it says nothing
        for direction in found["directions"]:
            assert shows(shown, direction["name"], f"{direction['dimension']:.0f}", f"{direction['variance']:.4f}")


@pytest.mark.parametrize("name", FORMATS)
def test_class_names_are_no_markup(root: Path, name: str) -> None:
    names = ["[red]a|b[/red]", "[/bold] *c*"]
    path = npz(root / "markup.npz", names)
    words = ("explain", *names, path, *FEW, "-s", "1", "--format", name)
    shown = done(*words).stdout
    told = shown.replace("\\", "") if name == "markdown" else shown
    for each in names:
        assert each in told


def test_class_names_do_not_hide_facts(root: Path) -> None:
    path = npz(root / "facts.npz", ["data", "distance"])
    shown = done("explain", "data", "distance", path, *FEW, "-s", "1").stdout
    assert any(shows(line, 50, 2, 8) for line in shown.splitlines())  # samples, classes, width
    found = data_of("explain", "data", "distance", path, *FEW, "-s", "1")
    for direction in found["directions"]:
        assert any(shows(line, direction["name"], f"{direction['variance']:.4f}") for line in shown.splitlines())
    assert f"{found['distance']:.4f}" in shown


@pytest.mark.parametrize("width", ["40", "60", "200"])
def test_narrow_terminals_cut_no_number(one: Path, width: str) -> None:
    for words in (
        ("explain", "a", "b", one, *FEW),
        ("expect", one, "-w", "2,3,4,5", "-s", "1,5"),
        ("bounds", one, "-s", "1,inf"),
        ("fewshot", one, *FEW, "-s", "1,10"),
    ):
        shown = done(*words, COLUMNS=width).stdout
        found = set(re.findall(r"\d+\.\d\d\b", done(*words, COLUMNS="300").stdout))
        assert found
        assert found <= set(re.findall(r"\d+\.\d\d\b", shown))
        assert "…" not in shown


@pytest.mark.parametrize(
    ("words", "kind", "named", "hint"),
    [
        (("a", "a"), "SettingError", ("'a'",), ()),
        (("a", "g"), "FeaturesError", ("'g'",), tuple("abcdef")),
    ],
    ids=["twice", "absent"],
)
def test_what_explain_refuses(
    one: Path, words: tuple[str, ...], kind: str, named: tuple[object, ...], hint: tuple[str, ...]
) -> None:
    refusal("explain", *words[:2], one, *words[2:]).expect(kind, *named, hint=hint)


def test_misuse_of_explain(one: Path) -> None:
    assert shows(misused("explain", "a", "b", one, "--shots", "inf"), "--shots", "inf")
    assert shows(misused("explain", "a", "b", one, "--episodes", "1"), "--episodes", 2)
    assert shows(misused("explain", "a", "b", one, "--shots", "1,0"), "--shots", 0)
    assert "CLASS_B" in misused("explain", "a")


def test_explain_of_more_shots_than_samples(one: Path) -> None:
    result = done("explain", "a", "b", one, *FEW, "-s", "30")
    assert shows(result.stdout.splitlines()[0], "a", "b")
    assert warned(result, 30)
    assert data_of("explain", "a", "b", one, *FEW, "-s", "5,30")["shots"][0]["shots"] == 5


# fewshot


def test_theory_stands_beside_what_ncc_measures(one: Path) -> None:
    found = data_of("fewshot", one, *FEW, "-s", "1,10", "-c", "ridge,ncc")
    features = loaded(one)
    stats = ClassStatistics.of(features, "cpu")
    expected = {row.shots: row.accuracy for row in expected_accuracy.expect(features, 5, (1, 10), device="cpu").rows}
    seen = []
    for row in found["results"]:
        seen.append((row["classifier"], row["shots"]))
        if row["classifier"] == "ridge":
            assert (row["expected_accuracy"], row["bounds"], row["undefined"]) == (None, None, {})
            continue
        assert row["expected_accuracy"] == pytest.approx(expected[row["shots"]], abs=2e-3)
        assert abs(row["accuracy"] - row["expected_accuracy"]) < 4 * row["ci95"]
        for name, one_bound in bounds.error_bounds(stats, 5, row["shots"]).items():
            assert row["bounds"][name]["value"] == pytest.approx(one_bound.value)
            assert row["bounds"][name]["vacuous"] == one_bound.vacuous
        values = bound_by_margins(features, [5], [row["shots"]], device="cpu")[5, row["shots"]]
        assert [row["bounds"][name]["value"] for name in MarginBound._fields] == pytest.approx(list(values), rel=1e-4)
        assert row["undefined"] == {}
    assert sorted(seen) == [("ncc", 1), ("ncc", 10), ("ridge", 1), ("ridge", 10)]


def test_theory_in_tables_and_frames(one: Path) -> None:
    words = ("fewshot", one, *FEW, "-s", "10", "-c", "ncc")
    [row] = data_of(*words)["results"]
    for name in ("table", "markdown"):
        shown = done(*words, "--format", name).stdout
        assert f"{row['expected_accuracy'] * 100:.2f}" in shown
        assert shows(shown.replace("\\_", "_"), "galanti2022", "luthra2025", "luthra2026", *MarginBound._fields)
        assert f"{(1 - row['accuracy']) * 100:.2f}" in shown
        assert f"{row['bounds']['luthra2026']['value'] * 100:.2f}" in shown
    frame = csv_of(*words)
    assert frame["expected_accuracy"][0] == pytest.approx(row["expected_accuracy"])


def test_without_theory(one: Path) -> None:
    words = ("fewshot", one, *FEW, "-c", "ncc", "--no-theory")
    [row] = data_of(*words)["results"]
    assert (row["expected_accuracy"], row["bounds"], row["undefined"]) == (None, None, {})
    assert not any(shows(done(*words).stdout, name) for name in BOUNDS)
    with_theory = data_of(*words[:-1])["results"][0]
    assert (with_theory["accuracy"], with_theory["ci95"]) == (row["accuracy"], row["ci95"])


def test_theory_is_of_the_features_as_they_are_scaled(one: Path, reference: Path) -> None:
    [row] = data_of("fewshot", one, *FEW, "-c", "ncc", "--l2-normalise", "--center-on", reference)["results"]
    [expected] = expected_accuracy.expect(
        loaded(one), 5, 1, l2_normalise=True, center_on=loaded(reference), device="cpu"
    ).rows
    assert row["expected_accuracy"] == pytest.approx(expected.accuracy, abs=1e-4)
    [raw] = expected_accuracy.expect(loaded(one), 5, 1, device="cpu").rows
    assert abs(row["expected_accuracy"] - raw.accuracy) > 1e-3


def test_no_theory_of_queries_of_another_set(root: Path, one: Path) -> None:
    other = npz(root / "other.npz", [*"abcdef"], seed=5)
    [row] = data_of("fewshot", one, *FEW, "-c", "ncc", "--query-set", other)["results"]
    assert row["expected_accuracy"] is None
    assert {bound["value"] for bound in row["bounds"].values()} == {None}
    assert set(row["undefined"]) == {"expected_accuracy", *BOUNDS, *MarginBound._fields}
    [reason] = set(row["undefined"].values())
    assert reason


def test_too_much_work_is_said(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.evaluation.fewshot_theory.EXPECTED_WORK", 100)
    [row] = data_of("fewshot", one, *FEW, "-c", "ncc")["results"]
    assert row["expected_accuracy"] is None
    assert shows(row["undefined"]["expected_accuracy"], "nctransfer expect")
    assert row["bounds"]["galanti2022"]["value"] > 0


def test_expected_is_what_all_queries_of_uneven_classes_measure(root: Path) -> None:
    rng, path = np.random.default_rng(0), root / "uneven.npz"
    x = [rng.normal(size=(n, 8)) * wide + at for n, wide, at in ((4, 2, 0), (120, 0.6, 0.7), (40, 1, -0.3))]
    np.savez(path, feature=np.concatenate(x), label=np.repeat([*"abc"], [4, 120, 40]))
    [row] = data_of("fewshot", path, "-e", "2000", "-w", "3", "-c", "ncc", "--queries", "all")["results"]
    if row["expected_accuracy"] is None:
        assert row["undefined"]["expected_accuracy"]
    else:
        assert abs(row["accuracy"] - row["expected_accuracy"]) < 2 * row["ci95"]


def test_results_alone_are_on_stdout(one: Path) -> None:
    for words in (("expect", one, "-w", "2"), ("bounds", one), ("explain", "a", "b", one, *FEW)):
        result = cli(*words, "--format", "json")
        json.loads(result.stdout)
        assert "\x1b" not in result.stdout + result.stderr
