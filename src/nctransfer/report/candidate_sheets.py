"""The sheets of the candidates of a ranking, before any of them has run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.report.sheet import Sheet

if TYPE_CHECKING:
    from nctransfer.backbones.facts import BackboneFacts
    from nctransfer.rank.candidate_facts import ListedCandidate

__all__ = ["candidates_sheets", "count_cell", "of_whole_backbones", "size_cell"]


def candidates_sheets(candidates: Sequence[ListedCandidate]) -> list[Sheet]:
    """The candidates with their size and their work per image; and why each of them competes."""
    rows = [
        [
            one.candidate.name,
            size_cell(one.facts.parameters, 1e6, "M"),
            size_cell(one.facts.gmacs),
            count_cell(one.facts.width),
            count_cell(one.facts.img_size),
            one.facts.pool or "–",
            one.facts.pretrained_on or "–",
            one.facts.licence or "–",
            "here" if one.at_hand else "download",
        ]
        for one in candidates
    ]
    here = sum(one.at_hand for one in candidates)
    facts = Sheet(
        "Candidates",
        ["candidate", ">params", ">GMACs", ">width", ">pixels", "pooling", "pretrained on", "licence", "weights"],
        rows,
        {},
        " ".join(
            [
                f"{counted(len(candidates), 'candidate')}; {here:,} of them need no download.",
                "GMACs are billions of multiplications per image; those of attention count too.",
                *of_whole_backbones(
                    [(one.candidate.column, one.facts) for one in candidates if one.candidate.is_inner]
                ),
            ]
        ),
    )
    reasons = [[one.candidate.name, one.candidate.why] for one in candidates if one.candidate.why]
    return [facts, Sheet("Why they compete", ["candidate", "why"], reasons, {})] if reasons else [facts]


def of_whole_backbones(inner: Sequence[tuple[str, BackboneFacts]], has_speeds: bool = False) -> list[str]:
    """Say that inner layers need less than their backbone, if there is one whose backbone has a known size."""
    layers = [layer for layer, facts in inner if facts.parameters is not None]
    if not layers:
        return []
    shown = "Params, GMACs and images/s" if has_speeds else "Params and GMACs"
    return [f"{shown} are those of the whole backbone; a candidate such as {layers[0]} needs only the part up to it."]


def count_cell(value: int | None) -> str:
    """A number, or a dash if it is not known."""
    return f"{value:,}" if value else "–"


def size_cell(value: float | None, unit: float = 1.0, sign: str = "") -> str:
    """A number with the digits that matter, up to one decimal from 10 on."""
    if not value:
        return "–" if value is None else "0"
    scaled = value / unit
    return f"{scaled:,.1f}{sign}" if scaled >= 10 else f"{scaled:,.2f}{sign}"
