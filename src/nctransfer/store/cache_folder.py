"""The cache folder: features that a backbone has computed once are kept, and found again.

::

    <cache>/features/<model>-<key>/<source>/manifest.jsonl    what the set is, and the parts that are whole
                                            /digests-*.bin    which images are stored
                                            /rows/part-*.parquet
                                            /results/*.json   results that were computed from it
                                   head.safetensors           the backbone's linear classifier, if it has one
           /sources/<source>.parquet                          the listing: id, class, split, digest
           /keys/<request>.json                               the key that a request led to
           last.json                                          the set that the command line used last

Rows and listings are kept apart. A **row** belongs to the content of an image: it holds the image's digest and its
features, and is written once. The **listing** of a source says which images there are now, what they are called, and
which digest each has. So if a class folder is renamed or a file touched, only the listing changes, in one atomic
replacement. Rows also hold id and class as they were at extraction, so that the ``rows`` folder is a plain Parquet data
set for other tools. The manifest lies beside that folder, since pandas, Polars and DuckDB refuse a folder that holds
another kind of file.

Files are written under a temporary name, flushed and renamed; the manifest is a journal to which lines are added. A
file of rows is named by the digest of its content, and its metadata say which set it belongs to. A killed run leaves
whole parts; those that the manifest does not list yet are checked and adopted by the next run (see
:mod:`nctransfer.store.repairing`). Everything that is read has a checksum.

Several processes may extract into a set and read it at once: only adding a line to its manifest needs a lock. A part is
never changed, only replaced by another. Readers read the manifest once and stay with the parts that it lists (see
:mod:`nctransfer.store.reading`).
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.backbones.feature_key import FEATURE, json_digest
from nctransfer.checked_values import CheckedValues
from nctransfer.errors import FeaturesError, StoreError, reason_of
from nctransfer.features.files import read_features
from nctransfer.paths import expanded
from nctransfer.sources.selection import Selection
from nctransfer.store.atomic_files import as_json, read_json, write_json
from nctransfer.store.listing_files import load_listing, replace_listing
from nctransfer.store.listings import Listing
from nctransfer.store.manifest import NAME
from nctransfer.store.set_identity import backbone_folder, is_begun, set_identity
from nctransfer.store.stored_set import StoredSet

if TYPE_CHECKING:
    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.store.listings import Listed

__all__ = ["FeatureStore", "load_features"]

log = logging.getLogger(__name__)

DIGEST = re.compile("-[0-9a-f]{8}")  # the end of an id


class LastUsed(NamedTuple):
    """What the command line used last: a set, a selection, and whether it had other classes than those stored."""

    stored: StoredSet
    selection: Selection
    has_own_classes: bool = False


class FeatureStore:
    """The cache: the given folder, else ``$NCTRANSFER_CACHE``, else the platform's cache folder."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        import platformdirs

        chosen = root or os.environ.get("NCTRANSFER_CACHE") or platformdirs.user_cache_dir("nctransfer")
        self.root = _root(chosen)
        self._listings: dict[str, tuple[tuple[int, ...], Listing]] | None = None

    # Sets

    def open(self, key: FeatureKey, source_id: str, about: Mapping[str, str]) -> StoredSet:
        """The set of one backbone on one source; it need not exist yet.

        Args:
            key: What the features depend on.
            source_id: The id of the source.
            about: Names for the reader: ``weights`` and ``data``.
        """
        return StoredSet(self, self.root / "features" / backbone_folder(key) / source_id, key, about)

    def sets(self) -> list[StoredSet]:
        """Every stored set, by id. A folder that does not say what it holds is left out; see :meth:`folders`."""
        return [stored for path in self.folders() if (stored := self.at(path))]

    def folders(self) -> list[Path]:
        """The folder of every stored set, also of those whose manifest is damaged or lost."""
        return [path for path in sorted(self.root.glob("features/*/*")) if is_begun(path)]

    def resolve(self, name: str | os.PathLike[str]) -> StoredSet | None:
        """The stored set with this name, see :meth:`find`; ``None`` if a file or a folder of Parquet has this name."""
        with suppress(OSError, RuntimeError):  # some names cannot be paths
            path = Path(name).expanduser()
            if path.is_file() or (path.is_dir() and any(path.glob("*.parquet")) and not self.holds(path)):
                return None
        return self.find(os.fspath(name))

    def find(self, name: str) -> StoredSet:
        """The set with this name: its id, a beginning of its id or of its source that no other has, or its folder.

        Raises:
            FeaturesError: No set or several sets have this name; the message names them.
        """
        if (path := self.holds(Path(name))) and (stored := self.at(path)):
            return stored
        every = {stored.id: stored for stored in self.sets()}
        fitting = _fitting(name, every)
        if name in every or len(fitting) == 1:
            return every.get(name) or fitting[0]
        ids = [stored.id for stored in fitting or every.values()]
        names = "\n  ".join(ids[:10] + ["…"] * (len(ids) > 10))
        if fitting:
            raise FeaturesError(f"{name!r} fits {len(fitting)} stored sets:\n  {names}", "give more of the id")
        raise FeaturesError(
            f"{name!r} is neither a stored set nor a file of features (Parquet, .npz, .safetensors)",
            f"stored are:\n  {names}" if every else "nothing is stored yet: run nctransfer extract",
        )

    def has_name(self, name: str) -> bool:
        """Whether the id of a stored set, or of its source, begins with this name."""
        return bool(_fitting(name, {stored.id: stored for stored in self.sets()}))

    def holds(self, path: Path) -> Path | None:
        """The folder of a set, if ``path`` is that folder or the folder of rows in it."""
        with suppress(OSError, RuntimeError):  # some names cannot be paths
            path = path.expanduser().absolute()
            path = path.parent if path.name == "rows" else path
            is_ours = (path / NAME).is_file() or path.parent.parent == self.root / "features"
            return path if is_ours and is_begun(path) else None
        return None

    def at(self, path: Path) -> StoredSet | None:
        """The set in a folder; ``None`` if nothing in the folder says what it holds."""
        identity = set_identity(path)
        return StoredSet(self, path, *identity) if identity else None

    # The set that the command line used last

    def last_used(self) -> LastUsed | None:
        """The set that the command line used last and its selection, if the set still exists.

        Raises:
            StoreError: The file that says which set it was is damaged. No other set is taken in its place.
        """
        path = self.root / "last.json"
        if not os.path.lexists(path):
            return None
        record = read_json(path)
        try:
            given = CheckedValues(record, "it")
            id_, chosen = given.string("id"), given.take("selection")
            if "digest" in record and record["digest"] != _digest(id_, chosen):
                raise ValueError("its content was altered")
            selection, stored = Selection.from_json(chosen), self.at(self.root / "features" / id_)
        except (ValueError, FeaturesError, OSError) as error:  # the id may be no path
            raise StoreError(
                f"which set was used last is not known, because {str(path)!r} is damaged: {error}",
                "name the features; nctransfer cache list shows which are stored",
            ) from error
        return LastUsed(stored, selection, "own_classes" in record) if stored else None

    def use(self, stored: StoredSet, selection: Selection) -> None:
        """Remember a set as the one used last, unless the cache cannot be written.

        Only the command line does this: a program that uses the library does not change what a command means. The
        shard of a worker is not remembered: what comes after extraction is about all images, not an eighth of them.
        """
        chosen = {name: value for name, value in asdict(selection).items() if name != "shard"}
        record: dict[str, Any] = {"id": stored.id, "selection": chosen, "digest": _digest(stored.id, as_json(chosen))}
        if stored.own_listing is not None:
            record["own_classes"] = True
        if os.access(self.root, os.W_OK) and read_json(self.root / "last.json") != as_json(record):
            self._try_to_write(self.root / "last.json", record)

    # Keys

    def recall(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer that :meth:`remember` has kept for this request; empty if there is none, or its file is damaged.

        The file holds the request too, so that the answer to another one, in a file that was renamed, is none.
        """
        found = read_json(self._key_file(request))
        answer = found.get("answer")
        is_whole = found.get("request") == as_json(request) and found.get("digest") == _digest(request, answer)
        return answer if is_whole and isinstance(answer, dict) else {}

    def remember(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Keep the answer to a request, so that next time the weights need not be loaded to know the key."""
        content = {"request": request, "answer": answer, "digest": _digest(request, answer)}
        self._try_to_write(self._key_file(request), content)

    @staticmethod
    def _try_to_write(path: Path, content: Mapping[str, Any]) -> None:
        """Write a file that the cache can do without: it may be read-only, and hold everything that is wanted."""
        try:
            write_json(path, content)
        except StoreError as error:
            log.debug("%s", error)

    def _key_file(self, request: Mapping[str, Any]) -> Path:
        return self.root / "keys" / f"{json_digest(request, 16)}.json"

    # Listings

    def listing(self, source_id: str) -> Listing:
        """The images of a source, as last listed; none if it never was."""
        path = self.listing_file(source_id)
        if self._listings is None:
            return load_listing(path)
        stamp = _stamp(path)
        if source_id not in self._listings or self._listings[source_id][0] != stamp:
            self._listings[source_id] = (stamp, load_listing(path))
        return self._listings[source_id][1]

    @contextmanager
    def listings_in_memory(self) -> Iterator[None]:
        """Within the context, a listing is read again only if its file has changed: for many sets of one source."""
        before, self._listings = self._listings, {} if self._listings is None else self._listings
        try:
            yield
        finally:
            self._listings = before

    def save_listing(self, source_id: str, listing: Iterable[Listed], keep_classes: bool = False) -> Listing:
        """Replace a listing; see :func:`~nctransfer.store.listing_files.replace_listing`."""
        return replace_listing(self.listing_file(source_id), Listing.of(listing), keep_classes)

    def listing_file(self, source_id: str) -> Path:
        """The file of a listing."""
        return self.root / "sources" / f"{source_id}.parquet"


def _root(chosen: str | os.PathLike[str]) -> Path:
    """The absolute path of the cache folder.

    Raises:
        StoreError: There can be no such folder, or the libraries that read Parquet could not open files in it.
    """
    hint = "give another --cache-dir or NCTRANSFER_CACHE"
    try:
        root = expanded(chosen).absolute()
    except OSError as error:
        raise StoreError(f"the cache {str(chosen)!r} cannot be found: {reason_of(error)}", hint) from error
    try:
        os.fspath(root).encode()
        root.stat()
    except UnicodeEncodeError as error:
        raise StoreError(f"the path of the cache {str(chosen)!r} is not UTF-8", hint) from error
    except ValueError as error:
        raise StoreError(f"the path of the cache {str(chosen)!r} has a null character", hint) from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):  # of other reasons, what reads or writes there will tell
            raise StoreError(f"the cache {str(chosen)!r} cannot be found: {reason_of(error)}", hint) from error
    return root


