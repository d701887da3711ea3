"""Option values that name an entry of a registry: what the help says about them, and what a wrong one is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from nctransfer.errors import PluginError, did_you_mean
from nctransfer.registry import Registry

__all__ = ["choice_of", "listed"]


def listed(
    registry: Registry[Any], condition: Callable[[Any], bool] | None = None, *, with_others: bool | None = None
) -> str:
    """The entries of a registry for a help text: each name, with its meaning.

    Entries of other packages are listed by name alone, since more is known only once they are imported.

    Args:
        registry: The registry; its entries have a ``meaning``.
        condition: Lists only entries of this package for which this is true.
        with_others: Whether entries of other packages are listed; by default if there is no condition.
    """
    own = [f"{name} ({one.meaning})" for name, one in registry.own.items() if condition is None or condition(one)]
    try:
        is_asked = condition is None if with_others is None else with_others
        others = list(registry)[len(registry.own) :] if is_asked else []
    except PluginError:  # it is reported when an option asks for an entry that this package does not have
        others = []
    return ", ".join([*own, *others])


def choice_of(registry: Registry[Any]) -> Callable[[str | None], str | None]:
    """A callback of an option whose value must be the name of an entry."""

    def check(value: str | None) -> str | None:
        try:
            if value is None or value in registry:
                return value
        except PluginError as error:
            raise typer.BadParameter(f"{error.message}; {error.hint}") from error
        message = f"{value!r} is not one of {', '.join(map(repr, registry))}"
        raise typer.BadParameter("; ".join(filter(None, (message, did_you_mean(value, registry)))))

    return check
