"""Read and decode images in threads, while the images before them are in use."""

from __future__ import annotations

import collections
import itertools
import os
import warnings
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from nctransfer.errors import DeviceError, reason_of
from nctransfer.sources.decoding import decode
from nctransfer.sources.source import content_digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from nctransfer.sources.source import ImageEntry, ImageSource

__all__ = ["Loaded", "load_images", "map_ahead", "read_digests", "threads"]

T = TypeVar("T")
R = TypeVar("R")
MOST_THREADS = 16
AHEAD = 64  # images that are only read: how many may be in memory at once


class Loaded(NamedTuple):
    """An image that was read.

    Attributes:
        digest: The digest of its bytes; "" if they cannot be read, or are not the expected ones.
        pixels: Its pixels, prepared for the model; ``None`` if nobody asked for them, or the image is broken.
        broken: The reason why it cannot be used, or "".
    """

    digest: str
    pixels: NDArray[np.uint8] | None = None
    broken: str = ""


def threads(workers: int | None) -> int:
    """The number of threads that read and decode: ``workers``, or one per core up to 16 if that is ``None``.

    Raises:
        DeviceError: ``workers`` is less than 1.
    """
    if workers is not None and workers < 1:
        raise DeviceError(f"expected at least 1 thread, got workers={workers}", "give --workers 1 or more")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return workers or min(MOST_THREADS, cores)


def read_digests(source: ImageSource, entries: Sequence[ImageEntry], workers: int | None) -> Iterator[Loaded]:
    """The digest of each image, without decoding it. The entries are in the order of :meth:`ImageSource.list`."""

    def digest(content: Callable[[], bytes]) -> Loaded:
        try:
            return Loaded(content_digest(content()))
        except OSError as error:
            return Loaded("", None, reason_of(error))

    workers = threads(workers)
    with ThreadPoolExecutor(workers) as pool:
        yield from map_ahead(pool, digest, source.contents(entries), AHEAD, at_once=max(1, AHEAD // (2 * workers)))


def load_images(
    source: ImageSource,
    entries: Sequence[ImageEntry],
    digests: Iterable[str],
    known: Container[str],
    preprocess: Callable[[Image.Image], NDArray[np.uint8]],
    workers: int | None,
    most_ahead: int,
) -> Generator[Loaded, None, None]:
    """Each image, decoded and prepared for the model.

    Args:
        source: Where the images are.
        entries: The images to load, in the order of :meth:`ImageSource.list`.
        digests: The digest that each image had when it was read before; "" if it was not.
        known: Digests of images that need not be decoded.
        preprocess: Makes pixels for the model from an RGB image.
        workers: Number of threads; see :func:`threads`.
        most_ahead: How many images may be in memory at once.
    """

    def load(item: tuple[str, Callable[[], bytes]]) -> Loaded:
        expected, content = item
        digest = ""
        try:
            encoded = content()
            digest = content_digest(encoded)
            if expected and digest != expected:
                return Loaded("", None, "it changed while it was being read")
            return Loaded(digest, None if digest in known else preprocess(decode(encoded)))
        except OSError as error:
            return Loaded(digest, None, reason_of(error))
        except Exception as error:  # an image that cannot be decoded or resized must not end the run
            return Loaded(digest, None, reason_of(error))

    with warnings.catch_warnings(), ThreadPoolExecutor(threads(workers)) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # about odd metadata; broken images raise errors
        yield from map_ahead(pool, load, zip(digests, source.contents(entries), strict=True), most_ahead)


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], most: int, at_once: int = 1
) -> Iterator[R]:
    """Like ``map`` on a pool of threads, but at most ``most`` items ahead of the caller, to bound memory.

    Args:
        pool: The threads.
        function: Called with each item.
        items: The items.
        most: How many items may be ahead.
        at_once: How many items a thread takes at once. A task for a thread costs about as much as reading a small file.
    """

    def some(part: list[T]) -> list[R]:
        return [function(item) for item in part]

    pending: collections.deque[Future[list[R]]] = collections.deque()
    rest = iter(items)
    try:
        while part := list(itertools.islice(rest, at_once)):
            pending.append(pool.submit(some, part))
            if len(pending) * at_once >= most:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
