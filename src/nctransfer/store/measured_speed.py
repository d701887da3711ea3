"""Images per second, as measured in an extraction, kept beside the rows for runs in which all images are stored.

A speed is that of the whole way from the image file to the stored features. It holds for the device, the dtype, the
batch size, the numbers of threads and the versions with which it was measured, and is found again only for these.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nctransfer
from nctransfer.devices import pick_device
from nctransfer.errors import counted
from nctransfer.sources.loading import threads
from nctransfer.store.kept_results import KeptResults

if TYPE_CHECKING:
    import torch

    from nctransfer.store.extraction_report import ExtractionReport
    from nctransfer.store.pipeline import Runtime
    from nctransfer.store.stored_set import StoredSet

__all__ = ["FEWEST", "Speed", "SpeedConditions", "keep_speed", "measured_speed", "speed_of"]

FEWEST = 16  # images of a measurement
FOLDER = "speeds"


@dataclass(frozen=True, kw_only=True)
class SpeedConditions:
    """What a speed depends on beside the model and its images.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        processor: The name of the processor or of the accelerator.
        dtype: The dtype that the model computes in.
        batch_size: The number of images that go through the model at once.
        threads: The number of threads of the model on the CPU.
        workers: The number of threads that read and decode images.
        engine: What runs the model, with its version, such as ``torch 2.6.0`` or ``torch 2.6.0, compiled``.
        version: The version of this package.
    """

    device: str
    processor: str
    dtype: str
    batch_size: int
    threads: int
    workers: int
    engine: str
    version: str

    @classmethod
    def of(cls, stored: StoredSet, runtime: Runtime) -> SpeedConditions:
        """The conditions of an extraction into a set on this machine.

        Raises:
            DeviceError: This machine has no such device.
        """
        import torch

        device = pick_device(runtime.device)
        return cls(
            device=str(device),
            processor=_processor(device),
            dtype=stored.key.dtype,
            batch_size=runtime.batch_size,
            threads=torch.get_num_threads(),
            workers=threads(runtime.workers),
            engine=f"torch {version('torch')}" + (", compiled" if runtime.compile else ""),
            version=nctransfer.__version__,
        )

    def __str__(self) -> str:
        """The conditions in words.

        >>> print(SpeedConditions(device="cpu", processor="EPYC", dtype="float32", batch_size=32, threads=2, workers=4,
        ...                       engine="torch 2.6.0", version="0.1"))
        cpu (EPYC, 2 threads, 4 for reading), float32, batches of 32, torch 2.6.0
        """
        where = f"{self.device} ({self.processor}, {counted(self.threads, 'thread')}, {self.workers} for reading)"
        return f"{where}, {self.dtype}, batches of {self.batch_size}, {self.engine}"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How many images per second an extraction ran.

    Attributes:
        images: The number of images that were timed.
        seconds: The time that they took, from the file to the features; of a first batch that of the backbone alone.
        has_first_batch: Whether the first batch is among them, which warms up the device, because there were too few
            others: the speed is then rather too low.
        conditions: What the speed depends on.
        is_earlier: Whether it was measured in an earlier run.
    """

    images: int
    seconds: float
    has_first_batch: bool
    conditions: SpeedConditions
    is_earlier: bool = False

    @property
    def images_per_second(self) -> float:
        """The speed."""
        return self.images / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return {"images_per_second": self.images_per_second, **asdict(self)}


def speed_of(report: ExtractionReport, runtime: Runtime) -> Speed | None:
    """The speed of an extraction; ``None`` if fewer than 16 images went through the backbone.

    The first batch is not timed, unless fewer than 16 images follow it. Loading the model never is.

    Args:
        report: What the extraction did.
        runtime: How it ran.
    """
    images, seconds = report.timed_images, report.timed_seconds
    if has_first_batch := images < FEWEST:
        images, seconds = images + report.first_images, seconds + report.first_seconds
    if images < FEWEST or seconds <= 0:
        return None
    conditions = SpeedConditions.of(report.stored, runtime)
    return Speed(images=images, seconds=seconds, has_first_batch=has_first_batch, conditions=conditions)


def keep_speed(stored: StoredSet, report: ExtractionReport, runtime: Runtime) -> Speed | None:
    """Keep the speed of an extraction beside its set, unless a more precise one is there.

    A measurement without the first batch is more precise than one with it; of two such, one of more than twice as many
    images.

    Args:
        stored: The set.
        report: What the extraction did.
        runtime: How it ran.

    Returns:
        The speed of this extraction, see :func:`speed_of`.
    """
    speed = speed_of(report, runtime)
    if speed is None:
        return None
    earlier = _find(stored, speed.conditions)
    if earlier is None or not _is_more_precise(earlier, speed):
        answer = {"images": speed.images, "seconds": speed.seconds, "has_first_batch": speed.has_first_batch}
        KeptResults(stored, FOLDER).keep(_question(speed.conditions), answer)
    return speed


def measured_speed(stored: StoredSet, runtime: Runtime) -> Speed | None:
    """The speed that an earlier extraction into a set had under the same conditions; ``None`` if none is known.

    Args:
        stored: The set.
        runtime: How an extraction would run now.

    Raises:
        DeviceError: This machine has no such device.
    """
    return _find(stored, SpeedConditions.of(stored, runtime))


def _find(stored: StoredSet, conditions: SpeedConditions) -> Speed | None:
    """What is kept for these conditions, if it is a measurement; files are of whoever can write to the cache."""
    answer = KeptResults(stored, FOLDER).find(_question(conditions))
    if not isinstance(answer, dict) or answer.keys() != {"images", "seconds", "has_first_batch"}:
        return None
    images, seconds, has_first_batch = answer["images"], answer["seconds"], answer["has_first_batch"]
    if type(images) is not int or type(seconds) is not float or type(has_first_batch) is not bool:
        return None
    if not (FEWEST <= images <= 2**53 and 0 < seconds < math.inf and images / seconds < math.inf):
        return None
    return Speed(
        images=images, seconds=seconds, has_first_batch=has_first_batch, conditions=conditions, is_earlier=True
    )


def _is_more_precise(one: Speed, other: Speed) -> bool:
    if one.has_first_batch != other.has_first_batch:
        return other.has_first_batch
    return one.images > 2 * other.images


def _question(conditions: SpeedConditions) -> Mapping[str, Any]:
    return {"what": "images per second", **asdict(conditions)}


def _processor(device: torch.device) -> str:
    """The name of the processor or of the accelerator, as far as the system says it."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
