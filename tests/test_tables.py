"""Results as tables, Markdown and JSON: nothing is interpreted, no number is cut."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from messages import those
from nctransfer import FeatureSet, collapse
from nctransfer.backbones.listing import ModelInfo
from nctransfer.evaluation.fewshot_comparison import FewShotComparison, FewShotDifference, PossibleBests
from nctransfer.evaluation.fewshot_results import FewShotResult, FewShotRow
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.evaluation.linear_probe import ProbeResult
from nctransfer.evaluation.tally import Counts as _Counts
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.intervals import INTERVALS, Interval
from nctransfer.neural_collapse.collapse_report import CollapseReport, PairCollapse
from nctransfer.neural_collapse.registry import MEASURES
from nctransfer.report.backbone_sheets import models_sheet
from nctransfer.report.collapse_sheets import collapse_sheets
from nctransfer.report.fewshot_sheets import fewshot_comparison_sheets, fewshot_sheets, probe_sheet
from nctransfer.report.format import Format, Page, Presentation
from nctransfer.report.json_text import to_json
from nctransfer.report.latex import to_latex
from nctransfer.report.markdown import to_markdown
from nctransfer.report.sheet import Bar, Sheet, plain
from nctransfer.report.store_sheets import sets_sheet
from nctransfer.report.terminal_tables import TABLE
from nctransfer.report.wording import POPULATIONS
from nctransfer.report.wording import format_number as _number
from terminal import missing


def fact(facts: Mapping[str, str], *values: object) -> str:
    """The one fact of a sheet that shows all of the values, under whatever name."""
    [found] = those(facts.values(), *values)
    return found


def shown(sheet: Sheet, width: int = 80) -> str:
    """What a terminal of this width shows, without the styles."""
    return re.sub(r"\x1b\[[\d;]*m", "", as_text(TABLE, [sheet], width=width, is_terminal=True))


def as_text(form: Format, sheets: Sequence[Sheet], **page: Any) -> str:
    """Sheets in some format."""
    return form.render(Presentation(sheets=sheets, data={}, rows=[]), Page(**page))


def cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table, with their escapes."""
    assert line.startswith("| ")
    assert line.endswith(" |")
    return [cell.strip() for cell in re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]]


def table_of(markdown: str) -> list[list[str]]:
    return [cells(line) for line in markdown.splitlines() if line.startswith("|")]


