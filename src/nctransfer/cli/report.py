"""``nctransfer report``."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.chosen_features import ChosenFeatures, Wanted
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, StoredSelectionOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.feature_arguments import DropDuplicates, FeatureColumn, ReportedFeatures
from nctransfer.cli.output_options import PrintOptions
from nctransfer.cli.parsing import percents
from nctransfer.cli.set_names import plain_names
from nctransfer.cli.terminal import Terminal, provenance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nctransfer.cli.chosen_features import Found
    from nctransfer.features.feature_stream import Features
    from nctransfer.page.measuring import Questions
    from nctransfer.page.report_page import WrittenReport
    from nctransfer.store.measured_speed import Speed

log = logging.getLogger("nctransfer.cli")

_SHOW = "What to show"


@dataclasses.dataclass(frozen=True)
class PageOptions:
    """What is on the page."""

    target: Annotated[
        str,
        typer.Option(
            "--target",
            "-t",
            rich_help_panel=_SHOW,
            metavar="PERCENT,…",
            help="Accuracies for which the number of labelled images per class is wanted, for example 90%,95%.",
        ),
    ] = "90%,95%"
    max_images: Annotated[
        int,
        typer.Option(
            "--max-images",
            rich_help_panel=_SHOW,
            metavar="N",
            min=4,
            help="Look at this many images at most: the same number of each class, drawn at random.",
        ),
    ] = 20_000
    max_thumbnails: Annotated[
        int,
        typer.Option(
            "--max-thumbnails",
            rich_help_panel=_SHOW,
            metavar="N",
            min=0,
            help="Number of small images in the file, at most. 0 leaves them out, for data that must not be passed on.",
        ),
    ] = 2_500
    umap: Annotated[
        bool,
        typer.Option(
            "--umap",
            rich_help_panel=_SHOW,
            help="Also place images by UMAP, whose distances are not facts. It needs the package umap-learn.",
            show_default=False,
        ),
    ] = False
    save_map: Annotated[
        Path | None,
        typer.Option(
            "--save-map",
            rich_help_panel=_SHOW,
            metavar="FILE",
            help="Write the place of each image and its nearest images to this Parquet file, which Apple's "
            "embedding-atlas opens.",
        ),
    ] = None

    def check(self, output: Path, overwrite: bool) -> None:
        """Refuse before the work what could not be done or written after it."""
        from nctransfer.maps.map_files import check_map_file
        from nctransfer.page.page_files import check_page_file

        check_page_file(output, overwrite)
        if self.save_map is not None:
            check_map_file(self.save_map, overwrite)
        if self.umap:
            from nctransfer.maps.umap_layout import check_umap

            check_umap()

    def save(self, written: WrittenReport, overwrite: bool, device: str) -> None:
        """Write the map as a table, if that was asked for."""
        from nctransfer.maps.map_files import save_map

        if self.save_map is not None:
            measured = written.measured
            save_map(measured.image_map, measured.features, self.save_map, overwrite=overwrite, device=device)


@examples(
    "nctransfer report --output report.html",
    "nctransfer report --data pets/ --output pets.html --target 95%",
)
def report(
    backbone: BackboneOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: StoredSelectionOptions,
    page: PageOptions,
    printing: PrintOptions,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Write the page to this file, such as report.html.")
    ],
    features: ReportedFeatures = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the files of --output and --save-map if they exist.", show_default=False
        ),
    ] = False,
    image_place: Annotated[
        str | None,
        typer.Option(
            "--images",
            rich_help_panel="Data",
            metavar="DATA",
            help="Where the images of FEATURES are: a folder, an archive or a table, as for --data.",
            show_default="where they were when the features were extracted",
        ),
    ] = None,
    feature_column: FeatureColumn = None,
    drop_duplicates: DropDuplicates = False,
) -> None:
    """Write everything about your images and backbones into one HTML file: verdicts, maps, pictures, labels to check.

    The file opens in any browser without a network. It holds small copies of some of the images.
    """
    percents(page.target, "--target")  # wrong targets are refused before anything is loaded
    names: list[str | None] = [*features] if features else [None]
    with Terminal(printing, {"--output": output, "--save-map": page.save_map}) as terminal:
        from nctransfer.neural_collapse.collapse_report import usable_classes
        from nctransfer.page.report_page import write_report
        from nctransfer.page.written_sheet import written_sheet

        page.check(output, overwrite)
        given = ChosenFeatures(
            Wanted(backbone, images, _of_features(reading, image_place), chosen),
            feature_column,
            printing,
            terminal,
            drop_duplicates,
            rehearse=usable_classes,
        )
        found, given, of = _to_look_at([given.find(name) for name in names], given, page.max_images)
        sets = [given.read_of(one) for one in found]
        labelled = plain_names(sets)
        written = write_report(
            dict(zip(labelled, sets, strict=True)),
            output,
            images=image_place if image_place is not None else images.data,
            reading=reading.reading(chosen.split, images.offline),
            asked=_questions(page, found, labelled, given),
            of=of,
            most_images=page.max_images,
            most_thumbnails=page.max_thumbnails,
            provenance=provenance(chosen.seed),
            seed=chosen.seed,
            overwrite=overwrite,
            device=printing.device,
            progress=terminal.progress,
        )
        page.save(written, overwrite, printing.device)
        for notice in written.page.notices:
            log.warning("%s", notice)
        shown = written.to_dict()
        terminal.show([written_sheet(written)], shown, [shown], chosen.seed)


def _of_features(reading: ReadingFlags, image_place: str | None) -> ReadingFlags:
    """How features are read; with ``--images``, the options about images are for these."""
    if image_place is None:
        return reading
    return dataclasses.replace(reading, image_column=None, image_root=None, data_dir=None)


def _to_look_at(
    found: Sequence[Found], given: ChosenFeatures, most: int
) -> tuple[Sequence[Found], ChosenFeatures, dict[str, int]]:
    """The features with no more images than are looked at, how to read them, and the sizes of the first's classes."""
    from nctransfer.page.measuring import per_class

    streams = [given.stream_of(one) for one in found]
    counts = dict(zip(streams[0].classes, streams[0].counts.tolist(), strict=True))
    limit = per_class(list(counts.values()), most)
    if limit is None:
        return found, given, counts
    limit = min(limit, given.wanted.chosen.max_per_class or limit)
    fewer = given.but(chosen=dataclasses.replace(given.wanted.chosen, max_per_class=limit))
    return [_limited(one, limit) for one in found], fewer, counts


