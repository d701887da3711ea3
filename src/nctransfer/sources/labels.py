"""Class names, where a source has codes."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from nctransfer.errors import DataError, counted

__all__ = ["named", "unlike"]


def unlike(names: Sequence[str]) -> tuple[str, ...]:
    """Names, each made different from the others: ImageNet has two classes "crane".

    >>> unlike(["crane", "dog", "crane"])
    ('crane (0)', 'dog', 'crane (2)')
    """
    times = collections.Counter(names)
    return tuple(f"{name} ({code})" if times[name] > 1 else name for code, name in enumerate(names))


def named(code: int, names: Sequence[str] | None, where: str) -> str:
    """The name of a class by its code; without names the code itself.

    Args:
        code: 0, 1, …
        names: The names in the order of the codes.
        where: Where the code stands, for the message.

    Raises:
        DataError: There are fewer names.
    """
    if names is None:
        return str(code)
    if not 0 <= code < len(names):
        raise DataError(
            f"{where}: the label is {code}, with {counted(len(names), 'class name')}",
            "needed is a name for each code, in the order 0, 1, …",
        )
    return names[code]
