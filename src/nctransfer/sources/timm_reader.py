"""A data set that timm opens by its name: what all kinds of timm's readers have in common."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
from abc import abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.errors import DataError, counted, reason_of
from nctransfer.sources.decoding import to_ppm
from nctransfer.sources.image_table import ImageTable
from nctransfer.sources.label_codes import distinct_names, name_of_code
from nctransfer.sources.source import ImageEntry, ImageSource, safe_name

if TYPE_CHECKING:
    import pyarrow as pa

    from nctransfer.sources.source_kind import ReadingOptions

__all__ = ["PREFIXES", "Listed", "TimmReader", "content_stamp", "names_of", "ppm", "prefix_of", "stamp_of"]

PREFIXES = {  # how names begin, the package that timm then needs, and what to install for it
    "torch": ("torchvision", "torchvision"),
    "hfds": ("datasets", "datasets"),
    "hfids": ("datasets", "datasets"),
    "wds": ("webdataset", "webdataset"),
    "tfds": ("tensorflow_datasets", "tensorflow-datasets tensorflow"),
}
DEFAULT_SPLIT = "validation"  # the default of timm.data.create_dataset


class Listed(NamedTuple):
    """An image as one of timm's readers lists it.

    Attributes:
        id: Its id.
        label: The code or the name of its class; ``None`` or -1 if it has no label.
        size: Its size in bytes, or 0 if that is unknown without reading it.
        stamp: A number that changes if the image changes.
    """

    id: str
    label: Any
    size: int
    stamp: int


class TimmReader(ImageSource):
    """A data set that timm opens by its name. There is one subclass for each way in which timm's readers hold images.

    Attributes:
        split: The split that is read; every entry has it.
    """

    def __init__(self, name: str, options: ReadingOptions) -> None:
        self.kind = f"timm reader {name}"
        self.name = name
        self.split = options.split or DEFAULT_SPLIT
        self._about_split = () if options.split else (f"no split was given, so timm's default is read: {self.split!r}",)
        self._root = options.data_dir
        folder = str(self._root.resolve()) if self._root else ""
        choices = "\0".join((name, self.split, folder, options.image_column or ""))
        digest = hashlib.blake2b(choices.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
        self.id = f"{safe_name(name)[:40]}-{safe_name(self.split)[:20]}-{digest}"
        self._keys = {"input_key": options.image_column, "target_key": options.label_column}
        self._class_names = options.class_names
        self._offline = options.offline
        self._labels_optional = options.labels_optional

    def list(self) -> ImageTable:
        """See :meth:`ImageSource.list`; the images are in the order of the reader."""
        self.notes = self._about_split
        left_out = array("q")
        with self._timm():
            entries = ImageTable.of(self._labelled(left_out))
            entries = entries.with_attributes(self._attributes(entries, left_out))
        if not entries:
            labelled = "" if self._labels_optional else "labelled "
            raise DataError(f"{self.name!r} has no {labelled}images in its split {self.split!r}")
        return entries

    def _attributes(self, entries: ImageTable, left_out: Sequence[int]) -> dict[str, pa.DictionaryArray]:  # noqa: ARG002
        """What the reader knows of the images beside their classes.

        Args:
            entries: The images.
            left_out: The numbers of the reader's images that are not among them.
        """
        return {}

    def _labelled(self, left_out: array[int]) -> Iterator[ImageEntry]:
        """The images with the names of their classes.

        The numbers of those that have no label and were left out are added to ``left_out``, and a note counts them.
        """
        names: Sequence[str] | None = None
        unlabelled = 0
        for number, (id_, label, size, stamp) in enumerate(self._images()):
            if not number:  # some readers know the names only after they have read an image
                names = self._class_names or self._names()
            if label is None or label == -1:
                unlabelled += 1
                if not self._labels_optional:
                    left_out.append(number)
                    continue
                label = ""
            elif isinstance(label, str) and self._class_names is not None:
                raise DataError(f"the labels of {self.name!r} are names, not codes", "leave out --class-names")
            if not isinstance(label, str):
                label = name_of_code(int(label), names, f"image {id_} of {self.name!r}")
            yield ImageEntry(id_, label, self.split, size, stamp)
        if unlabelled and not self._labels_optional:
            self.notes += (f"left out {counted(unlabelled, 'image')} without a label",)

    @abstractmethod
    def _images(self) -> Iterator[Listed]:
        """All images of the split, in the order of the reader."""

    @abstractmethod
    def _names(self) -> Sequence[str] | None:
        """The names of the classes with the codes 0, 1, …, or ``None`` if the reader does not know them."""

    def _create(self, **options: Any) -> Any:
        """The data set as timm's ``create_dataset`` returns it."""
        from timm.data import create_dataset

        root = None if self._root is None else str(self._root)
        return create_dataset(self.name, root=root, split=self.split, **{"input_img_mode": "", **options})

    @contextlib.contextmanager
    def _timm(self) -> Iterator[None]:
        """While timm and its libraries run: nothing is printed, and every error becomes a :class:`DataError`."""
        try:
            with contextlib.redirect_stdout(io.StringIO()), _offline_hub(self._offline), _no_bars(self.name):
                yield
        except DataError:
            raise
        except Exception as error:  # it may come from any of five libraries
            raise DataError(
                f"the split {self.split!r} of {self.name!r} cannot be read: {reason_of(error)}",
                "give another split with --split, or with --data-dir the folder that holds the data",
            ) from error


@contextlib.contextmanager
def _no_bars(name: str) -> Iterator[None]:
    """Switch off the progress bars of Hugging Face's libraries, which do not obey ``--quiet``."""
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


def prefix_of(name: str) -> str:
    """The prefix by which timm recognises a data set, for example ``hfds``; "" if the name has none.

    >>> prefix_of("hfds/cifar10"), prefix_of("./torch/pets")
    ('hfds', '')
    """
    prefix = name.partition("/")[0].lower() if "/" in name else ""
    return prefix if prefix in PREFIXES else ""


def names_of(reader: Any) -> Sequence[str] | None:
    """The names of the classes with the codes 0, 1, …, or ``None`` if timm's reader does not know them."""
    by_code = {code: name for name, code in (reader.class_to_idx or {}).items()}
    return distinct_names([by_code[code] for code in range(len(by_code))]) if by_code else None


def ppm(image: Any) -> bytes:
    """A decoded image as the bytes of a PPM file; the image is Pillow's, or an array from TensorFlow."""
    if not hasattr(image, "mode"):
        from PIL import Image

        image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return to_ppm(image)


def content_stamp(content: bytes) -> tuple[int, int]:
    """The size of an image, and a number that identifies its bytes; they replace a file's size and time."""
    return len(content), stamp_of(content)


def stamp_of(content: bytes) -> int:
    """A digest of some bytes, as a number that fits a column of signed 64-bit integers."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) >> 1


@contextlib.contextmanager
def _offline_hub(offline: bool) -> Iterator[None]:
    """Keep Hugging Face's libraries from asking the hub.

    They read the environment variable for this only when they are imported, so their settings are changed instead.
    """
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
