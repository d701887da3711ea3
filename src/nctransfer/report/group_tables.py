"""Tables of accuracies by group: a line for each group, and the worst group of each classifier.

One or two classifiers stand beside each other. More of them have a line each, since the table would be too wide.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names, short_text
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import POPULATIONS, percent

if TYPE_CHECKING:
    from nctransfer.evaluation.group_results import AcrossRow, GroupAccuracy, GroupRow, WorstGroup

__all__ = ["BESIDE", "classifiers_sheet", "groups_sheet", "has_verdict", "overall", "reasons"]

BESIDE = 2  # classifiers beside each other
MOST = 30  # groups in a table
MOST_LINES = 90  # of a table with a line for each group and classifier
LONG = 24  # characters of a name


def groups_sheet(
    title: str, column: str, rows: Sequence[GroupRow | AcrossRow], facts: Mapping[str, str], *, on_worst: bool
) -> Sheet:
    """The accuracy of each group, the least accurate by the first classifier first.

    Args:
        title: The title.
        column: What names the groups.
        rows: A row for each classifier, with the same groups.
        facts: What stands above the table.
        on_worst: Whether the worst group of each classifier, or why it is not known, is said below the table.
    """
    is_wide = len(rows) <= BESIDE
    several = sorted(zip(*(row.groups for row in rows), strict=True), key=_order)
    shown = several[: MOST if is_wide else max(MOST_LINES // len(rows), 1)]
    names, own = _short_names(rows), [">images", ">classes"]
    if is_wide:
        beside = itertools.chain.from_iterable((f">{row.classifier} ± {row.interval}", ">to others") for row in rows)
        heads = [column, *own, *beside]
        lines = [[*_about(some[0], names), *(cell for one in some for cell in _cells(one))] for some in shown]
    else:
        heads = [column, *own, "classifier", f">accuracy ± {rows[0].interval}", ">to others"]
        lines = [line for some in shown for line in _below(some, rows, names)]
    words = [_HOW_TO_READ, *(_on_worst(rows) if on_worst else []), *_on_gaps(rows)]
    if len(shown) < len(several):
        words.append(f"The {len(shown)} least accurate of {len(several):,} groups are shown; --format json has all.")
    if any(names[one.name] != one.name for one, *_ in shown):
        words.append("Long names are shortened; --format json has them whole.")
    return Sheet(title, heads, lines, facts, " ".join(words))


_HOW_TO_READ = "Accuracy in %. To others: points above other groups on the same classes; * marks what is told from 0."


def classifiers_sheet(title: str, rows: Sequence[GroupRow | AcrossRow], with_all: bool = False) -> Sheet:
    """A line for each classifier: which group may be the worst, its accuracy, and the gap to the best, if known.

    Args:
        title: The title.
        rows: A row for each classifier.
        with_all: Whether the accuracy over all groups stands there too.
    """
    whole = [">all ± episodes"] * with_all
    names, is_known = _short_names(rows), has_verdict(rows)
    lines = [
        [row.classifier, *[overall(row)] * with_all, *(_worst_cells(row.worst, names) if is_known else [])]
        for row in rows
    ]
    words = ["Accuracy in %" + ", the gap between the best and the worst group in points" * is_known + "."]
    if about := dict.fromkeys(POPULATIONS[row.worst.population] for row in rows if row.worst is not None):
        words.append(
            f"Worst group and gap: 95% intervals on {' and '.join(about)}, which account for the worst having been "
            "picked."
        )
    heads = ["classifier", *whole, *([">worst group", ">gap", "may be the worst"] if is_known else [])]
    return Sheet(title, heads, lines, {}, " ".join([*words, *_no_verdict(rows)]))


def has_verdict(rows: Sequence[GroupRow | AcrossRow]) -> bool:
    """Whether the worst group is known for any classifier."""
    return any(row.worst is not None for row in rows)


def overall(row: GroupRow | AcrossRow) -> str:
    """The accuracy over all groups, with its interval if there is one."""
    return percent(row.accuracy) + ("" if row.ci95 is None else f" ± {percent(row.ci95)}")


def reasons(rows: Sequence[GroupRow | AcrossRow], name: str) -> list[str]:
    """Why a value is missing, each reason once."""
    return list(dict.fromkeys(row.undefined[name] for row in rows if name in row.undefined))


def _order(several: Sequence[GroupAccuracy]) -> tuple[bool, float]:
    accuracy = several[0].accuracy
    return (accuracy is None, accuracy or 0.0)


def _short_names(rows: Sequence[GroupRow | AcrossRow]) -> dict[str, str]:
    """Each group's name without the middle of long ones, which are left whole where two would look the same."""
    short = {one.name: short_text(one.name, LONG) for one in rows[0].groups}
    times = Counter(short.values())
    return {name: shown if times[shown] == 1 else name for name, shown in short.items()}


