"""``nctransfer collapse``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.chosen_features import ChosenFeatures, Wanted, again_if_changed
from nctransfer.cli.chosen_layers import stream_layers
from nctransfer.cli.collapse_fine import FineOptions, show_fine
from nctransfer.cli.collapse_options import HeadOptions, SamplesOptions, ShowOptions
from nctransfer.cli.collapse_shards import IMAGES, StatisticsOptions
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, StoredSelectionOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.feature_arguments import DropDuplicates, FeatureColumn, FeaturesArguments
from nctransfer.cli.figure_option import FigureFile
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.set_names import short_names
from nctransfer.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from nctransfer.cli.chosen_features import Found
    from nctransfer.neural_collapse.collapse_report import CollapseReport
    from nctransfer.neural_collapse.comparisons import CollapseComparison
    from nctransfer.report.sheet import Sheet
    from nctransfer.sources.sharding import Shard

log = logging.getLogger("nctransfer.cli")
MANY = 5  # layers or sets in a warning, above which those that it is not about are named if they are fewer


@examples(
    "nctransfer collapse --all --figure pairs.svg",
    "nctransfer collapse --model tf_efficientnet_lite0 --data pets/ --pairs 10",
)
def collapse(
    backbone: BackboneOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: StoredSelectionOptions,
    show: ShowOptions,
    heads: HeadOptions,
    samples: SamplesOptions,
    statistics: StatisticsOptions,
    fine: FineOptions,
    output: OutputOptions,
    features: FeaturesArguments = None,
    figure: FigureFile = None,
    feature_column: FeatureColumn = None,
    drop_duplicates: DropDuplicates = False,
) -> None:
    """Measure how tightly the classes cluster, and which classes are closest.

    Several feature sets are compared side by side. With --source-train and --source-test, FEATURES are those of new
    classes, and all three are compared. With --layers, the layers of one stored set are compared.

    Several workers can share the work: each runs --shard and --save-statistics twice, and --merge prints the report.
    """
    show.most_pairs  # noqa: B018 - a wrong number is refused before anything is loaded
    with Terminal(output, {"--save-pairs": show.save_pairs, "--figure": figure}) as terminal:
        from nctransfer.figures.collapse_figure import collapse_figure
        from nctransfer.neural_collapse.collapse_in_shards import merge_collapse
        from nctransfer.neural_collapse.collapse_report import usable_classes

        names: list[str | None] = [*features] if features else [None]
        _refuse_at_once(names, samples, backbone, heads)
        wanted = Wanted(backbone, images, reading, chosen)
        given = ChosenFeatures(wanted, feature_column, output, terminal, drop_duplicates, usable_classes)
        if fine.fine_column is not None:
            fine.check(_beside_fine(names, statistics, show, heads, samples))
            show_fine(given, names[0], fine.fine_column)
            return
        is_compared = len(names) > 1 or samples.is_given or backbone.layers is not None
        statistics.check(_others(given, statistics, show, heads, figure, is_compared, features is not None))
        if statistics.shard is not None:
            _pass(given, names[0], statistics, heads)
            return
        found: CollapseReport | CollapseComparison
        if statistics.merge is not None:
            found = merge_collapse(statistics.merge, pairs=show.computed_pairs, pair_matrix=figure is not None)
        elif is_compared:
            found = again_if_changed(lambda: _comparison(names, samples, given, show.computed_pairs))
        else:
            named = given.find(names[0])
            found = again_if_changed(lambda: _report(named, heads, given, show.computed_pairs, figure is not None))
        sheets = _sheets(found, show, explains_all=backbone.layers is not None or heads.is_given)
        terminal.files.parquet("--save-pairs", lambda: _pairs(_reports(found)))
        terminal.files.figure("--figure", lambda: collapse_figure(found))
        terminal.show(sheets, found.to_dict(), found.to_frame, chosen.seed)


def _reports(found: CollapseReport | CollapseComparison) -> Mapping[str, CollapseReport]:
    """The reports by the names of their sets."""
    from nctransfer.neural_collapse.collapse_report import CollapseReport

    return {"": found} if isinstance(found, CollapseReport) else found.reports


def _sheets(found: CollapseReport | CollapseComparison, show: ShowOptions, explains_all: bool) -> list[Sheet]:
    """What is shown of a result; its notes are printed."""
    from nctransfer.neural_collapse.collapse_report import CollapseReport
    from nctransfer.report.collapse_sheets import collapse_sheets, comparison_sheets, explanation_sheet

    if isinstance(found, CollapseReport):
        sheets = collapse_sheets(found, show.all_measures, show.most_pairs)
        explains_all = explains_all or found.metrics.get("self_duality") is not None
    else:
        sheets = comparison_sheets(found, show.all_measures)
        for warning in found.warnings:
            log.warning("%s", warning)
    for note in _notes(found):
        log.warning("%s", note)
    return [*sheets, explanation_sheet(show.all_measures or explains_all)] if show.explain else sheets


def _notes(found: CollapseReport | CollapseComparison) -> Iterator[str]:
    """The notes of the reports, each with the names of the sets that it is about; the same words come once."""
    from nctransfer.neural_collapse.collapse_report import CollapseReport
    from nctransfer.neural_collapse.numbered_note import NumberedNote, one_note

    if isinstance(found, CollapseReport):
        yield from found.notes
        return
    about: dict[str, dict[str, str]] = {}
    for name, report in found.reports.items():
        for note in report.notes:
            about.setdefault(note.words if isinstance(note, NumberedNote) else note, {})[name] = note
    for notes in about.values():
        yield f"{_named([*notes], [*found.reports], 'layer' if found.fit else 'set')}: {one_note([*notes.values()])}"


def _named(names: list[str], every: list[str], kind: str) -> str:
    """All names of some of the layers or sets; of many of them, "every layer but" those few that are not among them."""
    others = [name for name in every if name not in names]
    if others and len(names) <= max(MANY, len(others)):
        return ", ".join(names)
    return f"every {kind} but {', '.join(others)}" if others else f"every {kind}"


def _others(
    given: ChosenFeatures,
    statistics: StatisticsOptions,
    show: ShowOptions,
    heads: HeadOptions,
    figure: Path | None,
    is_compared: bool,
    is_named: bool,
) -> dict[str, bool]:
    """The options that were given and do not go with those for several workers, by name."""
    if statistics.merge is not None:
        chosen = given.wanted.chosen
        return {
            "FEATURES": is_named,
            "a comparison": is_compared,
            IMAGES: given.wanted.is_given,
            "a choice of samples such as --split": chosen.is_given,
            "--head or --fit-head": heads.is_given,
            "--feature-column": given.column is not None,
            "--drop-duplicates": given.drop_duplicates,
        }
    return {
        "a comparison": is_compared,
        IMAGES: given.wanted.is_given,
        "--drop-duplicates, which compares the samples of all shares,": given.drop_duplicates,
        "--figure": figure is not None,
        "--save-pairs": show.save_pairs is not None,
        "--all, --explain or --pairs": show != ShowOptions(),
    }


def _beside_fine(
    names: list[str | None],
    statistics: StatisticsOptions,
    show: ShowOptions,
    heads: HeadOptions,
    samples: SamplesOptions,
) -> dict[str, bool]:
    """The options that were given and have no effect on fine classes, by name."""
    return {
        "another set of features": len(names) > 1,
        "--source-train or --source-test": samples.is_given,
        "--head or --fit-head": heads.is_given,
        "--shard, --save-statistics or --merge": statistics != StatisticsOptions(),
        "--all, --explain, --pairs or --save-pairs": show != ShowOptions(),
    }


def _pass(given: ChosenFeatures, name: str | None, statistics: StatisticsOptions, heads: HeadOptions) -> None:
    """One worker passes over its share, saves what it finds, and says what comes next."""
    from nctransfer.neural_collapse.collapse_in_shards import ShardProgress, collapse_shard
    from nctransfer.report.shard_sheets import shard_sheet

    found = given.find(name)

    def one_pass(shard: Shard, folder: Path, wait: float) -> ShardProgress:
        return again_if_changed(
            lambda: collapse_shard(
                given.read_of(found) if statistics.separate else given.stream_of(found),
                shard,
                folder,
                device=given.output.device,
                head=_head(found, heads, given),
                head_names=ReadingFlags(class_names=heads.head_names).names,
                is_separate=statistics.separate,
                wait=wait,
            )
        )

    progress = statistics.run(one_pass)
    data = progress.to_dict()
    given.terminal.show([shard_sheet(progress)], data, [data], given.wanted.chosen.seed)


def _refuse_at_once(
    names: list[str | None], samples: SamplesOptions, backbone: BackboneOptions, heads: HeadOptions
) -> None:
    """Refuse several kinds of comparison at once, and half of one."""
    from nctransfer.errors import SettingError

    if sum((len(names) > 1, samples.is_given, backbone.layers is not None, heads.is_given)) > 1:
        raise SettingError(
            "several kinds of comparison were asked for at once",
            "give one of these: several FEATURES; --source-train and --source-test; --layers; a classifier (--head)",
        )
    if heads.head_names and not heads.head:
        raise SettingError("--head-names has an effect only with --head", "give --head too")
    if samples.is_given and (samples.source_train is None or samples.source_test is None):
        raise SettingError("only one of --source-train and --source-test was given", "give both, or neither")


def _report(
    found: Found, heads: HeadOptions, given: ChosenFeatures, pairs: int | None, pair_matrix: bool
) -> CollapseReport:
    from nctransfer.neural_collapse import collapse_report

    return collapse_report.collapse(
        given.stream_of(found),
        pairs=pairs,
        pair_matrix=pair_matrix,
        device=given.output.device,
        head=_head(found, heads, given),
        head_names=ReadingFlags(class_names=heads.head_names).names,
    )


def _comparison(
    names: list[str | None], samples: SamplesOptions, given: ChosenFeatures, pairs: int | None
) -> CollapseComparison:
    from nctransfer.neural_collapse.comparisons import compare_layers, compare_samples, compare_sets

    settings: dict[str, Any] = {"pairs": pairs, "device": given.output.device}
    if given.wanted.backbone.layers is not None:
        return compare_layers(stream_layers(names[0], given), **settings)
    sets = [given.stream(name) for name in names]
    if samples.is_given:
        rest = given.named_only()
        source = [rest.stream(name) for name in (samples.source_train, samples.source_test)]
        return compare_samples(sets[0], *source, **settings)
    return compare_sets(dict(zip(short_names(sets), sets, strict=True)), **settings)


def _head(found: Found, heads: HeadOptions, given: ChosenFeatures) -> Any:
    from nctransfer.errors import FeaturesError, SettingError
    from nctransfer.neural_collapse.linear_head import LinearHead

    if heads.head and given.column not in (None, "feature"):
        raise SettingError(
            f"the backbone's classifier takes the column 'feature', not {given.column!r}", "leave out --feature-column"
        )

    if heads.fit_head is not None:
        if heads.head:
            raise SettingError("--head and --fit-head were given at once", "give --fit-head ridge, or --head")
        if heads.fit_head != "ridge":
            raise SettingError(f"a head cannot be fitted by {heads.fit_head!r}", "give --fit-head ridge")
        return "ridge"
    if not heads.head:
        return None
    tensors = None if isinstance(found, Path) else found[0].head()
    if tensors is None or isinstance(found, Path):
        raise FeaturesError(
            "no classifier of the backbone is stored with these features",
            "give --fit-head ridge; if its file was lost, the same nctransfer extract stores it again",
        )
    import torch

    bias = tensors.get("bias", torch.zeros(len(tensors["weight"])))
    return LinearHead(tensors["weight"], bias, f"the classifier of {found[0].key.model}")


def _pairs(reports: Mapping[str, CollapseReport]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(
        [
            {"set": name or report.features.id, **pair._asdict()}
            for name, report in reports.items()
            for pair in report.pairs
        ]
    )
