"""A report of collapse as a figure, or a comparison of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.figures.class_pairs_figure import class_pairs_figure
from nctransfer.figures.layers_figure import layers_figure
from nctransfer.figures.samples_figure import samples_figure
from nctransfer.figures.sets_figure import sets_figure
from nctransfer.figures.style import PAGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nctransfer.neural_collapse.collapse_report import CollapseReport
    from nctransfer.neural_collapse.comparisons import CollapseComparison

__all__ = ["collapse_figure"]


def collapse_figure(found: CollapseReport | CollapseComparison, *, width: float = PAGE) -> Figure:
    """What a report or a comparison shows: pairs of classes, layers, the three samples, or several sets.

    Args:
        found: The result; a single report needs its ``pair_matrix``.
        width: The width in inches.

    Raises:
        ValueError: It is a single report without a ``pair_matrix``.
    """
    from nctransfer.neural_collapse.collapse_report import CollapseReport

    if isinstance(found, CollapseReport):
        return class_pairs_figure(found, width=width)
    if found.fit:
        return layers_figure(found, width=width)
    return samples_figure(found, width=width) if found.ratios else sets_figure(found, width=width)
