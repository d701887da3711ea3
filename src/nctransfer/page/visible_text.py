"""Text of users as a page shows it: nothing in it can hide, or turn the text around it."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["isolated", "visible"]

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


RIGHT_TO_LEFT = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\U00010800-\U00010fff\U0001e800-\U0001efff]"
WORDS = re.compile(f"{RIGHT_TO_LEFT}+(?:[ '._-]+{RIGHT_TO_LEFT}+)*")
ISOLATE, END = "\u2068", "\u2069"


def isolated(text: str) -> str:
    r"""The text with marks around words read from right to left, so that they do not turn what stands around them.

    Without marks, a number after such a name in a sentence is shown before the name. A text without a letter that is
    read from left to right is left as it is.

    >>> isolated("1 of \u05d0\u05d1 \u05d2, 2") == "1 of \u2068\u05d0\u05d1 \u05d2\u2069, 2", isolated("\u05d0 1")
    (True, '\u05d0 1')
    """
    if not WORDS.search(text) or not any(unicodedata.bidirectional(character) == "L" for character in text):
        return text
    return WORDS.sub(lambda found: f"{ISOLATE}{found[0]}{END}", text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
