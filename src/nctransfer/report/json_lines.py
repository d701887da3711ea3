"""Results as flat rows, each a line of JSON."""

from __future__ import annotations

from nctransfer.report.csv_rows import frame_of
from nctransfer.report.format import Format, Page, Presentation
from nctransfer.report.json_text import json_line

__all__ = ["JSONL"]


def _render(result: Presentation, page: Page) -> str:
    frame = frame_of(result)
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return "".join(json_line(row, ascii_only=page.is_ascii) + "\n" for row in rows)


JSONL = Format(name="jsonl", meaning="one line of JSON per result", suffixes=(".jsonl",), render=_render)
