"""Repairing a stored set: damaged parts are dropped, whole ones that no manifest lists are adopted.

A file of rows says by itself what it is: its name is the digest of its content, and its metadata hold the key of the
set. So where the manifest and a file disagree, the file is believed, and a manifest that is lost is made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.errors import SetChangedError, StoreError
from nctransfer.store import heads
from nctransfer.store.atomic_files import clear_stale_files, replace_file, writing_errors
from nctransfer.store.digest_index import append_digests
from nctransfer.store.journal import as_lines
from nctransfer.store.listing_files import change_listing, listing_damage
from nctransfer.store.listings import Listing
from nctransfer.store.manifest import NAME, Manifest, what_it_is
from nctransfer.store.part_files import identified_part
from nctransfer.store.reading import listed_by_parts
from nctransfer.store.writing import new_index

if TYPE_CHECKING:
    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.part_files import WrittenPart
    from nctransfer.store.stored_set import StoredSet

__all__ = ["UNLISTED", "Mended", "clear_leftovers", "damage_of", "mend", "repair"]

log = logging.getLogger(__name__)

UNLISTED = "no manifest lists it: a run was killed or is about to list it, or the manifest has lost it"
UNUSABLE = "it cannot be used: it is damaged, or belongs to another set"


class Mended(NamedTuple):
    """What a thorough repair did: the files that were deleted and those that were made anew or listed, and why."""

    deleted: dict[str, str]
    restored: dict[str, str]


def mend(stored: StoredSet) -> Mended:
    """Repair a set thoroughly; see :func:`repair`."""
    lacking = _lacking(stored)
    deleted = repair(stored, thorough=True)
    return Mended(deleted, {file: why for file, why in lacking.items() if file not in deleted})


def _lacking(stored: StoredSet) -> dict[str, str]:
    """What the manifest and the listing of a set lack, by the name of the file."""
    listing = stored.store.listing_file(stored.path.name)
    if reason := damage_of(stored):
        found = {NAME: reason}
    else:
        found = dict.fromkeys((path.name for path in stored.manifest().unlisted()), UNLISTED)
    if reason := listing_damage(listing):
        found[listing.name] = reason
    return found


def repair(stored: StoredSet, thorough: bool = False) -> dict[str, str]:
    """Make the manifest and the files of a set agree. Where they do, nothing is written, and no lock is taken.

    Files are read before the lock is taken, so that writers wait only while records are written.

    Args:
        stored: The set.
        thorough: Whether the content of every part is compared with its digest, and the classifier of the backbone and
            the listing of the source are mended too; else only the size and time of each part are compared.

    Returns:
        The files that were deleted, and what was wrong with each.

    Raises:
        StoreError: The cache cannot be written, or a file cannot be read and may be whole.
    """
    clear_leftovers(stored)
    found: dict[str, str] = {}
    if damage_of(stored):
        known = _parts_in(Manifest(folder=stored.path, key=stored.key, about={}).unlisted(), stored.key)
        with stored.lock():
            if damage_of(stored):
                found |= _make_anew(stored, known)
    manifest = stored.manifest()
    lost, unlisted = manifest.damaged(thorough), manifest.unlisted()
    if lost or unlisted:
        known = _parts_in(unlisted, stored.key)
        with stored.lock():
            found |= _believe_the_files(stored, lost, known)
    if thorough:
        found |= _without_damaged_head(stored.path.parent)
        _list_as_extracted(stored)
    return found


def clear_leftovers(stored: StoredSet) -> None:
    """Delete what killed processes have left half-written in the folders that a set has to do with."""
    root = stored.store.root
    for folder in (stored.path, stored.path / "results", stored.path.parent, root, root / "keys", root / "sources"):
        clear_stale_files(folder)


def _believe_the_files(
    stored: StoredSet, damaged: dict[str, str], known: dict[Path, WrittenPart | None]
) -> dict[str, str]:
    """List the parts that are whole, and delete the others; returns the files that were deleted.

    Args:
        stored: The set, whose lock is held.
        damaged: The damaged parts, and what was wrong with each when the lock was not held yet.
        known: What was found in files that were not listed then; others are left to the next repair.
    """
    writer = stored.new_writer()
    listed, rows = writer.manifest.parts, writer.manifest.rows_path
    lost = {name: why for name, why in damaged.items() if name in listed and listed[name].damage(rows / name, True)}
    unlisted = [path for path in writer.manifest.unlisted() if path in known]
    adopted, useless = _identified(unlisted, writer.manifest, known)
    writer.replace_parts(sorted(lost), adopted)
    with writing_errors(writer.folder):
        for name in lost:
            (rows / name).unlink(missing_ok=True)
    return lost | useless


def _without_damaged_head(folder: Path) -> dict[str, str]:
    """Delete a damaged classifier, so that the next extraction stores it anew; returns it and what was wrong."""
    path = folder / heads.NAME
    reason = heads.head_damage(folder) if path.exists() else ""
    if not reason:
        return {}
    with writing_errors(path):
        path.unlink()
    return {heads.NAME: reason}


def _list_as_extracted(stored: StoredSet) -> None:
    """Make a listing that is lost or damaged of what the images were called when they were extracted."""
    source = stored.path.name
    path = stored.store.listing_file(source)
    if stored.manifest().parts and (reason := listing_damage(path)):
        found = _listed_by_sets(stored.store, source)
        change_listing(path, lambda now: now if len(now) else found)  # another process may have listed the source
        log.warning(
            "the images of %s are called as they were when they were extracted: their listing cannot be used (%s)",
            source,
            reason,
        )


def _listed_by_sets(store: FeatureStore, source: str) -> Listing:
    """The images that any backbone was run on, since the sets of a source share its listing."""
    found = Listing.of(())
    for stored in store.sets():
        if stored.path.name == source:
            with suppress(StoreError):  # what is damaged is mended when its own turn comes
                found = found.joined_with(listed_by_parts(stored.manifest()))
    return found


def damage_of(stored: StoredSet) -> str:
    """Why the manifest of a set or its index of digests cannot be used; empty if they can."""
    try:
        manifest = stored.manifest()
        manifest.digests(manifest.parts)
    except SetChangedError:
        return ""
    except StoreError as error:
        return error.message
    return ""


def _parts_in(paths: list[Path], key: FeatureKey) -> dict[Path, WrittenPart | None]:
    """The part in each file, and in each that was written anew in place of one of an earlier version."""
    found = {path: identified_part(path, key) for path in paths}
    return found | {path.with_name(part.name): part for path, part in found.items() if part is not None}


def _identified(
    paths: list[Path], manifest: Manifest, known: Mapping[Path, WrittenPart | None]
) -> tuple[list[WrittenPart], dict[str, str]]:
    """The whole parts in some files that are not listed yet; the other files are deleted, and why."""
    found, useless = {}, {}
    for path in paths:
        part = known.get(path) or identified_part(path, manifest.key)  # a damaged file may have been replaced
        if part is None:
            useless[path.name] = UNUSABLE
        elif part.name not in manifest.parts:
            found[part.name] = part
        if part is None or part.name != path.name:
            with writing_errors(path):
                path.unlink(missing_ok=True)
    return list(found.values()), useless


def _make_anew(stored: StoredSet, known: Mapping[Path, WrittenPart | None]) -> dict[str, str]:
    """Replace a manifest that cannot be used by one of all whole parts; returns the files that were deleted."""
    manifest = Manifest(folder=stored.path, key=stored.key, about=stored.about, index=new_index())
    found, useless = _identified(manifest.unlisted(), manifest, known)
    records, start = [what_it_is(manifest)], 0
    for part in found:
        checksum = append_digests(stored.path / manifest.index, part.digests, start)
        records.append({"part": part.name, **part.description, "start": start, "checksum": checksum})
        start += len(part.digests)
    with writing_errors(manifest.path):
        replace_file(manifest.path, lambda file: file.write(as_lines(records)))
        (stored.path / "manifest.json").unlink(missing_ok=True)  # that of an earlier version
        for path in stored.path.glob("digests-*.bin"):
            if path.name != manifest.index:
                path.unlink(missing_ok=True)
    return useless
