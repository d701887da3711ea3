"""Sheets of few-shot accuracies, their comparisons, and the linear probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.report.query_prior_notes import about_query_priors, query_prior_facts
from nctransfer.report.sheet import Bar, Sheet
from nctransfer.report.wording import (
    BOUNDS_NOTE,
    POPULATIONS,
    about_features,
    about_populations,
    bound_percent,
    in_points,
    percent,
    with_interval,
)

if TYPE_CHECKING:
    from nctransfer.evaluation.fewshot_comparison import FewShotComparison, FewShotDifference
    from nctransfer.evaluation.fewshot_results import FewShotResult, FewShotRow
    from nctransfer.evaluation.linear_probe import ProbeResult

__all__ = ["fewshot_comparison_sheets", "fewshot_sheets", "probe_sheet", "task_facts"]


def fewshot_sheets(result: FewShotResult, confusions: int | None = 0) -> list[Sheet]:
    """One row per task and one column per classifier, or one row per classifier if there is one task; then confusions.

    Args:
        result: The accuracies.
        confusions: How many of the most confused pairs are shown; ``None`` for all.
    """
    first = result.rows[0]
    tasks = list(dict.fromkeys((row.ways, row.shots) for row in result.rows))
    if len(tasks) == 1:
        has_expected = any(row.expected_accuracy is not None for row in result.rows)
        heads = ["classifier", f">accuracy ± {first.interval}", ">std", ">lowest tenth"]
        heads += [">expected"] if has_expected else []
        rows = [
            [
                row.label,
                with_interval(row),
                percent(row.std),
                percent(row.lowest_decile),
                *([_expected(row)] if has_expected else []),
            ]
            for row in result.rows
        ]
    else:
        names = list(dict.fromkeys(row.label for row in result.rows))
        cells = {row.key: with_interval(row) for row in result.rows}
        drawn = {(row.ways, row.shots): f"{row.episodes:,}" for row in result.rows}
        differ = len(set(drawn.values())) > 1
        heads = [">ways", ">shots", *(f">{name} ± {first.interval}" for name in names), ">chance"]
        heads += [">episodes"] if differ else []
        rows = [
            [str(task[0]), str(task[1]), *(cells[*task, name] for name in names), percent(1 / task[0])]
            + ([drawn[task]] if differ else [])
            for task in tasks
        ]
    sheet = Sheet(
        "Few-shot accuracy",
        heads,
        rows,
        about_features(result.features) | task_facts(result),
        f"Accuracy in %, higher is better. {_of_interval(result)}.{about_query_priors(result.rows)}"
        + (
            f" Std and lowest tenth describe the spread over episodes.{_about_expected(result)}"
            if len(tasks) == 1
            else ""
        ),
        _curve(result),
    )
    return [sheet, *_theory_sheet(result, is_alone=len(tasks) == 1), *_confusion_sheets(result, confusions)]


EXPECTED = "Expected is the mean accuracy of ncc over all episodes, computed without drawing any, to about 0.1 points"


EXPECTED_ERROR = "Expected is the mean error over all episodes, computed without drawing any, to about 0.1 points"


def _about_expected(result: FewShotResult) -> str:
    """What the expected accuracy is, or why there is none."""
    reasons = {row.undefined["expected_accuracy"] for row in result.rows if "expected_accuracy" in row.undefined}
    if not reasons and all(row.expected_accuracy is None for row in result.rows):
        return ""
    return f" {EXPECTED}" + "".join(f"; none here: {reason}" for reason in sorted(reasons)) + "."


def _expected(row: FewShotRow) -> str:
    return "–" if row.expected_accuracy is None else percent(row.expected_accuracy)


LEFT_OUT = (
    "galanti2022_sharp",
    "luthra2026_capped",
)  # variants of other bounds: JSON, CSV and nctransfer bounds have them


def _theory_sheet(result: FewShotResult, is_alone: bool) -> list[Sheet]:
    """The bounds for nearest class centres, beside the measured error."""
    rows = [row for row in result.rows if row.bounds is not None]
    if not rows or all(one["value"] is None for row in rows for one in (row.bounds or {}).values()):
        return []
    names = [name for name in rows[0].bounds or {} if name not in LEFT_OUT]
    shows_expected = not is_alone and any(row.expected_accuracy is not None for row in rows)
    cells = [
        [
            str(row.ways),
            str(row.shots),
            percent(1 - row.accuracy),
            *(["–" if row.expected_accuracy is None else percent(1 - row.expected_accuracy)] * shows_expected),
            *(bound_percent((row.bounds or {})[name]) for name in names),
        ]
        for row in rows
    ]
    expected = [">expected"] * shows_expected
    return [
        Sheet(
            "Error of ncc and its bounds",
            [">ways", ">shots", ">measured", *expected, *(f">{name}" for name in names)],
            cells,
            {"images per class": f"{(result.features.samples or 0) / len(result.classes):,.4g} on average"},
            "In %."
            + (f" {EXPECTED_ERROR}." if shows_expected else "")
            + f" {BOUNDS_NOTE}"
            + "".join(f" No {name}: {reason}." for name, reason in _absent(rows, names)),
        )
    ]


def _absent(rows: Sequence[FewShotRow], names: Sequence[str]) -> list[tuple[str, str]]:
    """Names of bounds that are absent, and why, once per reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        for name in names:
            if name in row.undefined and name not in reasons.setdefault(row.undefined[name], []):
                reasons[row.undefined[name]].append(name)
    return [(", ".join(found), reason) for reason, found in reasons.items()]


