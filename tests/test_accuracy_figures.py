"""Figures of accuracies, expected accuracies, bounds and heads: they show the numbers, and can be read."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from sklearn.isotonic import IsotonicRegression

import nctransfer as nct
from clusters import labelled, normal_classes
from conftest import Run
from nctransfer.evaluation.expected_accuracy import ExpectedAccuracies, ExpectedAccuracy, expect
from nctransfer.evaluation.fewshot_comparison import FewShotComparison, FewShotDifference
from nctransfer.evaluation.fewshot_results import FewShotResult, FewShotRow
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.figures.axis_labels import place_of_infinity, spaced
from nctransfer.figures.bounds_figure import TOP, bounds_figure
from nctransfer.figures.expect_figure import DARK, LIGHT, MAP, contrast, expect_figure, text_colour
from nctransfer.figures.fewshot_figure import OVER, fewshot_comparison_figure, fewshot_figure
from nctransfer.figures.figure_files import save_figure
from nctransfer.figures.fit_figure import HARDEST, fit_figure
from nctransfer.figures.line_labels import spread
from nctransfer.figures.style import COLOURS, style
from nctransfer.heads.calibration import BINS, reliability_bins
from nctransfer.heads.fit_result import FitResult
from nctransfer.intervals import wilson
from nctransfer.neural_collapse.bound_table import BoundRow, BoundTable
from nctransfer.neural_collapse.bounds import Bound
from terminal import data_of, done, refusal, shows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

INFO = FeatureInfo("pets", model="resnet50", data="pets", samples=1_000, classes=20, dim=8)
ODD = [
    "$a_1$ & $\\frac{",
    "日本語のクラス",
    "_hidden",
    "",
    "a name that is far too long for any figure, and goes on and on",
]


def row(ways: int, shots: int, classifier: str = "ncc", accuracy: float | None = None, **more: Any) -> FewShotRow:
    value = 1 - (1 - 1 / ways) / (1 + shots) if accuracy is None else accuracy
    settings: dict[str, Any] = {"ci95": 0.02, "interval": "episodes", **more}
    return FewShotRow(
        ways=ways,
        shots=shots,
        queries=15,
        episodes=100,
        classifier=classifier,
        seed=0,
        accuracy=value,
        std=0.1,
        lowest_decile=0.1,
        seconds=0.1,
        **settings,
    )


def few_shot(rows: Sequence[FewShotRow]) -> FewShotResult:
    return FewShotResult(features=INFO, rows=tuple(rows))


def bound(value: float | None, chance: float) -> dict[str, Any]:
    return Bound(value, None, chance).to_dict()


# What is in a figure


def lines(axes: Axes, colour: str | None = None) -> list[Line2D]:
    return [line for line in axes.get_lines() if colour is None or to_hex(line.get_color()) == colour]


def points(line: Line2D) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def caption(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def legend(figure: Figure) -> dict[str, Any]:
    return {
        text.get_text().strip(): handle
        for one in figure.legends
        for text, handle in zip(one.get_texts(), one.legend_handles, strict=True)
    }


def visible_texts(figure: Figure) -> Iterator[tuple[str, Any]]:
    """All texts of a figure with their boxes in pixels, as they are drawn."""
    from matplotlib.text import Text

    with style():
        figure.draw_without_rendering()
        renderer = FigureCanvasAgg(figure).get_renderer()
        for text in figure.findobj(Text):
            if text.get_visible() and text.get_text().strip() and _is_shown(text):
                yield text.get_text(), text.get_window_extent(renderer)


def _is_shown(text: Any) -> bool:
    """Whether a text is no number beyond the ends of its axis."""
    for axis in (text.axes.xaxis, text.axes.yaxis) if text.axes is not None else ():
        if any(text is tick.label1 for tick in axis.majorTicks):
            return any(text is tick.label1 for tick in axis._update_ticks())
    return True


def covered(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that cover each other."""
    found = []
    for (one, a), (other, b) in itertools.combinations(visible_texts(figure), 2):
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        if wide > 1 and high > 1:
            found.append((one, other))
    return found


