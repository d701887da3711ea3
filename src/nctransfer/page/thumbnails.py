"""Thumbnails: which images of a set get one within a budget, and the small copies themselves, as WebP."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.page.blocks import FindingList, ImageStrip, PairCard, Table
from nctransfer.page.image_finder import CHANGED
from nctransfer.sources.decoding import decode
from nctransfer.sources.loading import map_ahead, threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from PIL import Image

    from nctransfer.page.blocks import Section
    from nctransfer.page.image_finder import FoundImages

    Progress = Callable[[str, int, int], None]

__all__ = [
    "MOST_BYTES",
    "MOST_THUMBNAILS",
    "Thumbnails",
    "choose_images",
    "make_thumbnails",
    "shrink",
    "shuffled_by_class",
    "wanted_images",
]

MOST_THUMBNAILS = 2500
"""How many images get a thumbnail by default. Those of photographs have about 1.5 KB each."""
MOST_BYTES = 4 * 2**20
"""The size of all thumbnails together. In a page they take a third more, so that the page stays below 10 MB."""
SIDE = 96  # pixels: the longer side of a thumbnail
SMALL = 64  # pixels: smaller images are enlarged up to this
DRAWN = 16  # pixels: an image that is as small shows single pixels, which must stay sharp
QUALITY = 70  # of WebP; below 60, photographs of 96 pixels have visible blocks
OF_EACH_CLASS = 12  # images that each class has before others are drawn from all classes
AHEAD = 64  # images in memory at once


@dataclass(frozen=True, eq=False, kw_only=True)
class Thumbnails:
    """The small copies of some images.

    Attributes:
        images: The thumbnail of each image as WebP, by its row in the set of features.
        changed: How many images have changed since the features were extracted, and so have none.
        broken: How many images could not be read or decoded, and so have none.
        left_out: How many thumbnails were left out to keep the size of all within the limit.
    """

    images: Mapping[int, bytes]
    changed: int = 0
    broken: int = 0
    left_out: int = 0


def choose_images(
    wanted_first: Iterable[Sequence[int]],
    labels: ArrayLike,
    most: int,
    seed: int = 0,
    *,
    then: Iterable[Sequence[int]] = (),
) -> list[int]:
    """The images that get thumbnails, the most important ones first.

    First come the images that findings are about: the first image of each finding, then the second one of each, and so
    on. Then come galleries, in the same way, and then up to 12 images of each class, drawn at random. The rest is drawn
    at random from all.

    Args:
        wanted_first: The images of each finding, by their rows, the most important image first.
        labels: The class code of each image, shape (n,).
        most: How many images are chosen, at most.
        seed: The seed of the draws. The same arguments give the same images.
        then: The images of each gallery, by their rows.

    >>> choose_images([[5, 1, 2], [4, 5, 0]], [0, 0, 0, 1, 1, 1], most=5)
    [5, 4, 1, 2, 0]
    """
    import numpy as np

    of_classes = [rows[:OF_EACH_CLASS] for rows in shuffled_by_class(labels, seed)]
    rest = np.random.default_rng(seed).permutation(len(np.asarray(labels))).tolist()
    order = itertools.chain(_in_turn(wanted_first), _in_turn(then), _in_turn(of_classes), rest)
    return list(itertools.islice(dict.fromkeys(order), max(0, most)))


def wanted_images(sections: Iterable[Section]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The images that some sections of a page show, for :func:`choose_images`.

    Returns:
        The images of each finding: of each entry of a list, row of a table, side of a pair, and strip. Then those of
        each class in a gallery: strips of one class, and rows of nothing but a class and its images.
    """
    findings: list[tuple[int, ...]] = []
    galleries: list[tuple[int, ...]] = []
    for block in itertools.chain.from_iterable(section.blocks for section in sections):
        if isinstance(block, FindingList):
            findings += [(*(() if one.image is None else (one.image,)), *one.neighbours) for one in block.findings]
        elif isinstance(block, Table):
            is_gallery = len(block.class_columns) == 1 == len(block.columns) - len(block.image_columns)
            rows = [tuple(int(row[column]) for column in block.image_columns if row[column]) for row in block.rows]
            (galleries if is_gallery else findings).extend(rows)
        elif isinstance(block, PairCard):
            findings += [block.images_a, block.images_b]
        elif isinstance(block, ImageStrip):
            (findings if block.code is None else galleries).append(block.images)
    return list(filter(None, findings)), list(filter(None, galleries))


