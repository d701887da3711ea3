"""Figures of collapse and of the class map: where the numbers stand, who is named, what is said of what is left out."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nctransfer as nct
from nctransfer.features.feature_set import FeatureSet
from nctransfer.figures.collapse_figure import collapse_figure
from nctransfer.figures.dendrogram_figure import dendrogram_figure
from nctransfer.figures.figure_files import save_figure
from nctransfer.figures.inline_svg import inline_svg
from nctransfer.figures.style import COLOURS, COLUMN
from nctransfer.neural_collapse.collapse_report import CollapseReport, collapse
from nctransfer.neural_collapse.comparisons import CollapseComparison, compare_layers, compare_samples, compare_sets
from nctransfer.neural_collapse.pair_matrix import PairMatrix
from terminal import done, refusal

NAMES = ["$x^2$", "猫の写真", "كلب", "a\nb", "<b>", "a very long name of a class that no figure has room for"]


def made(classes: int, samples: int = 6, names: list[str] | None = None, spread: float = 1.0) -> FeatureSet:
    """Clusters at random places."""
    rng = np.random.default_rng(classes)
    means = np.repeat(rng.normal(size=(classes, 8)) * 2, samples, axis=0)
    every = names or [f"class {code:04d}" for code in range(classes)]
    return FeatureSet.from_arrays(
        means + spread * rng.normal(size=means.shape), np.repeat(np.array(every, object), samples)
    )


def report(features: FeatureSet) -> CollapseReport:
    return collapse(features, pair_matrix=True, device="cpu")


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def ticks(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def caption(figure: Any) -> str:
    return " ".join(figure.get_supxlabel().split())


# Pairs


def test_the_matrix_has_every_pair_of_the_report() -> None:
    features = made(9)
    found = collapse(features, pairs=None, pair_matrix=True, device="cpu")
    matrix = found.pair_matrix
    assert matrix is not None
    codes = {name: code for code, name in enumerate(matrix.classes)}
    pairs = [(codes[pair.class_a], codes[pair.class_b]) for pair in found.pairs]
    assert len(pairs) == 36
    np.testing.assert_allclose([matrix.cdnv[pair] for pair in pairs], [pair.cdnv for pair in found.pairs], rtol=1e-6)
    np.testing.assert_array_equal(matrix.cdnv, matrix.cdnv.T)
    assert [tuple(sorted(pair)) for pair in matrix.closest(5)] == [tuple(sorted(pair)) for pair in pairs[:5]]


def test_nothing_else_of_a_report_changes_with_the_matrix() -> None:
    features = made(5)
    assert report(features) == collapse(features, device="cpu")
    assert report(features).to_dict() == collapse(features, device="cpu").to_dict()


def test_the_closest_pairs_are_those_of_a_full_sort() -> None:
    cdnv = np.random.default_rng(0).integers(0, 9, (30, 30)).astype(np.float32)  # with ties
    cdnv = np.maximum(cdnv, cdnv.T)
    cdnv[3, 8] = cdnv[8, 3] = np.inf
    matrix = PairMatrix(classes=tuple(map(str, range(30))), cdnv=cdnv)
    every = sorted(itertools.combinations(range(30), 2), key=lambda pair: (-cdnv[pair], pair))
    for most in (1, 7, 200, 1000):
        assert matrix.closest(most) == every[:most]


def test_the_most_interesting_classes_are_those_of_the_closest_pairs() -> None:
    cdnv = np.full((6, 6), 0.1, np.float32)
    for a, b, value in ((4, 5, 9), (1, 4, 8), (0, 2, 7), (2, 5, 6)):
        cdnv[a, b] = cdnv[b, a] = value
    matrix = PairMatrix(classes=tuple("abcdef"), cdnv=cdnv)
    assert matrix.most_interesting(2) == [4, 5]
    assert matrix.most_interesting(3) == [1, 4, 5]
    assert matrix.most_interesting(4) == [1, 2, 4, 5]  # 0 and 2 would be five classes
    assert matrix.most_interesting(6) == [0, 1, 2, 3, 4, 5]


def heat(figure: Any) -> Any:
    """The heat map, one value a cell."""
    [image] = figure.axes[0].images
    count = int(image.get_extent()[1])
    values = image.get_array()
    times = len(values) // count
    assert values.shape == (times * count, times * count)
    return values[times // 2 :: times, times // 2 :: times]


@pytest.mark.parametrize("count", [2, 3, 12])
def test_the_heat_map_has_each_pair_at_its_names(count: int) -> None:
    found = report(made(count))
    figure = collapse_figure(found)
    names = ticks(figure.axes[0].yaxis)
    assert names == ticks(figure.axes[0].xaxis)
    assert sorted(names) == sorted(found.pair_matrix.classes)  # type: ignore[union-attr]
    codes = [found.pair_matrix.classes.index(name) for name in names]  # type: ignore[union-attr]
    shown, expected = heat(figure), found.pair_matrix.cdnv[np.ix_(codes, codes)]  # type: ignore[union-attr]
    off = ~np.eye(count, dtype=bool)
    np.testing.assert_allclose(np.asarray(shown)[off], expected[off], rtol=1e-6)
    assert np.ma.getmaskarray(shown).diagonal().all()
    assert caption(figure) == f"arrays, {count} classes, {6 * count} images"


def test_similar_classes_stand_side_by_side() -> None:
    """Two groups of classes that are far from each other, their classes mixed by code."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(8, 5)) + 20 * (np.arange(8) % 2)[:, None]
    rows = np.repeat(means, 5, axis=0) + rng.normal(size=(40, 5))
    figure = collapse_figure(report(FeatureSet.from_arrays(rows, np.repeat(np.arange(8), 5))))
    groups = [int(name) % 2 for name in ticks(figure.axes[0].yaxis)]
    assert groups in ([0] * 4 + [1] * 4, [1] * 4 + [0] * 4)


