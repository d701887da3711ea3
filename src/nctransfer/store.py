"""The feature cache: what has been through a backbone once is never run again.

::

    <cache>/features/<model>-<key>/<source>/manifest.json     which parts are whole
                                            /rows/part-*.parquet
                                   head.safetensors           the backbone's linear classifier, if it has one
           /sources/<source>.parquet                          the listing: id, class, split, digest
           /keys/<request>.json                               the key that a request led to
           last.json                                          the set used last

Two things are kept apart. A **row** belongs to the content of an image: its digest and its feature, written
once and never changed. The **listing** of a source says which images there are now, what they are called,
and which digest each has. A renamed class folder or a touched file therefore changes the listing only, in one
atomic replacement. Rows also carry id, class and label as of extraction, so that the ``rows`` folder is
a plain Parquet data set to anyone else; pandas, Polars and DuckDB refuse a folder with another kind of file in
it, hence the manifest beside it and not in it.

Everything is written to a temporary name, flushed and renamed. A killed run leaves whole parts, or parts that the
manifest does not know yet and that are checked and adopted by the next run.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from nctransfer.errors import FeaturesError, StoreError
from nctransfer.features.feature_set import FeatureInfo, FeatureSet, coded
from nctransfer.features.feature_stream import FeatureStream
from nctransfer.features.files import read_features
from nctransfer.features.parquet_files import vectors
from nctransfer.sources.selection import Selection

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from numpy.typing import NDArray

__all__ = ["FeatureKey", "FeatureStore", "Listed", "StoredSet", "load_features"]

log = logging.getLogger(__name__)

FEATURE = "feature"  # the column of the pooled output
PART_FIELDS = {"rows", "columns", "bytes", "mtime_ns", "sha256"}
FORMAT = 2  # of the rows; in the key, so that another format is another set


@dataclass(frozen=True)
class FeatureKey:
    """Everything that changes the numbers of a row, and nothing else.

    Attributes:
        model: timm's name with tag.
        weights: Digest of the weights' tensors.
        transform: Image size, mean, std, interpolation, crop.
        pool: How the output became one vector.
        dtype: What it was computed in.
        store_dtype: What it is stored in.
        model_kwargs: Further arguments of the model.
        plugin: Digest of the file that registers the architecture, if it is not timm's.
        format: Version of the rows and of the decoding of images.
    """

    model: str
    weights: str
    transform: Mapping[str, Any]
    pool: str = "pre_logits"
    dtype: str = "float32"
    store_dtype: str = "float32"
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    plugin: str = ""
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """Eight hex digits that differ where any field does."""
        return _digest(asdict(self))


class Listed(NamedTuple):
    """An image in the listing of a source; ``digest`` is "" while it is not known."""

    id: str
    label: str
    split: str
    size: int
    mtime_ns: int
    digest: str


class FeatureStore:
    """The cache folder: ``$NCTRANSFER_CACHE``, else the platform's folder for caches."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        import platformdirs

        chosen = root or os.environ.get("NCTRANSFER_CACHE") or platformdirs.user_cache_dir("nctransfer")
        self.root = Path(chosen).expanduser().absolute()

    # Sets

    def open(self, key: FeatureKey, source_id: str, about: Mapping[str, str]) -> StoredSet:
        """The set of one backbone on one source; it need not exist yet.

        ``about`` are names for the reader: ``weights`` and ``data``.
        """
        from nctransfer.sources.source import safe_name

        folder = f"{safe_name(key.model)}-{key.digest}"
        return StoredSet(self, self.root / "features" / folder / source_id, key, about)

    def sets(self) -> list[StoredSet]:
        """Every stored set, by id."""
        manifests = sorted(self.root.glob("features/*/*/manifest.json"))
        return [stored for path in manifests if (stored := self._at(path.parent))]

    def resolve(self, name: str | os.PathLike[str]) -> StoredSet | None:
        """The stored set of that name, see :meth:`find`; ``None`` for a Parquet file or folder made elsewhere."""
        with suppress(OSError, RuntimeError):  # not every name can be a path
            path = Path(name).expanduser()
            if path.is_file() or (path.is_dir() and any(path.glob("*.parquet")) and not self.holds(path)):
                return None
        return self.find(os.fspath(name))

    def find(self, name: str) -> StoredSet:
        """The set with this id, unique beginning of an id or of its source, or folder.

        Raises:
            FeaturesError: None or several fit; the message names them.
        """
        if (path := self.holds(Path(name))) and (stored := self._at(path)):
            return stored
        every = {stored.id: stored for stored in self.sets()}
        fitting = [stored for key, stored in every.items() if key.startswith(name)]
        fitting = fitting or [stored for stored in every.values() if stored.path.name.startswith(name)]
        if name in every or len(fitting) == 1:
            return every.get(name) or fitting[0]
        ids = [stored.id for stored in fitting or every.values()]
        names = "\n  ".join(ids[:10] + ["…"] * (len(ids) > 10))
        if fitting:
            raise FeaturesError(
                f"{name!r} fits {len(fitting)} stored sets:\n  {names}", "give the id from its beginning"
            )
        raise FeaturesError(
            f"{name!r} is neither a stored set nor a file of features (Parquet, .npz, .safetensors)",
            f"stored are:\n  {names}" if every else "nothing is stored yet: run nctransfer extract",
        )

    def holds(self, path: Path) -> Path | None:
        """The folder of the set whose folder, or folder of rows, ``path`` is."""
        with suppress(OSError, RuntimeError):  # not every name can be a path
            path = path.expanduser().absolute()
            path = path.parent if path.name == "rows" else path
            return path if (path / "manifest.json").is_file() else None
        return None

    def _at(self, path: Path) -> StoredSet | None:
        manifest = _read_json(path / "manifest.json")
        try:
            return StoredSet(self, path, FeatureKey(**manifest["key"]), manifest["about"])
        except (KeyError, TypeError):
            return None  # not a manifest of ours, or a damaged one: the next extraction rebuilds it

    # What was used last

    @property
    def last(self) -> tuple[StoredSet, Selection] | None:
        """The set used last and what was selected of it, if it is still there."""
        record = _read_json(self.root / "last.json")
        try:
            chosen: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in record["selection"].items()
            }
            stored = self._at(self.root / "features" / record["id"])
            return (stored, Selection(**chosen)) if stored else None
        except (KeyError, TypeError, ValueError, AttributeError, FeaturesError):
            return None

    def use(self, stored: StoredSet, selection: Selection) -> None:
        """Remember what was used last; not in a cache that cannot be written."""
        record = {"id": stored.id, "selection": asdict(selection)}
        if os.access(self.root, os.W_OK) and _read_json(self.root / "last.json") != record:
            _write_json(self.root / "last.json", record)

    # Keys

    def recall(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What :meth:`remember` was told for this request; empty if nothing."""
        return _read_json(self._key_file(request))

    def remember(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Keep the answer to a request, so that next time the weights need not be loaded to know the key."""
        _write_json(self._key_file(request), answer)

    def _key_file(self, request: Mapping[str, Any]) -> Path:
        return self.root / "keys" / f"{_digest(request, 16)}.json"

    # Listings

    def listing(self, source_id: str) -> dict[str, Listed]:
        """The images of a source by id, as last listed; empty if it never was."""
        import pyarrow as pa
        from pyarrow import parquet

        try:
            table = parquet.ParquetFile(self._listing_file(source_id)).read()
            columns = [table[name].to_pylist() for name in Listed._fields]
        except (OSError, pa.ArrowException, KeyError):
            return {}  # a listing can always be made anew
        return {row[0]: Listed(*row) for row in zip(*columns, strict=True)}

    def save_listing(self, source_id: str, listing: Sequence[Listed]) -> dict[str, Listed]:
        """Replace a listing; digests that another process found meanwhile are kept. Returns the new one."""
        import pyarrow as pa
        from pyarrow import parquet

        path = self._listing_file(source_id)
        with _locked(path.with_suffix(".lock")):
            known = self.listing(source_id)
            new = {row.id: row if row.digest else _with_known_digest(row, known) for row in listing}
            if new != known:
                columns = zip(*new.values(), strict=True)
                table = pa.table(dict(zip(Listed._fields, map(list, columns), strict=True)))
                with _writing(path):
                    _replace(path, lambda file: parquet.write_table(table, file, compression="zstd"))
        return new

    def _listing_file(self, source_id: str) -> Path:
        return self.root / "sources" / f"{source_id}.parquet"


class StoredSet:
    """The rows of one backbone on one source."""

    def __init__(self, store: FeatureStore, path: Path, key: FeatureKey, about: Mapping[str, str]) -> None:
        self.store = store
        self.path = path
        self.key = key
        self.about = dict(about)

    @property
    def id(self) -> str:
        """``<model>-<key>/<source>``."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def rows_path(self) -> Path:
        """The folder of Parquet files that any reader of Parquet opens."""
        return self.path / "rows"

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """The part files by name: ``rows``, ``columns`` with the width of each, ``bytes``, ``mtime_ns``, ``sha256``."""
        parts = self._manifest.get("parts")
        return {
            name: part
            for name, part in (parts.items() if isinstance(parts, dict) else ())
            if name == Path(name).name and _is_part(part)
        }

    @property
    def columns(self) -> dict[str, int]:
        """The columns of vectors that any part has, and their widths."""
        return {name: dim for part in self.parts.values() for name, dim in part["columns"].items()}

    @property
    def rows(self) -> int:
        """The number of rows stored."""
        return sum(part["rows"] for part in self.parts.values())

    @property
    def bytes(self) -> int:
        """The size of the rows on disk."""
        return sum(part["bytes"] for part in self.parts.values())

    @property
    def _manifest(self) -> dict[str, Any]:
        manifest = _read_json(self.path / "manifest.json")
        return manifest if manifest.get("key") == _plain(asdict(self.key)) else {}

    @contextmanager
    def lock(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Only one process at a time extracts into a set; ``on_wait`` is called before waiting for another."""
        with _locked(self.path / ".lock", on_wait):
            yield

    def damaged(self, thorough: bool = False) -> dict[str, str]:
        """The parts that are not as they were written, and what is wrong with each.

        A part whose size and time are as recorded is taken as whole (its page checksums are still verified
        when it is read); ``thorough`` hashes every part.
        """
        return {
            name: reason
            for name, part in self.parts.items()
            if (reason := _part_damage(self.rows_path / name, part, thorough))
        }

    def repair(self) -> dict[str, str]:
        """Drop damaged parts, adopt whole ones that a killed run left, and return the damaged ones.

        To be called under :meth:`lock`.
        """
        damaged = self.damaged(thorough=True)
        parts = {name: part for name, part in self.parts.items() if name not in damaged}
        adopted = {}
        with _writing(self.path):
            for leftover in self.path.glob("*.tmp"):
                leftover.unlink()
            for path in self.rows_path.glob("part-*.parquet"):
                if path.name not in parts:
                    if path.name not in damaged and (record := self._adopt(path)):
                        adopted[path.name] = record
                    else:
                        damaged.setdefault(path.name, "of no use: damaged, or of another set")
                        path.unlink()
            if damaged or adopted:
                self._write_manifest({**parts, **adopted})
        return damaged

    def _adopt(self, path: Path) -> dict[str, Any] | None:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            table = parquet.ParquetFile(path, page_checksum_verification=True).read()
        except (OSError, pa.ArrowException):
            return None
        metadata = table.schema.metadata or {}
        if metadata.get(b"nctransfer.key") != json.dumps(_plain(asdict(self.key))).encode():
            return None
        kinds = {column.name: column.type for column in table.schema}
        columns = {name: kind.list_size for name, kind in kinds.items() if pa.types.is_fixed_size_list(kind)}
        return _part_record(path, len(table), columns)

    def _write_manifest(self, parts: Mapping[str, Mapping[str, Any]]) -> None:
        manifest = {"key": asdict(self.key), "about": self.about, "parts": parts}
        _write_json(self.path / "manifest.json", manifest)

    def digests(self, columns: Iterable[str] = ()) -> set[str]:
        """The digests of the images that are stored with these columns."""
        tables = (self._read_part(name, ["digest"]) for name in self._parts_with(columns))
        return {digest for table in tables for digest in table["digest"].to_pylist()}

    def _parts_with(self, columns: Iterable[str]) -> list[str]:
        wanted = set(columns)
        return [name for name, part in self.parts.items() if wanted <= part["columns"].keys()]

    def drop_superseded(self) -> None:
        """Delete rows that another part holds with more columns. To be called under :meth:`lock`."""
        import pyarrow as pa
        from pyarrow import compute

        parts = self.parts
        digests = {name: set(self._read_part(name, ["digest"])["digest"].to_pylist()) for name in parts}
        columns = {name: frozenset(part["columns"]) for name, part in parts.items()}
        wider = {
            few: set[str]().union(*(digests[name] for name, many in columns.items() if many > few))
            for few in set(columns.values())
        }
        for name in digests:
            held = digests[name] & wider[columns[name]]
            if not held:
                continue
            table = self._read_part(name, None)
            is_held = compute.is_in(table["digest"], pa.array(sorted(held), pa.string()))
            widths = parts.pop(name)["columns"]
            rest = table.filter(compute.invert(is_held))
            if len(rest):
                parts |= self._write_part(rest, widths)
            self._write_manifest(parts)
            with _writing(self.path):
                (self.rows_path / name).unlink(missing_ok=True)

    def append(self, images: Sequence[Listed], features: Mapping[str, NDArray[np.generic]]) -> None:
        """Store one part: n images, and of each column their vectors ``(n, d)``. To be called under :meth:`lock`."""
        import pyarrow as pa

        classes = self._label_codes(images)
        columns: dict[str, Any] = {
            "id": [image.id for image in images],
            "class": [image.label for image in images],
            "label": pa.array([classes[image.label] for image in images], pa.int32()),
            "split": [image.split for image in images],
            "digest": [image.digest for image in images],
            **{name: _vectors(matrix) for name, matrix in features.items()},
        }
        table = pa.table(columns)
        schema = pa.schema([column.with_nullable(False) for column in table.schema], self._metadata())
        new = self._write_part(table.cast(schema), {name: matrix.shape[1] for name, matrix in features.items()})
        self._write_manifest({**self.parts, **new})

    def _write_part(self, table: pa.Table, columns: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        """Write a file of rows; returns its record for the manifest, by its name."""
        from pyarrow import parquet

        name = f"part-{_digest([sorted(columns), table['digest'].to_pylist()], 16)}.parquet"
        path = self.rows_path / name
        with _writing(path):
            _replace(
                path,
                lambda file: parquet.write_table(
                    table,
                    file,
                    compression={name: "zstd" for name in table.column_names if name not in columns},
                    use_dictionary=["class", "split"],
                    write_statistics=["id", "class", "label", "split"],
                    write_page_checksum=True,
                ),
                self.path,
            )
            return {name: _part_record(path, len(table), columns)}

    def save_head(self, head: Mapping[str, torch.Tensor] | None) -> None:
        """Store the backbone's linear classifier beside its sets, once."""
        from safetensors.torch import save

        path = self.path.parent / "head.safetensors"
        if head is not None and not path.exists():
            content = save(dict(head))
            with _writing(path):
                _replace(path, lambda file: file.write(content))

    def head(self) -> dict[str, torch.Tensor] | None:
        """The backbone's linear classifier, ``weight`` ``(K, d)`` and perhaps ``bias`` ``(K,)``, if it has one.

        Raises:
            StoreError: It is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path.parent / "head.safetensors"
        if not path.is_file():
            return None
        try:
            tensors: dict[str, torch.Tensor] = load_file(path)
            return tensors
        except (OSError, SafetensorError) as error:
            raise StoreError(f"{str(path)!r} is damaged: {error}", "delete it, and extract again") from error

    def _label_codes(self, images: Sequence[Listed]) -> dict[str, int]:
        """A code for each class name; those given out earlier stay, as parts are never rewritten."""
        codes: dict[str, int] = {}
        for name in self.parts:
            table = self._read_part(name, ["class", "label"])
            codes.update(zip(table["class"].to_pylist(), table["label"].to_pylist(), strict=True))
        for label in sorted({image.label for image in images} - codes.keys()):
            codes[label] = max(codes.values(), default=-1) + 1
        return codes

    def _metadata(self) -> dict[str, str]:
        versions = {name: version(name) for name in ("nctransfer", "timm", "torch")}
        return {
            "nctransfer.key": json.dumps(_plain(asdict(self.key))),
            "nctransfer.about": json.dumps(self.about),
            "nctransfer.versions": json.dumps(versions),
        }

    def listed(self) -> list[Listed]:
        """The listing of the set's source; as of extraction if that has been lost."""
        if listing := self.store.listing(self.path.name):
            return list(listing.values())
        rows: dict[str, Listed] = {}
        for name in self.parts:
            table = self._read_part(name, ["id", "class", "split", "digest"])
            for id_, label, split, digest in zip(*(c.to_pylist() for c in table.columns), strict=True):
                rows[id_] = Listed(id_, label, split, 0, 0, digest)
        return list(rows.values())

    def read(self, selection: Selection | None = None, column: str = FEATURE) -> FeatureSet:
        """The features of the wanted images, with labels and ids as listed now.

        Listed images that are not stored are left out: the set is what has been extracted.

        Args:
            selection: Which images are wanted; by default all.
            column: ``feature``, or a layer as ``layer_3``.

        Raises:
            FeaturesError: Nothing stored is wanted, there is no such column, or a value is not finite.
            StoreError: A part is damaged; the message names it.
        """
        import numpy as np

        selection = selection or Selection()
        kept, rows = self._located(selection, {column})
        matrix = np.empty((len(kept), self.columns[column]), np.float32)
        order = np.argsort(rows, kind="stable")
        start = 0
        for found in self._gather(rows[order], column, {column}):
            matrix[order[start : start + len(found)]] = found
            start += len(found)
        return FeatureSet.from_arrays(
            matrix, [row.label for row in kept], [row.id for row in kept], self.info(selection, column), copy=False
        )

    def stream(
        self, selection: Selection | None = None, column: str = FEATURE, beside: Iterable[str] = ()
    ) -> FeatureStream:
        """As :meth:`read`, but nothing is held in memory: the rows are read a batch at a time, each time.

        Args:
            selection: Which images are wanted; by default all.
            column: ``feature``, or a layer as ``layer_3``.
            beside: Only rows that have these columns too, so that layers are compared on the same images.

        Raises:
            FeaturesError: See :meth:`read`.
            StoreError: Likewise.
        """
        import numpy as np
        import torch

        selection = selection or Selection()
        columns = {column, *beside}
        kept, rows = self._located(selection, columns)
        codes, classes = coded([row.label for row in kept])
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        return FeatureStream(
            codes[torch.from_numpy(order)],
            classes,
            self.columns[column],
            self.info(selection, column),
            lambda: self._gather(ascending, column, columns),
        )

    def _located(self, selection: Selection, columns: set[str]) -> tuple[list[Listed], NDArray[np.int64]]:
        """The wanted images that are stored, and the row of each, over all parts that have the columns."""
        import numpy as np
        import pyarrow as pa
        from pyarrow import compute

        listed = self.listed()
        chosen = selection.apply(
            [row.id for row in listed], [row.label for row in listed], [row.split for row in listed]
        )
        if damaged := self.damaged():
            raise self._damage(*next(iter(damaged.items())))
        parts = self._parts_with(columns)
        if self.parts and not parts:
            there = ", ".join(self.columns)
            absent = next(iter(sorted(columns - self.columns.keys()) or sorted(columns)))
            raise FeaturesError(
                f"{self.id} has no column {absent!r}", f"it has {there}; nctransfer extract --layers adds layers"
            )
        digests = [self._read_part(name, ["digest"])["digest"].combine_chunks() for name in parts]
        if not digests:
            raise self._nothing_wanted()
        wanted = pa.array([listed[index].digest for index in chosen.tolist()], pa.string())
        found = compute.index_in(wanted, value_set=pa.concat_arrays(digests))
        rows = np.from_dlpack(found.fill_null(-1))
        kept = [listed[index] for index in chosen[rows >= 0].tolist()]
        if not kept:
            raise self._nothing_wanted()
        if len(kept) < len(chosen):
            log.warning("%s of %s wanted images are stored in %s", f"{len(kept):,}", f"{len(chosen):,}", self.id)
        return kept, rows[rows >= 0].astype("int64")

    def _gather(self, ascending: NDArray[np.int64], column: str, columns: set[str]) -> Iterator[NDArray[Any]]:
        """One column of some rows, ascending, over all parts that have the columns; some at a time."""
        import numpy as np
        import pyarrow as pa

        start = 0
        parts = self._parts_with(columns)
        for batch in itertools.chain.from_iterable(self._read_batches(name, [column]) for name in parts):
            first, last = np.searchsorted(ascending, (start, start + len(batch)))
            if first < last:
                yield vectors(pa.chunked_array([batch[column]]), column)[ascending[first:last] - start]
            start += len(batch)

    def _nothing_wanted(self) -> FeaturesError:
        return FeaturesError(f"nothing of what is wanted is stored in {self.id}", "run nctransfer extract")

    def info(self, selection: Selection, column: str = FEATURE) -> FeatureInfo:
        """What the set is, for the head of a table."""
        return FeatureInfo(
            id=self.id,
            model=self.key.model,
            weights=f"{self.about.get('weights', 'unknown')} (digest {self.key.weights[:8]})",
            data=self.about.get("data"),
            split=selection.split,
            layer=column,
            path=str(self.rows_path),
        )

    def to_dict(self) -> dict[str, Any]:
        """What the set is, as JSON has it."""
        return {
            "id": self.id,
            "path": str(self.rows_path),
            **self.about,
            "rows": self.rows,
            "columns": self.columns,
            "parts": len(self.parts),
            "bytes": self.bytes,
            "key": asdict(self.key),
        }

    def remove(self) -> None:
        """Delete the set; the folder of its backbone too if it was the last there."""
        with _writing(self.path):
            shutil.rmtree(self.path)
            if not any(child.is_dir() for child in self.path.parent.iterdir()):
                shutil.rmtree(self.path.parent)

    def _read_part(self, name: str, columns: list[str] | None) -> pa.Table:
        import pyarrow as pa

        return pa.Table.from_batches(self._read_batches(name, columns))

    def _read_batches(self, name: str, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        """A part, some rows at a time, so that it need not be in memory twice."""
        import pyarrow as pa
        from pyarrow import parquet

        try:
            source = self.rows_path / name
            # by default pyarrow holds what was read until the file is closed
            file = parquet.ParquetFile(source, buffer_size=2**20, pre_buffer=False, page_checksum_verification=True)
            yield from file.iter_batches(1024, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise self._damage(name, str(error)) from error

    def _damage(self, name: str, reason: str) -> StoreError:
        return StoreError(
            f"{name} of {self.id} is damaged: {reason}",
            "run the same nctransfer extract again: it redoes the rows of this part and keeps the others",
        )


def _is_part(record: Any) -> bool:
    """Whether it is what :func:`_part_record` gives."""
    if not (isinstance(record, dict) and PART_FIELDS.issubset(record) and isinstance(record["columns"], dict)):
        return False
    numbers = (record["rows"], record["bytes"], record["mtime_ns"], *record["columns"].values())
    return all(isinstance(number, int) for number in numbers)


def _vectors(matrix: NDArray[np.generic]) -> pa.FixedSizeListArray:
    """A matrix ``(n, d)`` as a column of vectors."""
    import pyarrow as pa

    kind = pa.list_(pa.field("item", pa.from_numpy_dtype(matrix.dtype), False), matrix.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), type=kind)


def _part_record(path: Path, rows: int, columns: Mapping[str, int]) -> dict[str, Any]:
    stat = path.stat()
    return {
        "rows": rows,
        "columns": dict(columns),
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": _sha256(path),
    }


def _part_damage(path: Path, part: Mapping[str, Any], thorough: bool) -> str:
    try:
        stat = path.stat()
        if stat.st_size != part["bytes"]:
            return f"{stat.st_size:,} bytes instead of {part['bytes']:,}"
        if (thorough or stat.st_mtime_ns != part["mtime_ns"]) and _sha256(path) != part["sha256"]:
            return "its content was altered"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _with_known_digest(row: Listed, known: Mapping[str, Listed]) -> Listed:
    """``row`` with the digest that is known for it, if the file has not been touched since."""
    old = known.get(row.id)
    same = old is not None and (old.size, old.mtime_ns) == (row.size, row.mtime_ns)
    return row._replace(digest=old.digest) if old and same else row


# Files


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    """As it comes back from JSON: tuples are lists."""
    return json.loads(json.dumps(value))


def _digest(value: Any, digits: int = 8) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=digits // 2).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none, or it is damaged."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=1).encode()
    with _writing(path):
        _replace(path, lambda file: file.write(text))


def _replace(path: Path, write: Callable[[IO[bytes]], object], temporary_in: Path | None = None) -> None:
    """Write a file so that it is there whole or not at all, whenever the process or the machine stops."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (temporary_in or path.parent) / f"{path.name}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the rename itself must reach the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    from filelock import FileLock, Timeout

    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait:
                on_wait()
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Errors of the file system as errors of the store."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        hint = "point --cache-dir or NCTRANSFER_CACHE at a folder that can be written"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            hint = "make room and run again: what was stored before is whole, and is not run again"
        raise StoreError(f"the cache cannot be written: {why}: {str(path)!r}", hint) from error


def load_features(
    name: str | os.PathLike[str],
    *,
    selection: Selection | None = None,
    label_column: str | None = None,
    feature_column: str | None = None,
    class_names: Sequence[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> FeatureSet:
    """Features by name: a stored set's id or a unique prefix of it, or a file of features made elsewhere.

    Such a file is Parquet (or a folder of it), ``.npz`` or ``.safetensors``.

    Args:
        name: The id, prefix or path.
        selection: Which samples are wanted; by default all.
        label_column: Of a file made elsewhere: class names or codes; by default ``class``, else ``label``.
        feature_column: Of a stored set, a layer such as ``layer_3``; of a file made elsewhere, the vectors.
        class_names: Of a file made elsewhere: names of labels 0, 1, …
        cache_dir: The cache; by default ``$NCTRANSFER_CACHE``, else the platform's.

    Raises:
        FeaturesError: There is nothing of that name, or it cannot be used.
    """
    stored = FeatureStore(cache_dir).resolve(name)
    if stored is None:
        return read_features(Path(name).expanduser(), label_column, feature_column, selection, class_names)
    return stored.read(selection, feature_column or FEATURE)
