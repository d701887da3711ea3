"""The built-in data: scikit-learn's handwritten digits, which need no download."""

from __future__ import annotations

import functools
import gzip
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nctransfer.errors import DataError
from nctransfer.sources.image_table import ImageTable
from nctransfer.sources.source import ImageEntry, ImageSource
from nctransfer.sources.source_kind import SourceKind

__all__ = ["DIGITS", "Digits"]


class Digits(ImageSource):
    """scikit-learn's handwritten digits: 1,797 images of 8×8 pixels in 10 classes.

    They are read from scikit-learn's data file directly, because ``import sklearn.datasets`` takes seconds. Each image
    becomes a binary PGM file, whose bytes are the same whatever libraries are installed.
    """

    kind = "built-in digits"
    name = "digits"
    id = "digits-sklearn"

    def list(self) -> ImageTable:
        """See :meth:`ImageSource.list`."""
        return ImageTable.of(
            ImageEntry(f"{index:04d}", str(label), "", len(image), 0) for index, (image, label) in enumerate(_digits())
        )

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        """See :meth:`ImageSource.contents`."""
        for entry in entries:
            yield functools.partial(_content, int(entry.id))


def _content(index: int) -> bytes:
    return _digits()[index][0]


@functools.cache
def _digits() -> list[tuple[bytes, int]]:
    import numpy as np

    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the built-in digits need scikit-learn", "pip install scikit-learn")
    path = Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    pixels = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8)  # intensities are 0 to 16
    header = b"P5\n8 8\n255\n"
    return [(header + row.tobytes(), int(label)) for row, label in zip(pixels, table[:, -1], strict=True)]


DIGITS = SourceKind(
    name="digits",
    recognises=lambda name: name == Digits.name,
    open=lambda _name, _options: Digits(),
    examples=("digits",),
    summary="scikit-learn's handwritten digits, built in",
)
