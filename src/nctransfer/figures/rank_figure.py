"""A ranking as a figure: accuracy against speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from nctransfer.features.feature_info import FeatureInfo
from nctransfer.figures.pareto_figure import Mark, pareto_figure
from nctransfer.figures.style import PAGE, caption_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nctransfer.rank.ranking import Ranking

__all__ = ["rank_figure"]


def rank_figure(found: Ranking, *, width: float = PAGE) -> Figure:
    """The candidates of a ranking, by accuracy and images per second.

    Args:
        found: The ranking.
        width: The width in inches.
    """
    about = FeatureInfo(found.data, data=found.data, classes=found.classes, samples=found.images)
    earlier = [one.speed is not None and one.speed.is_earlier for one in found.candidates if one.place is not None]
    mark = "*" if not all(earlier) else ""
    note = f"{'*: the speed was' if mark else 'The speeds were'} measured in an earlier run"
    ran = [(one, one.place) for one in found.candidates if one.place is not None]
    return pareto_figure(
        [one.name + mark * was for (one, _), was in zip(ran, earlier, strict=True)],
        [place.accuracy for _, place in ran],
        [place.interval for _, place in ran],
        [one.speed.images_per_second if one.speed else None for one, _ in ran],
        [cast("Mark", one.status) for one, _ in ran],
        [one.pareto for one, _ in ran],
        title=f"How accurate{' and how fast' * any(one.speed for one, _ in ran)} each candidate is",
        accuracy_label=f"{found.shots}-shot accuracy",
        caption=f"{caption_of(about)}. Bars: 95% intervals over images" + f". {note}" * any(earlier),
        width=width,
    )