# Text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat", "cat"),
        ("Müller 猫 😀", "Müller 猫 😀"),
        ("a\nb", r"a\nb"),
        ("a\tb\r", r"a\tb\r"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x00\x7f", r"\x00\x7f"),
        ("\x9b31m", r"\x9b31m"),  # an 8-bit control sequence
        ("abc\u202edef", r"abc\u202edef"),  # what follows would be read from right to left
        ("\u2028", r"\u2028"),
        ("\udcff", r"\udcff"),  # a byte of a file name that is no UTF-8
        (5, "5"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_shown_escaped(text: object, expected: str) -> None:
    assert plain(text) == expected


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_printable_and_can_be_encoded(text: str) -> None:
    assert plain(text).isprintable()
    assert plain(text).encode().decode() == plain(text)


NASTY = "[red]x[/red] [link=y]z :smile: \x1b[31m"
VISIBLE = r"[red]x[/red] [link=y]z :smile: \x1b[31m"


@pytest.mark.parametrize(
    "sheet",
    [
        Sheet(NASTY, ["a"], [["1"]], {}),
        Sheet("t", [NASTY], [["1"]], {}),
        Sheet("t", [f">{NASTY}"], [["1"]], {}),
        Sheet("t", ["a"], [[NASTY]], {}),
        Sheet("t", ["a"], [], {"fact": NASTY}),
        Sheet("t", ["a"], [], {}, NASTY),
    ],
    ids=["title", "head", "number head", "cell", "fact", "reading"],
)
def test_no_text_is_read_as_markup(sheet: Sheet) -> None:
    assert VISIBLE in shown(sheet)


def test_a_sheet_without_rows_has_no_table() -> None:
    assert shown(Sheet("title", ["a", ">b"], [], {"x": "1"}, "read")).split() == ["title", "x", "1", "read"]


@pytest.mark.parametrize("width", [80, 40, 20])
@pytest.mark.parametrize("columns", [1, 2, 6])
def test_no_number_is_cut_in_a_narrow_console(width: int, columns: int) -> None:
    numbers = [f"{1234.5678 + number:.4f}" for number in range(columns)]
    sheet = Sheet("t", ["name", *(f">number {i}" for i in range(columns))], [["a name " * 20, *numbers]], {})
    assert [number for number in numbers if number not in shown(sheet, width)] == []


@pytest.mark.parametrize("width", [60, 40, 25])
def test_no_accuracy_is_cut_in_a_narrow_console(width: int) -> None:
    text = shown(fewshot_sheets(RESULT)[0], width)
    for number in ("55.00 ± 1.20", "61.25 ± 0.98", "70.00 ± 1.00", "50.00", "20.00"):
        assert number in text
    differences = shown(fewshot_comparison_sheets(COMPARISON)[1], width)
    for number in ("-1.20", "-1.70", "-0.70", "+3.00", "+2.00", "+4.00", "+0.10", "-0.10", "+0.30"):
        assert number in differences


@pytest.mark.parametrize("width", [80, 40])
def test_no_letter_of_a_name_is_lost_in_a_narrow_console(width: int) -> None:
    name = "".join(chr(ord("a") + i % 26) for i in range(100))
    lines = shown(Sheet("t", ["name", ">n"], [[name, "1"]], {}), width).splitlines()
    words = [word for line in lines for word in line.split() if re.fullmatch(r"[a-z]{2,}", word) and word != "name"]
    assert "".join(words) == name


# Markdown


@pytest.mark.parametrize("text", ["a|b", "`x`", "a\nb", "<b>", "*a* _b_", "[a](b)", "a\\|b", "# a", NASTY])
def test_markdown_shows_a_cell_as_it_is(text: str) -> None:
    markdown = to_markdown(Sheet("t", ["name", ">n"], [[text, "1"]], {"fact": text}, "read"))
    table = table_of(markdown)
    assert [len(row) for row in table] == [2, 2, 2]
    assert re.sub(r"\\([\\`*_\[\]<>|#])", r"\1", table[2][0]) == plain(text)
    assert re.search(r"(?<!\\)(\\\\)*[`*<\[]", table[2][0]) is None
    assert f"- fact: {table[2][0]}" in markdown.splitlines()


def test_markdown_is_a_title_facts_a_table_and_how_to_read_it() -> None:
    sheet = Sheet("A title", ["name", ">n"], [["x", "1"], ["y", "2"]], {"model": "m", "data": "d"}, "Read so.")
    assert to_markdown(sheet) == (
        "### A title\n\n- model: m\n- data: d\n\n| name | n |\n| --- | ---: |\n| x | 1 |\n| y | 2 |\n\nRead so.\n"
    )


def test_markdown_of_facts_alone_has_no_table() -> None:
    assert to_markdown(Sheet("t", [], [], {"a": "1"})) == "### t\n\n- a: 1\n"


# JSON


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, None),
        (0.1 + 0.2, 0.1 + 0.2),
        (1e-300, 1e-300),
        ((1, math.inf), [1, "inf"]),
        ({"a": [{"b": math.inf}]}, {"a": [{"b": "inf"}]}),
        ("naïve 😀 [red]\x1b", "naïve 😀 [red]\x1b"),
        (None, None),
        (True, True),
    ],
)
def test_json_is_strict_and_exact(value: Any, expected: Any) -> None:
    text = to_json({"x": value})
    assert json.loads(text, parse_constant=pytest.fail) == {"x": expected}


def test_json_is_readable() -> None:
    assert to_json({"name": ["x"]}) == '{\n  "name": [\n    "x"\n  ]\n}'


