"""How many changed photographs are found again, how many others are taken for alike, and how long it takes.

    python tests/benchmarks/look_alikes.py SOURCE [SOURCE …] [--images 1000] [--unrelated SOURCE …]

Photographs are drawn at random from the sources and changed in many ways. Each changed set is compared with the
originals, as ``nctransfer data D D2`` compares two sources. Prints a Markdown table: how many of the changed images
were found again, and how many pairs of other images were reported besides those of the originals with each other. Then
the pairs within the originals and within each source of ``--unrelated`` are counted and listed, to be looked at: real
data sets hold the same picture more than once. Times are those of reading and decoding alone, of the same with
fingerprints, and of the comparison.
"""

import argparse
import hashlib
import io
import random
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps

from nctransfer.sources.data_report import DataReport
from nctransfer.sources.decoding import decode
from nctransfer.sources.inventory import inspect
from nctransfer.sources.opening import open_source
from nctransfer.sources.similar_images import LookAlikes, find_look_alikes
from nctransfer.sources.source import ImageEntry, ImageSource

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


class Clock:
    """The time of the wall and of all threads of this process; a busy machine changes only the first."""

    def __init__(self) -> None:
        self.wall, self.processor = time.perf_counter(), time.process_time()

    def __sub__(self, start: "Clock") -> str:
        return f"{self.wall - start.wall:.1f} s ({self.processor - start.processor:.1f} s of processor time)"


class Changed(ImageSource):
    """Some photographs of several sources, changed and saved again; without a change, they are those in the sources."""

    kind = "changed photographs"

    def __init__(self, contents: dict[str, bytes], change: Change | None, form: str, settings: dict[str, int]) -> None:
        self.name = self.id = "changed" if change else "originals"
        self.encoded, self.change, self.form, self.settings = contents, change, form, settings

    def list(self) -> list[ImageEntry]:
        return [ImageEntry(name, "photograph", "", 0, 0) for name in self.encoded]

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        for entry in entries:
            yield lambda name=entry.id: self._content(name)

    def _content(self, name: str) -> bytes:
        if self.change is None:
            return self.encoded[name]
        generator = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
        buffer = io.BytesIO()
        self.change(decode(self.encoded[name]), generator).save(buffer, self.form, **self.settings)
        return buffer.getvalue()


def cropped(image: Image.Image, shares: Sequence[float]) -> Image.Image:
    """Without these shares of its width and height: left, top, right, bottom."""
    width, height = image.size
    left, top, right, bottom = shares
    return image.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )


def somewhere(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """95% of the width and of the height, at a random place."""
    left, top = generator.uniform(0, 0.05, 2)
    return cropped(image, [left, top, 0.05 - left, 0.05 - top])


def one_side(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Without 5% at one side."""
    return cropped(image, 0.05 * np.eye(4)[generator.integers(4)])


def same(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image


def mirrored(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(image)


def scaled(factor: float) -> Change:
    return lambda image, _: image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))


CHANGES: list[tuple[str, Change, str, dict[str, int]]] = [
    ("saved as PNG", same, "PNG", {}),
    *((f"saved as JPEG, quality {quality}", same, "JPEG", {"quality": quality}) for quality in (90, 50, 20)),
    *((f"saved as WebP, quality {quality}", same, "WEBP", {"quality": quality}) for quality in (80, 30)),
    ("mirrored", mirrored, "PNG", {}),
    ("mirrored, JPEG 50", mirrored, "JPEG", {"quality": 50}),
    ("half the size", scaled(0.5), "PNG", {}),
    ("twice the size, JPEG 80", scaled(2), "JPEG", {"quality": 80}),
    ("resized to 224×224, JPEG 80", lambda image, _: image.resize((224, 224)), "JPEG", {"quality": 80}),
    ("resized to 64×64", lambda image, _: image.resize((64, 64)), "PNG", {}),
    ("5% cropped at one side", one_side, "PNG", {}),
    ("cropped to 95% of width and height", somewhere, "PNG", {}),
    ("the same, mirrored, JPEG 50", lambda i, g: ImageOps.mirror(somewhere(i, g)), "JPEG", {"quality": 50}),
    ("the same, resized to 64×64", lambda i, g: somewhere(i, g).resize((64, 64)), "PNG", {}),
    ("5% cropped at every side", lambda image, _: cropped(image, [0.05] * 4), "PNG", {}),
]


def photographs(names: Sequence[str], images: int, seed: int) -> dict[str, bytes]:
    """The bytes of photographs drawn at random from sources."""
    every = [(source, entry) for source in map(open_source, names) for entry in source.list()]
    chosen = random.Random(seed).sample(every, min(images, len(every)))
    return {entry.id: source.read(entry) for source, entry in chosen}


def timed(source: ImageSource) -> tuple[DataReport, LookAlikes]:
    """What is found in a source; prints the seconds of each step and the pairs."""
    clocks = [Clock()]
    inspect(source)
    clocks.append(Clock())
    report = inspect(source, fingerprints=True)
    clocks.append(Clock())
    found = find_look_alikes(report)
    clocks.append(Clock())
    steps = ("reading and decoding", "the same with fingerprints", "comparison")
    times = "; ".join(f"{step} {end - start}" for step, start, end in zip(steps, clocks[:-1], clocks[1:], strict=True))
    print(
        f"\n{source.name}: {report.images:,} images, {len(found.pairs):,} pairs, {found.plain:,} too plain; {times}\n"
    )
    for pair in found.pairs:
        print(f"  {pair.similarity:.3f} {pair.kind:12} {pair.one.id}  {pair.other.id}")
    return report, found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unrelated", nargs="*", default=[])
    given = parser.parse_args()
    contents = photographs(given.sources, given.images, given.seed)
    report, found = timed(Changed(contents, None, "", {}))
    known = {frozenset((pair.one.id, pair.other.id)) for pair in found.pairs}
    print("\n| change | found again | other pairs |\n|---|---:|---:|")
    for name, change, form, settings in CHANGES:
        changed = inspect(Changed(contents, change, form, settings), fingerprints=True)
        pairs = [pair for pair in find_look_alikes(report, changed).pairs if pair.other.second]
        again = sum(pair.one.id == pair.other.id for pair in pairs)
        others = {frozenset((pair.one.id, pair.other.id)) for pair in pairs if pair.one.id != pair.other.id} - known
        print(f"| {name} | {again / len(contents):.1%} | {len(others)} |", flush=True)
        for one, other in map(sorted, others):
            print(f"<!-- {one} {other} -->")
    for name in given.unrelated:
        timed(open_source(name))


if __name__ == "__main__":
    main()
