"""What a measure is: its function, its direction, its range."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nctransfer.neural_collapse.class_statistics import ClassStatistics

__all__ = ["Measure", "Undefined"]


class Undefined(ValueError):  # noqa: N818 - a state of the data, not an error of the caller
    """A quantity has no value for these data; the message is the reason."""


class Measure(NamedTuple):
    """A quantity of the collapse report, and how to read it.

    Attributes:
        function: Of ``ClassStatistics``; its docstring is the definition.
        meaning: In a few words.
        collapsed: Which way is collapsed: ``lower``, ``higher``, or "" for a width.
        range: Of its values.
        aspect: NC1 to NC4, or the width.
        is_usual: Whether it is shown unless all are asked for.
    """

    function: Callable[[ClassStatistics], float]
    meaning: str
    collapsed: str
    range: str
    aspect: str
    is_usual: bool = True