# Few-shot accuracies


def test_curves_bands_and_theory_are_those_of_the_result() -> None:
    shots = [1, 2, 5, 10]
    margins = {1: None, 2: 0.75, 5: 0.5, 10: 0.3}  # chance is 0.8
    rows = [
        *(
            row(5, m, expected_accuracy=0.5 + m / 30, bounds={"margin": bound(margins[m], 0.8), "x": bound(7, 0.8)})
            for m in shots
        ),
        *(row(5, m, "ridge", ci95=None if m == 2 else 0.03) for m in shots),
    ]
    figure = fewshot_figure(few_shot(rows))
    [axes] = figure.axes
    found = legend(figure)
    floor_name = "ncc is at least this, by the margin bound"
    assert list(found) == ["ncc", "ncc, expected by theory", "ridge", floor_name]
    ncc, expected, ridge, floor = axes.get_lines()[:4]
    assert points(ncc) == [(m, one.accuracy) for m, one in zip(shots, rows, strict=False)]
    assert points(ridge) == [(m, one.accuracy) for m, one in zip(shots, rows[4:], strict=True)]
    assert points(expected) == [(m, 0.5 + m / 30) for m in shots]
    assert points(floor) == [(5, 0.5), (10, 0.7)]
    assert shows(caption(figure), "Chance is 20%", "margin bound", "25%", "with 2 shots")
    assert ncc.get_color() != ridge.get_color()
    first, second = (band.get_paths() for band in axes.collections)
    ends = {(round(x), round(y, 9)) for x, y in first[0].vertices}
    assert ends == {(m, round(r.accuracy + s * 0.02, 9)) for m, r in zip(shots, rows, strict=False) for s in (-1, 1)}
    assert 2 not in {round(x) for path in second for x, _ in path.vertices}
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "5", "10"]
    assert shows(caption(figure), "resnet50", "pets", "20 classes", "1,000 images", OVER["episodes"])


def test_the_caption_says_what_was_done_with_the_features() -> None:
    plain = few_shot([row(5, m) for m in (1, 5)])
    task = FewShotTask(ways=5, shots=(1, 5), l2_normalise=True)
    other = FeatureInfo("dogs", data="dogs", samples=77)
    changed = replace(plain, query_set=other, center_on="birds", task=task)
    assert shows(caption(fewshot_figure(changed)), "Queries: dogs, 77 images", "mean of birds", "unit length")
    assert "mean of" not in caption(fewshot_figure(plain))


@pytest.mark.parametrize("population", list(OVER))
def test_the_caption_says_what_an_interval_is_over(population: Any) -> None:
    said = caption(fewshot_figure(few_shot([row(5, m, interval=population) for m in (1, 5)])))
    assert "Bands: 95% intervals " + OVER[population] in said


def test_a_missing_interval_is_explained() -> None:
    rows = [row(5, m, ci95=None, undefined={"ci95": "one class only"}) for m in (1, 5)]
    said = caption(fewshot_figure(few_shot(rows)))
    assert shows(said, "No interval: one class only")
    assert "Bands" not in said


def test_one_task_is_dots_with_bars_and_numbers() -> None:
    names = ["ridge", "ncc", "cosine"]
    rows = [row(5, 1, name, 0.5 + 0.1 * place) for place, name in enumerate(names)]
    figure = fewshot_figure(few_shot(rows))
    [axes] = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == names
    assert [text.get_text() for text in axes.texts] == ["50.00%", "60.00%", "70.00%"]
    for place, one in enumerate(rows):
        dot, bar = lines(axes, COLOURS[place])
        assert points(dot) == [(one.accuracy, place)]
        assert points(bar) == pytest.approx(np.array([(one.accuracy - 0.02, place), (one.accuracy + 0.02, place)]))
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first name is at the top
    assert "Bars: 95% intervals" in caption(figure)
    assert figure.get_suptitle() == "5-way 1-shot accuracy"


