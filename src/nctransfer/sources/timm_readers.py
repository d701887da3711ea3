"""The data sets that timm opens, one class for each way in which timm's readers hold images."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.errors import DataError, counted, reason_of
from nctransfer.sources.arrow_arrays import flat
from nctransfer.sources.contents import check_size, raising, read_file, returning
from nctransfer.sources.decoding import to_ppm
from nctransfer.sources.label_codes import distinct_names
from nctransfer.sources.layout import as_unicode
from nctransfer.sources.parquet_attributes import BATCH_ROWS, ParquetAttributes
from nctransfer.sources.source_kind import SourceKind
from nctransfer.sources.timm_reader import (
    PREFIXES,
    Listed,
    TimmReader,
    content_stamp,
    names_of,
    ppm,
    prefix_of,
    stamp_of,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from nctransfer.sources.image_table import ImageTable
    from nctransfer.sources.source import ImageEntry
    from nctransfer.sources.source_kind import ReadingOptions

__all__ = ["TIMM", "TORCH"]


class _Torch(TimmReader):
    """``torch/…``: data sets of torchvision, which are files or arrays in memory."""

    def _images(self) -> Iterator[Listed]:
        if (files := self._files) is not None:
            for id_, (path, code) in files.items():
                found = Path(path).stat()
                yield Listed(id_, code, found.st_size, found.st_mtime_ns)
            return
        targets = getattr(self._dataset, "targets", None)
        codes = getattr(targets, "tolist", lambda: targets)()
        for index in range(len(self._dataset)):
            content = self._ppm(index)
            yield Listed(f"{index:07d}", codes[index] if codes else self._dataset[index][1], *content_stamp(content))

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`."""
        with self._timm():
            files = self._files
        for entry in entries:
            if files is None:
                yield functools.partial(self._ppm, int(entry.id))
            else:
                yield functools.partial(read_file, files[entry.id][0])

    def _names(self) -> Sequence[str] | None:
        names = getattr(self._dataset, "classes", None) or getattr(self._dataset, "all_categories", None)
        return names and distinct_names([name if isinstance(name, str) else ", ".join(name) for name in names])

    @functools.cached_property
    def _dataset(self) -> Any:
        if self._root is None:
            raise DataError(
                f"{self.name!r} needs a folder", "give the folder where the data are or are downloaded to: --data-dir"
            )
        try:
            return self._create(download=False)
        except (RuntimeError, FileNotFoundError):  # it has not been downloaded yet
            if self._offline:
                raise
        return self._create(download=True)

    @functools.cached_property
    def _files(self) -> Mapping[str, tuple[str, int]] | None:
        """The path and the code of each image by its id; ``None`` if the images are not files."""
        dataset = self._dataset
        found = getattr(dataset, "samples", None) or getattr(dataset, "imgs", None)
        if not isinstance(found, list) and getattr(dataset, "target_type", None) == ["full"]:  # iNaturalist
            found = [(f"{dataset.root}/{dataset.all_categories[code]}/{name}", code) for code, name in dataset.index]
        if not isinstance(found, list):
            return None
        return {as_unicode(os.path.relpath(path, dataset.root)): (path, code) for path, code in sorted(found)}

    def _ppm(self, index: int) -> bytes:
        try:
            return to_ppm(self._dataset[index][0])
        except ValueError as error:
            raise OSError(str(error)) from error


