"""Which backbone to take: the recommendation, accuracy against speed, and every candidate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.figures.inline_svg import inline_svg
from nctransfer.figures.rank_figure import rank_figure
from nctransfer.page.blocks import Block, Chart, Facts, Notice, Paragraph, Section, Table
from nctransfer.page.classifier_names import classifier_in_words
from nctransfer.page.sentences import sentence, without_options
from nctransfer.page.shown_places import without_home
from nctransfer.page.tables import table_of
from nctransfer.report.rank_sheets import rank_sheets
from nctransfer.report.wording import percent

if TYPE_CHECKING:
    from nctransfer.rank.ranking import Placed, RankedCandidate, Ranking

__all__ = ["ranking_section"]

TO_TAKE = "What to take"  # the title of the sheet of the recommendation, which stands above all here
OF_CHART = "Ranking"  # the title of the sheet whose numbers the chart shows


def ranking_section(found: Ranking) -> Section:
    """The recommendation, the Pareto chart, and the candidates with the labels that they need."""
    sheets = [one for one in rank_sheets(found) if one.title != TO_TAKE]
    blocks: list[Block] = [Paragraph(text=found.recommendation)]
    blocks += [Notice(text=sentence(one)) for one in found.warnings]
    for sheet in sheets:
        table = table_of(sheet, caption=without_options(f"{sheet.title}. {sheet.reading}".strip()))
        if sheet.title == OF_CHART:
            blocks.append(_chart(found))
            table = replace(table, columns=("may be best", *table.columns[1:]))  # which has no head in a terminal
        if sheet.facts:
            blocks.append(Facts(items={name: without_home(fact) for name, fact in sheet.facts.items()}))
        blocks.append(table)
    return Section(
        id="ranking",
        title="Which backbone to take",
        says=(
            f"It compares {counted(sum(one.has_run for one in found.candidates), 'candidate')} by the accuracy of "
            f"{classifier_in_words(found.task.classifiers[0])} on all {found.classes:,} classes at once, with "
            f"{counted(found.shots, 'labelled image')} per class."
        ),
        not_says=(
            "It does not show the accuracy with more labels, which is usually higher, nor which backbone suits other "
            "classes, nor what fine-tuning would give."
        ),
        blocks=tuple(blocks),
    )


def _chart(found: Ranking) -> Chart:
    return Chart(
        svg=inline_svg(rank_figure(found), "ranking"),
        alt=_alt(found),
        caption=f"Up is more accurate{', right is faster' * any(one.speed for one in found.candidates)}; bars are 95% "
        "intervals over other images of these classes.",
        table=Table(
            columns=("candidate", ">accuracy, %", ">from", ">to", ">images/s", "Pareto front"),
            rows=tuple(_point(one, one.place) for one in found.candidates if one.place is not None),
            caption="The numbers of the chart.",
        ),
    )


def _point(one: RankedCandidate, place: Placed) -> tuple[str, ...]:
    low, high = place.interval
    accuracy = one.name, percent(place.accuracy), percent(low), percent(high)
    if one.speed is None:  # the front is of those whose speed is known
        return *accuracy, "–", "–"
    return *accuracy, f"{one.speed.images_per_second:,.1f}", "yes" if one.pareto else "no"


def _alt(found: Ranking) -> str:
    best = found.best
    if best is None or best.place is None:
        return "Chart of accuracy. No candidate has run."
    over = " over speed" * any(one.speed for one in found.candidates)
    said = f"Chart of accuracy{over}. The most accurate candidate is {best.name} with {best.place.accuracy:.1%}."
    possible = [name for name in found.possible_bests if name != best.name]
    if possible:
        said += f" These may be as good: {join_names(possible)}."
    return said
