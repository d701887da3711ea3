"""Images read and decoded by threads, ahead of whoever uses them."""

from __future__ import annotations

import collections
import os
import warnings
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from nctransfer.errors import DeviceError
from nctransfer.sources.decoding import decode
from nctransfer.sources.source import content_digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from nctransfer.sources.source import ImageEntry, ImageSource

__all__ = ["Loaded", "ahead", "load_images", "read_digests", "threads"]

T = TypeVar("T")
R = TypeVar("R")
MOST_THREADS = 16


class Loaded(NamedTuple):
    """An image that was read.

    Attributes:
        digest: Of its bytes; "" if they cannot be read, or are not those expected.
        pixels: Prepared for the model; ``None`` if that was not asked for, or the image is broken.
        broken: Why it cannot be used, else "".
    """

    digest: str
    pixels: NDArray[np.uint8] | None = None
    broken: str = ""


def threads(workers: int | None) -> int:
    """The number of threads to decode with: as asked for, else one a core, up to 16.

    Raises:
        DeviceError: There must be at least one.
    """
    if workers is not None and workers < 1:
        raise DeviceError(f"workers is {workers}; it must be at least 1")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return workers or min(MOST_THREADS, cores)


def read_digests(source: ImageSource, entries: Sequence[ImageEntry], workers: int | None) -> Iterator[Loaded]:
    """The digest of each image, without decoding it. The entries stand in the source's own order."""

    def digest(content: Callable[[], bytes]) -> Loaded:
        try:
            return Loaded(content_digest(content()))
        except OSError as error:
            return Loaded("", None, error.strerror or str(error))

    with ThreadPoolExecutor(threads(workers)) as pool:
        yield from ahead(pool, digest, source.contents(entries), 64)


def load_images(
    source: ImageSource,
    entries: Sequence[ImageEntry],
    digests: Sequence[str],
    known: Container[str],
    preprocess: Callable[[Image.Image], NDArray[np.uint8]],
    workers: int | None,
    most_ahead: int,
) -> Generator[Loaded, None, None]:
    """Each image as the model wants it.

    Args:
        source: Where the images are.
        entries: Those wanted, in the source's own order.
        digests: What is known of their contents; "" where nothing is.
        known: Contents that are not to be decoded.
        preprocess: From an RGB image to pixels.
        workers: Threads; see :func:`threads`.
        most_ahead: So many images at most are held in memory.
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
            return Loaded(digest, None, error.strerror or str(error))
        except Exception as error:  # of whatever resizes: an odd image must not end the run
            return Loaded(digest, None, str(error) or type(error).__name__)

    with warnings.catch_warnings(), ThreadPoolExecutor(threads(workers)) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; what is broken raises
        yield from ahead(pool, load, zip(digests, source.contents(entries), strict=True), most_ahead)


def ahead(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], most: int) -> Iterator[R]:
    """``map`` over a pool that is never more than ``most`` items in front, so that memory stays bounded."""
    pending: collections.deque[Future[R]] = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= most:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
