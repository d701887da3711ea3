"""``nctransfer fewshot``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nctransfer.cli.options import (
    BackboneOptions,
    OutputOptions,
    ReadingFlags,
    SelectionOptions,
    SourceOptions,
    numbers,
    numbers_or_all,
)
from nctransfer.cli.sources import FeatureColumn, FeaturesArguments, Wanted, features_for, short_name, stream_for
from nctransfer.cli.terminal import Terminal

_EPISODES, _CLASSIFIER, _SHOW = "Episodes", "Classifier", "What to show"


@dataclasses.dataclass(frozen=True)
class EpisodeOptions:
    """Which episodes are drawn."""

    ways: Annotated[
        str, typer.Option("--ways", "-w", rich_help_panel=_EPISODES, help="Classes an episode: 5, or 5,10,all.")
    ] = "5"
    shots: Annotated[
        str, typer.Option("--shots", "-s", rich_help_panel=_EPISODES, help="Support samples a class: 1, or 1,5.")
    ] = "1"
    queries: Annotated[
        str,
        typer.Option(
            "--queries", rich_help_panel=_EPISODES, metavar="N|all", help="Query samples a class; all that are left."
        ),
    ] = "15"
    episodes: Annotated[
        int, typer.Option("--episodes", "-e", rich_help_panel=_EPISODES, min=2, help="Episodes of each task.")
    ] = 10_000
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
    drop_small: Annotated[
        bool,
        typer.Option(
            "--drop-small",
            rich_help_panel=_EPISODES,
            help="Leave out classes of too few samples, which are an error else.",
            show_default=False,
        ),
    ] = False
    interval: Annotated[
        str,
        typer.Option(
            "--interval",
            rich_help_panel=_EPISODES,
            metavar="episodes|classes|disjoint",
            help="What the 95% interval is of: the draw of episodes from these samples, as is customary; the draw of "
            "classes; or episodes that share no sample.",
        ),
    ] = "episodes"


@dataclasses.dataclass(frozen=True)
class ClassifierOptions:
    """Which classifiers see which features."""

    classifier: Annotated[
        str,
        typer.Option(
            "--classifier",
            "-c",
            rich_help_panel=_CLASSIFIER,
            help="ridge, ncc, cosine, simpleshot, logistic, knn; several, as ridge,ncc; or all.",
        ),
    ] = "ridge,ncc"
    ridge_lambda: Annotated[
        str | None,
        typer.Option(
            "--ridge-lambda",
            rich_help_panel=_CLASSIFIER,
            metavar="VALUE|loo",
            help="The penalty of ridge; loo: by leave-one-out, for each episode.",
            show_default="√(ways·shots)",
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
    l2_normalise: Annotated[
        bool,
        typer.Option(
            "--l2-normalise", rich_help_panel=_CLASSIFIER, help="Scale features to unit length.", show_default=False
        ),
    ] = False
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
    def penalty(self) -> float | Literal["loo"] | None:
        """The penalty of ridge."""
        if self.ridge_lambda is None:
            return None
        if self.ridge_lambda == "loo":
            return "loo"
        try:
            return float(self.ridge_lambda)
        except ValueError:
            raise typer.BadParameter(
                f"{self.ridge_lambda!r} is neither a number nor 'loo'", param_hint="--ridge-lambda"
            ) from None


@dataclasses.dataclass(frozen=True)
class DetailOptions:
    """What is shown beside the accuracies."""

    no_theory: Annotated[
        bool,
        typer.Option(
            "--no-theory",
            rich_help_panel=_SHOW,
            help="Leave out what is expected of ncc, and the bounds of its error.",
            show_default=False,
        ),
    ] = False

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
    classifiers: ClassifierOptions,
    detail: DetailOptions,
    output: OutputOptions,
    features: FeaturesArguments = None,
    feature_column: FeatureColumn = None,
) -> None:
    """Measure n-way k-shot accuracy over many random episodes.

    Several sets of the same samples are compared on the same episodes, each with the first.
    """
    queries = numbers_or_all(episode.queries, "--queries")
    if len(queries) != 1:
        raise typer.BadParameter(f"{episode.queries!r} is not one number", param_hint="--queries")
    settings: dict[str, Any] = {
        "ways": numbers_or_all(episode.ways, "--ways"),
        "shots": numbers(episode.shots, "--shots"),
        "queries": queries[0],
        "episodes": episode.episodes,
        "classifiers": classifiers.classifier.split(","),
        "seed": chosen.seed,
        "device": output.device,
        "l2_normalise": classifiers.l2_normalise,
        "ridge_lambda": classifiers.penalty,
        "interval": episode.interval,
        "drop_small": episode.drop_small,
        "theory": not detail.no_theory,
    }
    most = detail.most
    wanted = Wanted(backbone, source, reading, chosen)
    rest = dataclasses.replace(wanted, backbone=BackboneOptions(), source=SourceOptions())
    is_apart = episode.query_set is not None or episode.query_split is not None
    for_queries = rest if episode.query_set is not None else wanted
    if episode.query_split is not None:
        for_queries = dataclasses.replace(for_queries, chosen=dataclasses.replace(chosen, split=episode.query_split))
    names: list[str | None] = [*features] if features else [None]
    with Terminal(output, {"--save-episodes": detail.save_episodes}) as terminal:
        from nctransfer import evaluation
        from nctransfer.errors import EpisodeError
        from nctransfer.probing import probe
        from nctransfer.tables import fewshot_comparison_sheets, fewshot_sheets, probe_sheet

        query_name = episode.query_set if episode.query_set is not None else names[0]
        if len(names) > 1 and (is_apart or classifiers.center_on or classifiers.probe):
            raise EpisodeError(
                "several sets of features do not go with --query-set, --query-split, --center-on or --probe",
                "run them one after the other: the episodes are the same for the same --seed",
            )
        if classifiers.probe:
            _refuse_with_probe(episode, classifiers, detail)
            train = stream_for(names[0], wanted, feature_column, output, terminal)
            test = stream_for(query_name, for_queries, feature_column, output, terminal) if is_apart else None
            result = probe(train, test, output.device)
            terminal.show([probe_sheet(result)], result.to_dict(), [result.to_row()], chosen.seed)
            return

        sets = [features_for(name, wanted, feature_column, output, terminal) for name in names]
        if is_apart:
            settings["query_set"] = features_for(query_name, for_queries, feature_column, output, terminal)
        if classifiers.center_on is not None:
            settings["center_on"] = features_for(classifiers.center_on, rest, feature_column, output, terminal)
        settings["progress"] = terminal.progress
        found: evaluation.FewShotResult | evaluation.FewShotComparison
        if len(sets) == 1:
            found = evaluation.fewshot(sets[0], **settings)
            sheets = fewshot_sheets(found, most)
        else:
            found = evaluation.compare_fewshot(
                {short_name(one, number): one for number, one in enumerate(sets)}, **settings
            )
            sheets = fewshot_comparison_sheets(found, most)
        terminal.save("--save-episodes", found.episodes_table)
        data = found.to_dict(5 if detail.confusions is None else most)
        terminal.show(sheets, data, found.to_frame, chosen.seed)


def _refuse_with_probe(episode: EpisodeOptions, classifiers: ClassifierOptions, detail: DetailOptions) -> None:
    from nctransfer.errors import EpisodeError

    allowed = {"probe", "query_set", "query_split"}
    for given in (episode, classifiers, detail):
        for field in dataclasses.fields(given):
            if field.name not in allowed and getattr(given, field.name) != field.default:
                option = f"--{field.name.replace('_', '-')}"
                raise EpisodeError(f"--probe has no use for {option}", f"leave out {option}, or --probe")