def _limited(found: Found, limit: int) -> Found:
    """Stored features with at most so many images of each class; a file is read with the options of the command."""
    if isinstance(found, Path):
        return found
    stored, selection = found
    return stored, dataclasses.replace(selection, max_per_class=limit)


def _questions(page: PageOptions, found: Sequence[Found], names: Sequence[str], given: ChosenFeatures) -> Questions:
    from nctransfer.page.measuring import Questions

    return Questions(
        targets=percents(page.target, "--target"),
        umap=page.umap,
        speeds=_speeds(found, names, given),
        layers=_layers(found[0], given),
    )


def _layers(found: Found, given: ChosenFeatures) -> dict[str, Features]:
    """The layers of stored features, from the first to the last; none if there is only the last."""
    if isinstance(found, Path) or given.column is not None:
        return {}
    from nctransfer.errors import IncompleteError

    stored, selection = found
    snapshot = stored.snapshot()
    columns = snapshot.manifest.columns
    layers = sorted((name for name in columns if name.startswith("layer_")), key=lambda name: int(name[6:]))
    if not layers:
        return {}
    try:
        return {
            name: snapshot.stream(
                selection, name, columns, partial=given.allows_partial, label_column=given.label_column
            )
            for name in [*layers, "feature"]
        }
    except IncompleteError as error:
        log.warning("the page does not show layers: %s", error.message)
        return {}


def _speeds(found: Sequence[Found], names: Sequence[str], given: ChosenFeatures) -> dict[str, Speed | None]:
    """How fast each backbone ran, as far as it is known."""
    from nctransfer.store.measured_speed import measured_speed

    runtime = given.wanted.images.runtime(given.output.device)
    return {
        name: None if isinstance(one, Path) else measured_speed(one[0], runtime)
        for name, one in zip(names, found, strict=True)
    }