def _about(group: GroupAccuracy, names: Mapping[str, str]) -> list[str]:
    return [names[group.name], f"{group.images:,}", f"{group.classes:,}"]


def _cells(one: GroupAccuracy) -> list[str]:
    return [_accuracy(one), _to_others(one)]


def _below(
    several: Sequence[GroupAccuracy], rows: Sequence[GroupRow | AcrossRow], names: Mapping[str, str]
) -> list[list[str]]:
    """A line for each classifier; the first one names the group."""
    starts = [_about(several[0], names), *([[""] * 3] * (len(rows) - 1))]
    return [[*start, row.classifier, *_cells(one)] for start, row, one in zip(starts, rows, several, strict=True)]


def _accuracy(one: GroupAccuracy) -> str:
    if one.accuracy is None:
        return "–"
    return percent(one.accuracy) + ("" if one.ci95 is None else f" ± {percent(one.ci95)}")


def _to_others(one: GroupAccuracy) -> str:
    if one.difference is None:
        return "–"
    mark = "*" if one.verdict in ("better", "worse") else ""
    return f"{one.difference * 100:+.2f}{mark}"


def _worst_cells(worst: WorstGroup | None, names: Mapping[str, str]) -> list[str]:
    if worst is None:
        return ["–"] * 3
    low, high = (percent(end) for end in worst.interval)
    gap = ", ".join(percent(end) for end in worst.gap_interval)
    first, *others = worst.possible
    possible = names[first] + (f" or {counted(len(others), 'other')}" if others else "")
    return [f"{low} to {high}", f"{percent(worst.gap)} [{gap}]", possible]


def _on_worst(rows: Sequence[GroupRow | AcrossRow]) -> Iterator[str]:
    """The worst group by each classifier, in words."""
    for row in rows:
        if row.worst is not None:
            yield _of_worst(row.classifier, row.worst)
    if any(row.worst is not None for row in rows):
        yield "These intervals account for the worst having been picked."
    if any(row.worst is not None and len(row.worst.possible) > 1 and _has_stars(row) for row in rows):
        yield "A star is about the same classes, so it can stand at a group that is not known to be the worst."
    yield from _no_verdict(rows)


def _has_stars(row: GroupRow | AcrossRow) -> bool:
    """Whether a group is told from the others on the same classes."""
    return any(one.verdict in ("better", "worse") for one in row.groups)


def _no_verdict(rows: Sequence[GroupRow | AcrossRow]) -> list[str]:
    return [f"No verdict on the worst group: {reason}." for reason in reasons(rows, "worst")]


def _of_worst(classifier: str, worst: WorstGroup) -> str:
    low, high = (percent(end) for end in worst.interval)
    words = f"{classifier}, on {POPULATIONS[worst.population]}: the worst group is right in {low} to {high} %; it is "
    words += (
        worst.possible[0]
        if len(worst.possible) == 1
        else f"one of {len(worst.possible)} ({join_names(worst.possible)})"
    )
    gap = [f"{end * 100:.2f}" for end in worst.gap_interval]
    return f"{words}. The gap between best and worst is {worst.gap * 100:.2f} points [{gap[0]}, {gap[1]}]."


def _on_gaps(rows: Sequence[GroupRow | AcrossRow]) -> Iterator[str]:
    """Why some numbers are missing."""
    for reason in reasons(rows, "groups"):
        yield f"{reason[0].upper()}{reason[1:]}."
    for reason in reasons(rows, "ci95"):
        yield f"No ±: {reason}."
    if any(_has_equal_episodes(row) for row in rows):
        yield "No ± stands where a group has the same accuracy in each episode that asks it."


def _has_equal_episodes(row: GroupRow | AcrossRow) -> bool:
    """Whether some of the groups that were asked have no interval over episodes."""
    return row.interval == "episodes" and any(one.accuracy is not None and one.ci95 is None for one in row.groups)
