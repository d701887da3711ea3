"""What an entry of the measure registry says about itself: its function, direction and range, and where it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from nctransfer.neural_collapse.class_statistics import ClassStatistics

__all__ = ["Measure", "Undefined"]


class Undefined(ValueError):  # noqa: N818 - a state of the data, not an error of the caller
    """A quantity has no value for these data; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A quantity of the collapse report, and how to read it: an entry of the registry.

    Attributes:
        name: The name by which users find it.
        function: From :class:`~nctransfer.neural_collapse.class_statistics.ClassStatistics` to the value; its docstring
            is the definition. It raises :class:`Undefined` with the reason where there is no value.
        meaning: What it is, in a few words for the table.
        aspect: What it describes: ``NC1`` to ``NC4``, or ``width``.
        direction: Whether ``lower`` or ``higher`` values are more collapsed; ``None`` if neither is.
        range: The range of its values, for the table.
        is_usual: Whether tables show it unless they show all measures.
        pairs: For an average over ordered pairs of classes, which then has an interval: from the statistics to the
            values ``(C, C)`` with zeros on the diagonal and NaN for pairs that are left out, or to ``None`` if there is
            no value.
        is_positive: Whether what such an average estimates is positive, so that its interval is taken on the
            logarithmic scale.
        in_layers: Whether the table of layers shows it.
        in_trajectories: Whether tables and figures of a trajectory show it.
        is_correlated: Whether a trajectory gives its rank correlation with accuracy.
        caution: What must not be concluded from it; tables that show it end with this sentence.
        label: What headings and figures call it; by default its name.
        column: What the heads of narrow columns call it; by default its name.
    """

    name: str
    function: Callable[[ClassStatistics], float]
    meaning: str
    aspect: str
    direction: Literal["lower", "higher"] | None = None
    range: str = ""
    is_usual: bool = False
    pairs: Callable[[ClassStatistics], torch.Tensor | None] | None = None
    is_positive: bool = False
    in_layers: bool = False
    in_trajectories: bool = False
    is_correlated: bool = False
    caution: str = ""
    label: str = ""
    column: str = ""

    def __post_init__(self) -> None:
        for field in ("label", "column"):
            if not getattr(self, field):
                object.__setattr__(self, field, self.name)
