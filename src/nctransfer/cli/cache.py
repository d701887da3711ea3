"""``nctransfer cache``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nctransfer.cli.cache_merge import merge
from nctransfer.cli.expanding import add_command, examples
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.terminal import Terminal

if TYPE_CHECKING:
    from nctransfer.store.manifest import Manifest
    from nctransfer.store.stored_set import StoredSet

log = logging.getLogger("nctransfer.cli")

app = typer.Typer(help="List, show, verify, repair, merge or delete stored features.", no_args_is_help=True)

SetArgument = Annotated[
    str,
    typer.Argument(metavar="SET", help="The id of a stored set, or the beginning of it.", show_default=False),
]
SetOrAll = Annotated[
    str | None,
    typer.Argument(
        metavar="SET", help="The id of a stored set, or the beginning of it.", show_default="every stored set"
    ),
]


@examples("nctransfer cache list", "nctransfer cache list --format csv --output sets.csv")
def list_sets(output: OutputOptions) -> None:
    """List the stored feature sets."""
    with Terminal(output) as terminal:
        from nctransfer.errors import StoreError
        from nctransfer.report.store_sheets import sets_sheet
        from nctransfer.store.cache_folder import FeatureStore

        store = FeatureStore(output.cache_dir)
        sets, damaged = {}, []
        for stored in store.sets():
            try:
                sets[stored] = stored.manifest()
            except StoreError as error:
                damaged.append(error)
        rows = [_data(stored, manifest) for stored, manifest in sets.items()]
        terminal.show([sets_sheet(list(sets.values()), str(store.root))], {"sets": rows}, rows)
        if damaged:
            raise damaged[0]


@examples("nctransfer cache show tf_efficientnet_lite0")
def show(name: SetArgument, output: OutputOptions) -> None:
    """Show how one set was made, and the folder of Parquet files that other tools can open."""
    with Terminal(output) as terminal:
        from nctransfer.report.store_sheets import set_sheet
        from nctransfer.store.cache_folder import FeatureStore
        from nctransfer.store.kept_results import KeptResults

        stored = FeatureStore(output.cache_dir).find(name)
        manifest = stored.manifest()
        data = _data(stored, manifest)
        terminal.show([set_sheet(manifest, KeptResults(stored).size())], data, [data])


@examples("nctransfer cache verify")
def verify(output: OutputOptions, name: SetOrAll = None) -> None:
    """Check every byte of the stored files. The exit code is 1 if a file is damaged."""
    with Terminal(output) as terminal:
        from nctransfer.errors import StoreError, counted
        from nctransfer.report.store_sheets import verify_sheet
        from nctransfer.store.cache_folder import FeatureStore
        from nctransfer.store.verifying import verify as verified

        store = FeatureStore(output.cache_dir)
        found = verified(store, [store.find(name).path] if name else store.folders())
        rows = [damage._asdict() for damage in found.damaged]
        terminal.show([verify_sheet(found)], {"damaged": rows, "sets": found.sets, "parts": found.parts}, rows)
        if rows:
            raise StoreError(
                f"{counted(len(rows), 'file')} of the stored features {'is' if len(rows) == 1 else 'are'} damaged",
                "run nctransfer cache repair: it keeps what is whole; then extract what was lost again",
            )


@examples("nctransfer cache repair")
def repair(output: OutputOptions, name: SetOrAll = None) -> None:
    """Delete damaged files, and make lost manifests anew from the rows that are whole."""
    with Terminal(output) as terminal:
        from nctransfer.errors import StoreError
        from nctransfer.report.store_sheets import repair_sheet
        from nctransfer.store.cache_folder import FeatureStore
        from nctransfer.store.repairing import mend

        store = FeatureStore(output.cache_dir)
        folders = [store.find(name).path] if name else store.folders()
        sets = {path: store.at(path) for path in folders}
        found = {stored.id: mend(stored) for stored in sets.values() if stored}
        deleted, restored = (
            [
                {"id": key, "file": file, "was": was, "reason": why}
                for key, mended in found.items()
                for file, why in getattr(mended, was).items()
            ]
            for was in ("deleted", "restored")
        )
        data = {"deleted": deleted, "restored": restored, "sets": len(found)}
        terminal.show([repair_sheet(found)], data, [*deleted, *restored])
        if hopeless := [path for path, stored in sets.items() if stored is None]:
            raise StoreError(
                f"{str(hopeless[0])!r} cannot be repaired: nothing in it says what it holds", "delete this folder"
            )


@examples("nctransfer cache remove tf_efficientnet_lite0 --yes")
def remove(
    name: SetArgument,
    output: OutputOptions,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.", show_default=False)] = False,
) -> None:
    """Delete a stored set."""
    with Terminal(output) as terminal:
        from nctransfer.errors import StoreError
        from nctransfer.store.cache_folder import FeatureStore

        stored = FeatureStore(output.cache_dir).find(name)
        if yes or terminal.confirms(f"Delete {stored.id}, {_size(stored)}?"):
            stored.remove()
        else:
            raise StoreError(f"{stored.id} was not deleted", "answer y, or give --yes")
        log.info("deleted %s", stored.id)


@examples("nctransfer cache path")
def path(output: OutputOptions) -> None:
    """Print the folder of the cache."""
    with Terminal(output) as terminal:
        from nctransfer.store.cache_folder import FeatureStore

        terminal.write(f"{FeatureStore(output.cache_dir).root}\n")


def _size(stored: StoredSet) -> str:
    """How many rows a set has, in words."""
    from nctransfer.errors import StoreError

    try:
        return f"{stored.manifest().rows:,} rows"
    except StoreError:
        return "whose manifest is damaged"


def _data(stored: StoredSet, manifest: Manifest) -> dict[str, Any]:
    """A set for JSON, with the number and the bytes of the results that are kept with it."""
    from nctransfer.store.kept_results import KeptResults

    results = KeptResults(stored).size()
    return {**manifest.to_dict(), "results": results.number, "result_bytes": results.bytes}


add_command(app, list_sets, name="list")
for command in (show, verify, repair, merge, remove, path):
    add_command(app, command)
