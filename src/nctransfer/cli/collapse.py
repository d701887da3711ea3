"""``nctransfer collapse``."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nctransfer.cli.chosen_features import (
    FeatureColumn,
    FeaturesArguments,
    Wanted,
    again_if_changed,
    find_set,
    short_name,
    stream_for,
    streamed,
)
from nctransfer.cli.options import BackboneOptions, OutputOptions, ReadingFlags, SelectionOptions, SourceOptions
from nctransfer.cli.terminal import Terminal

if TYPE_CHECKING:
    import pyarrow as pa

    from nctransfer.features.feature_stream import Features
    from nctransfer.neural_collapse.collapse_report import CollapseReport
    from nctransfer.neural_collapse.comparisons import CollapseComparison

log = logging.getLogger("nctransfer.cli")

_COMPARE, _HEAD, _SHOW = "Comparison", "Classifier", "What to show"


@dataclasses.dataclass(frozen=True)
class ShowOptions:
    """How much of a report is shown."""

    all_measures: Annotated[
        bool, typer.Option("--all", rich_help_panel=_SHOW, help="Every measure.", show_default=False)
    ] = False
    explain: Annotated[
        bool,
        typer.Option("--explain", rich_help_panel=_SHOW, help="What each measure means.", show_default=False),
    ] = False
    pairs: Annotated[
        str, typer.Option("--pairs", rich_help_panel=_SHOW, metavar="N|all", help="How many of the closest pairs.")
    ] = "5"
    save_pairs: Annotated[
        Path | None,
        typer.Option("--save-pairs", rich_help_panel=_SHOW, metavar="FILE", help="Every pair of classes, as Parquet."),
    ] = None

    @property
    def most_pairs(self) -> int | None:
        """How many pairs; ``None`` for all."""
        if self.pairs == "all":
            return None
        if not self.pairs.isdecimal():
            raise typer.BadParameter(f"{self.pairs!r} is neither a whole number nor 'all'", param_hint="--pairs")
        return int(self.pairs)


@dataclasses.dataclass(frozen=True)
class HeadOptions:
    """Which classifier NC3 and NC4 are measured with."""

    head: Annotated[
        bool,
        typer.Option("--head", rich_help_panel=_HEAD, help="NC3, NC4: the backbone's own.", show_default=False),
    ] = False
    head_names: Annotated[
        Path | None,
        typer.Option(
            "--head-names", rich_help_panel=_HEAD, metavar="FILE", help="What its classes are called: one name a line."
        ),
    ] = None
    fit_head: Annotated[
        str | None, typer.Option("--fit-head", rich_help_panel=_HEAD, metavar="ridge", help="NC3, NC4: fit one.")
    ] = None


def collapse(
    backbone: BackboneOptions,
    source: SourceOptions,
    reading: ReadingFlags,
    chosen: SelectionOptions,
    show: ShowOptions,
    heads: HeadOptions,
    output: OutputOptions,
    features: FeaturesArguments = None,
    source_train: Annotated[
        str | None,
        typer.Option("--source-train", rich_help_panel=_COMPARE, help="Features that the backbone was trained on."),
    ] = None,
    source_test: Annotated[
        str | None,
        typer.Option("--source-test", rich_help_panel=_COMPARE, help="Features of other samples of these classes."),
    ] = None,
    feature_column: FeatureColumn = None,
) -> None:
    """Measure how tightly the classes cluster, and print the collapse diagnostics.

    Several sets stand side by side; so do, with --source-train and --source-test, the samples that a backbone was
    trained on, others of their classes, and new classes; and with --layers the layers of one set.
    """
    pairs = show.most_pairs
    wanted = Wanted(backbone, source, reading, chosen)
    with Terminal(output, {"--save-pairs": show.save_pairs}) as terminal:
        from nctransfer.errors import FeaturesError
        from nctransfer.neural_collapse import collapse_report
        from nctransfer.report.collapse_sheets import collapse_sheets, explanation_sheet

        names: list[str | None] = [*features] if features else [None]
        comparisons = (len(names) > 1, source_train is not None or source_test is not None, backbone.layers is not None)
        if sum((*comparisons, heads.head or heads.fit_head is not None)) > 1:
            raise FeaturesError(
                "several kinds of comparison were asked for at once",
                "give several FEATURES, or --source-train and --source-test, or --layers, or a head",
            )
        if heads.head_names and not heads.head:
            raise FeaturesError("--head-names are those of --head, which was not asked for", "give --head too")
        everything = None if show.save_pairs else pairs
        if any(comparisons):
            if (source_train is None) != (source_test is None):
                raise FeaturesError("--source-train and --source-test go together", "give both, or neither")
            found = again_if_changed(
                lambda: _compare(names, source_train, source_test, wanted, feature_column, output, terminal, everything)
            )
            _tell(found.reports)
            _save_pairs(terminal, found.reports)
            _show(terminal, found, show, chosen.seed, explain_all=show.all_measures or backbone.layers is not None)
            return
        given = find_set(names[0], wanted, output, terminal)
        head = _head(given, heads, feature_column)
        report = again_if_changed(
            lambda: collapse_report.collapse(
                streamed(given, wanted, feature_column),
                pairs=everything,
                device=output.device,
                head=head,
                head_names=_names(heads.head_names),
            )
        )
        _tell({"": report})
        _save_pairs(terminal, {report.features.id: report})
        sheets = collapse_sheets(report, show.all_measures, pairs)
        if show.explain:
            sheets.append(explanation_sheet(show.all_measures or head is not None))
        terminal.show(sheets, report.to_dict(), report.to_frame, chosen.seed)


def _compare(
    names: list[str | None],
    source_train: str | None,
    source_test: str | None,
    wanted: Wanted,
    column: str | None,
    output: OutputOptions,
    terminal: Terminal,
    pairs: int | None,
) -> CollapseComparison:
    from nctransfer.errors import FeaturesError
    from nctransfer.neural_collapse.comparisons import compare_layers, compare_samples, compare_sets

    settings: dict[str, Any] = {"pairs": pairs, "device": output.device}
    if wanted.backbone.layers is not None:
        if column is not None:
            raise FeaturesError("--layers and --feature-column were given at once", "give one of them")
        return compare_layers(_layers(names[0], wanted, output, terminal), **settings)
    sets = [stream_for(name, wanted, column, output, terminal) for name in names]
    if source_train is not None and source_test is not None:
        rest = dataclasses.replace(wanted, backbone=BackboneOptions(), source=SourceOptions())
        source = [stream_for(name, rest, column, output, terminal) for name in (source_train, source_test)]
        return compare_samples(sets[0], *source, **settings)
    return compare_sets({short_name(one, number): one for number, one in enumerate(sets)}, **settings)


def _layers(name: str | None, wanted: Wanted, output: OutputOptions, terminal: Terminal) -> dict[str, Features]:
    """The layers that are asked for, as far as they are stored; the pooled output last."""
    from nctransfer.errors import FeaturesError

    asked = wanted.backbone.request(0).layers  # checked
    plain = dataclasses.replace(wanted, backbone=dataclasses.replace(wanted.backbone, layers=None))
    found = find_set(name, wanted if plain.is_given else plain, output, terminal)
    if isinstance(found, Path):
        raise FeaturesError("--layers is for stored sets", "run it once for each --feature-column")
    stored, selection = found
    snapshot = stored.snapshot()  # all layers come from the same rows
    there = sorted((name for name in snapshot.manifest.columns if name != "feature"), key=lambda name: int(name[6:]))
    if asked and asked.startswith("last-"):
        there = there[-int(asked.removeprefix("last-")) :]
    elif asked and asked != "all":
        there = [f"layer_{index}" for index in asked.split(",")]
    if not there:
        raise FeaturesError(f"{stored.id} has no layers", "nctransfer extract --layers all adds them")
    return {column: snapshot.stream(selection, column, there) for column in [*there, "feature"]}


def _head(found: Any, heads: HeadOptions, column: str | None) -> Any:
    from nctransfer.errors import FeaturesError
    from nctransfer.neural_collapse.linear_head import LinearHead

    if heads.head and column not in (None, "feature"):
        raise FeaturesError(f"the backbone's classifier is not one of {column!r}", "leave out --feature-column")
    if heads.fit_head is not None:
        if heads.head:
            raise FeaturesError("two heads were asked for at once", "give --fit-head ridge, or --head")
        if heads.fit_head != "ridge":
            raise FeaturesError(f"a head cannot be {heads.fit_head!r}", "give --fit-head ridge")
        return "ridge"
    if not heads.head:
        return None
    tensors = None if isinstance(found, Path) else found[0].head()
    if tensors is None:
        raise FeaturesError("there is no classifier of the backbone", "fit one by --fit-head ridge")
    import torch

    bias = tensors.get("bias", torch.zeros(len(tensors["weight"])))
    return LinearHead(tensors["weight"], bias, f"the classifier of {found[0].key.model}")


def _names(path: Path | None) -> tuple[str, ...] | None:
    return ReadingFlags(class_names=path).names


def _tell(reports: dict[str, CollapseReport]) -> None:
    for name, report in reports.items():
        for note in report.notes:
            log.warning("%s%s", f"{name}: " if name else "", note)


def _save_pairs(terminal: Terminal, reports: dict[str, CollapseReport]) -> None:
    def table() -> pa.Table:
        import pyarrow as pa

        return pa.Table.from_pylist(
            [{"set": name, **pair._asdict()} for name, report in reports.items() for pair in report.pairs]
        )

    terminal.save("--save-pairs", table)


def _show(terminal: Terminal, found: CollapseComparison, show: ShowOptions, seed: int, explain_all: bool) -> None:
    from nctransfer.report.collapse_sheets import comparison_sheets, explanation_sheet

    sheets = comparison_sheets(found, show.all_measures)
    if show.explain:
        sheets.append(explanation_sheet(explain_all))
    terminal.show(sheets, found.to_dict(), found.to_frame, seed)
