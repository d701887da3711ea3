"""How collapse grows over the layers of the backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.figures.inline_svg import inline_svg
from nctransfer.figures.layers_figure import layers_figure
from nctransfer.page.blocks import Block, Chart, Notice, Paragraph, Section
from nctransfer.page.sentences import sentence
from nctransfer.page.tables import table_of
from nctransfer.report.collapse_sheets import comparison_sheets

if TYPE_CHECKING:
    from nctransfer.neural_collapse.comparisons import CollapseComparison

__all__ = ["layers_section"]

FEATURE = "feature"  # the name of the output


def layers_section(found: CollapseComparison) -> Section | None:
    """The measures of collapse layer by layer, and from which layer on accuracy no longer rises.

    Args:
        found: A comparison of layers, see :func:`~nctransfer.neural_collapse.comparisons.compare_layers`.

    Returns:
        ``None`` if there is only one layer.
    """
    names = list(found.reports)
    if len(names) < 2:
        return None
    [sheet] = comparison_sheets(found)
    alt = _alt(found)
    blocks: list[Block] = [Notice(text=sentence(one)) for one in found.warnings]
    blocks.append(Paragraph(text=_in_words(found)))
    blocks.append(
        Chart(
            svg=inline_svg(layers_figure(found), "layers", alt),
            alt=alt,
            caption="From the first layer (left) to the output (right).",
            table=table_of(sheet),
        )
    )
    return Section(
        id="layers",
        title="Layer by layer",
        says=(
            f"It shows, for {counted(len(names), 'layer')} of the backbone from the first to the last, how tightly the "
            "classes cluster and how many images lie nearest to the mean of their own class."
        ),
        not_says=(
            "It does not show what a classifier that weighs directions would make of a layer. All of it is about these "
            "images."
        ),
        blocks=tuple(blocks),
    )


def _in_words(found: CollapseComparison) -> str:
    """From which layer on accuracy does not rise, and how fast classes separate."""
    last, saturated = list(found.reports)[-1], found.fit["saturated"]
    if saturated == last:
        said = "The nearest class centre is most accurate at the last layer."
    else:
        said = (
            f"From {saturated} on, the accuracy of the nearest class centre rises no more than by chance, so that "
            "layer would do as well for it."
        )
    if "rho" in found.fit:
        said += (
            f" Separation fuzziness, the variance within classes relative to that between them, changes by a factor of "
            f"{found.fit['rho']:.2f} per layer."
        )
    return said


def _alt(found: CollapseComparison) -> str:
    names, reports = list(found.reports), list(found.reports.values())
    first, last = names[0], "the output" if names[-1] == FEATURE else names[-1]
    before, after = reports[0].metrics["ncc_accuracy"], reports[-1].metrics["ncc_accuracy"]
    if before is None or after is None:
        return f"Line charts of collapse from {first} to {last}."
    return (
        f"Line charts of collapse over the layers. The accuracy of the nearest class centre goes from {before:.1%} at "
        f"{first} to {after:.1%} at {last}."
    )
