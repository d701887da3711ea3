"""``nct.labels`` and ``nctransfer labels``: the curve, the numbers, what is printed and drawn, and bad input."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer

import nctransfer as nct
from messages import raises
from nctransfer.cli.parsing import percents
from nctransfer.errors import EpisodeError, SettingError
from nctransfer.evaluation.label_counts import LabelCounts
from nctransfer.evaluation.labels_needed import LabelsNeeded, extrapolate, labels_needed
from nctransfer.evaluation.learning_curve import curve_task, learning_curve
from nctransfer.report.labels_sheets import labels_sheets
from terminal import data_of, done, missing, misused, refusal, shows

MEANS = np.random.default_rng(0).normal(size=(5, 6))


def arrays(counts: int | list[int] = 12, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Normal classes: the features and their labels."""
    sizes = [counts] * len(MEANS) if isinstance(counts, int) else counts
    codes = np.repeat(range(len(sizes)), sizes)
    rows = MEANS[codes] + noise * np.random.default_rng(1).normal(size=(len(codes), 6))
    return rows.astype("float32"), np.array([*"abcde"])[codes]


def features(counts: int | list[int] = 12, noise: float = 1.0) -> nct.FeatureSet:
    return nct.FeatureSet.from_arrays(*arrays(counts, noise))


@pytest.fixture(scope="module")
def found() -> LabelCounts:
    return nct.labels(features(), (0.7, 0.99), classifiers=("ridge", "ncc"), device="cpu")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "one.npz"
    rows, labels = arrays()
    np.savez(path, feature=rows, label=labels)
    return path


# The library


def test_every_target_is_answered_from_one_curve(found: LabelCounts) -> None:
    assert [(one.classifier, one.target) for one in found.targets] == [
        (name, target) for name in ("ridge", "ncc") for target in (0.7, 0.99)
    ]
    for one in found.targets:
        assert one == labels_needed(found.curve, one.classifier, one.target)


def test_a_curve_is_that_of_all_its_shots(found: LabelCounts) -> None:
    curve = learning_curve(features(), ("ridge", "ncc"), device="cpu")
    assert curve.task.shots == found.curve.task.shots
    assert curve.task.shots[0] == 1
    assert 8 <= curve.task.shots[-1] <= 11
    assert {*curve.estimates} == {(shots, name) for shots in curve.task.shots for name in ("ridge", "ncc")}
    for key, one in curve.estimates.items():
        assert one.accuracy == found.curve.estimates[key].accuracy


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    first, again, other = (nct.labels(features(), 0.7, seed=seed, device="cpu") for seed in (0, 0, 1))
    assert first.to_dict() == again.to_dict()
    assert first.to_dict()["curve"] != other.to_dict()["curve"]


def test_leave_one_out_starts_at_two_shots() -> None:
    task = curve_task(features(), ("ncc", "ridge"), ridge_lambda="loo")
    assert task.shots[0] == 2
    assert curve_task(features(), ("ncc",), ridge_lambda="loo").shots[0] == 1


def test_the_curve_ends_where_it_is_told() -> None:
    assert curve_task(features(), most_shots=4).shots == (1, 2, 3, 4)
    with raises(SettingError, 1, 2, hint=["--most-shots"]):
        curve_task(features(), ridge_lambda="loo", most_shots=1)


def test_small_classes_are_an_error_or_left_out() -> None:
    few = features([12, 12, 12, 1, 12])
    with raises(EpisodeError, 2, "d", hint=["--drop-small"]):
        nct.labels(few)
    left = nct.labels(few, 0.5, drop_small=True, device="cpu")
    assert left.curve.dropped == ("d",)
    assert len(left.curve.classes) == 4
    with raises(EpisodeError, 9, 8, hint=["images"]):
        curve_task(features([8, 12, 12, 12, 12]), most_shots=8)


def test_a_curve_may_end_where_a_target_is_surely_reached() -> None:
    easy = features(20, noise=0.3)
    whole, ended = learning_curve(easy, device="cpu"), learning_curve(easy, until_reached=0.6, device="cpu")
    measured = sorted(shots for shots, _ in ended.estimates)
    assert measured == list(whole.task.shots[: len(measured)])
    assert len(measured) < len(whole.task.shots)
    low, _ = ended.estimates[measured[-1], "ridge"].interval
    assert low >= 0.6
    assert labels_needed(ended, "ridge", 0.6) == labels_needed(whole, "ridge", 0.6)


@pytest.mark.parametrize("drop_small", [True, False])
def test_classes_with_one_image_have_no_curve(drop_small: bool) -> None:
    with raises(EpisodeError, 2, 4, hint=["images"]):
        nct.labels(features([1, 1, 1, 1, 9]), drop_small=drop_small)


def test_one_class_has_no_curve() -> None:
    rows, labels = arrays()
    with raises(EpisodeError, 2, hint=["classes"]):
        nct.labels(nct.FeatureSet.from_arrays(rows, np.full(len(labels), "a")))