class _Hub(TimmReader):
    """``hfds/…``: a Hugging Face data set on this machine, whose images are read by their index."""

    def _images(self) -> Iterator[Listed]:
        dataset = self._reader.dataset
        stamp = stamp_of(str(getattr(dataset, "_fingerprint", "")).encode())
        for index, label in enumerate(dataset[self._reader.label_key]):
            yield Listed(f"{index:07d}", label, 0, stamp)

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`: the iterator reads; threads may not be able to share the data set."""
        with self._timm():
            reader = self._reader
        for entry in entries:
            try:
                with reader[int(entry.id)][0] as file:
                    check_size(file.seek(0, os.SEEK_END))
                    file.seek(0)
                    content = file.read()
            except Exception as error:
                yield raising(reason_of(error))
            else:
                yield returning(content)

    def _names(self) -> Sequence[str] | None:
        return names_of(self._reader)

    def _attributes(self, entries: ImageTable, left_out: Sequence[int]) -> dict[str, pa.DictionaryArray]:
        import numpy as np

        dataset, further = self._reader.dataset, ParquetAttributes()
        schema = dataset.features.arrow_schema
        names = further.begin(schema, {self._reader.image_key, self._reader.label_key})
        known = {name: given for name in names if (given := getattr(dataset.features[name], "names", None))}
        skipped, start = np.array(left_out, np.int64), 0
        table = dataset.select_columns(names).with_format("arrow")
        for batch in table.iter(BATCH_ROWS) if names else ():
            inside = skipped[slice(*np.searchsorted(skipped, (start, start + len(batch))))]
            columns = {name: flat(batch[name]) for name in names}
            further.add(columns, np.delete(np.arange(len(batch)), inside - start), known)
            start += len(batch)
        found = further.columns()
        return found | {self._reader.label_key: entries.labels} if found else {}

    @functools.cached_property
    def _reader(self) -> Any:
        return self._create(**self._keys).reader


class _InOrder(TimmReader):
    """``hfids/…``, ``wds/…``, ``tfds/…``: decoded images, which can only be read one after the other.

    Listing them reads all images once. The stamp of an image is a digest of its pixels.
    """

    def _images(self) -> Iterator[Listed]:
        number = -1
        self._reader = self._open()
        for number, (image, label) in enumerate(self._reader):
            yield Listed(f"{number:07d}", label, *content_stamp(ppm(image)))
        declared = getattr(self._reader, "num_samples", 0) if prefix_of(self.name) == "wds" else 0
        if declared and declared != number + 1:
            self.notes += (f"the data set declares {counted(declared, 'image')}, but {number + 1:,} could be read",)

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`: the iterator reads the data set once more."""
        images: Iterator[tuple[int, Any]] = iter(())
        last, reason = len(entries) and int(entries[0].id), "the data set has fewer images than when it was listed"
        started = False
        for entry in entries:
            index = int(entry.id)
            content = None
            try:
                if not started or index <= last:  # images were asked for in another order: start again at the front
                    started = True
                    with self._timm():
                        images = enumerate(iter(self._open()))
                last = index
                for number, (image, _) in images:
                    if number == index:
                        content = ppm(image)
                        break
            except Exception as error:
                reason = reason_of(error)
            yield raising(reason) if content is None else returning(content)

    def _names(self) -> Sequence[str] | None:
        if names := names_of(self._reader):
            return names
        # hfids: for a local folder, timm's reader does not know the names, but its data set does
        features = getattr(getattr(self._reader, "ds", None), "features", None) or {}
        feature = features.get(getattr(self._reader, "target_key", None))
        return getattr(feature, "names", None)

    def _open(self) -> Any:
        prefix = prefix_of(self.name)
        options: dict[str, Any] = {**self._keys, "input_img_mode": ""}
        if prefix == "hfids":
            options["num_samples"] = 1  # timm wants a number, but uses it for training only
        if prefix == "tfds":
            options["download"] = not self._offline
        if prefix == "wds":
            self._root = self._shards_folder()
        reader = self._create(**options).reader
        for name in reader.split_info.filenames if prefix == "wds" else ():
            if os.path.isabs(name) or ".." in Path(name).parts:  # noqa: PTH117
                raise DataError(f"the shard {name!r} lies outside the folder {str(self._root)!r}")
        return reader

    def _shards_folder(self) -> Path:
        root = self._root or Path(self.name.partition("/")[2])
        if not root.is_dir():
            raise DataError(
                f"{self.name!r} needs the folder of its shards",
                "give it with --data-dir, and with --split a split of its _info.json or a pattern of shards such as "
                "'pets-{000..003}.tar'",
            )
        return root


def _open(name: str, options: ReadingOptions) -> TimmReader:
    prefix = prefix_of(name)
    package, install = PREFIXES[prefix]
    if importlib.util.find_spec(package) is None:
        raise DataError(f"{name!r} needs the package {package}", f"pip install {install}")
    kinds: dict[str, type[TimmReader]] = {"torch": _Torch, "hfds": _Hub}
    return kinds.get(prefix, _InOrder)(name, options)


TORCH = SourceKind(
    name="torch",
    recognises=lambda name: prefix_of(name) == "torch" and not Path(name).exists(),
    open=_open,
    takes=("class_names", "data_dir"),
    examples=("torch/cifar10",),
    summary="a data set of torchvision",
    details="`--data-dir` says where it is, or where it is downloaded to.",
)
TIMM = SourceKind(
    name="timm",
    recognises=lambda name: prefix_of(name) not in ("", "torch") and not Path(name).exists(),
    open=_open,
    takes=("label_column", "image_column", "class_names", "data_dir"),
    examples=("hfds/cifar10", "hfids/…", "wds/…", "tfds/…"),
    summary="a data set of Hugging Face, webdataset or TensorFlow Datasets, opened by timm",
    details="Install what it needs with `pip install 'nctransfer[hf]'`, `[wds]` or `[tfds]`.",
)
