"""Figures of accuracies by group, and of fine classes: what is drawn is what was measured."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import nctransfer as nct
from nctransfer.figures import fine_figure as fine_module
from nctransfer.figures import group_figure as group_module
from nctransfer.figures.fine_figure import fine_figure
from nctransfer.figures.group_figure import VERDICTS, group_figure
from nctransfer.figures.style import COLOURS

TASK: dict[str, Any] = {"queries": 3, "episodes": 60, "device": "cpu"}


def sited(sites: int = 3, hard: float = 0.0, rare: int = 0) -> nct.FeatureSet:
    """Seven classes with images of some sites; those of the first site are noisier by so much, rare ones have one."""
    rng, classes, each = np.random.default_rng(0), 7, 24
    place = np.tile(np.arange(each) % sites, classes)
    noise = 1 + hard * (place == 0)
    place[each * np.arange(rare)] = sites + np.arange(rare)
    rows = np.repeat(2 * rng.normal(size=(classes, 6)), each, axis=0)
    return nct.FeatureSet.from_arrays(
        rows + noise[:, None] * rng.normal(size=rows.shape),
        np.repeat([f"class {number}" for number in range(classes)], each),
        attributes={"site": [f"site {number}" for number in place], "kind": [f"$kind {row % 4}$" for row in place]},
    )


def names_of(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def dots_of(axes: Axes) -> list[float]:
    """Where filled dots stand, from the top to the bottom."""
    dots = [line for line in axes.lines if line.get_marker() == "o" and line.get_fillstyle() == "full"]
    return [float(line.get_xdata()[0]) for line in sorted(dots, key=lambda line: line.get_ydata()[0])]


def is_bar(line: Line2D) -> bool:
    """Whether it is the interval of a group."""
    places = list(line.get_ydata())
    return len(places) == 2 and places[0] == places[1]


def test_groups_stand_below_each_other_the_worst_first() -> None:
    found = nct.fewshot_by_group(sited(), "site", 3, (1, 2), **TASK)
    figure = group_figure(found)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        f"3-way {row.shots}-shot, {row.classifier}" for row in found.rows
    ]
    assert dots_of(figure.axes[0]) == sorted(dots_of(figure.axes[0]))
    for axes, row in zip(figure.axes, found.rows, strict=True):
        accuracies = {group.name: group.accuracy for group in row.groups}
        assert dict(zip(names_of(figure.axes[0]), dots_of(axes), strict=True)) == accuracies
        bars = {tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2}
        assert {group.simultaneous for group in row.groups} <= bars
        assert (row.accuracy, row.accuracy) in bars
    assert "other" in figure.get_supxlabel()


def test_a_group_that_is_told_from_the_others_has_another_colour() -> None:
    found = nct.fewshot_by_group(sited(hard=6.0), "site", 3, 2, classifiers="ncc", **TASK | {"episodes": 400})
    assert [group.verdict for group in found.rows[0].groups] == ["worse", "better", "not told apart"]
    figure = group_figure(found)
    [axes] = figure.axes
    expected = [VERDICTS["worse"], COLOURS[0], VERDICTS["better"]]  # the least accurate first
    colours = {line.get_ydata()[0]: line.get_color() for line in axes.lines if line.get_marker() == "o"}
    bars = {line.get_ydata()[0]: line.get_color() for line in axes.lines if is_bar(line)}
    assert [colours[place] for place in range(3)] == [bars[place] for place in range(3)] == expected
    [legend] = figure.legends
    named = {"worse than others on the same classes", "better than others on the same classes", "a group"}
    assert named < {text.get_text() for text in legend.get_texts()}


def test_a_group_that_only_another_task_asks_is_drawn_there() -> None:
    found = nct.fewshot_by_group(sited(2, rare=4), "site", (2, 6), classifiers="ncc", **TASK | {"episodes": 10})
    asked = [{one.name: one.accuracy for one in row.groups if one.accuracy is not None} for row in found.rows]
    assert set(asked[0]) != set(asked[1])
    figure = group_figure(found)
    shown = names_of(figure.axes[0])
    assert sorted(shown) == sorted(asked[0] | asked[1])
    assert [asked[0][name] for name in shown[: len(asked[0])]] == sorted(asked[0].values())
    for axes, accuracies in zip(figure.axes, asked, strict=True):
        assert dots_of(axes) == [accuracies[name] for name in shown if name in accuracies]


def test_on_new_groups_the_other_supports_are_lines() -> None:
    found = nct.fewshot_across_groups(sited(), "site", 3, 2, classifiers="ncc", **TASK)
    [row] = found.rows
    figure = group_figure(found)
    upright = [line.get_xdata()[0] for line in figure.axes[0].lines if list(line.get_ydata()) == [0, 1]]
    assert upright == [row.accuracy, *row.references.values()]
    assert "a new site" in figure.get_suptitle()


def test_of_many_groups_the_worst_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module, "MOST", 2)
    found = nct.fewshot_by_group(sited(4), "site", 3, classifiers="ncc", **TASK)
    figure = group_figure(found)
    worst = sorted(found.rows[0].groups, key=lambda group: group.accuracy or 0)[:2]
    assert names_of(figure.axes[0]) == [group.name for group in worst]
    assert "The 2 least accurate of 4 groups" in " ".join(figure.get_supxlabel().split())


def test_many_panels_have_fewer_groups_and_one_scale() -> None:
    found = nct.fewshot_by_group(sited(12), "site", 3, 1, classifiers=("ridge", "ncc", "cosine", "knn"), **TASK)
    figure = group_figure(replace(found, rows=found.rows * 5))
    assert len(names_of(figure.axes[0])) == 6
    assert figure.get_figheight() < 25
    assert len({axes.get_xlim() for axes in figure.axes}) == 1


def test_long_names_that_begin_alike_are_told_apart() -> None:
    names = [f"a very long name of a hospital with the number {number} in a town of the north" for number in range(3)]
    found = nct.fewshot_by_group(sited(3), "site", 3, classifiers="ncc", **TASK)
    groups = [replace(group, name=name) for group, name in zip(found.rows[0].groups, names, strict=True)]
    figure = group_figure(replace(found, rows=(replace(found.rows[0], groups=tuple(groups)),)))
    assert sorted(names_of(figure.axes[0])) == [f"…{number} in a town of the north" for number in range(3)]


def test_a_group_without_an_interval_is_explained() -> None:
    found = nct.fewshot_by_group(sited(3), "site", 3, classifiers="ncc", **TASK)
    [row] = found.rows
    assert "have none" not in " ".join(group_figure(found).get_supxlabel().split())
    groups = (replace(row.groups[0], simultaneous=None), *row.groups[1:])
    figure = group_figure(replace(found, rows=(replace(row, groups=groups),)))
    assert "groups of too few classes have none" in " ".join(figure.get_supxlabel().split())
    [axes] = figure.axes
    assert len(dots_of(axes)) == 3
    drawn = {names_of(axes)[line.get_ydata()[0]] for line in axes.lines if is_bar(line)}
    assert drawn == {group.name for group in row.groups[1:]}


def test_many_layers_are_named_without_overlap() -> None:
    features = sited(4)
    names = [f"layer_{number}" for number in range(24)] + ["feature"]
    found = nct.fine_structure({"layer_0": features, "feature": features}, "kind", permutations=9)
    many = replace(found, layers=tuple(replace(found.layers[-1], name=name) for name in names))
    labels = fine_figure(many).axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["0", "4", "8", "12", "16", "20", "out"]
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_fine_classes_by_layer_and_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    features = sited(4)
    found = nct.fine_structure({"layer_0": features, "feature": features}, "kind", permutations=9)
    layers, classes = fine_figure(found).axes
    assert [list(line.get_ydata()) for line in layers.lines] == [
        [layer.accuracy for layer in found.layers],
        [layer.permuted for layer in found.layers],
        [layer.coarse_accuracy for layer in found.layers],
    ]
    assert dots_of(classes) == sorted(one.accuracy for one in found.layers[-1].classes)
    assert names_of(classes)[0].endswith("(4)")
    monkeypatch.setattr(fine_module, "MOST", 3)
    alone = fine_figure(nct.fine_structure(features, "kind", permutations=9))
    assert [len(names_of(axes)) for axes in alone.axes] == [3]
    assert "4 more accurate classes are left out" in " ".join(alone.get_supxlabel().split())
