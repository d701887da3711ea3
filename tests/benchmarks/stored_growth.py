"""How the time and memory of reading and resuming grow with four times the images, parts or sets of a cache.

Every cache is made here: images that no file holds, listed and stored with random features. Each measurement runs in a
process of its own, all in turns, and its seconds are those of the CPU. The anchor is a process that imports torch, as
one that opens a stream does too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

TITLE = "Growth of a cache"
IMAGES = (15_625, 62_500, 250_000)
PARTS = (75, 300, 1_200)
SETS = (62, 250, 1_000)
DIM, CLASSES, PART_ROWS, ROUNDS = 16, 50, 5_000, 3
MODEL = "test_vit"


def made_source(images: int) -> Any:
    """A source that lists so many images and can read none of them."""
    import numpy as np

    from nctransfer.sources.arrow_arrays import coded, strings
    from nctransfer.sources.image_table import ImageTable
    from nctransfer.sources.source import ImageEntry, ImageSource

    class Made(ImageSource):
        kind, name, id = "made images", "made", f"made-{images}"

        def list(self) -> ImageTable:
            rows = np.arange(images)
            ids = strings([f"c{row * CLASSES // images:02d}/img_{row:07d}.png" for row in range(images)])
            labels = coded((rows * CLASSES // images).astype(np.int32), [f"c{code:02d}" for code in range(CLASSES)])
            splits = coded(np.zeros(images, np.int32), [""])
            return ImageTable.from_columns(ids, labels, splits, np.full(images, 100), rows + 10**18)

        def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
            raise AssertionError("nothing is read")

    return Made()


def fill(root: Path, images: int, part_rows: int) -> None:
    """A stored set of made features, under the key that an extraction by the model asks for."""
    import numpy as np
    import pyarrow as pa

    from nctransfer.backbones.request import BackboneRequest
    from nctransfer.sources.arrow_arrays import strings
    from nctransfer.sources.source import content_digest
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.lazy_backbone import LazyBackbone
    from nctransfer.store.listings import Listing
    from nctransfer.store.pipeline import Runtime

    store, source = FeatureStore(root), made_source(images)
    backbone = LazyBackbone(store, BackboneRequest(MODEL, random_init=True), Runtime(device="cpu"), None).get(())
    digests = strings([content_digest(b"%d" % row) for row in range(images)])
    listing = store.save_listing(source.id, Listing(source.list(), digests.cast(pa.string())))
    rng = np.random.default_rng(0)
    with store.open(backbone.key, source.id, {"weights": "made", "data": "made"}).writer() as writer:
        writer.begin()
        for start in range(0, images, part_rows):
            rows = list(listing[start : start + part_rows])
            matrix = rng.standard_normal((len(rows), DIM)).astype(backbone.key.store_dtype)
            writer.append(rows, {"feature": matrix})


def fill_sets(root: Path, sets: int) -> None:
    """So many sets of three images each."""
    import numpy as np

    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.sources.source import content_digest
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.listings import Listed

    store = FeatureStore(root)
    rows = [Listed(f"a/{row}.png", "a", "", 1, row, content_digest(b"%d" % row)) for row in range(3)]
    for number in range(sets):
        key = FeatureKey(model="made", weights=f"{number:032d}", transform={})
        with store.open(key, "made-1", {"weights": "made", "data": "made"}).writer() as writer:
            writer.begin()
            writer.append(rows, {"feature": np.ones((3, 4), np.float32)})


# What is measured, each in a process of its own


def resume(root: Path, images: int) -> None:
    """An extraction whose images are all stored."""
    from nctransfer.backbones.request import BackboneRequest
    from nctransfer.sources.selection import Selection
    from nctransfer.store.cache_folder import FeatureStore
    from nctransfer.store.extraction import extract_to_store
    from nctransfer.store.pipeline import Runtime

    request, runtime = BackboneRequest(MODEL, random_init=True), Runtime(device="cpu")
    report = extract_to_store(FeatureStore(root), request, made_source(images), Selection(), runtime)
    assert (report.reused, report.extracted) == (images, 0)


def open_stream(root: Path, _: int) -> None:
    """A stream up to its first batch."""
    from nctransfer.store.cache_folder import FeatureStore

    (stored,) = FeatureStore(root).sets()
    next(stored.stream().batches())


def list_sets(root: Path, sets: int) -> None:
    """``nctransfer cache list``."""
    from nctransfer.cli import main

    sys.argv = ["nctransfer", "cache", "list", "--quiet", "--cache-dir", str(root)]
    main()
    assert len(list(root.glob("features/*/*"))) == sets


def load_torch(_: Path, __: int) -> None:
    """The anchor."""
    import torch

    assert torch.ones(1).sum() == 1


MEASURED: dict[str, tuple[Callable[[Path, int], None], Sequence[int]]] = {
    "`extract` with nothing to do, images": (resume, IMAGES),
    "a stream up to its first batch, images": (open_stream, IMAGES),
    "a stream up to its first batch, parts of 20 images": (open_stream, PARTS),
    "`cache list`, sets": (list_sets, SETS),
}


def measured(call: str, root: Path, size: int) -> tuple[float, float]:
    """CPU seconds and peak memory in MiB of a process that makes one call."""
    command = [sys.executable, __file__, call, str(root), str(size)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, command
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def table() -> str:
    """One row a measurement."""
    from page_tables import markdown

    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch_seconds, torch_memory = min(measured("load_torch", folder, 0) for _ in range(ROUNDS))
        for title, (call, sizes) in MEASURED.items():
            caches = [folder / f"{call.__name__}-{size}" for size in sizes]
            for root, size in zip(caches, sizes, strict=True):
                _prepare(title, root, size)
            found = [
                [measured(call.__name__, root, size) for root, size in zip(caches, sizes, strict=True)]
                for _ in range(ROUNDS)
            ]
            best = [min(of_size) for of_size in zip(*found, strict=True)]
            shown = [
                f"{size:,}: {seconds:.2f} s, {memory:,.0f} MiB"
                for size, (seconds, memory) in zip(sizes, best, strict=True)
            ]
            (small, _), (more, _), (most, _) = best
            rows.append([title, *shown, f"{more / small:.1f}", f"{most / more:.1f}"])
    rows.append(["`import torch` alone", f"{torch_seconds:.2f} s, {torch_memory:,.0f} MiB", "", "", "", ""])
    return markdown(["CPU seconds and peak memory of a process", "n", "4n", "16n", "4n : n", "16n : 4n"], rows)


def _prepare(title: str, root: Path, size: int) -> None:
    """Make a cache in a process of its own, since its peak memory would be inherited."""
    kind = "sets" if "sets" in title else "parts" if "parts" in title else "images"
    subprocess.run([sys.executable, __file__, "prepare", str(root), str(size), kind], check=True)


def main(call: str, root: str, size: str, kind: str = "") -> None:
    """In a process of its own."""
    if call == "prepare" and kind == "sets":
        fill_sets(Path(root), int(size))
    elif call == "prepare":
        fill(Path(root), int(size) * (20 if kind == "parts" else 1), 20 if kind == "parts" else PART_ROWS)
    else:
        globals()[call](Path(root), int(size))


if __name__ == "__main__":
    main(*sys.argv[1:])
