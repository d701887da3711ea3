"""Sheets of the labels that targets need, and of the learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.report.sheet import Bar, Sheet
from nctransfer.report.wording import about_features, percent

if TYPE_CHECKING:
    from nctransfer.evaluation.all_ways import AllWaysResult
    from nctransfer.evaluation.label_counts import LabelCounts
    from nctransfer.evaluation.labels_needed import LabelsNeeded

__all__ = ["labels_sheets", "needed_cell", "short_percent"]


def labels_sheets(found: LabelCounts) -> list[Sheet]:
    """The targets with a sentence about each, and the learning curve."""
    return [_targets_sheet(found), _curve_sheet(found.curve)]


def _targets_sheet(found: LabelCounts) -> Sheet:
    rows = [
        [
            one.classifier,
            short_percent(one.target),
            needed_cell(one),
            one.between,
            "extrapolated" if one.extrapolated else "measured" if one.value is not None else "not reached",
        ]
        for one in found.targets
    ]
    return Sheet(
        "Labelled images per class that reach a target",
        ["classifier", ">target", ">labels per class", ">between", "how"],
        rows,
        about_features(found.curve.features) | {"images per class": _images(found.curve)},
        " ".join(_in_words(found.targets)),
    )


def _in_words(targets: Sequence[LabelsNeeded]) -> list[str]:
    """Sentences about the targets: one for each that is reached, and one for each classifier that misses some."""
    said = [
        f"{one.classifier} reaches {short_percent(one.target)} with {counted(one.value, 'labelled image')} per class "
        f"({one.between} with other images of these classes)."
        for one in targets
        if one.value is not None
    ]
    for name in dict.fromkeys(one.classifier for one in targets):
        missed = [one for one in targets if one.classifier == name and one.value is None]
        if missed:
            ranges = [f"{one.between} for {short_percent(one.target)}" for one in missed]
            ranges[0] = f"{missed[0].between} labelled images per class for {short_percent(missed[0].target)}"
            said.append(
                f"{name} at {join_names([short_percent(one.target) for one in missed])}: {missed[0].reason}. "
                f"{'By extrapolation, it' if missed[0].extrapolated else 'It'} takes {join_names(ranges)}."
            )
    measured, extrapolated = (any(one.extrapolated == which for one in targets) for which in (False, True))
    if measured:
        said.append("Ranges of measured numbers are 95% intervals.")
    if extrapolated:
        said.append("Extrapolated ranges hold 85% of the curves that fit the measured part.")
    return said


def needed_cell(one: LabelsNeeded) -> str:
    """The number; a dash if the target lies beyond the images at hand."""
    return "–" if one.value is None else f"{one.value:,}"


def short_percent(share: float) -> str:
    """A share in percent without needless digits, as a target is written.

    >>> short_percent(0.9), short_percent(0.925)
    ('90%', '92.5%')
    """
    return f"{share * 100:.6g}%"


def _images(curve: AllWaysResult) -> str:
    fewest, most = min(curve.images), max(curve.images)
    return f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _curve_sheet(curve: AllWaysResult) -> Sheet:
    """The learning curve: a row for each number of labelled images per class, a column for each classifier."""
    names, shots = curve.task.classifiers, curve.task.shots
    draws = [one.draws for one in curve.estimates.values()]
    fewest, most = min(draws), max(draws)
    drawn = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"

    def cell(number: int, name: str) -> str:
        one = curve.estimates[number, name]
        return f"{percent(one.accuracy)} [{percent(one.interval[0])}, {percent(one.interval[1])}]"

    return Sheet(
        "Learning curve",
        [">labels per class", *(f">{name}" for name in names)],
        [[f"{number:,}", *(cell(number, name) for name in names)] for number in shots],
        {"random draws": f"{drawn} for each number of labelled images"},
        f"Accuracy in % on all {len(curve.classes):,} classes at once, each class counting equally. In each draw "
        "all images that are not labelled are classified. In brackets: the 95% interval over other images "
        "of these classes.",
        tuple(
            Bar(name, counted(number, "label"), curve.estimates[number, name].accuracy)
            for name in names
            for number in shots
        ),
    )
