"""``nctransfer trajectory``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from nctransfer import backbones, store
from nctransfer.cli.episode_options import EpisodeOptions
from nctransfer.cli.options import BackboneOptions, OutputOptions, ReadingFlags, SelectionOptions, SourceOptions
from nctransfer.cli.parsing import class_names
from nctransfer.cli.terminal import Terminal

_CHECKPOINTS, _TRAINED, _SHOW = "Checkpoints", "What the backbone is trained on", "What to show"


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """Which checkpoints."""

    checkpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoints",
            rich_help_panel=_CHECKPOINTS,
            metavar="FILES",
            help="Files, a pattern as 'run/epoch-*.safetensors', or a folder; ordered by the numbers in their names.",
            show_default=False,
        ),
    ] = None

    @property
    def given(self) -> list[str]:
        """What was named."""
        return self.checkpoints or []


@dataclasses.dataclass(frozen=True)
class TrainedOptions:
    """Which samples the backbone is trained on."""

    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            rich_help_panel=_TRAINED,
            metavar="DATA",
            help="As --data; by default the same.",
            show_default=False,
        ),
    ] = None
    source_classes: Annotated[
        Path | None,
        typer.Option(
            "--source-classes",
            rich_help_panel=_TRAINED,
            metavar="FILE",
            help="The classes trained on: one name a line. With it or --source, collapse is measured on source-train "
            "and source-test too.",
        ),
    ] = None
    train_split: Annotated[
        str, typer.Option("--train-split", rich_help_panel=_TRAINED, help="The split that is trained on.")
    ] = "train"
    test_split: Annotated[
        str, typer.Option("--test-split", rich_help_panel=_TRAINED, help="Another split of these classes.")
    ] = "test"

    def check(self) -> None:
        """Refuse what would be of no use."""
        if (
            self.source is None
            and self.source_classes is None
            and (self.train_split, self.test_split) != ("train", "test")
        ):
            raise typer.BadParameter(
                "--train-split and --test-split are those of --source or --source-classes", param_hint="--train-split"
            )


def trajectory(
    named: CheckpointOptions,
    backbone: BackboneOptions,
    images: SourceOptions,
    reading: ReadingFlags,
    chosen: SelectionOptions,
    trained: TrainedOptions,
    episode: EpisodeOptions,
    output: OutputOptions,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[FILES]...", help="More checkpoints.", show_default=False)
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", rich_help_panel=_SHOW, metavar="FILE", help="Draw it: .svg, .png or .pdf."),
    ] = None,
) -> None:
    """Measure collapse and few-shot accuracy checkpoint by checkpoint, while a backbone is trained or after.

    Features are kept: the same command again runs only the checkpoints that are new.
    """
    episode.check()
    given = [*named.given, *(more or [])]  # a pattern without quotes comes as several words
    if not given:
        raise typer.BadParameter("needed are the files of checkpoints", param_hint="--checkpoints")
    trained.check()
    with Terminal(output, {"--figure": figure}, (backbones, store)) as terminal:
        from nctransfer.checkpoints.files import find_checkpoints
        from nctransfer.checkpoints.following import follow, samples_of
        from nctransfer.report.figures import check_figure, trajectory_figure
        from nctransfer.report.trajectory_sheets import trajectory_sheets
        from nctransfer.sources.digits import Digits
        from nctransfer.store.cache_folder import FeatureStore

        if figure is not None:
            check_figure(figure)
        cache = FeatureStore(output.cache_dir)
        found = follow(
            cache,
            backbone.request(chosen.seed),
            find_checkpoints(given),
            samples_of(
                Digits.name if images.data is None else images.data,
                chosen.selection(),
                reading.reading(None, images.offline),
                trained.source,
                class_names(trained.source_classes) if trained.source_classes is not None else None,
                (trained.train_split, trained.test_split),
            ),
            images.runtime(output.device),
            episode.task(chosen.seed),
            skip_broken=images.skip_broken,
            progress=terminal.progress,
        )
        cache.use(cache.find(found.points[-1].fewshot.features.id), chosen.selection())
        terminal.draw("--figure", lambda: trajectory_figure(found))
        terminal.show(trajectory_sheets(found), found.to_dict(), found.to_frame, chosen.seed)
