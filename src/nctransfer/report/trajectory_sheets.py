"""Sheets of a trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from nctransfer.report.fewshot_sheets import task_facts
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import about_features, about_populations, format_number, percent

if TYPE_CHECKING:
    from nctransfer.checkpoints.trajectory_result import Trajectory
    from nctransfer.neural_collapse.measure import Measure

__all__ = ["trajectory_sheets"]

MOST_NAMED = 5  # checkpoints that are named; JSON has all
MOST_BESIDE = 4  # tasks whose accuracies fit beside the measures


def trajectory_sheets(found: Trajectory) -> list[Sheet]:
    """One row a checkpoint: collapse and accuracy of the target, and collapse of every sample; and the best."""
    names = _short_names([point.checkpoint for point in found.points])
    first = found.points[0]
    tasks = first.fewshot.rows
    shown = _shown()
    measured = [
        [format_number(point.reports["target"].metrics[measure.name]) for measure in shown] for point in found.points
    ]
    accuracies = [[percent(row.accuracy) for row in point.fewshot.rows] for point in found.points]
    several = len({row.ways for row in tasks}) > 1
    heads = [f">{row.label} {f'{row.ways}w' if several else ''}{row.shots}" for row in tasks]
    widths = [row.ci95 for point in found.points for row in point.fewshot.rows if row.ci95 is not None]
    lower = "CDNV: lower is more collapsed."
    about = (
        f"{'Accuracy' if several else f'{tasks[0].ways}-way accuracy'} in % by classifier and "
        f"{'ways w ' if several else ''}shots"
        + (f", at most ± {max(widths) * 100:.2f} (95%, {tasks[0].interval})." if widths else ".")
    )
    facts, columns = _trajectory_facts(found), [f">{measure.column}" for measure in shown]
    if len(tasks) <= MOST_BESIDE:
        rows = [[name, *one, *other] for name, one, other in zip(names, measured, accuracies, strict=True)]
        sheets = [Sheet("Trajectory", ["checkpoint", *columns, *heads], rows, facts, f"{lower} {about}")]
    else:
        sheets = [
            Sheet("Trajectory: collapse", ["checkpoint", *columns], _named_rows(names, measured), facts, lower),
            Sheet("Trajectory: few-shot accuracy", ["checkpoint", *heads], _named_rows(names, accuracies), {}, about),
        ]
    if len(first.reports) > 1:
        for measure in shown:
            name, title = measure.name, measure.label[0].upper() + measure.label[1:]
            values = [[format_number(one.metrics[name]) for one in point.reports.values()] for point in found.points]
            heads = [f">{sample}" for sample in first.reports]
            sheets.append(Sheet(f"{title} by sample", ["checkpoint", *heads], _named_rows(names, values), {}))
    if found.failed:
        sheets.append(Sheet("Left out", ["checkpoint", "reason"], [list(one) for one in found.failed.items()], {}))
    if len(found.distinct) > 1:
        sheets.append(_best_sheet(found, dict(zip((point.checkpoint for point in found.points), names, strict=True))))
    return sheets


def _shown() -> list[Measure]:
    """The measures that a trajectory shows."""
    from nctransfer.neural_collapse.registry import MEASURES

    return [measure for measure in MEASURES.values() if measure.in_trajectories]


def _named_rows(names: Sequence[str], cells: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[name, *row] for name, row in zip(names, cells, strict=True)]


def _trajectory_facts(found: Trajectory) -> dict[str, str]:
    first = found.points[0]
    several = len(first.reports) > 1
    size = "×".join(map(str, found.transform.get("input_size", ())[1:]))
    same = [f"{point.checkpoint} = {point.same_as}" for point in found.points if point.same_as]
    facts = {
        "model": found.model,
        "images": f"resized to {size} pixels; --img-size sets another size" if size else "",
        **{
            sample if several else "data": about_features(report.features)["data"]
            for sample, report in first.reports.items()
        },
        **task_facts(first.fewshot),
        "same weights": ", ".join(same),
    }
    return {name: value for name, value in facts.items() if value}


def _best_sheet(found: Trajectory, names: Mapping[str, str]) -> Sheet:
    """Which checkpoint to take, and whether the last is worse."""
    last = names[found.distinct[-1].checkpoint]
    best = found.best()
    rows = [
        [
            "{}-way {}-shot {}".format(*one.key),
            names[one.checkpoint],
            percent(one.accuracy),
            _first_names(one.possible_bests, names),
            f"{one.difference * 100:+.2f}",
            one.verdict or "–",
            one.population,
        ]
        for one in best
    ]
    words = about_populations(one.population for one in best)
    words += (
        " All checkpoints meet the same episodes. The best is among the possible bests in at least 95% of studies. "
        f"Points and verdict compare {last}, the last checkpoint, with the best of the others."
    )
    words += "".join(f" No verdict: {reason}." for reason in dict.fromkeys(one.reason for one in best if one.reason))
    if len(found.distinct) > 3:
        correlations = found.rank_correlations()
        ranks = {measure.name: correlations[measure.name] for measure in _shown() if measure.is_correlated}
        told = ", ".join(f"{name} {value:+.2f}" for name, value in ranks.items() if value is not None)
        words += f" Rank correlation of {rows[0][0]} over {len(found.distinct)} checkpoints: {told}." if told else ""
    heads = ["task", "best", ">%", "possible bests", ">points", "verdict", "on"]
    return Sheet("Best checkpoint", heads, rows, {}, words)


def _first_names(possible: Sequence[str] | None, names: Mapping[str, str]) -> str:
    if possible is None:
        return "–"
    return ", ".join(names[one] for one in possible[:MOST_NAMED]) + ", …" * (len(possible) > MOST_NAMED)


def _short_names(names: Sequence[str]) -> list[str]:
    """Names of files without their suffixes, where that leaves them different."""
    short = [name.removesuffix(PurePath(name).suffix) for name in names]
    return short if len(set(short)) == len(names) else list(names)
