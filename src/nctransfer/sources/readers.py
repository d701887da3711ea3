"""Data sets by the names that timm knows them by: torchvision's, Hugging Face's, webdataset's, TensorFlow's."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import io
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nctransfer.errors import DataError, counted
from nctransfer.images import ImageEntry, ImageSource, safe_name, to_ppm
from nctransfer.sources.contents import check_size, failing, given, read_file
from nctransfer.sources.labels import named, unlike
from nctransfer.sources.layout import text

__all__ = ["PREFIXES", "TimmReader", "open_reader", "prefix_of"]

PREFIXES = {  # the package that timm needs, and what installs it
    "torch": ("torchvision", "torchvision"),
    "hfds": ("datasets", "datasets"),
    "hfids": ("datasets", "datasets"),
    "wds": ("webdataset", "webdataset"),
    "tfds": ("tensorflow_datasets", "tensorflow-datasets tensorflow"),
}
DEFAULT_SPLIT = "validation"  # of timm.data.create_dataset


class _Listed(NamedTuple):
    """An image as a reader knows it."""

    id: str
    label: Any  # a code, or a name
    size: int
    stamp: int  # differs where the content does


class TimmReader(ImageSource):
    """A data set that timm opens by its name; :func:`open_reader` picks the kind.

    Attributes:
        split: The split that is read; every entry bears it.
    """

    def __init__(
        self,
        name: str,
        split: str | None = None,
        data_dir: Path | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        class_names: Sequence[str] | None = None,
        offline: bool = False,
    ) -> None:
        self.kind = f"timm reader {name}"
        self.name = name
        self.split = split or DEFAULT_SPLIT
        self._said = () if split else (f"no split was named: read is {self.split!r}, timm's default",)
        choices = (name, self.split, str(data_dir.resolve()) if data_dir else "", image_column or "")
        digest = hashlib.blake2b("\0".join(choices).encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
        self.id = f"{safe_name(name)[:40]}-{safe_name(self.split)[:20]}-{digest}"
        self._root = data_dir
        self._keys = {"input_key": image_column, "target_key": label_column}
        self._class_names = class_names
        self._offline = offline

    def list(self) -> list[ImageEntry]:
        """See :meth:`ImageSource.list`; in the order of the reader."""
        self.notes = self._said
        entries: list[ImageEntry] = []
        names: Sequence[str] | None = None
        unlabelled = 0
        with self._timm():
            for number, (id_, label, size, stamp) in enumerate(self._images()):
                if not number:  # some readers know the names only once they read
                    names = self._class_names or self._names()
                if label is None or label == -1:
                    unlabelled += 1
                    continue
                if isinstance(label, str) and self._class_names is not None:
                    raise DataError(f"the labels of {self.name!r} are names already", "leave out --class-names")
                if not isinstance(label, str):
                    label = named(int(label), names, f"image {id_} of {self.name!r}")
                entries.append(ImageEntry(id_, label, self.split, size, stamp))
        if not entries:
            raise DataError(f"{self.name!r} has no labelled images in its split {self.split!r}")
        if unlabelled:
            self.notes += (f"{counted(unlabelled, 'image')} without a label left out",)
        return entries

    @abstractmethod
    def _images(self) -> Iterator[_Listed]:
        """Every image."""

    @abstractmethod
    def _names(self) -> Sequence[str] | None:
        """The class names by their codes, if the reader knows them."""

    def _create(self, **options: Any) -> Any:
        """The data set that timm makes."""
        from timm.data import create_dataset

        root = None if self._root is None else str(self._root)
        return create_dataset(self.name, root=root, split=self.split, **{"input_img_mode": "", **options})

    @contextlib.contextmanager
    def _timm(self) -> Iterator[None]:
        """Silence on stdout, and one kind of error whatever a reader raises."""
        try:
            with contextlib.redirect_stdout(io.StringIO()), _offline_hub(self._offline), _no_bars(self.name):
                yield
        except DataError:
            raise
        except Exception as error:  # of any of five libraries
            raise DataError(
                f"{self.name!r} cannot be read, split {self.split!r}: {_why(error)}",
                "--split names another split, --data-dir the folder where it lies or is downloaded to",
            ) from error


@contextlib.contextmanager
def _no_bars(name: str) -> Iterator[None]:
    """Without the progress bars of Hugging Face's libraries, which know nothing of --quiet."""
    libraries = (
        ("huggingface_hub.utils", "datasets") if name.startswith("hf") and importlib.util.find_spec("datasets") else ()
    )
    drawing = [found for found in map(importlib.import_module, libraries) if not found.are_progress_bars_disabled()]
    for library in drawing:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for library in drawing:
            library.enable_progress_bars()


class _Torch(TimmReader):
    """``torch/…``: torchvision's data sets, of files or in memory."""

    def _images(self) -> Iterator[_Listed]:
        if (files := self._files) is not None:
            for id_, (path, code) in files.items():
                found = Path(path).stat()
                yield _Listed(id_, code, found.st_size, found.st_mtime_ns)
            return
        targets = getattr(self._dataset, "targets", None)
        codes = getattr(targets, "tolist", lambda: targets)()
        for index in range(len(self._dataset)):
            content = self._ppm(index)
            yield _Listed(f"{index:07d}", codes[index] if codes else self._dataset[index][1], *_stamp(content))

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
        return names and unlike([name if isinstance(name, str) else ", ".join(name) for name in names])

    @functools.cached_property
    def _dataset(self) -> Any:
        if self._root is None:
            raise DataError(f"{self.name!r} needs a folder", "name where it lies, or is downloaded to: --data-dir")
        try:
            return self._create(download=False)
        except (RuntimeError, FileNotFoundError):  # not there yet
            if self._offline:
                raise
        return self._create(download=True)

    @functools.cached_property
    def _files(self) -> Mapping[str, tuple[str, int]] | None:
        """Path and code of each image by its id, where they are files."""
        dataset = self._dataset
        found = getattr(dataset, "samples", None) or getattr(dataset, "imgs", None)
        if not isinstance(found, list) and getattr(dataset, "target_type", None) == ["full"]:  # iNaturalist
            found = [(f"{dataset.root}/{dataset.all_categories[code]}/{name}", code) for code, name in dataset.index]
        if not isinstance(found, list):
            return None
        return {text(os.path.relpath(path, dataset.root)): (path, code) for path, code in sorted(found)}

    def _ppm(self, index: int) -> bytes:
        try:
            return to_ppm(self._dataset[index][0])
        except ValueError as error:
            raise OSError(str(error)) from error


