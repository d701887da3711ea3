"""Results as figures, by matplotlib (``pip install 'nctransfer[plot]'``), which is imported only to draw one."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import FeaturesError, SettingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from nctransfer.checkpoints.trajectory_result import Point, Trajectory

__all__ = ["FORMATS", "any_script", "check_figure", "plain_numbers", "plain_text", "save_figure", "trajectory_figure"]

FORMATS = (".svg", ".png", ".pdf")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")  # Okabe, Ito: for all eyes
STYLES = ("-", "--", ":", "-.")  # of lines, one for each measure
MOST_NAMES = 20  # checkpoints that are named below the axis


def check_figure(path: Path) -> None:
    """That a figure could be drawn and saved there.

    Raises:
        FeaturesError: matplotlib is not installed.
        SettingError: The suffix is of no known format.
    """
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise FeaturesError("figures are drawn by matplotlib, which is not installed", "pip install matplotlib")
    if path.suffix.lower() not in FORMATS:
        raise SettingError(f"the figure {str(path)!r} has no known format", f"name it {', '.join(FORMATS)}")


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure in the format that the suffix says; the same figure is the same file.

    Raises:
        OSError: It cannot be written.
    """
    import matplotlib as mpl

    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
    with mpl.rc_context({"svg.hashsalt": "nctransfer", "svg.fonttype": "none"}), any_script():
        figure.savefig(path, dpi=150, bbox_inches="tight", metadata=undated)


@contextmanager
def any_script() -> Iterator[None]:
    """No warnings about names in a script that the font lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        yield


def plain_numbers(axis: Axis, subs: Sequence[float] = (1, 1.5, 2, 3, 5, 7)) -> None:
    """Label a logarithmic axis by plain numbers, not by powers: these multiples of each power of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def trajectory_figure(found: Trajectory) -> Figure:
    """Collapse of every sample (left), and few-shot accuracy on the target (right), over checkpoints."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    from nctransfer.neural_collapse.registry import MEASURES

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    points, places = _place(found, (left, right))
    is_positive = False
    shown = [name for name, measure in MEASURES.items() if measure.in_trajectories]
    for measure, style in zip(shown, itertools.cycle(STYLES), strict=False):
        left.plot([], [], style, color="gray", label=measure)
        for colour, sample in zip(COLOURS, found.points[0].reports, strict=False):
            values = [point.reports[sample].metrics[measure] for point in points]
            label = sample if measure == shown[0] else None
            left.plot(places, values, style, color=colour, marker="o", markersize=3, label=label)
            is_positive = is_positive or any(value is not None and 0 < value < math.inf for value in values)
    left.set(ylabel="lower is more collapsed", title="Collapse")
    if is_positive:
        left.set_yscale("log")
        plain_numbers(left.yaxis)
    for number, row in enumerate(found.points[0].fewshot.rows):
        rows = [point.fewshot.rows[number] for point in points]
        accuracies, colour = [one.accuracy for one in rows], COLOURS[number % len(COLOURS)]
        label = f"{row.classifier}, {row.ways}-way {row.shots}-shot"
        right.plot(places, accuracies, color=colour, marker="o", markersize=3, label=label)
        ends = zip(*((one.accuracy - (one.ci95 or 0), one.accuracy + (one.ci95 or 0)) for one in rows), strict=True)
        right.fill_between(places, *ends, color=colour, alpha=0.2, linewidth=0)
    right.yaxis.set_major_formatter(PercentFormatter(1))
    right.set(ylabel="accuracy", title="Few-shot accuracy on the target")
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.legend(fontsize="small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)
    figure.suptitle(plain_text(f"{found.model} on {found.points[0].reports['target'].features.data}"))
    return figure


def _place(found: Trajectory, all_axes: Sequence[Axes]) -> tuple[list[Point], list[int]]:
    """The points that are drawn, and where: at their steps, or else all one after the other."""
    from matplotlib.ticker import MaxNLocator

    stepped = [(point, point.step) for point in found.points if point.step is not None]
    if len({step for _, step in stepped}) == len(stepped) > 0:
        for axes in all_axes:
            axes.set_xlabel("step, by the names of the checkpoints")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return [point for point, _ in stepped], [step for _, step in stepped]
    places = list(range(len(found.points)))
    for axes in all_axes:
        axes.set_xlabel("checkpoint")
        if len(places) <= MOST_NAMES:
            names = [plain_text(point.checkpoint) for point in found.points]
            axes.set_xticks(places, names, rotation=30, ha="right", fontsize="small")
    return list(found.points), places


def plain_text(text: str) -> str:
    """Text that matplotlib can draw and does not read as mathematics."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text).replace("$", r"\$")
