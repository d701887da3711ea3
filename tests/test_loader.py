"""Images read ahead: in order, a bounded number at a time, each broken one by itself."""

from __future__ import annotations

import io
import itertools
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from messages import says
from nctransfer.errors import DeviceError
from nctransfer.sources import decoding
from nctransfer.sources.loading import Loaded, load_images, map_ahead, read_digests, threads
from nctransfer.sources.source import ImageEntry, ImageSource, content_digest

Content = bytes | Exception


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (2, 2), level).save(file, "PNG")
    return file.getvalue()


class Given(ImageSource):
    """Images in memory; an error in place of one is raised where it is read, or ends the iterator."""

    kind, name, id = "images in memory", "given", "given"

    def __init__(self, *contents: Content, ends_with: Exception | None = None) -> None:
        self._contents = contents
        self._ends_with = ends_with
        self.handed_out = 0

    def list(self) -> list[ImageEntry]:
        return [ImageEntry(str(number), "a", "", 1, 1) for number in range(len(self._contents))]

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        for entry in entries:
            self.handed_out += 1
            yield lambda content=self._contents[int(entry.id)]: give(content)
        if self._ends_with:
            raise self._ends_with


def give(content: Content) -> bytes:
    if isinstance(content, Exception):
        raise content
    return content


def level(image: Image.Image) -> np.ndarray:
    return np.asarray(image)[0, 0]


def loaded(
    source: ImageSource,
    digests: Sequence[str] | None = None,
    known: frozenset[str] = frozenset(),
    preprocess: Callable[[Image.Image], np.ndarray] = level,
    workers: int = 2,
    most: int = 4,
) -> Iterator[Loaded]:
    entries = source.list()
    return load_images(source, entries, digests or [""] * len(entries), known, preprocess, workers, most)


@pytest.fixture
def left_behind() -> Callable[[], list[threading.Thread]]:
    """The threads that were not there at first, and do not end within a moment."""
    before = set(threading.enumerate())

    def now() -> list[threading.Thread]:
        others = [thread for thread in threading.enumerate() if thread not in before]
        for thread in others:
            thread.join(60)
        return [thread for thread in others if thread.is_alive()]

    return now


# Going ahead


def test_results_come_in_order_whichever_is_ready_first() -> None:
    started = [threading.Event() for _ in range(6)]

    def wait_for_the_next(number: int) -> int:
        started[number].set()
        if number % 2 == 0:
            assert started[number + 1].wait(60)
        return number

    with ThreadPoolExecutor(2) as pool:
        assert list(map_ahead(pool, wait_for_the_next, range(6), 4)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("most", [1, 5])
def test_it_never_runs_far_ahead(most: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(30):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(3) as pool:
        results = map_ahead(pool, lambda item: item, items(), most)
        assert taken == []  # before the first is asked for
        held = [len(taken) - item for item in results]  # that one too
    assert held == [min(most, 30 - item) for item in range(30)]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5])
def test_few_items_all_come(count: int) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(map_ahead(pool, str, range(count), 3)) == [str(number) for number in range(count)]


def test_what_waits_is_not_begun_after_an_error() -> None:
    begun, may_end = [], threading.Event()

    def fail_at_first(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise ZeroDivisionError
        assert may_end.wait(60)

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError):
            list(map_ahead(pool, fail_at_first, range(50), 40))
        may_end.set()
    assert begun in ([0], [0, 1])


# Loading


def test_images_come_in_order_as_the_model_wants_them() -> None:
    contents = [png(number) for number in range(20)]
    found = list(loaded(Given(*contents)))
    assert [image.digest for image in found] == [content_digest(content) for content in contents]
    assert [image.pixels.tolist() for image in found] == [[number] * 3 for number in range(20)]
    assert not any(image.broken for image in found)


def test_what_is_known_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = decoding.decode
    monkeypatch.setattr("nctransfer.sources.loading.decode", lambda content: decoded.append(content) or decode(content))
    one, two = png(1), png(2)
    found = list(loaded(Given(one, two, one), known=frozenset([content_digest(one)])))
    assert decoded == [two]
    assert [image.digest for image in found] == [content_digest(content) for content in (one, two, one)]
    assert [image.pixels is None for image in found] == [True, False, True]
    assert not any(image.broken for image in found)


def test_known_contents_need_not_even_be_images() -> None:
    (image,) = loaded(Given(b"no image"), known=frozenset([content_digest(b"no image")]))
    assert image == Loaded(content_digest(b"no image"))


def test_each_broken_image_says_why_and_the_others_come() -> None:
    whole = png(3)
    unreadable = PermissionError(13, "Permission denied")
    source = Given(whole, b"", b"words", whole[:-30], unreadable, OSError("the archive ends"), whole)
    found = list(loaded(source))
    for image, reason in zip(
        found, ["", "0", "format", "truncated", "Permission denied", "the archive ends", ""], strict=True
    ):
        assert reason in image.broken
        assert bool(reason) == bool(image.broken) == (image.pixels is None)
    assert [bool(image.digest) for image in found] == [True, True, True, True, False, False, True]


