"""``nctransfer fewshot``."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.chosen_features import ChosenFeatures, Wanted, again_if_changed
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, StoredSelectionOptions
from nctransfer.cli.episode_options import EpisodeOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.feature_arguments import DropDuplicates, FeatureColumn, FeaturesArguments
from nctransfer.cli.fewshot_groups import GroupOptions, show_groups
from nctransfer.cli.fewshot_layers import LayerOptions, measure_layers
from nctransfer.cli.figure_option import FigureFile
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.parsing import number_or_all
from nctransfer.cli.set_names import short_names
from nctransfer.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from nctransfer.evaluation.fewshot_comparison import FewShotComparison
    from nctransfer.evaluation.fewshot_results import FewShotResult
    from nctransfer.evaluation.linear_probe import ProbeResult
    from nctransfer.features.feature_set import FeatureSet

_EPISODES, _CLASSIFIER, _SHOW = "Episodes", "Classifier", "What to show"
CONFUSIONS_IN_JSON = 5  # pairs per task, without --confusions


@dataclasses.dataclass(frozen=True)
class QueryOptions:
    """Where the queries and the reference mean come from, or a probe in place of episodes."""

    query_set: Annotated[
        str | None,
        typer.Option(
            "--query-set",
            rich_help_panel=_EPISODES,
            metavar="FEATURES",
            help="Draw the queries from these features, and only the labelled examples from FEATURES. Classes are "
            "matched by name.",
        ),
    ] = None
    query_split: Annotated[
        str | None,
        typer.Option(
            "--query-split",
            rich_help_panel=_EPISODES,
            metavar="SPLIT",
            help="Draw the queries from this split of --query-set, or of FEATURES themselves, for example test.",
        ),
    ] = None
    center_on: Annotated[
        str | None,
        typer.Option(
            "--center-on",
            rich_help_panel=_CLASSIFIER,
            metavar="FEATURES",
            help="Subtract the mean of these features first, for every classifier. For simpleshot, give the features "
            "that the backbone was trained on.",
            show_default="nothing; simpleshot subtracts the mean of its labelled examples",
        ),
    ] = None
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            rich_help_panel=_CLASSIFIER,
            help="Instead of episodes, fit ridge regression to all labels. It is tested on --query-set or "
            "--query-split, or on each sample in turn after a fit to all others.",
            show_default=False,
        ),
    ] = False

    @property
    def is_apart(self) -> bool:
        """Whether the queries are not drawn from the same samples as the labelled examples."""
        return self.query_set is not None or self.query_split is not None


@dataclasses.dataclass(frozen=True)
class DetailOptions:
    """What is shown beside the accuracies."""

    confusions: Annotated[
        str | None,
        typer.Option(
            "--confusions",
            rich_help_panel=_SHOW,
            metavar="N|all",
            help="Show this many of the most confused pairs of classes and of the hardest classes.",
            show_default="none",
        ),
    ] = None
    save_episodes: Annotated[
        Path | None,
        typer.Option(
            "--save-episodes",
            rich_help_panel=_SHOW,
            metavar="FILE",
            help="Write every episode with its classes and its accuracy to this Parquet file.",
        ),
    ] = None

    figure: FigureFile = None

    @property
    def most(self) -> int | None:
        """The number of pairs to show; ``None`` for all."""
        return 0 if self.confusions is None else number_or_all(self.confusions, "--confusions")


@examples(
    "nctransfer fewshot --ways 5 --shots 1,5",
    "nctransfer fewshot --data pets/ --classifier all --confusions 3",
)
def fewshot(
    backbone: BackboneOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: StoredSelectionOptions,
    episode: EpisodeOptions,
    query: QueryOptions,
    by_group: GroupOptions,
    detail: DetailOptions,
    layered: LayerOptions,
    output: OutputOptions,
    features: FeaturesArguments = None,
    feature_column: FeatureColumn = None,
    drop_duplicates: DropDuplicates = False,
) -> None:
    """Measure n-way k-shot accuracy over many random episodes.

    Several feature sets of the same samples are measured on the same episodes, and each is compared with the first.
    With --layers, the layers of one stored set are, and a layer is chosen in each episode.
    """
    episode.check()
    most = detail.most
    names: list[str | None] = [*features] if features else [None]
    with Terminal(output, {"--save-episodes": detail.save_episodes, "--figure": detail.figure}) as terminal:
        from nctransfer.evaluation.fewshot_accuracy import run_fewshot
        from nctransfer.evaluation.fewshot_comparison import run_comparison
        from nctransfer.evaluation.fewshot_plan import plan_episodes
        from nctransfer.figures.fewshot_figure import fewshot_comparison_figure, fewshot_figure
        from nctransfer.report.fewshot_sheets import fewshot_comparison_sheets, fewshot_sheets

        given = ChosenFeatures(
            Wanted(backbone, images, reading, chosen), feature_column, output, terminal, drop_duplicates
        )
        by_group.check(names, episode, query, detail, has_layers=layered.is_asked_for(backbone, query.probe))
        _refuse_several(names, query)
        if query.probe:
            _refuse_with_probe(episode, query, detail, layered)
            _probe(given, names[0], query)
            return
        task = episode.task(chosen.seed)
        if layered.is_asked_for(backbone):
            measure_layers(given, names, task, layered, query, detail)
            return
        if not query.is_apart and not by_group.across_groups:
            given = dataclasses.replace(given, rehearse=functools.partial(plan_episodes, task))
        if by_group.group is not None:
            show_groups(given, names[0], task, by_group, query)
            return
        running: dict[str, Any] = {"device": output.device, "progress": terminal.progress}
        sets = [given.read(name) for name in names]
        found: FewShotResult | FewShotComparison
        draw: Callable[[], Figure]
        if len(sets) == 1:
            found = run_fewshot(sets[0], task, **other_features(given, names[0], query, sets[0]), **running)
            sheets, draw = fewshot_sheets(found, most), functools.partial(fewshot_figure, found)
        else:
            found = run_comparison(dict(zip(short_names(sets), sets, strict=True)), task, **running)
            sheets = fewshot_comparison_sheets(found, most)
            draw = functools.partial(fewshot_comparison_figure, found)
        terminal.files.parquet("--save-episodes", found.episodes_table)
        terminal.files.figure("--figure", draw)
        data = found.to_dict(CONFUSIONS_IN_JSON if detail.confusions is None else most)
        terminal.show(sheets, data, found.to_frame, chosen.seed)


def _queries(given: ChosenFeatures, name: str | None, query: QueryOptions) -> tuple[ChosenFeatures, str | None]:
    """How the features of the queries are read, and their name."""
    source = given.named_only() if query.query_set is not None else given
    if query.query_split is not None:
        source = source.but(chosen=dataclasses.replace(given.wanted.chosen, split=query.query_split))
    return source, name if query.query_set is None else query.query_set


def other_features(
    given: ChosenFeatures, name: str | None, query: QueryOptions, features: FeatureSet, attributes: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The features of the queries, with these attributes, and of the reference mean, if they are others."""
    found = {}
    if query.is_apart:
        source, query_name = _queries(given, name, query)
        found["query_set"] = source.read(query_name, features, attributes=attributes)
    if query.center_on is not None:
        found["center_on"] = given.named_only().read(query.center_on)
    return found