# Numbers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (math.nan, "–"),
        (0.0, "0.0000"),
        (1.0, "1.0000"),
        (0.05, "0.0500"),
        (-8.5309102, "-8.5309"),
        (11.881900, "11.882"),
        (123.456, "123.46"),
        (9999.5, "9999.5"),
        (12345.6, "12346"),
        (0.001, "0.0010"),
        (0.00099, "9.90e-04"),
        (1e5, "1.00e+05"),
        (-2.5e7, "-2.50e+07"),
    ],
)
def test_a_number_has_five_figures_at_most(value: float | None, expected: str) -> None:
    assert _number(value) == expected


@settings(deadline=None)
@given(st.floats(-1e300, 1e300))
def test_a_number_is_short_and_near(value: float) -> None:
    text = _number(value)
    assert len(text) <= 10
    assert float(text) == pytest.approx(value, rel=6e-3, abs=6e-5)


# Results

FEATURES = FeatureInfo("x", model="m", weights="w", data="pets", split="test", samples=1200, classes=3, dim=1280)
ROW = FewShotRow(
    ways=2,
    shots=1,
    queries=15,
    episodes=10_000,
    classifier="ridge",
    seed=7,
    accuracy=0.55,
    ci95=0.012,
    interval="episodes",
    std=0.0834,
    lowest_decile=0.4,
    seconds=0.1,
)
ONE_TASK = FewShotResult(features=FEATURES, rows=(ROW, replace(ROW, classifier="ncc", accuracy=0.6125, ci95=0.0098)))
RESULT = FewShotResult(
    features=FEATURES,
    rows=(
        *ONE_TASK.rows,
        replace(ROW, ways=5, accuracy=0.7, ci95=0.01),
        replace(ROW, ways=5, classifier="ncc", accuracy=0.7, ci95=0.01),
    ),
)
SCALED = FewShotTask(l2_normalise=True)
DIFFERENCE = FewShotDifference(
    name="2: other",
    first="1: m",
    ways=2,
    shots=1,
    classifier="ridge",
    difference=-0.012,
    interval=(-0.017, -0.007),
    population="classes",
    verdict="worse",
)
BESTS = PossibleBests(ways=2, shots=1, classifier="ridge", population="classes", names=("2: other", "1: m"))
COMPARISON = FewShotComparison(
    results={"1: m": ONE_TASK, "2: other": replace(ONE_TASK, features=replace(FEATURES, model="other"))},
    differences=(
        DIFFERENCE,
        replace(DIFFERENCE, difference=0.03, interval=(0.02, 0.04), population="samples", verdict="better"),
        replace(DIFFERENCE, classifier="ncc", difference=0.001, interval=(-0.001, 0.003), verdict="not told apart"),
    ),
    possible_bests=(BESTS,),
)


def test_few_shot_results_have_a_row_a_task_and_a_column_a_classifier() -> None:
    [sheet] = fewshot_sheets(RESULT)
    assert len(sheet.heads) == 5
    assert missing(sheet.heads[2], "ridge", "episodes") == missing(sheet.heads[3], "ncc", "episodes") == []
    assert sheet.rows == [
        ["2", "1", "55.00 ± 1.20", "61.25 ± 0.98", "50.00"],
        ["5", "1", "70.00 ± 1.00", "70.00 ± 1.00", "20.00"],
    ]
    assert fact(sheet.facts, "pets", "test", "1,200", 3, "1,280")
    assert fact(sheet.facts, "10,000", 15, 7)
    assert missing(sheet.reading, "95%", "±") == []


def test_few_shot_results_of_one_task_have_a_row_a_classifier() -> None:
    [sheet] = fewshot_sheets(ONE_TASK)
    assert missing(sheet.heads[1], "episodes") == []
    assert [row[:4] for row in sheet.rows] == [
        ["ridge", "55.00 ± 1.20", "8.34", "40.00"],
        ["ncc", "61.25 ± 0.98", "8.34", "40.00"],
    ]
    assert fact(sheet.facts, "2-way", "1-shot", "50.00", "10,000", 15, 7)
    assert missing(sheet.reading, "95%", "±") == []
    assert sheet.bars == ()


