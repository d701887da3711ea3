"""Sheets of accuracies by group, and on new groups."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.report.group_tables import BESIDE, classifiers_sheet, groups_sheet, has_verdict, overall, reasons
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import about_features, in_points, percent

if TYPE_CHECKING:
    from nctransfer.evaluation.group_results import (
        AcrossResult,
        AcrossRow,
        GroupResult,
        GroupRow,
        Shift,
    )

__all__ = ["across_sheets", "group_sheets"]

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
        about = facts | {"task": _task(some[0]) + f", {_queries(some[0].queries)} per class, seed {some[0].seed}"}
        is_wide = len(some) <= BESIDE
        if is_wide:
            about |= {f"all, {row.classifier}": f"{overall(row)} (episodes)" for row in some}
        title = f"Accuracy by {result.column}: {ways}-way {shots}-shot"
        sheets.append(groups_sheet(title, result.column, some, about, on_worst=is_wide))
        if not is_wide:
            title = "All" + f", and the worst {result.column}" * has_verdict(some) + f": {ways}-way {shots}-shot"
            sheets.append(classifiers_sheet(title, some, with_all=True))
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
        found, task = list(some), f"support from other groups: {ways}-way {shots}-shot"
        below = len(found) > BESIDE and has_verdict(found)
        sheets.append(groups_sheet(f"Queries by {result.column}, {task}", result.column, found, {}, on_worst=not below))
        if below:
            sheets.append(classifiers_sheet(f"The worst {result.column}, {task}", found))
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
        words += [f"{reason[0].upper()}{reason[1:]}." for reason in reasons(result.rows, name)]
    return " ".join(words)
