"""Verifying the cache: everything that is read of a stored set is compared with its checksum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.errors import SetChangedError, StoreError
from nctransfer.store import heads
from nctransfer.store.listing_files import listing_damage
from nctransfer.store.manifest import NAME
from nctransfer.store.repairing import UNLISTED

if TYPE_CHECKING:
    from nctransfer.store.cache_folder import FeatureStore

__all__ = ["Damage", "Verification", "verify"]

UNKNOWN = "neither its manifest nor its rows say what it is"


class Damage(NamedTuple):
    """A file that is not as it was written, and why; ``id`` is the set, backbone or source that it belongs to."""

    id: str
    file: str
    reason: str


class Verification(NamedTuple):
    """What was looked at, and what is damaged."""

    sets: int
    parts: int
    damaged: tuple[Damage, ...]


def verify(store: FeatureStore, folders: list[Path]) -> Verification:
    """Compare all files of some sets with their checksums: manifests, rows, classifiers of backbones, and listings.

    Args:
        store: The cache.
        folders: The folders of the sets; see :meth:`FeatureStore.folders`.
    """
    damaged: list[Damage] = []
    parts = 0
    for folder in folders:
        name = f"{folder.parent.name}/{folder.name}"
        if (stored := store.at(folder)) is None:
            damaged.append(Damage(name, NAME, UNKNOWN))
            continue
        try:
            manifest = stored.manifest()
            manifest.digests(manifest.parts)
            parts += len(manifest.parts)
            damaged += [Damage(name, part, why) for part, why in manifest.damaged(thorough=True).items()]
            damaged += [Damage(name, path.name, UNLISTED) for path in stored.manifest().unlisted()]
        except SetChangedError:
            continue  # a repair is at work
        except StoreError as error:
            damaged.append(Damage(name, NAME, error.message))
    for folder in sorted({folder.parent for folder in folders}):
        if (folder / heads.NAME).exists() and (reason := heads.head_damage(folder)):
            damaged.append(Damage(folder.name, heads.NAME, reason))
    for source in sorted({folder.name for folder in folders}):
        if reason := listing_damage(store.listing_file(source)):
            damaged.append(Damage(source, store.listing_file(source).name, reason))
    return Verification(len(folders), parts, tuple(damaged))