def test_content_that_is_not_as_expected_is_not_used() -> None:
    one, two = png(1), png(2)
    found = list(loaded(Given(one, two), [content_digest(two), content_digest(two)]))
    assert found[0] == Loaded("", None, found[0].broken)
    assert found[0].broken
    assert found[1].digest == content_digest(two)
    assert found[1].pixels is not None


@pytest.mark.parametrize("error", [OverflowError("signed integer is greater than maximum"), MemoryError()])
def test_an_image_that_cannot_be_resized_is_broken_alone(error: Exception) -> None:
    """As Pillow does for one that is a pixel wide and 80 million high."""

    def preprocess(image: Image.Image) -> np.ndarray:
        if level(image)[0] == 1:
            raise error
        return level(image)

    found = list(loaded(Given(png(1), png(2)), preprocess=preprocess))
    assert [bool(image.broken) for image in found] == [True, False]


@pytest.mark.parametrize("workers", [1, 3])
def test_at_most_so_many_images_are_held(workers: int) -> None:
    source = Given(*map(png, range(30)))
    found = loaded(source, workers=workers, most=5)
    assert max(source.handed_out - before for before, _ in enumerate(found)) == 5


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_so_many_threads_decode_at_once(workers: int) -> None:
    barrier = threading.Barrier(workers)
    names = set()

    def preprocess(image: Image.Image) -> np.ndarray:
        names.add(threading.current_thread().name)
        barrier.wait(60)  # all the others must come
        return level(image)

    assert len(list(loaded(Given(*map(png, range(8))), preprocess=preprocess, workers=workers, most=8))) == 8
    assert len(names) == workers
    assert threading.current_thread().name not in names


@pytest.mark.parametrize("read", [loaded, lambda source: read_digests(source, source.list(), 2)])
@pytest.mark.parametrize("count", [0, 3, 100])
def test_an_error_of_the_source_comes_through_and_threads_end(
    read: Callable[[ImageSource], Iterator[Loaded]],
    count: int,
    left_behind: Callable[[], list[threading.Thread]],
) -> None:
    with pytest.raises(ZeroDivisionError, match="of the source"):
        list(read(Given(*map(png, range(count)), ends_with=ZeroDivisionError("of the source"))))
    assert left_behind() == []


def test_threads_end_with_the_one_who_asks(left_behind: Callable[[], list[threading.Thread]]) -> None:
    source = Given(*map(png, range(100)))
    before = set(threading.enumerate())
    next(found := loaded(source))
    assert set(threading.enumerate()) - before
    found.close()
    assert left_behind() == []
    assert source.handed_out < 10


def test_more_or_fewer_images_than_entries_are_an_error() -> None:
    class Short(Given):
        def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
            return itertools.islice(super().contents(entries), 1)

    with pytest.raises(ValueError, match="zip"):
        list(loaded(Short(png(1), png(2))))


def test_warnings_of_odd_metadata_are_not_heard_and_others_are() -> None:
    def preprocess(image: Image.Image) -> np.ndarray:
        warnings.warn_explicit("odd", UserWarning, "TiffImagePlugin.py", 1, module="PIL.TiffImagePlugin")
        return level(image)

    before = list(warnings.filters)
    assert not next(loaded(Given(png(1)), preprocess=preprocess)).broken
    assert warnings.filters == before
    with pytest.raises(UserWarning, match="odd"):
        preprocess(Image.new("RGB", (1, 1)))


# Digests


def test_digests_are_read_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.sources.loading.decode", lambda _: pytest.fail("decoded"))
    contents = (png(1), b"", b"words", FileNotFoundError(2, "No such file"), OSError("the archive ends"))
    source = Given(*contents)
    assert list(read_digests(source, source.list(), 2)) == [
        *(Loaded(content_digest(content)) for content in (png(1), b"", b"words")),
        Loaded("", None, "No such file"),
        Loaded("", None, "the archive ends"),
    ]


def test_digests_of_many_images_are_not_read_far_ahead() -> None:
    source = Given(*itertools.repeat(b"x", 500))
    next(found := read_digests(source, source.list(), 2))
    assert source.handed_out == 64
    found.close()


# Threads


@pytest.mark.parametrize("workers", [0, -1])
def test_no_threads_are_an_error(workers: int) -> None:
    with pytest.raises(DeviceError) as error:
        threads(workers)
    says(error, "workers", workers, 1)
    with pytest.raises(DeviceError) as error:
        next(loaded(Given(png(1)), workers=workers))
    says(error, "workers", workers, 1)


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (7, 7), (200, 16)])
def test_one_thread_a_core_but_not_too_many(cores: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert threads(None) == expected
    assert threads(3) == 3
    assert threads(50) == 50
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS and Windows
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert threads(None) == expected


@pytest.mark.parametrize(("most", "at_once"), [(1, 1), (8, 3), (3, 8), (64, 16)])
def test_items_are_taken_some_at_once(most: int, at_once: int) -> None:
    """In the order of the items, and never more of them ahead than were asked for, but for one task."""
    taken, given = 0, 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(100):
            taken += 1
            assert taken - given <= max(most, at_once) + at_once
            yield item

    with ThreadPoolExecutor(3) as pool:
        for given, result in enumerate(map_ahead(pool, str, items(), most, at_once), 1):
            assert result == str(given - 1)
    assert (given, taken) == (100, 100)