def test_classes_with_two_images_have_a_curve_of_one_point() -> None:
    small = nct.labels(features(2, noise=3), 0.99, device="cpu")
    assert small.curve.task.shots == (1,)
    [one] = small.targets
    assert (one.value, one.interval, one.extrapolated) == (None, (2, None), False)
    assert extrapolate(small.curve, "ridge") is None
    assert shows(one.reason or "", "not reached", 2)
    assert all(shows(sheet.title) for sheet in labels_sheets(small))


def test_accuracies_of_100_percent_take_one_label() -> None:
    [one] = nct.labels(features(20, noise=0.01), 0.95, device="cpu").targets
    assert (one.value, one.interval, one.extrapolated) == (1, (1, 1), False)


def test_a_target_out_of_reach_says_the_best() -> None:
    hard = nct.labels(features(12, noise=50), 0.9, device="cpu")
    [one] = hard.targets
    shots = hard.curve.task.shots[-1]
    assert one.value is None
    assert one.interval[1] is None
    assert shows(one.reason or "", "not reached", shots, 12)


@pytest.mark.parametrize("targets", [0.0, 1.5, (0.9, 95), -1, math.nan])
def test_a_wrong_target_is_refused_before_the_curve(targets: Any) -> None:
    with raises(SettingError, "target", hint=["--target"]):
        nct.labels(features(), targets)


def test_no_target_is_refused() -> None:
    with raises(SettingError, "target", hint=["0.9"]):
        nct.labels(features(), ())


# Dictionaries, frames, notebooks


def test_the_dictionary_has_targets_and_curve(found: LabelCounts) -> None:
    data = found.to_dict()
    assert len(data["targets"]) == 4
    assert {*data["targets"][0]} == {"target", "classifier", "value", "interval", "extrapolated", "reason"}
    assert len(data["curve"]) == 2 * len(found.curve.task.shots)
    for point in data["curve"]:
        assert {"shots", "classifier", "accuracy", "interval", "draws"} <= {*point}
        low, high = point["interval"]
        assert 0 <= low <= point["accuracy"] <= high <= 1
        assert point["draws"] > 1


def test_frames_have_a_row_for_each_target_and_point(found: LabelCounts) -> None:
    frame = found.to_frame()
    assert frame["target"].tolist() == [0.7, 0.99, 0.7, 0.99]
    for row, one in zip(frame.itertuples(), found.targets, strict=True):
        assert row.low == one.interval[0]
        assert (None if pd.isna(row.high) else row.high) == one.interval[1]
        assert (None if pd.isna(row.value) else row.value) == one.value
    assert found.curve_frame()[["shots", "classifier"]].drop_duplicates().shape[0] == 2 * len(found.curve.task.shots)


def test_a_notebook_shows_it(found: LabelCounts) -> None:
    shown = found._repr_html_()
    assert shown.count("<table") >= 2
    assert shows(shown, "ridge", "ncc", "99%")


# Sheets


def sheet_of(one: LabelsNeeded, found: LabelCounts) -> Any:
    return labels_sheets(LabelCounts(curve=found.curve, targets=(one,)))[0]


@pytest.mark.parametrize(
    ("value", "interval", "cells"),
    [
        (12, (9, 17), ["12", "9 to 17", "measured"]),
        (1, (1, 1), ["1", "1", "measured"]),
        (12, (9, None), ["12", "9 or more", "measured"]),
        (None, (123, 1234), ["–", "120 to 1,300", "extrapolated"]),
        (None, (400, None), ["–", "400 or more", "extrapolated"]),
    ],
)
def test_cells_say_what_is_known(found: LabelCounts, value: int | None, interval: Any, cells: list[str]) -> None:
    one = LabelsNeeded(
        target=0.9,
        classifier="ridge",
        value=value,
        interval=interval,
        extrapolated=value is None,
        reason="not reached; the best is 88.2%" if value is None else None,
    )
    sheet = sheet_of(one, found)
    [row] = sheet.rows
    assert row[:2] == ["ridge", "90%"]
    assert row[2:] == cells
    assert shows(
        sheet.reading, "90%", cells[1], *(["88.2%", "By extrapolation"] if value is None else ["ridge reaches"])
    )


def test_the_curve_is_a_table_with_bars(found: LabelCounts) -> None:
    sheet = labels_sheets(found)[1]
    shots = found.curve.task.shots
    assert [row[0] for row in sheet.rows] == [str(number) for number in shots]
    assert len(sheet.bars) == 2 * len(shots)
    one = found.curve.estimates[1, "ncc"]
    assert sheet.rows[0][2].startswith(f"{one.accuracy * 100:.2f} [{one.interval[0] * 100:.2f}, ")
    draws = [each.draws for each in found.curve.estimates.values()]
    assert shows(sheet.facts["random draws"], min(draws), max(draws))


