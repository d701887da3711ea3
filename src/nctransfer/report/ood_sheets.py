"""Sheets of how well images of no known class are told from the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import join_names
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
    return Sheet(
        f"Told from the known classes: {other.name}",
        columns[:kept],
        [_cells(row)[:kept] for row in rows],
        _facts(found, other),
        " ".join(_reading(found, rows)),
        tuple(Bar("AUROC", row.score, row.auroc) for row in rows),
    )


def _cells(row: OodRow) -> list[str]:
    return [
        row.score,
        percent(row.auroc),
        f"[{percent(row.auroc_interval[0])}, {percent(row.auroc_interval[1])}]",
        percent(row.fpr95),
        f"[{percent(row.fpr95_interval[0])}, {percent(row.fpr95_interval[1])}]",
        {"better": "best", "worse": "worse", "not told apart": "possible best", None: ""}[row.verdict],
    ]


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


def _reading(found: OodResult, rows: list[OodRow]) -> list[str]:
    said = [_MEANING]
    if found.population == "classes":
        said.append(
            "In each of ten rounds a random half of the classes is held out. Intervals are over other classes of this "
            "kind."
        )
    else:
        scored = "They are those of the test set" if found.test else "Each is scored by models that have not seen it"
        said.append(f"Known images: {scored[:1].lower()}{scored[1:]}. Intervals are over other images of both kinds.")
    if len(rows) > 1:
        possible = [row.score for row in rows if row.is_possible_best]
        said.append(
            f"{possible[0]} has the highest AUROC of all."
            if len(possible) == 1
            else f"Any of {join_names(possible)} may have the highest AUROC; the others have not."
            if len(possible) < len(rows)
            else "These images do not tell the scores apart."
        )
    return said
