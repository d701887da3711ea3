"""Sheets of the layers of a backbone in few-shot tasks: how accurate each is, and what choosing one gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.report.fewshot_sheets import task_facts
from nctransfer.report.sheet import Bar, Sheet
from nctransfer.report.wording import (
    POPULATIONS,
    about_features,
    format_number,
    in_points,
    percent,
    with_interval,
)

if TYPE_CHECKING:
    from nctransfer.evaluation.layer_results import FewShotLayers, Guide, LayerChoice

__all__ = ["layer_sheets"]

NAMES = {"explained": "left-out labels"}


def layer_sheets(found: FewShotLayers) -> list[Sheet]:
    """The accuracy of each layer with NC1 beside it; what a choice gives; and which layers NC1 and others name."""
    return [_accuracies(found), _choices(found), _guides(found)]


def _accuracies(found: FewShotLayers) -> Sheet:
    """One row per candidate, one column per task."""
    first = next(iter(found.results.values()))
    one_way = len({choice.ways for choice in found.choices}) == 1
    heads = [
        ">"
        + (
            f"{choice.shots}-shot {choice.classifier}"
            if one_way
            else f"{choice.ways}-way {choice.shots}-shot {choice.classifier}"
        )
        for choice in found.choices
    ]
    rows = []
    for name, result in found.results.items():
        cells = []
        for row, choice in zip(result.rows, found.choices, strict=True):
            mark = " *" if name == choice.best else ""
            is_missing = name == "chosen" and not choice.is_chosen
            cells.append("–" if is_missing else with_interval(row) + mark)
        measures = found.measures.get(name, {})
        rows.append(
            [name, *cells, format_number(measures.get("nc1")), format_number(measures.get("directional_cdnv_debiased"))]
        )
    facts = about_features(found.features) | task_facts(first)
    return Sheet(
        "Few-shot accuracy by layer",
        ["layer", *heads, ">nc1", ">directional cdnv"],
        rows,
        facts,
        _reading(found),
        _bars(found),
    )


def _reading(found: FewShotLayers) -> str:
    """How to read the accuracies."""
    from nctransfer.intervals import INTERVALS

    first = next(iter(found.results.values()))
    joins = [one for one in found.candidates if one.is_join]
    words = [
        "Accuracy in %, higher is better; * marks the best in hindsight.",
        f"± is the half-width of the 95% interval {INTERVALS[found.task.interval]}.",
        "Chosen: each episode takes the candidate that labels its support best when examples are left out of it.",
        f"It takes {found.choices[0].default} if no other is better by a standard error. Queries are not looked at.",
    ]
    if joins:
        words.append("Joined layers are scaled to the same mean squared length; mean of all is that of inner products.")
    words.append("nc1 and directional cdnv of all these images: the lower, the more collapsed.")
    words += [f"{name} is the same as {other}." for name, other in found.copies.items()]
    reasons = dict.fromkeys(row.undefined["ci95"] for row in first.rows if "ci95" in row.undefined)
    words += [f"No ±: {reason}." for reason in reasons]
    return " ".join(words)


def _bars(found: FewShotLayers) -> tuple[Bar, ...]:
    """Accuracy over candidates, of each task."""
    return tuple(
        Bar(f"{row.ways}-way {row.shots}-shot {row.classifier}", name, row.accuracy)
        for number in range(len(found.choices))
        for name, result in found.results.items()
        for row in [result.rows[number]]
        if name != "chosen" or found.choices[number].is_chosen
    )


def _choices(found: FewShotLayers) -> Sheet:
    """The default, the choice inside the support, the best in hindsight, and its selection bias."""
    rows = [
        [
            str(one.ways),
            str(one.shots),
            one.classifier,
            percent(one.default_accuracy),
            percent(one.chosen_accuracy) if one.is_chosen else "–",
            f"{one.gain * 100:+.2f} {in_points(one.gain_interval)}" if one.is_chosen else "–",
            one.best,
            percent(one.best_accuracy),
            "–" if one.bias is None else f"{one.bias * 100:.2f} {in_points(one.bias_interval)}",
            join_names(one.possible_bests, 4) if one.possible_bests else "–",
        ]
        for one in found.choices
    ]
    default = found.choices[0].default
    populations = dict.fromkeys(POPULATIONS[one.population] for one in found.choices)
    words = [
        f"Gain: chosen minus {default}, with its 95% interval.",
        "The best in hindsight is known only after the queries: it was picked and scored on the same classes, and its",
        "selection bias is what it is likely to lose on others.",
        "The best is among the possible bests in at least 95% of studies.",
        f"Intervals are on {' or '.join(populations)}.",
    ]
    reasons = dict.fromkeys(reason for one in found.choices for reason in one.undefined.values())
    words += [f"–: {reason}." for reason in reasons]
    return Sheet(
        "Choosing a layer",
        [
            ">ways",
            ">shots",
            "classifier",
            f">{default}",
            ">chosen",
            ">gain",
            "best in hindsight",
            ">accuracy",
            ">selection bias",
            "possible bests",
        ],
        rows,
        {},
        " ".join(words),
    )


def _guides(found: FewShotLayers) -> Sheet:
    """Which single layer each number names, and what following it loses."""
    measures = list(dict.fromkeys(guide.measure for one in found.choices for guide in one.guides))
    rows = [
        [
            str(one.ways),
            str(one.shots),
            one.classifier,
            _most_accurate(found, one),
            *(_named(one, name) for name in measures),
        ]
        for one in found.choices
    ]
    right = {name: _times_right(found, name) for name in measures}
    facts = {NAMES.get(name, name.replace("_", " ")): text for name, text in right.items() if text}
    return Sheet(
        "Guides: the single layer that a number names",
        [
            ">ways",
            ">shots",
            "classifier",
            "most accurate",
            *(NAMES.get(name, name.replace("_", " ")) for name in measures),
        ],
        rows,
        {f"not told from the best: {name}": text for name, text in facts.items()},
        "Each names the layer where it is lowest; left-out labels names the one that explains most. "
        "In brackets: points lost against the most accurate single layer. Not told from the best: on other classes, "
        "this layer may be the most accurate.",
    )


def _most_accurate(found: FewShotLayers, choice: LayerChoice) -> str:
    number = found.choices.index(choice)
    single = [one.name for one in found.candidates if not one.is_join]
    return max(single, key=lambda name: found.results[name].rows[number].accuracy)


def _named(choice: LayerChoice, measure: str) -> str:
    guide = _guide(choice, measure)
    if guide is None or guide.layer is None or guide.loss is None:
        return "–"
    lost = f"{guide.loss * 100:.2f}"
    return guide.layer if lost == "0.00" else f"{guide.layer} (−{lost})"


def _guide(choice: LayerChoice, measure: str) -> Guide | None:
    return next((one for one in choice.guides if one.measure == measure), None)


def _times_right(found: FewShotLayers, measure: str) -> str:
    """How often a guide names a layer that may be the most accurate."""
    guides = [_guide(one, measure) for one in found.choices]
    known = [one.is_possible_best for one in guides if one is not None and one.is_possible_best is not None]
    return f"{sum(known)} of {counted(len(known), 'task')}" if known else ""
