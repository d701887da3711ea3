"""The data on a page: the classes, the files, what is wrong with them, and some images of each class."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.figures.class_counts_figure import class_counts_figure
from nctransfer.figures.image_sizes_figure import image_sizes_figure, size_bins
from nctransfer.figures.inline_svg import inline_svg
from nctransfer.figures.style import caption_of
from nctransfer.page.blocks import Block, Chart, Facts, ImageStrip, Notice, Paragraph, Section, Table
from nctransfer.page.data_counts import counts_in_words
from nctransfer.page.data_findings import data_findings
from nctransfer.page.found_data import look_through
from nctransfer.page.shown_places import last_part
from nctransfer.page.thumbnails import shuffled_by_class
from nctransfer.rank.contenders import GivenFeatures
from nctransfer.report.data_sheets import file_size, image_sizes, shares

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.page.found_data import LookedThrough
    from nctransfer.page.image_finder import FoundImages
    from nctransfer.sources.data_report import DataReport

    Progress = Callable[[str, int, int], None]

__all__ = ["data_section"]

MOST_STRIPS = 20  # classes that are shown as strips of images; a table of more takes less room, because it scrolls
IN_STRIP = 9  # images, which are a line on a wide page
IN_TABLE, COLUMNS = 1500, 3  # images in a table, and of each class
DIFFERENT = 1.25  # sizes of classes are drawn if the largest is at least this many times the smallest
UNEQUAL = 2  # classes are called unequal if the largest is more than this many times the smallest


def data_section(
    features: FeatureSet,
    found: FoundImages,
    *,
    counts: Sequence[int] | None = None,
    most: int = 20_000,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Section:
    """The section of a page on the data: what there is, what is wrong with it, and how it looks.

    All images that were found are read once, and decoded if that does not take long. The notes of ``found`` are not
    repeated, because they hold for the whole page.

    Args:
        features: The set that the page is about.
        found: Its images.
        counts: The number of images of each class, if the set is a part of a larger one.
        most: How many images are read, at most; of more, an equal share of each class.
        seed: The seed by which the images of the gallery are drawn.
        workers: The number of threads; see :func:`nctransfer.sources.loading.threads`.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        DeviceError: ``workers`` is less than 1.
    """
    counts = features.counts.tolist() if counts is None else counts
    blocks: list[Block]
    if found.source is None:
        blocks = [Facts(items=_facts_of_features(features, counts)), *_classes(features, counts)]
        return Section(
            id="data",
            title="The data",
            says="This section shows how many images each class has.",
            not_says="It does not show the images, because they were not found.",
            blocks=tuple(blocks),
        )
    looked = look_through(features, found, most=most, seed=seed, workers=workers, progress=progress)
    blocks = [Notice(text=note) for note in looked.notes]
    blocks.append(Facts(items=_facts_of_features(features, counts) | _facts_of_images(looked)))
    if said := counts_in_words(looked, found):
        blocks.append(Paragraph(text=said))
    blocks += _classes(features, counts)
    if not _differ(counts):
        blocks += _sizes(features, looked.report)
    blocks += data_findings(looked)
    blocks += _gallery(features, looked, seed)
    return Section(
        id="data",
        title="The data",
        says="This section shows how many images each class has, how they look, and which of them are broken, "
        "identical or look alike.",
        not_says="It compares files and pixels only, so it does not show which labels are wrong, nor which images look "
        "the same to the backbone.",
        blocks=tuple(blocks),
    )


def _facts_of_features(features: FeatureSet, counts: Sequence[int]) -> dict[str, str]:
    info = features.info
    facts = {
        "data": last_part(info.data or info.id),
        "split": info.split or "",
        "images": f"{sum(counts):,}",
        "classes": f"{len(counts):,}",
    }
    return {name: value for name, value in facts.items() if value}


def _facts_of_images(looked: LookedThrough) -> dict[str, str]:
    report = looked.report
    facts = {
        "kind": report.kind,
        "splits": ", ".join(f"{name} {number:,}" for name, number in report.splits.items()),
        "file sizes": f"{file_size(report.file_bytes)} in all, "
        f"{file_size(report.file_bytes // max(1, len(looked.readable)))} per image",
        "image sizes": image_sizes(report),
        "formats": shares(report.formats),
        "colour modes": shares(report.modes),
        "broken": counted(len(looked.broken), "image") if looked.broken else "none",
    }
    return {name: value for name, value in facts.items() if value}


# Classes


def _classes(features: FeatureSet, counts: Sequence[int]) -> Iterator[Block]:
    """How many images each class has: in words, and as a table, which has a chart if the classes differ in size."""
    words = _in_words(features.classes, counts)
    yield Paragraph(text=words)
    total = sum(counts)
    order = sorted(range(len(counts)), key=lambda code: -counts[code])
    table = Table(
        columns=("class", ">images", ">share"),
        rows=tuple((features.classes[code], f"{counts[code]:,}", f"{counts[code] / total:.1%}") for code in order),
        caption="The number of images of each class.",
        class_columns=(0,),
        folded=True,
    )
    if not _differ(counts):
        yield table
        return
    figure = class_counts_figure(features.classes, counts, caption_of(replace(features.describe(), samples=total)))
    yield Chart(
        svg=inline_svg(figure, "class-counts"),
        alt=f"A bar chart of the number of images of each class. {words}",
        caption="The number of images of each class, the largest class first.",
        table=replace(table, folded=False),
    )


def _differ(counts: Sequence[int]) -> bool:
    """Whether the classes differ in size so much that a chart shows it."""
    return max(counts) >= DIFFERENT * min(counts)


def _in_words(classes: Sequence[str], counts: Sequence[int]) -> str:
    least, largest = min(counts), max(counts)
    if least == largest:
        return f"The classes are balanced: each has {counted(least, 'image')}."
    words = f"{_with(classes, counts, largest)}, the most, and {_with(classes, counts, least)}, the fewest."
    words = words[:1].upper() + words[1:]
    if largest > UNEQUAL * least > 0:
        words += (
            f" That is {largest / least:,.1f} times as many, so a mean over images is mostly about the large "
            "classes, and a mean over classes is not."
        )
    return words


def _with(classes: Sequence[str], counts: Sequence[int], size: int) -> str:
    """Which class has so many images, or how many classes do."""
    number = list(counts).count(size)
    if number > 1:
        return f"{number:,} classes have {counted(size, 'image')} each"
    return f"class {classes[list(counts).index(size)]} has {counted(size, 'image')}"


# How they look


def _sizes(features: FeatureSet, report: DataReport) -> Iterator[Block]:
    """How large the images are, if they differ, and which of them are smaller than what the backbone takes."""
    sides = [side for side in report.dimensions.min(axis=1).tolist() if side > 0]
    if len(set(sides)) < 2:
        return
    taken = GivenFeatures(name="", given=features).facts().img_size
    words = ""
    if taken is not None:
        smaller = sum(side < taken for side in sides)
        words = (
            f"The backbone takes {taken:,}×{taken:,} pixels; "
            f"{f'{smaller:,} of {len(sides):,}' if smaller else 'none of the'} images "
            f"{'has' if smaller == 1 else 'have'} fewer on their shorter side."
        )
        yield Paragraph(text=words)
    figure = image_sizes_figure(sides, taken, caption_of(replace(features.describe(), samples=len(sides))))
    yield Chart(
        svg=inline_svg(figure, "image-sizes"),
        alt=f"A histogram of the shorter sides of the images: {min(sides):,} to {max(sides):,} pixels. {words}".strip(),
        caption="The number of images by the length of their shorter side.",
        table=Table(
            columns=(">from, in pixels", ">to less than", ">images"),
            rows=tuple((f"{one.low:,}", f"{one.high:,}", f"{one.images:,}") for one in size_bins(sides)),
            caption="The numbers of the chart.",
        ),
    )


def _gallery(features: FeatureSet, looked: LookedThrough, seed: int) -> Iterator[Block]:
    """Some images of each class, drawn at random: as strips, or in a table if there are many classes."""
    labels = features.labels.tolist()
    drawn = [[row for row in rows if row in looked.readable] for rows in shuffled_by_class(labels, seed)]
    shown = [(labels[rows[0]], rows) for rows in drawn if rows]
    if not shown:
        return
    if len(shown) <= MOST_STRIPS:
        yield Paragraph(text=f"Up to {IN_STRIP} images of each class, drawn at random:")
        for code, rows in shown:
            yield ImageStrip(title=features.classes[code], images=tuple(rows[:IN_STRIP]), code=code)
        return
    each = max(1, min(COLUMNS, IN_TABLE // len(shown)))
    listed = shown[:IN_TABLE]
    which = "each class" if len(listed) == len(shown) else f"the first {len(listed):,} classes"
    yield Table(
        columns=("class", *(f"example {number}" for number in range(1, each + 1))),
        rows=tuple(
            (features.classes[code], *itertools.islice(itertools.chain(map(str, rows), itertools.repeat("")), each))
            for code, rows in listed
        ),
        caption=f"Images of {which}, drawn at random.",
        class_columns=(0,),
        image_columns=tuple(range(1, each + 1)),
        folded=True,
    )
