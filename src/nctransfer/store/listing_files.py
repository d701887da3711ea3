"""The file of a listing: it is checked before it is used, and changed by one process at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import reason_of
from nctransfer.sources.arrow_arrays import flat
from nctransfer.sources.image_table import ImageTable
from nctransfer.store.atomic_files import file_lock, replace_file, writing_errors
from nctransfer.store.listings import Listing, table_digest

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["change_listing", "listing_damage", "load_listing", "replace_listing"]

log = logging.getLogger(__name__)

LAYOUT, LAYOUT_WITH_ATTRIBUTES = "2", "3"


def load_listing(path: Path) -> Listing:
    """The listing in a file; without images if the file is absent, damaged, or of another layout.

    The last two are said in a warning. No number depends on it: a listing can always be made anew.
    """
    import pyarrow as pa

    try:
        if (found := _read(path)) is not None:
            return found
    except (OSError, pa.ArrowException, ValueError, KeyError, MemoryError) as error:
        log.warning("the listing %s cannot be used (%s): nctransfer extract makes it anew", path.name, reason_of(error))
    return Listing.of(())


def listing_damage(path: Path) -> str:
    """Why the listing in a file cannot be used; empty if it can."""
    import pyarrow as pa

    try:
        return "it is lost" if _read(path) is None else ""
    except (OSError, pa.ArrowException, ValueError, KeyError, MemoryError) as error:
        return reason_of(error)


def replace_listing(path: Path, listing: Listing, keep_classes: bool = False) -> Listing:
    """Replace a listing. Digests that another process has found meanwhile are kept.

    Args:
        path: The file.
        listing: The images.
        keep_classes: Whether the same images stay as the file describes them; see :meth:`Listing.in_classes_of`.

    Returns:
        The new listing.

    Raises:
        StoreError: It cannot be written.
    """

    def change(known: Listing) -> Listing:
        return (listing.in_classes_of(known) if keep_classes else listing).with_known_digests(known)

    return change_listing(path, change)


def change_listing(path: Path, change: Callable[[Listing], Listing]) -> Listing:
    """Change a listing, which no other process does meanwhile.

    Args:
        path: The file.
        change: Gives the new listing for the present one, which has no images if it cannot be used.

    Returns:
        The new listing.

    Raises:
        StoreError: It cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    with file_lock(path.with_suffix(".lock")):
        known = load_listing(path)
        new = change(known)
        if not new.equals(known):
            table = _as_table(new, path.stem)
            with writing_errors(path):
                replace_file(
                    path,
                    lambda file: parquet.write_table(
                        table,
                        file,
                        compression="zstd",
                        use_dictionary=[
                            name for name in table.column_names if pa.types.is_dictionary(table[name].type)
                        ],
                        write_page_checksum=True,
                    ),
                )
    return new


def _as_table(listing: Listing, source: str) -> pa.Table:
    """What the file holds; its metadata hold a digest of everything that is read from it."""
    table = listing.table
    layout = LAYOUT_WITH_ATTRIBUTES if listing.images.attributes else LAYOUT  # earlier versions read the plain one
    return table.replace_schema_metadata(
        {"nctransfer.listing": layout, "nctransfer.source": source, "nctransfer.content": table_digest(table)}
    )


def _read(path: Path) -> Listing | None:
    """The listing in a file; ``None`` if the file does not exist.

    Raises:
        OSError: It cannot be read.
        pa.ArrowException: It is damaged.
        ValueError: Its content is not what was written, or it is of another layout.
        KeyError: A column is missing.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError:
        return None
    with file:
        table = file.read()
    said = table.schema.metadata or {}
    if said.get(b"nctransfer.listing") not in (LAYOUT.encode(), LAYOUT_WITH_ATTRIBUTES.encode()):
        raise ValueError("another version of nctransfer wrote it")
    if said.get(b"nctransfer.source") != path.stem.encode():
        raise ValueError("it is that of another source")
    table = table.replace_schema_metadata().unify_dictionaries().combine_chunks()
    if said.get(b"nctransfer.content") != table_digest(table).encode():
        raise ValueError("its content was altered")
    listing = Listing(ImageTable(table.drop_columns("digest")), flat(table["digest"]))
    if not pa.types.is_string(listing.digests.type):
        raise ValueError("its digests are no texts")
    if not listing.is_plain:
        raise ValueError("its columns are not those of a listing")
    return listing
