"""The result of an extraction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.errors import BrokenImage
from nctransfer.notebook import ShownInNotebooks
from nctransfer.store.pipeline import NOT_FINITE

if TYPE_CHECKING:
    from nctransfer.sources.selection import Selection
    from nctransfer.store.manifest import Manifest
    from nctransfer.store.stored_set import StoredSet

__all__ = ["ExtractionReport"]


@dataclass(frozen=True, kw_only=True)
class ExtractionReport(ShownInNotebooks):
    """What an extraction did.

    Attributes:
        stored: The set that the features are in.
        manifest: What the set held after the extraction.
        selection: Which images of the source were wanted.
        samples: The number of wanted images whose features are stored now.
        classes: The names of their classes.
        extracted: The number of images that went through the backbone.
        reused: The number of wanted images whose features were stored before.
        failed: The images that gave no features, and why.
        seconds: The time in the backbone and around it, without loading it.
        first_images: The number of images of the first batch, which warms up the device.
        first_seconds: The time that the backbone took for them.
        timed_images: The number of images that followed the first batch.
        timed_seconds: The time that they took.
    """

    stored: StoredSet
    manifest: Manifest
    selection: Selection
    samples: int
    classes: tuple[str, ...]
    extracted: int
    reused: int
    failed: tuple[BrokenImage, ...]
    seconds: float
    first_images: int = 0
    first_seconds: float = 0.0
    timed_images: int = 0
    timed_seconds: float = 0.0

    @property
    def has_diverged(self) -> bool:
        """Whether it was the backbone, not the images, that failed."""
        return any(broken.reason.startswith(NOT_FINITE) for broken in self.failed)

    @property
    def images_per_second(self) -> float | None:
        """Extracted images per second; ``None`` if none had to be extracted."""
        return self.extracted / self.seconds if self.extracted else None

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return {
            "id": self.stored.id,
            "path": str(self.stored.rows_path),
            "shard": f"{self.selection.shard.index}/{self.selection.shard.of}" if self.selection.shard else None,
            "samples": self.samples,
            "classes": len(self.classes),
            "extracted": self.extracted,
            "reused": self.reused,
            "failed": [broken._asdict() for broken in self.failed],
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
        }
