"""Figures of a training: files of each format, the same for the same numbers, of any names and any values."""

from __future__ import annotations

import builtins
import html
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from messages import raises
from nctransfer.checkpoints.trajectory_result import Point, Trajectory
from nctransfer.errors import SettingError, short_text
from nctransfer.evaluation.fewshot_results import FewShotResult, FewShotRow
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.figures.alternative_text import alternative_text
from nctransfer.figures.figure_files import check_figure, save_figure
from nctransfer.figures.number_axes import logarithmic
from nctransfer.figures.style import PAGE, add_caption, caption_of, in_style, new_figure, plain_text
from nctransfer.figures.trajectory_figure import trajectory_figure
from nctransfer.neural_collapse.collapse_report import CollapseReport
from nctransfer.neural_collapse.registry import MEASURES
from terminal import shows

Value = float | None
BEGINNINGS = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}


def report(cdnv: Value, directional: Value) -> CollapseReport:
    metrics = {**dict.fromkeys(MEASURES), "cdnv": cdnv, "directional_cdnv": directional}
    return CollapseReport(features=FeatureInfo("pets", data="pets", samples=10, classes=5), metrics=metrics)


def few_shot(accuracy: float, ci95: float) -> FewShotResult:
    rows = [
        FewShotRow(
            ways=5,
            shots=shots,
            queries=15,
            episodes=100,
            classifier=name,
            seed=0,
            accuracy=accuracy + shots / 100,
            ci95=ci95,
            interval="episodes",
            std=0.1,
            lowest_decile=0.1,
            seconds=0.1,
        )
        for shots in (1, 5)
        for name in ("ridge", "ncc")
    ]
    return FewShotResult(features=FeatureInfo("pets"), rows=tuple(rows))


def training(
    values: Sequence[Value],
    numbers: Sequence[int | None] | None = None,
    names: Sequence[str] | None = None,
    model: str = "resnet50",
    source: bool = False,
) -> Trajectory:
    """A training whose CDNV went as given."""
    points = []
    for place, value in enumerate(values):
        half = value / 2 if value is not None else None
        samples = {"source-train": report(0.1, 0.01), "source-test": report(0.2, 0.02)} if source else {}
        points.append(
            Point(
                checkpoint=names[place] if names else f"epoch-{place}.pth",
                path=f"/run/{place}",
                step=numbers[place] if numbers else place,
                reports={**samples, "target": report(value, half)},
                fewshot=few_shot(0.5 + place / 50, 0.02),
            )
        )
    return Trajectory(model=model, transform={"input_size": (3, 32, 32)}, points=tuple(points), failed={})


def drawn(found: Trajectory, path: Path) -> bytes:
    save_figure(trajectory_figure(found), path)
    return path.read_bytes()