def test_the_closest_pairs_are_named_with_their_numbers() -> None:
    found = collapse(made(10), pairs=12, pair_matrix=True, device="cpu")
    figure = collapse_figure(found)
    bars = figure.axes[1]
    expected = [[f"{pair.class_a} / {pair.class_b}", f"{pair.cdnv:.3g}"] for pair in found.pairs]
    assert [text.strip() for text in texts(bars)] == [text for both in expected for text in both]
    widths = [bar.get_width() for bar in bars.patches]
    np.testing.assert_allclose(widths, [pair.cdnv for pair in found.pairs], rtol=1e-6)


@pytest.mark.parametrize(("count", "named"), [(30, True), (60, True), (80, False)])
def test_names_stand_there_if_there_is_room(count: int, named: bool) -> None:
    axes = collapse_figure(report(made(count, 3))).axes[0]
    assert bool(ticks(axes.yaxis)) == named
    assert all(label.get_fontsize() > 5 for label in axes.get_yticklabels())
    assert (f"{count} classes" in axes.get_xlabel()) != named


@pytest.mark.parametrize("width", [3.4, 7.2])
@pytest.mark.parametrize("count", [12, 60, 80])
def test_the_colour_bar_is_as_wide_as_the_map(count: int, width: float) -> None:
    figure = collapse_figure(report(made(count, 3)), width=width)
    figure.draw_without_rendering()
    heat_map, bar = (figure.axes[place].get_position() for place in (0, -1))
    assert (bar.x0, bar.x1) == pytest.approx((heat_map.x0, heat_map.x1))
    assert bar.y1 < heat_map.y0


def test_of_very_many_classes_the_interesting_ones_are_drawn() -> None:
    found = report(made(151, 2))
    figure = collapse_figure(found)
    assert heat(figure).shape == (50, 50)
    assert caption(figure).endswith("Only the 50 classes in the closest pairs are in the heat map")
    closest = max(found.pairs, key=lambda pair: pair.cdnv)
    assert texts(figure.axes[1])[0] == f"{closest.class_a} / {closest.class_b}"
    assert heat(collapse_figure(report(made(150, 2)))).shape == (150, 150)


def test_the_same_mean_has_a_colour_of_its_own() -> None:
    rows = made(4).features.numpy().copy()
    rows[6:12] = rows[:6]
    found = report(FeatureSet.from_arrays(rows, np.repeat(list("abcd"), 6)))
    figure = collapse_figure(found)
    shown, names = heat(figure), ticks(figure.axes[0].yaxis)
    image = figure.axes[0].images[0]
    colours = image.cmap(image.norm(shown))
    a, b, c = map(names.index, "abc")
    orange = tuple(int(COLOURS[1][at : at + 2], 16) / 255 for at in (1, 3, 5))
    assert tuple(colours[a, b][:3]) == pytest.approx(orange)
    assert tuple(colours[a, c][:3]) != pytest.approx(orange)
    assert "same mean" in texts(figure.axes[1])[1]
    assert "same mean" in caption(figure)


