"""What is found out by reading the images of a set: sizes, formats, what is broken, identical or alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nctransfer.errors import BrokenImage, counted
from nctransfer.page.image_finder import CHANGED, SetImages
from nctransfer.page.thumbnails import shuffled_by_class
from nctransfer.sources.inventory import inspect
from nctransfer.sources.similar_images import find_look_alikes
from nctransfer.sources.source import ImageSource

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.page.image_finder import FoundImages
    from nctransfer.sources.data_report import DataReport
    from nctransfer.sources.similar_images import LookAlikes
    from nctransfer.sources.source import ImageEntry

    Progress = Callable[[str, int, int], None]

__all__ = ["LookedThrough", "look_through"]

PROBED = 100  # images whose headers tell how long decoding all will take
MOST_PIXELS = 10**10  # to be decoded: about a minute on one core, or 20,000 images of 800×600
FEW = 500  # images that the set lacks: as many are read to see whether they are broken


@dataclass(frozen=True, eq=False, kw_only=True)
class LookedThrough:
    """What was found out about the images of a set.

    Attributes:
        report: What the images that were read are like.
        alike: Which of them look alike without being identical; ``None`` if that was not looked for.
        broken: Images that cannot be read: of the set, and those that the set lacks for that reason.
        readable: The rows of the images that can be read and have not changed.
        notes: What a reader must know, in sentences.
        rows: The row of each image by its id.
    """

    report: DataReport
    alike: LookAlikes | None
    broken: tuple[BrokenImage, ...]
    readable: Collection[int]
    notes: tuple[str, ...]
    rows: Mapping[str, int]

    def number(self, id_: str) -> str:
        """The number of an image as a cell of a table; empty if it has none."""
        return str(self.rows[id_]) if id_ in self.rows else ""


def look_through(
    features: FeatureSet,
    found: FoundImages,
    *,
    most: int,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> LookedThrough:
    """Read the images of a set that were found.

    They are decoded, to find those that look alike, unless that would take minutes.

    Args:
        features: The set.
        found: Its images, at least one.
        most: How many are read, at most; of more, an equal share of each class.
        seed: The seed by which this share is drawn.
        workers: The number of threads.
        progress: Called as ``progress(stage, done, total)``.
    """
    rows = _share(features, found, most, seed)
    images = SetImages(found, features, rows)
    decoded = _pixels(found, features, rows, workers) <= MOST_PIXELS
    report = inspect(images, headers_only=not decoded, fingerprints=decoded, workers=workers, progress=progress)
    digests = {entry.id: digest for entry, digest in zip(report.entries, report.digests, strict=True)}
    alike = None
    if decoded:
        alike = find_look_alikes(report, workers=workers, progress=progress)
        differ = [pair for pair in alike.pairs if digests[pair.one.id] != digests[pair.other.id]]
        alike = replace(alike, pairs=tuple(differ))
    changed = {one.id for one in report.broken if one.reason == CHANGED}
    unreadable = {one.id for one in report.broken}
    broken = [one for one in report.broken if one.reason != CHANGED]
    numbers = {entry.id: row for row, entry in found.entries.items()}
    return LookedThrough(
        report=report,
        alike=alike,
        broken=(*broken, *_left_out(features, found, workers)),
        readable=frozenset(numbers[entry.id] for entry in report.entries if entry.id not in unreadable),
        notes=tuple(_notes(report, len(found.entries), len(changed), decoded)),
        rows=numbers,
    )


def _share(features: FeatureSet, found: FoundImages, most: int, seed: int) -> list[int]:
    """The rows of the images that are read: of too many, an equal share of each class, drawn at random."""
    if len(found.entries) <= most:
        return list(found.entries)
    share = most / len(found.entries)
    classes = [[row for row in rows if row in found.entries] for rows in shuffled_by_class(features.labels, seed)]
    return [row for rows in classes for row in rows[: max(1, int(share * len(rows)))]]


def _pixels(found: FoundImages, features: FeatureSet, rows: Sequence[int], workers: int | None) -> int:
    """About how many pixels the images have together, by the headers of some of them."""
    probe = SetImages(found, features, rows[:: -(-len(rows) // PROBED)])
    sizes = inspect(probe, headers_only=True, workers=workers).sizes
    return len(rows) * sizes.median[0] * sizes.median[1] if sizes else 0


def _left_out(features: FeatureSet, found: FoundImages, workers: int | None) -> tuple[BrokenImage, ...]:
    """The broken images among those that the source has in the same classes and the same split, but not the set.

    They are looked for only if few images are missing in the set: of many, most were left out on purpose.
    """
    classes, split = frozenset(features.classes), features.info.split
    missing = [entry for entry in found.others if entry.label in classes and split in (None, entry.split)]
    if not missing or len(missing) > FEW or found.source is None:
        return ()
    return inspect(_Part(found.source, missing), workers=workers).broken


class _Part(ImageSource):
    """Some images of a source."""

    def __init__(self, source: ImageSource, entries: list[ImageEntry]) -> None:
        self.kind, self.name, self.id = source.kind, source.name, source.id
        self._source = source
        self._entries = entries

    def list(self) -> list[ImageEntry]:
        return self._entries

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        return self._source.contents(entries)


def _notes(report: DataReport, found: int, changed: int, decoded: bool) -> Iterator[str]:
    if report.images < found:
        yield f"{report.images:,} of {found:,} images were read: an equal share of each class, drawn at random."
    if changed:
        yield (
            f"{counted(changed, 'image')} {'has' if changed == 1 else 'have'} changed since the features were "
            "extracted, and cannot be shown: the features belong to other pixels."
        )
    if not decoded:
        yield (
            "Images that look alike were not looked for, because the images are so large that decoding all of them "
            f"would take minutes. The command `nctransfer data {report.name}` finds them."
        )
