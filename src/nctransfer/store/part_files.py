"""One part of a stored set: a Parquet file of rows, written once, named by its content, read in batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.errors import SetChangedError, StoreError, reason_of
from nctransfer.store.atomic_files import (
    add_file,
    as_json,
    check_content_is_to_blame,
    file_sha256,
    writing_errors,
)
from nctransfer.strict_json import parse_json

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.store.listings import Listed
    from nctransfer.store.manifest import Manifest, Part

__all__ = [
    "WrittenPart",
    "about_of_file",
    "identified_part",
    "key_of_file",
    "part_error",
    "part_name",
    "read_batches",
    "read_file",
    "read_part",
    "write_part",
    "write_table",
]

BATCH_ROWS = 1024
KEY = b"nctransfer.key"
ABOUT = b"nctransfer.about"


@dataclass(frozen=True, kw_only=True)
class WrittenPart:
    """A part that is on the disk, and that a manifest may list.

    Attributes:
        name: The name of its file.
        columns: The columns of vectors, and the width of each.
        bytes: The size of the file.
        mtime_ns: When the file was last modified.
        sha256: The digest of its content.
        digests: The digests of the images of its rows.
    """

    name: str
    columns: Mapping[str, int]
    bytes: int
    mtime_ns: int
    sha256: str
    digests: Sequence[str]

    @property
    def description(self) -> dict[str, Any]:
        """What a manifest says of the file."""
        return {
            "rows": len(self.digests),
            "columns": dict(self.columns),
            "bytes": self.bytes,
            "mtime_ns": self.mtime_ns,
            "sha256": self.sha256,
        }


def read_batches(manifest: Manifest, name: str, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    """A part in batches of rows, so that it is never in memory twice.

    Before a process reads a file for the first time, it compares the file's content with the digest in the manifest.

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

    path = manifest.rows_path / name
    try:
        if reason := _damage(path, manifest.parts[name]):
            raise part_error(manifest, name, reason)
        # by default pyarrow keeps what was read until the file is closed
        file = parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False, page_checksum_verification=True)
        if file.metadata.num_rows != manifest.parts[name].rows:
            raise part_error(manifest, name, "it holds another number of rows than its manifest says")
        yield from file.iter_batches(BATCH_ROWS, columns=columns)
    except (OSError, pa.ArrowException) as error:
        check_content_is_to_blame(path, error)
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise part_error(manifest, name, reason) from error


_whole: dict[Path, tuple[int, ...]] = {}  # what the system said of each file whose content was compared


def _damage(path: Path, part: Part) -> str:
    """How a file differs from what was written; empty if it does not."""
    stat = path.stat()
    # no program can set the last of these
    stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    if _whole.get(path) == stamp:
        return ""
    reason = part.damage(path, thorough=True)
    if not reason:
        _whole[path] = stamp
    return reason


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
        f"run nctransfer cache repair {manifest.id}, then the same nctransfer extract again: only the rows of this "
        "part are extracted anew",
    )


def write_part(
    folder: Path,
    key: FeatureKey,
    about: Mapping[str, str],
    images: Sequence[Listed],
    features: Mapping[str, NDArray[np.generic]],
) -> WrittenPart:
    """Write the rows of n images. It needs no lock, and no manifest lists them yet.

    Args:
        folder: The folder of the set.
        key: What the features depend on; the metadata of the file holds it.
        about: Names for the reader; the metadata hold them too.
        images: The n images.
        features: The matrix ``(n, d)`` of each column of vectors.

    Raises:
        StoreError: It cannot be written.
    """
    import pyarrow as pa

    columns: dict[str, Any] = {
        "id": [image.id for image in images],
        "class": [image.label for image in images],
        "split": [image.split for image in images],
        "digest": [image.digest for image in images],
        **{name: _vectors(matrix) for name, matrix in features.items()},
    }
    metadata = {
        KEY.decode(): _key_text(key),
        ABOUT.decode(): json.dumps(dict(about)),
        "nctransfer.versions": json.dumps({name: version(name) for name in ("nctransfer", "timm", "torch")}),
    }
    table = pa.table(columns)
    table = table.cast(pa.schema([column.with_nullable(False) for column in table.schema], metadata))
    return write_table(folder, table, {name: matrix.shape[1] for name, matrix in features.items()})


