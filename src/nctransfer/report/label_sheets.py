"""Sheets of what could be the class of an image: the depths of its folders, and its attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.report.sheet import Sheet

if TYPE_CHECKING:
    from nctransfer.sources.data_report import DataReport

__all__ = ["label_sheets"]

LONGEST = 30  # letters of a value in a table; JSON has all


def label_sheets(report: DataReport) -> list[Sheet]:
    """The classes at each label depth, and the attributes; no sheet where there is nothing to choose."""
    sheets = []
    if report.levels:
        rows = [
            [str(level.depth), f"{level.classes:,}", _sizes(level.smallest, level.median, level.largest), level.example]
            for level in report.levels
        ]
        sheets.append(
            Sheet(
                "Label depths",
                ["--label-depth", ">classes", "images per class", "such as"],
                rows,
                {},
                "An image that lies less deep is of the class of its own folder.",
            )
        )
    if report.attributes:
        rows = [
            [
                one.name,
                f"{one.values:,}",
                f"{one.missing:,}",
                ", ".join(f"{_short(value)} {images:,}" for value, images in one.most)
                + (" …" if one.values > len(one.most) else ""),
            ]
            for one in report.attributes
        ]
        sheets.append(
            Sheet(
                "Attributes",
                ["attribute", ">values", ">images without", "most frequent"],
                rows,
                {},
                "For stored features, --label-column makes classes of one of them, or of several: NAME,NAME.",
            )
        )
    return sheets


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _sizes(smallest: int, median: float, largest: int) -> str:
    if smallest == largest:
        return f"{largest:,}"
    return f"{smallest:,} to {largest:,}, median {median:,g}"