@pytest.mark.parametrize("interval", INTERVALS)
def test_an_interval_says_of_what_it_is(interval: Interval) -> None:
    for result in (ONE_TASK, RESULT):
        [sheet] = fewshot_sheets(replace(result, rows=tuple(replace(row, interval=interval) for row in result.rows)))
        heads = [head for head in sheet.heads if not missing(head, "±", interval)]
        assert len(heads) == (1 if result is ONE_TASK else 2)
        assert INTERVALS[interval] in sheet.reading


def test_episodes_of_tasks_may_differ_in_number() -> None:
    rows = (replace(ROW, episodes=12), replace(ROW, ways=5, episodes=9))
    [sheet] = fewshot_sheets(replace(RESULT, rows=rows))
    assert fact(sheet.facts, 12, 9)


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"query_set": FeatureInfo("set/q", samples=1234)}, ["set/q", "1,234"]),
        ({"center_on": "set/c"}, ["set/c"]),
        ({"task": SCALED}, []),
        ({"center_on": "set/c", "task": SCALED}, ["set/c"]),
        ({"dropped": ("a",)}, [1]),
        ({"dropped": ("a", "b")}, [2]),
    ],
    ids=str,
)
def test_what_was_done_to_the_features_is_a_fact(given: dict[str, Any], values: list[object]) -> None:
    plain_facts = fewshot_sheets(RESULT)[0].facts
    facts = fewshot_sheets(replace(RESULT, **given))[0].facts
    [(name, said)] = facts.items() - plain_facts.items()
    assert missing(said, *values) == []
    compared = replace(COMPARISON, results={name: replace(ONE_TASK, **given) for name in COMPARISON.results})
    assert fewshot_comparison_sheets(compared)[0].facts[name] == said


def test_all_that_was_done_to_the_features_is_said() -> None:
    changes: tuple[dict[str, Any], ...] = ({"center_on": "c"}, {"task": SCALED}, {"center_on": "c", "task": SCALED})
    facts = [fewshot_sheets(replace(RESULT, **given))[0].facts for given in changes]
    centred, scaled, both = ((one.items() - fewshot_sheets(RESULT)[0].facts.items()).pop()[1] for one in facts)
    assert centred in both
    assert scaled in both


@pytest.mark.parametrize("name", ["model", "weights"])
def test_what_is_not_known_is_not_shown(name: str) -> None:
    known, unknown = (
        fewshot_sheets(replace(RESULT, features=replace(FEATURES, **{name: value})))[0].facts for value in ("z", None)
    )
    [(label, value)] = known.items() - unknown.items()
    assert value == "z"
    assert unknown.keys() == known.keys() - {label}


# The learning curve

CURVE = replace(
    RESULT,
    rows=tuple(
        replace(ROW, ways=ways, shots=shots, classifier=name, accuracy=accuracy)
        for ways, shots, name, accuracy in (
            (2, 1, "ridge", 0.5),
            (2, 1, "ncc", 0.25),
            (2, 10, "ridge", 1.0),
            (2, 10, "ncc", 0.75),
        )
    ),
)


def test_several_shots_are_a_curve() -> None:
    curve = [("ncc", 1, 0.25), ("ncc", 10, 0.75), ("ridge", 1, 0.5), ("ridge", 10, 1.0)]
    for bar, (name, shots, share) in zip(fewshot_sheets(CURVE)[0].bars, curve, strict=True):
        assert missing(bar.group, "2-way", name) == missing(bar.label, shots) == []
        assert bar.share == share
    assert fewshot_sheets(RESULT)[0].bars == ()


def test_a_bar_is_as_long_as_its_share() -> None:
    sheet = fewshot_sheets(CURVE)[0]
    lines = shown(sheet, 100).splitlines()
    curve = [line.rstrip() for line in lines if "█" in line]
    assert [line.count("█") for line in curve] == [10, 30, 20, 40]
    for line, bar in zip(curve, sheet.bars, strict=True):
        assert line.endswith(f" {bar.label} {'█' * line.count('█')}")
    groups = [bar.group for bar in sheet.bars[::2]]
    assert [line.split("  ")[0] for line in curve] == [groups[0], "", groups[1], ""]  # each curve is named once
    before = next(number for number, line in enumerate(lines) if "█" in line)
    assert not lines[before - 1].strip()
    assert "100.00 ± 1.20" in lines[before - 2]


