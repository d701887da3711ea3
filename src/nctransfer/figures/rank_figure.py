"""A ranking as a figure: accuracy against speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from nctransfer.figures.pareto_figure import Mark, pareto_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nctransfer.rank.ranking import Ranking

__all__ = ["rank_figure"]


def rank_figure(found: Ranking) -> Figure:
    """The candidates of a ranking, by accuracy and images per second."""
    ran = [(one, one.place) for one in found.candidates if one.place is not None]
    return pareto_figure(
        [one.name for one, _ in ran],
        [place.accuracy for _, place in ran],
        [place.interval for _, place in ran],
        [one.speed.images_per_second if one.speed else None for one, _ in ran],
        [cast("Mark", one.status) for one, _ in ran],
        [one.pareto for one, _ in ran],
        title=f"{found.data}: {found.classes} classes",
        accuracy_label=f"{found.shots}-shot accuracy, with its 95% interval over images",
    )
