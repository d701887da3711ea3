"""Shards: images divided among several workers that need not talk to one another.

The shard of an image follows from a digest of its id alone. So no image is read to divide them, shards have nearly
equal sizes whatever the names are, every worker comes to the same division, and an image that is added to the data
moves no other image to another shard.

``--shard auto`` finds the worker's number in what its scheduler says:

===================  ========================================================  ===========================
scheduler            number of the worker                                      number of workers
===================  ========================================================  ===========================
SLURM array          ``SLURM_ARRAY_TASK_ID``, from ``SLURM_ARRAY_TASK_MIN``    ``SLURM_ARRAY_TASK_COUNT``
                     in steps of ``SLURM_ARRAY_TASK_STEP``
tasks of one srun    ``SLURM_PROCID``                                          ``SLURM_STEP_NUM_TASKS``
torchrun             ``RANK``                                                  ``WORLD_SIZE``
Kubernetes           ``JOB_COMPLETION_INDEX``                                  not said: ``--shard auto/8``
===================  ========================================================  ===========================

The tasks of an array that starts several processes each divide the share of their array task. Only ``srun`` sets
``SLURM_STEP_NUM_TASKS``. ``SLURM_NTASKS`` stands in the environment of a batch script too, which runs once, so it says
nothing about the number of workers.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.errors import SettingError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["Shard"]

CHUNK = 16_384  # ids that are Python objects at once
PERSON = b"nct shard"  # so that a shard is independent of the draw of --max-per-class, which digests ids too


@dataclass(frozen=True)
class Shard:
    """One of several equal shares of the images.

    Attributes:
        index: Which share: 1, 2, …, ``of``.
        of: The number of shares.

    Raises:
        SettingError: There is no such share.

    >>> Shard(3, 8), str(Shard.parse("3/8"))
    (Shard(index=3, of=8), 'shard 3/8')
    """

    index: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.of:
            of = max(1, self.of)
            raise SettingError(
                f"there is no shard {self.index}/{self.of}",
                f"shards are numbered from 1: give --shard 1/{of} and so on up to {of}/{of}",
            )

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> Shard:
        """The shard that a text names.

        Args:
            text: ``3/8``; ``auto`` for what the environment says; ``auto/8`` if it says only which shard, but not how
                many there are, as Kubernetes does.
            environment: The environment variables.

        Raises:
            SettingError: The text names no shard, or the environment says nothing or contradicts itself.
        """
        found = re.fullmatch(r"(auto|\d{1,9})(?:/(\d{1,9}))?", text.strip(), re.ASCII)
        if not found or not (found[2] or found[1] == "auto"):
            raise SettingError(
                f"expected a shard such as 3/8, or auto, got {text!r}", "give --shard 3/8 for the third of eight"
            )
        of = int(found[2]) if found[2] else None
        if found[1] == "auto":
            return _from_environment(environment, of)
        return cls(int(found[1]), int(found[2]))

    def __contains__(self, image_id: str) -> bool:
        """Whether the image with this id belongs to the shard.

        >>> [str(shard) for shard in (Shard(1, 2), Shard(2, 2)) if "cats/1.jpg" in shard]
        ['shard 2/2']
        """
        return (
            int.from_bytes(_digest(image_id.encode("utf-8", "surrogateescape")), "little") % self.of == self.index - 1
        )

    def rows(self, ids: pa.ChunkedArray | pa.Array | Sequence[str]) -> NDArray[np.intp]:
        """The positions of the images of this shard, in ascending order.

        Args:
            ids: The id of each image: a column of strings, or a sequence. A million takes about half a second.

        >>> Shard(1, 2).rows([f"cats/{number}.jpg" for number in range(6)]).tolist()
        [2, 5]
        """
        import numpy as np
        import pyarrow as pa

        digests = bytearray()
        for start in range(0, len(ids), CHUNK):
            some = ids[start : start + CHUNK]
            if isinstance(some, pa.ChunkedArray | pa.Array):  # bytes are a third faster than text
                encoded = some.cast(pa.large_binary()).to_pylist()
            else:
                encoded = [text.encode("utf-8", "surrogateescape") for text in some]
            digests += b"".join(map(_digest, encoded))
        numbers = np.frombuffer(digests, dtype="<u8")
        return np.flatnonzero(numbers % np.uint64(self.of) == self.index - 1)

    def __str__(self) -> str:
        return f"shard {self.index}/{self.of}"


def _digest(encoded: bytes) -> bytes:
    return hashlib.blake2b(encoded, digest_size=8, person=PERSON).digest()


class _Place(NamedTuple):
    """The number of a worker, from 0, among ``of``; ``None`` if the environment does not say how many there are."""

    number: int
    of: int | None
    says: str


def _from_environment(environment: Mapping[str, str], of: int | None) -> Shard:
    """The shard of this process; see the table at the top.

    Raises:
        SettingError: The environment says nothing, not enough, or contradicts itself.
    """
    array, process = _array_task(environment), _process(environment)
    if array is None and process is None:
        raise SettingError(
            "--shard auto finds no worker's number in the environment: neither a SLURM array or srun "
            "(SLURM_ARRAY_TASK_ID, SLURM_STEP_NUM_TASKS), nor torchrun (RANK), nor an indexed job of Kubernetes "
            "(JOB_COMPLETION_INDEX)",
            "give the shard itself, such as --shard 3/8",
        )
    places = [place for place in (array, process) if place is not None]
    says = ", ".join(place.says for place in places)
    number, count = 0, 1
    for place in places:
        size = place.of or of
        if size is None:
            raise SettingError(
                f"the environment says which worker this is ({says}), but not how many there are",
                "give their number, such as --shard auto/8",
            )
        if place.number >= size:
            raise SettingError(f"there is no worker {place.number} among {size}, counted from 0 ({says})", _BY_HAND)
        number, count = number * size + place.number, count * size
    if of is not None and count != of:
        raise SettingError(f"--shard auto/{of} was given, but there are {count} workers ({says})", _BY_HAND)
    return Shard(number + 1, count)


_BY_HAND = "give the shard itself, such as --shard 3/8"


def _array_task(environment: Mapping[str, str]) -> _Place | None:
    """The place of a task in its SLURM array; ``None`` without one."""
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "STEP", "COUNT")]
    if names[0] not in environment:
        return None
    task, least, most, step, count = (_number(environment, name) for name in names)
    says = f"task {task} of the SLURM array {least}-{most}:{step} of {count}"
    if step < 1 or most - least != step * (count - 1) or (task - least) % step:
        raise SettingError(
            f"{says}: its numbers have gaps, so they do not say which shard this is",
            'give the shard itself, such as --shard "$((SLURM_ARRAY_TASK_ID + 1))/8" for an array 0-7',
        )
    return _Place((task - least) // step, count, says)


def _process(environment: Mapping[str, str]) -> _Place | None:
    """The place of a process among those that a launcher started; ``None`` if none did."""
    torchrun = srun = kubernetes = None
    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank, world = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
        torchrun = _Place(rank, world, f"RANK={rank} of WORLD_SIZE={world}")
    if "SLURM_STEP_NUM_TASKS" in environment:
        task, tasks = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_STEP_NUM_TASKS")
        srun = _Place(task, tasks, f"SLURM_PROCID={task} of SLURM_STEP_NUM_TASKS={tasks}")
    if "JOB_COMPLETION_INDEX" in environment:
        index = _number(environment, "JOB_COMPLETION_INDEX")
        kubernetes = _Place(index, None, f"JOB_COMPLETION_INDEX={index}")
    if kubernetes and (torchrun or srun):
        other = torchrun or srun
        assert other is not None
        raise SettingError(f"two launchers number this process: {kubernetes.says}, and {other.says}", _BY_HAND)
    if torchrun and srun:
        # srun starts one torchrun per node, whose ranks count through all nodes, so ranks are enough
        if torchrun.of is not None and srun.of is not None and torchrun.of < srun.of:
            raise SettingError(f"two launchers number this process: {srun.says}, and {torchrun.says}", _BY_HAND)
        return torchrun
    return torchrun or srun or kubernetes


def _number(environment: Mapping[str, str], name: str) -> int:
    """The whole number in an environment variable.

    Raises:
        SettingError: It is absent, or something else.
    """
    text = environment.get(name, "")
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise SettingError(
            f"expected a whole number in the environment variable {name}, "
            + (f"got {text!r}" if name in environment else "but it is not set"),
            _BY_HAND,
        )
    return int(text)
