"""Results as tables, Markdown and JSON: nothing is interpreted, no number is cut."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from nctransfer import FeatureSet, collapse
from nctransfer.backbones.listing import ModelInfo
from nctransfer.cli.terminal import _print
from nctransfer.evaluation.fewshot_comparison import FewShotComparison, FewShotDifference
from nctransfer.evaluation.fewshot_results import FewShotResult, FewShotRow
from nctransfer.evaluation.linear_probe import ProbeResult
from nctransfer.evaluation.tally import Counts as _Counts
from nctransfer.intervals import Interval
from nctransfer.neural_collapse.collapse_report import CollapseReport, PairCollapse
from nctransfer.neural_collapse.registry import MEASURES
from nctransfer.report.backbone_sheets import models_sheet
from nctransfer.report.collapse_sheets import collapse_sheets
from nctransfer.report.fewshot_sheets import fewshot_comparison_sheets, fewshot_sheets, probe_sheet
from nctransfer.report.json_text import to_json
from nctransfer.report.latex import to_latex
from nctransfer.report.markdown import to_markdown
from nctransfer.report.sheet import Bar, Sheet, plain
from nctransfer.report.store_sheets import sets_sheet
from nctransfer.report.wording import format_number as _number


def shown(sheet: Sheet, width: int = 80) -> str:
    """What a terminal of this width shows, without the styles."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, highlight=False)
    _print(console, [sheet])
    return re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue())  # type: ignore[attr-defined]


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
    for number in ("-1.20 ± 0.50", "+3.00 ± 1.00", "+0.10 ± 0.20"):
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

ABOUT = {"id": "x", "model": "m", "weights": "w", "data": "pets", "split": "test", "samples": 1200, "classes": 3}
FEATURES = {**ABOUT, "layer": "feature", "path": None, "dim": 1280}
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
ONE_TASK = FewShotResult(FEATURES, (ROW, replace(ROW, classifier="ncc", accuracy=0.6125, ci95=0.0098)))
RESULT = FewShotResult(
    FEATURES,
    (
        *ONE_TASK.rows,
        replace(ROW, ways=5, accuracy=0.7, ci95=0.01),
        replace(ROW, ways=5, classifier="ncc", accuracy=0.7, ci95=0.01),
    ),
)
DIFFERENCE = FewShotDifference("2: other", "1: m", 2, 1, "ridge", -0.012, 0.005, is_real=True)
COMPARISON = FewShotComparison(
    {"1: m": ONE_TASK, "2: other": replace(ONE_TASK, features={**FEATURES, "model": "other"})},
    (
        DIFFERENCE,
        replace(DIFFERENCE, difference=0.03, ci95=0.01),
        replace(DIFFERENCE, classifier="ncc", difference=0.001, ci95=0.002, is_real=False),
    ),
)


def test_few_shot_results_have_a_row_a_task_and_a_column_a_classifier() -> None:
    [sheet] = fewshot_sheets(RESULT)
    assert sheet.heads == ["ways", "shots", "ridge ± episodes", "ncc ± episodes", "chance"]
    assert sheet.rows == [
        ["2", "1", "55.00 ± 1.20", "61.25 ± 0.98", "50.00"],
        ["5", "1", "70.00 ± 1.00", "70.00 ± 1.00", "20.00"],
    ]
    assert sheet.facts["data"] == "pets, split test: 1,200 samples, 3 classes, width 1,280"
    assert sheet.facts["task"] == "10,000 episodes, 15 queries a class, seed 7"
    for word in ("95% interval over the draw of episodes", "higher is better"):
        assert word in sheet.reading
    assert "tenth" not in sheet.reading


def test_few_shot_results_of_one_task_have_a_row_a_classifier() -> None:
    [sheet] = fewshot_sheets(ONE_TASK)
    assert sheet.heads[:4] == ["classifier", "accuracy ± episodes", "std", "lowest tenth"]
    assert [row[:4] for row in sheet.rows] == [
        ["ridge", "55.00 ± 1.20", "8.34", "40.00"],
        ["ncc", "61.25 ± 0.98", "8.34", "40.00"],
    ]
    assert sheet.facts["task"] == "2-way 1-shot, chance 50.00 %, 10,000 episodes, 15 queries a class, seed 7"
    assert "Std and lowest tenth: over episodes." in sheet.reading
    assert sheet.bars == ()


@pytest.mark.parametrize(
    ("interval", "words"),
    [("episodes", "draw of episodes"), ("classes", "draw of classes"), ("disjoint", "no two share a sample")],
)
def test_an_interval_says_of_what_it_is(interval: Interval, words: str) -> None:
    for result in (ONE_TASK, RESULT):
        [sheet] = fewshot_sheets(replace(result, rows=tuple(replace(row, interval=interval) for row in result.rows)))
        assert any(head.endswith(f" ± {interval}") for head in sheet.heads)
        assert words in sheet.reading


