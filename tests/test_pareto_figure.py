"""The figure of a ranking: what each mark looks like, the front, and names that do not cover each other."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from clusters import normal_classes
from nctransfer.evaluation.all_ways import AllWaysTask
from nctransfer.features.feature_set import FeatureSet
from nctransfer.figures.figure_files import save_figure
from nctransfer.figures.label_places import Box
from nctransfer.figures.pareto_figure import WORDS, Mark, pareto_figure
from nctransfer.figures.rank_figure import rank_figure
from nctransfer.figures.style import COLOURS
from nctransfer.rank.pareto import pareto_front
from nctransfer.rank.running import rank_sets
from nctransfer.store.measured_speed import Speed, SpeedConditions

MARKS: list[Mark] = ["possible best", "possible best", "not best", "not best", "control"]
NAMES = ["vit_small", "resnet50", "mobilenet", "lite0", "pixels 16×16"]
ACCURACIES = [0.9, 0.89, 0.8, 0.7, 0.3]
SPEEDS: list[float | None] = [10.0, 60.0, 50.0, 90.0, 4000.0]


def draw(speeds: Sequence[float | None] = SPEEDS, names: Sequence[str] = NAMES, **options: Any) -> Any:
    ends = [(one - 0.02, one + 0.01) for one in ACCURACIES]
    front = pareto_front(ACCURACIES, speeds)
    return pareto_figure(names, ACCURACIES, ends, speeds, MARKS, front, **options)


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def points(figure: Any) -> dict[str, Any]:
    """The markers by what the legend says."""
    return {one.get_label(): one.lines[0] for one in figure.axes[0].containers}


def front(figure: Any) -> list[tuple[float, float]]:
    [line] = [line for line in figure.axes[0].get_lines() if line.get_label() == "Pareto front"]
    return [tuple(map(float, point)) for point in line.get_xydata()]


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_the_same_ranking_is_the_same_file(tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{number}.{suffix}" for number in range(2)]
    for path in paths:
        save_figure(draw(title="Pets"), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    if suffix == "svg":
        text = html.unescape(paths[0].read_text())
        assert all(word in text for word in (*NAMES, "Pets", "images per second", "90%"))


def test_possible_bests_are_filled_and_controls_are_grey() -> None:
    found = points(draw())
    assert found.keys() == set(WORDS.values())
    fills = {name: to_hex(line.get_markerfacecolor()) for name, line in found.items()}
    assert fills == {"may be the best": COLOURS[0], "is not the best": "#ffffff", "control": "#ffffff"}
    red, green, blue = (to_hex(found["control"].get_color())[at : at + 2] for at in (1, 3, 5))
    assert red == green == blue
    assert to_hex(found["is not the best"].get_color()) == COLOURS[0]


def test_points_and_intervals_are_where_the_numbers_say() -> None:
    figure = draw()
    at = [tuple(point) for line in points(figure).values() for point in line.get_xydata().tolist()]
    assert sorted(at) == sorted(zip(SPEEDS, ACCURACIES, strict=True))
    bars = [bar for one in figure.axes[0].containers for bar in one.lines[2][0].get_segments()]
    ends = sorted((float(low[1]), float(high[1])) for low, high in bars)
    np.testing.assert_allclose(ends, sorted((one - 0.02, one + 0.01) for one in ACCURACIES))
    assert figure.axes[0].get_xscale() == "log"


def test_the_line_joins_the_front() -> None:
    assert front(draw()) == [(10, 0.9), (60, 0.89), (90, 0.7), (4000, 0.3)]


def test_candidates_without_a_speed_are_named_below() -> None:
    figure = draw([10.0, None, float("nan"), 0.0, 4000.0])
    assert sorted(texts(figure)) == ["pixels 16×16", "vit_small"]
    note = " ".join(figure.get_supxlabel().split())
    assert note.endswith("resnet50, mobilenet, lite0")


def test_without_speeds_candidates_stand_side_by_side() -> None:
    figure = draw([None] * 5)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == NAMES
    assert axes.get_xscale() == "linear"
    assert "No speed" in figure.get_supxlabel()
    assert len([point for line in points(figure).values() for point in line.get_xydata()]) == 5


@pytest.mark.parametrize("count", [0, 1])
def test_few_candidates(count: int, tmp_path: Path) -> None:
    figure = pareto_figure(
        NAMES[:count], ACCURACIES[:count], [None] * count, SPEEDS[:count], MARKS[:count], [True] * count
    )
    save_figure(figure, tmp_path / "few.png")
    assert texts(figure) == NAMES[:count]


def test_equal_speeds_leave_an_axis_with_numbers() -> None:
    figure = draw([20.0] * 5)
    low, high = figure.axes[0].get_xlim()
    assert low < 20 < high
    assert any(low <= tick <= high for tick in figure.axes[0].get_xticks())


def test_names_are_never_read_as_mathematics(tmp_path: Path) -> None:
    names = ["$x^2$", "a\nb", "\u202e", "$\\frac$", "名前"]
    path = tmp_path / "names.svg"
    save_figure(draw(names=names, title="$y$"), path)
    assert "$x^2$" in html.unescape(path.read_text()).replace("\\$", "$")


def boxes(figure: Any) -> list[Box]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [Box(*text.get_window_extent(renderer).extents) for text in figure.axes[0].texts]


@pytest.mark.parametrize("seed", range(3))
def test_names_cover_neither_each_other_nor_points(seed: int) -> None:
    rng, count = np.random.default_rng(seed), 20
    speeds, accuracies = np.exp(rng.uniform(1, 6, count)).tolist(), rng.uniform(0.5, 0.95, count).tolist()
    names = [f"backbone_of_patches_{number}" for number in range(count)]
    figure = pareto_figure(names, accuracies, [None] * count, speeds, ["not best"] * count, [False] * count)
    assert set(texts(figure)) == set(names)
    found = boxes(figure)
    assert sum(one.overlap(other) for one, other in itertools.combinations(found, 2)) == 0
    axes = figure.axes[0]
    places = [Box(x, y, x, y).wider(2) for x, y in axes.transData.transform(list(zip(speeds, accuracies, strict=True)))]
    assert sum(one.overlap(place) for one in found for place in places) == 0
    frame = Box(*axes.get_window_extent().extents)
    assert all(one.is_inside(frame) for one in found)


def test_names_of_equal_points_go_around_them() -> None:
    count = 6
    figure = pareto_figure(
        [f"name {number}" for number in range(count)],
        [0.9] * count,
        [(0.8, 0.95)] * count,
        [20.0] * count,
        ["possible best"] * count,
        [True] * count,
    )
    assert sum(one.overlap(other) for one, other in itertools.combinations(boxes(figure), 2)) == 0


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="argument"):
        pareto_figure(NAMES, ACCURACIES, [None] * 5, SPEEDS, MARKS, [True] * 4)


CONDITIONS = SpeedConditions(
    device="cpu", processor="", dtype="float32", batch_size=32, threads=1, workers=1, engine="torch", version="0"
)


@pytest.mark.parametrize("earlier", [(False, False), (True, False), (True, True)])
def test_speeds_of_earlier_runs_are_marked(earlier: tuple[bool, bool]) -> None:
    rows = np.concatenate(normal_classes([6, 6, 6], 5, within=0.5))
    sets = {name: FeatureSet.from_arrays(rows * scale, np.repeat([0, 1, 2], 6)) for name, scale in (("a", 1), ("b", 2))}
    speeds = {
        name: Speed(images=100, seconds=number + 1, has_first_batch=False, conditions=CONDITIONS, is_earlier=is_earlier)
        for number, (name, is_earlier) in enumerate(zip(sets, earlier, strict=True))
    }
    figure = rank_figure(rank_sets(sets, AllWaysTask(shots=2), speeds=speeds, device="cpu"))
    starred = {name + "*" * (is_earlier and not all(earlier)) for name, is_earlier in zip(sets, earlier, strict=True)}
    assert set(texts(figure)) == starred
    assert ("earlier run" in figure.get_supxlabel()) == any(earlier)
    assert all(text.get_fontsize() >= 8 for text in figure.axes[0].texts)
