"""Text from file names and class names, written so that no spreadsheet, terminal or editor takes it for a command."""

from __future__ import annotations

import json
import re
from typing import TypeVar

__all__ = ["escaped_json", "guarded", "unguarded"]

Cell = TypeVar("Cell")

FORMULA = re.compile(r"'*[=+\-@\t\r]")
GUARDED = re.compile(r"'+[=+\-@\t\r]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?%?")
UNSEEN = re.compile(  # what is not shown, or changes how other text is shown; JSON escapes the others below a space
    "[\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)


def guarded(cell: Cell) -> Cell | str:
    """The cell of a CSV table with an apostrophe before text that a spreadsheet would take for a formula.

    :func:`unguarded` gives the text back: text that looks guarded already gets one more apostrophe. Numbers stay, also
    those that are text.

    >>> guarded("=cmd()"), guarded("-1"), guarded(-1), guarded("cat")
    ("'=cmd()", '-1', -1, 'cat')
    """
    if isinstance(cell, str) and FORMULA.match(cell) and not NUMBER.fullmatch(cell):
        return "'" + cell
    return cell


def unguarded(cell: str) -> str:
    """The text of a cell of a CSV table, without the apostrophe that guards against formulas.

    >>> unguarded("'=cmd()"), unguarded("'tis"), unguarded(str(guarded("'=cmd()")))
    ('=cmd()', "'tis", "'=cmd()")
    """
    return cell[1:] if GUARDED.match(cell) else cell


def escaped_json(text: str) -> str:
    r"""JSON in which characters that are not shown are escapes: control characters, marks of direction, halves.

    >>> print(escaped_json(json.dumps("one" + chr(0x202E) + "two", ensure_ascii=False)))
    "one\u202etwo"
    """
    return text if text.isascii() and "\x7f" not in text else UNSEEN.sub(lambda one: json.dumps(one[0])[1:-1], text)
