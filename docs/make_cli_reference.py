"""Make ``docs/reference/cli.md`` from the code of the command line, so that the two cannot differ.

python docs/make_cli_reference.py

A test compares the file with what this script makes.
"""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from nctransfer.cli import app

PAGE = Path(__file__).parent / "reference" / "cli.md"
SHARED_BY = 4  # an option that reads the same in so many commands is described once, at the end

HEAD = """\
<!-- Made by docs/make_cli_reference.py. Do not edit it: change the help texts in the code, and run that script. -->

# Command line

Results go to stdout; notes, progress and errors go to stderr. The exit code is 0 when the command is done, 1 when the
data or the request has an error, 2 when the options cannot be parsed, and 130 when the command was interrupted.
`nctransfer COMMAND --help` prints the same texts as this page.

| command | what it does |
|---|---|
"""


class Option(NamedTuple):
    """One option or argument, as a row of a table."""

    flags: str
    value: str
    default: str
    help: str
    panel: str

    @property
    def row(self) -> str:
        """The row, in Markdown."""
        value = f" {_code(self.value)}" if self.value else ""
        default = f" Default: {_code(self.default)}." if self.default else ""
        return f"| {self.flags}{value} | {_cell(self.help)}{default} |"


class Command(NamedTuple):
    """One command with its options."""

    name: str
    help: str
    epilog: str
    arguments: Sequence[Option]
    options: Sequence[Option]


def main() -> None:
    """Write the page."""
    PAGE.write_text(reference(), encoding="utf-8")


def reference() -> str:
    """The page, in Markdown."""
    commands = list(_commands(app, typer.main.get_command(app), ()))
    seen = [option for command in commands for option in command.options]
    shared = [option for option in dict.fromkeys(seen) if seen.count(option) >= SHARED_BY]
    table = "\n".join(
        f"| [`{one.name}`](#{_anchor(one.name)}) | {_cell(one.help.partition(chr(10) * 2)[0])} |" for one in commands
    )
    parts = [HEAD + table, *(_section(command, shared) for command in commands), _shared_section(shared)]
    return "\n\n".join(parts) + "\n"


def _commands(tree: typer.Typer, group: Any, prefix: tuple[str, ...]) -> Iterator[Command]:
    """Every command, those of sub-groups included, in the order of the help."""
    callbacks = {_name(info): info.callback for info in tree.registered_commands}
    subtrees = {info.name: info.typer_instance for info in tree.registered_groups}
    for name, command in group.commands.items():
        if name in subtrees:
            yield from _commands(subtrees[name], command, (*prefix, name))
            continue
        hints = inspect.signature(callbacks[name]).parameters
        found = [(one.param_type_name, _option(one, hints[one.name].annotation)) for one in command.params]
        yield Command(
            " ".join(("nctransfer", *prefix, name)),
            inspect.cleandoc(command.help or ""),
            inspect.cleandoc(command.epilog or ""),
            [option for kind, option in found if kind == "argument"],
            [option for kind, option in found if kind == "option"],
        )


def _name(info: Any) -> str:
    return info.name or info.callback.__name__.replace("_", "-")


def _option(parameter: Any, annotation: Any) -> Option:
    if parameter.param_type_name == "argument":
        flags, value = _code(parameter.metavar or parameter.name.upper()), ""
    else:
        flags = ", ".join(map(_code, (*parameter.opts, *parameter.secondary_opts)))
        value = "" if parameter.is_flag else parameter.metavar or _kind(annotation)
    default = parameter.default
    if isinstance(parameter.show_default, str):
        default = parameter.show_default
    elif isinstance(default, bool) or default in (None, "", [], ()) or not parameter.show_default:
        default = ""
    elif isinstance(default, enum.Enum):
        default = default.value
    return Option(flags, value, str(default), parameter.help or "", parameter.rich_help_panel or "Options")


def _kind(annotation: Any) -> str:
    """What kind of value an option takes, from the annotation of its parameter."""
    while typing.get_origin(annotation) in (typing.Annotated, typing.Union, types.UnionType, list):
        annotation = next(one for one in typing.get_args(annotation) if one is not type(None))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "|".join(member.value for member in annotation)
    return {int: "N", float: "X", Path: "FILE"}.get(annotation, "TEXT")


def _section(command: Command, shared: Sequence[Option]) -> str:
    own = [option for option in command.options if option not in shared]
    common = [option for option in command.options if option in shared]
    arguments = " ".join(option.flags.strip("`") for option in command.arguments)
    parts = [f"## {command.name}", command.help, f"```text\n{command.name} [OPTIONS] {arguments}".rstrip() + "\n```"]
    if command.arguments:
        parts.append(_table("argument", command.arguments))
    parts += [_table(panel.lower(), rows) for panel, rows in _by_panel(own)]
    if common:
        panels = (
            f"- [{panel}](#{_anchor(panel)}): {', '.join(row.flags.partition(',')[0] for row in rows)}"
            for panel, rows in _by_panel(common)
        )
        parts.append("\n".join(("[Shared options](#shared-options):", "", *panels)))
    if command.epilog:
        title, _, lines = command.epilog.partition("\n")
        parts.append(f"{title}\n\n```text\n{inspect.cleandoc(lines)}\n```")
    return "\n\n".join(parts)


def _shared_section(shared: Sequence[Option]) -> str:
    parts = ["## Shared options", "These options mean the same in every command that has them."]
    for panel, rows in _by_panel(shared):
        parts += [f"### {panel}", _table("option", rows)]
    return "\n\n".join(parts)


def _by_panel(options: Sequence[Option]) -> list[tuple[str, list[Option]]]:
    panels = dict.fromkeys(option.panel for option in options)
    return [(panel, [option for option in options if option.panel == panel]) for panel in panels]


def _table(title: str, rows: Sequence[Option]) -> str:
    return "\n".join((f"| {title} | |", "|---|---|", *(option.row for option in rows)))


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").split())


if __name__ == "__main__":
    main()
