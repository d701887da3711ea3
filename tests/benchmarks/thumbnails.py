"""Thumbnails and the data section of a page: time per image beside Pillow alone, size, and memory.

    python tests/benchmarks/thumbnails.py DATA [--most 20000]

``DATA`` is a source of labelled images. Times are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from nctransfer.features.feature_set import FeatureSet
from nctransfer.page.data_section import data_section
from nctransfer.page.image_finder import find_images
from nctransfer.page.thumbnails import MOST_THUMBNAILS, QUALITY, SIDE, choose_images, make_thumbnails
from nctransfer.sources.decoding import decode
from nctransfer.sources.inventory import inspect
from nctransfer.sources.opening import open_source
from pictures import encoded, photographs


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """The CPU time of some work, and its result."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    result = work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, result


def pillow(contents: list[bytes]) -> None:
    """What cannot be avoided: decoding as little as possible, shrinking, saving."""
    for content in contents:
        image = Image.open(io.BytesIO(content))
        image.draft(None, (2 * SIDE, 2 * SIDE))
        small = image.convert("RGB")
        small.thumbnail((SIDE, SIDE))
        small.save(io.BytesIO(), "WEBP", quality=QUALITY, method=4)


def peak() -> float:
    """The largest size of the process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the times and sizes for one source."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--most", type=int, default=20_000)
    given = parser.parse_args()
    source = open_source(given.data)
    entries = source.list()[: given.most]
    labels, ids = [entry.label for entry in entries], [entry.id for entry in entries]
    features = FeatureSet.from_arrays(np.zeros((len(ids), 1)), labels, ids)
    found = find_images(features, source)
    chosen = choose_images([], features.labels, MOST_THUMBNAILS)
    contents = [read() for _, read in found.contents(chosen)]
    inspect(source, headers_only=True)  # warms up the caches of the system
    data_section(features.only_rows(features.order[:10]), find_images(features.only_rows(features.order[:10]), source))
    start = peak()
    floor, _ = seconds(lambda: pillow(contents))
    ours, made = seconds(lambda: make_thumbnails(found, chosen, workers=1))
    size = sum(map(len, made.images.values()))
    print(f"{len(chosen):,} thumbnails: {1e3 * ours / len(chosen):.2f} ms each, {ours / floor:.2f} times Pillow alone;")
    print(f"  {size / len(made.images):,.0f} bytes each, {size * 4 / 3 / 2**20:.1f} MB as base64")
    whole, _ = seconds(lambda: data_section(features, found, workers=1))
    print(f"memory: {peak() - start:.0f} MB more than the {start:.0f} MB before")
    alone, _ = seconds(lambda: sum(decode(read()).width for read in source.contents(entries)))
    print(f"data section of {len(ids):,} images: {whole:.1f} s, {whole / alone:.2f} times decoding them alone")
    large = encoded(photographs()[10].resize((4000, 3000), Image.Resampling.BICUBIC), "JPEG", quality=90)
    full, _ = seconds(lambda: [decode(large) for _ in range(5)])
    draft, _ = seconds(lambda: [decode(large, enough=2 * SIDE) for _ in range(5)])
    print(f"a JPEG of 12 megapixels: {1e3 * full / 5:.0f} ms decoded in full, {1e3 * draft / 5:.0f} ms for a thumbnail")


if __name__ == "__main__":
    main()
