"""The listing of a source: its images, their names, and the digest of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nctransfer.store.atomic_files import file_lock, replace_file, writing_errors

__all__ = ["Listed", "load_listing", "replace_listing"]


class Listed(NamedTuple):
    """An image in the listing of a source; ``digest`` is "" while it is not known."""

    id: str
    label: str
    split: str
    size: int
    mtime_ns: int
    digest: str


def load_listing(path: Path) -> dict[str, Listed]:
    """The images in a listing by id; none if the file is absent or damaged, since a listing can always be made anew."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path).read()
        columns = [table[name].to_pylist() for name in Listed._fields]
    except (OSError, pa.ArrowException, KeyError):
        return {}
    return {row[0]: Listed(*row) for row in zip(*columns, strict=True)}


def replace_listing(path: Path, listing: Sequence[Listed]) -> dict[str, Listed]:
    """Replace a listing. Digests that another process has found meanwhile are kept.

    Returns:
        The new listing.

    Raises:
        StoreError: It cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    with file_lock(path.with_suffix(".lock")):
        known = load_listing(path)
        new = {row.id: row if row.digest else _with_known_digest(row, known) for row in listing}
        if new != known:
            columns = zip(*new.values(), strict=True)
            table = pa.table(dict(zip(Listed._fields, map(list, columns), strict=True)))
            with writing_errors(path):
                replace_file(path, lambda file: parquet.write_table(table, file, compression="zstd"))
    return new


def _with_known_digest(row: Listed, known: Mapping[str, Listed]) -> Listed:
    """``row`` with the digest that is known for it, if the file's size and time have not changed since."""
    old = known.get(row.id)
    is_same = old is not None and (old.size, old.mtime_ns) == (row.size, row.mtime_ns)
    return row._replace(digest=old.digest) if old and is_same else row
