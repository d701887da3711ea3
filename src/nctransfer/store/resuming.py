"""Filling a stored set: what a killed run left is adopted, and only missing images go through the backbone."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.feature_key import FEATURE
from nctransfer.errors import BrokenImage, DataError, FeaturesError, counted
from nctransfer.sources.arrow_arrays import are_in, codes_and_names, strings
from nctransfer.store.extraction_report import ExtractionReport
from nctransfer.store.heads import head_damage, save_head
from nctransfer.store.pipeline import Work
from nctransfer.store.repairing import repair
from nctransfer.store.source_listing import SourceListing

if TYPE_CHECKING:
    import pyarrow as pa

    from nctransfer.store.engine import Engine
    from nctransfer.store.lazy_backbone import LazyBackbone
    from nctransfer.store.listings import Listing
    from nctransfer.store.pipeline import Task
    from nctransfer.store.stored_set import StoredSet
    from nctransfer.store.writing import SetWriter

__all__ = ["fill"]

log = logging.getLogger(__name__)


def fill(stored: StoredSet, columns: Sequence[str], backbones: LazyBackbone, task: Task) -> ExtractionReport | None:
    """Extract into one set what is wanted and not stored.

    Args:
        stored: The set.
        columns: The columns that every wanted image shall have.
        backbones: The backbone; it is loaded only if an image is missing.
        task: The images, and how to run.

    Returns:
        The report; ``None`` if the key of the set turns out not to be that of the backbone.

    Raises:
        DataError: None of the images could be used, and they are all images that are wanted, not a shard.
        FeaturesError: The backbone gave no finite features.
        StoreError: The cache cannot be written.
    """
    damaged = repair(stored)
    for name, reason in damaged.items():
        log.warning("%s is damaged (%s); its images are extracted again", name, reason)
    with stored.writer() as writer:
        filling = _Filling(writer=writer, columns=columns, task=task, listing=SourceListing(stored.store, task))
        missing = filling.find_missing()
        _report_plan(filling.listing.wanted(filling.broken), missing, filling.stored_before, damaged)
        while len(missing):
            # new rows get every column that a stored row has
            engine = _engine(stored, {*columns, *writer.manifest.columns}, backbones, filling, missing)
            if engine is None:
                return None
            writer.begin()
            missing = filling.run(engine)
        if writer.has_copies:  # of fewer columns, or of a run that was killed
            writer.drop_superseded()
        writer.note_unusable(filling.unusable)
        _store_head(stored, backbones, writer.manifest.columns)
        return filling.report(stored.seen_as(filling.listing.in_other_classes()))


def _store_head(stored: StoredSet, backbones: LazyBackbone, columns: Mapping[str, int]) -> None:
    """Store the classifier of the backbone anew if its file is lost or damaged."""
    if columns and (reason := head_damage(stored.path.parent)):
        log.info("the classifier of the backbone is stored again: %s", reason)
        save_head(stored.path.parent, backbones.get(columns).head(columns[FEATURE]))


@dataclass(kw_only=True)
class _Filling:
    """How far the extraction into one set is.

    Attributes:
        writer: Changes the set.
        columns: The columns that every wanted image shall have.
        task: The images, and how to run.
        listing: The images of the source, with the digests that are known.
        stored_before: The digests that were stored with all columns when the extraction began.
        stored_now: Those that are stored now.
        broken: Why an image cannot be used, by id.
        unusable: The same by digest; by id if the image could not be read.
        seconds: The time spent in the backbone and around it.
        first_images: The number of images of the first batch.
        first_seconds: The time that they took.
        timed_images: The number of images after the first batch.
        timed_seconds: The time that they took.
    """

    writer: SetWriter
    columns: Sequence[str]
    task: Task
    listing: SourceListing
    stored_before: pa.Array = field(init=False)
    stored_now: pa.Array = field(init=False)
    broken: dict[str, str] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    first_images: int = 0
    first_seconds: float = 0.0
    timed_images: int = 0
    timed_seconds: float = 0.0

    def find_missing(self) -> Listing:
        """The wanted images that are not stored when the extraction begins."""
        self.stored_before = self.stored_now = self.writer.digests(self.columns)
        try:
            # if nothing is stored, no image can be there already, and each is read once, when it is run
            if len(self.stored_before) and not self._is_new_shard():
                self.broken = self.listing.read()
                self.unusable.update(self.broken)
        finally:
            self.listing.save()
        return self.listing.missing(self.stored_before, self.broken)

    def _is_new_shard(self) -> bool:
        """Whether the images are those of a worker that has not begun yet: what is stored is most likely of others.

        Then each image is read once, when it is run; those that turn out to be stored are not run again.
        """
        return self.task.selection.shard is not None and not self.listing.wanted(()).is_known.any()

    def run(self, work: Engine) -> Listing:
        """Run some missing images; returns those that are still missing: they were changed meanwhile."""
        import numpy as np

        start = time.perf_counter()
        try:
            work.run()
        except KeyboardInterrupt:
            self._say_how_far(work)
            raise
        finally:
            self.listing.update(work.digests)
            self.listing.save()
            self.unusable.update(work.broken)
        self.seconds += time.perf_counter() - start - work.startup_seconds
        self.first_images += work.first_images
        self.first_seconds += work.first_seconds
        self.timed_images += work.timed_images
        self.timed_seconds += work.timed_seconds
        self.stored_now = self.writer.digests(self.columns)
        if work.broken:
            # Identical images are run once. If that run fails, they all fail; if only one file was unreadable, only
            # that one does.
            wanted, known = self.listing.wanted(self.broken), strings(list(work.broken))
            is_broken = are_in(wanted.ids, known) | are_in(wanted.digests, known)
            for row in wanted.take(np.flatnonzero(is_broken)):
                self.broken[row.id] = self.unusable[row.digest or row.id] = (
                    work.broken.get(row.id) or work.broken[row.digest]
                )
        missing = self.listing.missing(self.stored_now, self.broken)
        assert not missing.equals(work.missing), "each image that is run is stored, or there is a reason"
        return missing

    def _say_how_far(self, work: Engine) -> None:
        """Log how many of the wanted images an interrupted run leaves in the cache."""
        self.listing.update(work.digests)
        wanted = self.listing.wanted(self.broken)
        there = int(are_in(wanted.digests, self.writer.digests(self.columns)).sum())
        log.info("%s of %s images are in the cache now", f"{there:,}", f"{len(wanted):,}")

    def report(self, stored: StoredSet) -> ExtractionReport:
        """What was done.

        Raises:
            DataError: None of the images could be used, and they are all images that are wanted, not a shard.
            FeaturesError: The backbone gave no finite features.
        """
        import numpy as np
        from pyarrow import compute

        wanted = self.listing.wanted(self.broken)
        is_stored = are_in(wanted.digests, self.stored_now)
        there = wanted.take(np.flatnonzero(is_stored))
        samples = len(there)
        if copies := samples - len(compute.unique(there.digests)):
            log.warning("%s the same as another, byte for byte: nctransfer data lists them", counted(copies, "image"))
        chosen = self.task.images.chosen
        is_broken = are_in(chosen.ids, strings(list(self.broken))) if self.broken else np.zeros(0, bool)
        found = ExtractionReport(
            stored=stored,
            manifest=self.writer.manifest,
            selection=self.task.selection,
            samples=samples,
            classes=codes_and_names(there.images.labels)[1],
            extracted=self.writer.written,
            reused=int(are_in(wanted.digests, self.stored_before).sum()),
            failed=tuple(
                BrokenImage(entry.id, self.broken[entry.id]) for entry in chosen.take(np.flatnonzero(is_broken))
            ),
            seconds=self.seconds,
            first_images=self.first_images,
            first_seconds=self.first_seconds,
            timed_images=self.timed_images,
            timed_seconds=self.timed_seconds,
        )
        # a small shard may well hold no image, or only broken ones
        if not samples and found.failed and (self.task.selection.shard is None or found.has_diverged):
            first = found.failed[0]
            kind = FeaturesError if found.has_diverged else DataError
            raise kind(
                f"none of {counted(len(self.broken), 'image')} could be used; the first: {first.id!r}: {first.reason}"
            )
        return found


def _engine(
    stored: StoredSet, columns: set[str], backbones: LazyBackbone, filling: _Filling, missing: Listing
) -> Engine | None:
    """What runs the missing images; ``None`` if the key of the set turns out not to be that of the backbone."""
    writer = filling.writer
    common: dict[str, Any] = {"task": filling.task, "missing": missing, "note": filling.listing.note}
    if filling.task.runtime.engine == "ray":
        from nctransfer.store.ray_engine import RayEngine

        backbones.release()  # this process runs no image
        return RayEngine(**common, stored=stored, writer=writer, request=backbones.request(columns))
    backbone = backbones.get(columns)
    if backbone.key.digest != stored.key.digest:
        return None
    return Work(**common, backbone=backbone, sink=writer)


def _report_plan(wanted: Listing, missing: Listing, stored: pa.Array, damaged: Mapping[str, str]) -> None:
    """Log how many images are stored already, and how many will be extracted."""
    if not len(missing):
        log.info("all %s images are in the cache: nothing to extract", f"{len(wanted):,}")
    elif len(stored) or damaged:
        log.info(
            "%s of %s images are in the cache; extracting %s that are new, changed, or were lost",
            f"{int(are_in(wanted.digests, stored).sum()):,}",
            f"{len(wanted):,}",
            f"{len(missing):,}",
        )
    else:
        log.info("extracting %s", counted(len(missing), "image"))
