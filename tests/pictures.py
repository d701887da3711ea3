"""Small images, and all that a source says of its own: what the tests of the sources share."""

from __future__ import annotations

import io
from collections.abc import Sequence

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