def test_one_number_of_shots_runs_over_ways() -> None:
    accuracies = {2: 0.9, 5: 0.6, 20: 0.2}
    rows = [row(ways, 1, name, accuracies[ways]) for ways in (20, 2, 5) for name in ("ncc", "ridge")]
    figure = fewshot_figure(few_shot(rows))
    [axes] = figure.axes
    assert points(axes.get_lines()[0]) == list(accuracies.items())
    assert points(axes.get_lines()[2]) == [(ways, 1 / ways) for ways in (2, 5, 20)]
    assert "ways" in axes.get_xlabel()
    assert figure.get_suptitle() == "1-shot accuracy"


@pytest.mark.parametrize("count", [2, 4, 9])
def test_several_ways_are_panels_of_one_range(count: int) -> None:
    ways = list(range(2, 2 + count))
    figure = fewshot_figure(few_shot([row(w, m) for w in ways for m in (1, 5)]))
    assert [axes.get_title("left") or axes.get_title() for axes in figure.axes] == [f"{w}-way" for w in ways[:6]]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert len(figure.legends) == 1
    assert ("6 of 9 panels" in caption(figure)) == (count == 9)
    for w, axes in zip(ways, figure.axes, strict=False):
        assert points(axes.get_lines()[0]) == [(m, row(w, m).accuracy) for m in (1, 5)]


def test_what_is_far_below_is_said_and_not_drawn() -> None:
    bounds = {"margin": bound(0.7, 0.8)}
    figure = fewshot_figure(few_shot([row(5, 1, "ncc", 0.97, bounds=bounds), row(5, 1, "ridge", 0.98)]))
    [axes] = figure.axes
    assert shows(caption(figure), "Chance is 20%", "margin", "at least 30%")
    assert not figure.legends
    assert axes.get_xlim()[0] > 0.9


@pytest.mark.parametrize("errors", [(0.7, 0.5, 0.25), (0.25, 0.2, 0.15), (0.7, 0.7, 0.7)])
def test_curves_have_most_of_the_height_and_low_bounds_are_said(errors: Sequence[float]) -> None:
    rows = [
        row(5, m, "ncc", accuracy, bounds={"margin_per_query": bound(error, 0.8)})
        for m, accuracy, error in zip((1, 5, 10), (0.8, 0.9, 0.95), errors, strict=True)
    ]
    figure = fewshot_figure(few_shot(rows))
    [axes] = figure.axes
    bottom, top = axes.get_ylim()
    assert 0.6 * (top - bottom) < 0.97 - 0.78
    floors = [1 - error for error in errors]
    drawn = [y for line in axes.get_lines() if line.get_marker() == ">" for _, y in points(line)]
    assert drawn == [floor for floor in floors if floor > bottom]
    low = [floor for floor in floors if floor not in drawn]
    assert ("margin bound per query" in caption(figure)) == bool(low)
    assert shows(caption(figure), *(f"{100 * floor:.3g}%" for floor in (low[:1] + low[-1:])))


def test_a_bound_of_another_name_keeps_it() -> None:
    figure = fewshot_figure(few_shot([row(5, m, "ncc", 0.9, bounds={"mine": bound(0.11, 0.8)}) for m in (1, 5)]))
    assert "ncc is at least this, by the bound mine" in legend(figure)


# Comparisons


def comparison(verdicts: dict[str, Sequence[str | None]], shots: Sequence[int], classifiers: Sequence[str]) -> Any:
    """Sets with these verdicts at each number of shots; the first set has none."""
    first, *others = verdicts
    results = {
        name: few_shot([row(5, m, c, 0.6 + place / 20 + m / 100) for m in shots for c in classifiers])
        for place, name in enumerate(verdicts)
    }
    differences = tuple(
        FewShotDifference(
            name=name,
            first=first,
            ways=5,
            shots=m,
            classifier=classifier,
            difference=0.1,
            interval=None if verdict is None else (0.05, 0.15),
            population="classes",
            verdict=verdict,  # type: ignore[arg-type]
            reason="three classes are too few" if verdict is None else None,
        )
        for name in others
        for m, verdict in zip(shots, verdicts[name], strict=True)
        for classifier in classifiers
    )
    return FewShotComparison(results=results, differences=differences, possible_bests=())


