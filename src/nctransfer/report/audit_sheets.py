"""Sheets of an audit of labels: one for each kind of flag."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.report.sheet import Sheet
from nctransfer.report.wording import about_features

if TYPE_CHECKING:
    from nctransfer.label_audit.flags import AuditResult, Flag

__all__ = ["MOST", "audit_sheets"]

MOST = 20
"""Flags in the table of each kind, unless the user asks for more."""


def audit_sheets(found: AuditResult, most: int | None = MOST) -> list[Sheet]:
    """A sheet for each kind of flag that was looked for.

    Args:
        found: The audit.
        most: How many flags each table shows, the surest first; ``None`` for all.
    """
    found, folder = _without_folder(found)
    makers = {"label": _labels, "duplicate": _duplicates, "outlier": _outliers}
    first, *others = [make(found, most) for kind, make in makers.items() if kind in found.kinds]
    about = _about(found) | ({"images in": folder} if folder else {})
    return [replace(first, facts=about | dict(first.facts)), *others]


def _without_folder(found: AuditResult) -> tuple[AuditResult, str]:
    """The result with shorter names of images, and the folder that all of them lie in; empty if there is none."""
    first, last = min(found.labels), max(found.labels)
    parts = itertools.takewhile(
        lambda pair: pair[0] == pair[1], zip(first.split("/")[:-1], last.split("/")[:-1], strict=False)
    )
    folder = "".join(f"{part}/" for part, _ in parts)
    if not folder:
        return found, ""
    cut = len(folder)
    flags, doubtful = (
        tuple(
            replace(flag, id=flag.id[cut:], neighbours=tuple(name[cut:] for name in flag.neighbours)) for flag in some
        )
        for some in (found.flags, found.doubtful)
    )
    return replace(
        found, flags=flags, doubtful=doubtful, labels={name[cut:]: label for name, label in found.labels.items()}
    ), folder


def _labels(found: AuditResult, most: int | None) -> Sheet:
    flags = found.of_kind("label")
    rows = [
        [
            flag.id,
            flag.given,
            flag.suggested or "–",
            _whole_percent(flag.expected_precision),
            _signed(flag.margin),
            *_nearest(flag),
            *_agreement(found, flag),
        ]
        for flag in (flags or found.doubtful)[:most]
    ]
    columns = ["image", "given", "suggested", ">wrong, %", ">margin", "near, given", "near, suggested"]
    return Sheet(
        "Labels that are likely wrong",
        [*columns, *_agreement_column(found)] if rows else [],
        rows,
        {
            "level": f"labels that are wrong with a probability of {found.level:.0%} or more",
            "wrong labels in all": f"about {_rounded(found.noise_rate * len(found.labels))} ({found.noise_rate:.1%})"
            if found.noise_rate is not None
            else "",
        },
        " ".join([*_about_labels(found, len(flags)), *(_more(len(flags), len(rows)) if flags else ())]),
    )


def _about_labels(found: AuditResult, number: int) -> list[str]:
    if not number:
        said = [f"No label is flagged at this level ({found.level:.0%})."]
        if found.doubtful:
            said.append("The table has the most doubtful ones: another class is likelier, but where so few images are,")
            said.append("they may as well lie between two classes. Near: the nearest other image of either class.")
        return said
    wrong = _rounded(found.expected_wrong)
    return [
        f"{counted(number, 'label is', 'labels are')} flagged at this level; about {wrong} wrong ones are expected.",
        "The estimate compares each label with the probability of every class for the image, left out.",
        "Near: the nearest other image of either class.",
        "A flag marks overlap of classes as well as errors: look before you change a label.",
    ]


def _duplicates(found: AuditResult, most: int | None) -> Sheet:
    flags = found.of_kind("duplicate")
    rows = [
        [
            flag.id,
            flag.given,
            flag.neighbours[0],
            found.labels[flag.neighbours[0]],
            _two_digits(flag.closeness),
            *_agreement(found, flag),
        ]
        for flag in flags[:most]
    ]
    columns = ["image", "given", "shows the same as", "whose label is", ">distance"]
    across = sum(flag.contradicts for flag in flags)
    words = []
    if across:
        words.append(
            f"{counted(across, 'image shows', 'images show')} the same picture as an image of another class: "
            f"one of the two labels is wrong."
        )
    if within := len(flags) - across:
        words.append(
            f"{counted(within, 'image repeats', 'images repeat')} a picture of the same class: if one is learned and "
            "the other tested, accuracy is too good."
        )
    if flags:
        words.append("Distance: 0 for equal files, 1 at the limit of near-duplicates.")
    else:
        words.append("No two images show the same picture, as far as these features tell.")
    return Sheet(
        "Near-duplicates",
        [*columns, *_agreement_column(found)] if rows else [],
        rows,
        {},
        " ".join([*words, *_more(len(flags), len(rows))]),
    )


def _outliers(found: AuditResult, most: int | None) -> Sheet:
    flags = found.of_kind("outlier")
    rows = [[flag.id, flag.given, _two_digits(flag.unlikeness), *_agreement(found, flag)] for flag in flags[:most]]
    words = ["No image is as unlike every class as images of other classes usually are."]
    if flags:
        chance = "about " + _rounded(found.outliers_by_chance or 0.0)
        are = counted(len(flags), "image is", "images are")
        words = [f"{are} as unlike every class as images of other classes usually are."]
        words.append("Unlikeness is in standard deviations above the median image;")
        words.append(f"if it were normally distributed, {chance} images would be so by chance.")
    return Sheet(
        "Outliers",
        ["image", "given", ">unlikeness", *_agreement_column(found)] if rows else [],
        rows,
        {},
        " ".join([*words, *_more(len(flags), len(rows))]),
    )


def _about(found: AuditResult) -> dict[str, str]:
    facts = about_features(found.features)
    return facts if len(found.sets) == 1 else {"models": ", ".join(found.sets), "data": facts["data"]}


def _agreement_column(found: AuditResult) -> list[str]:
    return [">backbones"] if len(found.sets) > 1 else []


def _agreement(found: AuditResult, flag: Flag) -> list[str]:
    """How many sets find the flag on their own, if there are several."""
    return [f"{flag.agreement} of {len(found.sets)}"] if len(found.sets) > 1 else []


def _more(number: int, shown: int) -> Iterable[str]:
    return [f"… and {number - shown:,} more (all of them: --most all)."] if number > shown else []


def _nearest(flag: Flag) -> list[str]:
    """The nearest images of both classes, without the folder if it has the name of the class."""
    near = zip(flag.neighbours, (flag.given, flag.suggested), strict=False)
    return [*(name.removeprefix(f"{label}/") for name, label in near), "–", "–"][:2]


def _whole_percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.0f}"


def _signed(number: float | None) -> str:
    return "–" if number is None else f"{number:+.2f}"


def _two_digits(number: float | None) -> str:
    return "–" if number is None else f"{number:.2f}"


def _rounded(number: float) -> str:
    """A whole number, or one decimal below ten.

    >>> _rounded(12.3), _rounded(4.25), _rounded(0.01)
    ('12', '4.2', '0')
    """
    return f"{number:,.0f}" if number >= 10 or number < 0.05 else f"{number:.1f}"
