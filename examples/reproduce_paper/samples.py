"""Which images and classes there are: those to train on, and those that are never trained on."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from timm.data import create_transform

from nctransfer.errors import DataError, StoreError
from nctransfer.sources.class_names import read_class_names
from nctransfer.sources.loading import load_images
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.sources.timm_reader import TimmReader

TRAIN, TEST = "train", "test"
ORIGIN = b"nctransfer.example"


class Images(NamedTuple):
    """Images of a source in memory: ``(n, 3, height, width)`` uint8, and the class name of each."""

    pixels: torch.Tensor
    labels: tuple[str, ...]

    def of(self, classes: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """The images of some classes, and their codes."""
        code = {name: number for number, name in enumerate(classes)}
        rows = torch.tensor([row for row, label in enumerate(self.labels) if label in code])
        return self.pixels[rows], torch.tensor([code[self.labels[row]] for row in rows.tolist()])


def load(data: str, reading: ReadingOptions, classes: Sequence[str], config: dict[str, Any]) -> Images:
    """The training images of some classes, resized as ``nctransfer`` does it.

    Args:
        data: As ``nctransfer --data`` takes it, with a split ``train``.
        reading: What the data cannot know by themselves.
        classes: Which classes.
        config: The transform of a network, as timm's ``resolve_model_data_config`` gives it.
    """
    source = open_source(data, replace(reading, split=TRAIN))
    entries = source.list()
    columns = zip(*((entry.id, entry.label, entry.split) for entry in entries), strict=True)
    chosen = [entries[row] for row in Selection(TRAIN, classes=tuple(classes)).apply(*map(list, columns)).tolist()]
    transform = create_transform(**config, is_training=False, use_prefetcher=True)
    found = load_images(source, chosen, [""] * len(chosen), (), lambda image: np.asarray(transform(image)), None, 256)
    pixels = []
    for entry, loaded in zip(chosen, found, strict=True):
        if loaded.pixels is None:
            raise DataError(f"the image {entry.id!r} cannot be used: {loaded.broken}")
        pixels.append(torch.from_numpy(loaded.pixels))
    return Images(torch.stack(pixels), tuple(entry.label for entry in chosen))


def with_splits(data: str, reading: ReadingOptions, test_share: float, seed: int, folder: Path) -> str:
    """Data that have the splits ``train`` and ``test``: these, or a copy in a folder, divided at random.

    Raises:
        StoreError: The folder holds a copy that was made otherwise.
    """
    import pyarrow as pa
    from pyarrow import parquet

    source = open_source(data, replace(reading, split=TRAIN))
    entries = source.list()
    if isinstance(source, TimmReader) or {TRAIN, TEST} <= {entry.split for entry in entries}:
        return data  # a reader of timm's opens one split at a time
    copy = folder / "data.parquet"
    origin = json.dumps([source.id, test_share, seed]).encode()
    if copy.exists() and (parquet.read_schema(copy).metadata or {}).get(ORIGIN) != origin:
        raise StoreError(f"{str(copy)!r} was made of other data, or divided otherwise", "give another --output")
    if not copy.exists():
        tested = _drawn([entry.label for entry in entries], test_share, random.Random(seed))
        contents = zip(entries, source.contents(entries), strict=True)
        table = pa.table(
            {
                "image": [{"bytes": content(), "path": entry.id} for entry, content in contents],
                "label": [entry.label for entry in entries],
                "split": [TEST if row in tested else TRAIN for row in range(len(entries))],
            }
        )
        draft = copy.with_suffix(".tmp")
        parquet.write_table(table.replace_schema_metadata({ORIGIN: origin}), draft)
        draft.replace(copy)
    return str(copy)


def _drawn(labels: Sequence[str], share: float, generator: random.Random) -> set[int]:
    """A share of the rows of each class."""
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    return {row for group in rows.values() for row in generator.sample(group, round(share * len(group)))}


def divide(
    data: str, reading: ReadingOptions, source: Sequence[str], target: Sequence[str], seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The source classes in a random order, and the target classes; where none are named, a fifth of all."""
    generator = random.Random(seed)
    there = sorted({entry.label for entry in open_source(data, replace(reading, split=TRAIN)).list()})
    rest = generator.sample(there, len(there))
    chosen = sorted(target) or sorted([name for name in rest if name not in source][: max(5, len(there) // 5)])
    ordered = [name for name in rest if name in source or not source]
    if missing := {*source, *chosen} - {*there}:
        raise DataError(f"there is no class {min(missing)!r}", f"the classes are: {', '.join(there[:10])} …")
    if twice := {*source} & {*chosen}:
        raise DataError(f"the class {min(twice)!r} is both a source and a target")
    return tuple(name for name in ordered if name not in chosen), tuple(chosen)


def names(path: Path | None) -> tuple[str, ...]:
    """The class names in a file of one name per line; none without a file."""
    return read_class_names(path) if path else ()