def test_sets_have_their_colours_and_verdicts_in_words() -> None:
    found = comparison({"a": [], "b": ["worse", "not told apart"], "c": ["better"] * 2}, [1, 5], ["ncc", "ridge"])
    figure = fewshot_comparison_figure(found)
    assert [axes.get_title("left") for axes in figure.axes] == ["ncc", "ridge"]
    for axes in figure.axes:
        names = [" ".join(text.get_text().split()) for text in axes.get_legend().get_texts()]
        assert names == ["a", "b: worse at 1, not told apart at 5 shots", "c: better"]
        for place, name in enumerate(found.results):
            [line] = lines(axes, COLOURS[place])
            assert points(line) == [(m, 0.6 + place / 20 + m / 100) for m in (1, 5)], name
    said = caption(figure)
    assert shows(said, "compared with a", OVER["classes"])
    assert "resnet50" not in said  # each set has its own backbone


def test_sets_on_one_task_are_dots_and_verdicts_stand_by_their_names() -> None:
    figure = fewshot_comparison_figure(comparison({"a": [], "b": ["better"], "c": [None]}, [1], ["ncc"]))
    [axes] = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b: better", "c: no verdict"]
    assert shows(caption(figure), "No verdict: three classes are too few")


def test_more_sets_than_colours_have_other_marks() -> None:
    verdicts: dict[str, Sequence[str | None]] = {f"set {place}": ["worse"] * 2 for place in range(9)}
    [axes] = fewshot_comparison_figure(comparison(verdicts, [1, 5], ["ncc"])).axes
    looks = [(line.get_color(), line.get_marker()) for line in axes.get_lines()[:9]]
    assert len(set(looks)) == 9


# Expected accuracies


def surface(ways: Sequence[int], shots: Sequence[int], classifier: str = "ncc", **more: Any) -> ExpectedAccuracies:
    rows = [
        ExpectedAccuracy(
            ways=w,
            shots=m,
            classifier=classifier,
            method="resampled",
            accuracy=1 - 0.6 * (1 - 1 / w) / math.sqrt(m),
            queries=100,
            **{"ci95": 0.0 if m == 1 else 0.0123, "exact": m == 1} | more,
        )
        for m in shots
        for w in ways
    ]
    return ExpectedAccuracies(features=INFO, rows=tuple(rows), seconds=0.1)


def test_cells_have_their_accuracy_and_its_error() -> None:
    found = surface((2, 5, 20), (1, 5))
    [axes] = expect_figure(found).axes
    texts: dict[tuple[int, int], list[str]] = {}
    for text in axes.texts:
        x, y = text.xy  # type: ignore[attr-defined]
        texts.setdefault((int(y), int(x)), []).append(text.get_text())
    for one in found.rows:
        place = (2, 5, 20).index(one.ways), (1, 5).index(one.shots)
        assert texts.pop(place) == [f"{100 * one.accuracy:.1f}", "exact" if one.exact else "± 1.23"]
    assert not texts
    [mesh] = axes.collections
    accuracies = {(one.ways, one.shots): one.accuracy for one in found.rows}
    assert np.asarray(mesh.get_array()).tolist() == [[accuracies[w, m] for m in (1, 5)] for w in (2, 5, 20)]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "5"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["2", "5", "20"]


def test_small_cells_say_less_and_tiny_ones_have_a_scale() -> None:
    many = expect_figure(surface(range(2, 6), range(1, 22)))
    assert all("±" not in text.get_text() for text in many.axes[0].texts)
    assert len(many.axes[0].texts) == 4 * 21
    assert shows(caption(many), "at most ± 1.23")
    tiny = expect_figure(surface(range(2, 4), range(1, 40)))
    assert not tiny.axes[0].texts
    assert len(tiny.axes) == 2
    assert "accuracy" in tiny.axes[1].get_ylabel()


