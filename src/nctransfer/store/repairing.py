"""Repairing a stored set: damaged parts are dropped, and whole parts that a killed run left are adopted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nctransfer.store.atomic_files import writing_errors
from nctransfer.store.part_files import identified_part

if TYPE_CHECKING:
    from nctransfer.store.writing import SetWriter

__all__ = ["repair"]


def repair(writer: SetWriter) -> dict[str, str]:
    """Make the manifest and the files of a set agree.

    Every part is read and compared with its digest. A killed run may have written a part without listing it: such a
    part is adopted if it is whole and of this key, and deleted otherwise.

    Returns:
        The files that were deleted, and what was wrong with each.

    Raises:
        StoreError: The cache cannot be written.
    """
    manifest = writer.manifest
    damaged = manifest.damaged(thorough=True)
    parts = {name: part for name, part in manifest.parts.items() if name not in damaged}
    adopted = {}
    with writing_errors(manifest.folder):
        for leftover in manifest.folder.glob("*.tmp"):
            leftover.unlink()
        for path in manifest.rows_path.glob("part-*.parquet"):
            if path.name in parts:
                continue
            if path.name not in damaged and (part := identified_part(path, manifest.key)):
                adopted[path.name] = part
            else:
                damaged.setdefault(path.name, "it cannot be used: it is damaged, or belongs to another set")
                path.unlink()
        if damaged or adopted:
            writer.record({**parts, **adopted})
    return damaged
