"""Sheets of collapse reports and their comparisons."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import ARROWS, about_features, features_in_line, format_number

if TYPE_CHECKING:
    from nctransfer.neural_collapse.collapse_report import CollapseReport, PairCollapse
    from nctransfer.neural_collapse.comparisons import CollapseComparison

__all__ = ["collapse_sheets", "comparison_sheets", "explanation_sheet"]

WIDEST = 5  # classes that are shown


def collapse_sheets(report: CollapseReport, every: bool = False, most_pairs: int | None = None) -> list[Sheet]:
    """The measures, the closest pairs of classes, and the widest classes."""
    from nctransfer.neural_collapse.registry import MEASURES

    names = _shown(report.metrics, every)
    rows = []
    for name in names:
        measure, ends = MEASURES[name], report.intervals.get(name)
        interval = f"{format_number(ends[0])} to {format_number(ends[1])}" if ends else ""
        meaning = measure.meaning
        if share := report.left_out.get(name):
            meaning = f"too low: {'<1%' if share < 0.005 else f'{share:.0%}'} of pairs left out"
        rows.append([name, format_number(report.metrics[name]), interval, ARROWS.get(measure.direction, ""), meaning])
    sheets = [
        Sheet(
            "Neural collapse",
            ["measure", ">value", ">95% interval", "", "meaning"],
            rows,
            about_features(report.features),
            f"↓ lower, ↑ higher is more collapsed. {_in_words(report)}"
            + _reasons({name: report.undefined[name] for name in names if name in report.undefined})
            + _cautions(names),
        )
    ]
    titles = {"Closest pairs of classes": report.pairs}
    if every:
        titles["Closest pairs along the line between them"] = report.pairs_along
    sheets += [_pairs_sheet(title, pairs[:most_pairs]) for title, pairs in titles.items() if pairs[:most_pairs]]
    if every:
        cells = [
            [one.name, f"{one.samples:,}", format_number(one.variance), f"{one.ncc_accuracy:.1%}"]
            for one in report.classes[:WIDEST]
        ]
        sheets.append(Sheet("Widest classes", ["class", ">samples", ">variance", ">nearest to own centre"], cells, {}))
    return sheets


def _pairs_sheet(title: str, pairs: Sequence[PairCollapse]) -> Sheet:
    cells = [
        [
            f"{pair.class_a} / {pair.class_b}",
            format_number(pair.cdnv),
            format_number(pair.directional_ab),
            format_number(pair.directional_ba),
        ]
        for pair in pairs
    ]
    return Sheet(title, ["a / b", ">cdnv", ">a towards b", ">b towards a"], cells, {}, PAIRS)


def _reasons(undefined: Mapping[str, str]) -> str:
    """Why measures have no value, each reason once."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in undefined.items():
        by_reason.setdefault(reason, []).append(name)
    return "".join(f" {', '.join(names)}: {reason}." for reason, names in by_reason.items())


def _cautions(names: Sequence[str]) -> str:
    """What must not be concluded from the measures of a table."""
    from nctransfer.neural_collapse.registry import MEASURES

    found = (MEASURES[name].caution for name in names)
    return "".join(f" {text[0].upper()}{text[1:]}." for text in found if text)


def _shown(metrics: Mapping[str, float | None], every: bool) -> list[str]:
    """The usual measures, or all; those of a head wherever there is one."""
    from nctransfer.neural_collapse.registry import MEASURES

    of_heads = [name for name in metrics if MEASURES[name].aspect in ("NC3", "NC4") and metrics[name] is not None]
    return [name for name in metrics if every or MEASURES[name].is_usual or name in of_heads]


def comparison_sheets(comparison: CollapseComparison, every: bool = False) -> list[Sheet]:
    """Several sets side by side: a column a set, or a row a layer."""
    from nctransfer.neural_collapse.registry import MEASURES

    reports = comparison.reports
    first = next(iter(reports.values()))
    if comparison.fit:
        names = [name for name, measure in MEASURES.items() if measure.in_layers]
        rows = [[layer, *(format_number(report.metrics[name]) for name in names)] for layer, report in reports.items()]
        about = {name: value for name, value in about_features(first.features).items() if name != "layer"}
        return [Sheet("Collapse by layer", ["layer", *(f">{name}" for name in names)], rows, about, _fit(comparison))]
    columns = {name: report.metrics for name, report in reports.items()} | comparison.ratios
    names = _shown(first.metrics, every)
    rows = [
        [
            name,
            *(format_number(metrics[name]) for metrics in columns.values()),
            ARROWS.get(MEASURES[name].direction, ""),
        ]
        for name in names
    ]
    facts = {name: features_in_line(report.features) for name, report in reports.items()}
    return [
        Sheet(
            "Neural collapse",
            ["measure", *(f">{name}" for name in columns), ""],
            rows,
            facts,
            "↓ lower, ↑ higher is more collapsed."
            + (" ncc_accuracy of source-test uses the class centres of source-train." if comparison.ratios else "")
            + _cautions(names),
        )
    ]


def _fit(comparison: CollapseComparison) -> str:
    fit = comparison.fit
    law = ""
    if "rho" in fit:
        quality = f" (R² {fit['r_squared']:.3f})" if fit["r_squared"] is not None else ""
        law = f"Separation fuzziness changes by a factor of {fit['rho']:.3f} per layer{quality}. "
    return f"{law}From {fit['saturated']} on, ncc_accuracy rises no more than by chance."


def explanation_sheet(every: bool = True) -> Sheet:
    """The definition of each measure."""
    from nctransfer.neural_collapse.registry import MEASURES

    rows = [
        [
            name,
            measure.aspect,
            measure.range,
            measure.direction or "–",
            _first_sentence(measure.function.__doc__ or "") + _cautions([name]),
        ]
        for name, measure in MEASURES.items()
        if every or measure.is_usual
    ]
    return Sheet("What the measures mean", ["measure", "aspect", "range", "collapsed", "definition"], rows, {})


def _first_sentence(text: str) -> str:
    return " ".join(re.sub(r":\w+:`~?([^`]*)`", r"\1", text.partition("\n\n")[0]).split()).replace("``", "")


PAIRS = "a towards b: the variance of a along the line to b over the squared distance."


def _in_words(report: CollapseReport) -> str:
    value = report.metrics["directional_cdnv"]
    accuracy = report.metrics["ncc_accuracy"]
    if value is None or accuracy is None:
        return ""
    if not math.isfinite(value):
        return "Two classes have the same mean, so averages over pairs are infinite."
    return (
        f"Between two classes, the spread of one towards the other is {math.sqrt(value):.0%} of their distance "
        f"(root of directional_cdnv); {accuracy:.1%} of the samples lie nearest to their own class."
    )
