"""Text of users as a page shows it: nothing in it can hide, or turn the text around it."""

from __future__ import annotations

import unicodedata

__all__ = ["visible"]

JOINERS = "\u200c\u200d"  # without which emoji fall apart, and words of some scripts read wrong
HIDDEN = (
    "Cc",
    "Cf",
    "Cs",
    "Zl",
    "Zp",
)  # Unicode categories: controls, marks of direction, halves of characters, breaks


def visible(text: str) -> str:
    r"""The text with escapes in place of what has no shape of its own: controls, line breaks, marks of direction.

    >>> visible("two\nlines"), visible("caf\u00e9 \u202egnp.exe")
    ('two\\nlines', 'café \\u202egnp.exe')
    """
    return "".join(_escape(c) if c not in JOINERS and unicodedata.category(c) in HIDDEN else c for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