def texts(found: Trajectory, folder: Path) -> list[str]:
    """Every text of the figure, as it reads."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):
        content = drawn(found, folder / "texts.svg").decode()
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>(.*?)</text>", content, re.DOTALL)]


# Files


@pytest.mark.parametrize("suffix", [".svg", ".png", ".PDF"])
def test_the_suffix_is_the_format_and_the_same_figure_the_same_file(tmp_path: Path, suffix: str) -> None:
    found = training([1.0, 0.5, 0.2], source=True)
    first = drawn(found, tmp_path / f"one{suffix}")
    assert first.startswith(BEGINNINGS[suffix.lower()])
    assert drawn(found, tmp_path / f"two{suffix}") == first
    assert drawn(training([1.0, 0.5, 0.3], source=True), tmp_path / f"three{suffix}") != first


def test_files_hold_no_date(tmp_path: Path) -> None:
    found = training([1.0, 0.5])
    assert b"dc:date" not in drawn(found, tmp_path / "a.svg")
    assert b"CreationDate" not in drawn(found, tmp_path / "a.pdf")


def test_a_png_shows_something(tmp_path: Path) -> None:
    drawn(training([1.0, 0.5]), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(2**24)) > 50


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - of any kind
        save_figure(trajectory_figure(training([1.0])), tmp_path / "not" / "there.svg")


@pytest.mark.parametrize("name", ["run.svg", "run.png", "run.pdf", "run.PDF", "a.b/run.Svg"])
def test_a_known_format_is_taken(name: str) -> None:
    check_figure(Path(name))


@pytest.mark.parametrize("name", ["run.jpg", "run", "run.svg.gz", ".svg", "svg"])
def test_an_unknown_format_is_refused(name: str) -> None:
    with raises(SettingError, repr(name), hint=[".svg", ".png", ".pdf"]):
        check_figure(Path(name))


def test_matplotlib_is_not_needed_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        assert not name.startswith("matplotlib")
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    check_figure(Path("run.svg"))


def test_a_file_for_readers_who_cannot_see_it(tmp_path: Path) -> None:
    """The rules of accessible SVG: a role, and a title and a description that it is labelled by."""
    drawn(training([1.0, 0.5]), tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    texts = {one.get("id"): one.text or "" for one in root if one.tag.endswith(("title", "desc"))}
    assert root.get("role") == "img"
    assert (root.get("aria-labelledby") or "").split() == list(texts) == ["title", "desc"]
    assert "Few-shot accuracy on the target" in texts["title"]
    assert shows(texts["desc"], "resnet50", "pets", "5 classes", "ridge, 5-way 1-shot", "lower is more collapsed")


# The style


@in_style
def small() -> Any:
    figure = new_figure(3, 2)
    axes = figure.subplots()
    axes.plot([1, 2], [1, 30], label="a line")
    axes.set(title=plain_text("costs $5 and $6"), xlabel="x")
    axes.legend()
    add_caption(figure, "pets, 5 classes.", "", "A note.")
    return figure


def test_settings_of_the_user_change_nothing(tmp_path: Path) -> None:
    import matplotlib as mpl

    save_figure(small(), tmp_path / "a.svg")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9, "svg.fonttype": "path"}):
        save_figure(small(), tmp_path / "b.svg")
        assert mpl.rcParams["font.size"] == 30
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_caption_says_what_a_figure_is_about() -> None:
    assert small().get_supxlabel() == "pets, 5 classes. A note"
    info = FeatureInfo(
        "id", model="vit", data="/some/where/pets.tar", split="test", layer="layer_3", classes=1, samples=1
    )
    assert caption_of(info) == "vit, pets.tar, layer_3, split test, 1 class, 1 image"
    assert caption_of(FeatureInfo("arrays")) == "arrays"
    empty = new_figure(2, 2)
    add_caption(empty, "", "")
    assert empty.get_supxlabel() == ""


def test_a_long_caption_stays_within_the_figure() -> None:
    figure = new_figure(3.4, 2)
    figure.subplots()
    add_caption(figure, "wide words of a caption that is rather long, " * 6)
    figure.draw_without_rendering()
    [text] = [one for one in figure.findobj(lambda one: hasattr(one, "get_text")) if "caption" in one.get_text()]
    box = text.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_the_words_of_a_figure() -> None:
    assert alternative_text(small()) == ("costs $5 and $6", "costs $5 and $6: x; a line. pets, 5 classes. A note")


@pytest.mark.parametrize("most", [3, 4, 7])
@pytest.mark.parametrize("ends", [(1, 1), (0.9, 1.1), (1.0, 1.02), (2, 700), (1e-12, 1e12), (0.05, 0.4), (3e-5, 4e-5)])
def test_a_logarithmic_axis_has_a_few_plain_numbers(ends: tuple[float, float], most: int) -> None:
    axes = new_figure(PAGE, 2).subplots()
    axes.plot(ends, ends)
    logarithmic(axes.xaxis, *ends, most=most)
    found = axes.get_xticks()
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert all(ends[0] * 0.999 <= number <= ends[1] * 1.001 for number in found)
    assert min(3, 1 + 2 * (ends[1] > ends[0])) <= len(found) <= most + 1
    assert all(len(f"{number:.3g}") <= 7 and float(f"{number:.4g}") == number for number in found)


@pytest.mark.parametrize("most", [3, 8, 30])
def test_a_name_is_shortened_in_its_middle(most: int) -> None:
    name = "the beginning, the middle and the end"
    short = short_text(name, most)
    assert len(short) <= most
    before, _, after = short.partition("…")
    assert name.startswith(before)
    assert name.endswith(after)
    assert short_text(name, 99) == name


# What is drawn


def lines(found: Trajectory, side: int) -> dict[str, list[tuple[list[float], list[float]]]]:
    """Places and values of each line of one side, by colour and style."""
    kept: dict[str, list[tuple[list[float], list[float]]]] = {}
    for line in trajectory_figure(found).axes[side].lines:
        x, y = (np.asarray(values, dtype=float).tolist() for values in line.get_data())
        if x:
            kept.setdefault(f"{line.get_color()} {line.get_linestyle()}", []).append((x, y))
    return kept


def test_lines_are_the_measures_at_their_steps() -> None:
    found = training([1.0, 0.5, 0.2], [5, 10, 40], source=True)
    left = lines(found, 0)
    assert len(left) == 6  # three samples, two measures: none looks like another
    values = sorted((one for same in left.values() for one in same), key=lambda one: one[1])
    assert {tuple(x) for x, _ in values} == {(5, 10, 40)}
    assert [y for _, y in values] == [[0.01] * 3, [0.02] * 3, [0.1] * 3, [0.2] * 3, [0.5, 0.25, 0.1], [1.0, 0.5, 0.2]]
    right = lines(found, 1)
    assert len(right) == 4
    accuracies = sorted(y for same in right.values() for _, y in same)
    expected = sorted([one.accuracy for one in rows] for rows in zip(*(p.fewshot.rows for p in found.points)))  # noqa: B905
    assert np.allclose(accuracies, expected)


def test_the_legend_names_samples_measures_and_tasks(tmp_path: Path) -> None:
    figure = trajectory_figure(training([1.0, 0.5], source=True))
    left, right = ({text.get_text() for text in axes.get_legend().get_texts()} for axes in figure.axes)
    assert left == {"cdnv", "directional_cdnv", "source-train", "source-test", "target"}
    tasks = [(name, "5-way", f"{shots}-shot") for name in ("ridge", "ncc") for shots in (1, 5)]
    assert [sum(shows(text, *task) for text in right) for task in tasks] == [1] * len(right)
    assert any(shows(text, "resnet50", "pets") for text in texts(training([1.0, 0.5]), tmp_path))


def test_intervals_are_shaded() -> None:
    found = training([1.0, 0.5])
    shades = trajectory_figure(found).axes[1].collections
    heights = {
        (round(float(y.min()), 6), round(float(y.max()), 6)) for y in (s.get_paths()[0].vertices[:, 1] for s in shades)
    }
    assert heights == {
        (round(0.51 - 0.02, 6), round(0.53 + 0.02, 6)),
        (round(0.55 - 0.02, 6), round(0.57 + 0.02, 6)),
    }


@pytest.mark.parametrize("numbers", [[None] * 3, [2, 2, 3], [1, None, 1]])
def test_without_steps_checkpoints_stand_one_after_the_other(tmp_path: Path, numbers: list[int | None]) -> None:
    found = training([1.0, 0.5, 0.2], numbers, ["last.pth", "best.pth", "swa.pth"])
    assert {tuple(x) for same in lines(found, 0).values() for x, _ in same} == {(0, 1, 2)}
    assert {"last.pth", "best.pth", "swa.pth"} <= set(texts(found, tmp_path))


def test_a_checkpoint_without_step_is_not_on_the_curve() -> None:
    found = training([1.0, 0.5, 0.2], [1, 3, None], ["epoch-1.pth", "epoch-3.pth", "best.pth"])
    assert {tuple(x) for same in lines(found, 0).values() for x, _ in same} == {(1, 3)}


def test_many_checkpoints_are_not_named(tmp_path: Path) -> None:
    every = [f"seed-{number}-of-{number % 3}" for number in range(60)]
    said = texts(training([1.0] * 60, [None] * 60, every), tmp_path)
    assert not set(every) & set(said)


# Any names, any values

NAMES = [
    "$a$.pth",
    r"$\frac{.pth",
    "a$b",
    r"\$x$",
    "%s {0} #1 & <b>",
    "two\nlines",
    "模型.pth",
    "\udcff.pth",
    "a\x01",
    "_a",
    "",
]


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_any_name_is_drawn(tmp_path: Path, suffix: str) -> None:
    values, unnumbered = [1.0] * len(NAMES), [None] * len(NAMES)
    assert drawn(training(values, unnumbered, NAMES, model="".join(NAMES)), tmp_path / f"a{suffix}")


def test_dollars_are_no_mathematics(tmp_path: Path) -> None:
    said = texts(training([1.0, 0.5], [None, None], ["$a_1$.pth", "b.pth"], model="$x^2$"), tmp_path)
    assert "$a_1$.pth" in said
    assert any("$x^2$" in text and "pets" in text for text in said)


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [None],
        [math.inf],
        [None, 1.0, 0.5],
        [1.0, None, 0.5],
        [None, None],
        [math.inf, 1.0],
        [1.0, math.inf],
        [math.inf, math.inf],
        [0.0, 1.0],
        [0.0, 0.0],
        [0.0, None, math.inf],
        [1e-12, 1e12],
        [0.51, 0.52],
    ],
    ids=str,
)
def test_any_values_are_drawn_without_a_warning(values: list[Value]) -> None:
    trajectory_figure(training(values)).draw_without_rendering()


@pytest.mark.parametrize("values", [[1.0, 0.1], [None, 0.1], [0.0, 0.1], [math.inf, 0.1]], ids=str)
def test_collapse_is_on_a_logarithmic_axis(values: list[Value]) -> None:
    assert trajectory_figure(training(values)).axes[0].get_yscale() == "log"


def test_finite_values_stay_where_others_are_infinite() -> None:
    low, high = trajectory_figure(training([math.inf, 2.0, 1.0])).axes[0].get_ylim()
    assert 0.1 < low < 0.5
    assert 2.0 < high < 10
