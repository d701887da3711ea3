"""Classifiers by names that a reader knows."""

from __future__ import annotations

__all__ = ["classifier_in_words"]

NAMES = {
    "ridge": "ridge regression",
    "ncc": "the nearest class centre",
    "cosine": "the nearest class centre by cosine",
    "logistic": "logistic regression",
    "proxies": "the nearest of several proxies per class",
}


def classifier_in_words(name: str) -> str:
    """The name of a classifier within a sentence; one that is not known keeps its own.

    >>> classifier_in_words("ncc"), classifier_in_words("mine")
    ('the nearest class centre', 'mine')
    """
    return NAMES.get(name, name)
