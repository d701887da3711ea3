"""Repairing a stored set: damaged parts are dropped, whole ones that no manifest lists are adopted.

A file of rows says by itself what it is: its name is the digest of its content, and its metadata hold the key of the
set. So where the manifest and a file disagree, the file is believed, and a manifest that is lost is made anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import SetChangedError, StoreError
from nctransfer.store import heads
from nctransfer.store.atomic_files import clear_stale_files, replace_file, writing_errors
from nctransfer.store.digest_index import append_digests
from nctransfer.store.journal import as_lines
from nctransfer.store.manifest import Manifest, what_it_is
from nctransfer.store.part_files import identified_part
from nctransfer.store.writing import new_index

if TYPE_CHECKING:
    from nctransfer.store.part_files import WrittenPart
    from nctransfer.store.stored_set import StoredSet

__all__ = ["damage_of", "repair", "unlisted_files"]

UNUSABLE = "it cannot be used: it is damaged, or belongs to another set"


def repair(stored: StoredSet, thorough: bool = False) -> dict[str, str]:
    """Make the manifest and the files of a set agree. Where they do, nothing is written, and no lock is taken.

    Args:
        stored: The set.
        thorough: Whether the content of every part is compared with its digest, and the classifier of the backbone too;
            else only the size and time of each part are.

    Returns:
        The files that were deleted, and what was wrong with each.

    Raises:
        StoreError: The cache cannot be written.
    """
    root = stored.store.root
    for folder in (stored.path, stored.path / "results", stored.path.parent, root, root / "keys", root / "sources"):
        clear_stale_files(folder)
    damaged: dict[str, str] = {}
    if damage_of(stored):
        with stored.lock():
            if damage_of(stored):
                damaged = _make_anew(stored)
    if thorough and (reason := _lost_head(stored.path.parent)):
        damaged[heads.NAME] = reason
    manifest = stored.manifest()
    if not (manifest.damaged(thorough) or unlisted_files(manifest)):
        return damaged
    with stored.lock():
        writer = stored.new_writer()
        lost = writer.manifest.damaged(thorough)
        adopted, useless = _identified(unlisted_files(writer.manifest), writer.manifest)
        writer.replace_parts(sorted(lost), adopted)
        with writing_errors(manifest.folder):
            for name in lost:
                (manifest.rows_path / name).unlink(missing_ok=True)
    return damaged | lost | useless


def _lost_head(folder: Path) -> str:
    """Delete a damaged classifier, so that the next extraction stores it anew; returns what was wrong with it."""
    path = folder / heads.NAME
    reason = heads.head_damage(folder) if path.exists() else ""
    if reason:
        with writing_errors(path):
            path.unlink()
    return reason


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
