"""Option values as text, parsed."""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    from nctransfer.episodes.classifier import RidgePenalty

__all__ = [
    "decimals",
    "duration",
    "key_values",
    "number_or_all",
    "numbers",
    "numbers_or_all",
    "percents",
    "ridge_penalty",
    "share",
]


def numbers(text: str, option: str, least: int | None = None) -> list[int]:
    """Whole numbers with commas between them, as in ``--shots 1,5``, none of them below ``least``."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"expected whole numbers such as 5 or 1,5,10, got {text!r}", param_hint=option
        ) from None
    if least is not None and min(found) < least:
        raise typer.BadParameter(f"expected {least} or more, got {min(found)}", param_hint=option)
    return found


def numbers_or_all(text: str, option: str) -> list[int | Literal["all"]]:
    """Whole numbers or ``all``, with commas between them, as in ``--ways 5,all``."""
    found: list[int | Literal["all"]] = []
    for part in text.split(","):
        found += ["all"] if part == "all" else numbers(part, option)
    return found


def number_or_all(text: str, option: str) -> int | None:
    """A number of rows to show, such as ``--pairs 5``; ``None`` for ``all``."""
    if text != "all" and not text.isdecimal():
        raise typer.BadParameter(f"expected a whole number or all, got {text!r}", param_hint=option)
    return None if text == "all" else int(text)


def decimals(text: str | None, option: str) -> tuple[float, ...] | None:
    """Numbers with commas between them, as in ``--mean 0.5,0.5,0.5``."""
    try:
        return tuple(float(part) for part in text.replace(",", " ").split()) if text is not None else None
    except ValueError:
        raise typer.BadParameter(
            f"expected numbers such as 0.5 or 0.5,0.5,0.5, got {text!r}", param_hint=option
        ) from None


def percents(text: str, option: str) -> tuple[float, ...]:
    """Shares with commas between them, as in ``--target 90%,0.95,99``: above 1, a number without a sign is in percent.

    >>> percents("90%,0.95,99", "--target")
    (0.9, 0.95, 0.99)
    """
    found = []
    for part in text.split(","):
        number, sign = part.strip().removesuffix("%"), part.strip().endswith("%")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        share = float(f"{value / 100:.12g}") if sign or value > 1 else value
        if not 0 < share <= 1:
            raise typer.BadParameter(
                f"expected percentages above 0% and at most 100%, such as 90% or 90%,95%, got {part.strip()!r}",
                param_hint=option,
            )
        found.append(share)
    return tuple(dict.fromkeys(found))


def share(text: str, option: str, *, may_be_zero: bool = False) -> float:
    """A share below 1, as in ``--max-error 2%`` or ``0.02``. A number from 1 on needs the sign.

    >>> share("2%", "--max-error"), share("0.02", "--max-error"), share("1%", "--max-error")
    (0.02, 0.02, 0.01)
    """
    number, sign = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(f"{float(number) / 100:.12g}") if sign else float(number)
    except ValueError:
        value = math.nan
    if not (0 < value < 1 or (may_be_zero and value == 0)):
        hint = f"; write {number}% for that many percent" if not sign and 1 <= value < 100 else ""
        least = "at least 0%" if may_be_zero else "above 0%"
        raise typer.BadParameter(
            f"expected a share such as 2% or 0.02, {least} and below 100%, got {text.strip()!r}{hint}",
            param_hint=option,
        )
    return value


def ridge_penalty(text: str) -> RidgePenalty:
    """The value of ``--ridge-lambda``: a number, ``loo`` or ``paper``."""
    if text == "loo":
        return "loo"
    if text == "paper":
        return "paper"
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(
            f"expected a number, loo or paper, got {text!r}", param_hint="--ridge-lambda"
        ) from None


def duration(text: str, option: str) -> float:
    """A time in seconds, as in ``--budget 30m``: numbers of h, m and s; a number alone is in seconds.

    >>> duration("1h30m", "--budget"), duration("90s", "--budget"), duration("0.5h", "--budget")
    (5400.0, 90.0, 1800.0)
    """
    found = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m(?:in)?)?(?:([\d.]+)s?)?", text.strip().lower())
    parts = found.groups(default="0") if found else ()
    try:
        seconds = sum((float(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=False)), 0.0)
    except ValueError:  # such as 1.2.3
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise typer.BadParameter(f"expected a time such as 30m, 2h or 90s, got {text!r}", param_hint=option)
    return seconds


def key_values(given: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs. One text may hold several with spaces between them.

    A value is read as a Python literal, such as a number, ``True`` or ``(1,2)``, and as text if it is none.
    """
    arguments: dict[str, Any] = {}
    for pair in itertools.chain.from_iterable(text.split() for text in given):
        name, equals, value = pair.partition("=")
        if not (name.isidentifier() and equals):
            raise typer.BadParameter(f"expected KEY=VALUE, got {pair!r}", param_hint="--model-kwargs")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # all that literal_eval documents
            arguments[name] = value
    return arguments