def test_classifiers_are_panels_with_the_same_colours() -> None:
    figure = expect_figure(*(surface((2, 5), (1, 5, 10), name) for name in ("ncc", "cosine")))
    assert [axes.get_title("left") for axes in figure.axes] == ["ncc", "cosine"]
    assert len({axes.collections[0].get_clim() for axes in figure.axes}) == 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_cell_of_any_value(value: float) -> None:
    one = surface((5,), (5,))
    [axes] = expect_figure(replace(one, rows=(replace(one.rows[0], accuracy=value),))).axes
    assert axes.texts[0].get_text() == f"{100 * value:.1f}"


def test_the_text_of_a_cell_can_be_read_on_every_colour() -> None:
    for share in np.linspace(0, 1, 256):
        background = colormaps[MAP](share)[:3]
        assert contrast(to_rgb(text_colour(background)), background) >= 4.5
        assert len({to_hex(background)[i : i + 2] for i in (1, 3, 5)}) > 1  # no grey, which pages recolour
    for colour in (LIGHT, DARK):
        assert len({colour[1:3], colour[3:5], colour[5:7]}) > 1


def test_contrast_of_known_colours() -> None:
    assert contrast(to_rgb("#767676"), (1, 1, 1)) == pytest.approx(4.54, abs=0.005)  # the lightest grey that passes
    assert contrast(to_rgb("#ff0000"), (1, 1, 1)) == pytest.approx(4.0, abs=0.005)


# Bounds

CURVES: dict[str, list[float | None]] = {
    "galanti2022": [500.0, 400.0, 300.0],
    "luthra2026": [math.inf, 20.0, 0.4],
    "margin": [1.2, 0.7, 0.41],
    "margin_per_query": [0.6, 0.3, 0.05],
    "none": [None, None, None],
}
SHOTS = (1.0, 10.0, math.inf)


def bound_table(ways: Sequence[int] = (5,), curves: dict[str, list[float | None]] = CURVES) -> BoundTable:
    rows = [
        BoundRow(
            ways=w,
            shots=m,
            bounds={
                name: Bound(values[place], "these are not told apart" if values[place] is None else None, 1 - 1 / w)
                for name, values in curves.items()
            },
            new_classes_term=0.3,
        )
        for w in ways
        for place, m in enumerate(SHOTS)
    ]
    return BoundTable(features=INFO, rows=tuple(rows), images_per_class=(20, 50), unresolved=0)


def test_bounds_are_lines_and_infinity_is_the_last_place() -> None:
    figure = bounds_figure(bound_table(), surface((5, 20), (1, 10)))
    [axes] = figure.axes
    end = place_of_infinity([1, 10])
    marks = {line.get_color(): points(line) for line in axes.get_lines() if line.get_marker() not in ("None", "o")}
    assert marks[COLOURS[2]] == [(1, 1.2), (10, 0.7), (end, 0.41)]
    assert marks[COLOURS[1]] == [(1, 0.6), (10, 0.3), (end, 0.05)]
    assert marks[COLOURS[3]][1:] == [(10, 20.0), (end, 0.4)]
    assert COLOURS[4] not in marks
    ticks = dict(zip([text.get_text() for text in axes.get_xticklabels()], axes.get_xticks(), strict=True))
    assert ticks == {"1": 1, "10": 10, "∞": end}
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[1] <= TOP
    [dots] = [line for line in axes.get_lines() if line.get_color() == "black"]
    expected = {one.shots: 1 - one.accuracy for one in surface((5,), (1, 10)).rows}
    assert points(dots) == list(expected.items())
    assert list(legend(figure)) == ["mean error of ncc over all episodes"]
    said = caption(figure)
    assert shows(said, "a random answer: Galanti et al. 2022", "none (these are not told apart)", "20 to 50 per class")
    assert {text.get_text() for text in axes.texts} == {"Luthra et al. 2026", "margin bound", "margin bound per query"}


def test_zones_begin_at_chance_and_at_one() -> None:
    for axes, ways in zip(bounds_figure(bound_table((2, 5))).axes, (2, 5), strict=True):
        zones = [(patch.get_y(), patch.get_y() + patch.get_height()) for patch in axes.patches]  # type: ignore[attr-defined]
        assert zones == [(1 - 1 / ways, TOP)]
        assert axes.get_ylim()[1] == TOP == 1