def test_episodes_of_tasks_may_differ_in_number() -> None:
    rows = (replace(ROW, episodes=12), replace(ROW, ways=5, episodes=7, queries="all"))
    [sheet] = fewshot_sheets(replace(RESULT, rows=rows))
    assert sheet.facts["task"].startswith("12 or 7 episodes, ")


@pytest.mark.parametrize(
    ("given", "fact", "words"),
    [
        ({"query_set": {"id": "q", "samples": 1234}}, "queries", "q (1,234 samples)"),
        ({"center_on": "c"}, "features are", "less the mean of c"),
        ({"l2_normalise": True}, "features are", "scaled to unit length"),
        ({"center_on": "c", "l2_normalise": True}, "features are", "less the mean of c, scaled to unit length"),
        ({"dropped": ["a"]}, "left out", "1 class of too few samples"),
        ({"dropped": ["a", "b"]}, "left out", "2 classes of too few samples"),
    ],
)
def test_what_was_done_to_the_features_is_a_fact(given: dict[str, Any], fact: str, words: str) -> None:
    assert fewshot_sheets(replace(RESULT, settings=given))[0].facts[fact] == words
    plain_facts = fewshot_sheets(replace(RESULT, settings={**dict.fromkeys(given), "dropped": []}))[0].facts
    assert fact not in plain_facts
    compared = replace(COMPARISON, results={name: replace(ONE_TASK, settings=given) for name in COMPARISON.results})
    assert fewshot_comparison_sheets(compared)[0].facts[fact] == words


@pytest.mark.parametrize("name", ["model", "weights"])
def test_what_is_not_known_is_not_shown(name: str) -> None:
    assert name in fewshot_sheets(RESULT)[0].facts
    assert name not in fewshot_sheets(replace(RESULT, features={**FEATURES, name: None}))[0].facts


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
    assert fewshot_sheets(CURVE)[0].bars == (
        Bar("2-way ncc", "1 shot", 0.25),
        Bar("2-way ncc", "10 shots", 0.75),
        Bar("2-way ridge", "1 shot", 0.5),
        Bar("2-way ridge", "10 shots", 1.0),
    )
    assert fewshot_sheets(RESULT)[0].bars == ()


def test_a_bar_is_as_long_as_its_share() -> None:
    lines = shown(fewshot_sheets(CURVE)[0], 100).splitlines()
    curve = [line.rstrip() for line in lines if "█" in line]
    assert curve == [
        "2-way ncc     1 shot " + "█" * 10,
        "            10 shots " + "█" * 30,
        "2-way ridge   1 shot " + "█" * 20,
        "            10 shots " + "█" * 40,
    ]
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
    buffer = io.BytesIO()
    file = io.TextIOWrapper(buffer, encoding=encoding, errors="backslashreplace")
    _print(Console(file=file, width=100, force_terminal=terminal, no_color=True), fewshot_sheets(CURVE))
    file.flush()
    text = buffer.getvalue().decode()
    assert "75.00" in text
    assert "10 shots" not in text
    assert "█" not in text
    assert r"\u2588" not in text
    assert "█" not in to_markdown(fewshot_sheets(CURVE)[0])


# Confusions


def confused(taken: list[list[int]], together: list[list[int]], right: list[int]) -> FewShotResult:
    counts = _Counts(torch.tensor([10, 20, 0]), torch.tensor(right), torch.tensor(together), torch.tensor(taken))
    task = {(row.ways, row.shots, row.classifier): counts for row in CURVE.rows}
    return replace(CURVE, classes=("ant", "[bee]", "cat"), counts=task)


def test_confusions_are_of_most_shots_and_the_first_classifier() -> None:
    found = confused([[0, 30, 0], [10, 0, 0], [0, 0, 0]], [[0, 100, 0], [100, 0, 0], [0, 0, 0]], [7, 19, 0])
    assert [sheet.title for sheet in fewshot_sheets(found)] == ["Few-shot accuracy"]
    _, pairs, hardest = fewshot_sheets(found, None)
    assert (pairs.title, hardest.title) == (
        "Most confused pairs: 2-way 10-shot, ridge",
        "Hardest classes: 2-way 10-shot, ridge",
    )
    assert pairs.heads == ["class", "taken for", "%"]
    assert pairs.rows == [["ant", "[bee]", "30.00"], ["[bee]", "ant", "10.00"]]
    assert hardest.rows == [["ant", "70.00", "10"], ["[bee]", "95.00", "20"]]  # no query was of a cat
    assert "[bee]" in shown(pairs)
    _, pairs, hardest = fewshot_sheets(found, 1)
    assert (pairs.rows, hardest.rows) == ([["ant", "[bee]", "30.00"]], [["ant", "70.00", "10"]])


# Comparisons


