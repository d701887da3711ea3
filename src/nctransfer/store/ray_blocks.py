"""Which images run where: blocks of images that wait, run, or have run but are not written yet.

Nothing is forgotten when a worker dies: its images wait again, except those whose features have been written. A block
whose workers die again and again is cut in two, until the image that kills them stands alone.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nctransfer.store.listings import Listed

__all__ = ["Block", "Blocks"]

FIRST_BATCHES = 4  # of the first block of a worker, before its speed is known
BLOCK_SECONDS = 5.0  # about how long a block takes, so that reports come in often
MOST_IMAGES = 16_384  # of a block
IN_FLIGHT = 2  # blocks of a worker: one runs, and one waits so that the worker never does
DEATHS_OF_A_BLOCK = 2  # then it is cut in two
DEATHS_OF_AN_IMAGE = 4  # then it is given up


@dataclass(eq=False, kw_only=True)
class Block:
    """Images that one worker runs in one go, in the order in which their source lists them.

    Attributes:
        images: The images.
        deaths: How many workers died while they ran these images.
    """

    images: Sequence[Listed]
    deaths: int = 0


@dataclass(kw_only=True)
class _Worker:
    """What one worker has to do.

    Attributes:
        sent: The blocks that it runs, in this order.
        unwritten: The blocks that it has run, of which some features are not written yet.
        digests: The digests of images of those blocks, by id.
        written: The digests of those whose features are written.
        speed: Images per second.
    """

    sent: deque[Block] = field(default_factory=deque)
    unwritten: list[Block] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    speed: float | None = None


class Blocks:
    """All images of an extraction.

    Args:
        images: The images.
        batch_size: The number of images that go through the model at once.
    """

    def __init__(self, images: Sequence[Listed], batch_size: int) -> None:
        self._images = images
        self._batch_size = batch_size
        self._next = 0
        self._again: deque[Block] = deque()
        self._workers: dict[Hashable, _Worker] = defaultdict(_Worker)
        self.deaths_in_a_row = 0
        """How many workers have died since a block was last finished."""

    @property
    def waiting(self) -> int:
        """The number of images that no worker has."""
        return len(self._images) - self._next + sum(len(block.images) for block in self._again)

    @property
    def finished_images(self) -> int:
        """The number of images that have been run, or given up."""
        sent = sum(len(block.images) for one in self._workers.values() for block in one.sent)
        return len(self._images) - self.waiting - sent

    @property
    def are_done(self) -> bool:
        """Whether the features of all images are written, or given up."""
        return not self.waiting and not any(one.sent or one.unwritten for one in self._workers.values())

    def holds(self, worker: Hashable) -> bool:
        """Whether a worker has features that are not written."""
        return bool(self._workers[worker].unwritten)

    def take(self, worker: Hashable, workers: int) -> Block | None:
        """The next block for a worker; ``None`` if no image waits, or the worker has enough to do.

        Args:
            worker: Who asks.
            workers: How many workers share the images that wait.
        """
        own = self._workers[worker]
        if len(own.sent) >= IN_FLIGHT or not self.waiting:
            return None
        if self._again:
            block = self._again.popleft()
        else:
            end = self._next + self._size(own.speed, workers)
            block = Block(images=list(self._images[self._next : end]))
            self._next = min(end, len(self._images))
        own.sent.append(block)
        return block

    def _size(self, speed: float | None, workers: int) -> int:
        """The number of images of a new block: whole batches, fewer towards the end so that all workers end at once."""
        wanted = FIRST_BATCHES * self._batch_size if speed is None else min(speed * BLOCK_SECONDS, MOST_IMAGES)
        share = (len(self._images) - self._next) / (IN_FLIGHT * workers)
        return max(1, math.ceil(min(wanted, share) / self._batch_size)) * self._batch_size

    def finished(self, worker: Hashable, seconds: float, digests: Mapping[str, str]) -> None:
        """Note that a worker has run the block that it was sent first, though not yet written its features.

        Args:
            worker: The worker.
            seconds: The time that it took.
            digests: The digests of the images that it read, by id.
        """
        own = self._workers[worker]
        block = own.sent.popleft()
        own.unwritten.append(block)
        own.digests.update(digests)
        own.speed = len(block.images) / max(seconds, 1e-3)
        self.deaths_in_a_row = 0

    def wrote(self, worker: Hashable, digests: Iterable[str], held: int) -> None:
        """Note that features are written and recorded.

        Args:
            worker: Who wrote them.
            digests: The digests of their images.
            held: The number of images that the worker has run, and whose features it has not written.
        """
        own = self._workers[worker]
        if held:
            own.written.update(digests)
        else:
            own.unwritten.clear()
            own.digests.clear()
            own.written.clear()

    def lost(self, worker: Hashable) -> Sequence[Listed]:
        """Note that a worker has died: its images wait again, except those whose features are written.

        Args:
            worker: The worker.

        Returns:
            The image that is given up, because every worker that ran it died; else none.
        """
        own = self._workers.pop(worker, _Worker())
        self.deaths_in_a_row += 1
        for block in (*own.unwritten, *list(own.sent)[1:]):
            if images := [image for image in block.images if own.digests.get(image.id) not in own.written]:
                self._again.append(Block(images=images, deaths=block.deaths))
        return self._blame(own.sent[0]) if own.sent else ()

    def _blame(self, block: Block) -> Sequence[Listed]:
        """Let the block that a worker ran when it died wait again, in two halves if it is suspect."""
        images, deaths = block.images, block.deaths + 1
        if len(images) == 1:
            if deaths >= DEATHS_OF_AN_IMAGE:
                return images
            self._again.append(Block(images=images, deaths=deaths))
        elif deaths < DEATHS_OF_A_BLOCK:
            self._again.append(Block(images=images, deaths=deaths))
        else:
            half = len(images) // 2
            self._again.extend(Block(images=part, deaths=deaths - 1) for part in (images[:half], images[half:]))
        return ()

    def running(self, workers: Collection[Hashable]) -> list[Listed]:
        """The first image of each block that workers run or that waits again, for messages."""
        blocks = [*self._again, *(block for worker in workers for block in self._workers[worker].sent)]
        return [block.images[0] for block in blocks]
