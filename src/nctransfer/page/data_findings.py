"""Findings about the files of a data set, with the images: broken, identical, or alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nctransfer.errors import counted, join_names
from nctransfer.page.blocks import Block, Paragraph, Table

if TYPE_CHECKING:
    from nctransfer.page.found_data import LookedThrough
    from nctransfer.sources.data_report import Copy, Duplicates
    from nctransfer.sources.similar_images import ImagePair, LookAlikes

__all__ = ["data_findings"]

LISTED = 60  # pairs or broken images in a table
OPEN = 10  # rows up to which a table is open from the beginning
COPIES = 6  # of one image, in a table


def data_findings(looked: LookedThrough) -> Iterator[Block]:
    """What is wrong with the images: those that cannot be read, identical ones, and those that look alike."""
    yield from _broken(looked)
    yield from _twice(looked)
    if looked.alike is not None:
        yield from _alike(looked, looked.alike)


def _broken(looked: LookedThrough) -> Iterator[Block]:
    if not looked.broken:
        return
    number, more = len(looked.broken), len(looked.broken) - LISTED
    yield Paragraph(
        text=f"{counted(number, 'image')} cannot be read, and so {'is' if number == 1 else 'are'} not shown."
        f"{_more(more, 'image')}"
    )
    yield Table(
        columns=("image", "reason"),
        rows=tuple((one.id, one.reason) for one in looked.broken[:LISTED]),
        caption="Images that cannot be read.",
        folded=number > OPEN,
    )


def _twice(looked: LookedThrough) -> Iterator[Block]:
    """Images with identical files: those that matter most first."""
    report = looked.report
    kinds = (
        (
            report.across_splits,
            "Identical images in different splits",
            "Accuracy on one split does not measure unseen images.",
        ),
        (
            report.across_classes,
            "Identical images in different classes",
            "At least one of the labels is wrong, unless an image can belong to both classes.",
        ),
        (
            report.within_class,
            "Identical images in one class",
            "The class has fewer different images than it seems.",
        ),
    )
    for duplicates, caption, meaning in kinds:
        if duplicates.contents:
            more = _more(duplicates.contents - len(duplicates.first), "image")
            yield _copies(looked, duplicates, f"{caption}: files with the same bytes. {meaning}{more}")


def _copies(looked: LookedThrough, duplicates: Duplicates, caption: str) -> Table:
    has_splits = len(looked.report.splits) > 1
    columns = [("image", "class", "split"), ("identical to", "its class", "its split")]

    def cells(copy: Copy) -> tuple[str, ...]:
        return (looked.number(copy.id), copy.label, copy.split)[: 3 if has_splits else 2]

    rows = [(*cells(copies[0]), *cells(other)) for copies in duplicates.first for other in copies[1 : COPIES + 1]]
    width = 3 if has_splits else 2
    return Table(
        columns=tuple(name for three in columns for name in three[:width]),
        rows=tuple(rows),
        caption=caption,
        class_columns=(1, width + 1),
        image_columns=(0, width),
        folded=len(rows) > OPEN,
    )


def _alike(looked: LookedThrough, alike: LookAlikes) -> Iterator[Block]:
    """Images that look alike without being identical."""
    if said := " ".join(_alike_in_words(alike)):
        yield Paragraph(text=said)
    if not alike.pairs:
        return
    across = any(pair.across for pair in alike.pairs)  # if not, both images of each pair are of one class
    columns = ("image", "class", "looks like", "its class", "how", ">similarity", "differs in")
    alone = ("image", "looks like", "class", "how", ">similarity")
    yield Table(
        columns=columns if across else alone,
        rows=tuple(_pair(looked, pair, across) for pair in alike.pairs[:LISTED]),
        caption="Images that look alike. The similarity is the correlation of their fine detail, at most 1.",
        class_columns=(1, 3) if across else (2,),
        image_columns=(0, 2) if across else (0, 1),
        folded=len(alike.pairs) > OPEN,
    )


def _alike_in_words(alike: LookAlikes) -> Iterator[str]:
    for one in alike.crossings:
        yield (
            f"{counted(one.images, 'image')} of split {one.split} {_look(one.images)} like images of split "
            f"{one.other}: if a model learned from {one.other}, accuracy on {one.split} is too good."
        )
    if across := alike.count("class"):
        yield f"{counted(across, 'image')} {_look(across)} like an image of another class: check their labels."
    if alike.count(None):
        yield (
            "Images of one class that look alike are harmless, unless a model learns from one of them and is tested on "
            "the other one."
        )
    if alike.plain:
        yield f"{counted(alike.plain, 'image')} with too little detail could only be compared pixel by pixel."
    if more := _more(len(alike.pairs) - LISTED, "pair"):
        yield more.strip()


def _pair(looked: LookedThrough, pair: ImagePair, across: bool) -> tuple[str, ...]:
    one, other = pair.one, pair.other
    similarity = f"{pair.similarity if pair.similarity == 1 else min(pair.similarity, 0.999):.3f}"
    images = looked.number(one.id), looked.number(other.id)
    if not across:
        return (*images, one.label, pair.kind, similarity)
    differs = join_names(pair.across) or "nothing"
    return (images[0], one.label, images[1], other.label, pair.kind, similarity, differs)


def _look(number: int) -> str:
    return "looks" if number == 1 else "look"


def _more(number: int, noun: str) -> str:
    return f" {counted(number, f'further {noun}')} {'is' if number == 1 else 'are'} not listed." if number > 0 else ""
