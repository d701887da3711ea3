"""Tables that scripts write into pages of the docs, each between a comment with its name and ``<!-- end -->``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["markdown", "names", "tables", "written"]


def names(folder: Path) -> list[str]:
    """The modules of a folder that make a table: those with a function ``table``."""
    return sorted(path.stem for path in folder.glob("*.py") if "\ndef table(" in path.read_text())


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown.

    >>> print(markdown(["model", "images/s"], [["resnet50", 26]]))
    | model | images/s |
    | --- | --- |
    | resnet50 | 26 |
    """
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [columns, ["---"] * len(columns), *rows])


def written(page: str, name: str, table: str) -> str:
    """The page with the table in its place.

    Raises:
        ValueError: The page has no place for it.
    """
    place = re.compile(rf"(<!-- {name}: .*?-->\n).*?(<!-- end -->)", re.DOTALL)
    if not place.search(page):
        raise ValueError(f"there is no comment that begins with '<!-- {name}: '")
    return place.sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", page)


def tables(page: str, folder: str) -> dict[str, str]:
    """The tables of a page that the modules of a folder made, by name.

    Args:
        page: The text of the page.
        folder: Who made them, as their comments say.
    """
    place = re.compile(rf"<!-- (\w+): made by {re.escape(folder)} -->\n(.*?)<!-- end -->", re.DOTALL)
    return {name: table.strip() for name, table in place.findall(page)}
