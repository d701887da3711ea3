"""From images to predictions: the same numbers as features give, in order, in a stream, with reasons."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nctransfer as nct
from conftest import write_digits
from heads_by_hand import by_hand
from messages import missing, names, raises
from nctransfer.backbones.backbone import Backbone
from nctransfer.errors import DataError, DeviceError, FeaturesError, SettingError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.backbone_match import fast_backbone_for
from nctransfer.heads.head import Head, HeldOut
from nctransfer.heads.predicting import Answer, Predictor, limits_of
from nctransfer.heads.prediction import Prediction
from nctransfer.heads.prediction_sample import PredictionSample
from nctransfer.heads.prediction_summary import PredictionTally, Share, difference_interval
from nctransfer.report.mistake_sheets import mistake_sheets
from nctransfer.report.predict_sheets import prediction_sheets, summary_words
from nctransfer.sources.source import content_digest
from pictures import Given, png

CLASSES = {"zero": 0, "one": 1, "two": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("images") / "pets", CLASSES, 6)


def fitted(folder: Path, cache: Path, **options: Any) -> tuple[Head, FeatureSet]:
    options = {"model": "test_resnet", "img_size": 64, "random_init": True, "device": "cpu", **options}
    features = nct.extract(data=folder, cache_dir=cache, **options)
    return by_hand(features), features


@pytest.fixture(scope="module")
def head(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Head:
    return fitted(folder, tmp_path_factory.mktemp("cache"))[0]


def predictor(head: Head, **options: Any) -> Predictor:
    return Predictor(
        head=head,
        backbone=fast_backbone_for(head, device="cpu"),
        limits=limits_of(head, None, None)[1],
        **options,
    )


def answered(given: Predictor, source: Given, known: dict[str, Prediction] | None = None) -> list[Answer]:
    return [answer for answers in given.answers(source, source.list(), known) for answer in answers]


# The numbers


@pytest.mark.parametrize("options", [{}, {"store_dtype": "float16"}, {"dtype": "bfloat16"}, {"layers": "0,2"}], ids=str)
def test_predictions_are_those_of_the_stored_features(folder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    given, features = fitted(folder, tmp_path, **options)
    if "layers" in options:
        features = nct.FeatureStore(tmp_path).resolve(features.info.id).read(column="layer_2")
        given = by_hand(features)
    found = given.predict(folder, device="cpu")
    assert sorted(row.id for row in found) == sorted(features.ids)
    expected = given.linear.probabilities(features.features)
    for row in found:
        probabilities = expected[features.ids.index(row.id)]
        values, codes = probabilities.sort(descending=True, stable=True)
        assert (row.label, row.second) == tuple(given.classes[code] for code in codes[:2])
        assert (row.probability, row.second_probability) == pytest.approx(values[:2].tolist(), rel=1e-6)


def test_a_number_is_the_shortest_that_is_the_float32(folder: Path, head: Head) -> None:
    for row in head.predict(folder, device="cpu"):
        assert len(repr(row.probability)) <= 14
        assert float(np.float32(row.probability)) == pytest.approx(row.probability, abs=1e-7)


def test_the_same_image_in_any_form_has_the_same_prediction(folder: Path, head: Head) -> None:
    path = folder / "one" / "3.png"
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
        forms = [path, str(path), image, pixels, [path], [image, pixels], (one for one in [str(path)]), pixels[None]]
        found = [head.predict(form, device="cpu") for form in forms]
    assert [len(rows) for rows in found] == [1, 1, 1, 1, 1, 2, 1, 1]
    for row in (row for rows in found for row in rows):
        assert (row.label, row.second) == (found[0][0].label, found[0][0].second)
        assert row.probability == pytest.approx(found[0][0].probability, rel=1e-5)
    assert [rows[0].id for rows in found[:4]] == [str(path), str(path), "image 0", "image 0"]
    assert found[5][1].id == "image 1"


def test_predictions_are_a_sequence(folder: Path, head: Head) -> None:
    found = head.predict(folder, device="cpu")
    assert (len(found), found[-1], found[:2]) == (18, found.rows[17], found.rows[:2])
    frame = found.to_frame()
    assert list(frame["class"]) == [row.label for row in found]
    assert found.to_dict()["predictions"][3] == found[3].to_dict()
    assert found.summary.images == 18
    html = found._repr_html_()
    assert "one/0.png" in html


def test_a_backbone_is_loaded_once_for_a_head(folder: Path, head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    init = Backbone.__init__
    monkeypatch.setattr(Backbone, "__init__", lambda self, *given: calls.append(1) or init(self, *given))
    own = replace(head)
    for _ in range(2):
        own.predict(folder / "one" / "0.png", device="cpu")
    assert len(calls) == 1


def test_a_fitted_head_predicts_after_it_was_saved(folder: Path, tmp_path: Path) -> None:
    _, features = fitted(folder, tmp_path / "cache", img_size=32)
    given = nct.fit(features, "ncc", device="cpu").head
    given.save(tmp_path / "digits.head")
    found = nct.load_head(tmp_path / "digits.head").predict(folder, device="cpu")
    assert found.rows == given.predict(folder, device="cpu").rows
    assert found.summary.fitted == len(found) == 18


# The stream


def test_broken_images_are_rows_with_a_reason(folder: Path, head: Head, tmp_path: Path) -> None:
    root = shutil.copytree(folder, tmp_path / "mixed")
    (root / "one" / "0.png").write_bytes(b"")
    (root / "one" / "1.png").write_bytes((root / "one" / "1.png").read_bytes()[:80])
    paths = [*sorted(root.rglob("*.png")), root / "absent.png"]
    found = head.predict(paths, device="cpu", batch_size=4)
    assert [row.id for row in found] == list(map(str, paths))
    broken = {Path(row.id).relative_to(root).as_posix(): row for row in found if row.is_broken}
    assert broken.keys() == {"one/0.png", "one/1.png", "absent.png"}
    for row in broken.values():
        assert row == Prediction(row.id, None, None, None, None, True, row.reason)
        assert row.reason.startswith("broken: ")
    assert "empty" in broken["one/0.png"].reason
    assert (found.summary.broken, found.summary.images) == (3, len(paths))
    whole = {row.id: row.label for row in head.predict(folder, device="cpu")}
    assert all(row.label == whole[Path(row.id).relative_to(root).as_posix()] for row in found if not row.is_broken)


def test_many_broken_images_in_a_row_do_not_pile_up(head: Head) -> None:
    rows = [("", "", OSError("gone"))] * 100 + [("", "", png(number)) for number in range(5)]
    source = Given(*rows)
    answers = answered(predictor(head, batch_size=2), source)
    assert [answer.prediction.is_broken for answer in answers] == [True] * 100 + [False] * 5
    assert [answer.digest for answer in answers] == [""] * 100 + [content_digest(png(number)) for number in range(5)]


def test_images_are_read_as_they_are_needed(head: Head) -> None:
    source = Given(*[("", "", png(number % 7)) for number in range(400)])
    rows = predictor(head, batch_size=4, workers=1).rows(source, source.list(), PredictionTally(head))
    read = []
    for _ in range(40):
        next(rows)
        read.append(len(source.asked))
    rows.close()
    assert read[0] <= 4 * 4 + 1
    assert read[-1] <= 40 + 4 * 4 + 1


def test_features_that_are_not_finite_are_broken(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    given = predictor(head)
    call = Backbone.__call__

    def spoilt(self: Backbone, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = call(self, pixels)
        outputs["feature"][1, 3] = math.nan
        return outputs

    source = Given(*[("", "", png(number)) for number in range(3)])
    good = [answer.prediction for answer in answered(given, source)]
    monkeypatch.setattr(Backbone, "__call__", spoilt)
    found = [answer.prediction for answer in answered(given, source)]
    assert [row.is_broken for row in found] == [False, True, False]
    assert "NaN" in found[1].reason
    assert (found[0], found[2]) == (good[0], good[2])


def test_what_is_known_does_not_run_again(head: Head, ran: Callable[[], int]) -> None:
    source = Given(*[("", "", png(number)) for number in range(6)])
    given = predictor(head)
    all_of_them = answered(given, source)
    ran()
    known = {answer.digest: answer.prediction._replace(id="elsewhere") for answer in all_of_them[1:5]}
    again = answered(given, source, known)
    assert ran() == 2
    assert again[1:5] == all_of_them[1:5]
    assert [answer.prediction.id for answer in again] == [entry.id for entry in source.list()]


# Which images are answered


def test_thresholds_are_those_that_are_asked_for(folder: Path, head: Head) -> None:
    held_out = replace(
        head.held_out,
        probability=torch.linspace(0.99, 0.4, 200),
        right=torch.arange(200) < 190,
        unlikeness=torch.linspace(0, 1, 200),
    )
    given = replace(head, held_out=held_out, max_error=0.05, max_lost=0.0)
    error, limits = limits_of(given, None, None)
    assert (error, limits.unlikeness) == (0.05, math.inf)
    assert limits.probability > 0.4
    assert limits_of(given, 1, 0.5)[0] is None
    assert limits_of(given, 1, 0.5)[1].probability == 0
    assert limits_of(given, 1, 0.5)[1].unlikeness < 0.6
    with raises(FeaturesError, hint="--max-error"):
        given.predict(folder, max_error=0.001)
    with raises(SettingError, 2):
        given.predict(folder, max_lost=2.0)


def left_out(probability: float, unlikeness: float) -> HeldOut:
    """Forty training images that are all right."""
    return HeldOut(
        probability=torch.full((40,), probability),
        right=torch.ones(40, dtype=torch.bool),
        unlikeness=torch.full((40,), unlikeness),
    )


def test_images_are_held_back_with_the_reason(folder: Path, head: Head) -> None:
    found = replace(head, held_out=left_out(1.0, -1e9)).predict(folder, device="cpu")
    assert {row.reason for row in found} == {"unlike every class"}
    assert all(row.abstained and row.label in head.classes for row in found)
    found = replace(head, held_out=left_out(1.1, 0.0)).predict(folder, device="cpu", max_error=0.2, max_lost=0.0)
    assert found.summary.reasons == {"between two classes": 18}


# Bad input


def test_wrong_images_and_settings_are_errors(head: Head, tmp_path: Path) -> None:
    with raises(DataError, tmp_path, "empty"):
        head.predict(tmp_path)
    with raises(DataError, str(tmp_path / "absent")):
        head.predict(tmp_path / "absent")
    with raises(DataError):
        head.predict([])
    with raises(DataError, 0, "float64", hint="uint8"):
        head.predict(np.zeros((4, 4, 3)))
    with raises(DeviceError, 0):
        head.predict(tmp_path, batch_size=0)


# The summary


def test_the_accuracy_is_that_of_new_images_with_a_class_of_the_head(folder: Path, head: Head, tmp_path: Path) -> None:
    root = write_digits(tmp_path / "new", {**CLASSES, "seven": 7}, 9)
    (root / "zero" / "8.png").rename(root / "zero.png")  # without a label
    found = head.predict(root, device="cpu").summary
    assert found.images == 36
    assert found.fitted == 18
    assert found.accuracy.of == 8
    assert head.predict(folder, device="cpu").summary.accuracy.of == 0


def counted(*rows: tuple[str, bool, str], head: Head, **options: Any) -> Any:
    tally = PredictionTally(head, **options)
    for number, (label, abstained, truth) in enumerate(rows):
        broken = label == "broken"
        reason = "broken: x" if broken else "between two classes" if abstained else ""
        tally.add(
            Prediction(str(number), None if broken else label, 0.9, "one", 0.1, abstained, reason),
            truth,
            f"{number:032x}",
        )
    return tally.summary()


def test_every_image_is_counted_once(head: Head) -> None:
    found = counted(
        *[("one", False, "one")] * 5,
        *[("two", False, "one")] * 2,
        *[("two", True, "two")] * 3,
        ("two", True, "one"),
        ("zero", False, "seven"),
        ("zero", False, ""),
        ("broken", True, "one"),
        head=head,
        max_error=0.02,
    )  # fmt: skip
    assert (found.images, found.answered, found.broken) == (14, 9, 1)
    assert found.reasons == {"between two classes": 4, "broken": 1}
    assert found.classes == {"one": 5, "two": 2, "zero": 2}
    assert found.accuracy == Share(hits=8, of=11)
    assert found.error == Share(hits=2, of=7)
    assert found.max_error == 0.02


@pytest.mark.parametrize(
    ("truths", "first", "numbers"),
    [
        (("", ""), "", (0, 0, 0)),
        (("", "2024"), "2024", (1, 1, 1)),
        (("y", "one", "x", "two"), "y", (2, 2, 4)),
        (("x", "y"), "x", (2, 2, 2)),
    ],
)
def test_labels_that_name_no_class_are_told(
    head: Head, truths: tuple[str, ...], first: str, numbers: tuple[int, int, int]
) -> None:
    rows = [("one", False, truth) for truth in truths]
    found = counted(*rows, head=head)
    assert (found.other_label, (found.other_images, found.other_answered, found.labelled)) == (first, numbers)
    said = " ".join(summary_words(found))
    assert (missing(said, [repr(first), numbers[1], "100.0%", "--max-error"]) == []) == bool(first)
    more = counted(*rows, ("zero", True, "z"), ("broken", True, "z"), ("one", False, "one"), head=head)
    assert (more.other_images, more.other_answered, more.to_dict()["other_images"]) == (
        numbers[0] + 1,
        numbers[1],
        numbers[0] + 1,
    )
    said = " ".join(summary_words(more))
    assert missing(said, [repr(first or "z"), numbers[0] + 1, numbers[2] + 2]) == []
    assert names(said, f"{numbers[1] / (numbers[0] + 1):.1%}") == bool(numbers[1])


def test_the_most_confident_mistakes_and_all_counts_are_kept(head: Head) -> None:
    """By hand: 40 images labelled one, every fourth right; the probability of image k is (37 k mod 41) / 41."""
    tally = PredictionTally(head)
    rows = []
    for k in range(40):
        said, probability = ("one", "two", "zero", "two")[k % 4], (37 * k % 41) / 41
        rows.append(
            Prediction(f"{k}.png", said, probability, "one", 0.0, k % 3 == 0, "between two classes" * (k % 3 == 0))
        )
        tally.add(rows[-1], "one", "")
    tally.add(Prediction("two.png", "two", 0.9, "one", 0.0, False, ""), "two", "")
    tally.add(Prediction("x.png", "two", 1.0, "one", 0.0, False, ""), "seven", "")  # no class of the head
    tally.add(Prediction.broken("y.png", "empty"), "one", "")
    found = tally.summary()
    wrong = sorted((row for row in rows if row.label != "one"), key=lambda row: -row.probability)
    assert len(wrong) == 30
    assert [one.id for one in found.mistakes] == [row.id for row in wrong[:10]]
    shown = found.to_dict()
    assert shown["mistakes"][0] == {
        "id": wrong[0].id,
        "label": "one",
        "predicted": wrong[0].label,
        "probability": wrong[0].probability,
        "abstained": wrong[0].abstained,
    }
    assert shown["label_counts"] == {"one": {"right": 10, "images": 40}, "two": {"right": 1, "images": 1}}
    sheet = next(sheet for sheet in prediction_sheets(found, ()) if "predicted" in sheet.columns)
    assert missing(sheet.title, [10, 30]) == []
    assert [row[-1] for row in sheet.rows] == ["no" if row.abstained else "yes" for row in wrong[:10]]


@pytest.mark.parametrize("classes", [4, 5, 7])
def test_the_worst_classes_are_shown_where_there_are_five(head: Head, classes: int) -> None:
    """Class k has 10 images; 9 - k of them are right, but for the last class, all of whose images are."""
    given = replace(head, linear=replace(head.linear, classes=tuple("abcdefg")))
    rights = {"abcdefg"[k]: 9 - k for k in range(classes - 1)} | {"abcdefg"[classes - 1]: 10}
    rows = [("a" if i >= right and name != "a" else "b" if i >= right else name, False, name)
            for name, right in rights.items() for i in range(10)]  # fmt: skip
    sheets = [sheet for sheet in mistake_sheets(counted(*rows, head=given)) if ">right" in sheet.columns]
    shown = [row[0] for sheet in sheets for row in sheet.rows]
    assert shown == ([] if classes < 5 else sorted(rights, key=lambda name: rights[name])[:5])
    assert mistake_sheets(counted(*[(name, False, name) for name in rights], head=given)) == []


def test_an_accuracy_carries_the_number_of_images(head: Head) -> None:
    sheet = prediction_sheets(counted(("two", False, "one"), head=head), ())[0]
    assert sheet.facts["accuracy"] == "0.00% [0.00, 79.35] (1 image)"


def test_what_was_asked_for_and_promised_is_said_where_labels_are_unknown(head: Head) -> None:
    rows = [("one", False, "")] * 3
    said = " ".join(summary_words(counted(*rows, head=head, max_error=0.1, error_bound=0.07341)))
    assert missing(said, ["10%", "7.35%", "95%"]) == []
    assert summary_words(counted(*rows, head=head, error_bound=0.07)) == []
    labelled = " ".join(summary_words(counted(("one", False, "one"), head=head, max_error=0.1, error_bound=0.07)))
    assert not names(labelled, "7%")


def test_a_sample_holds_every_reason_and_the_least_certain_answers() -> None:
    rows = [Prediction.broken(f"{k}.png", "empty") for k in range(8)]
    rows += [Prediction(f"a{k}", "one", 0.5 + k % 7 / 20, "two", 0.1, False, "") for k in range(30)]
    rows += [Prediction(f"u{k}", "one", 0.4, "two", 0.3, True, "unlike every class") for k in range(2)]
    rows += [Prediction("b0", "one", 0.4, "two", 0.3, True, "between two classes")]
    sample = PredictionSample()
    sample.take(iter(rows))
    assert [row.id for row in sample.held_back] == ["0.png", "u0", "b0", "1.png", "u1"]
    assert [row.id for row in sample.uncertain] == ["a0", "a7", "a14", "a21", "a28"]


@pytest.mark.parametrize(("answers", "others", "few"), [(40, 8, True), (3, 2, False)])
def test_titles_of_a_sample_tell_how_many_there_are_from_how_many_are_shown(
    head: Head, answers: int, others: int, few: bool
) -> None:
    given = [("one", False, "one")] * answers + [("two", True, "two")] * others
    sample, reason = PredictionSample(), "between two classes"
    sample.take(
        Prediction(str(number), label, 0.9, "one", 0.1, abstained, reason if abstained else "")
        for number, (label, abstained, _) in enumerate(given)
    )
    *_, not_answered, answered, _ = prediction_sheets(counted(*given, head=head), (), sample=sample)
    for sheet, what, number in ((not_answered, "Not answered", others), (answered, "Answered", answers)):
        assert sheet.title.startswith(f"{what}: {number} images")  # the number of all, not of those in the table
        assert len(sheet.rows) == min(number, 5)
        assert ("shown" in sheet.title, names(sheet.title, 5)) == (few, few)


def test_the_difference_from_the_promise_is_of_two_samples(head: Head) -> None:
    given = replace(head, promise=replace(head.promise, accuracy=48 / 80, interval=(0.4904, 0.7004)))
    found = counted(*[("one", False, "one")] * 56, *[("two", False, "one")] * 14, head=given)
    difference, ends = found.above_promise
    assert difference == pytest.approx(0.2)
    assert ends == pytest.approx((0.0524, 0.3339), abs=2e-4)  # Newcombe (1998), Table II, (a), method 10
    assert counted(head=given).above_promise is None


def test_two_proportions_of_one_population_agree_in_about_95_percent() -> None:
    """The promise and the outcome are of the same accuracy, and samples of different sizes."""
    drawn = torch.Generator().manual_seed(0)
    first = torch.binomial(torch.full((500,), 200.0), torch.full((500,), 0.93), generator=drawn).double()
    second = torch.binomial(torch.full((500,), 60.0), torch.full((500,), 0.93), generator=drawn).double()
    agree = 0
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        promised, found = Share(hits=int(one), of=200), Share(hits=int(other), of=60)
        low, high = difference_interval(found.value, found.interval, promised.value, promised.interval)
        agree += low <= 0 <= high
    assert 0.93 <= agree / 500 <= 0.985


@pytest.mark.parametrize("hits", [0, 7, 10])
def test_a_share_without_images_is_none(hits: int) -> None:
    assert (Share(hits=0, of=0).value, Share(hits=0, of=0).interval) == (None, None)
    low, high = Share(hits=hits, of=10).interval
    assert 0 <= low + 1e-12 <= hits / 10 + 1e-12 <= high + 2e-12
