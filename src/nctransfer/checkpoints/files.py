"""The files of checkpoints, and the order in which they were saved."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from nctransfer.errors import WeightsError
from nctransfer.paths import expanded

__all__ = ["find_checkpoints", "steps"]

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".pth.tar", ".bin")
LARGEST_STEP = 10**15  # a larger number is a time or a digest


def find_checkpoints(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[Path, ...]:
    """The files of checkpoints, in the order of the numbers in their names; names without a number come last.

    Args:
        given: Files, patterns such as ``run/epoch-*.safetensors``, and folders that contain checkpoints.

    Raises:
        WeightsError: A file does not exist, or a pattern or folder has no checkpoint.
    """
    names = [os.fspath(given)] if isinstance(given, str | os.PathLike) else [os.fspath(one) for one in given]
    hint = f"give files, a pattern in quotes such as 'run/epoch-*.safetensors', or a folder of {', '.join(SUFFIXES)}"
    if not names:
        raise WeightsError("no checkpoints are given", hint)
    found: dict[Path, None] = {}
    for name in names:
        try:
            files = _files(expanded(name))
        except (
            OSError,
            RuntimeError,
            ValueError,
        ) as error:  # a name that is too long, an unknown user, a null character
            raise WeightsError(f"the checkpoints {name!r} cannot be read: {error}", hint) from error
        if not files:
            raise WeightsError(f"there is no checkpoint {name!r}", hint)
        found |= dict.fromkeys(file.absolute() for file in files)
    return tuple(sorted(found, key=lambda path: (not re.search(r"\d", path.name), _by_number(path))))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = [file for file in path.iterdir() if file.name.endswith(SUFFIXES)]
    elif path.exists():
        found = [path]
    else:
        found = [Path(one) for one in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - absolute patterns too
    return [file for file in found if file.is_file()]


def _by_number(path: Path) -> list[tuple[int, int, str]]:
    """A sort key that puts ``epoch-10`` after ``epoch-9``."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def steps(names: Sequence[str]) -> list[int | None]:
    """The step in each name: the first number that differs between all names, or the only number.

    >>> steps(["vit_16-epoch-1_loss2.31.pth", "vit_16-epoch-12_loss0.52.pth"])
    [1, 12]
    >>> steps(["epoch-1.pth", "epoch-2.pth", "best.pth"])
    [1, 2, None]
    """
    found: list[int | None] = [None] * len(names)
    numbers = {place: [int(number) for number in re.findall(r"\d+", name)] for place, name in enumerate(names)}
    numbers = {place: one for place, one in numbers.items() if one}
    if len({len(one) for one in numbers.values()}) == 1 and (len(numbers) > 1 or len(min(numbers.values())) == 1):
        for column in zip(*numbers.values(), strict=True):
            if len(set(column)) == len(numbers) and max(column) < LARGEST_STEP:
                for place, number in zip(numbers, column, strict=True):
                    found[place] = number
                break
    return found
