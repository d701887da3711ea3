"""Files of rows in another cache: each is checked, and the rows in it that are not here are taken over."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING

from nctransfer.errors import StoreError, reason_of
from nctransfer.store.atomic_files import add_file, as_json, writing_errors
from nctransfer.store.other_cache import RefusedError, open_plainly
from nctransfer.store.part_files import WrittenPart, key_of_file, part_name, read_file, write_table

if TYPE_CHECKING:
    import pyarrow as pa

    from nctransfer.store.manifest import Manifest
    from nctransfer.store.writing import SetWriter

__all__ = ["new_rows", "take_part"]

TEXTS = ("id", "class", "split", "digest")
DIGEST = re.compile("[0-9a-f]{32}")
CHUNK = 2**20


def new_rows(there: Manifest, writer: SetWriter) -> dict[str, pa.BooleanArray]:
    """For each part that another set lists: which of its rows are not here with as many columns."""
    from pyarrow import compute

    found: dict[str, pa.BooleanArray] = {}
    names_of: dict[tuple[str, ...], list[str]] = {}
    for name, part in there.parts.items():
        if name not in writer.manifest.parts:
            names_of.setdefault(tuple(sorted(part.columns)), []).append(name)
    for columns, names in names_of.items():
        is_new = compute.invert(compute.is_in(there.digests(names), writer.digests(columns)))
        start = 0
        for name in names:
            found[name] = is_new.slice(start, there.parts[name].rows)
            start += there.parts[name].rows
    return found


def take_part(path: Path, writer: SetWriter, is_new: pa.BooleanArray | None) -> tuple[WrittenPart | None, int]:
    """Write the rows of a part that are not here.

    Args:
        path: The part, in the other cache.
        writer: The set that gets its rows.
        is_new: Which of its rows are not here; ``None`` if the other manifest does not list it.

    Returns:
        What was written, if anything was, and the number of rows that are here already.

    Raises:
        RefusedError: The part cannot be used.
        StoreError: This cache cannot be written.
    """
    from pyarrow import compute

    if is_new is None:
        part = _described(path, _checked_digest(path), writer)
        is_new = compute.invert(compute.is_in(_column(part.digests), writer.digests(part.columns)))
    new = is_new.true_count
    if not new:
        return None, len(is_new)
    writer.begin()
    if new == len(is_new):
        return _copied(path, writer), 0
    part = _described(path, _checked_digest(path), writer)
    if len(part.digests) != len(is_new):
        raise RefusedError("it holds another number of rows than its manifest says")
    with _refusing():
        table = read_file(path).filter(is_new)
    return write_table(writer.folder, table, part.columns), len(is_new) - new


def _copied(path: Path, writer: SetWriter) -> WrittenPart:
    """A part of another cache, copied into this one, if its content is as its name says and of the set's key."""

    def name(sha256: str) -> str:
        _check_name(path, sha256)
        return path.name

    def write(file: IO[bytes]) -> None:
        for chunk in _chunks(path):
            file.write(chunk)

    rows = writer.manifest.rows_path
    with writing_errors(rows):
        copy, sha256 = add_file(rows, name, write)
    try:
        return _described(copy, sha256, writer)
    except RefusedError:
        copy.unlink(missing_ok=True)
        raise


def _checked_digest(path: Path) -> str:
    """The SHA-256 digest of a part of another cache.

    Raises:
        RefusedError: It is not the one that the name says.
    """
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    _check_name(path, digest.hexdigest())
    return digest.hexdigest()


def _check_name(path: Path, sha256: str) -> None:
    if path.name != part_name(sha256):
        raise RefusedError("its content was altered")


def _chunks(path: Path) -> Iterator[bytes]:
    """The content of a file in another cache."""
    with _refusing(), open_plainly(path) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _described(path: Path, sha256: str, writer: SetWriter) -> WrittenPart:
    """What a part holds whose content has been compared with its name.

    Raises:
        RefusedError: It is not of the set's key, or its columns are not those of rows.
    """
    import pyarrow as pa
    from pyarrow import parquet

    key = writer.manifest.key
    with _refusing():
        if key_of_file(path) != as_json(asdict(key)):
            raise RefusedError("its rows are those of another backbone")
        file = parquet.ParquetFile(path, page_checksum_verification=True)
        kinds = {column.name: column.type for column in file.schema_arrow}
        texts = file.read(columns=list(TEXTS))
        digests = texts["digest"].to_pylist()
        columns = {name: kind for name, kind in kinds.items() if name not in TEXTS}
        vector = pa.from_numpy_dtype(key.store_dtype)
        is_sound = (
            set(texts.column_names) == set(TEXTS)
            and all(pa.types.is_string(column.type) and not column.null_count for column in texts.columns)
            and all(DIGEST.fullmatch(digest) for digest in digests)
            and len(columns) > 0
            and all(pa.types.is_fixed_size_list(kind) and kind.value_type == vector for kind in columns.values())
        )
    if not is_sound:
        raise RefusedError("its columns are not those of rows")
    widths = {name: kind.list_size for name, kind in columns.items()}
    if other := [name for name, dim in widths.items() if writer.manifest.columns.get(name, dim) != dim]:
        raise RefusedError(f"its column {other[0]} has another width than here")
    stat = path.stat()
    return WrittenPart(
        name=path.name,
        columns=widths,
        bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        sha256=sha256,
        digests=tuple(digests),
    )


@contextmanager
def _refusing() -> Iterator[None]:
    """Errors while a file of another cache is read are a reason to refuse it."""
    import pyarrow as pa

    try:
        yield
    except StoreError as error:
        raise RefusedError(error.message) from error
    except OSError as error:
        raise RefusedError(f"it cannot be read: {reason_of(error)}") from error
    except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"it is damaged: {reason_of(error)}") from error


def _column(digests: Sequence[str]) -> pa.StringArray:
    import pyarrow as pa

    return pa.array(list(digests), pa.string())
