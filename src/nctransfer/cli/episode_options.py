"""Options of episodes and classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nctransfer.cli.expanding import panel_option
from nctransfer.cli.parsing import numbers, numbers_or_all

if TYPE_CHECKING:
    from nctransfer.evaluation.fewshot_task import FewShotTask

__all__ = ["EpisodeOptions"]

_EPISODES, _CLASSIFIER, _SHOW = "Episodes", "Classifier", "What to show"


@dataclass(frozen=True)
class EpisodeOptions:
    """Which episodes are drawn, and what classifies them."""

    ways: Annotated[str, panel_option("--ways", "-w", panel=_EPISODES, help="Classes an episode: 5, or 5,10,all.")] = (
        "5"
    )
    shots: Annotated[
        str, panel_option("--shots", "-s", panel=_EPISODES, help="Support samples a class: 1, or 1,5.")
    ] = "1"
    queries: Annotated[
        str,
        panel_option("--queries", panel=_EPISODES, metavar="N|all", help="Query samples a class; all that are left."),
    ] = "15"
    episodes: Annotated[
        int, panel_option("--episodes", "-e", panel=_EPISODES, min=2, help="Episodes of each task.")
    ] = 10_000
    drop_small: Annotated[
        bool,
        panel_option(
            "--drop-small",
            panel=_EPISODES,
            help="Leave out classes of too few samples, which are an error else.",
            show_default=False,
        ),
    ] = False
    interval: Annotated[
        str,
        panel_option(
            "--interval",
            panel=_EPISODES,
            metavar="episodes|classes|disjoint",
            help="What the 95% interval is of: the draw of episodes from these samples, as is customary; the draw of "
            "classes; or episodes that share no sample.",
        ),
    ] = "episodes"
    classifier: Annotated[
        str,
        panel_option(
            "--classifier",
            "-c",
            panel=_CLASSIFIER,
            help="ridge, ncc, cosine, simpleshot, logistic, knn; several, as ridge,ncc; or all.",
        ),
    ] = "ridge,ncc"
    ridge_lambda: Annotated[
        str | None,
        panel_option(
            "--ridge-lambda",
            panel=_CLASSIFIER,
            metavar="VALUE|loo",
            help="The penalty of ridge; loo: by leave-one-out, for each episode.",
            show_default="√(ways·shots)",
        ),
    ] = None
    l2_normalise: Annotated[
        bool,
        panel_option("--l2-normalise", panel=_CLASSIFIER, help="Scale features to unit length.", show_default=False),
    ] = False
    no_theory: Annotated[
        bool,
        panel_option(
            "--no-theory",
            panel=_SHOW,
            help="Leave out what is expected of ncc, and the bounds of its error.",
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

    def check(self) -> None:
        """Refuse values that are not numbers.

        Raises:
            typer.BadParameter: One of them is not.
        """
        self._parsed()

    def task(self, seed: int) -> FewShotTask:
        """The few-shot task.

        Raises:
            EpisodeError: There is no such task.
        """
        from nctransfer.evaluation.fewshot_task import FewShotTask

        return FewShotTask(**self._parsed(), seed=seed)

    def _parsed(self) -> dict[str, Any]:
        queries = numbers_or_all(self.queries, "--queries")
        if len(queries) != 1:
            raise typer.BadParameter(f"{self.queries!r} is not one number", param_hint="--queries")
        return {
            "ways": numbers_or_all(self.ways, "--ways"),
            "shots": numbers(self.shots, "--shots"),
            "queries": queries[0],
            "episodes": self.episodes,
            "classifiers": self.classifier.split(","),
            "l2_normalise": self.l2_normalise,
            "ridge_lambda": self.penalty,
            "interval": self.interval,
            "drop_small": self.drop_small,
            "theory": not self.no_theory,
        }
