"""The rows of one backbone on one source."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.feature_key import FEATURE, json_digest
from nctransfer.errors import FeaturesError, StoreError
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet, coded
from nctransfer.features.feature_stream import FeatureStream
from nctransfer.features.parquet_files import vectors
from nctransfer.sources.selection import Selection
from nctransfer.store.atomic_files import as_json, file_lock, read_json, replace_file, write_json, writing_errors
from nctransfer.store.listings import Listed
from nctransfer.store.manifest import is_part, part_damage, part_record

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from numpy.typing import NDArray

    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.store.cache_folder import FeatureStore

__all__ = ["StoredSet"]

log = logging.getLogger(__name__)


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
            if name == Path(name).name and is_part(part)
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
        manifest = read_json(self.path / "manifest.json")
        return manifest if manifest.get("key") == as_json(asdict(self.key)) else {}

    @contextmanager
    def lock(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Only one process at a time extracts into a set; ``on_wait`` is called before waiting for another."""
        with file_lock(self.path / ".lock", on_wait):
            yield

    def damaged(self, thorough: bool = False) -> dict[str, str]:
        """The parts that are not as they were written, and what is wrong with each.

        A part whose size and time are as recorded is taken as whole (its page checksums are still verified
        when it is read); ``thorough`` hashes every part.
        """
        return {
            name: reason
            for name, part in self.parts.items()
            if (reason := part_damage(self.rows_path / name, part, thorough))
        }

    def repair(self) -> dict[str, str]:
        """Drop damaged parts, adopt whole ones that a killed run left, and return the damaged ones.

        To be called under :meth:`lock`.
        """
        damaged = self.damaged(thorough=True)
        parts = {name: part for name, part in self.parts.items() if name not in damaged}
        adopted = {}
        with writing_errors(self.path):
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
        if metadata.get(b"nctransfer.key") != json.dumps(as_json(asdict(self.key))).encode():
            return None
        kinds = {column.name: column.type for column in table.schema}
        columns = {name: kind.list_size for name, kind in kinds.items() if pa.types.is_fixed_size_list(kind)}
        return part_record(path, len(table), columns)

    def _write_manifest(self, parts: Mapping[str, Mapping[str, Any]]) -> None:
        manifest = {"key": asdict(self.key), "about": self.about, "parts": parts}
        write_json(self.path / "manifest.json", manifest)

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
            with writing_errors(self.path):
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

        name = f"part-{json_digest([sorted(columns), table['digest'].to_pylist()], 16)}.parquet"
        path = self.rows_path / name
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
                self.path,
            )
            return {name: part_record(path, len(table), columns)}

    def save_head(self, head: Mapping[str, torch.Tensor] | None) -> None:
        """Store the backbone's linear classifier beside its sets, once."""
        from safetensors.torch import save

        path = self.path.parent / "head.safetensors"
        if head is not None and not path.exists():
            content = save(dict(head))
            with writing_errors(path):
                replace_file(path, lambda file: file.write(content))

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
            "nctransfer.key": json.dumps(as_json(asdict(self.key))),
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
        with writing_errors(self.path):
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


def _vectors(matrix: NDArray[np.generic]) -> pa.FixedSizeListArray:
    """A matrix ``(n, d)`` as a column of vectors."""
    import pyarrow as pa

    kind = pa.list_(pa.field("item", pa.from_numpy_dtype(matrix.dtype), False), matrix.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), type=kind)
