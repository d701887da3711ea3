"""Sheets of how well images of no known class are told from the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import join_names
from nctransfer.heads.unlikeness_kinds import UNLIKENESSES
from nctransfer.ood.ood_result import CHANCE
from nctransfer.report.sheet import Bar, Sheet
from nctransfer.report.wording import about_features, features_in_line, percent

if TYPE_CHECKING:
    from nctransfer.ood.ood_result import OodResult, OodRow, OtherSet

__all__ = ["ood_sheets"]

_MEANING = (
    "AUROC: in how many of 100 pairs the image of no known class has the larger score. FPR95: how many in 100 of them "
    "are taken for known where 95 in 100 known images are."
)


def ood_sheets(found: OodResult) -> list[Sheet]:
    """A sheet for each set of others: a row for each score, the highest AUROC first."""
    return [_sheet(found, other) for other in found.others]


def _sheet(found: OodResult, other: OtherSet) -> Sheet:
    rows = sorted(found.rows_of(other.name), key=lambda row: -row.auroc)
    columns = ["score", ">AUROC", ">95% interval", ">FPR95", ">its 95% interval", "verdict"]
    kept = len(columns) if len(rows) > 1 else -1
    tells_apart = any(row.is_above_chance for row in rows)
    return Sheet(
        f"Told from the known classes: {other.name}",
        columns[:kept],
        [_cells(row, tells_apart)[:kept] for row in rows],
        _facts(found, other),
        " ".join([*_about(found), *(_verdict(rows) if tells_apart else _nothing_told(rows, other))]),
        tuple(Bar("AUROC", row.score, row.auroc) for row in rows),
    )


def _cells(row: OodRow, tells_apart: bool) -> list[str]:
    return [
        row.score,
        percent(row.auroc),
        f"[{percent(row.auroc_interval[0])}, {percent(row.auroc_interval[1])}]",
        percent(row.fpr95),
        f"[{percent(row.fpr95_interval[0])}, {percent(row.fpr95_interval[1])}]",
        _word(row, tells_apart),
    ]


def _word(row: OodRow, tells_apart: bool) -> str:
    """The verdict on a score in a word or two; where no interval is above 50%, how its own lies to 50%."""
    if not tells_apart:
        return "below 50%" if row.auroc_interval[1] < CHANCE else "not told from 50%"
    return {"better": "best", "worse": "worse", "not told apart": "possible best", None: ""}[row.verdict]


def _facts(found: OodResult, other: OtherSet) -> dict[str, str]:
    facts = about_features(found.features)
    if found.test is not None:
        facts["test"] = features_in_line(found.test)
    if found.population == "samples":
        facts["others"] = features_in_line(other.features)
    if found.classifier is not None:
        facts["classifier"] = found.classifier
    if other.nc5 is not None:
        low, high = other.nc5.interval
        facts["NC5"] = (
            f"{other.nc5.value:.3f} [{low:.3f}, {high:.3f}]; random directions have {found.nc5_by_chance:.3f}, and "
            "0 is orthogonal"
        )
    return facts


def _about(found: OodResult) -> list[str]:
    """What the numbers mean, and what their intervals are about."""
    if found.population == "classes":
        held_out = "In each of ten rounds a random half of the classes is held out."
        return [_MEANING, held_out, "Intervals are over other classes of this kind."]
    scored = "they are those of the test set" if found.test else "each is scored by models that have not seen it"
    return [_MEANING, f"Known images: {scored}. Intervals are over other images of both kinds."]


def _verdict(rows: list[OodRow]) -> list[str]:
    """Which scores may be the best, and which are not told from chance."""
    if len(rows) == 1:
        return []
    possible = [row.score for row in rows if row.is_possible_best]
    if len(possible) == 1:
        said = [f"{possible[0]} has the highest AUROC of all."]
    elif len(possible) == len(rows):
        said = ["These images do not tell the scores apart."]
    else:
        said = [f"Any of {_all(possible)} may have the highest AUROC; the others have not."]
    below = [row.score for row in rows if row.auroc_interval[1] < CHANCE]
    unknown = [row.score for row in rows if not row.is_above_chance and row.score not in below]
    for names, words in ((unknown, "not told from"), (below, "below")):
        if names:
            said.append(f"The AUROC of {_all(names)} is {words} 50%, that of chance.")
    heads = [row.score for row in rows if row.is_possible_best and row.score in UNLIKENESSES]
    if heads:
        said.append(f"nctransfer fit --unlikeness {heads[0]} makes a head that holds images back by this score.")
    return said


def _all(names: list[str]) -> str:
    return join_names(names, most=len(names))


def _nothing_told(rows: list[OodRow], other: OtherSet) -> list[str]:
    """Say that no score is known to be of use, and why that may be."""
    whose, score = ("No interval lies", "any score") if len(rows) > 1 else ("The interval does not lie", rows[0].score)
    shown = f"these images do not show that {score} tells them from the known classes"
    said = [f"{whose} above 50%, the AUROC of chance: {shown}."]
    if all(row.auroc_interval[1] < CHANCE for row in rows):
        said.append("They look more like the known classes than the known images themselves do.")
    if other.shared_images:
        said.append(f"The known images include {other.shared_images:,} of these {other.samples:,}.")
    return said
