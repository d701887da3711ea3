"""The answer in a few large numbers: how accurate, with how many labels, and what to look at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.label_audit.flags import DUPLICATE, LABEL
from nctransfer.page.blocks import Block, Notice, Paragraph, Section, Verdict
from nctransfer.page.measured import Missing
from nctransfer.page.sentences import sentence
from nctransfer.rank.ranking import Ranking
from nctransfer.report.labels_sheets import short_percent
from nctransfer.report.wording import format_number

if TYPE_CHECKING:
    from nctransfer.evaluation.labels_needed import LabelsNeeded
    from nctransfer.heads.fit_result import FitResult
    from nctransfer.label_audit.flags import AuditResult
    from nctransfer.neural_collapse.collapse_report import CollapseReport
    from nctransfer.page.measured import Measured

__all__ = ["verdict_section"]


def verdict_section(found: Measured) -> Section:
    """What a reader wants to know first."""
    return Section(
        id="verdict",
        title="The verdict",
        says="This is what a simple classifier on these frozen features does with other images of your classes.",
        not_says="It does not say how it does on other classes, or on images that were taken in another way.",
        blocks=(Paragraph(text=" ".join(_in_short(found))), *_numbers(found), *_details(found)),
    )


def _in_short(found: Measured) -> Iterator[str]:
    """The answer in a few sentences: which backbone, how accurate, how many labels, what to check first."""
    name = next(iter(found.sets))
    is_ranked = isinstance(found.ranking, Ranking)
    if isinstance(found.ranking, Ranking):
        yield f"{found.ranking.recommendation} All but the ranking on this page is about {name}."
    if not isinstance(found.fit, Missing):
        promise = found.fit.head.promise
        yield (
            f"A simple classifier on the features of {name} that learns from these {promise.images:,} labelled images "
            f"is expected to label {_percent(promise.accuracy)} of other images of these classes right."
        )
    if not is_ranked and not isinstance(found.labels, Missing):  # a recommendation says it already
        yield from map(_reached, found.labels.targets)
    if not isinstance(found.audit, Missing) and (number := len(_to_check(found.audit))):
        yield f"Before you trust the numbers, look at {counted(number, 'label')} that may be wrong."
    if len(found.sets) == 1:
        yield "Whether another backbone does better is not known from this page; nctransfer rank compares backbones."


def _reached(one: LabelsNeeded) -> str:
    target = short_percent(one.target)
    if one.value is not None:
        return (
            f"{counted(one.value, 'labelled image')} per class {'is' if one.value == 1 else 'are'} enough for {target}."
        )
    if one.extrapolated:
        return f"{target} is not reached with these images; by extrapolation it takes {one.between} per class."
    return f"{target} is not reached with these images."


def _numbers(found: Measured) -> Iterator[Verdict]:
    if not isinstance(found.fit, Missing):
        yield _accuracy(found.fit)
    if not isinstance(found.labels, Missing):
        yield from map(_labels, found.labels.targets)
    if not isinstance(found.audit, Missing):
        yield _suspects(found.audit)
    yield _collapse(found.collapse)


def _accuracy(found: FitResult) -> Verdict:
    promise = found.head.promise
    low, high = promise.interval
    return Verdict(
        value=_percent(promise.accuracy),
        label="accuracy on other images of these classes",
        detail=f"95% interval {_percent(low)} to {_percent(high)}; by chance {_percent(1 / len(found.head.classes))}",
    )


def _labels(one: LabelsNeeded) -> Verdict:
    label = f"labelled images per class for {short_percent(one.target)}"
    if one.value is not None:
        return Verdict(value=f"{one.value:,}", label=label, detail=f"95% interval {one.between}")
    how = ", by extrapolation" if one.extrapolated else ""
    return Verdict(value=one.between, label=label, detail=f"more than these images can show{how}")


def _collapse(found: CollapseReport) -> Verdict:
    name = "cdnv_debiased" if found.metrics.get("cdnv_debiased") is not None else "cdnv"
    ends = found.intervals.get(name)
    interval = f"95% interval over classes {_short(ends[0])} to {_short(ends[1])}; " if ends else ""
    few = f"; {_short(found.metrics['cdnv'])} without correction for few images" if name != "cdnv" else ""
    return Verdict(
        value=_short(found.metrics[name]),
        label="CDNV: variance within classes over squared distance of classes",
        detail=f"{interval}0 if all images of a class have the same features{few}",
    )


def _short(value: float | None) -> str:
    """A number with three digits."""
    return format_number(value) if value is None or not math.isfinite(value) else f"{value:.3g}"


def _to_check(found: AuditResult) -> set[str]:
    """Labels that are flagged, and images that show the same picture as one of another class."""
    flags = [flag for flag in found.flags if flag.kind == LABEL or flag.contradicts]
    return {flag.id for flag in flags}


def _suspects(found: AuditResult) -> Verdict:
    likely = found.of_kind(LABEL)
    twice = sum(flag.contradicts for flag in found.of_kind(DUPLICATE))
    said = []
    if likely:
        said.append(
            f"about {found.expected_wrong:.0f} of {counted(len(likely), 'flagged label')} are expected to be wrong"
        )
    if twice:
        said.append(f"{counted(twice, 'image shows', 'images show')} the same picture as one of another class")
    number = len(_to_check(found))
    return Verdict(
        value=f"{number:,}",
        label=f"{'label' if number == 1 else 'labels'} to check",
        detail="; ".join(said) or "no label is likely wrong",
    )


def _details(found: Measured) -> Iterator[Block]:
    """How the numbers were found, and what weakens them."""
    if isinstance(found.fit, Missing):
        yield Notice(text=f"The accuracy could not be measured: {found.fit.reason}.")
    else:
        yield Paragraph(text=_how_measured(found.fit))
    if found.more_labels is not None:
        low, high = (f"{100 * end:.1f}" for end in found.more_labels.gain)
        yield Paragraph(
            text=f"Twice as many labelled images would add {low} to {high} percentage points, if the accuracy goes on "
            "rising as it has so far (the middle 85% of the curves that fit what was measured)."
        )
    if not isinstance(found.fit, Missing):
        for warning in found.fit.warnings:
            yield Notice(text=sentence(warning))
    if isinstance(found.labels, Missing):
        yield Notice(text=f"The labels that a target needs could not be estimated: {found.labels.reason}.")


def _how_measured(fit: FitResult) -> str:
    """How the accuracy was measured, and the hardest classes."""
    said = (
        "The classifier is ridge regression. To measure it, each image was classified by one that had not seen it. "
        "Such a classifier has learnt from a few images less than there are, and the accuracy is corrected for that."
    )
    hardest = [one for one in fit.classes if one.accuracy == fit.classes[0].accuracy]
    if hardest[0].right == hardest[0].images:
        return f"{said} No image was classified wrong."
    right, images = sum(one.right for one in hardest), sum(one.images for one in hardest)
    names = join_names([one.name for one in hardest])
    if len(hardest) == 1:
        return f"{said} The hardest class is {names}: {right:,} of its {images:,} images are classified right."
    return f"{said} The hardest classes are {names}: {right:,} of their {images:,} images are classified right."


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
