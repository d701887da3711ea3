"""The command line: parse, call the library, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from nctransfer import __version__
from nctransfer.cli.bounds import bounds
from nctransfer.cli.cache import app as cache_app
from nctransfer.cli.check import check
from nctransfer.cli.collapse import collapse
from nctransfer.cli.data import data
from nctransfer.cli.demo import demo
from nctransfer.cli.expanding import add_command
from nctransfer.cli.expect import expect
from nctransfer.cli.explain import explain
from nctransfer.cli.extract import extract
from nctransfer.cli.fewshot import fewshot
from nctransfer.cli.models import models
from nctransfer.cli.trajectory import trajectory

__all__ = ["app", "main"]

app = typer.Typer(
    name="nctransfer",
    help="Which frozen backbone fits your images, and how many labels will you need?",
    epilog="Begin with: nctransfer demo. The help of every command, nctransfer COMMAND --help, ends with examples.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PANELS = {  # the commands by the question that they answer
    "Start here": (demo,),
    "Get features": (extract, models, data, check),
    "How good are they?": (collapse, fewshot, expect, bounds, explain),
    "Follow training": (trajectory,),
}
for panel, commands in PANELS.items():
    for command in commands:
        add_command(app, command, panel=panel)
app.add_typer(cache_app, name="cache", rich_help_panel="The cache")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nctransfer {__version__}")
        raise typer.Exit


@app.callback()
def _shared(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script."""
    app()
