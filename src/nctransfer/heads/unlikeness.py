"""How unlike every class an image is."""

from __future__ import annotations

__all__ = ["Unlikeness"]


class Unlikeness:
    """How unlike every class an image is."""