# The command


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("90%", (0.9,)),
        ("0.9,90,90%", (0.9,)),
        ("90%, 95%", (0.9, 0.95)),
        ("100%,1", (1.0,)),
        ("0.5%,97.5", (0.005, 0.975)),
    ],
)
def test_percentages_may_be_written_in_several_ways(text: str, shares: tuple[float, ...]) -> None:
    assert percents(text, "--target") == shares


@pytest.mark.parametrize("text", ["", "x", "0", "0%", "101", "120%", "-5%", "90%%", "nan", "inf", "90%,", "1e9%"])
def test_what_is_no_percentage_is_refused(text: str, file: Path) -> None:
    with pytest.raises(typer.BadParameter, match="expected percentages"):
        percents(text, "--target")
    wrong = text.rpartition(",")[2] if "," in text else text
    assert missing(misused("labels", file, "--target", text), "--target", wrong) == []


def test_the_command_does_what_the_library_does(file: Path, found: LabelCounts) -> None:
    data = data_of("labels", file, "--target", "70%,0.99", "--classifier", "ridge,ncc")
    expected = found.to_dict()
    assert data["targets"] == expected["targets"]
    assert data["curve"] == expected["curve"]
    assert data["provenance"]["seed"] == 0
    other = data_of(
        "labels", file, "-t", "70", "--seed", "3", "--most-shots", "5", "--l2-normalise", "--ridge-lambda", "loo"
    )
    assert [point["shots"] for point in other["curve"]] == [2, 3, 5]
    assert (other["settings"]["l2_normalise"], other["settings"]["ridge_lambda"]) == (True, "loo")


def test_every_format_shows_the_targets(file: Path, found: LabelCounts) -> None:
    words = ("labels", file, "-t", "70%,99%", "-c", "ridge,ncc", "--format")
    for name in ("table", "markdown"):
        shown = " ".join(done(*words, name).stdout.split())
        assert shows(shown, "70%", "99%", "ridge", "ncc", "extrapolated", "95% interval", "draws")
    frame = pd.read_csv(io.StringIO(done(*words, "csv").stdout), comment="#")
    assert frame["low"].tolist() == [one.interval[0] for one in found.targets]


@pytest.mark.parametrize(
    ("options", "kind", "named", "hint"),
    [
        (("-c", "rigde"), "SettingError", ("rigde",), "ridge"),
        (("--ridge-lambda", "-1"), "SettingError", (-1,), "--ridge-lambda"),
        (("--most-shots", "12"), "EpisodeError", (12, 13), "images"),
        (("--ridge-lambda", "loo", "--most-shots", "1"), "SettingError", (1, 2), "--most-shots"),
        (("--figure", "curve.jpg"), "SettingError", ("curve.jpg",), ".svg"),
    ],
    ids=str,
)
def test_wrong_options(file: Path, options: Any, kind: str, named: tuple[Any, ...], hint: str) -> None:
    refusal("labels", file, *options).expect(kind, *named, hint=hint)


def test_a_penalty_that_is_no_number(file: Path) -> None:
    assert missing(misused("labels", file, "--ridge-lambda", "x"), "--ridge-lambda", "x") == []


def test_without_options_the_set_used_last_is_taken(pets: Path) -> None:
    done("extract", "--model", "test_vit", "--random-init", "--data", pets)
    shown = done("labels").stdout
    assert shows(shown, "90%", "95%", "ridge", "test_vit")


# The figure


def test_the_figure_has_curves_bands_and_targets(found: LabelCounts) -> None:
    from nctransfer.figures.labels_figure import labels_figure

    [axes] = labels_figure(found).axes
    lines = {line.get_label(): line for line in axes.lines}
    for name in ("ridge", "ncc"):
        accuracies = [found.curve.estimates[shots, name].accuracy for shots in found.curve.task.shots]
        assert lines[name].get_ydata() == pytest.approx(accuracies)
        dashed = lines[f"{name}, extrapolated"]
        assert dashed.get_linestyle() == "--"
        assert dashed.get_xdata()[0] == found.curve.task.shots[-1]
        assert dashed.get_xdata()[-1] == 120
    levels = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert levels == [0.7, 0.99]
    texts = [text.get_text() for text in axes.texts]
    assert [text for text in texts if text.startswith("target")] == ["target 70%", "target 99%"]
    reached = [f"{one.value:,}" for one in found.targets if one.value is not None]
    assert reached
    assert sorted(text for text in texts if not text.startswith("target")) == sorted(reached)
    assert len(axes.collections) == 4
    assert axes.get_xscale() == "log"


def test_a_figure_of_what_was_measured_alone() -> None:
    from nctransfer.figures.labels_figure import labels_figure

    [axes] = labels_figure(nct.labels(features(20, noise=0.01), 0.95, device="cpu")).axes
    assert not any("extrapolated" in str(line.get_label()) for line in axes.lines)
    assert any(line.get_marker() == "D" for line in axes.lines)


def test_the_command_draws_the_figure(file: Path, tmp_path: Path) -> None:
    done("labels", file, "-t", "99%", "--figure", tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")