def test_names_stand_at_the_ends_of_lines_without_covering_each_other() -> None:
    close: dict[str, list[float | None]] = {f"bound {place}": [0.5, 0.3, 0.2 + place / 1000] for place in range(7)}
    figure = bounds_figure(bound_table(curves=close))
    assert {text.get_text() for text in figure.axes[0].texts} == set(close)
    assert covered(figure) == []
    heights = {text: box.y0 for text, box in visible_texts(figure) if text in close}
    assert sorted(heights, key=lambda name: heights[name]) == list(close)


def test_several_ways_have_panels_and_one_legend() -> None:
    figure = bounds_figure(bound_table((2, 5, 10, 20, 30, 40, 50)))
    assert [axes.get_title("left") for axes in figure.axes] == [f"{w}-way" for w in (2, 5, 10, 20, 30, 40)]
    assert set(legend(figure)) == {"Luthra et al. 2026", "margin bound", "margin bound per query"}
    assert "6 of 7 panels" in caption(figure)


@pytest.mark.parametrize("value", [None, 0.0, math.inf, 1e-9])
def test_bounds_of_any_value(value: float | None) -> None:
    bounds_figure(bound_table(curves={"a": [value] * 3, "b": [value, 0.5, value]})).draw_without_rendering()


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12), st.floats(0, 10))
def test_spread_is_isotonic_regression(values: list[float], gap: float) -> None:
    found = np.array(spread(values, gap))
    order = np.argsort(values, kind="stable")
    ranks = np.arange(len(values))
    oracle = IsotonicRegression().fit_transform(ranks, np.array(values)[order] - gap * ranks) + gap * ranks
    assert found[order] == pytest.approx(oracle, abs=1e-6)


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=30, unique=True))
def test_labelled_places_are_apart_and_have_the_last(places: list[int]) -> None:
    places = sorted(places)
    kept = spaced(places)
    assert kept[-1] == places[-1]
    assert set(kept) <= set(places)
    span = math.log(places[-1] / places[0])
    assert all(math.log(b / a) >= 0.04 * span - 1e-9 for a, b in itertools.pairwise(kept))


# Heads


@pytest.fixture(scope="module")
def fitted() -> FitResult:
    rows, labels = labelled(normal_classes([12] * 24, d=12, apart=0.9))
    return nct.fit(FeatureSet.from_arrays(rows.astype(np.float32), labels), "ncc", device="cpu")


def test_the_reliability_diagram_has_the_calibration_error_of_the_promise(fitted: FitResult) -> None:
    left, _ = fit_figure(fitted).axes
    [dots] = [line for line in left.get_lines() if line.get_marker() == "o"]
    x, y = np.asarray(dots.get_xydata()).T
    assert len(x) == BINS
    order = fitted.head.held_out.probability.numpy().argsort(kind="stable")
    groups = np.array_split(order, BINS)
    sizes = np.array([len(group) for group in groups])
    assert (np.abs(x - y) * sizes).sum() / sizes.sum() == pytest.approx(fitted.head.promise.calibration_error, abs=1e-5)
    assert y == pytest.approx([float(fitted.head.held_out.right.numpy()[group].mean()) for group in groups])
    bars = [points(line) for line in left.get_lines() if line.get_marker() == "None"][: len(x)]
    for share, size, bar in zip(y, sizes, bars, strict=True):
        low, high = wilson(torch.tensor(share * size), torch.tensor(float(size)))
        assert [end for _, end in bar] == pytest.approx([max(0, float(low)), min(1, float(high))], abs=1e-6)
    said = left.texts[0].get_text()
    promise = fitted.head.promise
    numbers = promise.calibration_error, fitted.calibration_noise, promise.calibration_error_before
    assert shows(said, *(f"{100 * number:.1f}" for number in numbers))


