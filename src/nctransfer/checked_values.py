"""Values from JSON that somebody else may have written: each is taken by its name, and checked."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from nctransfer.errors import join_names

__all__ = ["CheckedValues", "check_text"]

NOT_TEXT = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, separators of lines


def check_text(value: Any, what: str) -> str:
    r"""A value that is text, without control characters, line breaks and surrogates.

    Whatever else it holds, it is only text: nothing in a name is a path or markup.

    Raises:
        ValueError: It is not such text.

    >>> check_text("../../etc/passwd", "the class name")
    '../../etc/passwd'
    >>> check_text("a\nb", "the class name")
    Traceback (most recent call last):
    ValueError: the class name 'a\nb' has a control character or a line break
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} is not text")
    if any(unicodedata.category(letter) in NOT_TEXT for letter in value):
        raise ValueError(f"{what} {value[:100]!a} has a control character or a line break")
    return value


class CheckedValues:
    """The values of a JSON object. Each is taken once; :meth:`end` refuses what nobody took.

    Args:
        values: The object.
        name: What it is called in messages.

    Every method raises ValueError, with the reason, for a value that is missing or is not as it should be.

    >>> given = CheckedValues({"images": 3, "x": 1}, "the promise")
    >>> given.whole("images", least=1)
    3
    >>> given.end()
    Traceback (most recent call last):
    ValueError: the promise has unknown values: x
    """

    def __init__(self, values: Any, name: str) -> None:
        if not isinstance(values, dict):
            raise ValueError(f"{name} is not a JSON object")
        self._left: dict[str, Any] = dict(values)
        self._name = name

    def take(self, name: str) -> Any:
        """A value, unchecked."""
        if name not in self._left:
            raise ValueError(f"{self._name} has no {name}")
        return self._left.pop(name)

    def of(self, name: str) -> CheckedValues:
        """A value that is an object itself."""
        return CheckedValues(self.take(name), name)

    def text(self, name: str) -> str:
        """Text; see :func:`check_text`."""
        return check_text(self.take(name), name)

    def text_or_none(self, name: str) -> str | None:
        """Text, or ``None``."""
        value = self.take(name)
        return None if value is None else check_text(value, name)

    def text_or(self, name: str, default: str) -> str:
        """Text, or a default if the value is missing."""
        return check_text(self._left.pop(name, default), name)

    def texts(self, name: str) -> dict[str, str]:
        """An object of which every value is text."""
        values = self.take(name)
        if not isinstance(values, dict):
            raise ValueError(f"{name} is not a JSON object")
        return {check_text(key, name): check_text(value, name) for key, value in values.items()}

    def flag(self, name: str) -> bool:
        """``True`` or ``False``."""
        value = self.take(name)
        if not isinstance(value, bool):
            raise ValueError(f"{name} is neither true nor false")
        return value

    def whole(self, name: str, least: int) -> int:
        """A whole number from ``least`` on."""
        return _whole(self.take(name), name, least)

    def whole_or_none(self, name: str, least: int) -> int | None:
        """A whole number from ``least`` on, or ``None``."""
        value = self.take(name)
        return None if value is None else _whole(value, name, least)

    def string(self, name: str) -> str:
        """Text with any characters, such as a path."""
        return _string(self.take(name), name)

    def string_or_none(self, name: str) -> str | None:
        """Text with any characters, or ``None``."""
        value = self.take(name)
        return None if value is None else _string(value, name)

    def strings(self, name: str) -> tuple[str, ...]:
        """A list of which every item is text with any characters."""
        return tuple(_string(value, name) for value in self.items(name))

    def strings_or_none(self, name: str) -> tuple[str, ...] | None:
        """A list of which every item is text with any characters, or ``None``."""
        if self._left.get(name, ()) is not None:
            return self.strings(name)
        self.take(name)
        return None

    def wholes(self, name: str, least: int) -> tuple[int, ...]:
        """A list of whole numbers from ``least`` on."""
        return tuple(_whole(value, name, least) for value in self.items(name))

    def number(self, name: str, least: float = -math.inf, most: float = math.inf) -> float:
        """A finite number between two limits."""
        return _number(self.take(name), name, least, most)

    def number_or_none(self, name: str, least: float = -math.inf, most: float = math.inf) -> float | None:
        """A finite number between two limits, or ``None``."""
        value = self.take(name)
        return None if value is None else _number(value, name, least, most)

    def interval(self, name: str, least: float, most: float) -> tuple[float, float]:
        """Two finite numbers between two limits, in order."""
        values = [_number(value, name, least, most) for value in self.items(name)]
        if len(values) != 2 or values[0] > values[1]:
            raise ValueError(f"{name} is not an interval")
        return values[0], values[1]

    def items(self, name: str) -> list[Any]:
        """A list, its items unchecked."""
        values = self.take(name)
        if not isinstance(values, list):
            raise ValueError(f"{name} is not a list")
        return values

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An object, its values unchecked."""
        values = self.take(name)
        if not isinstance(values, dict):
            raise ValueError(f"{name} is not a JSON object")
        return values

    def end(self) -> None:
        """Refuse values that were not taken."""
        if self._left:
            names = join_names([check_text(name, f"a name in {self._name}")[:100] for name in self._left])
            raise ValueError(f"{self._name} has unknown values: {names}")


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is not text")
    return value


def _whole(value: Any, name: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        raise ValueError(f"{name} is not a whole number from {least} on")
    return value


def _number(value: Any, name: str, least: float, most: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name} is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or not least <= number <= most:
        raise ValueError(f"{name} is {number:g}, not a finite number from {least:g} to {most:g}")
    return number
