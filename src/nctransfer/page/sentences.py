"""Warnings as sentences."""

from __future__ import annotations

__all__ = ["sentence"]


def sentence(text: str) -> str:
    """A warning, as the command line prints it, as a sentence.

    >>> sentence("3 images are there twice"), sentence("is that so?")
    ('3 images are there twice.', 'Is that so?')
    """
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
