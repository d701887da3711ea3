"""Names of classes, for sources whose labels are codes such as 0 and 1."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from nctransfer.errors import DataError, counted

__all__ = ["distinct_names", "name_of_code"]


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Class names, made different where two are equal: ImageNet has two classes called "crane".

    >>> distinct_names(["crane", "dog", "crane"])
    ('crane (0)', 'dog', 'crane (2)')
    """
    times = collections.Counter(names)
    return tuple(f"{name} ({code})" if times[name] > 1 else name for code, name in enumerate(names))


def name_of_code(code: int, names: Sequence[str] | None, where: str) -> str:
    """The name of the class with a code; without names, the code as text.

    Args:
        code: 0, 1, …
        names: The names of the classes, in the order of their codes.
        where: Where the code was found, for the error message.

    Raises:
        DataError: There is no name for this code.
    """
    if names is None:
        return str(code)
    if not 0 <= code < len(names):
        raise DataError(
            f"{where}: the label is {code}, but there {'is' if len(names) == 1 else 'are'} only "
            f"{counted(len(names), 'class name')}",
            "give a name for each code, in the order 0, 1, …",
        )
    return names[code]
