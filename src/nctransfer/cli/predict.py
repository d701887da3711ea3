"""``nctransfer predict``."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import itertools
import logging
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer.cli.backbone_options import PluginOption
from nctransfer.cli.data_options import BatchSizeOption, OfflineOption, ReadingFlags, SplitOption, WorkersOption
from nctransfer.cli.expanding import examples, panel_option
from nctransfer.cli.output_options import PrintOptions
from nctransfer.cli.parsing import share
from nctransfer.cli.terminal import Terminal, provenance
from nctransfer.errors import counted
from nctransfer.paths import expanded
from nctransfer.sources.registry import describe_sources

if TYPE_CHECKING:
    from nctransfer.heads.head import Head
    from nctransfer.heads.prediction import Prediction
    from nctransfer.heads.prediction_summary import PredictionSummary, PredictionTally
    from nctransfer.report.sheet import Sheet
    from nctransfer.sources.source import ImageEntry, ImageSource

log = logging.getLogger("nctransfer.cli")

NO_LIMIT = {"--max-error": 1.0, "--max-lost": 0.0}
ROWS = ("csv", "json", "jsonl")  # formats that print every prediction as soon as it is made


@examples(
    "nctransfer predict pets.head new_photos/ -o labels.csv",
    "nctransfer predict pets.head new_photos/ --max-lost 1% --format csv",
)
def predict(
    head: Annotated[Path, typer.Argument(metavar="HEAD", help="The head: a file that nctransfer fit wrote.")],
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES", help=f"The images, with labels or without: {describe_sources(labels_optional=True)}."
        ),
    ],
    reading: ReadingFlags,
    output: PrintOptions,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write all predictions to this .csv, .jsonl or .parquet file. Until the end they are in FILE.partial.",
            show_default="the first ones are shown; --format csv, json or jsonl prints all",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the FILE.partial of a run that did not end, if there is one.",
            show_default=False,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a FILE that exists, and the FILE.partial too.", show_default=False),
    ] = False,
    max_error: Annotated[
        str | None,
        typer.Option(
            "--max-error",
            metavar="PERCENT|none",
            help="The largest share of wrong answers among the answered images. Images between two classes are not "
            "answered, as far as that is needed; with none, all are.",
            show_default="what the head was fitted with",
        ),
    ] = None,
    max_lost: Annotated[
        str | None,
        typer.Option(
            "--max-lost",
            metavar="PERCENT|none",
            help="The share of good images that may be held back as unlike every class; with none, no image is.",
            show_default="what the head was fitted with",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        panel_option(
            "--checkpoint",
            panel="Backbone",
            metavar="FILE",
            help="The file of the backbone's weights, if the head was fitted with your own; for a local-dir: "
            "model, its folder.",
            show_default="the published weights",
        ),
    ] = None,
    plugin: PluginOption = None,
    split: SplitOption = None,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    offline: OfflineOption = False,
) -> None:
    """Label images with a head.

    An image that cannot be read is a row with the reason, not an error. Where images have labels, the accuracy stands
    beside the one that was promised when the head was fitted.
    """
    asked = _limit(max_error, "--max-error"), _limit(max_lost, "--max-lost")
    if file is None and (resume or overwrite):
        raise typer.BadParameter("it needs --output FILE", param_hint="--resume" if resume else "--overwrite")
    kept = "nothing was written" if file is None else "the same command with --resume goes on from there"
    with Terminal(output, {"--output": file}, after_interruption=kept) as terminal:
        from nctransfer.heads.backbone_match import fast_backbone_for
        from nctransfer.heads.head_files import load_head
        from nctransfer.heads.predicting import Predictor, limits_of
        from nctransfer.heads.prediction_journal import check_output, open_journal
        from nctransfer.heads.prediction_sample import PredictionSample
        from nctransfer.heads.prediction_summary import PredictionTally
        from nctransfer.heads.run_settings import RunSettings
        from nctransfer.report.predict_sheets import prediction_sheets
        from nctransfer.store.atomic_files import file_sha256

        if file is not None:
            check_output(file, resume=resume, overwrite=overwrite)
        loaded = load_head(head)
        error, limits = limits_of(loaded, *asked)
        source, entries = _listed(images, reading, split, offline)
        where = {"checkpoint": checkpoint, "plugin": plugin, "offline": offline, "device": output.device}
        backbone = fast_backbone_for(loaded, **where, progress=terminal.progress)
        predictor = Predictor(head=loaded, backbone=backbone, limits=limits, batch_size=batch_size, workers=workers)
        tally, first, sample = PredictionTally(loaded, error, limits.error_bound), [], PredictionSample()
        run = functools.partial(predictor.rows, source, entries, tally, progress=terminal.progress)
        if file is not None:
            settings = RunSettings(
                head=file_sha256(expanded(head)),
                source=source.id,
                images=source.name,
                max_error=error,
                max_lost=loaded.max_lost if asked[1] is None else asked[1],
                split=split,
            )
            with open_journal(file, settings, resume=resume, overwrite=overwrite) as journal:
                sample.take(run(journal=journal))
                journal.finish(entries)
            _say_what_is_done(file, len(entries), journal.known if resume else None)
        elif output.format in ROWS:
            _print_rows(run(), output.format, terminal, tally)
            return
        else:
            first = _first_rows(run())
        _show(terminal, tally.summary(), prediction_sheets(tally.summary(), first, _about(loaded, source), sample))


def _say_what_is_done(file: Path, predictions: int, known: int | None) -> None:
    """Notes at the end of a file: how many predictions it has, and how many an earlier run had made."""
    log.info("%s written to %s", counted(predictions, "prediction"), file)
    if known is not None:
        log.info("%s of %s were done already", f"{known:,}", f"{predictions:,}")


def _limit(text: str | None, option: str) -> float | None:
    """The value of an option; 1 for ``none``, and ``None`` for what the head was fitted with."""
    if text is None:
        return None
    return NO_LIMIT[option] if text == "none" else share(text, option, may_be_zero=option == "--max-lost")


def _listed(
    images: str, reading: ReadingFlags, split: str | None, offline: bool
) -> tuple[ImageSource, Sequence[ImageEntry]]:
    """The source, and the images that are wanted of it."""
    from nctransfer.sources.image_table import ImageTable
    from nctransfer.sources.opening import open_source
    from nctransfer.sources.selection import Selection

    source = open_source(images, dataclasses.replace(reading.reading(split, offline), labels_optional=True))
    entries = ImageTable.of(source.list())
    log.info("%s: %s, %s", source.name, source.kind, counted(len(entries), "image"))
    for note in source.notes:
        log.warning("%s: %s", source.name, note)
    return source, Selection(split).choose(entries)


def _first_rows(rows: Iterable[Prediction]) -> list[Prediction]:
    """Make all predictions, and keep those that a table shows."""
    from nctransfer.report.predict_sheets import SHOWN

    rows = iter(rows)
    first = list(itertools.islice(rows, SHOWN))
    collections.deque(rows, maxlen=0)
    return first


def _print_rows(rows: Generator[Prediction, None, None], form: str, terminal: Terminal, tally: PredictionTally) -> None:
    """Print every prediction as soon as it is made, and the summary on stderr."""
    from nctransfer.heads.prediction_files import csv_lines, json_lines

    if sys.stdout.isatty():
        terminal.pause()  # rows and a progress bar would run into each other
    lines = {"csv": csv_lines, "jsonl": json_lines}.get(form, functools.partial(_json_parts, tally=tally))
    with contextlib.closing(rows):
        for line in lines(rows):
            terminal.write(line)
    terminal.pause()
    _note(tally.summary())


def _json_parts(rows: Iterable[Prediction], tally: PredictionTally) -> Iterator[str]:
    """One JSON object with all predictions, and behind them the summary, part by part."""
    from nctransfer.heads.prediction_files import json_line
    from nctransfer.report.json_text import to_json

    yield '{"predictions": ['
    for number, row in enumerate(rows):
        yield (",\n" if number else "\n") + json_line(row)
    rest = to_json({"summary": tally.summary().to_dict(), "provenance": provenance()})
    yield "\n],\n" + rest.removeprefix("{\n") + "\n"


def _note(summary: PredictionSummary) -> None:
    """What a reader of rows should know."""
    from nctransfer.report.predict_sheets import answered_words, summary_words

    for warning in summary.warnings:
        log.warning("%s", warning)
    log.info("%s", answered_words(summary))
    for words in summary_words(summary):
        log.info("%s", words)


def _about(head: Head, source: ImageSource) -> dict[str, str]:
    """Facts about the head and the images."""
    key = head.origin.key
    return {
        "head": f"{head.classifier}, {counted(len(head.classes), 'class', 'classes')}",
        "backbone": key.model if key else "",
        "images of": source.name,
    }


def _show(terminal: Terminal, summary: PredictionSummary, sheets: Sequence[Sheet]) -> None:
    """Print the numbers and some predictions."""
    classes = [{"class": name, "answered": number} for name, number in summary.classes.items()]
    for warning in summary.warnings:
        log.warning("%s", warning)
    terminal.show(sheets, {"summary": summary.to_dict()}, classes)
