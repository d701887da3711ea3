"""Writing a stored set: parts are added, and rows that a wider part holds as well are dropped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.store.atomic_files import writing_errors
from nctransfer.store.part_files import part_table, read_part, write_part
from nctransfer.store.reading import stored_digests

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nctransfer.store.listings import Listed
    from nctransfer.store.manifest import Manifest, Part

__all__ = ["SetWriter"]


class SetWriter:
    """Changes a stored set. Only one process at a time has a writer: see :meth:`StoredSet.writer`.

    Attributes:
        manifest: What the set holds. While this writer exists, no other process changes it.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._codes: dict[str, int] | None = None  # read when they are first needed

    @property
    def folder(self) -> Path:
        """The folder of the set."""
        return self.manifest.folder

    def digests(self, columns: Iterable[str] = ()) -> set[str]:
        """The digests of the images that are stored with these columns."""
        return stored_digests(self.manifest, columns)

    def append(self, images: Sequence[Listed], features: Mapping[str, NDArray[np.generic]]) -> None:
        """Store one part.

        Args:
            images: The n images.
            features: The matrix ``(n, d)`` of each column of vectors.

        Raises:
            StoreError: It cannot be written.
        """
        codes = self._label_codes({image.label for image in images})
        table = part_table(self.manifest.key, self.manifest.about, images, codes, features)
        new = write_part(self.manifest, table, {name: matrix.shape[1] for name, matrix in features.items()})
        self.record({**self.manifest.parts, **new})

    def drop_superseded(self) -> None:
        """Delete the rows that another part holds with more columns."""
        import pyarrow as pa
        from pyarrow import compute

        before = self.manifest
        digests = {name: set(read_part(before, name, ["digest"])["digest"].to_pylist()) for name in before.parts}
        columns = {name: frozenset(part.columns) for name, part in before.parts.items()}
        in_wider_parts = {
            few: set[str]().union(*(digests[name] for name, many in columns.items() if many > few))
            for few in set(columns.values())
        }
        for name, part in before.parts.items():
            superseded = digests[name] & in_wider_parts[columns[name]]
            if not superseded:
                continue
            table = read_part(before, name, None)
            is_superseded = compute.is_in(table["digest"], pa.array(sorted(superseded), pa.string()))
            rest = table.filter(compute.invert(is_superseded))
            parts = {other: kept for other, kept in self.manifest.parts.items() if other != name}
            # the new part, then the manifest, then the old part is gone: a kill at any moment loses no row
            self.record(parts | (write_part(before, rest, part.columns) if len(rest) else {}))
            with writing_errors(before.folder):
                (before.rows_path / name).unlink(missing_ok=True)

    def record(self, parts: Mapping[str, Part]) -> None:
        """Replace the manifest by one that lists these parts."""
        manifest = replace(self.manifest, parts=dict(parts))
        manifest.write()
        self.manifest = manifest

    def _label_codes(self, labels: Iterable[str]) -> dict[str, int]:
        """A code for each class name; codes that were given out earlier stay, since parts are never rewritten."""
        if self._codes is None:
            self._codes = {}
            for name in self.manifest.parts:
                table = read_part(self.manifest, name, ["class", "label"])
                self._codes.update(zip(table["class"].to_pylist(), table["label"].to_pylist(), strict=True))
        for label in sorted(set(labels) - self._codes.keys()):
            self._codes[label] = max(self._codes.values(), default=-1) + 1
        return self._codes