@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e3])
def test_any_spread_is_drawn(spread: float, tmp_path: Path) -> None:
    save_figure(collapse_figure(report(made(4, spread=spread))), tmp_path / "a.png")


@pytest.mark.parametrize("width", [COLUMN, 7.2])
def test_any_names_are_drawn(tmp_path: Path, width: float) -> None:
    figure = collapse_figure(report(made(len(NAMES), names=NAMES)), width=width)
    save_figure(figure, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert all(name in text for name in ("$x^2$", "猫の写真", "كلب", "&lt;b&gt;", "a very long"))


def test_a_report_without_the_matrix() -> None:
    with pytest.raises(ValueError, match="pair_matrix"):
        collapse_figure(collapse(made(3), device="cpu"))


# Layers, samples, sets


@pytest.fixture(scope="module")
def layers() -> CollapseComparison:
    sets = {f"layer_{depth}": made(5, 20, spread=4 - 0.3 * depth) for depth in range(11)}
    return compare_layers(sets | {"feature": made(5, 20)}, device="cpu")


@pytest.mark.parametrize("width", [COLUMN, 7.2])
def test_layers_have_a_line_for_each_measure(layers: CollapseComparison, width: float) -> None:
    figure = collapse_figure(layers, width=width)
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    for name, label in (
        ("cdnv", "CDNV"),
        ("separation_fuzziness", "separation fuzziness"),
        ("ncc_accuracy", "ncc accuracy"),
        ("effective_rank", "effective rank"),
    ):
        expected = [found.metrics[name] for found in layers.reports.values()]
        np.testing.assert_allclose(np.asarray(lines[label].get_ydata(), float), np.asarray(expected, float))
    assert figure.axes[0].get_yscale() == "log"
    for axes in figure.axes:
        assert ticks(axes.xaxis)[0] == "0"
        assert ticks(axes.xaxis)[-1] == "out"
        assert len(ticks(axes.xaxis)) <= 8
        dotted = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
        assert dotted == [list(layers.reports).index(layers.fit["saturated"])]
    assert f"{layers.fit['rho']:.3f}" in caption(figure)
    assert "100 images" in caption(figure)
    assert "layer_0," not in caption(figure)


def test_two_layers_have_no_law() -> None:
    found = compare_layers({"layer_3": made(3), "feature": made(3, spread=0.0)}, device="cpu")
    figure = collapse_figure(found)
    figure.draw_without_rendering()
    assert "factor" not in caption(figure)
    assert ticks(figure.axes[0].xaxis) == ["3", "out"]


@pytest.mark.parametrize("width", [COLUMN, 7.2])
def test_three_samples_are_three_marks_with_ratios(width: float) -> None:
    train = made(6, 20, spread=0.5)
    rng = np.random.default_rng(1)
    labels = [train.classes[code] for code in train.labels.tolist()]
    test = FeatureSet.from_arrays(train.features.numpy() + rng.normal(size=train.features.shape), labels)
    found = compare_samples(made(4, 20, ["p", "q", "r", "s"]), train, test, device="cpu")
    figure = collapse_figure(found, width=width)
    [row] = [place for place, name in enumerate(ticks(figure.axes[0].yaxis)) if name == "CDNV ↓"]
    marks = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", "") and len(line.get_xdata())]
    there = [(line.get_color(), line.get_xdata()[0]) for line in marks if line.get_ydata()[0] == row]
    assert there == [(colour, one.cdnv) for colour, one in zip(COLOURS, found.reports.values(), strict=False)]
    ratios = [one["cdnv"] for one in found.ratios.values()]
    assert texts(figure.axes[0])[row] == "  ".join(f"×{ratio:.3g}" for ratio in ratios)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(found.reports)
    assert "4 classes, 80 images" in caption(figure)


@pytest.mark.parametrize("width", [COLUMN, 7.2])
def test_sets_are_rows_with_their_intervals(width: float) -> None:
    found = compare_sets({"$a$": made(8, 9), "b": made(5, 7), "two classes": made(2)}, device="cpu")
    figure = collapse_figure(found, width=width)
    axes = figure.axes[0]
    assert ticks(axes.yaxis) == [r"\$a\$", "b", "two classes"]
    marks = sorted(float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o")
    names = ("cdnv", "cdnv_debiased")
    values = [value for one in found.reports.values() for name in names if (value := one.metrics[name]) is not None]
    np.testing.assert_allclose(marks, sorted(values))
    bars = sorted(tuple(line.get_xdata()) for line in axes.lines if line.get_marker() != "o")
    ends = [ends for one in found.reports.values() for name in names if (ends := one.intervals.get(name))]
    assert len(ends) == 4
    np.testing.assert_allclose(bars, sorted(ends))


def test_one_backbone_or_one_data_set_is_named_in_the_caption_of_sets() -> None:
    same = made(4)
    assert caption(collapse_figure(compare_sets({"a": same, "b": same}, device="cpu"))).startswith("arrays, 4 classes")
    other = compare_sets({"a": same, "b": made(5)}, device="cpu")
    assert caption(collapse_figure(other)).startswith("Bars")


def test_values_that_leave_out_pairs_are_said_to_be_too_low() -> None:
    close = made(6, 4, spread=9.0)
    found = compare_sets({"a": close, "b": made(6, 4)}, device="cpu")
    assert found.reports["a"].left_out
    assert "too low" in caption(collapse_figure(found))
    assert "too low" not in caption(collapse_figure(compare_sets({"b": made(6, 4)}, device="cpu")))


# The class map


@pytest.mark.parametrize("count", [2, 3, 20])
def test_the_tree_joins_classes_where_the_map_says(count: int) -> None:
    found = nct.map_classes(made(count))
    axes = dendrogram_figure(found).axes[0]
    codes = [int(label.get_gid().removeprefix("class-")) for label in axes.get_yticklabels()]
    assert codes == found.order.tolist()
    assert ticks(axes.yaxis) == [found.classes[code] for code in codes]
    joins = sorted(max(x for x, _ in link) for link in axes.collections[0].get_segments())
    np.testing.assert_allclose(joins, sorted(found.linkage[:, 2]))
    leaves = sorted(y for link in axes.collections[0].get_segments() for x, y in link if x == 0)
    assert leaves == list(range(count))
    low, high = axes.get_ylim()
    assert low > count - 1  # from the top down
    assert high < 0


def test_of_very_many_classes_the_tree_has_the_interesting_ones() -> None:
    found = nct.map_classes(made(160, 3))
    figure = dendrogram_figure(found)
    codes = {int(label.get_gid().removeprefix("class-")) for label in figure.axes[0].get_yticklabels()}
    assert codes == set(found.most_interesting(50))
    assert "Only the 50 classes" in caption(figure)
    a, b = np.unravel_index(np.argmin(found.distance + np.diag([math.inf] * 160)), found.distance.shape)
    first = min(max(x for x, _ in link) for link in figure.axes[0].collections[0].get_segments())
    assert first == pytest.approx(found.distance[a, b])


def test_names_of_the_tree_belong_to_classes_of_the_page() -> None:
    found = nct.map_classes(made(len(NAMES), names=NAMES))
    text = inline_svg(dendrogram_figure(found), "tree")
    assert all(f'data-class="{code}"' in text for code in range(len(NAMES)))
    assert 'id="class' not in text


def test_classes_without_spread_have_a_tree(tmp_path: Path) -> None:
    save_figure(dendrogram_figure(nct.map_classes(made(4, spread=0.0))), tmp_path / "a.svg")


# The command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path, features = tmp_path / "features.npz", made(6)
    labels = [features.classes[code] for code in features.labels.tolist()]
    np.savez(path, feature=features.features.numpy(), label=labels)
    return path


def test_the_command_draws_and_says_the_same_as_without(file: Path, tmp_path: Path) -> None:
    plain = done("collapse", file, "--format", "json")
    drawn = done("collapse", file, "--format", "json", "--figure", tmp_path / "a.svg")
    ours, theirs = (text.stdout.split('"provenance"')[0] for text in (plain, drawn))
    assert ours == theirs
    assert "class 0003" in (tmp_path / "a.svg").read_text()


def test_the_command_draws_several_sets(file: Path, tmp_path: Path) -> None:
    done("collapse", file, file, "--figure", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


@pytest.mark.parametrize("command", ["collapse", "labels"])
def test_an_unknown_format_is_refused_before_the_work(command: str, tmp_path: Path) -> None:
    error = refusal(command, tmp_path / "not there", "--figure", tmp_path / "a.gif")
    error.expect("SettingError", tmp_path / "a.gif", hint=".svg")