class _Hub(TimmReader):
    """``hfds/…``: a Hugging Face data set at hand, by index."""

    def _images(self) -> Iterator[_Listed]:
        dataset = self._reader.dataset
        stamp = _number(str(getattr(dataset, "_fingerprint", "")).encode())
        for index, label in enumerate(dataset[self._reader.label_key]):
            yield _Listed(f"{index:07d}", label, 0, stamp)

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`: the iterator reads; nothing says that threads may share the data set."""
        with self._timm():
            reader = self._reader
        for entry in entries:
            try:
                with reader[int(entry.id)][0] as file:
                    check_size(file.seek(0, os.SEEK_END))
                    file.seek(0)
                    content = file.read()
            except Exception as error:
                yield failing(_why(error))
            else:
                yield given(content)

    def _names(self) -> Sequence[str] | None:
        return _names_of(self._reader)

    @functools.cached_property
    def _reader(self) -> Any:
        return self._create(**self._keys).reader


class _Passing(TimmReader):
    """``hfids/…``, ``wds/…``, ``tfds/…``: one image after the other, and decoded.

    A listing is one pass; it keeps the digest of each image as its stamp.
    """

    def _images(self) -> Iterator[_Listed]:
        number = -1
        self._reader = self._open()
        for number, (image, label) in enumerate(self._reader):
            yield _Listed(f"{number:07d}", label, *_stamp(_ppm(image)))
        declared = getattr(self._reader, "num_samples", 0) if prefix_of(self.name) == "wds" else 0
        if declared and declared != number + 1:
            self.notes += (f"{counted(declared, 'image')} declared, {number + 1:,} could be read",)

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`: one more pass."""
        images: Iterator[tuple[int, Any]] = iter(())
        last, reason = len(entries) and int(entries[0].id), "the reader has fewer images than it had"
        started = False
        for entry in entries:
            index = int(entry.id)
            content = None
            try:
                if not started or index <= last:  # not in order: once more from the front
                    started = True
                    with self._timm():
                        images = enumerate(iter(self._open()))
                last = index
                for number, (image, _) in images:
                    if number == index:
                        content = _ppm(image)
                        break
            except Exception as error:
                reason = _why(error)
            yield failing(reason) if content is None else given(content)

    def _names(self) -> Sequence[str] | None:
        if names := _names_of(self._reader):
            return names
        features = getattr(getattr(self._reader, "ds", None), "features", None) or {}  # hfids, of a local folder
        feature = features.get(getattr(self._reader, "target_key", None))
        return getattr(feature, "names", None)

    def _open(self) -> Any:
        prefix = prefix_of(self.name)
        options: dict[str, Any] = {**self._keys, "input_img_mode": ""}
        if prefix == "hfids":
            options["num_samples"] = 1  # some number must be known in advance; without training it is not used
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
                "name it by --data-dir, and by --split a split of its _info.json or shards: 'pets-{000..003}.tar'",
            )
        return root


def open_reader(name: str, **options: Any) -> TimmReader:
    """The data set of that name.

    Args:
        name: Such as ``torch/cifar10``, ``hfds/cifar10``, ``wds//data/shards``.
        options: Those of :class:`TimmReader`.

    Raises:
        DataError: A package is missing that timm needs for it.
    """
    prefix = prefix_of(name)
    package, install = PREFIXES[prefix]
    if importlib.util.find_spec(package) is None:
        raise DataError(f"{name!r} needs the package {package}", f"pip install {install}")
    kinds: dict[str, type[TimmReader]] = {"torch": _Torch, "hfds": _Hub}
    return kinds.get(prefix, _Passing)(name, **options)


def prefix_of(name: str) -> str:
    """The prefix of a timm name, ``""`` if it has none that is known."""
    prefix = name.partition("/")[0].lower() if "/" in name else ""
    return prefix if prefix in PREFIXES else ""


def _names_of(reader: Any) -> Sequence[str] | None:
    by_code = {code: name for name, code in (reader.class_to_idx or {}).items()}
    return unlike([by_code[code] for code in range(len(by_code))]) if by_code else None


def _ppm(image: Any) -> bytes:
    if not hasattr(image, "mode"):  # an array, of TensorFlow
        from PIL import Image

        image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return to_ppm(image)


def _stamp(content: bytes) -> tuple[int, int]:
    return len(content), _number(content)


def _number(content: bytes) -> int:
    """A digest as a whole number that a signed 64-bit column holds."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) >> 1


@contextlib.contextmanager
def _offline_hub(offline: bool) -> Iterator[None]:
    """No questions to the Hugging Face hub: its libraries read their setting from a variable once, on import."""
    if not offline or importlib.util.find_spec("datasets") is None:
        yield
        return
    from huggingface_hub import constants

    datasets = importlib.import_module("datasets")
    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _why(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error).partition("\n")[0] or type(error).__name__
