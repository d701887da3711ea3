"""Warnings as sentences."""

from __future__ import annotations

__all__ = ["sentence"]


def sentence(text: str) -> str:
    """A warning, as the command line prints it, as a sentence. Names at its beginning stay as they are.

    >>> sentence("images are there twice"), sentence("is that so?"), sentence("vit_base: no images")
    ('Images are there twice.', 'Is that so?', 'vit_base: no images.')
    """
    first = text.partition(" ")[0]
    begin = text[:1].upper() + text[1:] if first.isalpha() else text
    return begin + ("" if text.endswith((".", "!", "?")) else ".")
