"""Results show themselves in a notebook as the terminal shows them.

A result knows its numbers, and not how they are shown: the wing of reports lies below all wings of results, and a wing
imports only wings above it. So a result inherits from :class:`ShownInNotebooks`, which stands on the ground and knows
no wing either. The package's ``__init__``, which knows all wings, gives it the function that draws results
(:func:`show_with`). That function imports the wing of reports when a notebook first shows a result, and not before.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["ShownInNotebooks", "show_with"]

Draw = Callable[[object], str]
_draw: Draw = repr


def show_with(draw: Draw) -> None:
    """Set the function that turns a result into HTML."""
    global _draw
    _draw = draw


class ShownInNotebooks:
    """A result that Jupyter and other notebooks show as tables."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """The result as HTML; notebooks call this method by its name."""
        return _draw(self)
