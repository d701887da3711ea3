"""``nctransfer cache merge``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer.cli.expanding import examples
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.terminal import Terminal
from nctransfer.paths import expanded, is_file

if TYPE_CHECKING:
    from nctransfer.sources.image_table import ImageTable
    from nctransfer.sources.selection import Selection
    from nctransfer.store.cache_folder import FeatureStore

log = logging.getLogger("nctransfer.cli")

LISTED = 20  # refused files that are printed; JSON lists all


@examples("nctransfer cache merge worker-1/ worker-2/", "nctransfer cache merge worker-1/ --as pets/")
def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER…", help="The caches of other workers. They are only read.", show_default=False),
    ],
    output: OutputOptions,
    source: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="SOURCE",
            help="The images here that the features are of, if the workers read copies at another place: a folder, an "
            "archive or whatever --data takes, or the id of a source.",
            show_default="the source with the same path",
        ),
    ] = None,
) -> None:
    """Join stored features that several workers have extracted, each into a cache of its own.

    Every file is checked before it is taken over, and rows that are here already are left out. So the command can be
    interrupted and run again, also while the workers still extract. The exit code is 1 if something was refused.
    """
    with Terminal(output, after_interruption="what was merged is kept, and the same command goes on") as terminal:
        from nctransfer.errors import StoreError, counted
        from nctransfer.report.store_sheets import merge_sheet
        from nctransfer.store.cache_folder import FeatureStore
        from nctransfer.store.merging import merge as merged

        store = FeatureStore(output.cache_dir)
        known, images = (None, None) if source is None else _source(source, store)
        report = merged(store, [expanded(folder) for folder in folders], known, images, terminal.progress)
        if len(report.sets) == 1 and (stored := store.at(store.root / "features" / report.sets[0].id)):
            store.use(stored, _common_selection(folders))  # as after an extraction
        data = report.to_dict()
        terminal.show([merge_sheet(report)], data, data["sets"])
        for refused in report.refused[:LISTED]:
            log.warning("refused: %r: %s", refused.path, refused.reason)
        if report.refused:
            raise StoreError(
                f"{counted(len(report.refused), 'file or folder', 'files and folders')} of the other caches "
                f"{'was' if len(report.refused) == 1 else 'were'} refused; all else is merged",
                "let the worker run its nctransfer extract again and merge again, or extract here what is missing",
            )


def _common_selection(folders: Sequence[Path]) -> Selection:
    """The selection that all workers used last, if they agree; else that of all images."""
    from nctransfer.errors import StoreError
    from nctransfer.sources.selection import Selection
    from nctransfer.store.cache_folder import FeatureStore

    found = set()
    for folder in folders:
        try:
            last = FeatureStore(expanded(folder)).last_used()
        except StoreError:  # which set the worker used last is not known
            last = None
        found.add(last[1] if last else Selection())
    return found.pop() if len(found) == 1 else Selection()


def _source(name: str, store: FeatureStore) -> tuple[str, ImageTable | None]:
    """The id of a source, which is named like ``--data`` or by its id in the cache, and its images if it is at hand."""
    from nctransfer.sources.image_table import ImageTable
    from nctransfer.sources.opening import open_source

    if name == Path(name).name and is_file(store.root / "sources" / f"{name}.parquet"):
        return name, None
    source = open_source(name)
    return source.id, ImageTable.of(source.list())
