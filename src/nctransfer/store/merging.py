"""Merging caches: sets that several workers have filled, each in a cache of its own, become one.

Rows belong to the content of an image, and files of rows are named by their content, so a merge is a matter of copying.
A file is taken over only if its content has the digest that its name says, and it is of the set's key. It is then
recorded like any other part. Rows that are here already are left out. So a merge can be killed and run again, in any
order, beside other writers, and twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.errors import StoreError, counted, join_names
from nctransfer.sources.arrow_arrays import places_in
from nctransfer.store import heads
from nctransfer.store.listing_files import change_listing, listing_damage, load_listing
from nctransfer.store.other_cache import OtherCache, OtherSet, RefusedError
from nctransfer.store.repairing import clear_leftovers
from nctransfer.store.taken_parts import new_rows, take_part

if TYPE_CHECKING:
    from nctransfer.backbones.hub import Progress
    from nctransfer.sources.image_table import ImageTable
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.stored_set import StoredSet
    from nctransfer.store.writing import SetWriter

__all__ = ["MergeReport", "MergedSet", "Refused", "merge"]


class Refused(NamedTuple):
    """A file or folder of another cache that was not taken over, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class MergedSet:
    """What one set has got.

    Attributes:
        id: The id of the set in this cache.
        parts: The number of files of rows that were taken over.
        rows: The number of rows in them.
        known: The number of rows that were here already.
        bytes: The size of the files that were taken over.
    """

    id: str
    parts: int = 0
    rows: int = 0
    known: int = 0
    bytes: int = 0

    def plus(self, **numbers: int) -> MergedSet:
        """With these numbers added."""
        return replace(self, **{name: getattr(self, name) + number for name, number in numbers.items()})


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """What a merge did.

    Attributes:
        folders: The caches that were merged into this one.
        sets: What each set has got, by id.
        refused: What was not taken over, and why.
    """

    folders: tuple[str, ...]
    sets: tuple[MergedSet, ...]
    refused: tuple[Refused, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return {
            "folders": list(self.folders),
            "sets": [asdict(one) for one in self.sets],
            "refused": [one._asdict() for one in self.refused],
        }


def merge(
    store: FeatureStore,
    folders: Sequence[Path],
    as_source: str | None = None,
    as_images: ImageTable | None = None,
    progress: Progress | None = None,
) -> MergeReport:
    """Take over the stored sets of other caches.

    Args:
        store: The cache that gets them.
        folders: The folders of the other caches, which are only read.
        as_source: The id of the source that the features are of, if the workers read the same images at another place.
        as_images: What this source holds, if it is at hand; by default what is listed here. A set with other images, by
            name and size, is refused.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        StoreError: A folder is no cache, or this one; the folders hold several sources, but are to be taken as one;
            or this cache cannot be written. What is wrong with single files is reported, not raised.
    """
    caches = [OtherCache(folder) for folder in folders]
    for cache in caches:
        if store.root.exists() and cache.root.samefile(store.root):
            raise StoreError(
                f"{str(cache.root)!r} is the cache that the others are merged into",
                "leave it out, or name another cache by --cache-dir",
            )
    merging = _Merging(store=store, tell=progress or (lambda *_: None))
    found = [(cache, other) for cache in caches for other in merging.sets_of(cache)]
    names = sorted({other.folder.name for _, other in found} - {as_source})
    if as_source is not None and len(names) > 1:
        raise StoreError(
            f"the folders hold features of {len(names)} sources, which cannot all be {as_source}: {join_names(names)}",
            "leave out --as, or merge only caches of one source",
        )
    merging.total = sum(len(other.parts) for _, other in found)
    if as_source is not None and as_images is None:
        as_images = store.listing(as_source).images
    for cache, other in found:
        if as_source is None or other.folder.name == as_source:
            merging.take_over(cache, other, other.folder.name)
        elif reason := _foreign_images(cache, other, as_images):
            merging.refused.append(Refused(str(other.folder), reason))
        else:
            merging.take_over(cache, other, as_source)
    return MergeReport(
        folders=tuple(str(cache.root) for cache in caches),
        sets=tuple(merging.done[name] for name in sorted(merging.done)),
        refused=tuple(merging.refused),
    )


@dataclass(kw_only=True)
class _Merging:
    """How far a merge is.

    Attributes:
        store: The cache that gets the sets.
        tell: Told about the parts.
        total: The number of parts in the other caches.
        done: What each set has got, by id.
        refused: What was not taken over.
        listed: The listings that have been joined already.
        looked_at: The number of parts that were taken over or left out.
    """

    store: FeatureStore
    tell: Progress
    total: int = 0
    done: dict[str, MergedSet] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    listed: set[Path] = field(default_factory=set)
    looked_at: int = 0

    def sets_of(self, cache: OtherCache) -> list[OtherSet]:
        """The sets of another cache that can be used."""
        found = []
        for folder in cache.folders():
            try:
                if other := cache.open(folder):
                    found.append(other)
            except RefusedError as error:
                self.refused.append(Refused(str(folder), str(error)))
        return found

    def take_over(self, cache: OtherCache, other: OtherSet, source: str) -> None:
        """Take over one set: its rows, what it says about images without features, its classifier and its listing."""
        stored = self.store.open(other.key, source, other.about)
        self.done.setdefault(stored.id, MergedSet(id=stored.id))
        clear_leftovers(stored)
        if other.damage:
            self.refused.append(Refused(str(other.manifest.path), other.damage))
        for name in sorted(other.manifest.parts.keys() - {path.name for path in other.parts}):
            self.refused.append(Refused(str(other.folder / "rows" / name), "it is listed, but not there"))
        with stored.writer() as writer:
            self._take_parts(writer, other, stored)
            if other.manifest.unusable:
                there = set(writer.digests().to_pylist())
                known = there | writer.manifest.unusable.keys()
                writer.note_unusable({name: why for name, why in other.manifest.unusable.items() if name not in known})
            if writer.has_copies:  # two workers had stored an image, with different columns
                writer.drop_superseded()
        self._attempt(cache, ("features", other.folder.parent.name, heads.NAME), lambda path: _join_heads(path, stored))
        self._attempt(
            cache,
            ("sources", f"{other.folder.name}.parquet"),
            lambda path: self._join_listings(path, source),
        )

    def _take_parts(self, writer: SetWriter, other: OtherSet, stored: StoredSet) -> None:
        new = new_rows(other.manifest, writer)
        for path in other.parts:
            self.looked_at += 1
            self.tell("merging", self.looked_at, self.total)
            if path.name in writer.manifest.parts:
                self._add(stored, known=writer.manifest.parts[path.name].rows)
                continue
            try:
                part, known = take_part(path, writer, new.get(path.name))
            except RefusedError as error:
                self.refused.append(Refused(str(path), str(error)))
                continue
            self._add(stored, known=known)
            if part is not None:
                writer.record([part])
                self._add(stored, parts=1, rows=len(part.digests), bytes=part.bytes)

    def _add(self, stored: StoredSet, **numbers: int) -> None:
        self.done[stored.id] = self.done[stored.id].plus(**numbers)

    def _attempt(self, cache: OtherCache, names: tuple[str, ...], take: Callable[[Path], object]) -> None:
        """Take over a file beside the sets, if there is one."""
        try:
            if path := cache.file(*names):
                take(path)
        except RefusedError as error:
            self.refused.append(Refused(str(cache.root.joinpath(*names)), str(error)))

    def _join_listings(self, path: Path, source: str) -> None:
        """Add the images of another listing, and the digests that it knows of images that are listed here."""
        if path in self.listed:
            return
        self.listed.add(path)
        if reason := listing_damage(path):
            raise RefusedError(f"it is damaged: {reason}")
        there = load_listing(path)
        if not there.is_plain:
            raise RefusedError("its columns are not those of a listing")
        here = self.store.listing(source)
        if not here.joined_with(there).equals(here):
            change_listing(self.store.listing_file(source), lambda now: now.joined_with(there))


def _foreign_images(cache: OtherCache, other: OtherSet, images: ImageTable | None) -> str:
    """Why a set cannot be of these images; empty if each image that it lists is among them, by name and size."""
    import numpy as np

    try:
        path = cache.file("sources", f"{other.folder.name}.parquet")
    except RefusedError as error:
        return str(error)
    if path is None or listing_damage(path):
        return "there is no whole listing that says which images it is of"
    theirs = load_listing(path).images
    places = places_in(theirs.ids, images.ids) if images is not None else np.full(len(theirs), -1)
    is_known = places >= 0
    if images is not None:
        is_known[is_known] = images.sizes[places[is_known]] == theirs.sizes[is_known]
    if foreign := int((~is_known).sum()):
        return f"{foreign:,} of its {counted(len(theirs), 'image')} are not among those of --as, by name and size"
    return ""


def _join_heads(path: Path, stored: StoredSet) -> None:
    """Take over the classifier of a backbone, if there is none here.

    Raises:
        RefusedError: It is damaged, or another than the one that is here.
    """
    import torch

    here = stored.path.parent
    if not stored.path.is_dir():
        return
    if heads.head_damage(path.parent):
        raise RefusedError(heads.head_damage(path.parent))
    theirs = heads.load_head(path.parent)
    if heads.head_damage(here):
        heads.save_head(here, theirs)
        return
    ours = heads.load_head(here)
    first, second = ours or {}, theirs or {}
    if first.keys() != second.keys() or not all(torch.equal(first[name], second[name]) for name in first):
        raise RefusedError("the classifier that is stored here for the same backbone is another one")
