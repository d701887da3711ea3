"""Results as tables, for a terminal and for Markdown, and as JSON.

A :class:`Sheet` is what a reader sees of a result: words and rounded numbers. JSON and CSV are made from the result
itself, in full precision.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table
from rich.text import Text

from nctransfer.errors import counted

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from nctransfer.backbones.listing import ModelInfo
    from nctransfer.backbones.numerics import NumericsReport
    from nctransfer.checkpoints.trajectory_result import Trajectory
    from nctransfer.evaluation.expected_accuracy import ExpectedAccuracies, ExpectedAccuracy
    from nctransfer.evaluation.fewshot_comparison import FewShotComparison
    from nctransfer.evaluation.fewshot_results import FewShotResult, FewShotRow
    from nctransfer.evaluation.linear_probe import ProbeResult
    from nctransfer.evaluation.pair_explanation import PairExplanation
    from nctransfer.neural_collapse.bounds import BoundTable
    from nctransfer.neural_collapse.collapse_report import CollapseReport, PairCollapse
    from nctransfer.neural_collapse.comparisons import CollapseComparison
    from nctransfer.sources.data_report import Copy, DataReport
    from nctransfer.sources.leakage import Overlap
    from nctransfer.store.resuming import ExtractionReport
    from nctransfer.store.stored_set import StoredSet

__all__ = [
    "Bar",
    "Sheet",
    "bounds_sheet",
    "collapse_sheets",
    "comparison_sheets",
    "data_sheets",
    "expected_sheet",
    "explanation_sheet",
    "extraction_sheet",
    "fewshot_comparison_sheets",
    "fewshot_sheets",
    "models_sheet",
    "numerics_sheet",
    "pair_sheet",
    "plain",
    "probe_sheet",
    "set_sheet",
    "sets_sheet",
    "to_frame",
    "to_json",
    "to_latex",
    "to_markdown",
    "to_rich",
    "trajectory_sheets",
    "verify_sheet",
]


class Bar(NamedTuple):
    """A share from 0 to 1 to be drawn."""

    group: str
    label: str
    share: float


@dataclass(frozen=True)
class Sheet:
    """A table to read.

    Attributes:
        title: What it shows.
        facts: Lines below the title: name and value.
        columns: Heads; one that begins with ``>`` is of numbers, aligned right and never cut.
        rows: Cells.
        reading: How to read it, in plain words.
        bars: What a terminal draws below.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    facts: Mapping[str, str]
    reading: str = ""
    bars: Sequence[Bar] = ()

    @property
    def heads(self) -> list[str]:
        """The columns without the mark for numbers."""
        return [column.removeprefix(">") for column in self.columns]


