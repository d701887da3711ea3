"""Every output format by name."""

from __future__ import annotations

from pathlib import PurePath

from nctransfer.registry import Registry
from nctransfer.report.csv_rows import CSV
from nctransfer.report.format import Format
from nctransfer.report.html_tables import HTML
from nctransfer.report.json_lines import JSONL
from nctransfer.report.json_text import JSON
from nctransfer.report.latex import LATEX
from nctransfer.report.markdown import MARKDOWN
from nctransfer.report.terminal_tables import TABLE

__all__ = ["FORMATS", "format_of_file"]

FORMATS: Registry[Format] = Registry("nctransfer.formats", Format, [TABLE, JSON, JSONL, CSV, MARKDOWN, LATEX, HTML])
"""Every output format by name, in the order of ``--help``."""


def format_of_file(path: PurePath) -> Format | None:
    """The format that the suffix of a file names; ``None`` if it names none.

    >>> format_of_file(PurePath("results.TEX")).name, format_of_file(PurePath("results"))
    ('latex', None)
    """
    suffix = path.suffix.lower()
    return next((form for form in FORMATS.values() if suffix in form.suffixes), None)
