"""Accuracy by group, and on new groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nctransfer.evaluation.group_results import GroupResult, GroupRow
from nctransfer.figures.foot import LONGEST, add_foot, name_of, names_of
from nctransfer.figures.number_axes import percent_axis
from nctransfer.figures.style import COLOURS, COLUMN, PAGE, caption_of, in_style, new_figure, plain_text
from nctransfer.report.wording import POPULATIONS

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nctransfer.evaluation.group_results import AcrossResult, AcrossRow, GroupAccuracy

__all__ = ["group_figure"]

MOST = 30  # groups; fewer if there are many panels
FEWEST = 6
EDGE = 0.015  # beyond 0 and 1, so that dots there are whole
LONG = 24  # characters of a name beside several panels
VERDICTS = {"worse": COLOURS[1], "better": COLOURS[2]}
LINES: dict[
    str, tuple[str, dict[str, Any]]
] = {  # each stands at the accuracy of all groups, by where the support is from
    "": ("all groups", {"color": COLOURS[6]}),
    "across": ("all, support from other groups", {"color": COLOURS[6]}),
    "mixed": ("all, support from all groups", {"color": COLOURS[6], "linestyle": "--"}),
    "same": ("all, support from the same group", {"color": COLOURS[6], "linestyle": ":"}),
}


@in_style
def group_figure(found: GroupResult | AcrossResult, *, width: float = PAGE) -> Figure:
    """A row for each group, the least accurate one first; a panel for each task and classifier.

    Bars are 95% intervals that hold for all groups together. A group that is told from the others on the same classes
    has another colour.

    Args:
        found: The accuracies.
        width: The width in inches.
    """
    columns = max(1, min(len(found.rows), round(width / COLUMN)))
    lines = -(-len(found.rows) // columns)
    order = _order(found.rows)
    shown = order[: min(MOST, max(FEWEST, 2 * MOST // lines))]
    figure = new_figure(width, 1.1 + lines * (0.75 + 0.17 * len(shown)))
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flatten()
    entries: dict[str, Artist] = {}
    rows: Sequence[GroupRow | AcrossRow] = found.rows
    names = names_of(shown, LONG if columns > 1 else LONGEST)
    for axes, row in zip(panels, rows, strict=False):
        entries |= _draw(axes, row, shown, names)
    low, high = panels[0].get_xlim()
    panels[0].set_xlim(max(low, -EDGE), min(high, 1 + EDGE))
    for axes in panels[len(found.rows) :]:
        axes.set_axis_off()
    title = "Accuracy by" if isinstance(found, GroupResult) else "Accuracy on a new"
    figure.suptitle(f"{title} {name_of(found.column)}", x=0.01, ha="left")
    legend = {says: entries[says] for says in _legend() if says in entries}
    add_foot(figure, (caption_of(found.features), *_caption(found, shown, len(order))), legend)
    return figure


def _order(rows: Sequence[GroupRow | AcrossRow]) -> list[str]:
    """The groups that have an accuracy in any row, the least accurate of the first row first."""
    asked = {one.name for row in rows for one in row.groups if one.accuracy is not None}
    first = sorted(rows[0].groups, key=lambda one: math.inf if one.accuracy is None else one.accuracy)
    return [one.name for one in first if one.name in asked]


def _legend() -> list[str]:
    """All that a legend may have, in order."""
    return [_says(""), *map(_says, VERDICTS), *(says for says, _ in LINES.values())]


def _draw(axes: Axes, row: GroupRow | AcrossRow, shown: Sequence[str], names: Sequence[str]) -> Mapping[str, Artist]:
    """The groups of one task and classifier; returns what the legend has."""
    groups = {one.name: one for one in row.groups}
    entries: dict[str, Artist] = {}
    for place, name in enumerate(shown):
        entries |= _draw_group(axes, groups[name], place)
    whole = {"": row.accuracy} if isinstance(row, GroupRow) else {"across": row.accuracy, **row.references}
    for name, accuracy in whole.items():
        says, look = LINES[name]
        entries[says] = axes.axvline(accuracy, linewidth=1, zorder=1, **look)
    axes.set_yticks(range(len(shown)), names)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    percent_axis(axes.xaxis)
    axes.tick_params(labelbottom=True)  # below each panel, as the last line may have fewer
    axes.set(title=plain_text(f"{row.ways}-way {row.shots}-shot, {row.classifier}"), xlabel="accuracy")
    return entries


def _draw_group(axes: Axes, group: GroupAccuracy, place: int) -> Mapping[str, Artist]:
    if group.accuracy is None:
        return {}
    colour = VERDICTS.get(group.verdict or "", COLOURS[0])
    [dot] = axes.plot([group.accuracy], [place], "o", color=colour, markersize=4.5, zorder=3)
    if group.simultaneous is not None:
        axes.plot(group.simultaneous, [place] * 2, color=colour, linewidth=1.2, zorder=2)
    return {_says(group.verdict or ""): dot}


def _says(verdict: str) -> str:
    return f"{verdict} than others on the same classes" if verdict in VERDICTS else "a group"


def _caption(found: GroupResult | AcrossResult, shown: Sequence[str], there: int) -> list[str]:
    """What the bars are about, and how many groups are left out."""
    sentences = []
    populations = dict.fromkeys(row.worst.population for row in found.rows if row.worst is not None)
    if populations:
        about = " and ".join(POPULATIONS[population] for population in populations)
        rows: Sequence[GroupRow | AcrossRow] = found.rows
        drawn = [one for row in rows for one in row.groups if one.name in shown and one.accuracy is not None]
        few = "" if all(one.simultaneous for one in drawn) else "; groups of too few classes have none"
        sentences.append(f"Bars: 95% intervals on {about} that hold for all groups together{few}")
    if len(shown) < there:
        sentences.append(f"The {len(shown)} least accurate of {there:,} groups, by the first panel")
    elif len(found.rows) > 1:
        sentences.append("Groups stand in the order of the first panel")
    return sentences
