"""How many images there are, in one way of counting: files, those on the page, copies, and look-alikes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nctransfer.errors import counted
from nctransfer.page.sentences import listed
from nctransfer.page.shown_places import last_part

if TYPE_CHECKING:
    from nctransfer.page.found_data import LookedThrough
    from nctransfer.page.image_finder import FoundImages
    from nctransfer.sources.data_report import DataReport
    from nctransfer.sources.similar_images import LookAlikes

__all__ = ["Copies", "copies_of", "counts_in_words"]


class Copies(NamedTuple):
    """How many images repeat another one, byte for byte. Each image beyond the first of its kind counts once.

    Attributes:
        across_classes: Copies in another class.
        across_splits: Copies in the same class and another split.
        within: Copies in the same class and split.
    """

    across_classes: int
    across_splits: int
    within: int


def copies_of(report: DataReport) -> Copies:
    """The copies among the images that were read."""
    import numpy as np

    groups, images = report.digests.groups(), report.entries
    labels = images.label_codes.astype(np.int64)
    splits = len(images.splits.dictionary)
    classes, places = groups.distinct(labels), groups.distinct(labels * splits + images.split_codes)
    return Copies(classes - len(groups), places - classes, len(groups.rows) - places)


def counts_in_words(looked: LookedThrough, found: FoundImages) -> str:
    """Sentences that lead from the files to the images on the page, to copies, and to images that look alike."""
    said = [_files(looked, found)]
    if looked.report.images - len(looked.report.broken) > 1:
        said.append(_copies(looked))
        said.append("" if looked.alike is None else _alike(looked.alike))
    return " ".join(filter(None, said))


def _files(looked: LookedThrough, found: FoundImages) -> str:
    """What became of the images of the source; "" if all of them are on the page."""
    outside = {entry.id for entry in found.others}
    there = len(found.entries) + len(outside)
    broken = sum(one.id in outside for one in looked.broken)
    left = len(outside) - broken
    if not outside:
        return ""
    parts = [f"{len(found.entries):,} {_are(len(found.entries))} on this page"]
    if broken:
        parts.append(f"{broken:,} cannot be read")
    if left:
        parts.append(f"{left:,} {_are(left)} not on the page (of another class or split, or left out)")
    name = last_part(looked.report.name)
    return f"Of the {there:,} images in {name}, {listed(parts)}."


def _copies(looked: LookedThrough) -> str:
    report, copies = looked.report, copies_of(looked.report)
    read = report.images - len(report.broken)
    number = sum(copies)
    images = counted(read, "image") + (" that can be read" if report.broken else "")
    if not number:
        return f"The {images} are all different files."
    where = {
        "an image of another class": copies.across_classes,
        "an image of the same class in another split": copies.across_splits,
        "an image of the same class": copies.within,
    }
    parts = [f"{of:,} repeat{'s' if of == 1 else ''} {what}" for what, of in where.items() if of]
    are = "is a copy" if number == 1 else "are copies"
    return (
        f"Of the {images}, {number:,} {are} of another file, byte for byte: "
        f"{listed(parts)}. That leaves {read - number:,} different files."
    )


def _alike(alike: LookAlikes) -> str:
    number = len(alike.pairs)
    if not number:
        return "No two of these look alike: none was saved again or mirrored."
    images = len({image.id for pair in alike.pairs for image in pair[:2]})
    said = (
        f"Among these, {counted(number, 'pair')} ({counted(images, 'image')}) "
        f"{'looks' if number == 1 else 'look'} alike although the files differ"
    )
    across = sum("class" in pair.across for pair in alike.pairs)
    splits = sum(pair.across == ("split",) for pair in alike.pairs)
    if not across and not splits:
        return f"{said}, {'within a class' if number == 1 else 'all within a class'}."
    where = {"of two classes": across, "of one class in two splits": splits, "within a class": number - across - splits}
    return f"{said}: {listed([f'{of:,} {what}' for what, of in where.items() if of])}."


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
