"""One part of a stored set: a Parquet file of rows, written once, read in batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.feature_key import json_digest
from nctransfer.errors import SetChangedError, StoreError
from nctransfer.store.atomic_files import as_json, file_sha256, replace_file, writing_errors
from nctransfer.store.manifest import Part

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.store.listings import Listed
    from nctransfer.store.manifest import Manifest

__all__ = ["identified_part", "part_error", "part_table", "read_batches", "read_part", "write_part"]

BATCH_ROWS = 1024


def read_batches(manifest: Manifest, name: str, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    """A part in batches of rows, so that it is never in memory twice.

    Args:
        manifest: The manifest that lists the part.
        name: The part.
        columns: Which columns are wanted; ``None`` for all.

    Raises:
        SetChangedError: The part has been replaced since the manifest was read.
        StoreError: The part is damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # by default pyarrow keeps what was read until the file is closed
        file = parquet.ParquetFile(
            manifest.rows_path / name, buffer_size=2**20, pre_buffer=False, page_checksum_verification=True
        )
        yield from file.iter_batches(BATCH_ROWS, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise part_error(manifest, name, str(error)) from error


def read_part(manifest: Manifest, name: str, columns: list[str] | None) -> pa.Table:
    """A part as a table; see :func:`read_batches`."""
    import pyarrow as pa

    return pa.Table.from_batches(read_batches(manifest, name, columns))


def part_error(manifest: Manifest, name: str, reason: str) -> StoreError:
    """The error for a part that cannot be read as it is recorded: the set has changed, or the part is damaged."""
    if not manifest.is_still_listed(name):
        return SetChangedError(
            f"the stored set {manifest.id} changed while it was being read: "
            f"another process replaced or removed its part {name}",
            "nothing is damaged: run the same command again",
        )
    return StoreError(
        f"{name} of {manifest.id} is damaged: {reason}",
        "run the same nctransfer extract again: it redoes the rows of this part and keeps the others",
    )


def part_table(
    key: FeatureKey,
    about: Mapping[str, str],
    images: Sequence[Listed],
    codes: Mapping[str, int],
    features: Mapping[str, NDArray[np.generic]],
) -> pa.Table:
    """The rows of n images as a table: id, class, label, split, digest, and the columns of vectors.

    Args:
        key: What the features depend on; the metadata of the file holds it.
        about: Names for the reader; the metadata hold them too.
        images: The n images.
        codes: The label of each class name.
        features: The matrix ``(n, d)`` of each column of vectors.
    """
    import pyarrow as pa

    columns: dict[str, Any] = {
        "id": [image.id for image in images],
        "class": [image.label for image in images],
        "label": pa.array([codes[image.label] for image in images], pa.int32()),
        "split": [image.split for image in images],
        "digest": [image.digest for image in images],
        **{name: _vectors(matrix) for name, matrix in features.items()},
    }
    metadata = {
        "nctransfer.key": _key_text(key),
        "nctransfer.about": json.dumps(dict(about)),
        "nctransfer.versions": json.dumps({name: version(name) for name in ("nctransfer", "timm", "torch")}),
    }
    table = pa.table(columns)
    return table.cast(pa.schema([column.with_nullable(False) for column in table.schema], metadata))


def write_part(manifest: Manifest, table: pa.Table, columns: Mapping[str, int]) -> dict[str, Part]:
    """Write a file of rows; returns its record by its name, which follows from its columns and its images."""
    from pyarrow import parquet

    name = f"part-{json_digest([sorted(columns), table['digest'].to_pylist()], 16)}.parquet"
    path = manifest.rows_path / name
    with writing_errors(path):
        replace_file(
            path,
            lambda file: parquet.write_table(
                table,
                file,
                compression={name: "zstd" for name in table.column_names if name not in columns},
                use_dictionary=["class", "split"],
                write_statistics=["id", "class", "label", "split"],
                write_page_checksum=True,
            ),
            manifest.folder,
        )
        return {name: _part_of(path, len(table), columns)}


def identified_part(path: Path, key: FeatureKey) -> Part | None:
    """The record of a file that no manifest lists; ``None`` if it is damaged, or of another key."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path, page_checksum_verification=True).read()
    except (OSError, pa.ArrowException):
        return None
    if (table.schema.metadata or {}).get(b"nctransfer.key") != _key_text(key).encode():
        return None
    kinds = {column.name: column.type for column in table.schema}
    columns = {name: kind.list_size for name, kind in kinds.items() if pa.types.is_fixed_size_list(kind)}
    return _part_of(path, len(table), columns)


def _part_of(path: Path, rows: int, columns: Mapping[str, int]) -> Part:
    stat = path.stat()
    return Part(
        rows=rows,
        columns=dict(columns),
        bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        sha256=file_sha256(path),
    )


def _key_text(key: FeatureKey) -> str:
    return json.dumps(as_json(asdict(key)))


def _vectors(matrix: NDArray[np.generic]) -> pa.FixedSizeListArray:
    """A matrix ``(n, d)`` as a column of vectors."""
    import pyarrow as pa

    kind = pa.list_(pa.field("item", pa.from_numpy_dtype(matrix.dtype), False), matrix.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), type=kind)
