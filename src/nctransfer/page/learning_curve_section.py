"""How accuracy grows with the number of labelled images per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.figures.bound_names import readable
from nctransfer.figures.inline_svg import inline_svg
from nctransfer.figures.labels_figure import labels_figure
from nctransfer.page.blocks import Block, Chart, Notice, Paragraph, Section, Table
from nctransfer.page.sentences import sentence
from nctransfer.page.tables import table_of
from nctransfer.report.labels_sheets import labels_sheets
from nctransfer.report.wording import percent

if TYPE_CHECKING:
    from nctransfer.evaluation.label_counts import LabelCounts
    from nctransfer.neural_collapse.bound_table import BoundRow, BoundTable
    from nctransfer.neural_collapse.bounds import Bound

__all__ = ["learning_curve_section"]


def learning_curve_section(found: LabelCounts, bounds: BoundTable | None = None) -> Section:
    """The learning curve with its intervals, the labels that targets need, and what can be proven.

    Args:
        found: The labels that targets need, with the learning curve.
        bounds: Bounds of the error of ``ncc`` on all classes at once, for numbers of shots of the curve.
    """
    targets, curve = labels_sheets(found)
    points = replace(table_of(curve), caption=f"{curve.reading} Random draws: {curve.facts['random draws']}.")
    chart = Chart(
        svg=inline_svg(labels_figure(found), "learning-curve"),
        alt=_alt(found),
        caption=_caption(found),
        table=points,
    )
    blocks: list[Block] = [*(Notice(text=sentence(one)) for one in found.warnings), chart, table_of(targets)]
    if bounds is not None:
        blocks += _proven(bounds)
    return Section(
        id="learning-curve",
        title="Accuracy by number of labels",
        says=(
            f"It shows how accurate a simple classifier is on all {len(found.curve.classes):,} classes at once, by the "
            "number of labelled images per class that it learns from."
        ),
        not_says=(
            "It does not show the accuracy of a classifier that learns from all images at hand, nor what other classes "
            "would give; beyond the images at hand, it is an extrapolation."
        ),
        blocks=tuple(blocks),
    )


def _caption(found: LabelCounts) -> str:
    """What lines and marks mean, as far as there are any."""
    last = found.curve.task.shots[-1]
    said = "Solid: measured, with the 95% interval over other images of these classes."
    if any(one.interval[1] is None or one.interval[1] > last for one in found.targets):
        said += " Dashed: extrapolated; the band holds the middle 85% of the curves that fit the measured points."
    if any(one.value is not None for one in found.targets):
        said += " A diamond marks where a target is reached."
    return said


def _alt(found: LabelCounts) -> str:
    said = []
    shots = found.curve.task.shots
    for name in found.curve.task.classifiers:
        first, last = (found.curve.estimates[number, name].accuracy for number in (shots[0], shots[-1]))
        said.append(
            f"{name} classifies {first:.1%} right with {counted(shots[0], 'labelled image')} per class, and {last:.1%} "
            f"with {shots[-1]:,}."
        )
    return f"Line chart of accuracy over labelled images per class. {' '.join(said)}"


def _proven(bounds: BoundTable) -> list[Paragraph | Table]:
    """The best bound for each number of shots that says something; or one sentence that none does."""
    best = [(row, name, bound) for row in bounds.rows if (found := _best(row)) is not None for name, bound in [found]]
    if not best:
        return [Paragraph(text=_nothing(bounds.rows))]
    rows = [
        (f"{row.shots:,.0f}", percent(1 - (bound.value or 0.0)), percent(1 - bound.chance or 0.0), readable(name))
        for row, name, bound in best
    ]
    return [
        Paragraph(
            text="A bound is a limit that is proven, not measured: the mean accuracy of the nearest class centre on "
            "all classes at once is at least this high, for images drawn independently and with replacement from "
            "these. Bounds suppose little, so what is measured is usually far better."
        ),
        Table(
            columns=(">labels per class", ">at least, in %", ">by chance, in %", "bound"),
            rows=tuple(rows),
            caption="What is proven of the nearest class centre.",
            folded=True,
        ),
    ]


def _best(row: BoundRow) -> tuple[str, Bound] | None:
    """The smallest bound that is below the error of a random answer."""
    there = [
        (bound.value, name, bound)
        for name, bound in row.bounds.items()
        if bound.value is not None and not bound.uninformative
    ]
    if not there:
        return None
    _, name, bound = min(there, key=lambda one: one[:2])
    return name, bound


def _nothing(rows: Sequence[BoundRow]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row.bounds))
    return (
        f"Nothing can be proven of the accuracy on all classes at once: none of the bounds "
        f"({join_names([readable(name) for name in names], most=10)}) is better than a random answer."
    )
