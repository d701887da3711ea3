"""Writing a stored set: parts are added, and rows that another part holds as well are dropped."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.errors import SetChangedError, StoreError
from nctransfer.store.atomic_files import writing_errors
from nctransfer.store.digest_index import append_digests
from nctransfer.store.journal import (
    DamagedJournalError,
    OvertakenError,
    append_records,
    first_record,
    read_records,
)
from nctransfer.store.manifest import manifest_with, read_manifest, what_it_is
from nctransfer.store.part_files import WrittenPart, read_file, read_part, write_part, write_table

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.store.listings import Listed
    from nctransfer.store.manifest import Manifest

__all__ = ["SetWriter", "new_index"]


class SetWriter:
    """Adds rows to a stored set, beside any number of other writers.

    A part is written without any lock; only recording it in the manifest, which takes milliseconds, needs the lock of
    the set. What others have recorded meanwhile is taken over then, and rows that they have stored as well are dropped.

    Args:
        manifest: What the set holds.
        lock: Gives the lock of the set.

    Attributes:
        manifest: What the set holds, as far as this writer has seen.
        written: The number of rows that were given to this writer.
    """

    def __init__(self, manifest: Manifest, lock: Callable[[], AbstractContextManager[None]]) -> None:
        self.manifest = manifest
        self.written = 0
        self._lock = lock
        self._not_of_others = set(manifest.parts)  # parts that were there at the beginning, or are of this writer
        self._by_others: dict[frozenset[str], set[str]] = {}  # digests by the columns that others stored them with

    @property
    def folder(self) -> Path:
        """The folder of the set."""
        return self.manifest.folder

    def digests(self, columns: Iterable[str] = ()) -> pa.StringArray:
        """The digests of the images that are stored with these columns, in no particular order."""
        return self.manifest.digests(self.manifest.parts_with(columns))

    def begin(self) -> None:
        """Make the manifest of a set that does not exist yet, before its first part is written."""
        if not self.manifest.end:
            with self._locked():
                pass

    def append(self, images: Sequence[Listed], features: Mapping[str, NDArray[np.generic]]) -> None:
        """Store one part.

        Args:
            images: The n images.
            features: The matrix ``(n, d)`` of each column of vectors.

        Raises:
            StoreError: It cannot be written.
        """
        self.begin()
        self.record([write_part(self.manifest.folder, self.manifest.key, self.manifest.about, images, features)])

    def record(self, written: Iterable[WrittenPart]) -> None:
        """List parts in the manifest, without the rows that others have recorded since this writer began.

        Raises:
            StoreError: The manifest cannot be written.
        """
        with self._locked():
            for part in written:
                self.written += len(part.digests)
                if part.name in self.manifest.parts:  # another process has found and recorded it already
                    continue
                if (new := self._without_copies(part)) is not None:
                    self._not_of_others.add(new.name)
                    self._add([self._record_of(new)])

    @property
    def has_copies(self) -> bool:
        """Whether the set holds several rows of one image."""
        from pyarrow import compute

        return self.manifest.rows > len(compute.unique(self.digests()))

    def note_unusable(self, reasons: Mapping[str, str]) -> None:
        """Note why images gave no features, by digest; by id if the image could not be read."""
        new = {name: reason for name, reason in reasons.items() if self.manifest.unusable.get(name) != reason}
        if new:
            with self._locked():
                self._add([{"unusable": new}])

    def replace_parts(self, lost: Sequence[str], found: Iterable[WrittenPart]) -> None:
        """List parts that were found on the disk, and no longer those that are lost. The caller holds the lock."""
        if lost:
            self._add([{"drop": list(lost)}])
        for part in found:
            self._add([self._record_of(part)])

    def drop_superseded(self) -> None:
        """Delete the rows that another part holds with more columns, or an earlier part with the same."""
        import pyarrow as pa
        from pyarrow import compute

        with self._locked():
            before = self.manifest
            dropped: list[str] = []
            kept: dict[frozenset[str], set[str]] = {}

            def columns_of(name: str) -> Mapping[str, int]:
                return before.parts[name].columns

            # a set of columns comes after all that contain it
            for name in sorted(before.parts, key=lambda name: -len(columns_of(name))):
                columns = frozenset(columns_of(name))
                digests = before.digests([name])
                there = set(digests.to_pylist())
                superseded = set[str]().union(*(there & other for wider, other in kept.items() if wider >= columns))
                new = None
                if superseded and superseded != there:
                    rows = compute.invert(compute.is_in(digests, pa.array(sorted(superseded), pa.string())))
                    new = write_table(before.folder, read_part(before, name, None).filter(rows), columns_of(name))
                if new is None or new.name not in self.manifest.parts:  # else a part that comes later holds the rest
                    kept.setdefault(columns, set()).update(there - superseded)
                    self._add([] if new is None else [self._record_of(new)])
                if superseded:
                    dropped.append(name)
            self._drop(dropped)

    def refresh(self) -> None:
        """Take over what other writers have recorded; only what is new is read.

        Raises:
            StoreError: The manifest is damaged.
        """
        before = self.manifest
        try:
            records, end = read_records(before.path, before.end)
            # else it has been removed, or made anew by a repair
            is_same = end >= before.end > 0 and first_record(before.path).get("index") == before.index
        except (OSError, DamagedJournalError):
            is_same = False
        if before.end and not before.path.exists():
            raise SetChangedError(
                f"the stored set {before.id} was removed while images were extracted into it",
                "run the same command again",
            )
        self.manifest = (
            manifest_with(before, records, end) if is_same else read_manifest(before.folder, before.key, before.about)
        )
        if self.manifest.parts.keys() == before.parts.keys():
            return
        new = self.manifest.parts.keys() - before.parts.keys()
        if before.parts.keys() - self.manifest.parts.keys():  # what others had stored may be stored no longer
            self._by_others.clear()
            new = set(self.manifest.parts)
        for name in new - self._not_of_others:
            columns = frozenset(self.manifest.parts[name].columns)
            self._by_others.setdefault(columns, set()).update(self.manifest.digests([name]).to_pylist())

    def _drop(self, names: Sequence[str]) -> None:
        """List parts no longer, and delete them. What replaces them is listed already: a kill loses no row."""
        self._add([{"drop": list(names)}] if names else [])
        with writing_errors(self.folder):
            for name in names:
                (self.manifest.rows_path / name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock, with the manifest as it is on the disk."""
        with self._lock():
            self.refresh()
            if not self.manifest.end:
                self.manifest = replace(self.manifest, index=new_index())
                self._add([what_it_is(self.manifest)])
            yield

    def _add(self, records: list[dict[str, Any]]) -> None:
        if not records:
            return
        try:
            end = append_records(self.manifest.path, records, self.manifest.end)
        except OvertakenError as error:
            raise _overtaken(self.manifest) from error
        self.manifest = manifest_with(self.manifest, records, end)

    def _record_of(self, part: WrittenPart) -> dict[str, Any]:
        """The record of a part, whose digests are now in the index."""
        start = self.manifest.indexed
        checksum = append_digests(self.manifest.folder / self.manifest.index, part.digests, start)
        return {"part": part.name, **part.description, "start": start, "checksum": checksum}

    def _without_copies(self, part: WrittenPart) -> WrittenPart | None:
        """The part without the rows that others have stored with at least its columns; ``None`` if nothing is left."""
        import pyarrow as pa
        from pyarrow import compute

        path = self.manifest.rows_path / part.name
        if not path.exists():  # another process has found and recorded it, and then replaced it
            return None
        wider = [digests for columns, digests in self._by_others.items() if columns >= part.columns.keys()]
        copies = {digest for digest in part.digests if any(digest in digests for digests in wider)}
        if not copies:
            return part
        new = None
        if len(copies) < len(set(part.digests)):
            table = read_file(path)
            table = table.filter(compute.invert(compute.is_in(table["digest"], pa.array(sorted(copies), pa.string()))))
            new = write_table(self.manifest.folder, table, part.columns)
        with writing_errors(path):
            path.unlink(missing_ok=True)
        return new


def _overtaken(manifest: Manifest) -> StoreError:
    return StoreError(
        f"another process wrote to the manifest of {manifest.id} while this one held its lock: locks do not work on "
        "this file system",
        "nothing is lost: run again. Let each worker fill a cache of its own (--cache-dir), and join them by "
        "nctransfer cache merge",
    )


def new_index() -> str:
    """A name for the index of digests that no earlier manifest of the set has used."""
    return f"digests-{secrets.token_hex(8)}.bin"
