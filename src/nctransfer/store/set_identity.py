"""What a folder of the cache says of itself: the key of a stored set, from its manifest or from its rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nctransfer.backbones.feature_key import FeatureKey
from nctransfer.errors import StoreError
from nctransfer.sources.source import safe_name
from nctransfer.store.journal import DamagedJournalError, first_record
from nctransfer.store.manifest import NAME
from nctransfer.store.part_files import about_of_file, key_of_file

__all__ = ["backbone_folder", "is_begun", "set_identity"]

TRIED = 16  # files of rows that are asked if there is no manifest


def backbone_folder(key: FeatureKey) -> str:
    """The name of the folder of all sets of a backbone."""
    return f"{safe_name(key.model)}-{key.digest}"


def is_begun(folder: Path) -> bool:
    """Whether a folder holds a manifest or rows, whole or not."""
    return (folder / NAME).is_file() or any(folder.glob("rows/part-*.parquet"))


def set_identity(folder: Path) -> tuple[FeatureKey, dict[str, str]] | None:
    """The key of the set in a folder, and its names for the reader; ``None`` if nothing whole says what they are."""
    for key, about in _claims(folder):
        found = _key(key)
        if found is not None and backbone_folder(found) == folder.parent.name:
            names = about if isinstance(about, dict) else {}
            return found, {str(name): str(text) for name, text in names.items()}
    return None


def _claims(folder: Path) -> Iterator[tuple[Any, Any]]:
    with suppress(OSError, DamagedJournalError):
        record = first_record(folder / NAME)
        yield record.get("key"), record.get("about")
    for path in itertools.islice(sorted(folder.glob("rows/part-*.parquet")), TRIED):
        with suppress(StoreError):  # it cannot be read now
            yield key_of_file(path), about_of_file(path)


def _key(fields: Any) -> FeatureKey | None:
    """A key from JSON; ``None`` if it is none."""
    if not isinstance(fields, dict) or not fields.keys() <= FeatureKey.__dataclass_fields__.keys():
        return None
    texts = ("model", "weights", "pool", "dtype", "store_dtype", "plugin")
    tables = ("transform", "model_kwargs")
    is_sound = (
        all(isinstance(fields.get(name, ""), str) for name in texts)
        and all(isinstance(fields.get(name, {}), Mapping) for name in tables)
        and type(fields.get("format", 0)) is int
    )
    try:
        return FeatureKey(**fields) if is_sound else None
    except TypeError:  # a field is missing
        return None