def test_the_hardest_classes_are_dots_with_their_intervals(fitted: FitResult) -> None:
    _, right = fit_figure(fitted).axes
    hardest = fitted.classes[:HARDEST]
    assert len(fitted.classes) > HARDEST
    assert [text.get_text() for text in right.get_yticklabels()] == [one.name for one in hardest]
    assert [text.get_text() for text in right.texts] == [f"{one.right} of {one.images}" for one in hardest]
    [dots] = [line for line in right.get_lines() if line.get_marker() == "o"]
    assert points(dots) == [(one.accuracy, place) for place, one in enumerate(hardest)]
    for place, (one, line) in enumerate(zip(hardest, right.get_lines(), strict=False)):
        assert points(line) == [(end, place) for end in one.interval]
    codes = [fitted.head.classes.index(one.name) for one in hardest]
    assert [text.get_gid() for text in right.get_yticklabels()] == [f"class-{code}" for code in codes]
    assert shows(right.get_title("left"), HARDEST, len(fitted.classes))


def test_the_title_is_the_promise(fitted: FitResult) -> None:
    promise = fitted.head.promise
    title = fit_figure(fitted).get_suptitle()
    assert shows(title, "ncc", f"{promise.accuracy:.1%}", *(f"{100 * end:.1f}" for end in promise.interval))


def test_few_images_have_fewer_bins() -> None:
    right = torch.tensor([True, False, True, True])
    bins = reliability_bins(torch.tensor([0.9, 0.5, 0.7, 1.0]), right)
    assert [(round(one.probability, 6), one.accuracy, one.images) for one in bins] == [
        (0.5, 0.0, 1),
        (0.7, 1.0, 1),
        (0.9, 1.0, 1),
        (1.0, 1.0, 1),
    ]


def test_a_head_without_mistakes_and_with_few_classes() -> None:
    rows, labels = labelled(normal_classes([5, 6], d=4, apart=40))
    figure = fit_figure(nct.fit(FeatureSet.from_arrays(rows.astype(np.float32), labels), "ncc", device="cpu"))
    assert covered(figure) == []
    assert "All classes" in figure.axes[1].get_title("left")


# All figures


def with_names(found: FitResult, names: Sequence[str]) -> FitResult:
    """The result with other names of its hardest classes."""
    new = {one.name: names[place] if place < len(names) else one.name for place, one in enumerate(found.classes)}
    linear = replace(found.head.linear, classes=tuple(new[name] for name in found.head.classes))
    classes = tuple(replace(one, name=new[one.name]) for one in found.classes)
    return replace(found, head=replace(found.head, linear=linear), classes=classes)


def figures(fitted: FitResult) -> dict[str, Figure]:
    verdicts: dict[str, Sequence[str | None]] = {name: ["worse", "not told apart", "better"] for name in ODD}
    single: dict[str, Sequence[str | None]] = {name: ["not told apart"] for name in ODD}
    bounds = {"margin": bound(0.4, 0.8), "margin_per_query": bound(0.3, 0.8)}
    rows = [row(w, m, c, bounds=bounds) for w in (2, 5, 20) for m in (1, 19, 20) for c in ("ncc", "ridge")]
    return {
        "fewshot": fewshot_figure(few_shot(rows)),
        "fewshot of one task": fewshot_figure(few_shot([one for one in rows if one.ways == 5 and one.shots == 1])),
        "comparison": fewshot_comparison_figure(comparison(verdicts, [1, 5, 20], ["ncc", "ridge", "cosine"])),
        "comparison on one task": fewshot_comparison_figure(comparison(single, [1], ["ncc", "ridge"])),
        "expect": expect_figure(surface((2, 5, 20), (1, 2, 5, 10, 50))),
        "expect of one number of ways": expect_figure(surface((5,), (1, 5))),
        "bounds of ways": bounds_figure(bound_table((2, 5, 10))),
        "fit": fit_figure(with_names(fitted, ODD)),
    }


def test_no_text_covers_another_and_names_are_shown_as_they_are(fitted: FitResult, tmp_path: Path) -> None:
    for name, figure in figures(fitted).items():
        assert (name, covered(figure)) == (name, [])
        if name in ("comparison", "comparison on one task", "fit"):
            save_figure(figure, tmp_path / "odd.svg")
            text = (tmp_path / "odd.svg").read_text(encoding="utf-8")
            assert all(part in text for part in ("$a_1$ &amp; $\\frac{", "日本語のクラス", "_hidden", "…"))


