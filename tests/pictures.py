"""Small images, and all that a source says of its own: what the tests of the sources share."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from nctransfer.sources.source import ImageEntry, ImageSource


def png(*colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), colour or (1, 2, 3)).save(buffer, "PNG")
    return buffer.getvalue()


def labelled(source: ImageSource) -> list[tuple[str, str, str]]:
    return [(entry.id, entry.label, entry.split) for entry in source.list()]


def contents(source: ImageSource, entries: Sequence[ImageEntry] | None = None) -> list[bytes | str]:
    """What each entry reads as: its bytes, or why it has none."""
    found: list[bytes | str] = []
    for give in source.contents(source.list() if entries is None else entries):
        try:
            found.append(give())
        except OSError as error:
            found.append(error.strerror or str(error))
    return found


def notes(source: ImageSource) -> tuple[str, ...]:
    source.list()
    return source.notes


class Given(ImageSource):
    """Images of the test's own: rows of label, split and content; an error in its place is raised on reading."""

    kind = "given"
    id = name = "given"
    notes = ("something was left out",)

    def __init__(self, *rows: tuple[str, str, bytes | OSError]) -> None:
        self.rows = rows
        self.asked: list[str] = []

    def list(self) -> list[ImageEntry]:
        return [ImageEntry(f"{i:04d}", label, split, 0, 0) for i, (label, split, _) in enumerate(self.rows)]

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        for entry in entries:
            self.asked.append(entry.id)
            yield lambda content=self.rows[int(entry.id)][2]: self.give(content)

    @staticmethod
    def give(content: bytes | OSError) -> bytes:
        if isinstance(content, OSError):
            raise content
        return content


@functools.cache
def photographs() -> tuple[Image.Image, ...]:
    """Forty real pictures of 128×96 that show different things: parts of the two photographs of scikit-learn."""
    from sklearn.datasets import load_sample_images

    whole = [Image.fromarray(np.asarray(pixels)) for pixels in load_sample_images().images]  # 640×427 each
    corners = [(left, top) for top in range(0, 384, 96) for left in range(0, 640, 128)]
    return tuple(one.crop((left, top, left + 128, top + 96)) for one in whole for left, top in corners)


# Those of the photographs that have enough detail to be found when they are cropped; others show mere sky or blur.
DETAILED = (7, 10, 11, 12, 14, 15, 16, 17, 18, 19, 31, 32, 33)


def encoded(image: Image.Image, form: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()