def test_comparison_has_a_column_a_set_and_differences_in_words() -> None:
    accuracies, differences = fewshot_comparison_sheets(COMPARISON)
    assert accuracies.heads == ["ways", "shots", "classifier", "1: m", "2: other"]
    assert accuracies.rows == [
        ["2", "1", "ridge", "55.00 ± 1.20", "55.00 ± 1.20"],
        ["2", "1", "ncc", "61.25 ± 0.98", "61.25 ± 0.98"],
    ]
    assert accuracies.facts["2"].startswith("x  pets")  # the id tells variants of one model apart
    assert "10,000 episodes" in accuracies.facts["task"]
    assert "over the draw of episodes" in accuracies.reading
    assert differences.title == "Difference to 1: m"
    assert differences.heads == ["ways", "shots", "classifier", "set", "points ± episodes", "at 95%"]
    assert differences.rows == [
        ["2", "1", "ridge", "2: other", "-1.20 ± 0.50", "worse"],
        ["2", "1", "ridge", "2: other", "+3.00 ± 1.00", "better"],
        ["2", "1", "ncc", "2: other", "+0.10 ± 0.20", "not told apart"],
    ]


# The probe

PROBE = ProbeResult(
    train={**FEATURES, "id": "train"},
    test={**FEATURES, "id": "[red]test", "samples": 1234},
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
    assert sheet.facts["test"] == "[red]test (1,234 samples)"
    assert sheet.facts["accuracy"] == "90.00  [85.12, 93.00]"
    assert sheet.facts["balanced"] == "87.65"
    assert sheet.facts["leave-one-out"] == "95.00 (of the training samples)"
    assert sheet.facts["ridge λ"] == "12.35"
    assert "on the test set" in sheet.reading
    assert "[red]test" in shown(sheet)


def test_a_probe_without_a_test_set() -> None:
    sheet = probe_sheet(replace(PROBE, test=None, is_at_end=True))
    assert {"test", "leave-one-out"}.isdisjoint(sheet.facts)
    assert sheet.facts["ridge λ"] == "12.35, at the end of what it is chosen from"
    assert "each sample left out in turn" in sheet.reading


# Collapse


def report(values: list[list[float]], labels: str) -> CollapseReport:
    return collapse(FeatureSet.from_arrays(values, labels), device="cpu")


def test_collapse_shows_every_measure_and_how_to_read_it() -> None:
    found = report([[0.0], [2.0], [10.0], [12.0], [30.0], [32.0]], "aabbcc")
    measures, pairs, along, widest = collapse_sheets(found, every=True)
    assert [row[0] for row in measures.rows] == list(found.metrics)
    assert measures.rows[0][1] == _number(found.metrics["cdnv"])
    low, high = found.intervals["cdnv"]
    assert measures.rows[0][2] == f"{_number(low)} to {_number(high)}"
    arrows = {"higher": "↑", "lower": "↓", "": ""}
    assert {row[0]: row[3] for row in measures.rows} == {
        name: arrows[MEASURES[name].collapsed] for name in found.metrics
    }
    usual = collapse_sheets(found)[0].rows
    assert [row[0] for row in usual] == [name for name, measure in MEASURES.items() if measure.is_usual]
    assert "100.0% of the samples" in measures.reading
    assert [row[0] for row in pairs.rows] == [row[0] for row in along.rows] == ["a / b", "b / c", "a / c"]
    assert [row[0] for row in widest.rows] == ["a", "b", "c"]


def test_what_is_not_defined_says_why_and_what_is_infinite_is_no_word() -> None:
    found = report([[1.0], [2.0], [1.0], [2.0]], "aabb")
    rows = {row[0]: row for row in collapse_sheets(found)[0].rows}
    assert rows["cdnv"][1] == "∞"
    assert rows["nc1"][1] == "–"
    assert "nc1, equinorm: all class means coincide." in collapse_sheets(found)[0].reading
    assert "infinite" in collapse_sheets(found)[0].reading


def test_without_pairs_there_is_one_table() -> None:
    found = report([[0.0], [2.0], [10.0], [12.0]], "aabb")
    assert len(collapse_sheets(replace(found, pairs=()))) == 1


def test_names_of_classes_are_shown_as_they_are() -> None:
    found = report([[0.0], [2.0], [10.0], [12.0]], "aabb")
    pair = PairCollapse("[red]a", "b\x1b[31m", 1.0, 1.0, 1.0, 1.0)
    sheet = collapse_sheets(replace(found, pairs=(pair,)))[1]
    assert r"[red]a / b\x1b[31m" in shown(sheet)


def test_models_say_whether_their_weights_are_at_hand() -> None:
    models = [ModelInfo("m.in1k", ("m_base", "m_b"), 224, "mit", "x", "cache"), ModelInfo("n", (), 518, "", "", "")]
    sheet = models_sheet(models)
    assert [dict(zip(sheet.heads, row, strict=True)) for row in sheet.rows] == [
        {"model": "m.in1k", "short name": "m_base, m_b", "pixels": "224", "licence": "mit", "weights": "here (cache)"},
        {"model": "n", "short name": "", "pixels": "518", "licence": "", "weights": "download"},
    ]
    assert sheet.reading.startswith("2 models.")


def test_an_empty_cache_says_what_to_do() -> None:
    sheet = sets_sheet([], "/cache")
    assert sheet.facts == {"cache": "/cache"}
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
