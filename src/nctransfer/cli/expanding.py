"""Commands whose parameters are dataclasses of options, and whose help ends with examples."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any

import typer

SHARED_PANELS = ("Data", "Backbone", "How to run", "Output")  # their order in the help, after the command's own

__all__ = ["add_command", "examples", "expanded", "panel_option"]

Command = Callable[..., None]

_examples: dict[Command, tuple[str, ...]] = {}


def panel_option(*names: str, panel: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, show_default=settings.pop("show_default", True), **settings)


def examples(*lines: str) -> Callable[[Command], Command]:
    """Give a command the examples that end its help. A test runs each of them."""

    def mark(command: Command) -> Command:
        _examples[command] = lines
        return command

    return mark


def add_command(app: typer.Typer, command: Command, *, name: str | None = None, panel: str | None = None) -> None:
    """Add a function to an application as a command.

    Args:
        app: The application.
        command: The function. A parameter that is a dataclass becomes one option for each of its fields.
        name: The name of the command, by default that of the function.
        panel: The heading under which the help of the application lists it.
    """
    epilog = "\n".join(("Examples:", *(f"  {line}" for line in _examples[command])))
    app.command(name, epilog=epilog, rich_help_panel=panel)(expanded(command))


def expanded(command: Command) -> Command:
    """The command with one keyword parameter for each field of a dataclass."""
    groups: dict[str, type[Any]] = {}
    flat: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind = parameter.annotation
        if not dataclasses.is_dataclass(kind):
            flat.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = typing.cast("type[Any]", kind)
        hints = typing.get_type_hints(kind, include_extras=True)
        flat += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in dataclasses.fields(kind)
        ]

    flat.sort(key=_place)

    def run(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
        command(**values)

    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return run


def _place(parameter: inspect.Parameter) -> int:
    """Where the help lists an option: those of the command alone come first, then the shared ones by panel."""
    panels = [getattr(one, "rich_help_panel", None) for one in getattr(parameter.annotation, "__metadata__", ())]
    return 1 + SHARED_PANELS.index(panels[0]) if panels and panels[0] in SHARED_PANELS else 0