def test_bars_shrink_with_the_console() -> None:
    for width in (40, 30):
        lines = shown(fewshot_sheets(CURVE)[0], width).splitlines()
        lengths = [line.count("█") for line in lines if "█" in line]
        assert lengths[3] == max(lengths)
        assert lengths[2] == pytest.approx(lengths[3] / 2, abs=1)
        assert max(map(len, lines)) <= width


def test_a_name_in_a_curve_is_no_markup() -> None:
    assert VISIBLE in shown(Sheet("t", [], [], {}, bars=[Bar(NASTY, "1 shot", 0.5)]), 100)


@pytest.mark.parametrize(("terminal", "encoding"), [(False, "utf-8"), (True, "ascii")])
def test_no_bars_where_they_cannot_be_shown(terminal: bool, encoding: str) -> None:
    text = as_text(TABLE, fewshot_sheets(CURVE), width=100, is_terminal=terminal, encoding=encoding)
    assert "75.00" in text
    assert fewshot_sheets(CURVE)[0].bars[1].label not in text
    assert "█" not in text
    assert r"\u2588" not in text
    assert "█" not in to_markdown(fewshot_sheets(CURVE)[0])


# Confusions


def confused(taken: list[list[int]], together: list[list[int]], right: list[int]) -> FewShotResult:
    counts = _Counts(
        asked=torch.tensor([10, 20, 0]),
        right=torch.tensor(right),
        together=torch.tensor(together),
        taken=torch.tensor(taken),
    )
    task = {(row.ways, row.shots, row.classifier): counts for row in CURVE.rows}
    return replace(CURVE, classes=("ant", "[bee]", "cat"), counts=task)


def test_confusions_are_of_most_shots_and_the_first_classifier() -> None:
    found = confused([[0, 30, 0], [10, 0, 0], [0, 0, 0]], [[0, 100, 0], [100, 0, 0], [0, 0, 0]], [7, 19, 0])
    assert len(fewshot_sheets(found)) == 1
    _, pairs, hardest = fewshot_sheets(found, None)
    assert [missing(sheet.title, "2-way", "10-shot", "ridge") for sheet in (pairs, hardest)] == [[], []]
    assert pairs.rows == [["ant", "[bee]", "30.00"], ["[bee]", "ant", "10.00"]]
    assert hardest.rows == [["ant", "70.00", "10"], ["[bee]", "95.00", "20"]]  # no query was of a cat
    assert "[bee]" in shown(pairs)
    _, pairs, hardest = fewshot_sheets(found, 1)
    assert (pairs.rows, hardest.rows) == ([["ant", "[bee]", "30.00"]], [["ant", "70.00", "10"]])


# Comparisons


def test_comparison_has_a_column_a_set_and_differences_in_words() -> None:
    accuracies, differences = fewshot_comparison_sheets(COMPARISON)
    assert accuracies.heads[3:] == ["1: m", "2: other"]
    assert accuracies.rows == [
        ["2", "1", "ridge", "55.00 ± 1.20", "55.00 ± 1.20"],
        ["2", "1", "ncc", "61.25 ± 0.98", "61.25 ± 0.98"],
    ]
    assert missing(accuracies.facts["2"], "x", "pets") == []  # the id tells variants of one model apart
    assert fact(accuracies.facts, "10,000", 15, 7)
    assert INTERVALS["episodes"] in accuracies.reading
    assert "1: m" in differences.title
    assert missing(" ".join(differences.heads), "95%") == []
    assert differences.rows == [
        ["2", "1", "ridge", "2: other", "-1.20", "[-1.70, -0.70]", "worse", "classes"],
        ["2", "1", "ridge", "2: other", "+3.00", "[+2.00, +4.00]", "better", "samples"],
        ["2", "1", "ncc", "2: other", "+0.10", "[-0.10, +0.30]", "not told apart", "classes"],
    ]


