"""The command line: parse, call the library, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nctransfer import __version__
from nctransfer.cli.expanding import add_command
from nctransfer.cli.last_net import caught
from nctransfer.cli.waiting import wait_passively
from nctransfer.errors import NCTransferError

if TYPE_CHECKING:
    app: typer.Typer

__all__ = ["app", "application", "main"]

PANELS = {  # the commands by the question that they answer; each is a function in the file of its name
    "Start here": ("demo", "report"),
    "Which backbone, and how many labels?": ("rank", "labels"),
    "Get features": ("extract", "models", "data", "check"),
    "How good are they?": ("collapse", "fewshot", "expect", "bounds", "explain"),
    "Which labels look wrong?": ("audit",),
    "Label new images": ("fit", "predict", "export", "ood"),
    "Follow training": ("trajectory",),
    "The cache": ("cache",),
}
COMMANDS = tuple(name for names in PANELS.values() for name in names)


def application(only: str | None = None) -> typer.Typer:
    """The command line.

    Args:
        only: The one command that will run. Then the files of the others are not imported, and the group has neither
            shell completion nor a help of its own.
    """
    made = typer.Typer(
        name="nctransfer",
        help="Which frozen backbone fits your images, and how many labels will you need?",
        epilog="Begin with: nctransfer demo. The help of every command, nctransfer COMMAND --help, ends with examples.",
        no_args_is_help=True,
        add_completion=only is None,
        add_help_option=only is None,  # a help that is not asked for would import pydantic
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(_shared)
    for panel, names in PANELS.items():
        for name in names if only is None else {only}.intersection(names):
            module = import_module(f"{__name__}.{name}")
            if name == "cache":
                made.add_typer(module.app, name=name, rich_help_panel=panel)
            else:
                add_command(made, getattr(module, name), panel=panel)
    return made


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nctransfer {__version__}")
        raise typer.Exit


def _shared(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script."""
    _open_closed_streams()
    wait_passively()
    first = sys.argv[1] if len(sys.argv) > 1 else None

    def run() -> None:
        if first in COMMANDS:
            _check_current_folder()
        application(first if first in COMMANDS else None)()

    caught(run)


def _check_current_folder() -> None:
    """Refuse to work in a folder that has been deleted: neither relative paths nor the libraries of PyTorch work there.

    Raises:
        NCTransferError: The current folder does not exist.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise NCTransferError("the current folder does not exist any more", "go to another one by cd") from error


def _open_closed_streams() -> None:
    """Let streams that the caller closed be empty ones: else Python has ``None`` in their place.

    It also keeps the numbers of the streams from the next files that are opened.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - it stays open


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = application()
    return globals()[name]
