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
        blocks=(*_numbers(found), *_sentences(found)),
    )


def _numbers(found: Measured) -> Iterator[Verdict]:
    if not isinstance(found.fit, Missing):
        yield _accuracy(found.fit)
    if not isinstance(found.labels, Missing):
        yield from map(_labels, found.labels.targets)
    yield _collapse(found.collapse)
    if not isinstance(found.audit, Missing):
        yield _suspects(found.audit)


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
    few = f"; {_short(found.metrics['cdnv'])} without correction for so few images" if name != "cdnv" else ""
    return Verdict(
        value=_short(found.metrics[name]),
        label="spread of the classes for their distance (CDNV)",
        detail=f"{interval}0 is full collapse{few}",
    )


def _short(value: float | None) -> str:
    """A number with three digits."""
    return format_number(value) if value is None or not math.isfinite(value) else f"{value:.3g}"


def _suspects(found: AuditResult) -> Verdict:
    """Labels that are flagged, and pairs of one picture whose labels differ: one of each pair is wrong."""
    likely = {flag.id for flag in found.of_kind(LABEL)}
    pairs = [flag for flag in found.of_kind(DUPLICATE) if flag.contradicts]
    number = len(likely.union(flag.id for flag in pairs))
    said = []
    if likely:
        said.append(
            f"about {found.expected_wrong:.0f} of {counted(len(likely), 'flagged label')} are expected to be wrong"
        )
    if pairs:
        said.append(f"{counted(len(pairs), 'image shows', 'images show')} the same picture as one of another class")
    return Verdict(
        value=f"{number:,}",
        label=f"{'label' if number == 1 else 'labels'} to check",
        detail="; ".join(said) or "no label is likely wrong",
    )


def _sentences(found: Measured) -> Iterator[Block]:
    if isinstance(found.fit, Missing):
        yield Notice(text=f"The accuracy could not be measured: {found.fit.reason}.")
    else:
        fit, promise = found.fit, found.fit.head.promise
        hardest = fit.classes[0]
        as_hard = [one for one in fit.classes if one.accuracy == hardest.accuracy]
        right, images = sum(one.right for one in as_hard), sum(one.images for one in as_hard)
        yield Paragraph(
            text=f"The classifier is ridge regression on the features of {counted(promise.images, 'labelled image')}. "
            "Each image was classified by a classifier that had not seen it, and the accuracy is corrected for the "
            "images that were left out."
            + (
                f" The hardest {'class is' if len(as_hard) == 1 else 'classes are'} "
                f"{join_names([one.name for one in as_hard])}: {right:,} of {images:,} of "
                f"{'its' if len(as_hard) == 1 else 'their'} images are classified right."
                if hardest.right < hardest.images
                else " All classes are classified without an error."
            )
        )
        if found.more_labels is not None:
            low, high = (f"{100 * end:.1f}" for end in found.more_labels.gain)
            yield Paragraph(
                text=f"Twice as many labelled images would probably add {low} to {high} percentage points "
                "(the range that holds 85% of the learning curves that fit)."
            )
        for warning in fit.warnings:
            yield Notice(text=sentence(warning))
    if isinstance(found.labels, Missing):
        yield Notice(text=f"The labels that a target needs could not be estimated: {found.labels.reason}.")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
