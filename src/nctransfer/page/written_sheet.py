"""The sheet of a report that was written: what is in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import about_features

if TYPE_CHECKING:
    from nctransfer.page.report_page import WrittenReport

__all__ = ["written_sheet"]


def written_sheet(found: WrittenReport) -> Sheet:
    """Where the page is, and what its sections show."""
    missing = found.missing
    facts = about_features(found.measured.features.describe()) | {
        "file": f"{found.path} ({found.bytes / 1e6:,.1f} MB, {counted(len(found.page.thumbnails), 'small image')})",
    }
    if missing:
        facts["not measured"] = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
    return Sheet(
        "Report",
        ["section", "what it shows"],
        [[section.title, section.says] for section in found.page.sections],
        facts,
        "Open the file in a browser. It needs no network, and holds no reference to anything outside it.",
    )
