"""The listing of a source: its images, their names, and the digest of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Listed", "with_known_digest"]


class Listed(NamedTuple):
    """An image in the listing of a source; ``digest`` is "" while it is not known."""

    id: str
    label: str
    split: str
    size: int
    mtime_ns: int
    digest: str


def with_known_digest(row: Listed, known: Mapping[str, Listed]) -> Listed:
    """``row`` with the digest that is known for it, if the file has not been touched since."""
    old = known.get(row.id)
    same = old is not None and (old.size, old.mtime_ns) == (row.size, row.mtime_ns)
    return row._replace(digest=old.digest) if old and same else row
