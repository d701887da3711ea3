"""Sheets of a ranking: who may be the best, what each candidate is, how scores rank them, and who did not run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.report.candidate_sheets import count_cell, of_whole_backbones, size_cell
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import format_number

if TYPE_CHECKING:
    from nctransfer.evaluation.labels_needed import LabelsNeeded
    from nctransfer.rank.ranking import RankedCandidate, Ranking

__all__ = ["rank_sheets"]

POSSIBLE, UNBEATEN, FRONT = "●", "○", "◆"
_AFTER_A_RACE = (
    "A candidate that dropped out ran on fewer images per class, and its accuracy is from these. Such candidates are "
    "compared by how far they are behind."
)
MOST_ROWS = 5  # candidates with one reason why they did not run
MOST_REASONS = 2  # why numbers are missing; JSON has all


def rank_sheets(found: Ranking) -> list[Sheet]:
    """One row per candidate, best first, in two sheets: what was measured, and what each candidate is."""
    ran = [one for one in found.candidates if one.has_run]
    sheets = [_ranking_sheet(found, ran), _backbones_sheet(found, ran)] if ran else []
    if found.correlations:
        sheets += [_scores_sheet(found, ran), _correlations_sheet(found)]
    absent = [one for one in found.candidates if not one.has_run]
    if absent:
        sheets.append(_absent_sheet(absent))
    return [*sheets, Sheet("What to take", [], [], {}, found.recommendation)]


def _ranking_sheet(found: Ranking, ran: Sequence[RankedCandidate]) -> Sheet:
    """Accuracy, difference to the best, and labels."""
    targets = list(dict.fromkeys(target for one in ran for target in one.labels_needed))
    fewer = [shots for shots in found.task.shots if shots != found.shots]
    heads = [
        "",
        "candidate",
        *(f">{shots}-shot" for shots in fewer),
        f">{found.shots}-shot",
        ">behind",
        ">at most",
        *(f">labels for {target * 100:g}%" for target in targets),
    ]
    rows = []
    for one in ran:
        place = one.place
        assert place is not None
        rows.append(
            [
                _mark(one),
                one.name + (" (control)" if one.status == "control" else ""),
                *(_share(one.places[shots].accuracy) for shots in fewer),
                f"{_share(place.accuracy)} ({_share(place.interval[0])} to {_share(place.interval[1])})",
                "–" if place.difference is None else _share(max(0.0, -place.difference)),
                "–" if place.difference_interval is None else _share(abs(place.difference_interval[0])),
                *(_labels(one.labels_needed.get(target)) for target in targets),
            ]
        )
    return Sheet("Ranking", heads, rows, _facts(found, ran), _reading(ran, targets))


def _is_raced(found: Ranking) -> bool:
    """Whether some candidates, or all, have not been through all images."""
    return len(found.rounds) > 1 or not found.is_complete


def _facts(found: Ranking, ran: Sequence[RankedCandidate]) -> dict[str, str]:
    draws = [place.draws for one in ran for place in one.places.values()]
    drawn = " to ".join(dict.fromkeys(f"{count:,}" for count in (min(draws), max(draws))))
    shots = " and ".join(", ".join(f"{one}-" for one in found.task.shots).rsplit(", ", 1)) + "shot"
    facts = {
        "data": f"{found.data}: {counted(found.images, 'image')}, {counted(found.classes, 'class', 'classes')}",
        "task": f"all {found.classes} classes at once, {shots}, {found.task.classifiers[0]}, "
        f"chance {100 / found.classes:.1f} %, {drawn} random draws, seed {found.task.seed}",
    }
    if _is_raced(found):
        sizes = ", ".join(f"{one.images_per_class:,} ({len(one.candidates)})" for one in found.rounds)
        facts["race"] = f"images per class (candidates): {sizes}"
        if found.is_complete:  # what there was no time for is not saved
            saved = 1 - found.images_run / found.images_without_racing
            facts["race"] += f"; {saved:.0%} of the image passes saved"
    if found.task.l2_normalise:
        facts["features are"] = "scaled to unit length"
    speeds = [one.speed for one in ran if one.speed]
    if speeds:
        facts["speed"] = "; ".join(dict.fromkeys(str(one.conditions) for one in speeds))
    return facts


def _reading(ran: Sequence[RankedCandidate], targets: Sequence[float]) -> str:
    words = [
        f"{POSSIBLE}: may be the best on other images of these classes; in at least 95% of studies the best is marked.",
        "Accuracy in %, with its 95% interval over such images.",
        "Behind: points below the best on the same images and draws; at most: how far it may be below the true best.",
    ]
    if any(one.status == "control" for one in ran):
        words.append("Candidates are compared among themselves, controls with all.")
    if any(one.status == "control" and one.is_possible_best for one in ran):
        words.append(f"{UNBEATEN}: a control that no candidate clearly beats.")
    if targets:
        words.append(
            "Labels: labelled images per class for this accuracy, with the 95% interval. ~ marks a range that is "
            "extrapolated beyond these images."
        )
    if not any(one.status == "control" for one in ran):
        words.append("There are no controls here: give --data with the images, and the pixels compete too.")
    return " ".join(words)


def _backbones_sheet(found: Ranking, ran: Sequence[RankedCandidate]) -> Sheet:
    """What each candidate is, and how collapsed its classes are; CDNV only of those that ran over the most images."""
    raced, has_speeds = _is_raced(found), any(one.speed for one in ran)
    most = max(one.place.images for one in ran if one.place)
    all_alike = all(one.place is None or one.place.images == most for one in ran)
    rows = [
        [
            one.name,
            FRONT if one.pareto else "",
            *([_speed(one)] if has_speeds else []),
            *([f"{one.place.images:,}"] if raced and one.place else []),
            *(
                format_number(value if one.place and one.place.images == most else None)
                for value in (one.cdnv_debiased, one.directional_cdnv_debiased)
            ),
            size_cell(one.facts.parameters, 1e6, "M"),
            size_cell(one.facts.gmacs),
            count_cell(one.facts.width),
            count_cell(one.facts.img_size),
            one.facts.pool or "–",
            one.facts.pretrained_on or "–",
            one.facts.licence or "–",
        ]
        for one in ran
    ]
    heads = ["candidate", "front", *([">images/s"] if has_speeds else []), *([">images/class"] if raced else [])]
    heads += [">CDNV", ">directional"]
    heads += [">params", ">GMACs", ">width", ">pixels", "pooling"]
    reasons = dict.fromkeys(
        f"No {name.partition('_')[0]} of {one.name}: {reason}."
        for one in ran
        for name, reason in one.undefined.items()
        if name in ("cdnv_debiased", "directional_cdnv_debiased")
    )
    words = [
        f"{FRONT}: no other candidate is both more accurate and faster"
        + ", among those whose speed is known" * any(one.speed is None for one in ran)
        + ".",
        *_about_speeds(ran),
        "CDNV and directional CDNV are debiased; lower is more collapsed.",
        *([] if all_alike else [_only_with_most(most)]),
        *of_whole_backbones([(one.column, one.facts) for one in ran if one.column and one.is_inner], has_speeds),
        *([_AFTER_A_RACE] if raced else []),
        *list(reasons)[:MOST_REASONS],
    ]
    return Sheet("Backbones", [*heads, "pretrained on", "licence"], rows, {}, " ".join(words))


def _about_speeds(ran: Sequence[RankedCandidate]) -> list[str]:
    words = []
    if any(one.speed and one.speed.is_earlier for one in ran):
        words.append("*: the speed was measured in an earlier run.")
    if any(one.speed and one.speed.has_first_batch for one in ran):
        words.append("≥: measured on few images, the first ones included, which are slower.")
    return words


def _only_with_most(most: int) -> str:
    return f"They are shown where {most:,} images per class ran; with few images they are too low."


def _scores_sheet(found: Ranking, ran: Sequence[RankedCandidate]) -> Sheet:
    """Scores of each candidate."""
    names, raced = list(ran[0].scores), len(found.rounds) > 1
    values = [
        [
            one.name,
            *(format_number(one.scores[name]) for name in names),
            _share(one.place.accuracy),
            *([f"{one.place.images:,}"] if raced else []),
        ]
        for one in ran
        if one.place
    ]
    heads = ["candidate", *(f">{name}" for name in names), f">{found.shots}-shot"]
    reasons = dict.fromkeys(
        f"No {name} of {one.name}: {one.undefined[name]}." for one in ran for name in names if name in one.undefined
    )
    about = "Higher is better" + "; compare only scores from as many images per class" * raced + "."
    return Sheet(
        "Scores that need no held-out images",
        [*heads, *([">images/class"] if raced else [])],
        values,
        {},
        " ".join([about, *list(reasons)[:MOST_REASONS]]),
    )


def _correlations_sheet(found: Ranking) -> Sheet:
    """How scores rank the candidates."""
    rows = [
        [one.name + " (control)" * one.is_control, _or_dash(one.value), _span(one.interval), f"{one.candidates:,}"]
        for one in found.correlations
    ]
    about = (
        "1 if a score ranks the candidates as accuracy does; for CDNV, lower counts as better. Controls of the ranking "
        "are left out; the number of parameters and a random order show what a score has to surpass."
    )
    if len(found.rounds) > 1:
        about += " Only the candidates that ran over the most images are compared; --no-race runs all over all images."
    absent = dict.fromkeys(f"No correlation of {one.name}: {one.reason}." for one in found.correlations if one.reason)
    return Sheet(
        "Rank correlation of scores with accuracy",
        ["score", ">correlation", ">95% interval", ">candidates"],
        rows,
        {},
        " ".join([about, *absent]),
    )


def _absent_sheet(absent: Sequence[RankedCandidate]) -> Sheet:
    """Candidates that failed or did not run, and why; many with one reason share a row."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for one in absent:
        by_reason.setdefault((one.status, one.reason or ""), []).append(one.name)
    rows = []
    for (status, reason), names in by_reason.items():
        if len(names) > MOST_ROWS:
            rows.append([f"{', '.join(names[:2])} and {len(names) - 2} others", status, reason])
        else:
            rows += [[name, status, reason] for name in names]
    hints = dict.fromkeys(f"Hint: {one.hint}." for one in absent if one.hint)
    return Sheet("Not in the ranking", ["candidate", "status", "reason"], rows, {}, " ".join(hints))


def _mark(one: RankedCandidate) -> str:
    if not one.is_possible_best:
        return ""
    return UNBEATEN if one.status == "control" else POSSIBLE


def _share(value: float) -> str:
    return f"{value * 100:.1f}"


def _labels(one: LabelsNeeded | None) -> str:
    if one is None:
        return "–"
    return f"{'~ ' * one.extrapolated}{one.between}" if one.value is None else f"{one.value:,} ({one.between})"


def _speed(one: RankedCandidate) -> str:
    if one.speed is None:
        return "–"
    value = one.speed.images_per_second
    return (
        "≥ " * one.speed.has_first_batch
        + f"{value:,.0f}" * (value >= 10)
        + f"{value:.1f}" * (value < 10)
        + "*" * one.speed.is_earlier
    )


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def _span(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"[{interval[0]:+.2f}, {interval[1]:+.2f}]"
