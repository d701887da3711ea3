"""What a source holds now, with the digests that are known, while its images are extracted."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.sources.arrow_arrays import are_in, integers, places_in, strings
from nctransfer.sources.image_table import CHUNK
from nctransfer.sources.loading import read_digests
from nctransfer.store.listings import Listing, changed_classes

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.pipeline import Task

__all__ = ["SourceListing"]

log = logging.getLogger(__name__)

SAVED_EVERY = 60.0  # seconds; a killed run has to read at most the images of this time again
SHARE = 0.02  # of the time of a run that saving may take


class SourceListing:
    """The images of a source now. A digest in the stored listing holds while the file's size and time are the same.

    They are in the classes in which they are stored: those of the task, unless it keeps those that were stored before.
    """

    def __init__(self, store: FeatureStore, task: Task) -> None:
        self._store = store
        self._task = task
        saved = store.listing(task.source.id)
        listing = Listing.unread(task.images.entries)
        self._listing = (listing.in_classes_of(saved) if task.keep_classes else listing).with_known_digests(saved)
        _say_if_classes_change(saved, self._listing, task.keep_classes)
        self._saved = self._listing if self._listing.equals(saved) else saved  # so that the other is not in memory too
        self._found: list[tuple[pa.Array, pa.Array]] = []  # ids and digests that are not in the listing yet
        self._saved_at = time.monotonic()
        self._seconds_to_save = 0.0

    def wanted(self, broken: Collection[str]) -> Listing:
        """The chosen images, without those that are broken."""
        listing, rows = self._current(), self._rows(broken)
        return listing if len(rows) == len(listing) else listing.take(rows)

    def missing(self, stored: pa.Array, broken: Collection[str]) -> Listing:
        """One image of each content that is wanted and not stored.

        The content of images that have not been read yet is not known, so each of them counts as one of its own.
        """
        import numpy as np

        wanted = self.wanted(broken)
        rows = wanted.take(np.flatnonzero(~are_in(wanted.digests, stored)))
        is_first = places_in(rows.digests, rows.digests) == np.arange(len(rows))
        return rows.take(np.flatnonzero(is_first | ~rows.is_known))

    def read(self) -> dict[str, str]:
        """Read the images whose content is not known yet; returns by id why some cannot be read."""
        listing, chosen = self._current(), self._task.images.rows
        unread = listing.images.take(chosen[~listing.is_known[chosen]])
        broken: dict[str, str] = {}
        digests: dict[str, str] = {}
        if not len(unread):
            return broken
        try:
            found = read_digests(self._task.source, unread, self._task.runtime.workers)
            for done, (entry, image) in enumerate(zip(unread, found, strict=True), 1):
                if image.broken:
                    broken[entry.id] = image.broken
                digests[entry.id] = image.digest
                if done % 64 == 0 or done == len(unread):
                    self._task.tell("reading images", done, len(unread))
                if len(digests) == CHUNK:
                    self.note(digests)
                    digests = {}
        finally:
            self.update(digests)
        return broken

    def update(self, digests: Mapping[str, str]) -> None:
        """Note the digests of images, by id."""
        if digests:
            self._found.append((strings(list(digests)), strings(list(digests.values()))))

    def note(self, digests: Mapping[str, str]) -> None:
        """Note the digests of images, by id, and store the listing if that was not done for some time.

        The more time storing takes, the more rarely it is done.
        """
        self.update(digests)
        if time.monotonic() - self._saved_at > max(SAVED_EVERY, self._seconds_to_save / SHARE):
            self.save()

    def save(self) -> None:
        """Store the listing if it has changed, and take over digests that another process has found meanwhile."""
        listing, start = self._current(), time.monotonic()
        if not listing.equals(self._saved):
            saved = self._store.save_listing(self._task.source.id, listing, self._task.keep_classes)
            self._saved = self._listing = saved
        self._saved_at = time.monotonic()
        self._seconds_to_save = self._saved_at - start

    def in_other_classes(self) -> Listing | None:
        """The images in the classes of the task; ``None`` if they are stored in these classes."""
        listing, images = self._current(), self._task.images.entries
        if (counts := changed_classes(listing.images, images)) is None:
            return None
        log.info(
            "the %s of these images are for this command alone; stored sets keep their %s, which only nctransfer "
            "extract would change",
            *(counted(count, "class", "classes") for count in reversed(counts)),
        )
        return replace(listing, images=images)

    def _current(self) -> Listing:
        """The listing with everything that was noted."""
        import numpy as np
        import pyarrow as pa

        if self._found:
            ids, digests = (pa.concat_arrays(column) for column in zip(*self._found, strict=True))
            self._found.clear()
            # an image may have been noted twice, and what was noted last holds
            newest_first = integers(np.arange(len(ids))[::-1])
            places = places_in(self._listing.ids, ids.take(newest_first))
            rows = np.flatnonzero(places >= 0)
            found = digests.take(newest_first).take(integers(places[rows]))
            self._listing = self._listing.with_digests(rows, found)
        return self._listing

    def _rows(self, broken: Collection[str]) -> NDArray[np.intp]:
        """The positions of the chosen images, without those that are broken."""
        rows = self._task.images.rows
        return rows[~are_in(self._listing.ids, strings(list(broken)))[rows]] if broken else rows


def _say_if_classes_change(before: Listing, now: Listing, is_against_will: bool) -> None:
    """Warn if images that were listed before are of other classes now, in all stored sets of the source."""
    if counts := changed_classes(before.images, now.images):
        log.warning(
            "images of this data that were listed before are now of other classes, %s in place of %s, in all stored "
            "sets of it%s; nctransfer extract with the former options changes them back, and to choose classes for one "
            "command, name the stored set with --label-column",
            *(f"{count:,}" for count in reversed(counts)),
            ", because images were added or removed" if is_against_will else "",
        )
