"""``nctransfer fewshot``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nctransfer.cli.chosen_features import (
    FeatureColumn,
    FeaturesArguments,
    Wanted,
    again_if_changed,
    features_for,
    short_name,
    stream_for,
)
from nctransfer.cli.episode_options import EpisodeOptions
from nctransfer.cli.options import BackboneOptions, OutputOptions, ReadingFlags, SelectionOptions, SourceOptions
from nctransfer.cli.terminal import Terminal

if TYPE_CHECKING:
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.features.feature_stream import Features

_EPISODES, _CLASSIFIER, _SHOW = "Episodes", "Classifier", "What to show"


@dataclasses.dataclass(frozen=True)
class QueryOptions:
    """Where the queries and the reference mean come from; or a probe in place of episodes."""

    query_set: Annotated[
        str | None,
        typer.Option(
            "--query-set",
            rich_help_panel=_EPISODES,
            metavar="FEATURES",
            help="Where the queries come from, in place of FEATURES; classes are matched by name.",
        ),
    ] = None
    query_split: Annotated[
        str | None,
        typer.Option(
            "--query-split",
            rich_help_panel=_EPISODES,
            help="The split that the queries come from: of --query-set, or of FEATURES themselves.",
        ),
    ] = None
    center_on: Annotated[
        str | None,
        typer.Option(
            "--center-on",
            rich_help_panel=_CLASSIFIER,
            metavar="FEATURES",
            help="Take the mean of these off first: the reference mean of simpleshot.",
            show_default="the support's",
        ),
    ] = None
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            rich_help_panel=_CLASSIFIER,
            help="In place of episodes: ridge on all labels, tested on --query-set, or each sample left out in turn.",
            show_default=False,
        ),
    ] = False

    @property
    def is_apart(self) -> bool:
        """Whether the queries come from a set of their own."""
        return self.query_set is not None or self.query_split is not None

    def refuse_several(self) -> None:
        """Refuse several sets of features with options for one.

        Raises:
            EpisodeError: Such an option was given.
        """
        from nctransfer.errors import EpisodeError

        if self.is_apart or self.center_on or self.probe:
            raise EpisodeError(
                "several sets of features do not go with --query-set, --query-split, --center-on or --probe",
                "run them one after the other: the episodes are the same for the same --seed",
            )

    def images(self, wanted: Wanted, rest: Wanted) -> Wanted:
        """The images that the queries come from: another set has none of the options that name a backbone or data."""
        images = rest if self.query_set is not None else wanted
        if self.query_split is None:
            return images
        return dataclasses.replace(images, chosen=dataclasses.replace(images.chosen, split=self.query_split))


@dataclasses.dataclass(frozen=True)
class DetailOptions:
    """What is shown beside the accuracies."""

    confusions: Annotated[
        str | None,
        typer.Option(
            "--confusions",
            rich_help_panel=_SHOW,
            metavar="N|all",
            help="The most confused pairs and the hardest classes.",
        ),
    ] = None
    save_episodes: Annotated[
        Path | None,
        typer.Option(
            "--save-episodes", rich_help_panel=_SHOW, metavar="FILE", help="Every episode and its accuracy, as Parquet."
        ),
    ] = None

    @property
    def most(self) -> int | None:
        """How many pairs; ``None`` for all."""
        if self.confusions is None or self.confusions == "all":
            return None if self.confusions else 0
        if not self.confusions.isdecimal():
            raise typer.BadParameter(
                f"{self.confusions!r} is neither a whole number nor 'all'", param_hint="--confusions"
            )
        return int(self.confusions)


def fewshot(
    backbone: BackboneOptions,
    source: SourceOptions,
    reading: ReadingFlags,
    chosen: SelectionOptions,
    episode: EpisodeOptions,
    query: QueryOptions,
    detail: DetailOptions,
    output: OutputOptions,
    features: FeaturesArguments = None,
    feature_column: FeatureColumn = None,
) -> None:
    """Measure n-way k-shot accuracy over many random episodes.

    Several sets of the same samples are compared on the same episodes, each with the first.
    """
    episode.check()
    most = detail.most
    wanted = Wanted(backbone, source, reading, chosen)
    rest = dataclasses.replace(wanted, backbone=BackboneOptions(), source=SourceOptions())
    is_apart, for_queries = query.is_apart, query.images(wanted, rest)
    names: list[str | None] = [*features] if features else [None]
    with Terminal(output, {"--save-episodes": detail.save_episodes}) as terminal:
        from nctransfer.evaluation.fewshot_accuracy import run_fewshot
        from nctransfer.evaluation.fewshot_comparison import FewShotComparison, run_comparison
        from nctransfer.evaluation.fewshot_results import FewShotResult
        from nctransfer.report.fewshot_sheets import fewshot_comparison_sheets, fewshot_sheets

        query_name = query.query_set if query.query_set is not None else names[0]
        if len(names) > 1:
            query.refuse_several()
        if query.probe:
            _refuse_with_probe(episode, query, detail)

            def sets_of_probe() -> tuple[Features, Features | None]:
                train = stream_for(names[0], wanted, feature_column, output, terminal)
                test = stream_for(query_name, for_queries, feature_column, output, terminal) if is_apart else None
                return train, test

            _show_probe(sets_of_probe, output, terminal, chosen.seed)
            return

        def features_of(name: str | None, images: Wanted) -> FeatureSet:
            return features_for(name, images, feature_column, output, terminal)

        task = episode.task(chosen.seed)
        sets = [features_of(name, wanted) for name in names]
        running: dict[str, Any] = {"device": output.device, "progress": terminal.progress}
        found: FewShotResult | FewShotComparison
        if len(sets) == 1:
            query_set = features_of(query_name, for_queries) if is_apart else None
            center_on = features_of(query.center_on, rest) if query.center_on is not None else None
            found = run_fewshot(sets[0], task, query_set=query_set, center_on=center_on, **running)
            sheets = fewshot_sheets(found, most)
        else:
            found = run_comparison({short_name(one, number): one for number, one in enumerate(sets)}, task, **running)
            sheets = fewshot_comparison_sheets(found, most)
        terminal.save("--save-episodes", found.episodes_table)
        data = found.to_dict(5 if detail.confusions is None else most)
        terminal.show(sheets, data, found.to_frame, chosen.seed)


def _show_probe(
    open_sets: Callable[[], tuple[Features, Features | None]], output: OutputOptions, terminal: Terminal, seed: int
) -> None:
    from nctransfer.evaluation.linear_probe import probe
    from nctransfer.report.fewshot_sheets import probe_sheet

    result = again_if_changed(lambda: probe(*open_sets(), output.device))
    terminal.show([probe_sheet(result)], result.to_dict(), [result.to_row()], seed)


def _refuse_with_probe(episode: EpisodeOptions, query: QueryOptions, detail: DetailOptions) -> None:
    from nctransfer.errors import EpisodeError

    allowed = {"probe", "query_set", "query_split"}
    for given in (episode, query, detail):
        for field in dataclasses.fields(given):
            if field.name not in allowed and getattr(given, field.name) != field.default:
                option = f"--{field.name.replace('_', '-')}"
                raise EpisodeError(f"--probe has no use for {option}", f"leave out {option}, or --probe")
