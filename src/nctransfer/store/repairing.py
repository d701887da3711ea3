"""Repairing a stored set: damaged parts are dropped, whole ones that no manifest lists are adopted.

A file of rows says by itself what it is: its name is the digest of its content, and its metadata hold the key of the
set. So where the manifest and a file disagree, the file is believed, and a manifest that is lost is made anew.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import SetChangedError, StoreError
from nctransfer.store import heads
from nctransfer.store.atomic_files import clear_stale_files, replace_file, writing_errors
from nctransfer.store.digest_index import append_digests
from nctransfer.store.journal import as_lines
from nctransfer.store.listings import listing_damage
from nctransfer.store.manifest import Manifest, what_it_is
from nctransfer.store.part_files import identified_part
from nctransfer.store.reading import listed_by_parts
from nctransfer.store.writing import new_index

if TYPE_CHECKING:
    from nctransfer.store.part_files import WrittenPart
    from nctransfer.store.stored_set import StoredSet

__all__ = ["clear_leftovers", "damage_of", "repair", "unlisted_files"]

log = logging.getLogger(__name__)

UNUSABLE = "it cannot be used: it is damaged, or belongs to another set"


def repair(stored: StoredSet, thorough: bool = False) -> dict[str, str]:
    """Make the manifest and the files of a set agree. Where they do, nothing is written, and no lock is taken.

    Args:
        stored: The set.
        thorough: Whether the content of every part is compared with its digest, and the classifier of the backbone and
            the listing of the source are mended too; else only the size and time of each part are compared.

    Returns:
        The files that were deleted, and what was wrong with each.

    Raises:
        StoreError: The cache cannot be written.
    """
    clear_leftovers(stored)
    found: dict[str, str] = {}
    if damage_of(stored):
        with stored.lock():
            if damage_of(stored):
                found |= _make_anew(stored)
    manifest = stored.manifest()
    if manifest.damaged(thorough) or unlisted_files(manifest):
        with stored.lock():
            found |= _believe_the_files(stored, thorough)
    if thorough:
        found |= _without_damaged_head(stored.path.parent)
        _list_as_extracted(stored)
    return found


def clear_leftovers(stored: StoredSet) -> None:
    """Delete what killed processes have left half-written in the folders that a set has to do with."""
    root = stored.store.root
    for folder in (stored.path, stored.path / "results", stored.path.parent, root, root / "keys", root / "sources"):
        clear_stale_files(folder)


def _believe_the_files(stored: StoredSet, thorough: bool) -> dict[str, str]:
    """List the parts that are whole, and delete the others; returns the files that were deleted."""
    writer = stored.new_writer()
    lost = writer.manifest.damaged(thorough)
    adopted, useless = _identified(unlisted_files(writer.manifest), writer.manifest)
    writer.replace_parts(sorted(lost), adopted)
    with writing_errors(writer.folder):
        for name in lost:
            (writer.manifest.rows_path / name).unlink(missing_ok=True)
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
    source, manifest = stored.path.name, stored.manifest()
    if manifest.parts and (reason := listing_damage(stored.store.listing_file(source))):
        stored.store.save_listing(source, listed_by_parts(manifest))
        log.warning(
            "the images of %s are called as they were when they were extracted: their listing cannot be used (%s)",
            source,
            reason,
        )


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


def unlisted_files(manifest: Manifest) -> list[Path]:
    """The files of rows that the manifest does not list: a killed process left them, or one is about to list them."""
    return [path for path in sorted(manifest.rows_path.glob("part-*.parquet")) if path.name not in manifest.parts]


def _identified(paths: list[Path], manifest: Manifest) -> tuple[list[WrittenPart], dict[str, str]]:
    """The whole parts among some files; the others are deleted, and why."""
    found, useless = [], {}
    for path in paths:
        part = identified_part(path, manifest.key)
        if part is None:
            useless[path.name] = UNUSABLE
        else:
            found.append(part)
        if part is None or part.name != path.name:
            with writing_errors(path):
                path.unlink(missing_ok=True)
    return found, useless


def _make_anew(stored: StoredSet) -> dict[str, str]:
    """Replace a manifest that cannot be used by one of all whole parts; returns the files that were deleted."""
    manifest = Manifest(folder=stored.path, key=stored.key, about=stored.about, index=new_index())
    found, useless = _identified(unlisted_files(manifest), manifest)
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
