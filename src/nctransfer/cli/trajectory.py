"""``nctransfer trajectory``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from nctransfer import backbones, store
from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.data_options import ImageOptions, ReadingFlags, SelectionOptions
from nctransfer.cli.episode_options import EpisodeOptions
from nctransfer.cli.expanding import examples
from nctransfer.cli.figure_option import FigureFile
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.terminal import Terminal

_CHECKPOINTS, _TRAINED = "Checkpoints", "What the backbone is trained on"


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """Which checkpoints."""

    checkpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoints",
            rich_help_panel=_CHECKPOINTS,
            metavar="FILES",
            help="The checkpoint files: a pattern such as 'run/epoch-*.safetensors', or a folder. They are ordered by "
            "the numbers in their names. May be repeated.",
            show_default=False,
        ),
    ] = None

    @property
    def given(self) -> list[str]:
        """The names and patterns that were given."""
        return self.checkpoints or []


@dataclasses.dataclass(frozen=True)
class TrainedOptions:
    """Which samples the backbone is trained on."""

    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            rich_help_panel=_TRAINED,
            metavar="SOURCE",
            help="The images that the backbone is trained on, in any form that --data takes. Collapse is then measured "
            "on them too.",
            show_default="the same as --data, if --source-classes is given",
        ),
    ] = None
    source_classes: Annotated[
        Path | None,
        typer.Option(
            "--source-classes",
            rich_help_panel=_TRAINED,
            metavar="FILE",
            help="The classes that the backbone is trained on: one name per line. Collapse is then measured on them "
            "too.",
            show_default="all classes of --source",
        ),
    ] = None
    train_split: Annotated[
        str,
        typer.Option(
            "--train-split",
            rich_help_panel=_TRAINED,
            metavar="SPLIT",
            help="The split that the backbone is trained on.",
        ),
    ] = "train"
    test_split: Annotated[
        str,
        typer.Option(
            "--test-split",
            rich_help_panel=_TRAINED,
            metavar="SPLIT",
            help="The split with other images of the same classes, which the backbone is not trained on.",
        ),
    ] = "test"

    def check(self) -> None:
        """Refuse options that would have no effect."""
        is_given = self.source is not None or self.source_classes is not None
        if not is_given and (self.train_split, self.test_split) != ("train", "test"):
            raise typer.BadParameter(
                "--train-split and --test-split have an effect only with --source or --source-classes",
                param_hint="--train-split",
            )


@examples(
    "nctransfer trajectory --model resnet18 --checkpoints run/ --data pets/",
    "nctransfer trajectory --model resnet18 --checkpoints 'run/epoch-*' \\\n"
    "      --data pets/ --ways 2,5 --figure run.svg",
)
def trajectory(
    named: CheckpointOptions,
    backbone: BackboneOptions,
    images: ImageOptions,
    reading: ReadingFlags,
    chosen: SelectionOptions,
    trained: TrainedOptions,
    episode: EpisodeOptions,
    output: OutputOptions,
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILES", help="More checkpoint files, patterns or folders.", show_default=False),
    ] = None,
    figure: FigureFile = None,
) -> None:
    """Follow collapse and few-shot accuracy from checkpoint to checkpoint, during training or after it.

    Features are kept in the cache: when the same command is run again, only new checkpoints are extracted.
    """
    episode.check()
    # a shell replaces a pattern without quotes by several words, of which all but the first are arguments
    given = [*named.given, *(more or [])]
    if not given:
        raise typer.BadParameter("expected the files of the checkpoints, got none", param_hint="--checkpoints")
    trained.check()
    with Terminal(output, {"--figure": figure}, (backbones, store)) as terminal:
        from nctransfer.checkpoints.files import find_checkpoints
        from nctransfer.checkpoints.following import follow
        from nctransfer.checkpoints.samples import samples_of
        from nctransfer.figures.trajectory_figure import trajectory_figure
        from nctransfer.report.trajectory_sheets import trajectory_sheets
        from nctransfer.sources.class_names import read_class_names
        from nctransfer.sources.digits import Digits
        from nctransfer.store.cache_folder import FeatureStore

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
                read_class_names(trained.source_classes) if trained.source_classes is not None else None,
                (trained.train_split, trained.test_split),
            ),
            images.runtime(output.device),
            episode.task(chosen.seed),
            skip_broken=images.skip_broken,
            progress=terminal.progress,
            use=cache.use,
        )
        terminal.files.figure("--figure", lambda: trajectory_figure(found))
        terminal.show(trajectory_sheets(found), found.to_dict(), found.to_frame, chosen.seed)
