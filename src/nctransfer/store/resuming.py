"""Filling a stored set: what a killed run left is adopted, and only what is missing is run."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.errors import BrokenImage, DataError, FeaturesError, counted
from nctransfer.sources.loading import read_digests
from nctransfer.store.listings import Listed
from nctransfer.store.pipeline import NOT_FINITE, Work

if TYPE_CHECKING:
    from nctransfer.sources.selection import Selection
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.lazy_backbone import LazyBackbone
    from nctransfer.store.pipeline import Task
    from nctransfer.store.stored_set import StoredSet

__all__ = ["ExtractionReport", "fill"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractionReport:
    """What an extraction did.

    Attributes:
        stored: The set that the features are in.
        selection: What was wanted of the source.
        samples: Wanted images whose features are stored now.
        extracted: Images that went through the backbone.
        reused: Wanted images whose features were stored before.
        failed: Images that gave no features, and why.
        seconds: Time in the backbone and around it, without loading it.
    """

    stored: StoredSet
    selection: Selection
    samples: int
    extracted: int
    reused: int
    failed: tuple[BrokenImage, ...]
    seconds: float

    @property
    def has_diverged(self) -> bool:
        """Whether it was the backbone, not the images, that failed."""
        return any(broken.reason.startswith(NOT_FINITE) for broken in self.failed)

    @property
    def images_per_second(self) -> float | None:
        """Extracted images a second; ``None`` if there was nothing to do."""
        return self.extracted / self.seconds if self.extracted else None

    def to_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        return {
            "id": self.stored.id,
            "path": str(self.stored.rows_path),
            "samples": self.samples,
            "extracted": self.extracted,
            "reused": self.reused,
            "failed": [broken._asdict() for broken in self.failed],
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
        }


def fill(stored: StoredSet, columns: Sequence[str], backbones: LazyBackbone, task: Task) -> ExtractionReport | None:
    """Extract into one set; ``None`` if its key is no longer that of the backbone."""
    with stored.lock(lambda: log.warning("waiting for another process that extracts into %s", stored.id)):
        damaged = stored.repair()
        for name, reason in damaged.items():
            log.warning("%s is damaged (%s); its images are extracted again", name, reason)
        had = have = stored.digests(columns)
        listing = _Listing(stored.store, task)
        broken = listing.read() if had else {}  # else all is read only once, to be run
        listing.save()
        missing = listing.missing(had, broken)
        _say_what_is_done(listing.wanted(broken), missing, had, damaged)
        seconds = 0.0
        while missing:
            backbone = backbones.get({*columns, *stored.columns})  # new rows have all that the stored ones have
            if backbone.key.digest != stored.key.digest:
                return None
            start = time.perf_counter()
            work = Work(backbone, task, missing, stored)
            try:
                work.run()
            finally:
                listing.update(work.digests)
                listing.save()
            seconds += time.perf_counter() - start
            have = stored.digests(columns)
            # of equal content one is run; all are broken with it, unless it was the file that could not be read
            reasons = {row.id: work.broken.get(row.id) or work.broken.get(row.digest) for row in listing.wanted(broken)}
            broken |= {id_: reason for id_, reason in reasons.items() if reason}
            before, missing = missing, listing.missing(have, broken)
            assert missing != before, "each image that is run is stored, or there is a reason"
        if stored.rows > len(stored.digests()):  # some have been stored again, with more columns
            stored.drop_superseded()
    wanted = listing.wanted(broken)
    if twins := sum(row.digest in have for row in wanted) - len({row.digest for row in wanted} & have):
        log.warning("%s the same as another, byte for byte: nctransfer data says which", counted(twins, "image"))
    report = ExtractionReport(
        stored=stored,
        selection=task.selection,
        samples=sum(row.digest in have for row in wanted),
        extracted=len(have - had),
        reused=sum(row.digest in had for row in wanted),
        failed=tuple(BrokenImage(entry.id, broken[entry.id]) for entry in task.chosen if entry.id in broken),
        seconds=seconds,
    )
    if not report.samples:
        first = report.failed[0]
        kind = FeaturesError if report.has_diverged else DataError
        raise kind(f"none of the {len(broken):,} images could be used; the first: {first.id!r}: {first.reason}")
    return report


class _Listing:
    """What a source holds now, with the digests that are known."""

    def __init__(self, store: FeatureStore, task: Task) -> None:
        self._store = store
        self._task = task
        self._saved = store.listing(task.source.id)
        self._rows = {
            entry.id: Listed(*entry, old.digest if old and old[3:5] == entry[3:5] else "")
            for entry in task.entries
            for old in [self._saved.get(entry.id)]
        }

    def wanted(self, broken: Container[str]) -> list[Listed]:
        """The chosen images but for those that are broken."""
        return [self._rows[entry.id] for entry in self._task.chosen if entry.id not in broken]

    def missing(self, have: Container[str], broken: Container[str]) -> list[Listed]:
        """One image of each content that is wanted and not stored; those not read yet may be any."""
        first: dict[str, Listed] = {}
        for row in self.wanted(broken):
            if row.digest not in have:
                first.setdefault(row.digest or row.id, row)
        return list(first.values())

    def read(self) -> dict[str, str]:
        """Read those images whose content is not known yet; returns why some cannot be read, by id."""
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
        """Add what has been found out."""
        for id_, digest in digests.items():
            self._rows[id_] = self._rows[id_]._replace(digest=digest)

    def save(self) -> None:
        """Store it if it says anything new, and take over what another process found out meanwhile."""
        if self._rows != self._saved:
            self._saved = self._store.save_listing(self._task.source.id, list(self._rows.values()))
            self._rows = dict(self._saved)


def _say_what_is_done(
    wanted: Sequence[Listed], missing: Sequence[Listed], have: set[str], damaged: Mapping[str, str]
) -> None:
    if not missing:
        log.info("all %s images are in the cache: nothing to extract", f"{len(wanted):,}")
    elif have or damaged:
        log.info(
            "%s of %s images are in the cache; extracting %s that are new, changed, or were lost",
            f"{sum(row.digest in have for row in wanted):,}",
            f"{len(wanted):,}",
            f"{len(missing):,}",
        )
    else:
        log.info("extracting %s", counted(len(missing), "image"))
