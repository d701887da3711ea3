"""The sheet of a report that was written: its verdict, and what is in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.page.blocks import Verdict
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import about_features

if TYPE_CHECKING:
    from nctransfer.page.report_page import WrittenReport

__all__ = ["written_sheet"]


def written_sheet(found: WrittenReport) -> Sheet:
    """Where the page is, and its verdict."""
    missing = found.missing
    pictures = counted(len(found.page.thumbnails), "small image")
    facts = about_features(found.measured.features.describe()) | {
        "file": f"{found.path} ({found.bytes / 1e6:,.1f} MB, {pictures})",
    }
    if missing:
        facts["not measured"] = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
    numbers = [block for section in found.page.sections for block in section.blocks if isinstance(block, Verdict)]
    return Sheet(
        "Report",
        ["verdict", ">value"],
        [[one.label, one.value] for one in numbers],
        facts,
        f"Its parts: {', '.join(section.title for section in found.page.sections)}. Open the file in a browser. It "
        "needs no network, and holds no reference to anything outside it.",
    )