def _probe(given: ChosenFeatures, name: str | None, query: QueryOptions) -> None:
    from nctransfer.evaluation.linear_probe import probe
    from nctransfer.report.fewshot_sheets import probe_sheet

    def measure() -> ProbeResult:
        train = given.stream(name)
        source, query_name = _queries(given, name, query)
        test = source.stream(query_name, train) if query.is_apart else None
        return probe(train, test, given.output.device)

    result = again_if_changed(measure)
    given.terminal.show([probe_sheet(result)], result.to_dict(), [result.to_row()], given.wanted.chosen.seed)


def _refuse_several(names: list[str | None], query: QueryOptions) -> None:
    from nctransfer.errors import SettingError

    if len(names) > 1 and (query.is_apart or query.center_on or query.probe):
        raise SettingError(
            "several feature sets cannot be compared with --query-set, --query-split, --center-on or --probe",
            "run the command for one set at a time: with the same --seed the episodes are the same",
        )


def _refuse_with_probe(*groups: Any) -> None:
    """Refuse options that have no effect on a probe."""
    from nctransfer.errors import SettingError

    allowed = {"probe", "query_set", "query_split"}
    for given in groups:
        for field in dataclasses.fields(given):
            if field.name not in allowed and getattr(given, field.name) != field.default:
                option = f"--{field.name.replace('_', '-')}"
                raise SettingError(f"{option} has no effect with --probe", f"leave out {option}, or --probe")