def task_facts(result: FewShotResult) -> dict[str, str]:
    """The task, as lines above a table."""
    first = result.rows[0]
    counts = sorted({row.episodes for row in result.rows})
    drawn = " to ".join(dict.fromkeys(f"{count:,}" for count in (counts[0], counts[-1])))
    tasks = list(dict.fromkeys((row.ways, row.shots) for row in result.rows))
    facts = {
        "task": (f"{tasks[0][0]}-way {tasks[0][1]}-shot, chance {100 / tasks[0][0]:.2f} %, " if len(tasks) == 1 else "")
        + f"{drawn} episodes, {_queries(first)} per class, seed {first.seed}",
        **query_prior_facts(result),
    }
    if result.task.interval != "disjoint" and any(row.episodes < result.task.episodes for row in result.rows):
        facts["stopped"] = (
            f"early, where more episodes would change little (--precision {result.task.precision:g}); at most "
            f"{result.task.episodes:,}"
        )
    if other := result.query_set:
        split = f", split {other.split}" if other.split else ""
        facts["queries"] = f"{other.id}{split} ({other.samples:,} samples)"
    changes = [
        f"less the mean of {result.center_on}" if result.center_on else "",
        "scaled to unit length" if result.task.l2_normalise else "",
    ]
    if any(changes):
        facts["features are"] = ", ".join(filter(None, changes))
    if result.dropped:
        facts["left out"] = f"{counted(len(result.dropped), 'class', 'classes')} of too few samples"
    return facts


def _queries(row: FewShotRow) -> str:
    return "all queries" if row.queries == "all" else counted(row.queries, "query", "queries")


def _of_interval(result: FewShotResult) -> str:
    """What the ± refers to, and why it is missing where it is."""
    from nctransfer.intervals import INTERVALS

    reasons = dict.fromkeys(row.undefined["ci95"] for row in result.rows if "ci95" in row.undefined)
    meaning = f"± is the half-width of the 95% interval {INTERVALS[result.rows[0].interval]}"
    return ". ".join([meaning, *(f"No ±: {reason}" for reason in reasons)])


def _curve(result: FewShotResult) -> tuple[Bar, ...]:
    """Accuracy over shots, where there are several."""
    if len({row.shots for row in result.rows}) == 1:
        return ()
    by_curve = sorted(result.rows, key=lambda row: (row.ways, row.label))
    return tuple(Bar(f"{row.ways}-way {row.label}", f"{counted(row.shots, 'shot')}", row.accuracy) for row in by_curve)


def _confusion_sheets(result: FewShotResult, most: int | None) -> list[Sheet]:
    """The most confused pairs and the hardest classes of the first number of ways, most shots and first classifier."""
    if most == 0:
        return []
    row = max((row for row in result.rows if row.ways == result.rows[0].ways), key=lambda row: row.shots)
    asked = [one for one in result.class_accuracies(row.key) if one.accuracy is not None]
    hardest = sorted(asked, key=lambda one: one.accuracy or 0)[:most]
    title = f"{row.ways}-way {row.shots}-shot, {row.label}"
    return [
        Sheet(
            f"Most confused pairs: {title}",
            ["class", "taken for", ">%"],
            [[one.name, one.taken_for, percent(one.rate)] for one in result.confusions(row.key, most)],
            {},
            "Share of the queries of the first class, in episodes with both classes. --format json shows all tasks.",
        ),
        Sheet(
            f"Hardest classes: {title}",
            ["class", ">accuracy", ">queries"],
            [[one.name, percent(one.accuracy or 0), f"{one.queries:,}"] for one in hardest],
            {},
        ),
    ]