def plain(text: object) -> str:
    """Text that a terminal shows as it is: control characters, newlines too, become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))


def to_rich(sheet: Sheet) -> list[RenderableType]:
    """What Rich prints for a sheet. No cell is read as markup."""
    parts: list[RenderableType] = [Text(plain(sheet.title), style="bold")]
    if sheet.facts:
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column(overflow="fold")
        for name, value in sheet.facts.items():
            facts.add_row(Text(name), Text(plain(value)))
        parts.append(facts)
    if sheet.rows:
        parts += [Text(), _Fitting(sheet)]
    if sheet.bars:
        parts.append(_Bars(sheet.bars))
    if sheet.reading:
        parts += [Text(), Text(plain(sheet.reading), style="italic")]
    return parts


class _Bars:
    """Bars from 0 to 100 %, on a terminal that can show them."""

    def __init__(self, bars: Sequence[Bar]) -> None:
        self._bars = bars

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.bar import Bar as Drawn

        if not options.is_terminal or options.ascii_only:
            return
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", style="dim", no_wrap=True)
        grid.add_column()
        last = None
        for group, label, share in self._bars:
            grid.add_row(Text(plain(group) if group != last else ""), Text(label), Drawn(1, 0, share, width=40))
            last = group
        yield Text()
        yield grid


class _Fitting:
    """The rows of a sheet as a table; where that would cut a number, one below the other."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._columns = list(zip(sheet.columns, sheet.heads, strict=True))
        self._cells = [[Text(plain(cell)) for cell in row] for row in sheet.rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [
            max(map(len, (head, *cells))) if number == 0 or head != column else min(8, max(map(len, cells)))
            for number, ((column, head), *cells) in enumerate(zip(self._columns, *self._cells, strict=True))
        ]
        fits = sum(widths) + 3 * len(widths) <= options.max_width
        yield self._table() if fits else self._list()

    def _table(self) -> Table:
        from rich.box import SIMPLE_HEAD

        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for number, (column, head) in enumerate(self._columns):
            is_number = column != head  # never broken, nor is the name of a row
            table.add_column(
                Text(plain(head)),
                justify="right" if is_number else "left",
                no_wrap=is_number or number == 0,
                overflow="fold",
            )
        for row in self._cells:
            table.add_row(*row)
        return table

    def _list(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(style="dim")
        grid.add_column(overflow="fold")
        for row in self._cells:
            for (_, head), cell in zip(self._columns, row, strict=True):
                grid.add_row(Text(plain(head)), cell)
            grid.add_row()
        return grid


def to_markdown(sheet: Sheet) -> str:
    """The sheet in GitHub's Markdown."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(_in_markdown(cell) for cell in cells) + " |"

    marks = ["---:" if column.startswith(">") else "---" for column in sheet.columns]
    facts = [f"- {name}: {_in_markdown(value)}" for name, value in sheet.facts.items()]
    parts = [f"### {_in_markdown(sheet.title)}", "\n".join(facts)]
    if sheet.rows:
        parts.append("\n".join([line(sheet.heads), "| " + " | ".join(marks) + " |", *map(line, sheet.rows)]))
    return "\n\n".join([*filter(None, parts), *([_in_markdown(sheet.reading)] if sheet.reading else [])]) + "\n"


def _in_markdown(text: str) -> str:
    return "".join("\\" + c if c in "\\`*_[]<>|#" else c for c in plain(text))


def to_latex(sheet: Sheet) -> str:
    r"""The sheet as a LaTeX table (``\usepackage{booktabs}``); its facts become comments."""
    marks = "".join("r" if column.startswith(">") else "l" for column in sheet.columns)
    facts = [f"% {plain(name)}: {plain(value)}" for name, value in sheet.facts.items()]
    if not sheet.rows:
        return "\n".join([f"% {plain(sheet.title)}", *facts]) + "\n"

    def line(cells: Iterable[str]) -> str:
        return " & ".join(map(_in_latex, cells)) + r" \\"

    return "\n".join(
        [
            *facts,
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_in_latex(sheet.title)}. {_in_latex(sheet.reading)}}}",
            rf"\begin{{tabular}}{{{marks}}}",
            r"\toprule",
            line(sheet.heads),
            r"\midrule",
            *map(line, sheet.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "∞": r"$\infty$",
    "−": "$-$",
}


def _in_latex(text: str) -> str:
    return "".join(LATEX.get(c, c) for c in plain(text))


def to_json(value: Any, ascii_only: bool = False) -> str:
    """JSON in full precision; infinite is ``"inf"``, what is not a number ``null``."""
    text = json.dumps(_strict(value), indent=2, ensure_ascii=ascii_only, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, of a file name that is no UTF-8
        return to_json(value, ascii_only=True)
    return text


def to_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of JSON as a flat table: nested names joined by a point, lists by a space."""
    import pandas as pd

    frame = pd.json_normalize([dict(row) for row in rows])
    return frame.map(lambda cell: " ".join(map(str, cell)) if isinstance(cell, list | tuple) else cell)


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _about(features: Mapping[str, Any]) -> dict[str, str]:
    """The facts of a feature set, as every table of results has them."""
    data = features["data"] or features["id"]
    split = f", split {features['split']}" if features["split"] else ""
    size = f"{features['samples']:,} samples, {features['classes']:,} classes, width {features['dim']:,}"
    layer = features["layer"] if features["layer"] != "feature" and features["model"] else ""
    facts = {
        "model": features["model"],
        "weights": features["weights"],
        "layer": layer,
        "data": f"{data}{split}: {size}",
    }
    return {name: value for name, value in facts.items() if value}


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.{max(0, min(4, 4 - _digits(value)))}f}"
    return f"{value:.2e}"


def _digits(value: float) -> int:
    """Digits before the point, beyond the first."""
    return max(0, math.floor(math.log10(abs(value)))) if value else 0


WIDEST = 5  # classes that are shown


def collapse_sheets(report: CollapseReport, every: bool = False, most_pairs: int | None = None) -> list[Sheet]:
    """The measures, the closest pairs of classes, and the widest classes."""
    from nctransfer.neural_collapse.registry import MEASURES

    names = _shown(report.metrics, every)
    rows = []
    for name in names:
        measure, ends = MEASURES[name], report.intervals.get(name)
        interval = f"{_number(ends[0])} to {_number(ends[1])}" if ends else ""
        rows.append([name, _number(report.metrics[name]), interval, ARROWS.get(measure.collapsed, ""), measure.meaning])
    sheets = [
        Sheet(
            "Neural collapse",
            ["measure", ">value", ">95% interval", "", "meaning"],
            rows,
            _about(report.features),
            f"↓ lower, ↑ higher is more collapsed. {_in_words(report)}"
            + _reasons({name: report.undefined[name] for name in names if name in report.undefined}),
        )
    ]
    titles = {"Closest pairs of classes": report.pairs}
    if every:
        titles["Closest pairs along the line between them"] = report.pairs_along
    sheets += [_pairs_sheet(title, pairs[:most_pairs]) for title, pairs in titles.items() if pairs[:most_pairs]]
    if every:
        cells = [
            [one.name, f"{one.samples:,}", _number(one.variance), f"{one.ncc_accuracy:.1%}"]
            for one in report.classes[:WIDEST]
        ]
        sheets.append(Sheet("Widest classes", ["class", ">samples", ">variance", ">nearest to own centre"], cells, {}))
    return sheets


def _pairs_sheet(title: str, pairs: Sequence[PairCollapse]) -> Sheet:
    cells = [
        [
            f"{pair.class_a} / {pair.class_b}",
            _number(pair.cdnv),
            _number(pair.directional_ab),
            _number(pair.directional_ba),
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


ARROWS = {"lower": "↓", "higher": "↑"}


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
        names = ("cdnv", "ncc_accuracy", "separation_fuzziness", "effective_rank")
        rows = [[layer, *(_number(report.metrics[name]) for name in names)] for layer, report in reports.items()]
        about = {name: value for name, value in _about(first.features).items() if name != "layer"}
        return [Sheet("Collapse by layer", ["layer", *(f">{name}" for name in names)], rows, about, _fit(comparison))]
    columns = {name: report.metrics for name, report in reports.items()} | comparison.ratios
    rows = [
        [name, *(_number(metrics[name]) for metrics in columns.values()), ARROWS.get(MEASURES[name].collapsed, "")]
        for name in _shown(first.metrics, every)
    ]
    facts = {name: _in_line(report.features) for name, report in reports.items()}
    return [
        Sheet(
            "Neural collapse",
            ["measure", *(f">{name}" for name in columns), ""],
            rows,
            facts,
            "↓ lower, ↑ higher is more collapsed."
            + (" ncc_accuracy of source-test uses the class centres of source-train." if comparison.ratios else ""),
        )
    ]


def _in_line(features: Mapping[str, Any]) -> str:
    size = f"{features['samples']:,} samples, {features['classes']:,} classes, width {features['dim']:,}"
    return ", ".join(filter(None, [features["data"] or features["id"], features["split"], size]))


def _fit(comparison: CollapseComparison) -> str:
    fit = comparison.fit
    law = ""
    if "rho" in fit:
        quality = f" (R² {fit['r_squared']:.3f})" if fit["r_squared"] is not None else ""
        law = f"Separation fuzziness changes by a factor of {fit['rho']:.3f} a layer{quality}. "
    return f"{law}From {fit['saturated']} on ncc_accuracy rises no more than by chance."


def explanation_sheet(every: bool = True) -> Sheet:
    """What each measure means."""
    from nctransfer.neural_collapse.registry import MEASURES

    rows = [
        [name, measure.aspect, measure.range, measure.collapsed or "–", _first_sentence(measure.function.__doc__ or "")]
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


def _percent(share: float) -> str:
    return f"{share * 100:.2f}"


def _with_interval(row: FewShotRow) -> str:
    return f"{row.accuracy * 100:.2f} ± {row.ci95 * 100:.2f}"


def fewshot_sheets(result: FewShotResult, confusions: int | None = 0) -> list[Sheet]:
    """One row a task and one column a classifier, or of one task one row a classifier; and what was confused.

    Args:
        result: What was measured.
        confusions: How many of the most confused pairs are shown; ``None`` for all.
    """
    first = result.rows[0]
    tasks = list(dict.fromkeys((row.ways, row.shots) for row in result.rows))
    if len(tasks) == 1:
        heads = ["classifier", f">accuracy ± {first.interval}", ">std", ">lowest tenth", ">expected"]
        rows = [
            [
                row.classifier,
                _with_interval(row),
                _percent(row.std),
                _percent(row.lowest_decile),
                _expected(row),
            ]
            for row in result.rows
        ]
    else:
        names = list(dict.fromkeys(row.classifier for row in result.rows))
        cells = {(row.ways, row.shots, row.classifier): _with_interval(row) for row in result.rows}
        heads = [">ways", ">shots", *(f">{name} ± {first.interval}" for name in names), ">chance"]
        rows = [
            [str(ways), str(shots), *(cells[ways, shots, name] for name in names), _percent(1 / ways)]
            for ways, shots in tasks
        ]
    sheet = Sheet(
        "Few-shot accuracy",
        heads,
        rows,
        _about(result.features) | _task_facts(result),
        f"Accuracy in %, higher is better; {_of_interval(first)}."
        + (f" Std and lowest tenth: over episodes. {EXPECTED}{_why_not(result)}." if len(tasks) == 1 else ""),
        _curve(result),
    )
    return [sheet, *_theory_sheet(result, is_alone=len(tasks) == 1), *_confusion_sheets(result, confusions)]


EXPECTED = "Expected: the mean of ncc over all episodes, without drawing them, to about 0.1 points"


def _why_not(result: FewShotResult) -> str:
    """Why there is no expected accuracy."""
    reasons = {row.undefined["expected_accuracy"] for row in result.rows if "expected_accuracy" in row.undefined}
    return "".join(f"; none here: {reason}" for reason in sorted(reasons))


def _expected(row: FewShotRow) -> str:
    return "–" if row.expected_accuracy is None else _percent(row.expected_accuracy)


def _bound(value: float | None) -> str:
    """A bound of an error, in %."""
    if value is None:
        return "–"
    return "∞" if math.isinf(value) else _percent(value) + " vacuous" * (value > 1)


def _theory_sheet(result: FewShotResult, is_alone: bool) -> list[Sheet]:
    """What theory says of nearest class centres, beside what was measured."""
    rows = [row for row in result.rows if row.bounds is not None]
    if not rows or all(one["value"] is None for row in rows for one in (row.bounds or {}).values()):
        return []
    names = list(rows[0].bounds or {})
    cells = [
        [
            str(row.ways),
            str(row.shots),
            _percent(1 - row.accuracy),
            *([] if is_alone else ["–" if row.expected_accuracy is None else _percent(1 - row.expected_accuracy)]),
            *(_bound((row.bounds or {})[name]["value"]) for name in names),
        ]
        for row in rows
    ]
    expected = [] if is_alone else [">expected"]
    return [
        Sheet(
            "Error of ncc and its bounds",
            [">ways", ">shots", ">measured", *expected, *(f">{name}" for name in names)],
            cells,
            {},
            "In %."
            + ("" if is_alone else f" {EXPECTED}.")
            + " Bounds by the geometry of the classes; above 100 they say nothing. luthra2026 is of 10 shots and more.",
        )
    ]


def expected_sheet(found: ExpectedAccuracies) -> Sheet:
    """The learning surface: a row for each number of shots, a column for each number of ways."""
    ways = list(dict.fromkeys(row.ways for row in found.rows))
    shots = list(dict.fromkeys(row.shots for row in found.rows))
    cells = {(row.ways, row.shots): row for row in found.rows}
    first = found.rows[0]

    def cell(row: ExpectedAccuracy) -> str:
        return _percent(row.accuracy) + (f" ± {row.ci95 * 100:.2f}" if row.ci95 else "")

    return Sheet(
        f"Expected accuracy of {first.classifier}",
        [">shots", *(f">{size}-way" for size in ways)],
        [[str(number), *(cell(cells[size, number]) for size in ways)] for number in shots],
        _about(found.features) | {"method": f"{first.method}, {first.queries:,} queries, {found.seconds:.1f} s"},
        "In %: the mean over all episodes, without drawing one; ± 95% interval of the computation, none where it is "
        + ("exact." if first.method == "resampled" else "of moments."),
        tuple(Bar(f"{row.ways}-way", counted(row.shots, "shot"), row.accuracy) for row in _by_ways(found.rows)),
    )


def _by_ways(rows: Sequence[ExpectedAccuracy]) -> list[ExpectedAccuracy]:
    return sorted(rows, key=lambda row: (row.ways, row.shots)) if len({row.shots for row in rows}) > 1 else []


def bounds_sheet(found: BoundTable) -> Sheet:
    """The bounds over shots."""
    names = list(found.rows[0].bounds)
    rows = [
        [
            str(row.ways),
            "∞" if math.isinf(row.shots) else str(row.shots),
            *(_bound(row.bounds[name].value) for name in names),
        ]
        for row in found.rows
    ]
    return Sheet(
        "Bounds of the error of ncc",
        [">ways", ">shots", *(f">{name}" for name in names)],
        rows,
        _about(found.features),
        "In %, by the geometry of the classes; above 100 they say nothing (vacuous). luthra2026: 10 shots and more.",
    )


def pair_sheet(found: PairExplanation) -> Sheet:
    """Two classes: how they lie, how well they are told apart, and why not better."""
    a, b = found.directions
    rows = [
        [
            str(row.shots),
            _percent(row.expected),
            f"{row.measured * 100:.2f} ± {row.ci95 * 100:.2f}",
            _percent(row.closed_form),
            _percent(row.bound) if row.bound > 0 else "vacuous",
        ]
        for row in found.shots
    ]
    facts = _about(found.features) | {
        "distance": _number(found.distance),
        "cdnv": _number(found.cdnv),
        "overlap": f"{_number(found.overlap)} of the directions in which they vary",
    }
    for key, one, other in (("class a", a, b), ("class b", b, a)):
        facts[key] = (
            f"{one.name}: variance {_number(one.variance)} in about {one.dimension:.0f} directions; "
            f"directional CDNV towards {other.name} {_number(one.directional)}"
        )
    return Sheet(
        f"{a.name} and {b.name}: {found.reason}",
        [">shots", ">expected", ">measured", ">closed form", ">at least"],
        rows,
        facts,
        f"2-way accuracy of ncc in %; {_percent(found.limit)} with all shots there could be, by the closed form "
        "(Sorscher et al. 2022). At least: by the bound of Luthra et al. 2025.",
    )


def _task_facts(result: FewShotResult) -> dict[str, str]:
    first, settings = result.rows[0], result.settings
    counts = dict.fromkeys(f"{row.episodes:,}" for row in result.rows)
    tasks = list(dict.fromkeys((row.ways, row.shots) for row in result.rows))
    facts = {
        "task": (f"{tasks[0][0]}-way {tasks[0][1]}-shot, chance {100 / tasks[0][0]:.2f} %, " if len(tasks) == 1 else "")
        + f"{' or '.join(counts)} episodes, {first.queries} queries a class, seed {first.seed}",
    }
    if other := settings.get("query_set"):
        split = f", split {other['split']}" if other.get("split") else ""
        facts["queries"] = f"{other['id']}{split} ({other['samples']:,} samples)"
    changes = [
        f"less the mean of {settings['center_on']}" if settings.get("center_on") else "",
        "scaled to unit length" if settings.get("l2_normalise") else "",
    ]
    if any(changes):
        facts["features are"] = ", ".join(filter(None, changes))
    if settings.get("dropped"):
        facts["left out"] = f"{counted(len(settings['dropped']), 'class', 'classes')} of too few samples"
    return facts


def _of_interval(row: FewShotRow) -> str:
    from nctransfer.intervals import INTERVALS

    return f"± 95% interval {INTERVALS[row.interval]}"


def _curve(result: FewShotResult) -> tuple[Bar, ...]:
    """Accuracy over shots, where there are several."""
    if len({row.shots for row in result.rows}) == 1:
        return ()
    by_curve = sorted(result.rows, key=lambda row: (row.ways, row.classifier))
    return tuple(
        Bar(f"{row.ways}-way {row.classifier}", f"{counted(row.shots, 'shot')}", row.accuracy) for row in by_curve
    )


def _confusion_sheets(result: FewShotResult, most: int | None) -> list[Sheet]:
    """The most confused pairs and the hardest classes of the first number of ways, most shots and first classifier."""
    if most == 0:
        return []
    row = max((row for row in result.rows if row.ways == result.rows[0].ways), key=lambda row: row.shots)
    task = (row.ways, row.shots, row.classifier)
    asked = [one for one in result.class_accuracies(task) if one.accuracy is not None]
    hardest = sorted(asked, key=lambda one: one.accuracy or 0)[:most]
    title = f"{row.ways}-way {row.shots}-shot, {row.classifier}"
    return [
        Sheet(
            f"Most confused pairs: {title}",
            ["class", "taken for", ">%"],
            [[one.name, one.taken_for, _percent(one.rate)] for one in result.confusions(task, most)],
            {},
            "Of the queries of the first class, in episodes that had both. All tasks: --format json.",
        ),
        Sheet(
            f"Hardest classes: {title}",
            ["class", ">accuracy", ">queries"],
            [[one.name, _percent(one.accuracy or 0), f"{one.queries:,}"] for one in hardest],
            {},
        ),
    ]


def fewshot_comparison_sheets(found: FewShotComparison, confusions: int | None = 0) -> list[Sheet]:
    """One column a set, and the paired differences to the first, in words; and what was confused in each."""
    results = list(found.results.values())
    rows = [
        [str(row.ways), str(row.shots), row.classifier, *(_with_interval(one.rows[number]) for one in results)]
        for number, row in enumerate(results[0].rows)
    ]
    first = results[0].rows[0]
    samples = {
        str(number + 1): "  ".join([one.features["id"], _about(one.features)["data"]])
        for number, one in enumerate(results)
    }
    words = {True: "better", False: "worse"}
    differences = [
        [
            str(one.ways),
            str(one.shots),
            one.classifier,
            one.name,
            f"{one.difference * 100:+.2f} ± {one.ci95 * 100:.2f}",
            words[one.difference > 0] if one.is_real else "not told apart",
        ]
        for one in found.differences
    ]
    return [
        Sheet(
            "Few-shot accuracy",
            [">ways", ">shots", "classifier", *(f">{name}" for name in found.results)],
            rows,
            samples | _task_facts(results[0]),
            f"Accuracy in %, higher is better; {_of_interval(first)}.",
        ),
        Sheet(
            f"Difference to {next(iter(found.results))}",
            [">ways", ">shots", "classifier", "set", f">points ± {first.interval}", "at 95%"],
            differences,
            {},
            "Paired: on the same episodes. Better or worse where the interval leaves out zero.",
        ),
        *(
            replace(sheet, title=f"{name}. {sheet.title}")
            for name, result in found.results.items()
            for sheet in _confusion_sheets(result, confusions)
        ),
    ]


def probe_sheet(result: ProbeResult) -> Sheet:
    """The linear probe, as facts."""
    low, high = result.ci95
    facts = {
        f"train {name}" if name in ("id", "model") else name: value for name, value in _about(result.train).items()
    }
    if result.test is not None:
        facts["test"] = f"{result.test['id']} ({result.test['samples']:,} samples)"
    facts |= {
        "accuracy": f"{_percent(result.accuracy)}  [{_percent(low)}, {_percent(high)}]",
        "balanced": _percent(result.balanced_accuracy),
    }
    if result.test is not None:
        facts["leave-one-out"] = f"{_percent(result.loo_accuracy)} (of the training samples)"
    facts["ridge λ"] = f"{result.ridge_lambda:.4g}" + (", at the end of what it is chosen from" * result.is_at_end)
    how = "on the test set" if result.test is not None else "each sample left out in turn"
    return Sheet(
        "Linear probe on all labels",
        [],
        [],
        facts,
        f"Ridge regression, accuracy in % {how}; 95% interval over the draw of these samples.",
    )


MOST_TIES = 5  # checkpoints that are named; JSON has all
MOST_BESIDE = 4  # tasks whose accuracies fit beside the measures


def trajectory_sheets(found: Trajectory) -> list[Sheet]:
    """One row a checkpoint: collapse and accuracy of the target, and collapse of every sample; and the best."""
    names = _short_names([point.checkpoint for point in found.points])
    first = found.points[0]
    tasks = first.fewshot.rows
    measured = [
        [_number(point.reports["target"].cdnv), _number(point.reports["target"].directional_cdnv)]
        for point in found.points
    ]
    accuracies = [[_percent(row.accuracy) for row in point.fewshot.rows] for point in found.points]
    several = len({row.ways for row in tasks}) > 1
    heads = [f">{row.classifier} {f'{row.ways}w' if several else ''}{row.shots}" for row in tasks]
    widest = max(row.ci95 for point in found.points for row in point.fewshot.rows)
    lower = "CDNV: lower is more collapsed."
    about = (
        f"{'Accuracy' if several else f'{tasks[0].ways}-way accuracy'} in % by classifier and "
        f"{'ways w ' if several else ''}shots, at most ± {widest * 100:.2f} (95%, {tasks[0].interval})."
    )
    facts, columns = _trajectory_facts(found), [">cdnv", ">directional"]
    if len(tasks) <= MOST_BESIDE:
        rows = [[name, *one, *other] for name, one, other in zip(names, measured, accuracies, strict=True)]
        sheets = [Sheet("Trajectory", ["checkpoint", *columns, *heads], rows, facts, f"{lower} {about}")]
    else:
        sheets = [
            Sheet("Trajectory: collapse", ["checkpoint", *columns], _named_rows(names, measured), facts, lower),
            Sheet("Trajectory: few-shot accuracy", ["checkpoint", *heads], _named_rows(names, accuracies), {}, about),
        ]
    if len(first.reports) > 1:
        for measure, title in (("cdnv", "CDNV"), ("directional_cdnv", "Directional CDNV")):
            values = [[_number(one.metrics[measure]) for one in point.reports.values()] for point in found.points]
            heads = [f">{name}" for name in first.reports]
            sheets.append(Sheet(f"{title} by sample", ["checkpoint", *heads], _named_rows(names, values), {}))
    if found.failed:
        sheets.append(Sheet("Left out", ["checkpoint", "reason"], [list(one) for one in found.failed.items()], {}))
    if len(found.distinct) > 1:
        sheets.append(_best_sheet(found, dict(zip((point.checkpoint for point in found.points), names, strict=True))))
    return sheets


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
        **{sample if several else "data": _about(report.features)["data"] for sample, report in first.reports.items()},
        **_task_facts(first.fewshot),
        "same weights": ", ".join(same),
    }
    return {name: value for name, value in facts.items() if value}


def _best_sheet(found: Trajectory, names: Mapping[str, str]) -> Sheet:
    """Which checkpoint to take, and whether the last is worse."""
    last = names[found.distinct[-1].checkpoint]
    rows = [
        [
            f"{one.ways}-way {one.shots}-shot {one.classifier}",
            names[one.checkpoint],
            _percent(one.accuracy),
            ", ".join(names[tie] for tie in one.ties[:MOST_TIES]) + ", …" * (len(one.ties) > MOST_TIES) or "–",
            "–" if one.checkpoint == one.last else f"{one.difference * 100:+.2f} ± {one.ci95 * 100:.2f}",
        ]
        for one in found.best()
    ]
    words = "Paired: on the same episodes, at 95%."
    if len(found.distinct) > 3:
        ranks = {name: found.rank_correlations()[name] for name in ("cdnv", "directional_cdnv")}
        told = ", ".join(f"{name} {value:+.2f}" for name, value in ranks.items() if value is not None)
        words += f" Rank correlation of {rows[0][0]} over {len(found.distinct)} checkpoints: {told}." if told else ""
    return Sheet("Best checkpoint", ["task", "best", ">%", "not told apart", f">{last} less best"], rows, {}, words)


def _short_names(names: Sequence[str]) -> list[str]:
    """Names of files without their suffixes, where that leaves them different."""
    short = [name.removesuffix(PurePath(name).suffix) for name in names]
    return short if len(set(short)) == len(names) else list(names)


NEXT = "next: nctransfer collapse, nctransfer fewshot"


def extraction_sheet(report: ExtractionReport) -> Sheet:
    """What an extraction did, as facts."""
    rate = report.images_per_second
    facts = {
        "model": report.stored.key.model,
        "weights": report.stored.info(report.selection).weights or "",
        "data": ", ".join(filter(None, [report.stored.about.get("data", ""), str(report.selection)])),
        "id": report.stored.id,
        "samples": f"{report.samples:,}",
        "extracted": f"{report.extracted:,}" + (f" in {report.seconds:.1f} s, {rate:.1f} images/s" if rate else ""),
        "from cache": f"{report.reused:,}",
        "folder": str(report.stored.rows_path),
    }
    if len(columns := report.stored.columns) > 1:
        facts["columns"] = ", ".join(f"{name} ({dim:,})" for name, dim in columns.items())
    if report.failed:
        facts["failed"] = f"{len(report.failed):,}"
    return Sheet("Features", [], [], facts, "" if report.failed else NEXT)


def models_sheet(models: Sequence[ModelInfo]) -> Sheet:
    """Models and whether their weights are at hand; with their size where that is known."""
    measured = any(model.parameters for model in models)
    named = any(model.aliases for model in models)
    rows = [
        [
            model.name,
            *([", ".join(model.aliases)] if named else []),
            str(model.image_size),
            *([_millions(model.parameters), _count(model.width), _count(model.megabytes)] if measured else []),
            model.licence,
            f"here ({model.at_hand})" if model.at_hand else "hub" if model.source.count("/") == 1 else "download",
        ]
        for model in models
    ]
    short = ["short name"] if named else []
    sizes = [">params", ">width", ">MB"] if measured else []
    return Sheet(
        "timm models",
        ["model", *short, ">pixels", *sizes, "licence", "weights"],
        rows,
        {},
        f"{counted(len(models), 'model')}. Weights that are here need no network. Any timm name goes with --model; "
        "nctransfer models '*' lists all, nctransfer models PATTERN those that fit; if they are few, with their size.",
    )


def _millions(number: int | None) -> str:
    return f"{number / 1e6:,.1f}M" if number else "–"


def _count(number: float | None) -> str:
    return f"{number:,.0f}" if number else "–"


def numerics_sheet(report: NumericsReport, data: str) -> Sheet:
    """What the features are like, and what they depend on."""
    rows = [
        [
            difference.way,
            _number(difference.largest),
            _number(difference.median),
            "–" if difference.same_neighbour is None else f"{difference.same_neighbour:.1%}",
            difference.reason or _verdict(difference.largest),
        ]
        for difference in report.differences
    ]
    facts = {
        "model": report.model,
        "weights": report.weights,
        "images": f"{report.images} of {data}, on {report.device}",
        "features": f"width {report.width:,}; {report.dead:,} the same for every image",
        "norms": f"{_number(report.smallest_norm)} to {_number(report.largest_norm)}; "
        f"largest value {_number(report.largest_value)}",
        "cosine": f"{_number(report.alike)} on average between two images",
        "NaN or infinite": counted(report.not_finite, "image"),
    }
    return Sheet(
        "Numerics",
        ["run otherwise", ">largest", ">median", ">same neighbour", ""],
        rows,
        facts,
        "Relative difference |f' - f| / |f| of an image's feature to the plain run: float32, one batch, channels last. "
        f"Same neighbour: images whose nearest other image stays the same. {_advice(report)}",
    )


def _advice(report: NumericsReport) -> str:
    """What the numbers mean for how to run this backbone."""
    moved = [
        f"{one.way} ({1 - one.same_neighbour:.0%})"
        for one in report.differences
        if one.same_neighbour is not None and one.same_neighbour < 1
    ]
    return f"Changes nearest neighbours: {', '.join(moved)}." if moved else "Nothing changes a nearest neighbour."


def _verdict(difference: float | None) -> str:
    if difference is None or math.isnan(difference):
        return "not finite"
    limits = ((0.0, "equal"), (1e-4, "rounding"), (1e-2, "small"))
    return next((word for limit, word in limits if difference <= limit), "large")


def sets_sheet(sets: Sequence[StoredSet], root: str) -> Sheet:
    """What is stored."""
    rows = [
        [
            stored.id,
            stored.about.get("data", ""),
            "×".join(map(str, stored.key.transform.get("input_size", ())[1:])),
            str(len(stored.columns)),
            f"{stored.rows:,}",
            f"{stored.bytes / 2**10:,.0f}",
        ]
        for stored in sets
    ]
    total = sum(stored.bytes for stored in sets) / 2**20
    return Sheet(
        "Stored features",
        ["id", "data", ">pixels", ">columns", ">rows", ">KiB"],
        rows,
        {"cache": root},
        f"{counted(len(sets), 'set')}, {total:,.1f} MiB." if sets else "Nothing is stored yet: run nctransfer extract.",
    )


def set_sheet(stored: StoredSet) -> Sheet:
    """One stored set."""
    key = stored.key
    transform = ", ".join(f"{name} {value}" for name, value in key.transform.items())
    facts = {
        "id": stored.id,
        "model": key.model,
        "weights": f"{stored.about.get('weights', 'unknown')} (digest {key.weights})",
        "data": stored.about.get("data", ""),
        "transform": transform,
        "pool": key.pool,
        **({"arguments": ", ".join(f"{k}={v}" for k, v in key.model_kwargs.items())} if key.model_kwargs else {}),
        "computed": f"{key.dtype}, stored as {key.store_dtype}",
        "columns": ", ".join(f"{name} ({dim})" for name, dim in stored.columns.items()),
        "rows": f"{stored.rows:,} in {counted(len(stored.parts), 'part')}, {stored.bytes / 2**20:,.1f} MiB",
        "folder": str(stored.rows_path),
    }
    return Sheet(
        "Stored set",
        [],
        [],
        facts,
        "The folder opens with pandas, Polars or DuckDB: id, class, label, split, digest, feature.",
    )


def verify_sheet(sets: Sequence[StoredSet], found: Mapping[str, Mapping[str, str]]) -> Sheet:
    """Which parts are damaged."""
    rows = [[key, part, why] for key, parts in found.items() for part, why in parts.items()]
    checked = sum(len(stored.parts) for stored in sets)
    return Sheet(
        "Verification",
        ["set", "part", "damage"],
        rows,
        {},
        f"{counted(checked, 'part')} of {counted(len(sets), 'set')} checked, {len(rows)} damaged.",
    )


LISTED = 50  # broken images in a table; JSON has all


def data_sheets(report: DataReport, overlap: Overlap | None = None) -> list[Sheet]:
    """What a data source holds, what is wrong with it, and what it shares with another."""
    sheets = [Sheet("Data", [], [], _data_facts(report), _data_in_words(report))]
    if report.broken:
        more = len(report.broken) - LISTED
        sheets.append(
            Sheet(
                "Broken images",
                ["image", "reason"],
                [list(broken) for broken in report.broken[:LISTED]],
                {},
                f"… and {more:,} more (all of them: --format json)." if more > 0 else "",
            )
        )
    found = [*report.across_splits.first, *report.across_classes.first]
    if rows := [[_same(copies)] for copies in dict.fromkeys(found)]:
        sheets.append(Sheet("Same image, another class or split", ["images"], rows, {}))
    if overlap:
        sheets.append(_overlap_sheet(overlap))
    return sheets


def _data_facts(report: DataReport) -> dict[str, str]:
    facts = {
        "data": ", ".join(filter(None, [report.name, report.selection])),
        "kind": report.kind,
        "images": f"{report.images:,}, {_size(report.file_bytes)}",
        "classes": f"{len(report.classes):,}",
        "splits": ", ".join(f"{name} {number:,}" for name, number in report.splits.items()),
        "class sizes": _class_sizes(report),
        "image sizes": _image_sizes(report),
        "modes": _shares(report.modes),
        "formats": _shares(report.formats),
        "broken": f"{len(report.broken):,}" + (" by their headers alone" if report.headers_only else ""),
        "duplicates": ", ".join(
            f"{counted(duplicates.images, 'image')} {where}"
            for duplicates, where in (
                (report.across_splits, "across splits"),
                (report.across_classes, "across classes"),
                (report.within_class, "within a class (harmless)"),
            )
            if duplicates.images
        )
        or "none",
        "left out": "; ".join(report.notes),
    }
    return {name: value for name, value in facts.items() if value}


def _class_sizes(report: DataReport) -> str:
    (least, fewest), (largest, most) = report.smallest_class, report.largest_class
    if fewest == most:
        return f"{counted(most, 'image')} each"
    return f"{fewest:,} ({least}) to {most:,} ({largest}), median {report.median_class:,g}"


def _image_sizes(report: DataReport) -> str:
    if (sizes := report.sizes) is None:
        return ""
    smallest, median, largest = (f"{width}×{height}" for width, height in (sizes.smallest, sizes.median, sizes.largest))
    if sizes.different == 1:
        return f"{largest} each"
    return f"{smallest} to {largest}, median {median}; {sizes.different:,} different"


def _shares(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())


def _size(number: int) -> str:
    return f"{number / 2**20:,.1f} MiB" if number >= 2**20 else f"{number / 2**10:,.1f} KiB"


def _data_in_words(report: DataReport) -> str:
    """What someone should know before a transfer study on these data."""
    (_, fewest), (_, most) = report.smallest_class, report.largest_class
    words = []
    if fewest == most:
        words.append("The classes are balanced.")
    elif most > 2 * fewest:
        words.append(f"The largest class has {most / fewest:,.1f} times the images of the smallest.")
    least = min(report.usable.values())
    where = ", over all splits" if len(report.splits) > 1 else ""
    words.append(f"The smallest class has {least:,} usable images{where}: shots and queries of an episode share them.")
    if report.broken:
        words.append("Broken images end an extraction in an error, unless --skip-broken leaves them out.")
    if report.across_splits.images:
        words.append("What stands in several splits leaks: an accuracy on one split is not that of unseen images.")
    if report.across_classes.images:
        words.append("What stands in several classes has at most one right label.")
    if report.headers_only:
        words.append("Only the headers were read: truncated images are not found.")
    return " ".join(words)


def _same(copies: Sequence[Copy]) -> str:
    return " = ".join(_named(copy) for copy in copies[:4]) + (" = …" if len(copies) > 4 else "")


def _named(copy: Copy) -> str:
    return f"{copy.id} ({', '.join(filter(None, [copy.label, copy.split]))})"


def _overlap_sheet(overlap: Overlap) -> Sheet:
    share = f" ({overlap.share:.2%})" if overlap.share is not None else ""
    names = ", ".join(overlap.classes[:10]) + (" …" if len(overlap.classes) > 10 else "")
    facts = {
        "data": overlap.name,
        "other": overlap.other,
        "images in both": f"{overlap.images:,} of {overlap.of:,}{share}, by their content",
        "classes in both": f"{len(overlap.classes):,}" + (f": {names}" if names else ""),
    }
    rows = [[_named(one), _named(other)] for one, other in overlap.examples[:LISTED]]
    more = len(overlap.examples) - LISTED
    return Sheet(
        "Overlap",
        ["image", "the same in the other"],
        rows,
        facts,
        (f"… and {more:,} more (all of them: --format json). " if more > 0 else "")
        + "Only files of the same bytes are found: an image that was encoded anew is another.",
    )