@pytest.mark.parametrize("number", range(3))
def test_a_difference_is_also_said_in_words(number: int) -> None:
    one = COMPARISON.differences[number]
    _, sheet = fewshot_comparison_sheets(replace(COMPARISON, differences=(one,)))
    ends = [f"{abs(end) * 100:.2f}" for end in one.interval or ()]
    assert missing(sheet.reading, POPULATIONS[one.population], one.verdict, one.name, one.first, *ends) == []


def test_what_has_no_verdict_says_why() -> None:
    one = replace(DIFFERENCE, interval=None, verdict=None, reason="there are 2 classes")
    _, sheet = fewshot_comparison_sheets(replace(COMPARISON, differences=(one,)))
    assert sheet.rows[0][4:] == ["-1.20", "–", "–", "classes"]
    assert missing(sheet.reading, "there are 2 classes") == []


def test_of_three_sets_the_possible_bests_are_named() -> None:
    results = {**COMPARISON.results, "3: third": ONE_TASK}
    bests = (BESTS, replace(BESTS, classifier="ncc", population="samples", names=None, reason="no"))
    *_, sheet = fewshot_comparison_sheets(replace(COMPARISON, results=results, possible_bests=bests))
    assert sheet.rows == [
        ["2", "1", "ridge", "classes", "2: other, 1: m"],
        ["2", "1", "ncc", "samples", "–"],
    ]


def test_an_accuracy_without_an_interval_has_no_half_width() -> None:
    row = replace(ROW, ci95=None, interval="classes", undefined={"ci95": "there are 2 classes"})
    [sheet] = fewshot_sheets(replace(ONE_TASK, rows=(row,)))
    assert sheet.rows[0][1] == "55.00"
    assert missing(sheet.reading, "there are 2 classes") == []


# The probe

PROBE = ProbeResult(
    train=replace(FEATURES, id="train"),
    test=replace(FEATURES, id="[red]test", samples=1234),
    accuracy=0.9,
    ci95=(0.8512, 0.93),
    balanced_accuracy=0.8765,
    loo_accuracy=0.95,
    ridge_lambda=12.3456,
    is_at_end=False,
    classes={},
)


def test_a_probe_on_a_test_set() -> None:
    sheet = probe_sheet(PROBE)
    assert sheet.rows == []
    assert fact(sheet.facts, "[red]test", "1,234")
    assert fact(sheet.facts, "90.00", "85.12", "93.00")
    assert fact(sheet.facts, "87.65") == "87.65"
    assert fact(sheet.facts, "95.00")
    assert fact(sheet.facts, "12.35") == "12.35"
    assert "[red]test" in shown(sheet)


def test_a_probe_without_a_test_set() -> None:
    tested, alone = probe_sheet(PROBE), probe_sheet(replace(PROBE, test=None))
    gone = {tested.facts[name] for name in tested.facts.keys() - alone.facts.keys()}
    assert gone == {fact(tested.facts, "[red]test"), fact(tested.facts, "95.00")}
    assert alone.reading != tested.reading  # which says what the accuracy is of


def test_a_probe_says_that_its_penalty_is_at_the_end() -> None:
    facts = probe_sheet(replace(PROBE, is_at_end=True)).facts
    assert fact(facts, "12.35") != fact(probe_sheet(PROBE).facts, "12.35")


# Collapse


def report(values: list[list[float]], labels: str) -> CollapseReport:
    return collapse(FeatureSet.from_arrays(values, labels), device="cpu")