def fewshot_comparison_sheets(found: FewShotComparison, confusions: int | None = 0) -> list[Sheet]:
    """One column per set; the paired differences to the first and what they show; and what was confused in each."""
    results = list(found.results.values())
    rows = [
        [str(row.ways), str(row.shots), row.label, *(with_interval(one.rows[number]) for one in results)]
        for number, row in enumerate(results[0].rows)
    ]
    samples = {
        str(number + 1): "  ".join([one.features.id, about_features(one.features)["data"]])
        for number, one in enumerate(results)
    }
    return [
        Sheet(
            "Few-shot accuracy",
            [">ways", ">shots", "classifier", *(f">{name}" for name in found.results)],
            rows,
            samples | task_facts(results[0]),
            f"Accuracy in %, higher is better. {_of_interval(results[0])}.{about_query_priors(results[0].rows)}",
        ),
        _differences_sheet(found),
        *_bests_sheet(found),
        *(
            replace(sheet, title=f"{name}. {sheet.title}")
            for name, result in found.results.items()
            for sheet in _confusion_sheets(result, confusions)
        ),
    ]


MOST_SENTENCES = 2  # differences that are also said in words


def _differences_sheet(found: FewShotComparison) -> Sheet:
    """The differences to the first set, and their verdicts on other images or classes."""
    cells = [
        [
            *map(str, one.key),
            one.name,
            f"{one.difference * 100:+.2f}",
            in_points(one.interval),
            one.verdict or "–",
            one.population,
        ]
        for one in found.differences
    ]
    words = (
        [_sentence(one, len(cells)) for one in found.differences]
        if len(cells) <= MOST_SENTENCES
        else [about_populations(one.population for one in found.differences)]
    )
    words.append("All sets meet the same episodes.")
    if len(found.results) > 2:
        words.append("In 95% of studies all differences of a task are inside their intervals.")
    result = next(iter(found.results.values()))
    if result.task.interval == "episodes" and any(_is_fallback(result, one) for one in found.differences):
        words.append(
            f"{len(result.classes)} classes are too few for a verdict on other classes, which needs two more than ways."
        )
    reasons = dict.fromkeys(one.reason for one in found.differences if one.reason)
    words += [f"No verdict: {reason}." for reason in reasons]
    return Sheet(
        f"Difference to {next(iter(found.results))}",
        [">ways", ">shots", "classifier", "set", ">points", ">95% interval", "verdict", "on"],
        cells,
        {},
        " ".join(filter(None, words)),
    )


def _is_fallback(result: FewShotResult, one: FewShotDifference) -> bool:
    """Whether episodes draw some of the classes only, and there are too few for a verdict on other classes."""
    return one.population == "samples" and one.ways < len(result.classes)


def _sentence(one: FewShotDifference, several: int) -> str:
    """What a difference shows, in words."""
    if one.interval is None:
        return ""
    task = f", {one.ways}-way {one.shots}-shot {one.key[2]}" if several > 1 else ""
    where = f"On {POPULATIONS[one.population]}{task}, {one.name} "
    if one.verdict == "not told apart":
        if one.interval == (0.0, 0.0):
            return f"On the same episodes{task}, {one.name} and {one.first} are equally accurate in every one."
        low, high = (f"{end * 100:+.2f}" for end in one.interval)
        return f"{where}and {one.first} are not told apart: the difference is between {low} and {high} points."
    ends = sorted(abs(end) * 100 for end in one.interval)
    return f"{where}is {one.verdict} than {one.first} by {ends[0]:.2f} to {ends[1]:.2f} points."


def _bests_sheet(found: FewShotComparison) -> list[Sheet]:
    """Which of three or more sets may be the best."""
    if len(found.results) < 3:
        return []
    cells = [
        [
            *map(str, one.key),
            one.population,
            ", ".join(one.names) if one.names else "–",
        ]
        for one in found.possible_bests
    ]
    reasons = [one.reason for one in found.possible_bests if one.reason]
    return [
        Sheet(
            "Possible bests",
            [">ways", ">shots", "classifier", "on", "sets"],
            cells,
            {},
            about_populations(one.population for one in found.possible_bests)
            + " The best set is among them in at least 95% of studies, the most accurate here first."
            + "".join(f" No verdict: {reason}." for reason in dict.fromkeys(reasons)),
        )
    ]


def probe_sheet(result: ProbeResult) -> Sheet:
    """The linear probe, as facts."""
    low, high = result.ci95
    facts = {
        f"train {name}" if name in ("id", "model") else name: value
        for name, value in about_features(result.train).items()
    }
    if result.test is not None:
        facts["test"] = f"{result.test.id} ({result.test.samples:,} samples)"
    facts |= {
        "accuracy": f"{percent(result.accuracy)}  [{percent(low)}, {percent(high)}]",
        "balanced": percent(result.balanced_accuracy),
    }
    if result.test is not None:
        facts["leave-one-out"] = f"{percent(result.loo_accuracy)} (of the training samples)"
    facts["ridge λ"] = f"{result.ridge_lambda:.4g}" + (", at the end of what it is chosen from" * result.is_at_end)
    how = "on the test set" if result.test is not None else "each sample left out in turn"
    return Sheet(
        "Linear probe on all labels",
        [],
        [],
        facts,
        f"Ridge regression, accuracy in % {how}; The 95% interval covers the draw of these samples.",
    )
