"""Images that deserve a look: labels that are likely wrong, duplicates, outliers."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.label_audit.flags import DUPLICATE, LABEL, OUTLIER
from nctransfer.label_audit.nearest_images import unit_rows
from nctransfer.page.blocks import Block, Finding, FindingList, Notice, Paragraph, Section
from nctransfer.page.sentences import sentence
from nctransfer.page.shown_places import last_part

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.label_audit.flags import AuditResult, Flag

__all__ = ["MOST", "suspects_section"]

MOST = 20
"""Findings of each kind that a page shows, the surest first."""

NEIGHBOURS = 3  # of an outlier
OUTLIERS = (
    "An outlier is an image that lies as far from every class as images usually lie from a class that is not their own."
)


def suspects_section(found: AuditResult, features: FeatureSet, most: int = MOST) -> Section:
    """The findings of an audit with their nearest images, and how to go on with them.

    Args:
        found: The audit, of this feature set and perhaps others.
        features: The feature set of the page, whose rows are the image numbers.
        most: How many findings of each kind are shown.
    """
    numbers = {name: number for number, name in enumerate(features.ids)}
    findings = [finding for flags in _kinds(found, most) for finding in _findings(found, flags, numbers, features)]
    blocks: list[Block] = [Notice(text=sentence(one)) for one in found.warnings]
    blocks += [Paragraph(text=text) for text in _in_words(found, most)]
    if findings:
        blocks.append(FindingList(name="suspects", findings=tuple(findings)))
        blocks.append(Paragraph(text=_how_to_go_on(found)))
    return Section(
        id="suspects",
        title="Images to look at",
        says=(
            "It lists the images whose label is most likely wrong, that show the same picture as another one, or that "
            "are unlike every class, the surest of each kind first."
        ),
        not_says=(
            "A finding is a place to look, not a verdict: images between two classes look like wrong labels. "
            "And wrong labels that all images of a class share are not found."
        ),
        blocks=tuple(blocks),
    )


def _kinds(found: AuditResult, most: int) -> Iterator[Sequence[Flag]]:
    """The flags that are shown, kind by kind."""
    yield (found.of_kind(LABEL) or found.doubtful)[:most]
    duplicates = found.of_kind(DUPLICATE)
    yield [flag for flag in duplicates if flag.contradicts][:most]
    yield [flag for flag in duplicates if not flag.contradicts][:most]
    yield found.of_kind(OUTLIER)[:most]


def _findings(
    found: AuditResult, flags: Sequence[Flag], numbers: Mapping[str, int], features: FeatureSet
) -> list[Finding]:
    """The flags of one kind as findings."""
    images = [numbers.get(flag.id) for flag in flags]
    near = [tuple(numbers[name] for name in flag.neighbours if name in numbers) for flag in flags]
    if flags and flags[0].kind == OUTLIER:
        near = _nearest(images, features)
    return [
        Finding(
            image=image,
            id=flag.id,
            kind=flag.kind,
            given=flag.given,
            suggested=flag.suggested or "",
            like=flag.neighbours[0] if flag.kind == DUPLICATE else "",
            expected_precision=flag.expected_precision
            if flag.kind == LABEL and not _is_doubtful(found, flag)
            else None,
            why=_why(found, flag, _likeness(features, image, neighbours)),
            neighbours=neighbours,
        )
        for flag, image, neighbours in zip(flags, images, near, strict=True)
    ]


def _nearest(images: Sequence[int | None], features: FeatureSet) -> list[tuple[int, ...]]:
    """The nearest other images of a few images, by the cosine of centred features."""
    import torch

    asked = [image for image in images if image is not None]
    number = min(NEIGHBOURS, len(features) - 1)
    rows = unit_rows(features, torch.device("cpu"))
    cosines = rows[asked] @ rows.T
    cosines[torch.arange(len(asked)), torch.tensor(asked, dtype=torch.int64)] = -torch.inf
    near = dict(zip(asked, cosines.topk(number).indices.tolist(), strict=True))
    return [() if image is None else tuple(near[image]) for image in images]


def _is_doubtful(found: AuditResult, flag: Flag) -> bool:
    """Whether it is a label that is listed although it is not flagged."""
    return flag.kind == LABEL and (flag.expected_precision or 0.0) < found.level


def _likeness(features: FeatureSet, image: int | None, neighbours: Sequence[int]) -> str:
    """What an image shares with its first neighbour, as far as that is known: its file, its features, or less."""
    import torch

    if image is None or not neighbours:
        return ""
    like = neighbours[0]
    if features.images is not None and bool(features.images[image] == features.images[like]):
        return "The file has the same content as that of"
    if torch.equal(features.features[image], features.features[like]):
        return "It has exactly the same features as"
    return ""


def _why(found: AuditResult, flag: Flag, likeness: str) -> str:
    """Why an image is listed, in one or two sentences."""
    if flag.kind == LABEL:
        said = _why_label(found, flag)
    elif flag.kind == DUPLICATE:
        said = _why_duplicate(found, flag, likeness)
    else:
        said = f"Its unlikeness to every class is {flag.unlikeness or 0:.1f} standard deviations above the median."
    if len(found.sets) > 1:
        said += f" {flag.agreement} of {len(found.sets)} backbones find this on their own."
    return said


def _why_label(found: AuditResult, flag: Flag) -> str:
    chance = 100 * (flag.expected_precision or 0.0)
    number = "nearly all are" if chance >= 99 else f"about {chance:.0f} are" if chance >= 1.5 else "at most 1 is"
    said = f"{flag.suggested} is likelier. Of 100 such labels {number} wrong"
    return f"{said}, too few for a flag." if _is_doubtful(found, flag) else f"{said}."


def _why_duplicate(found: AuditResult, flag: Flag, likeness: str) -> str:
    [like] = flag.neighbours[:1]
    said = f"{likeness} {like}" if likeness else f"By its features, it shows the same picture as {like}"
    if not flag.contradicts:
        return f"{said}."
    said += (
        f", which is labelled {found.labels.get(like, flag.suggested)}. So the picture stands in two classes, and at "
        "least one of the two labels is wrong, unless a picture can belong to both."
    )
    if flag.expected_precision is not None and flag.expected_precision > 0.5:
        said += " This label is the likelier one to be wrong."
    return said


def _in_words(found: AuditResult, most: int) -> list[str]:
    """What was found, one paragraph per kind that was looked for."""
    said = []
    if LABEL in found.kinds:
        said.append(_about_labels(found, most))
    if DUPLICATE in found.kinds:
        said.append(_about_duplicates(found, most))
    if OUTLIER in found.kinds:
        said.append(_about_outliers(found, most))
    return said


def _about_labels(found: AuditResult, most: int) -> str:
    number, all_labels = len(found.of_kind(LABEL)), len(found.labels)
    are = counted(number, "label is", "labels are") if number else "no label is"
    said = f"Labels: {are} wrong with an estimated probability of {found.level:.0%} or more{_shown(number, most)}."
    if number:
        said += f" About {_rounded(found.expected_wrong)} of them are expected to be wrong, and the others right."
    elif found.doubtful:
        said += (
            f" The {counted(len(found.doubtful), 'most doubtful one is', 'most doubtful ones are')} listed: another "
            "class is likelier, but they may as well lie between two classes."
        )
    if number or found.doubtful:
        said += " Beside each: the nearest other image of its class, and the nearest of the suggested class."
    if found.noise_rate is not None:
        wrong = found.noise_rate * all_labels
        some = f"about {_rounded(wrong)} ({found.noise_rate:.1%}) are" if wrong >= 0.5 else "hardly one is"
        said += f" Of all {all_labels:,} labels, {some} estimated to be wrong."
    return said


def _about_duplicates(found: AuditResult, most: int) -> str:
    flags = found.of_kind(DUPLICATE)
    if not flags:
        return "Duplicates: by their features, no two images show the same picture."
    across = sum(flag.contradicts for flag in flags)
    within = len(flags) - across
    said = []
    if across:
        said.append(
            f"{counted(across, 'image shows', 'images show')} the same picture as an image of another class"
            f"{_shown(across, most)}, so that at least one of the two labels is wrong unless a picture can belong to "
            "both classes"
        )
    if within:
        said.append(
            f"{counted(within, 'image repeats', 'images repeat')} a picture of the same class{_shown(within, most)}: "
            "if one of the two is learned and the other tested, accuracy is too good"
        )
    return (
        f"Duplicates: by their features, {'; '.join(said)}. Features are nearly equal for copies of a file, for "
        "pictures that were saved again, and for those in which the backbone sees no difference; how many files and "
        "pixels agree stands in the section on the data."
    )


def _about_outliers(found: AuditResult, most: int) -> str:
    number = len(found.of_kind(OUTLIER))
    if not number:
        return f"Outliers: there is none. {OUTLIERS}"
    said = (
        f"Outliers: {counted(number, 'image fits', 'images fit')} none of the classes{_shown(number, most)}. {OUTLIERS}"
    )
    if found.outliers_by_chance is not None:
        said += f" By chance, there would be about {_rounded(found.outliers_by_chance)}."
    return f"{said} Beside each: its nearest images."


def _shown(number: int, most: int) -> str:
    return f" (the surest {most} are listed)" if number > most else ""


def _how_to_go_on(found: AuditResult) -> str:
    sets = shlex.quote(found.features.id) if len(found.sets) == 1 else "with the same feature sets"
    place = found.features.data or ""
    folder = shlex.quote(last_part(place)) if place and Path(place).is_dir() else "FOLDER"
    return (
        "To go on: look at each finding, tick those that you agree with, and export the ticked ones as suspects.csv. "
        "If somebody gave you this page, give the file back to them: the command "
        f"nctransfer audit {sets} --corrections labels.csv --ticked suspects.csv writes a table of all images in which "
        "the ticked labels are corrected, and ticked images without a suggested class are left out. "
        f"nctransfer extract --data labels.csv --image-root {folder} reads it."
    )


def _rounded(number: float) -> str:
    """A whole number, or one decimal below ten."""
    return f"{number:,.0f}" if number >= 10 or number < 0.05 else f"{number:.1f}"
