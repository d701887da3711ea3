"""Sheets of a fitted head: what to expect of it, the classifiers, the hardest classes and pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.heads.unlikeness import RELATIVE
from nctransfer.report.labels_sheets import short_percent
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import about_features, in_points, percent

if TYPE_CHECKING:
    from nctransfer.heads.fit_result import FitResult
    from nctransfer.heads.more_labels import MoreLabels

__all__ = ["fit_sheets"]

SHOWN = 5  # classes, and pairs of classes


def fit_sheets(found: FitResult, path: str | None = None) -> list[Sheet]:
    """What to expect of a head, the classifiers that were tried, and what the head finds hard.

    Args:
        found: The head.
        path: The file that it is written to.
    """
    sheets = [_expected(found, path)]
    if len(found.candidates) > 1:
        sheets.append(_classifiers(found))
    if any(one.right < one.images for one in found.classes):
        sheets += [_hardest(found), _confused(found)]
    return sheets


def _expected(found: FitResult, path: str | None) -> Sheet:
    head = found.head
    facts = about_features(found.features)
    facts["classifier"] = head.classifier + ("" if head.penalty is None else f", penalty {head.penalty:.3g}")
    if head.linear.owners is not None:
        facts["classifier"] += f", {counted(head.linear.rows_per_class, 'proxy', 'proxies')} per class"
    if head.unlikeness.name != RELATIVE:
        facts["unlikeness"] = head.unlikeness.name
    if head.origin.licence:
        facts["licence"] = f"{head.origin.licence} (of the weights)"
    if path is not None:
        facts["file"] = path
    return Sheet(
        "What to expect of this head",
        ["on other images of these classes", ">in %", ">95% interval"],
        [*_accuracy_rows(found), *_answer_rows(found)],
        facts,
        " ".join(filter(None, [found.choice, found.advice, *_reading(found), _next(path)])),
    )


def _next(path: str | None) -> str:
    return "" if path is None else f"To label images with it: nctransfer predict {path} FOLDER."


def _accuracy_rows(found: FitResult) -> Iterator[list[str]]:
    promise, counts = found.head.promise, found.head.counts
    low, high = promise.interval
    yield ["accuracy", percent(promise.accuracy), f"{percent(low)} to {percent(high)}"]
    if min(counts) != max(counts):
        yield ["accuracy, each class counting equally", percent(promise.balanced_accuracy), ""]
    yield ["calibration error of the probabilities", percent(promise.calibration_error), ""]
    yield ["  by chance alone, if they were perfect", percent(found.calibration_noise), ""]
    yield ["  before the temperature was fitted", percent(promise.calibration_error_before), ""]


def _answer_rows(found: FitResult) -> Iterator[list[str]]:
    limits = found.thresholds
    yield ["held back as unlike every class", percent(limits.lost), ""]
    if found.head.max_error is not None:
        yield ["held back between two classes", percent(max(0.0, 1 - limits.answered - limits.lost)), ""]
    yield ["answered", percent(limits.answered), ""]
    yield ["  wrong among the answered", percent(limits.error), f"at most {percent(limits.error_bound)}"]


def _reading(found: FitResult) -> Iterator[str]:
    images = counted(found.head.promise.images, "training image")
    yield (
        f"All numbers come from the {images}, each classified by a head that was fitted without it. They hold for "
        "other images of the same kind, in the same proportions of classes."
    )
    accuracy, measured = percent(found.head.promise.accuracy), percent(found.chosen.measured)
    if found.head.promise.accuracy > found.chosen.measured and accuracy != measured:
        yield (
            f"Such heads classify {measured}% right; the accuracy is a little higher because "
            "the head itself has seen all images. The other rows are not corrected in this way."
        )
    error = found.head.max_error
    if error is None:
        yield "Wrong among the answered: at most this share, with a confidence of 95%. --max-error lowers it."
    else:
        yield (
            f"For an error of at most {short_percent(error)} among the answered, images between two classes are held "
            "back; with new training images, this would hold in at least 95 of 100 cases."
        )
    if found.more_labels is not None:
        yield _gain(found.more_labels)


def _gain(more: MoreLabels) -> str:
    low, high = (f"{100 * end:.1f}" for end in more.gain)
    start = f"With {2 * more.images:,} instead of {more.images:,} images per class, the accuracy would"
    if low == high == "0.0":
        return f"{start} not rise: the learning curves that fit agree on that."
    gain = (
        f"about {low} points, on which the learning curves that fit agree"
        if low == high
        else f"{low} to {high} points: the range that holds 85% of the learning curves that fit"
    )
    return f"{start} rise by {gain}."


def _classifiers(found: FitResult) -> Sheet:
    rows = [
        [
            one.name,
            percent(one.accuracy),
            "–" if one.lead is None else f"{100 * one.lead.difference:.2f}",
            in_points(None if one.lead is None else one.lead.interval),
            "chosen" if one.lead is None else "less accurate" if one.lead.told_apart else "not told apart",
        ]
        for one in found.candidates
    ]
    return Sheet(
        "Classifiers",
        ["classifier", ">accuracy", ">behind", ">95% interval", "verdict"],
        rows,
        {},
        "Accuracy in %, behind in points, on other images of these classes.",
    )


def _hardest(found: FitResult) -> Sheet:
    taken: dict[str, str] = {}
    for pair in found.confusions:
        taken.setdefault(pair.given, f"{pair.predicted} ({pair.images:,})")
    hard = [one for one in found.classes if one.right < one.images][:SHOWN]
    rows = [
        [
            one.name,
            f"{one.right:,} of {one.images:,}",
            percent(one.accuracy),
            f"{percent(one.interval[0])} to {percent(one.interval[1])}",
            taken.get(one.name, "–"),
        ]
        for one in hard
    ]
    return Sheet(
        f"The hardest {counted(len(hard), 'class', 'classes')} of {len(found.classes):,}",
        ["class", ">right", ">in %", ">95% interval", "most often taken for (images)"],
        rows,
        {},
    )


def _confused(found: FitResult) -> Sheet:
    shown = found.confusions[:SHOWN]
    return Sheet(
        f"The {counted(len(shown), 'pair')} of classes confused most",
        ["class", "taken for", ">images"],
        [[one.given, one.predicted, f"{one.images:,} of {one.of:,}"] for one in shown],
        {},
    )
