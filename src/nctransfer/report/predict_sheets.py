"""Sheets of predictions: the first rows, how many were answered, and how that compares with what was promised."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.report.labels_sheets import short_percent
from nctransfer.report.mistake_sheets import mistake_sheets
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import in_points

if TYPE_CHECKING:
    from nctransfer.heads.prediction import Prediction, Predictions
    from nctransfer.heads.prediction_sample import PredictionSample
    from nctransfer.heads.prediction_summary import PredictionSummary, Share

__all__ = ["SHOWN", "answered_words", "prediction_sheets", "result_sheets", "summary_words"]

SHOWN = 20
"""How many predictions, and how many classes, a table shows."""

COLUMNS = ("image", "class", ">in %", "second", ">in %", "answered")


def result_sheets(found: Predictions) -> list[Sheet]:
    """The sheets of predictions that are in memory."""
    return prediction_sheets(found.summary, found.rows[:SHOWN])


def prediction_sheets(
    summary: PredictionSummary,
    first: Sequence[Prediction],
    about: Mapping[str, str] | None = None,
    sample: PredictionSample | None = None,
) -> list[Sheet]:
    """The first predictions or some that are worth a look, the mistakes, and the number of answered images per class.

    Args:
        summary: The numbers.
        first: The first predictions; none if they are in a file.
        about: Facts about the head and the images, by name.
        sample: Predictions to show if all of them are in a file.
    """
    more = summary.images - len(first)
    words = [f"… and {counted(more, 'more image')}." if first and more else "", *summary_words(summary)]
    reading = " ".join(filter(None, words))
    sheets = [Sheet("Predictions", COLUMNS, _rows(first), {**(about or {}), **_facts(summary)}, reading)]
    if sample is not None:
        sheets += _sample_sheets(summary, sample)
    sheets += mistake_sheets(summary)
    if summary.classes:
        sheets.append(_class_sheet(summary))
    return sheets


def _rows(rows: Sequence[Prediction]) -> list[list[str]]:
    return [
        [
            row.id,
            row.label or "–",
            _percent(row.probability),
            row.second or "–",
            _percent(row.second_probability),
            row.reason if row.abstained else "yes",
        ]
        for row in rows
    ]


def _sample_sheets(summary: PredictionSummary, sample: PredictionSample) -> Iterator[Sheet]:
    """Some images that were not answered, and the least certain answers."""
    if held_back := sample.held_back:
        number = summary.images - summary.answered
        title = f"Not answered: {counted(number, 'image')}"
        if len(held_back) < number:
            title += f", of which {len(held_back)} are shown"
        yield Sheet(title, [*COLUMNS[:-1], "reason"], _rows(held_back), {})
    if uncertain := sample.uncertain:
        title = f"Answered: {counted(summary.answered, 'image')}, "
        few = len(uncertain) < summary.answered
        title += f"of which the {len(uncertain)} least certain are shown" if few else "the least certain first"
        yield Sheet(title, COLUMNS[:-1], [row[:-1] for row in _rows(uncertain)], {})


def answered_words(summary: PredictionSummary) -> str:
    """How many images were answered, in one sentence."""
    held_back = ", ".join(f"{number:,} {reason}" for reason, number in summary.reasons.items())
    return f"{summary.answered:,} of {counted(summary.images, 'image')} answered" + (
        f" ({held_back})" if held_back else ""
    )


def summary_words(summary: PredictionSummary) -> list[str]:
    """How accurate the head was where labels are known, in sentences."""
    said = _other_words(summary)
    if summary.fitted:
        said.append(
            f"{counted(summary.fitted, 'image')} with a label {'is' if summary.fitted == 1 else 'are'} left out of the "
            "accuracy, because the head was fitted on them."
        )
    return [*said, *_accuracy_words(summary), *_error_words(summary)]


def _other_words(summary: PredictionSummary) -> list[str]:
    """What became of images whose label is no class of the head."""
    number, answered = summary.other_images, summary.other_answered
    if not number:
        return []
    if number == summary.labelled:
        begin = (
            f"No label of these images is a class of the head (the first is {summary.other_label!r}), so there is no "
            f"accuracy; of the {counted(number, 'image')} with such a label,"
        )
    else:
        have, label = ("has", "a label that is") if number == 1 else ("have", "labels that are")
        begin = (
            f"{number:,} of the {counted(summary.labelled, 'labelled image')} {have} {label} no class of the head "
            f"(first: {summary.other_label!r});"
        )
    if not answered:
        return [f"{begin} none was answered."]
    were = "was" if answered == 1 else "were"
    return [
        f"{begin} {answered:,} {were} answered ({answered / number:.1%}).",
        "Such answers are wrong if those labels are right: --max-error is only about images of the head's classes.",
    ]


def _accuracy_words(summary: PredictionSummary) -> list[str]:
    """The accuracy beside the promise, and whether the two agree."""
    above = summary.above_promise
    if above is None:
        return []
    value, interval = summary.promised
    difference, ends = above
    found = (
        f"Of {counted(summary.accuracy.of, 'image')} with a class of the head as label, {_share(summary.accuracy)} are "
        f"classified right, answered or not. {_with_interval(value, interval)} was promised when the head was fitted."
    )
    if ends[0] > 0:
        verdict = "which is better than promised"
    elif ends[1] < 0:
        verdict = (
            "which is worse than promised: these images differ from those that the head was fitted on, or the classes "
            "come in other proportions"
        )
    else:
        verdict = "so the two agree"
    compared = f"The difference is {difference * 100:+.2f} points {in_points(ends)}, {verdict}."
    return [found, compared, "Brackets hold 95% intervals over other images of these classes."]


def _error_words(summary: PredictionSummary) -> list[str]:
    """The error among the answered images beside the one that was asked for."""
    value, interval, asked = summary.error.value, summary.error.interval, summary.max_error
    if asked is None:
        return []
    if value is None or interval is None:
        return _promise_words(asked, summary.error_bound)
    found = f"Of {counted(summary.error.of, 'answered image')} with a label, {_share(summary.error)} are wrong"
    aim = f"at most {short_percent(asked)} was asked for"
    if interval[0] > asked:
        return [f"{found}: that is more than the head should allow, since {aim}."]
    return [f"{found}; {aim}."]


def _promise_words(asked: float, bound: float | None) -> list[str]:
    """What was asked for and what is promised, where labels cannot show the error."""
    promise = "" if bound is None else f"; the head promises at most {_at_most(bound)}, with a confidence of 95%"
    return [
        f"At most {short_percent(asked)} wrong answers among the answered images were asked for{promise}.",
        "This is about images of the head's classes only: an answer to any other image is wrong.",
    ]


def _at_most(bound: float) -> str:
    """A bound in percent, rounded up."""
    return f"{math.ceil(bound * 10_000 - 1e-6) / 100:g}%"


def _facts(summary: PredictionSummary) -> dict[str, str]:
    held_back = ", ".join(f"{number:,} {reason}" for reason, number in summary.reasons.items())
    facts = {
        "images": f"{summary.images:,}",
        "answered": f"{summary.answered:,}" + (f" ({summary.answered / summary.images:.1%})" if summary.images else ""),
        "not answered": held_back,
        "accuracy": f"{_share(summary.accuracy)} ({counted(of, 'image')})" if (of := summary.accuracy.of) else "",
    }
    return {name: value for name, value in facts.items() if value}


def _class_sheet(summary: PredictionSummary) -> Sheet:
    shown = list(summary.classes.items())[:SHOWN]
    more = list(summary.classes)[SHOWN:]
    return Sheet(
        "Answered images per class",
        ["class", ">images", ">share in %"],
        [[name, f"{number:,}", f"{number / summary.answered * 100:.1f}"] for name, number in shown],
        {},
        f"… and {counted(len(more), 'more class', 'more classes')}: {join_names(more)}." if more else "",
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.1f}"


def _share(share: Share) -> str:
    value, interval = share.value, share.interval
    return "–" if value is None or interval is None else _with_interval(value, interval)


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{value * 100:.2f}% [{interval[0] * 100:.2f}, {interval[1] * 100:.2f}]"
