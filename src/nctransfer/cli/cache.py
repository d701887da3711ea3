"""``nctransfer cache``."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from nctransfer.cli.expanding import expand
from nctransfer.cli.options import OutputOptions
from nctransfer.cli.terminal import Terminal

log = logging.getLogger("nctransfer.cli")

app = typer.Typer(help="List, show, verify or remove what is stored.", no_args_is_help=True)

SetArgument = Annotated[
    str,
    typer.Argument(metavar="SET", help="The id of a stored set, or the beginning of it.", show_default=False),
]


@app.command("list")
@expand
def list_sets(output: OutputOptions) -> None:
    """List the stored sets."""
    with Terminal(output) as terminal:
        from nctransfer.report.store_sheets import sets_sheet
        from nctransfer.store.cache_folder import FeatureStore

        store = FeatureStore(output.cache_dir)
        sets = [stored.manifest() for stored in store.sets()]
        rows = [manifest.to_dict() for manifest in sets]
        terminal.show([sets_sheet(sets, str(store.root))], {"sets": rows}, rows)


@app.command()
@expand
def show(name: SetArgument, output: OutputOptions) -> None:
    """Show one set: what it is, and the Parquet folder to open with other tools."""
    with Terminal(output) as terminal:
        from nctransfer.report.store_sheets import set_sheet
        from nctransfer.store.cache_folder import FeatureStore

        manifest = FeatureStore(output.cache_dir).find(name).manifest()
        data = manifest.to_dict()
        terminal.show([set_sheet(manifest)], data, [data])


@app.command()
@expand
def verify(
    output: OutputOptions,
    name: Annotated[str | None, typer.Argument(metavar="SET", help="Without: every set.", show_default=False)] = None,
) -> None:
    """Check every byte of the stored parts; exit code 1 if one is damaged."""
    with Terminal(output) as terminal:
        from nctransfer.errors import StoreError
        from nctransfer.report.store_sheets import verify_sheet
        from nctransfer.store.cache_folder import FeatureStore

        store = FeatureStore(output.cache_dir)
        sets = [stored.manifest() for stored in ([store.find(name)] if name else store.sets())]
        found = {manifest.id: manifest.damaged(thorough=True) for manifest in sets}
        rows = [{"id": key, "part": part, "damage": why} for key, parts in found.items() for part, why in parts.items()]
        terminal.show([verify_sheet(sets, found)], {"damaged": rows, "sets": len(sets)}, rows)
        if rows:
            raise StoreError(
                f"{len(rows)} damaged parts",
                "run nctransfer extract for these sets again: it redoes their rows and keeps the others",
            )


@app.command()
@expand
def remove(
    name: SetArgument,
    output: OutputOptions,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", show_default=False)] = False,
) -> None:
    """Delete a stored set."""
    with Terminal(output) as terminal:
        from nctransfer.errors import StoreError
        from nctransfer.store.cache_folder import FeatureStore

        stored = FeatureStore(output.cache_dir).find(name)
        if yes or terminal.confirms(f"Delete {stored.id}, {stored.manifest().rows:,} rows?"):
            stored.remove()
        else:
            raise StoreError(f"{stored.id} was not deleted", "answer y, or give --yes")
        log.info("deleted %s", stored.id)


@app.command()
@expand
def path(output: OutputOptions) -> None:
    """Print the folder of the cache."""
    with Terminal(output):
        from nctransfer.store.cache_folder import FeatureStore

        typer.echo(str(FeatureStore(output.cache_dir).root))
