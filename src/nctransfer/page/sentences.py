"""Warnings as sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["listed", "sentence", "without_options"]

OPTION = re.compile(r"(?<![\w-])--[a-z]")


def listed(parts: Sequence[str]) -> str:
    """All parts, as a sentence lists them.

    >>> listed(["one"]), listed(["one", "two", "three"])
    ('one', 'one, two and three')
    """
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def sentence(text: str) -> str:
    """A warning, as the command line prints it, as a sentence. Names at its beginning stay as they are.

    Advice at its end that begins with an option is left out: it does not help those who only read the page.

    >>> sentence("images are there twice"), sentence("is that so?"), sentence("vit_base: no images")
    ('Images are there twice.', 'Is that so?', 'vit_base: no images.')
    >>> sentence("two files are equal; accuracy is too good; --drop-duplicates leaves copies out")
    'Two files are equal; accuracy is too good.'
    """
    text = text.partition("; --")[0]
    first = text.partition(" ")[0]
    begin = text[:1].upper() + text[1:] if first.isalpha() else text
    return begin + ("" if text.endswith((".", "!", "?")) else ".")


def without_options(text: str) -> str:
    """A text without the sentences that name an option of a command: those who only read the page have no use for it.

    >>> without_options("Accuracy in %. There are no controls: give --data with the images. Lower is better.")
    'Accuracy in %. Lower is better.'
    """
    return " ".join(one for one in re.split(r"(?<=[.!?]) +", text) if not OPTION.search(one))