def _in_turn(lists: Iterable[Sequence[int]]) -> Iterator[int]:
    """The first item of each list, then the second one of each list that has two, and so on."""
    for items in itertools.zip_longest(*lists):
        yield from (item for item in items if item is not None)


def shuffled_by_class(labels: ArrayLike, seed: int = 0) -> list[list[int]]:
    """The rows of each class that has any, in the order of its code, in an order drawn at random.

    Args:
        labels: The class code of each image, shape (n,).
        seed: The seed of the draw.

    >>> [sorted(rows) for rows in shuffled_by_class([3, 0, 3, 0])]
    [[1, 3], [0, 2]]
    """
    import numpy as np

    codes = np.asarray(labels, dtype=np.int64)
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    ends = np.cumsum(np.unique(codes, return_counts=True)[1])
    return [part.tolist() for part in np.split(by_class, ends[:-1])] if len(codes) else []


def make_thumbnails(
    found: FoundImages,
    rows: Sequence[int],
    *,
    most_bytes: int = MOST_BYTES,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Thumbnails:
    """Read some images and make thumbnails of them. An image that cannot be shown is counted, and is no error.

    Args:
        found: Where the images are.
        rows: The images, the most important ones first.
        most_bytes: The size of all thumbnails together; if they are larger, the last ones are left out.
        workers: The number of threads; see :func:`nctransfer.sources.loading.threads`.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        DeviceError: ``workers`` is less than 1.
    """
    made: dict[int, bytes] = {}
    changed = broken = 0
    total = sum(row in found.entries for row in dict.fromkeys(rows))
    with warnings.catch_warnings(), ThreadPoolExecutor(threads(workers)) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # about odd metadata and large images
        for done, (row, small) in enumerate(map_ahead(pool, _thumbnail, found.contents(rows), AHEAD), 1):
            if isinstance(small, bytes):
                made[row] = small
            elif small == CHANGED:
                changed += 1
            else:
                broken += 1
            if progress and (done % AHEAD == 0 or done == total):
                progress("making thumbnails", done, total)
    ordered = [row for row in dict.fromkeys(rows) if row in made]
    upto = itertools.accumulate(len(made[row]) for row in ordered)
    kept = {row: made[row] for row, size in zip(ordered, upto, strict=True) if size <= most_bytes}
    return Thumbnails(images=kept, changed=changed, broken=broken, left_out=len(made) - len(kept))


def _thumbnail(item: tuple[int, Callable[[], bytes]]) -> tuple[int, bytes | str]:
    """The row of an image, and its thumbnail or the reason why it has none."""
    row, read = item
    try:
        return row, shrink(decode(read(), enough=2 * SIDE))
    except OSError as error:
        return row, error.strerror or str(error)
    except ValueError as error:  # what decoding makes of all that a damaged image raises
        return row, str(error)


def shrink(image: Image.Image) -> bytes:
    """A thumbnail of an RGB image as WebP; its longer side has 64 to 96 pixels, if whole steps of enlarging allow it.

    Large images are shrunk. An image of at most 32 pixels is enlarged a whole number of times, so that its pixels stay
    squares: 8×8 become 64×64. An image of at most 16 pixels is kept without loss.

    >>> from PIL import Image
    >>> sizes = [(480, 240), (8, 8), (50, 40), (1, 999)]
    >>> [Image.open(io.BytesIO(shrink(Image.new("RGB", size)))).size for size in sizes]
    [(96, 48), (64, 64), (50, 40), (1, 96)]
    """
    from PIL import Image

    longer = max(image.size)
    if longer > SIDE:
        image.thumbnail((SIDE, SIDE))
    elif (times := SMALL // longer) > 1:
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=4, lossless=longer <= DRAWN)
    return buffer.getvalue()
