"""``nctransfer ood``, and ``detect_ood``: who is compared with whom, what is refused, what is warned of."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import nctransfer as nct
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.figures.figure_files import save_figure
from nctransfer.figures.ood_figure import ood_figure
from nctransfer.ood.ood_result import HELD_OUT
from nctransfer.ood.registry import SCORES
from nctransfer.report.ood_sheets import ood_sheets
from terminal import cli, data_of, done, misused, refusal, warned

MEANS = 2 * np.random.default_rng(0).normal(size=(12, 8))
FEW = ("--score", "relative-mahalanobis,neco,msp")


def npz(path: Path, names: str, each: int = 12, seed: int = 0, width: int = 8) -> Path:
    codes = np.repeat([ord(name) - ord("a") for name in names], each)
    rows = MEANS[codes] + np.random.default_rng(seed).normal(size=(len(codes), 8)) + 2
    np.savez(path, feature=rows[:, :width].astype("float32"), label=np.array([*names]).repeat(each))
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def known(root: Path) -> Path:
    return npz(root / "known.npz", "abcdef")


@pytest.fixture(scope="module")
def other(root: Path) -> Path:
    return npz(root / "other.npz", "ghij", seed=1)


def test_the_table_has_a_sheet_for_each_other_set(known: Path, other: Path, root: Path) -> None:
    third = npz(root / "third.npz", "kl", seed=2)
    found = data_of("ood", known, other, third, *FEW)
    assert [one["name"] for one in found["others"]] == ["other.npz", "third.npz"]
    assert [(row["other"], row["score"]) for row in found["rows"]] == [
        (name, score) for name in ("other.npz", "third.npz") for score in ("relative-mahalanobis", "neco", "msp")
    ]
    for row in found["rows"]:
        low, high = row["auroc_interval"]
        assert 0 <= low <= row["auroc"] <= high <= 1
        assert row["fpr95_interval"][0] <= row["fpr95"] <= row["fpr95_interval"][1]
    for one in found["others"]:
        low, high = one["nc5"]["interval"]
        assert low <= one["nc5"]["value"] <= high
    assert any(row["is_possible_best"] for row in found["rows"])
    assert found["population"] == "samples"
    text = done("ood", known, other, third, *FEW).stdout
    assert "other.npz" in text
    assert "third.npz" in text


def test_others_of_one_class_are_counted_in_the_singular(known: Path, root: Path) -> None:
    single = npz(root / "single_class.npz", "g")
    assert "12 samples, 1 class, width 8" in done("ood", known, single, "--score", "knn").stdout


def test_without_others_classes_are_held_out(known: Path) -> None:
    found = data_of("ood", known, *FEW)
    assert found["population"] == "classes"
    assert {row["other"] for row in found["rows"]} == {HELD_OUT}
    assert all(row["auroc"] > 0.6 for row in found["rows"])
    assert found == data_of("ood", known, *FEW)
    assert found["rows"] != data_of("ood", known, *FEW, "--seed", "1")["rows"]


def test_unknown_classes_of_a_set_are_others(known: Path, root: Path) -> None:
    file = root / "unknown.txt"
    file.write_text("e\nf\n")
    found = data_of("ood", known, "--unknown-classes", file, *FEW)
    assert (found["features"]["classes"], found["others"][0]["samples"]) == (4, 24)
    loaded = nct.load_features(known)
    split = [loaded.only_classes(torch.tensor(codes)) for codes in ([0, 1, 2, 3], [4, 5])]
    same = nct.detect_ood(split[0], {"x": split[1]}, FEW[1].split(","), device="cpu")
    assert [row["auroc"] for row in found["rows"]] == [row.auroc for row in same.rows]
    file.write_text("z\n")
    refusal("ood", known, "--unknown-classes", file).expect("FeaturesError", "'z'")


def test_a_test_set_takes_the_place_of_folds(known: Path, other: Path, root: Path) -> None:
    test = npz(root / "test.npz", "abc", seed=5)
    found = data_of("ood", known, other, "--test-set", test, "--score", "knn")
    sets = [nct.load_features(path) for path in (known, other, test)]
    from nctransfer.ood.score import Reference

    score = SCORES["knn"].function(Reference(sets[0], device="cpu"))
    wins = score(sets[1].features)[:, None] > score(sets[2].features)
    assert found["rows"][0]["auroc"] == pytest.approx(float(wins.double().mean()))
    assert found["test"]["samples"] == 36
    refusal("ood", known, other, "--test-set", other).expect("FeaturesError", "'g'")


def test_scores_of_no_classifier_name_none(known: Path, other: Path) -> None:
    assert data_of("ood", known, other, "--score", "knn")["classifier"] is None
    assert data_of("ood", known, other, "--score", "msp", "--classifier", "cosine")["classifier"] == "cosine"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--score", "knnn"], "'knnn'"),
        (["--score", "knn", "--classifier", "ncc"], "--classifier"),
        (["--classifier", "svm"], "'svm'"),
    ],
)
def test_wrong_settings_are_refused(known: Path, other: Path, options: list[str], shown: str) -> None:
    assert misused(cli("ood", known, other, *options), shown)


def test_a_test_set_needs_others(known: Path) -> None:
    result = cli("ood", known, "--test-set", known)
    assert result.exit_code == 2


def test_other_backbones_are_refused(known: Path, root: Path) -> None:
    narrow = npz(root / "narrow.npz", "gh", width=7)
    refusal("ood", known, narrow).expect("FeaturesError", "narrow.npz")
    one = nct.load_features(known)
    layer = nct.FeatureSet.from_arrays(one.features, ["x"] * len(one), info=FeatureInfo("b", layer="layer_3"))
    with pytest.raises(nct.NCTransferError, match="layer_3"):
        nct.detect_ood(one, {"b": layer}, "knn", device="cpu")


def test_too_few_images_are_refused(root: Path, other: Path) -> None:
    refusal("ood", npz(root / "two.npz", "ab", each=2), other, *FEW).expect("FeaturesError", "'a'")
    refusal("ood", npz(root / "three.npz", "abc"), *FEW).expect("FeaturesError", "three.npz")
    single = npz(root / "single.npz", "ab", each=1)
    refusal("ood", single, other, "--test-set", other, *FEW).expect("FeaturesError", "'a'", hint="--exclude-classes")


def test_shared_images_and_classes_are_warned_of(known: Path, root: Path) -> None:
    with np.load(known) as stored:
        rows = stored["feature"]
    np.savez(
        root / "mixed.npz", feature=np.concatenate([rows[:5], rows[:30] + 9]), label=np.array(["a"] * 5 + ["y"] * 30)
    )
    result = done("ood", known, root / "mixed.npz", *FEW)
    assert warned(result, "5 images", "mixed.npz")
    assert warned(result, "1 class", "'a'")
    found = data_of("ood", known, root / "mixed.npz", *FEW, "--drop-duplicates")
    assert (found["others"][0]["samples"], found["others"][0]["shared_images"]) == (30, 0)


def test_csv_has_a_row_for_each_other_and_score(known: Path, other: Path) -> None:
    lines = [line for line in done("ood", known, other, *FEW, "--format", "csv").stdout.splitlines() if line[0] != "#"]
    assert len(lines) == 4
    assert lines[0].split(",")[:3] == ["other", "score", "auroc"]


def test_one_score_has_no_verdict(known: Path, other: Path) -> None:
    found = nct.detect_ood(nct.load_features(known), {"o": nct.load_features(other)}, "knn", device="cpu")
    [row] = found.rows
    assert (row.verdict, row.behind, row.is_possible_best) == (None, None, True)
    [sheet] = ood_sheets(found)
    assert "verdict" not in sheet.columns
    assert found.to_frame()["behind_low"].isna().all()


@pytest.mark.parametrize("scores", [FEW, ("--score", "knn")])
def test_no_score_is_the_best_of_images_that_none_tells_apart(known: Path, scores: tuple[str, str]) -> None:
    """The same images once more: each looks more like its classes to models that have seen it."""
    found = data_of("ood", known, known, *scores)
    assert all(row["auroc_interval"][0] <= 0.5 and not row["is_above_chance"] for row in found["rows"])
    text = " ".join(done("ood", known, known, *scores, "--quiet").stdout.split())
    assert "best" not in text
    told = "any score" if scores == FEW else "knn"
    assert f"these images do not show that {told} tells them from the known classes." in text
    assert "The known images include 72 of these 72." in text
    lines = done("ood", known, known, *scores, "--quiet", "--format", "csv").stdout.splitlines()
    rows = list(csv.DictReader(line for line in lines if line[0] != "#"))
    assert [row["is_above_chance"] for row in rows] == ["False"] * len(found["rows"])


def sheet_of(known: Path, other: Path, **rows: tuple[float, float, float, bool]) -> tuple[dict[str, str], str]:
    """The verdicts and the reading for scores with an AUROC, its interval, and whether it may be the best."""
    found = nct.detect_ood(nct.load_features(known), {"o": nct.load_features(other)}, ["knn", "neco"], device="cpu")
    possible = sum(row[-1] for row in rows.values())
    made = (
        dataclasses.replace(
            found.rows[0],
            score=name,
            auroc=auroc,
            auroc_interval=(low, high),
            is_possible_best=may,
            verdict=("better" if possible == 1 else "not told apart") if may else "worse",
        )
        for name, (auroc, low, high, may) in rows.items()
    )
    [sheet] = ood_sheets(dataclasses.replace(found, rows=tuple(made)))
    assert sheet.reading is not None
    return {row[0]: row[-1] for row in sheet.rows}, sheet.reading


@pytest.mark.parametrize("others", [{}, {"ugly": (0.3, 0.1, 0.4, False)}])
def test_cells_and_reading_say_of_each_score_what_json_says(
    known: Path, other: Path, others: dict[str, tuple[float, float, float, bool]]
) -> None:
    """A score that is not told from chance may have the highest AUROC, where one tells images apart."""
    cells, reading = sheet_of(known, other, bad=(0.49, 0.2, 0.75, True), good=(0.7, 0.51, 0.85, True), **others)
    assert cells == {"good": "possible best", "bad": "possible best"} | dict.fromkeys(others, "worse")
    named = "Any of good, bad may have the highest AUROC; the others have not."
    assert (named if others else "These images do not tell the scores apart.") in reading
    assert "The AUROC of bad is not told from 50%, that of chance." in reading
    assert ("The AUROC of ugly is below 50%, that of chance." in reading) == bool(others)


def test_all_possible_bests_are_named(known: Path, other: Path) -> None:
    ones = dict.fromkeys("abcdefg", (0.7, 0.6, 0.8, True))
    cells, reading = sheet_of(known, other, **ones, h=(0.6, 0.51, 0.7, False))
    assert list(cells.values()) == [*["possible best"] * 7, "worse"]
    assert "Any of a, b, c, d, e, f, g may have the highest AUROC" in reading
    assert "50%" not in reading


def test_an_interval_around_chance_shows_nothing(known: Path, other: Path) -> None:
    """With few images an AUROC far above 50% may be that of chance: the words do not deny it, nor claim it."""
    cells, reading = sheet_of(
        known, other, high=(0.75, 0.41, 0.93, True), edge=(0.4, 0.3, 0.5, False), low=(0.3, 0.1, 0.49, False)
    )
    assert cells == {"high": "not told from 50%", "edge": "not told from 50%", "low": "below 50%"}
    assert "No interval lies above 50%, the AUROC of chance: these images do not show that any score" in reading
    assert "highest" not in reading
    assert "more like the known classes" not in reading
    cells, reading = sheet_of(known, other, one=(0.3, 0.1, 0.4, True), two=(0.2, 0.1, 0.3, False))
    assert set(cells.values()) == {"below 50%"}
    assert "They look more like the known classes than the known images themselves do." in reading


def test_a_curve_meets_fpr95_and_the_auroc(known: Path, other: Path) -> None:
    found = nct.detect_ood(nct.load_features(known), {"o": nct.load_features(other)}, device="cpu")
    for row in found.rows:
        curve = found.curves["o", row.score]
        assert list(curve) == sorted(curve)
        assert 1 - row.fpr95 == pytest.approx(curve[5], abs=0.06)
        assert np.trapezoid(curve, dx=0.01) == pytest.approx(row.auroc, abs=0.01)


def test_the_figure_has_a_line_for_each_score(known: Path, other: Path, tmp_path: Path) -> None:
    features = nct.load_features(other)
    found = nct.detect_ood(nct.load_features(known), {"o": features, "p": features}, device="cpu")
    figure = ood_figure(found)
    assert [len(axes.lines) for axes in figure.axes] == [len(SCORES) + 2] * 2
    save_figure(figure, tmp_path / "ood.svg")
    done("ood", known, other, *FEW, "--figure", tmp_path / "cli.svg")
    assert "<svg" in (tmp_path / "cli.svg").read_text()


def test_json_is_whole(known: Path, other: Path) -> None:
    found = nct.detect_ood(nct.load_features(known), {"o": nct.load_features(other)}, "neco", device="cpu")
    assert json.loads(json.dumps(found.to_dict()))["rows"][0]["score"] == "neco"


def test_images_are_extracted_if_there_are_enough_classes(pets: Path) -> None:
    options = ("ood", "--model", "test_vit", "--random-init", "--data", pets, "--device", "cpu", "--score", "knn")
    refusal(*options).expect("FeaturesError", "3 classes")  # before any image runs
    assert not list((Path(os.environ["NCTRANSFER_CACHE"])).rglob("*.parquet"))
    (pets.parent / "unknown.txt").write_text(f"{sorted(path.name for path in pets.iterdir())[0]}\n")
    found = data_of(*options, "--unknown-classes", pets.parent / "unknown.txt")
    assert (found["features"]["classes"], len(found["rows"])) == (2, 1)