@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        (".svg", lambda: fewshot_figure(few_shot([row(5, m) for m in (1, 5)]))),
        (".png", lambda: expect_figure(surface((2, 5), (1, 5)))),
        (".pdf", lambda: bounds_figure(bound_table(curves={"margin": [1.2, 0.7, 0.4]}))),
    ],
)
def test_the_same_result_is_the_same_file(tmp_path: Path, suffix: str, make: Callable[[], Figure]) -> None:
    for name in ("one", "two"):
        save_figure(make(), tmp_path / f"{name}{suffix}")
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "two"))
    assert first == second
    assert len(first) > 1_000


# The command line


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "made.npz"
    rows, labels = labelled(normal_classes([20, 25, 20, 20], d=8, apart=1.5))
    np.savez(path, features=rows.astype(np.float32), labels=labels)
    return path


COMMANDS = {
    "fewshot": ("--ways", "2", "--shots", "1,5", "--queries", "5", "--episodes", "30"),
    "expect": ("--ways", "2,4", "--shots", "1,5"),
    "bounds": ("--ways", "2", "--shots", "1,10,inf"),
    "fit": ("-c", "ncc", "--no-more-labels"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_draws_its_figure_and_says_the_same(command: str, file: Path, tmp_path: Path) -> None:
    options = COMMANDS[command]
    drawn = data_of(command, file, *options, "--figure", tmp_path / "a.svg")
    plain = data_of(command, file, *options)
    for found in (drawn, plain):
        found.pop("provenance")
    assert _timeless(drawn) == _timeless(plain)
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").startswith("<?xml")


def _timeless(found: Any) -> Any:
    return json.loads(
        json.dumps(found), object_hook=lambda one: {key: value for key, value in one.items() if key != "seconds"}
    )


def test_two_sets_are_drawn_as_a_comparison(file: Path, tmp_path: Path) -> None:
    done("fewshot", file, file, *COMMANDS["fewshot"], "--figure", tmp_path / "a.svg")
    assert "compared with" in " ".join((tmp_path / "a.svg").read_text(encoding="utf-8").split())


def test_the_figure_of_bounds_has_the_mean_errors_where_there_are_images(file: Path, tmp_path: Path) -> None:
    done("bounds", file, *COMMANDS["bounds"], "--figure", tmp_path / "a.svg")
    assert "mean error of ncc" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    done("bounds", file, "--ways", "2", "--shots", "100,inf", "--figure", tmp_path / "b.svg")
    assert "mean error of ncc" not in (tmp_path / "b.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_figure_is_refused_before_the_work(command: str, tmp_path: Path) -> None:
    missing = ("--data", tmp_path / "no images here")
    refusal(command, *missing, "--figure", "x.txt").expect("SettingError", "x.txt", hint=(".svg", ".png", ".pdf"))
    refusal(command, *missing, "--figure", tmp_path / "no" / "x.svg").expect("NCTransferError", hint="--figure")


def test_a_probe_has_no_figure(file: Path) -> None:
    refusal("fewshot", file, "--probe", "--figure", "x.svg").expect("SettingError", "--figure", hint="--probe")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_draw_in_a_process_of_their_own(command: str, file: Path, tmp_path: Path, run: Run) -> None:
    result = run(command, file, *COMMANDS[command], "--figure", tmp_path / "a.pdf")
    assert (result.returncode, "warning" in result.stderr.lower()) == (0, False), result.stderr
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_expected_accuracies_of_real_features_are_drawn() -> None:
    rows, labels = labelled(normal_classes([10] * 3, d=6, apart=1.0))
    found = expect(FeatureSet.from_arrays(rows.astype(np.float32), labels), (2, 3), (1, 5), device="cpu")
    [axes] = expect_figure(found).axes
    shown = {text.get_text() for text in axes.texts}
    assert {f"{100 * one.accuracy:.1f}" for one in found.rows} <= shown
