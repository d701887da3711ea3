"""The data sets that timm knows by name: what its readers have in common."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nctransfer.errors import DataError, counted
from nctransfer.sources.decoding import to_ppm
from nctransfer.sources.labels import named, unlike
from nctransfer.sources.source import ImageEntry, ImageSource, safe_name

__all__ = ["PREFIXES", "Listed", "TimmReader", "content_stamp", "format_number", "names_of", "ppm", "why"]

PREFIXES = {  # the package that timm needs, and what installs it
    "torch": ("torchvision", "torchvision"),
    "hfds": ("datasets", "datasets"),
    "hfids": ("datasets", "datasets"),
    "wds": ("webdataset", "webdataset"),
    "tfds": ("tensorflow_datasets", "tensorflow-datasets tensorflow"),
}
DEFAULT_SPLIT = "validation"  # of timm.data.create_dataset


class Listed(NamedTuple):
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
    def _images(self) -> Iterator[Listed]:
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
                f"{self.name!r} cannot be read, split {self.split!r}: {why(error)}",
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


def names_of(reader: Any) -> Sequence[str] | None:
    """The class names that a reader knows, in the order of its codes."""
    by_code = {code: name for name, code in (reader.class_to_idx or {}).items()}
    return unlike([by_code[code] for code in range(len(by_code))]) if by_code else None


def ppm(image: Any) -> bytes:
    """A decoded image as the bytes of a PPM file."""
    if not hasattr(image, "mode"):  # an array, of TensorFlow
        from PIL import Image

        image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return to_ppm(image)


def content_stamp(content: bytes) -> tuple[int, int]:
    """Size and a number of a content, in place of a file's size and time."""
    return len(content), format_number(content)


def format_number(content: bytes) -> int:
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


def why(error: Exception) -> str:
    """The reason that an exception gives, in one line."""
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error).partition("\n")[0] or type(error).__name__
