"""Files of features made elsewhere: which reader a file needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.errors import FeaturesError, reason_of
from nctransfer.features.array_files import read_npz, read_safetensors
from nctransfer.features.feature_set import coded, id_ranks
from nctransfer.features.feature_stream import FeatureStream
from nctransfer.features.file_contents import pickled_error, reading_errors
from nctransfer.features.parquet_files import parquet_files, parquet_table, read_parquet, vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyarrow import parquet

    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.features.feature_stream import Features
    from nctransfer.sources.selection import Selection

__all__ = ["read_features", "stream_features"]

BATCH_ROWS = 1024


def read_features(
    path: str | Path,
    label_column: str | None = None,
    feature_column: str | None = None,
    selection: Selection | None = None,
    class_names: Sequence[str] | None = None,
    attributes: Iterable[str] = (),
) -> FeatureSet:
    """Features made elsewhere: a Parquet, ``.npz`` or ``.safetensors`` file, or a folder of Parquet files.

    The first bytes of a file tell its format; if they do not, its suffix does.

    Args:
        path: The file or folder.
        label_column: The column or array of labels; by default it is found by its name.
        feature_column: The column or array of features; by default it is found by its name.
        selection: Which rows are wanted; by default all.
        class_names: The names of labels 0, 1, …, if the labels are whole numbers.
        attributes: Further columns or arrays of text, whole numbers or booleans that the features shall come with.

    Raises:
        FeaturesError: There is no such file or column, or it cannot be used.
    """
    readers = {"npz": read_npz, "safetensors": read_safetensors, "Parquet": read_parquet}
    read = readers[_format(Path(path))]
    return read(path, label_column, feature_column, selection, class_names, tuple(attributes))


def _format(path: Path) -> str:
    """The format of a file: ``npz``, ``safetensors`` or ``Parquet``."""
    try:
        if path.is_dir():
            return "Parquet"
        if path.exists() and not path.is_file():  # reading a pipe would never end
            raise FeaturesError(f"{str(path)!r} is neither a file nor a folder")
        with path.open("rb") as file:
            start = file.read(16)
    except (OSError, ValueError) as error:
        raise FeaturesError(f"{str(path)!r} cannot be read: {reason_of(error)}") from error
    if start.startswith(b"\x93NUMPY"):
        raise FeaturesError(
            f"{str(path)!r} is a single array, without labels",
            "save both in one file: numpy.savez('features.npz', features=features, labels=labels)",
        )
    if start[4:9] == b"\0\0\0\0{":  # a length of eight bytes, and JSON
        return "safetensors"
    if start.startswith(b"\x80"):
        raise pickled_error(path)
    by_suffix = {".npz": "npz", ".safetensors": "safetensors"}.get(path.suffix.lower(), "Parquet")
    known = {b"PAR1": "Parquet", b"PK\x03\x04": "npz", b"PK\x05\x06": "npz"}
    return known.get(start[:4], by_suffix)


def stream_features(
    path: str | Path,
    label_column: str | None = None,
    feature_column: str | None = None,
    selection: Selection | None = None,
    class_names: Sequence[str] | None = None,
) -> Features:
    """The same features as :func:`read_features`, but Parquet files are read in batches in every pass.

    The labels are read once. So each pass checks that every file still has the size and time that it had before.

    Args:
        path: The file or folder.
        label_column: The column or array of labels; by default it is found by its name.
        feature_column: The column or array of features; by default it is found by its name.
        selection: Which rows are wanted; by default all.
        class_names: The names of labels 0, 1, …, if the labels are whole numbers.

    Raises:
        FeaturesError: There is no such file, or it cannot be used; a pass raises it too if a file has changed.
    """
    import torch
    from pyarrow import parquet

    if _format(Path(path)) != "Parquet":
        return read_features(path, label_column, feature_column, selection, class_names)
    files = parquet_files(Path(path))
    with reading_errors(path, "Parquet", "expected Parquet files of features"):
        stamps = {file: _stamp(file) for file in files}
    table = parquet_table(path, files, label_column, feature_column, ("id", "split"), with_features=False)
    contents = table.contents(None)
    labels, chosen, info = contents.chosen(path, selection, class_names)
    codes, classes = coded([labels[i] for i in chosen])
    if not len(codes):
        raise FeaturesError(f"{str(path)!r} has no rows")
    of_rows = torch.full((len(labels),), -1)
    of_rows[torch.tensor(chosen)] = codes
    places = None
    if contents.ids:
        places = torch.full((len(labels),), -1)
        places[torch.tensor(chosen)] = torch.from_numpy(id_ranks([contents.ids[i] for i in chosen]))

    def read(start: int = 0, stop: int | None = None) -> Iterator[NDArray[Any]]:
        with reading_errors(path, "Parquet", "it may have changed while it was being read"):
            done = 0  # rows of the files before
            for file, stamp in stamps.items():
                _check_unchanged(file, stamp)
                # by default pyarrow keeps what was read until the file is closed
                with parquet.ParquetFile(file, buffer_size=2**20, pre_buffer=False) as opened:
                    yield from _rows_between(opened, table.feature, start - done, None if stop is None else stop - done)
                    done += opened.metadata.num_rows
                _check_unchanged(file, stamp)

    first = next(iter(read()))
    return FeatureStream(labels=of_rows, classes=classes, dim=first.shape[1], info=info, read=read, places=places)


def _rows_between(file: parquet.ParquetFile, column: str, start: int, stop: int | None) -> Iterator[NDArray[Any]]:
    """A column of vectors from row ``start`` up to row ``stop`` of a file; of other row groups nothing is read."""
    import pyarrow as pa

    first = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if first + rows > start and (stop is None or first < stop):
            at = first
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=[column]):
                low = max(start - at, 0)
                high = len(batch) if stop is None else min(stop - at, len(batch))
                if low < high:
                    yield vectors(pa.chunked_array([batch.column(0)[low:high]]), column)
                at += len(batch)
                if stop is not None and at >= stop:
                    break
        first += rows


def _check_unchanged(file: Path, stamp: tuple[int, int, int]) -> None:
    if _stamp(file) != stamp:
        raise FeaturesError(f"{str(file)!r} changed while it was being read", "run the same command again")


def _stamp(file: Path) -> tuple[int, int, int]:
    """What differs if a file is changed or replaced: its inode, size and time."""
    stat = file.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
