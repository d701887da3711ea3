"""What a source holds now, with the digests that are known, while its images are extracted."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

from nctransfer.sources.loading import read_digests
from nctransfer.store.listings import Listed

if TYPE_CHECKING:
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.pipeline import Task

__all__ = ["SourceListing"]


class SourceListing:
    """The images of a source now. A digest in the stored listing holds while the file's size and time are the same."""

    def __init__(self, store: FeatureStore, task: Task) -> None:
        self._store = store
        self._task = task
        self._saved = store.listing(task.source.id)
        self._rows = {
            entry.id: old
            if old and old[:5] == entry
            else Listed(*entry, old.digest if old and old[3:5] == entry[3:5] else "")
            for entry in task.entries
            for old in [self._saved.get(entry.id)]
        }

    def wanted(self, broken: Container[str]) -> list[Listed]:
        """The chosen images, without those that are broken."""
        return [self._rows[entry.id] for entry in self._task.chosen if entry.id not in broken]

    def missing(self, stored: Container[str], broken: Container[str]) -> list[Listed]:
        """One image of each content that is wanted and not stored.

        The content of images that have not been read yet is not known, so each of them counts as one of its own.
        """
        first: dict[str, Listed] = {}
        for row in self.wanted(broken):
            if row.digest not in stored:
                first.setdefault(row.digest or row.id, row)
        return list(first.values())

    def read(self) -> dict[str, str]:
        """Read the images whose content is not known yet; returns by id why some cannot be read."""
        unread = [entry for entry in self._task.chosen if not self._rows[entry.id].digest]
        broken = {}
        found = read_digests(self._task.source, unread, self._task.runtime.workers)
        for done, (entry, image) in enumerate(zip(unread, found, strict=True), 1):
            if image.broken:
                broken[entry.id] = image.broken
            self.update({entry.id: image.digest})
            if done % 64 == 0 or done == len(unread):
                self._task.tell("reading images", done, len(unread))
        return broken

    def update(self, digests: Mapping[str, str]) -> None:
        """Note the digests of images, by id."""
        for id_, digest in digests.items():
            self._rows[id_] = self._rows[id_]._replace(digest=digest)

    def save(self) -> None:
        """Store the listing if it has changed, and take over digests that another process has found meanwhile."""
        if self._rows != self._saved:
            self._saved = self._store.save_listing(self._task.source.id, list(self._rows.values()))
            self._rows = dict(self._saved)
