"""Sheets of labelled images that a head classifies wrong: the most confident ones, and the worst classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.heads.prediction_summary import Share
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import percent

if TYPE_CHECKING:
    from nctransfer.heads.prediction_summary import PredictionSummary

__all__ = ["mistake_sheets"]

CLASSES = 5  # how many classes are shown, and the fewest among which some are worst


def mistake_sheets(summary: PredictionSummary) -> list[Sheet]:
    """The most confident mistakes, and the classes that are classified worst; none if no image is classified wrong."""
    if not summary.mistakes:
        return []
    sheets = [_mistakes(summary)]
    if len(summary.label_counts) >= CLASSES:
        sheets.append(_worst_classes(summary))
    return sheets


def _mistakes(summary: PredictionSummary) -> Sheet:
    wrong, shown = summary.accuracy.of - summary.accuracy.hits, summary.mistakes
    rows = [
        [one.id, one.label, one.predicted, f"{one.probability * 100:.1f}", "no" if one.abstained else "yes"]
        for one in shown
    ]
    number = f"{len(shown)} of {wrong:,}" if len(shown) < wrong else f"{wrong}"
    return Sheet(
        f"Labelled as another class than predicted: {number}, the most confident first",
        ["image", "label", "predicted", ">in %", "answered"],
        rows,
        {},
        "Either the label or the prediction is wrong.",
    )


def _worst_classes(summary: PredictionSummary) -> Sheet:
    counts = summary.label_counts
    worst = sorted(counts, key=lambda name: (counts[name][0] / counts[name][1], -counts[name][1], name))[:CLASSES]
    rows = []
    for name in worst:
        right, images = counts[name]
        low, high = Share(hits=right, of=images).interval or (0.0, 1.0)
        rows.append([name, f"{right:,} of {images:,}", percent(right / images), f"{percent(low)} to {percent(high)}"])
    return Sheet(
        f"The {CLASSES} of {len(counts):,} classes with the lowest accuracy",
        ["class", ">right", ">in %", ">95% interval"],
        rows,
        {},
    )
