"""``nctransfer audit``."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.chosen_features import ChosenFeatures, Wanted
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, StoredSelectionOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.feature_arguments import AuditedFeatures, FeatureColumn
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.parsing import number_or_all, share
from nctransfer.cli.terminal import Terminal
from nctransfer.paths import is_file, is_folder
from nctransfer.sources.manifest import SUFFIXES

if TYPE_CHECKING:
    import pyarrow as pa

    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.label_audit.flags import AuditResult
    from nctransfer.label_audit.ticked_findings import Decisions, TickedFinding

log = logging.getLogger("nctransfer.cli")

_SHOW = "What to show"


@dataclasses.dataclass(frozen=True)
class FlagOptions:
    """Which flags are raised, and what is done with them."""

    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            "-k",
            metavar="NAME,…",
            help="What to look for: label (labels that are likely wrong), duplicate (images that show the same "
            "picture), outlier (images unlike every class).",
        ),
    ] = "label,duplicate,outlier"
    level: Annotated[
        str,
        typer.Option(
            "--level",
            metavar="PERCENT",
            help="Flag labels that are wrong with at least this estimated probability. Of the outliers, at least this "
            "share would not be expected by chance. A lower level flags more.",
        ),
    ] = "50%"
    most: Annotated[
        str,
        typer.Option(
            "--most",
            rich_help_panel=_SHOW,
            metavar="N|all",
            help="Number of flags of each kind in the table, the surest first. JSON, CSV and files have all.",
        ),
    ] = "20"
    save_flags: Annotated[
        Path | None,
        typer.Option(
            "--save-flags", rich_help_panel=_SHOW, metavar="FILE", help="Write every flag to this Parquet file."
        ),
    ] = None
    corrections: Annotated[
        Path | None,
        typer.Option(
            "--corrections",
            rich_help_panel=_SHOW,
            metavar="FILE",
            help="Write all images with their labels to this .csv, .tsv or .jsonl file, those with flags first. "
            "Correct its column label, and --data reads the file.",
        ),
    ] = None
    ticked: Annotated[
        Path | None,
        typer.Option(
            "--ticked",
            rich_help_panel=_SHOW,
            metavar="FILE",
            help="Apply the findings in this CSV file, which the page of nctransfer report exports, to the table of "
            "--corrections: images get the suggested class, and duplicates and outliers without one are left out.",
        ),
    ] = None
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            rich_help_panel=_SHOW,
            help="Replace the file of --corrections if it exists.",
            show_default=False,
        ),
    ] = False

    @property
    def share(self) -> float:
        """The level as a share."""
        return share(self.level, "--level")


@examples(
    "nctransfer audit --data pets/",
    "nctransfer audit --kind label --level 20% --corrections corrected.csv",
)
def audit(
    backbone: BackboneOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: StoredSelectionOptions,
    flags: FlagOptions,
    output: OutputOptions,
    features: AuditedFeatures = None,
    feature_column: FeatureColumn = None,
) -> None:
    """Find images whose labels are likely wrong, that show the same picture as another one, or that fit no class.

    A flag is a place to look, not a verdict. Several feature sets of the same images decide together.
    """
    level, most = flags.share, number_or_all(flags.most, "--most")
    kinds = flags.kind.split(",")
    names: list[str | None] = [*features] if features else [None]
    with Terminal(output, {"--save-flags": flags.save_flags, "--corrections": flags.corrections}) as terminal:
        from nctransfer.label_audit import auditing
        from nctransfer.label_audit.corrections import write_corrections
        from nctransfer.report.audit_sheets import audit_sheets

        wanted = auditing.wanted_kinds(kinds, level)
        ticked = _checked(flags)

        def rehearse(labels: FeatureSet) -> None:
            auditing.check_auditable(labels, wanted)

        given = ChosenFeatures(
            Wanted(backbone, images, reading, chosen), feature_column, output, terminal, rehearse=rehearse
        )
        sets = [given.read(name) for name in names]
        found = auditing.audit(sets, kinds=wanted, level=level, device=output.device, progress=terminal.progress)
        for warning in found.warnings:
            log.warning("%s", warning)
        terminal.files.parquet("--save-flags", lambda: _table(found))
        if flags.corrections is not None:
            done = write_corrections(found, flags.corrections, flags.overwrite, ticked or ())
            if ticked is not None:
                _say_what_changed(done, flags.corrections)
            verb = "correct the column label of" if ticked is None else "check"
            _say_how_to_go_on(found, flags.corrections, verb, images.data, reading.image_root)
        terminal.show(audit_sheets(found, most), found.to_dict(), found.to_frame, chosen.seed)


def _table(found: AuditResult) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pandas(found.to_frame(), preserve_index=False)


def _checked(flags: FlagOptions) -> Sequence[TickedFinding] | None:
    """The ticked findings, read before the images; ``None`` without ``--ticked``."""
    from nctransfer.errors import SettingError
    from nctransfer.label_audit.corrections import check_corrections
    from nctransfer.label_audit.ticked_findings import read_ticked

    if flags.corrections is None:
        if flags.ticked is not None:
            raise SettingError(
                "--ticked was given without --corrections", "name the table to write: --corrections corrected.csv"
            )
        return None
    if flags.ticked is not None and flags.ticked.resolve() == flags.corrections.resolve():
        raise SettingError(
            f"--ticked and --corrections are the same file: {str(flags.ticked)!r}", "give another --corrections"
        )
    check_corrections(flags.corrections, flags.overwrite)
    return None if flags.ticked is None else read_ticked(flags.ticked)


def _say_what_changed(done: Decisions, path: Path) -> None:
    from nctransfer.errors import counted

    log.info(
        "%s: %s changed, %s left out; all other labels are as they were",
        path,
        counted(len(done.labels), "label"),
        counted(len(done.left_out), "image"),
    )
    if done.new_classes:
        log.warning(
            "%s that no image had before: %s",
            counted(len(done.new_classes), "new label is a class", "new labels are classes"),
            ", ".join(map(repr, done.new_classes)),
        )


def _say_how_to_go_on(found: AuditResult, path: Path, verb: str, data: str | None, image_root: Path | None) -> None:
    """How the corrected table is read, as far as it is known where the images lie."""
    source = Path(data or found.features.data or "")
    if image_root is None and data is not None and is_file(source) and source.suffix.lower() in SUFFIXES:
        image_root = source.parent
    if image_root is None and is_folder(source):
        image_root = source
    if image_root is not None:
        quoted = [shlex.quote(str(one)) for one in (path, image_root)]
        log.info("%s %s, then read it by --data %s --image-root %s", verb, path, *quoted)
        return
    log.info(
        "%s names images as %s does; where these are files in a folder, --data reads it with --image-root FOLDER",
        path,
        found.features.data or found.features.id,
    )
