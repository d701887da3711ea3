"""Option values as text, parsed."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import typer

__all__ = ["class_names", "decimals", "key_values", "numbers", "numbers_or_all"]


def class_names(path: Path) -> tuple[str, ...]:
    """The names in a file of one name a line."""
    from nctransfer.errors import DataError

    try:
        lines = path.expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise DataError(f"the names in {str(path)!r} cannot be read: {reason}", "needed is one name a line") from error
    return tuple(line.strip() for line in lines if line.strip())


def numbers(text: str, option: str) -> list[int]:
    """A comma list of whole numbers, as in ``--shots 1,5``."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number or a comma list of such", param_hint=option) from None


def numbers_or_all(text: str, option: str) -> list[int | Literal["all"]]:
    """A comma list of whole numbers, in which ``all`` may stand, as in ``--ways 5,all``."""
    found: list[int | Literal["all"]] = []
    for part in text.split(","):
        found += ["all"] if part == "all" else numbers(part, option)
    return found


def decimals(text: str | None, option: str) -> tuple[float, ...] | None:
    """A comma list of numbers, as in ``--mean 0.5,0.5,0.5``."""
    try:
        return tuple(float(part) for part in text.replace(",", " ").split()) if text is not None else None
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number or a comma list of such", param_hint=option) from None


def key_values(given: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs, several in one word if a space divides them; a value is a Python literal, or else text."""
    arguments: dict[str, Any] = {}
    for pair in itertools.chain.from_iterable(text.split() for text in given):
        name, equals, value = pair.partition("=")
        if not (name.isidentifier() and equals):
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--model-kwargs")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments
