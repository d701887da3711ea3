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

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.feature_key import FEATURE, FeatureKey, json_digest
from nctransfer.errors import FeaturesError
from nctransfer.features.files import read_features
from nctransfer.sources.selection import Selection
from nctransfer.store.atomic_files import file_lock, read_json, replace_file, write_json, writing_errors
from nctransfer.store.listings import Listed, with_known_digest
from nctransfer.store.stored_set import StoredSet

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["FeatureStore", "load_features"]


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
        manifest = read_json(path / "manifest.json")
        try:
            return StoredSet(self, path, FeatureKey(**manifest["key"]), manifest["about"])
        except (KeyError, TypeError):
            return None  # not a manifest of ours, or a damaged one: the next extraction rebuilds it

    # What was used last

    @property
    def last(self) -> tuple[StoredSet, Selection] | None:
        """The set used last and what was selected of it, if it is still there."""
        record = read_json(self.root / "last.json")
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
        if os.access(self.root, os.W_OK) and read_json(self.root / "last.json") != record:
            write_json(self.root / "last.json", record)

    # Keys

    def recall(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What :meth:`remember` was told for this request; empty if nothing."""
        return read_json(self._key_file(request))

    def remember(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Keep the answer to a request, so that next time the weights need not be loaded to know the key."""
        write_json(self._key_file(request), answer)

    def _key_file(self, request: Mapping[str, Any]) -> Path:
        return self.root / "keys" / f"{json_digest(request, 16)}.json"

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
        with file_lock(path.with_suffix(".lock")):
            known = self.listing(source_id)
            new = {row.id: row if row.digest else with_known_digest(row, known) for row in listing}
            if new != known:
                columns = zip(*new.values(), strict=True)
                table = pa.table(dict(zip(Listed._fields, map(list, columns), strict=True)))
                with writing_errors(path):
                    replace_file(path, lambda file: parquet.write_table(table, file, compression="zstd"))
        return new

    def _listing_file(self, source_id: str) -> Path:
        return self.root / "sources" / f"{source_id}.parquet"


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