def _digest(*values: Any) -> str:
    """A checksum of values that JSON can represent."""
    return json_digest(values, 32)


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file is replaced."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns)


def load_features(
    name: str | os.PathLike[str],
    *,
    selection: Selection | None = None,
    label_column: str | None = None,
    feature_column: str | None = None,
    class_names: Sequence[str] | None = None,
    partial: bool = False,
    attributes: Iterable[str] = (),
    cache_dir: str | os.PathLike[str] | None = None,
) -> FeatureSet:
    """Features by name: those of a stored set, or those in a file made elsewhere.

    Such a file is Parquet (or a folder of Parquet files), ``.npz`` or ``.safetensors``.

    Args:
        name: The id of a stored set, a beginning of an id that no other set has, or a path.
        selection: Which samples are wanted; by default all.
        label_column: For a file: the column of class names or codes; by default ``class``, else ``label``. For a stored
            set: the attribute of the images that says their classes; by default those of the data. Several columns that
            commas separate, such as ``species,breed``, make classes such as ``cat/Siamese``.
        feature_column: For a stored set: a layer such as ``layer_3``. For a file: the column of vectors.
        class_names: For a file: the names of labels 0, 1, …
        partial: For a stored set: whether some of the wanted samples are enough; a warning then says how many.
        attributes: The names of attributes that the features shall come with: columns of Parquet, or what the data say
            of each image of a stored set.
        cache_dir: The cache folder; by default ``$NCTRANSFER_CACHE``, else the platform's cache folder.

    Raises:
        IncompleteError: Some of the wanted images are not stored.
        FeaturesError: Nothing has this name, or the features cannot be used.
        StoreError: The stored set is damaged.
    """
    stored = FeatureStore(cache_dir).resolve(name)
    if stored is None:
        return read_features(expanded(name), label_column, feature_column, selection, class_names, attributes)
    column = feature_column or FEATURE
    return stored.read(selection, column, partial=partial, attributes=attributes, label_column=label_column)


def _fitting(name: str, every: Mapping[str, StoredSet]) -> list[StoredSet]:
    """The sets whose id begins with a name; if there are none, those whose source does.

    If the name is whole but for the digest behind it, those with longer names are not meant: ``cal`` is not ``cal2``.
    """
    by_id = {stored: key for key, stored in every.items() if key.startswith(name)}
    fitting = by_id or {stored: stored.path.name for stored in every.values() if stored.path.name.startswith(name)}
    whole = [stored for stored, text in fitting.items() if DIGEST.fullmatch(text.removeprefix(name))]
    return whole or list(fitting)
