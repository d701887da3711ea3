"""What a page consists of: sections of blocks, each a value that knows nothing of HTML.

Images go by their number, the row of the image in the feature set; classes go by their code there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nctransfer.maps.image_map import ImageMap

__all__ = [
    "Block",
    "Chart",
    "Facts",
    "Finding",
    "FindingList",
    "ImageMapView",
    "ImageStrip",
    "Matrix",
    "Notice",
    "PageContent",
    "PairCard",
    "Paragraph",
    "Section",
    "Table",
    "Verdict",
]


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A few plain sentences."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A warning."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Names and values, one line each."""

    items: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One large number; several in a row stand side by side.

    Attributes:
        value: The number, for example ``94.7%``.
        label: What it is, in a few words.
        detail: Its interval, and what it is about.
    """

    value: str
    label: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that can be sorted and filtered.

    Attributes:
        columns: The heads; one that begins with ``>`` is of numbers.
        rows: The cells.
        caption: What the table shows.
        class_columns: The columns whose cells are names of classes.
        image_columns: The columns whose cells are numbers of images, or empty.
        folded: Whether it is closed until the reader opens it; its caption stands in its place.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    class_columns: tuple[int, ...] = ()
    image_columns: tuple[int, ...] = ()
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawn figure, with the numbers behind it.

    Attributes:
        svg: The figure, as :func:`~nctransfer.figures.inline_svg.inline_svg` makes it.
        alt: What it shows, for those who cannot see it.
        caption: The line below it.
        table: Its numbers.
    """

    svg: str
    alt: str
    caption: str = ""
    table: Table | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Matrix:
    """A value for each pair of classes, as a heat map.

    Attributes:
        name: Its name on the page, unique, of letters and hyphens.
        values: ``(K, K)`` float32; NaN where nothing is known.
        codes: The classes of its rows and columns, in this order.
        kind: ``distance``: near is strong in colour, which is dark on a light page and bright on a dark one. ``share``:
            rows sum to 1, and a large share is strong in colour.
        legend: What a value is.
        alt: What it shows, for those who cannot see it.
        caption: The line below it.
        table: The numbers that matter most.
    """

    name: str
    values: NDArray[np.float32]
    codes: tuple[int, ...]
    kind: Literal["distance", "share"]
    legend: str
    alt: str
    caption: str = ""
    table: Table | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageMapView:
    """Images as points.

    Attributes:
        map: Where they are.
        closest: The classes of the closest pairs, the closest first. They have colours at first, and the first two are
            those whose plane is shown.
        alt: What it shows, for those who cannot see it.
        caption: The line below it.
    """

    map: ImageMap
    alt: str
    caption: str = ""
    closest: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImageStrip:
    """Images side by side.

    Attributes:
        title: What they have in common; the name of a class if ``code`` is given.
        images: Their numbers.
        code: The class that they are of.
    """

    title: str
    images: tuple[int, ...]
    code: int | None = None


@dataclass(frozen=True, kw_only=True)
class PairCard:
    """Two classes side by side.

    Attributes:
        class_a: The code of a class.
        class_b: The code of the other class.
        facts: What is known of the pair.
        images_a: Images of the first class.
        images_b: Images of the second class.
    """

    class_a: int
    class_b: int
    facts: Mapping[str, str]
    images_a: tuple[int, ...] = ()
    images_b: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One image that deserves a look.

    Attributes:
        id: The image.
        image: Its number; ``None`` if it has none.
        kind: ``label``, ``duplicate`` or ``outlier``.
        given: Its given label.
        suggested: A likelier label, or "".
        like: The id of the image that it repeats, or "".
        expected_precision: The estimated probability that the given label is wrong, if there is one.
        why: The reason, in words.
        neighbours: The numbers of images to compare it with.
    """

    id: str
    image: int | None
    kind: str
    given: str
    suggested: str = ""
    like: str = ""
    expected_precision: float | None = None
    why: str = ""
    neighbours: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FindingList:
    """Findings with a box to tick for each; those that are ticked can be saved as CSV.

    Attributes:
        name: Its name on the page, unique, of letters and hyphens; also that of the file.
        findings: The findings, the surest first.
    """

    name: str
    findings: tuple[Finding, ...]


Block = (
    Paragraph | Notice | Facts | Verdict | Table | Chart | Matrix | ImageMapView | ImageStrip | PairCard | FindingList
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page that answers one question.

    Attributes:
        id: Its anchor, of letters and hyphens.
        title: Its title.
        says: One plain sentence: what it shows.
        not_says: One plain sentence: what it does not show.
        blocks: What it consists of.
    """

    id: str
    title: str
    says: str
    not_says: str = ""
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class PageContent:
    """Everything on a page.

    Attributes:
        title: Its title.
        subtitle: What it is about, in a line.
        sections: Its parts.
        notices: Warnings about all of it, which stand at its top.
        classes: The names of all classes, by code.
        counts: The number of images of each class.
        image_ids: The ids of all images, by number.
        image_labels: The class code of each image, ``(n,)``.
        thumbnails: WebP files by the number of the image.
        generated: When it was made.
        version: The version of the package.
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    notices: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    image_ids: tuple[str, ...] = ()
    image_labels: NDArray[np.int64] | None = None
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)
    generated: str = ""
    version: str = ""
