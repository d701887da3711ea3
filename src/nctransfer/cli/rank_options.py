"""Options of ``nctransfer rank``: which backbones compete, what is measured of each, and how long they run."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer.cli.backbone_options import (
    BackboneOptions,
    DtypeOption,
    ImgSizeOption,
    LayersOption,
    PluginOption,
    StoreDtypeOption,
)
from nctransfer.cli.choices import listed
from nctransfer.cli.fewshot_layers import ConcatOption, joins_of
from nctransfer.cli.parsing import duration, numbers, percents, ridge_penalty
from nctransfer.episodes.classifier import RIDGE_LAMBDA
from nctransfer.episodes.registry import CLASSIFIERS, is_inductive
from nctransfer.errors import counted

if TYPE_CHECKING:
    from nctransfer.backbones.request import BackboneRequest
    from nctransfer.evaluation.all_ways import AllWaysTask

__all__ = ["CandidateOptions", "RaceOptions", "RankTaskOptions"]

log = logging.getLogger(__name__)

_CANDIDATES, _RACE, _TASK, _SHOW = "Candidates", "Race", "What is measured", "What to show"
USUAL_SHOTS = 5


@dataclasses.dataclass(frozen=True)
class CandidateOptions:
    """Which backbones compete."""

    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            rich_help_panel=_CANDIDATES,
            metavar="NAME",
            help="A backbone, by any name that nctransfer extract takes. In quotes it may have options of its own: "
            "'resnet50 --img-size 128'; each of its --layers is a candidate. May be repeated.",
            show_default="all whose weights are on this computer, and the list that --list prints",
        ),
    ] = None
    models: Annotated[
        Path | None,
        typer.Option(
            "--models",
            rich_help_panel=_CANDIDATES,
            metavar="FILE",
            help="A text file with one candidate per line, written as for --model.",
        ),
    ] = None
    list_candidates: Annotated[
        bool,
        typer.Option(
            "--list",
            rich_help_panel=_CANDIDATES,
            help="Print the candidates, with their size, licence and whether their weights are on this computer, and "
            "run nothing.",
            show_default=False,
        ),
    ] = False
    layers: LayersOption = None
    concat: ConcatOption = None
    img_size: ImgSizeOption = None
    plugin: PluginOption = None
    dtype: DtypeOption = "float32"
    store_dtype: StoreDtypeOption = "float32"

    def defaults(self) -> BackboneOptions:
        """The options of all candidates that do not set them themselves."""
        return BackboneOptions(
            layers=self.layers,
            img_size=self.img_size,
            plugin=self.plugin,
            dtype=self.dtype,
            store_dtype=self.store_dtype,
        )

    @property
    def joins(self) -> tuple[int, ...] | None:
        """The numbers of last layers that are joined to further candidates; ``None`` if nothing is.

        Layers of one backbone that ``--model`` names are joined only if ``--concat`` says so.
        """
        return joins_of(self.concat) if self.layers is not None or self.concat is not None else None

    def requests(self, seed: int) -> list[BackboneRequest]:
        """The candidates that are named; none if none is.

        Raises:
            NCTransferError: One cannot be read, or there is no such model.
        """
        from nctransfer.cli.candidate_options import parse_candidate, read_candidates

        named = [parse_candidate(text, self.defaults(), seed) for text in self.model or []]
        return named + (read_candidates(self.models, self.defaults(), seed) if self.models is not None else [])


@dataclasses.dataclass(frozen=True)
class RankTaskOptions:
    """What is measured of each candidate."""

    shots: Annotated[
        str | None,
        typer.Option(
            "--shots",
            "-s",
            rich_help_panel=_TASK,
            metavar="N,…",
            help="Labelled images per class. Several: 5,20. Candidates are ranked by the largest.",
            show_default=f"{USUAL_SHOTS}, or fewer if a class has too few images",
        ),
    ] = None
    target: Annotated[
        str,
        typer.Option(
            "--target",
            rich_help_panel=_TASK,
            metavar="PERCENT,…",
            help="Accuracies for which the number of labelled images per class is wanted, for example 90%,95%.",
        ),
    ] = "90%"
    classifier: Annotated[
        str,
        typer.Option(
            "--classifier",
            "-c",
            rich_help_panel=_TASK,
            metavar="NAME",
            help=f"The classifier: {listed(CLASSIFIERS, is_inductive, with_others=True)}.",
        ),
    ] = "ridge"
    ridge_lambda: Annotated[
        str,
        typer.Option(
            "--ridge-lambda",
            rich_help_panel=_TASK,
            metavar="VALUE|loo|paper",
            help="The penalty of ridge, in units of the mean squared length of the centred labelled images; loo "
            "chooses it by leave-one-out; paper takes √(ways·shots), which depends on the scale of the features.",
        ),
    ] = f"{RIDGE_LAMBDA:g}"
    l2_normalise: Annotated[
        bool,
        typer.Option(
            "--l2-normalise",
            rich_help_panel=_TASK,
            help="Scale every feature vector to unit length.",
            show_default=False,
        ),
    ] = False
    drop_small: Annotated[
        bool,
        typer.Option(
            "--drop-small",
            rich_help_panel=_TASK,
            help="Leave out classes with no more images than --shots. Without this option they are an error.",
            show_default=False,
        ),
    ] = False
    scores: Annotated[
        bool,
        typer.Option(
            "--scores",
            rich_help_panel=_SHOW,
            help="Also compute LogME and the H-score, which need no held-out images, and show how well they rank the "
            "candidates.",
            show_default=False,
        ),
    ] = False

    def check(self) -> None:
        """Refuse values that are not numbers.

        Raises:
            typer.BadParameter: One of them is not.
        """
        self._shots()
        percents(self.target, "--target")
        ridge_penalty(self.ridge_lambda)

    def _shots(self) -> list[int] | None:
        return numbers(self.shots, "--shots", least=1) if self.shots is not None else None

    def task(self, smallest: int, seed: int) -> AllWaysTask:
        """What is measured.

        Args:
            smallest: The number of images of the smallest class.
            seed: The seed of the draws.

        Raises:
            SettingError: There is no such classifier, or it cannot be used.
        """
        from nctransfer.evaluation.all_ways import AllWaysTask

        usual = USUAL_SHOTS if self.drop_small else max(1, min(USUAL_SHOTS, smallest - 1))
        if self.shots is None and usual < USUAL_SHOTS:
            log.info("%d-shot, because the smallest class has %s", usual, counted(smallest, "image"))
        return AllWaysTask(
            shots=self._shots() or [usual],
            classifiers=self.classifier,
            seed=seed,
            ridge_lambda=ridge_penalty(self.ridge_lambda),
            l2_normalise=self.l2_normalise,
            drop_small=self.drop_small,
        )


@dataclasses.dataclass(frozen=True)
class RaceOptions:
    """How long candidates run."""

    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            rich_help_panel=_RACE,
            metavar="TIME",
            help="Start no more candidates after this time, and rank by what has been measured: 30m, 2h, 90s.",
            show_default="no limit",
        ),
    ] = None
    no_race: Annotated[
        bool,
        typer.Option(
            "--no-race",
            rich_help_panel=_RACE,
            help="Run every candidate over all images. Without this option, those that cannot be the best drop out "
            "after some of the images.",
            show_default=False,
        ),
    ] = False

    @property
    def seconds(self) -> float | None:
        """The budget in seconds."""
        return duration(self.budget, "--budget") if self.budget is not None else None