def write_table(folder: Path, table: pa.Table, columns: Mapping[str, int]) -> WrittenPart:
    """Write a table of rows, with the key in its metadata, as a part; see :func:`write_part`."""
    from pyarrow import parquet

    with writing_errors(folder / "rows"):
        path, sha256 = add_file(
            folder / "rows",
            part_name,
            lambda file: parquet.write_table(
                table,
                file,
                compression={name: "zstd" for name in table.column_names if name not in columns},
                use_dictionary=["class", "split"],
                write_statistics=["id", "class", "split"],
                write_page_checksum=True,
            ),
        )
        return _written(path, sha256, table["digest"].to_pylist(), columns)


def part_name(sha256: str) -> str:
    """The name of the file whose content has this digest."""
    return f"part-{sha256[:32]}.parquet"


def read_file(path: Path) -> pa.Table:
    """All rows of a file.

    Raises:
        OSError: It cannot be read.
        pyarrow.ArrowException: It is damaged.
    """
    from pyarrow import parquet

    return parquet.ParquetFile(path, page_checksum_verification=True).read()


def identified_part(path: Path, key: FeatureKey) -> WrittenPart | None:
    """The part in a file that no manifest lists; ``None`` if it is damaged, or of another key.

    A file that an earlier version wrote has another name and other columns: it is written anew.

    Raises:
        StoreError: The file cannot be read, and may be whole; or it cannot be written anew.
    """
    import pyarrow as pa

    try:
        if key_of_file(path) != as_json(asdict(key)):
            return None
        sha256 = file_sha256(path)
        is_named_by_content = path.name == part_name(sha256)
        if len(path.name) == len(part_name(sha256)) and not is_named_by_content:  # its content was altered
            return None
        table = read_file(path)
        digests = table["digest"].to_pylist()
    except (OSError, pa.ArrowException, KeyError) as error:
        check_content_is_to_blame(path, error)
        return None
    kinds = {column.name: column.type for column in table.schema}
    columns = {name: kind.list_size for name, kind in kinds.items() if pa.types.is_fixed_size_list(kind)}
    if is_named_by_content:
        return _written(path, sha256, digests, columns)
    table = table.drop_columns([name for name in table.column_names if name == "label"])
    return write_table(path.parent.parent, table, columns)


def key_of_file(path: Path) -> Any:
    """The key in the metadata of a file of rows, as JSON gives it; ``None`` if there is none, or the file is damaged.

    Raises:
        StoreError: The file cannot be read, and may be whole.
    """
    return _metadata(path, KEY)


def about_of_file(path: Path) -> Any:
    """The names for the reader in the metadata of a file of rows; see :func:`key_of_file`."""
    return _metadata(path, ABOUT)


def _metadata(path: Path, name: bytes) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parse_json((parquet.read_schema(path).metadata or {}).get(name, b"null"))
    except (OSError, pa.ArrowException, ValueError) as error:
        check_content_is_to_blame(path, error)
        return None


def _written(path: Path, sha256: str, digests: Sequence[str], columns: Mapping[str, int]) -> WrittenPart:
    stat = path.stat()
    return WrittenPart(
        name=path.name,
        columns=dict(columns),
        bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        sha256=sha256,
        digests=tuple(digests),
    )


def _key_text(key: FeatureKey) -> str:
    return json.dumps(as_json(asdict(key)))


def _vectors(matrix: NDArray[np.generic]) -> pa.FixedSizeListArray:
    """A matrix ``(n, d)`` as a column of vectors."""
    import pyarrow as pa

    kind = pa.list_(pa.field("item", pa.from_numpy_dtype(matrix.dtype), False), matrix.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), type=kind)
