"""Collapse and few-shot accuracy over the checkpoints of one training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.figures.inline_svg import inline_svg
from nctransfer.figures.trajectory_figure import trajectory_figure
from nctransfer.page.blocks import Block, Chart, Notice, Section
from nctransfer.page.sentences import sentence
from nctransfer.page.tables import table_of
from nctransfer.report.trajectory_sheets import trajectory_sheets

if TYPE_CHECKING:
    from nctransfer.checkpoints.trajectory_result import Trajectory

__all__ = ["checkpoints_section"]


def checkpoints_section(found: Trajectory) -> Section | None:
    """The figure of a trajectory, its numbers, and which checkpoint to take.

    Args:
        found: The trajectory.

    Returns:
        ``None`` if there is only one checkpoint.
    """
    if len(found.points) < 2:
        return None
    first, *others = trajectory_sheets(found)
    alt = _alt(found)
    blocks: list[Block] = [Notice(text=sentence(one)) for one in found.warnings]
    blocks.append(
        Chart(
            svg=inline_svg(trajectory_figure(found), "checkpoints", alt),
            alt=alt,
            caption=f"{found.model}, checkpoint by checkpoint. Left: collapse. Right: few-shot accuracy.",
            table=table_of(first),
        )
    )
    blocks += [table_of(one, caption=f"{one.title}. {one.reading}".strip()) for one in others]
    return Section(
        id="checkpoints",
        title="Checkpoints",
        says=(
            f"It shows, for {counted(len(found.points), 'checkpoint')} of one training, how tightly the classes "
            "cluster and how accurate few-shot classifiers are."
        ),
        not_says=(
            "It does not show why one checkpoint is better, nor the accuracy on the classes that the model was trained "
            "on. The band is about the draw of episodes; the verdict names what it is about."
        ),
        blocks=tuple(blocks),
    )


def _alt(found: Trajectory) -> str:
    first, last = found.points[0], found.points[-1]
    row = last.fewshot.rows[0]
    return (
        f"Line charts over {counted(len(found.points), 'checkpoint')}. From {first.checkpoint} to {last.checkpoint}, "
        f"the {row.ways}-way {row.shots}-shot accuracy of {row.classifier} goes from "
        f"{first.fewshot.rows[0].accuracy:.1%} to {row.accuracy:.1%}."
    )