def test_collapse_shows_every_measure_and_how_to_read_it() -> None:
    found = report([[0.0], [2.0], [10.0], [12.0], [30.0], [32.0]], "aabbcc")
    measures, pairs, along, widest = collapse_sheets(found, every=True)
    assert [row[0] for row in measures.rows] == list(found.metrics)
    assert measures.rows[0][1] == _number(found.metrics["cdnv"])
    low, high = found.intervals["cdnv"]
    assert missing(measures.rows[0][2], _number(low), _number(high)) == []
    arrows = {"higher": "↑", "lower": "↓", None: ""}
    assert {row[0]: row[3] for row in measures.rows} == {
        name: arrows[MEASURES[name].direction] for name in found.metrics
    }
    usual = collapse_sheets(found)[0].rows
    assert [row[0] for row in usual] == [name for name, measure in MEASURES.items() if measure.is_usual]
    assert missing(measures.reading, "directional_cdnv", "100.0%", "↓", "↑") == []
    assert [row[0] for row in pairs.rows] == [row[0] for row in along.rows] == ["a / b", "b / c", "a / c"]
    assert [row[0] for row in widest.rows] == ["a", "b", "c"]


def test_what_is_not_defined_says_why_and_what_is_infinite_is_no_word() -> None:
    found = report([[1.0], [2.0], [1.0], [2.0]], "aabb")
    rows = {row[0]: row for row in collapse_sheets(found)[0].rows}
    assert rows["cdnv"][1] == "∞"
    assert rows["nc1"][1] == "–"
    assert found.undefined["nc1"] == found.undefined["equinorm"] != ""
    reading = collapse_sheets(found)[0].reading
    assert reading.count(found.undefined["nc1"]) == 1  # each reason once
    assert missing(reading, "nc1", "equinorm") == []
    assert "inf%" not in reading


def test_without_pairs_there_is_one_table() -> None:
    found = report([[0.0], [2.0], [10.0], [12.0]], "aabb")
    assert len(collapse_sheets(replace(found, pairs=()))) == 1


def test_names_of_classes_are_shown_as_they_are() -> None:
    found = report([[0.0], [2.0], [10.0], [12.0]], "aabb")
    pair = PairCollapse("[red]a", "b\x1b[31m", 1.0, 1.0, 1.0, 1.0)
    sheet = collapse_sheets(replace(found, pairs=(pair,)))[1]
    assert r"[red]a / b\x1b[31m" in shown(sheet)


def test_models_say_whether_their_weights_are_at_hand() -> None:
    short = {"aliases": ("m_base", "m_b"), "image_size": 224, "licence": "mit", "source": "x", "at_hand": "cache"}
    bare = {"aliases": (), "image_size": 518, "licence": "", "source": "", "at_hand": ""}
    models = [ModelInfo(name="m.in1k", **short), ModelInfo(name="n", **bare)]
    sheet = models_sheet(models)
    assert [row[:4] for row in sheet.rows] == [["m.in1k", "m_base, m_b", "224", "mit"], ["n", "", "518", ""]]
    here, elsewhere = (row[4] for row in sheet.rows)
    assert "cache" in here
    assert elsewhere not in ("", here)
    assert missing(sheet.reading, 2, "--model", "nctransfer models") == []


def test_an_empty_cache_says_what_to_do() -> None:
    sheet = sets_sheet([], "/cache")
    assert [*sheet.facts.values()] == ["/cache"]
    assert "nctransfer extract" in sheet.reading


def test_latex_is_a_table_with_nothing_that_latex_would_run() -> None:
    sheet = Sheet(
        "50 % of {x}", ["name", ">a_b"], [["\\input{/etc/passwd} & ~^#$", "1.0 ± 0.1"]], {"data": "p_q"}, "Read − it."
    )
    text = to_latex(sheet)
    assert text.splitlines()[0] == "% data: p_q"
    assert r"\begin{tabular}{lr}" in text
    assert r"\caption{50 \% of \{x\}. Read $-$ it.}" in text
    assert r"name & a\_b \\" in text
    row = r"\textbackslash{}input\{/etc/passwd\} \& \textasciitilde{}\textasciicircum{}\#\$ & 1.0 $\pm$ 0.1 \\"
    assert row in text.splitlines()
    assert text.count("tabular}") == 2


def test_latex_of_facts_alone_is_a_comment() -> None:
    assert to_latex(Sheet("Features", [], [], {"id": "a\nb"})) == "% Features\n% id: a\\nb\n"
