"""The images behind a set of features: found again where they were extracted from, or in another place.

The features hold the place, the id and a digest of each image, but not how the place was read: the column of images,
the root of a manifest, the folder of timm's data. These options must be given again. Labels are not needed, because the
features have them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nctransfer.errors import DataError, NCTransferError, counted, reason_of
from nctransfer.sources.contents import raising
from nctransfer.sources.opening import open_source
from nctransfer.sources.source import ImageSource, content_digest, digest_number
from nctransfer.sources.source_kind import ReadingOptions

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.sources.source import ImageEntry

    Listed = tuple[ImageSource, Sequence[ImageEntry]]

__all__ = ["CHANGED", "FoundImages", "SetImages", "find_images"]

CHANGED = "the image has changed since the features were extracted"
MADE_ELSEWHERE = (
    "No images are shown, because these features were made elsewhere and do not say where their images are. "
    "Name the place with --images."
)
STDIN = "-"


@dataclass(frozen=True, eq=False, kw_only=True)
class FoundImages:
    """The images of a set of features, as far as they were found.

    An image that was found can still be broken or have changed; reading it tells.

    Attributes:
        source: Where the images are; ``None`` if none was found.
        entries: The entry of each image that was found, by its row in the set, in the order of the source.
        others: The entries of the source that are not in the set.
        digests: The digest that each image must have, by its row; empty if they are not known.
        notes: What a reader must know about images that are missing or unchecked, in sentences.
    """

    source: ImageSource | None = None
    entries: Mapping[int, ImageEntry] = field(default_factory=dict)
    others: Sequence[ImageEntry] = ()
    digests: Sequence[int] = ()
    notes: tuple[str, ...] = ()

    def contents(self, rows: Sequence[int]) -> Iterator[tuple[int, Callable[[], bytes]]]:
        """For each of these rows whose image was found: the row, and a function that returns the encoded image.

        The rows come in the order of the source. The function raises an OSError if the image cannot be read or has
        changed. As for :meth:`ImageSource.contents`, only one thread may advance the iterator, but any may call the
        functions.
        """
        if self.source is None:
            return
        wanted = frozenset(rows)
        chosen = [row for row in self.entries if row in wanted]
        contents = self.source.contents([self.entries[row] for row in chosen])
        reason = "the source ended before this image"
        for row in chosen:
            try:
                read = next(contents, None)
            except (NCTransferError, OSError) as error:  # the source itself cannot be read any more
                reason, read = reason_of(error), None
            yield row, raising(reason) if read is None else self._checked(row, read)

    def _checked(self, row: int, read: Callable[[], bytes]) -> Callable[[], bytes]:
        """A function that reads the image of a row, and raises an OSError if its content has changed."""

        def read_unchanged() -> bytes:
            content = read()
            if self.digests and digest_number(content_digest(content)) != self.digests[row]:
                raising(CHANGED)()
            return content

        return read_unchanged


class SetImages(ImageSource):
    """The images that were found, as a source of their own with the classes of the features.

    Reading an image that has changed raises an OSError with the reason :data:`CHANGED`.

    Args:
        found: The images.
        features: The features that they are of.
        rows: Which images; by default all.
    """

    def __init__(self, found: FoundImages, features: FeatureSet, rows: Sequence[int] | None = None) -> None:
        source = found.source
        self.kind = source.kind if source else ""
        self.name = source.name if source else ""
        self.id = source.id if source else ""
        self._found = found
        wanted = found.entries.keys() if rows is None else frozenset(rows)
        codes = features.labels.tolist()
        self._entries = {
            entry.id: (row, entry._replace(label=features.classes[codes[row]]))
            for row, entry in found.entries.items()
            if row in wanted
        }

    def list(self) -> list[ImageEntry]:
        """See :meth:`ImageSource.list`."""
        return [entry for _, entry in self._entries.values()]

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`."""
        return (read for _, read in self._found.contents([self._entries[entry.id][0] for entry in entries]))


def find_images(
    features: FeatureSet,
    images: str | os.PathLike[str] | ImageSource | None = None,
    options: ReadingOptions | None = None,
) -> FoundImages:
    """Find the images of a set of features by their ids.

    Without ``images``, they are looked for where the features were extracted from, and no server is asked. If they are
    not there, this is no error: the notes of the result say so.

    Args:
        features: The features.
        images: The place where the images are, as for :func:`~nctransfer.sources.opening.open_source`, or a source.
        options: How the place is read. Options about labels need not be given.

    Raises:
        DataError: ``images`` was given, but cannot be read as images.
    """
    asked = images is not None
    place = images if images is not None else features.info.data if features.images is not None else None
    if place is None:
        return FoundImages(notes=(MADE_ELSEWHERE,))
    options = options or ReadingOptions()
    options = replace(options, split=options.split or features.info.split, offline=options.offline or not asked)
    try:
        source, entries = _listed(place, options)
    except (NCTransferError, OSError) as error:
        if asked:
            raise
        return FoundImages(notes=(_not_found(error),))
    return _matched(features, source, entries)


def _listed(place: str | os.PathLike[str] | ImageSource, options: ReadingOptions) -> Listed:
    """The source and its images: as extraction lists them, or else without labels, which the features have."""
    if isinstance(place, ImageSource):
        return place, place.list()
    plain = replace(
        options, label_column=None, label_depth=None
    )  # classes may be attributes that a folder does not take
    ways = [options, plain, replace(plain, labels_optional=True)]
    if os.fspath(place) == STDIN:
        del ways[1:]
    errors: list[DataError] = []
    for way in ways:
        try:
            source = open_source(place, way)
            return source, source.list()
        except DataError as error:
            errors.append(error)
    raise errors[0]


def _matched(features: FeatureSet, source: ImageSource, entries: Sequence[ImageEntry]) -> FoundImages:
    """The images with the ids of the features."""
    rows = {id_: row for row, id_ in enumerate(features.ids)}
    found = {rows[entry.id]: entry for entry in entries if entry.id in rows}
    if not found:
        return FoundImages(notes=(_no_match(features, source, entries),))
    notes = []
    if missing := len(features) - len(found):
        notes.append(
            f"{counted(missing, 'image')} of {len(features):,} {'is' if missing == 1 else 'are'} not in "
            f"{source.name!r} any more, and cannot be shown."
        )
    if features.images is None:
        notes.append(
            f"The features hold no digests of their images, so it was not checked whether {source.name!r} holds the "
            "same images. They were matched by their ids."
        )
        names = [features.classes[code] for code in features.labels.tolist()]
        differ = sum(entry.label not in ("", names[row]) for row, entry in found.items())
        if differ:
            notes.append(f"{counted(differ, 'of them has', 'of them have')} another class there than in the features.")
    return FoundImages(
        source=source,
        entries=found,
        others=[entry for entry in entries if entry.id not in rows],
        digests=() if features.images is None else tuple(features.images.tolist()),
        notes=tuple(notes),
    )


def _not_found(error: Exception) -> str:
    return (
        f"No images are shown, because they were not found where the features were extracted from: {reason_of(error)}. "
        "Name the place where they are now with --images, and give the options with which it is read."
    )


def _no_match(features: FeatureSet, source: ImageSource, entries: Sequence[ImageEntry]) -> str:
    return (
        f"No images are shown, because none of the ids of the features, such as {features.ids[0]!r}, is an id of an "
        f"image in {source.name!r}, such as {entries[0].id!r}."
    )
