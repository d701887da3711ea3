"""Sheets of accuracies by group, and on new groups."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import POPULATIONS, about_features, in_points, percent

if TYPE_CHECKING:
    from nctransfer.evaluation.group_results import (
        AcrossResult,
        AcrossRow,
        GroupAccuracy,
        GroupResult,
        GroupRow,
        Shift,
        WorstGroup,
    )

__all__ = ["across_sheets", "group_sheets"]

MOST = 30  # groups in a table
SUPPORTS = {"across": "other groups", "mixed": "all groups", "same": "the same group"}


def group_sheets(result: GroupResult) -> list[Sheet]:
    """One table for each number of ways and shots, with the worst group first; and what it shows in words."""
    facts = about_features(result.features)
    if result.query_set is not None:
        facts["queries"] = f"{result.query_set.id} ({result.query_set.samples:,} samples)"
    facts |= _left_out(result)
    sheets = []
    for (ways, shots), rows in itertools.groupby(result.rows, key=lambda row: (row.ways, row.shots)):
        some = list(rows)
        drawn = {"task": _task(some[0]) + f", {_queries(some[0].queries)} per class, seed {some[0].seed}"}
        all_groups = {
            f"all, {row.classifier}": f"{percent(row.accuracy)} ± {percent(row.ci95)} (episodes)" for row in some
        }
        sheets.append(
            Sheet(
                f"Accuracy by {result.column}: {ways}-way {shots}-shot",
                _heads(result.column, some),
                _group_rows(some),
                facts | drawn | all_groups,
                _reading(some),
            )
        )
    return sheets


def _task(row: GroupRow | AcrossRow) -> str:
    return f"{row.ways}-way {row.shots}-shot, chance {100 / row.ways:.2f} %, {row.episodes:,} episodes"


def _queries(queries: int | str) -> str:
    return "all queries" if isinstance(queries, str) else counted(queries, "query", "queries")


def _left_out(result: GroupResult | AcrossResult) -> dict[str, str]:
    facts = {"without group": f"{100 * result.without_group:.1f} % of the images"} if result.without_group else {}
    if result.dropped:
        facts["left out"] = f"{counted(len(result.dropped), 'class', 'classes')} of too few samples"
    return facts


def _heads(column: str, rows: Sequence[GroupRow | AcrossRow]) -> list[str]:
    own = [(f">{row.classifier} ± {row.interval}", ">to others") for row in rows]
    return [column, ">images", ">classes", *itertools.chain.from_iterable(own)]


def _group_rows(rows: Sequence[GroupRow | AcrossRow]) -> list[list[str]]:
    """One line for each group, the least accurate by the first classifier first."""
    by_accuracy = sorted(zip(*(row.groups for row in rows), strict=True), key=_order)
    return [
        [several[0].name, f"{several[0].images:,}", f"{several[0].classes:,}"]
        + [cell for one in several for cell in (_accuracy(one), _to_others(one))]
        for several in by_accuracy[:MOST]
    ]


def _order(several: Sequence[GroupAccuracy]) -> tuple[bool, float]:
    accuracy = several[0].accuracy
    return (accuracy is None, accuracy or 0.0)


def _accuracy(one: GroupAccuracy) -> str:
    if one.accuracy is None:
        return "–"
    return percent(one.accuracy) + ("" if one.ci95 is None else f" ± {percent(one.ci95)}")


def _to_others(one: GroupAccuracy) -> str:
    if one.difference is None:
        return "–"
    mark = "*" if one.verdict in ("better", "worse") else ""
    return f"{one.difference * 100:+.2f}{mark}"


def _reading(rows: Sequence[GroupRow | AcrossRow]) -> str:
    """What the table shows, in words."""
    words = ["Accuracy in %. To others: points above other groups on the same classes; * marks what is told from 0."]
    for row in rows:
        if row.worst is not None:
            words.append(_of_worst(row.classifier, row.worst))
    if any(row.worst is not None for row in rows):
        words.append("These intervals account for the worst having been picked.")
    reasons = dict.fromkeys(row.undefined["worst"] for row in rows if "worst" in row.undefined)
    words += [f"No verdict on the worst group: {reason}." for reason in reasons]
    words += [f"{reason[0].upper()}{reason[1:]}." for reason in _reasons(rows, "groups")]
    words += [f"No ±: {reason}." for reason in dict.fromkeys(row.undefined.get("ci95") for row in rows) if reason]
    if any(_has_equal_episodes(row) for row in rows):
        words.append("No ± stands where a group has the same accuracy in each episode that asks it.")
    if (count := len(rows[0].groups)) > MOST:
        words.append(f"The {MOST} least accurate of {count:,} groups are shown; --format json has all.")
    return " ".join(words)


def _has_equal_episodes(row: GroupRow | AcrossRow) -> bool:
    """Whether some of the groups that were asked have no interval over episodes."""
    return row.interval == "episodes" and any(one.accuracy is not None and one.ci95 is None for one in row.groups)


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


def across_sheets(result: AcrossResult) -> list[Sheet]:
    """The accuracy on new groups beside that on known ones; then the queries of each group."""
    rows = [line for row in result.rows for line in _across_rows(row)]
    tasks = sorted({(row.ways, row.shots, row.episodes) for row in result.rows})
    facts = about_features(result.features) | _left_out(result)
    facts["episodes"] = ", ".join(f"{ways}-way {shots}-shot: {episodes:,}" for ways, shots, episodes in tasks)
    for ways, names in result.query_groups.items():
        label = "queries from" if len(result.query_groups) == 1 else f"queries from, {ways}-way"
        facts[label] = f"one of {counted(len(names), 'group')} per episode ({join_names(names)})"
    interval, start = result.rows[0].interval, (">ways", ">shots", "classifier", "support from")
    sheets = [
        Sheet(
            f"Accuracy on a new {result.column}",
            [*start, f">accuracy ± {interval}", ">shift", ">on other groups", ">on other classes"],
            rows,
            facts,
            _about_across(result),
        )
    ]
    for (ways, shots), some in itertools.groupby(result.rows, key=lambda row: (row.ways, row.shots)):
        found = list(some)
        title = f"Queries by {result.column}, support from other groups: {ways}-way {shots}-shot"
        sheets.append(Sheet(title, _heads(result.column, found), _group_rows(found), {}, _reading(found)))
    return sheets


def _across_rows(row: AcrossRow) -> list[list[str]]:
    start = [str(row.ways), str(row.shots), row.classifier]
    own = percent(row.accuracy) + ("" if row.ci95 is None else f" ± {percent(row.ci95)}")
    if row.over_groups is not None:
        own += f" [{percent(row.over_groups[0])}, {percent(row.over_groups[1])}]"
    lines = [[*start, SUPPORTS["across"], own, "–", "–", "–"]]
    lines += [
        [*start, SUPPORTS[name], percent(accuracy), *_shift_cells(row.shifts[name])]
        for name, accuracy in row.references.items()
    ]
    return lines


def _shift_cells(shift: Shift) -> list[str]:
    on_groups = shift.interval if shift.population == "groups" else None
    return [f"{shift.value * 100:+.2f}", in_points(on_groups), in_points(shift.over_classes)]


def _about_across(result: AcrossResult) -> str:
    words = ["Accuracy in %, higher is better. All queries of an episode are of one group."]
    if any(row.shifts for row in result.rows):
        words.append("Shift: the accuracy with a support from other groups less this one, in points, on these queries;")
        words.append("its 95% intervals are on other groups of this kind, and on other classes with these groups.")
    if any(row.over_groups is not None for row in result.rows):
        words.append("In brackets: the 95% interval of the accuracy on other groups of this kind (jackknife).")
    for name in ("over_groups", "references"):
        words += [f"{reason[0].upper()}{reason[1:]}." for reason in _reasons(result.rows, name)]
    return " ".join(words)


def _reasons(rows: Sequence[GroupRow | AcrossRow], name: str) -> list[str]:
    return list(dict.fromkeys(row.undefined[name] for row in rows if name in row.undefined))
