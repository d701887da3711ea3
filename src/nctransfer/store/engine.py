"""What an engine is: it runs missing images through a backbone, and their features go into a sink."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.store.listings import Listed, Listing
    from nctransfer.store.pipeline import Task

__all__ = ["Engine", "Sink"]


class Sink(Protocol):
    """Where features go: into a stored set, or into parts that somebody else records."""

    @property
    def folder(self) -> Path:
        """The folder of the set."""

    def digests(self, columns: Iterable[str] = ()) -> pa.StringArray:
        """The digests of the images that are there with these columns."""

    def append(self, images: Sequence[Listed], features: Mapping[str, NDArray[np.generic]]) -> None:
        """Take the matrix ``(n, d)`` of each column of vectors of n images."""


@dataclass(kw_only=True)
class Engine(ABC):
    """Runs missing images. Its attributes say what it found out meanwhile, also if it was interrupted.

    Attributes:
        task: Where the images come from, and how to run.
        missing: The images that are not stored.
        note: Told now and then which digests were found, by id; if there is none, they all stay in ``digests``.
        digests: The digest of each image that was read, by id, without those that ``note`` has been told.
        broken: Why an image gave no features, by digest; by id if the image could not be read.
        first_images: The number of images of the first batch, which warms up the device.
        first_seconds: The time that the backbone took for them.
        timed_images: The number of images whose features came after those of the first batch.
        timed_seconds: The time from the features of the first batch to those of the last.
        startup_seconds: The time until the first backbone was loaded, if the engine loads them.
    """

    task: Task
    missing: Listing
    note: Callable[[Mapping[str, str]], object] | None = None
    digests: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    first_images: int = 0
    first_seconds: float = 0.0
    timed_images: int = 0
    timed_seconds: float = 0.0
    startup_seconds: float = 0.0

    def hand_over_digests(self) -> None:
        """Tell ``note`` the digests that were found since the last time, and keep them no longer."""
        if self.note is not None:
            found, self.digests = self.digests, {}
            self.note(found)

    @abstractmethod
    def run(self) -> None:
        """Run all missing images.

        Raises:
            StoreError: The features cannot be stored.
        """
