"""A stored set: the rows of one backbone on one source."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from nctransfer.backbones.feature_key import FEATURE, format_of
from nctransfer.errors import SetChangedError, StoreError
from nctransfer.store import heads
from nctransfer.store.atomic_files import file_lock, writing_errors
from nctransfer.store.manifest import NAME, Manifest, read_manifest
from nctransfer.store.reading import Snapshot
from nctransfer.store.writing import SetWriter

if TYPE_CHECKING:
    import torch

    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.features.feature_stream import FeatureStream
    from nctransfer.sources.selection import Selection
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.listings import Listing

__all__ = ["StoredSet"]

log = logging.getLogger(__name__)

ATTEMPTS = 3  # how often a set is read that another process keeps changing


class _How(TypedDict):
    """How a set is read."""

    partial: bool
    attributes: tuple[str, ...]
    label_column: str | None


class StoredSet:
    """The rows of one backbone on one source: where they are and what they depend on.

    What the set holds can change at any time, so no attribute says it: :meth:`manifest` reads it.

    Attributes:
        store: The cache that the set is in.
        path: The folder of the set.
        key: What the features depend on.
        about: Names for the reader: ``weights`` and ``data``.
        own_listing: The images in classes that hold for one command; ``None`` for the classes that are stored.
    """

    own_listing: Listing | None = None

    def __init__(self, store: FeatureStore, path: Path, key: FeatureKey, about: Mapping[str, str]) -> None:
        self.store = store
        self.path = path
        self.key = key
        self.about = dict(about)

    @property
    def id(self) -> str:
        """``<model>-<key>/<source>``."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def rows_path(self) -> Path:
        """The folder of Parquet files that any reader of Parquet opens."""
        return self.path / "rows"

    def seen_as(self, listing: Listing | None) -> StoredSet:
        """The same set, read in the classes of another listing than the stored one, if there is another."""
        seen = StoredSet(self.store, self.path, self.key, self.about)
        seen.own_listing = listing
        return seen

    def manifest(self) -> Manifest:
        """What the set holds now."""
        return read_manifest(self.path, self.key, self.about)

    def snapshot(self) -> Snapshot:
        """The set and the listing of its source as they are now, to read several columns that belong together.

        Raises:
            StoreError: The manifest or the listing is damaged or lost, or the set is of another version.
        """
        if self.key.format != format_of(self.key.dtype):
            raise StoreError(
                f"{self.id} was extracted by another version of nctransfer (format {self.key.format}): its features do "
                f"not compare with those of this one (format {format_of(self.key.dtype)})",
                "extract the images again",
            )
        manifest = self.manifest()
        listing = self.store.listing(self.path.name) if self.own_listing is None else self.own_listing
        if manifest.parts and not len(listing):
            raise StoreError(
                f"what the images of {self.id} are called now is not known: the listing {self.path.name} is lost or "
                "damaged",
                f"run the same nctransfer extract again, or nctransfer cache repair {self.id}: it calls them as "
                "they were when they were extracted",
            )
        return Snapshot(manifest=manifest, listing=listing)

    def read(
        self,
        selection: Selection | None = None,
        column: str = FEATURE,
        *,
        partial: bool = False,
        attributes: Iterable[str] = (),
        label_column: str | None = None,
    ) -> FeatureSet:
        """The features of the wanted images, with labels and ids as listed now.

        Images that gave no features when they were extracted are left out, and a note says so. If another process
        changes the set meanwhile, it is read again.

        Args:
            selection: Which images are wanted; by default all.
            column: ``feature``, or a layer such as ``layer_3``.
            partial: Whether some of the wanted images are enough; a warning then says how many.
            attributes: The names of attributes that the features shall come with, such as ``site``.
            label_column: The attribute that says the class of each image, or several that commas separate. Images
                without one are left out, and a note says how many. By default the classes are those of the listing.

        Raises:
            IncompleteError: Some of the wanted images are not stored.
            FeaturesError: None of the wanted images is stored, there is no such column or attribute, or a value is not
                finite.
            StoreError: A part is damaged (the message names it), or the set keeps changing.
        """
        how: _How = {"partial": partial, "attributes": tuple(attributes), "label_column": label_column}
        for _ in range(ATTEMPTS - 1):
            try:
                return self.snapshot().read(selection, column, **how)
            except SetChangedError as error:
                log.info("%s; it is read again", error)
        return self.snapshot().read(selection, column, **how)

    def stream(
        self,
        selection: Selection | None = None,
        column: str = FEATURE,
        beside: Iterable[str] = (),
        *,
        partial: bool = False,
        label_column: str | None = None,
    ) -> FeatureStream:
        """The same features as :meth:`read`, but never in memory as a whole: every pass reads them in batches.

        Args:
            selection: Which images are wanted; by default all.
            column: ``feature``, or a layer such as ``layer_3``.
            beside: The images have these columns too, so that layers are compared on the same images.
            partial: Whether some of the wanted images are enough; a warning then says how many.
            label_column: See :meth:`read`.

        Raises:
            IncompleteError: Some of the wanted images are not stored with these columns.
            FeaturesError: None of the wanted images is stored, or there is no such column or attribute.
            StoreError: A part is damaged, or has been replaced since; each pass may raise it too.
        """
        passes = self.snapshot().passes(selection, column, beside, partial=partial, label_column=label_column)
        return passes.stream()

    @contextmanager
    def writer(self) -> Iterator[SetWriter]:
        """What adds rows to the set, beside any number of other writers; see :class:`SetWriter`.

        Raises:
            StoreError: The manifest is damaged.
        """
        yield self.new_writer()

    def new_writer(self) -> SetWriter:
        """See :meth:`writer`."""
        return SetWriter(self.manifest(), self.lock)

    def head(self) -> dict[str, torch.Tensor] | None:
        """The backbone's linear classifier, if it has one; see :func:`~nctransfer.store.heads.load_head`."""
        return heads.load_head(self.path.parent)

    def remove(self) -> None:
        """Delete the set, and the folder of its backbone if it holds no other set.

        Raises:
            StoreError: It cannot be deleted.
        """
        with writing_errors(self.path):
            with self.lock():
                # first the manifest: who reads the set now learns that it changed, not that it is damaged
                (self.path / NAME).unlink(missing_ok=True)
                shutil.rmtree(self.rows_path, ignore_errors=True)
            shutil.rmtree(self.path)
            if not any(child.is_dir() for child in self.path.parent.iterdir()):
                (self.path.parent / heads.NAME).unlink(missing_ok=True)
                with suppress(OSError):  # another process has begun a set there, or is writing to it
                    self.path.parent.rmdir()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the set, which one process at a time can. It is held only while records are written."""

        def warn() -> None:
            log.warning("waiting for another process that writes to %s", self.id)

        with file_lock(self.path / ".lock", warn):
            yield
