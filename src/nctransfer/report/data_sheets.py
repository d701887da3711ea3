"""Sheets of what a data source holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.report.label_sheets import label_sheets
from nctransfer.report.look_alike_sheets import look_alikes_sheet
from nctransfer.report.sheet import Sheet

if TYPE_CHECKING:
    from nctransfer.sources.data_report import Copy, DataReport
    from nctransfer.sources.leakage import Overlap
    from nctransfer.sources.similar_images import LookAlikes

__all__ = ["data_sheets"]

LISTED = 50  # broken images in a table; JSON has all


def data_sheets(
    report: DataReport, overlap: Overlap | None = None, look_alikes: LookAlikes | None = None
) -> list[Sheet]:
    """The sheets of a data source: its contents, its problems, and the images that it shares with another source."""
    sheets = [Sheet("Data", [], [], _data_facts(report), _data_in_words(report)), *label_sheets(report)]
    if report.broken:
        more = len(report.broken) - LISTED
        sheets.append(
            Sheet(
                "Broken images",
                ["image", "reason"],
                [list(broken) for broken in report.broken[:LISTED]],
                {},
                f"… and {more:,} more (all of them: --format json)." if more > 0 else "",
            )
        )
    found = [*report.across_splits.first, *report.across_classes.first]
    if rows := [[_same(copies)] for copies in dict.fromkeys(found)]:
        sheets.append(Sheet("Same image, another class or split", ["images"], rows, {}))
    if overlap:
        sheets.append(_overlap_sheet(overlap, look_alikes is not None))
    if look_alikes:
        sheets.append(look_alikes_sheet(look_alikes))
    return sheets


def _data_facts(report: DataReport) -> dict[str, str]:
    facts = {
        "data": ", ".join(filter(None, [report.name, report.selection])),
        "kind": report.kind,
        "images": f"{report.images:,}, {file_size(report.file_bytes)}",
        "classes": f"{len(report.classes):,}",
        "splits": ", ".join(f"{name} {number:,}" for name, number in report.splits.items()),
        "class sizes": _class_sizes(report),
        "image sizes": image_sizes(report),
        "modes": shares(report.modes),
        "formats": shares(report.formats),
        "broken": f"{len(report.broken):,}" + (" by their headers alone" if report.headers_only else ""),
        "duplicates": ", ".join(
            f"{counted(duplicates.images, 'image')} {where}"
            for duplicates, where in (
                (report.across_splits, "across splits"),
                (report.across_classes, "across classes"),
                (report.within_class, "within a class (harmless)"),
            )
            if duplicates.images
        )
        or "none",
        "notes": "; ".join(report.notes),
    }
    return {name: value for name, value in facts.items() if value}


def _class_sizes(report: DataReport) -> str:
    (least, fewest), (largest, most) = report.smallest_class, report.largest_class
    if fewest == most:
        return f"{counted(most, 'image')} each"
    return f"{fewest:,} ({least}) to {most:,} ({largest}), median {report.median_class:,g}"


def image_sizes(report: DataReport) -> str:
    if (sizes := report.sizes) is None:
        return ""
    smallest, median, largest = (f"{width}×{height}" for width, height in (sizes.smallest, sizes.median, sizes.largest))
    if sizes.different == 1:
        return f"{largest} each"
    return f"{smallest} to {largest}, median {median}; {sizes.different:,} different"


def shares(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())


def file_size(number: int) -> str:
    return f"{number / 2**20:,.1f} MiB" if number >= 2**20 else f"{number / 2**10:,.1f} KiB"


def _data_in_words(report: DataReport) -> str:
    """Sentences on what a user should know before a transfer study on these data."""
    (_, fewest), (_, most) = report.smallest_class, report.largest_class
    words = []
    if fewest == most:
        words.append("The classes are balanced.")
    elif most > 2 * fewest:
        words.append(f"The largest class has {most / fewest:,.1f} times the images of the smallest.")
    least = min(report.usable.values())
    where = ", over all splits" if len(report.splits) > 1 else ""
    words.append(f"The smallest class has {least:,} usable images{where}: shots and queries of an episode share them.")
    if report.broken:
        words.append("Broken images end an extraction in an error, unless --skip-broken leaves them out.")
    if report.across_splits.images:
        words.append("Some images are in more than one split, so accuracy on one split does not measure unseen images.")
    if report.across_classes.images:
        words.append("Some images are in more than one class, so at most one of their labels is right.")
    if report.headers_only:
        words.append("Only the headers were read, so truncated images were not found.")
    return " ".join(words)


def _same(copies: Sequence[Copy]) -> str:
    return " = ".join(_named(copy) for copy in copies[:4]) + (" = …" if len(copies) > 4 else "")


def _named(copy: Copy) -> str:
    return f"{copy.id} ({', '.join(filter(None, [copy.label, copy.split]))})"


def _overlap_sheet(overlap: Overlap, with_look_alikes: bool) -> Sheet:
    share = f" ({overlap.share:.2%})" if overlap.share is not None else ""
    names = ", ".join(overlap.classes[:10]) + (" …" if len(overlap.classes) > 10 else "")
    facts = {
        "data": overlap.name,
        "other": overlap.other,
        "images in both": f"{overlap.images:,} of {overlap.of:,}{share}, by their content",
        "classes in both": f"{len(overlap.classes):,}" + (f": {names}" if names else ""),
    }
    rows = [[_named(one), _named(other)] for one, other in overlap.examples[:LISTED]]
    more = len(overlap.examples) - LISTED
    return Sheet(
        "Overlap",
        ["image", "the same in the other"],
        rows,
        facts,
        (f"… and {more:,} more (all of them: --format json). " if more > 0 else "")
        + (
            "Only files with identical bytes are listed here."
            if with_look_alikes
            else "Only files with identical bytes are found. An image that was saved again counts as a different one."
        ),
    )
