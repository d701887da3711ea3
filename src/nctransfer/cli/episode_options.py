"""Options of episodes and classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nctransfer.cli.choices import listed
from nctransfer.cli.expanding import panel_option
from nctransfer.cli.parsing import numbers, numbers_or_all, ridge_penalty
from nctransfer.episodes.classifier import RIDGE_LAMBDA
from nctransfer.episodes.query_prior import BALANCED
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.evaluation.stopping import PRECISION
from nctransfer.intervals import INTERVALS

if TYPE_CHECKING:
    from nctransfer.episodes.classifier import RidgePenalty
    from nctransfer.evaluation.fewshot_task import FewShotTask

__all__ = ["EpisodeOptions"]

_EPISODES, _CLASSIFIER, _SHOW = "Episodes", "Classifier", "What to show"


@dataclass(frozen=True)
class EpisodeOptions:
    """Which episodes are drawn, and what classifies them."""

    ways: Annotated[
        str,
        panel_option(
            "--ways",
            "-w",
            panel=_EPISODES,
            metavar="N|all,…",
            help="Classes per episode. Several: 5,10,all, where all means all classes.",
        ),
    ] = "5"
    shots: Annotated[
        str,
        panel_option(
            "--shots", "-s", panel=_EPISODES, metavar="N,…", help="Labelled examples per class. Several: 1,5,10."
        ),
    ] = "1"
    queries: Annotated[
        str,
        panel_option(
            "--queries",
            panel=_EPISODES,
            metavar="N|all",
            help="Images per class to classify; all for every image that is not a labelled example.",
        ),
    ] = "15"
    query_prior: Annotated[
        str,
        panel_option(
            "--query-prior",
            panel=_EPISODES,
            metavar="balanced|dirichlet:A|empirical",
            help="How queries are spread over the classes of an episode: as many of each (balanced); in proportions "
            "that are drawn anew for each episode, from very uneven for small A to even for large A, such as "
            "dirichlet:2; or in proportion to the numbers of images (empirical).",
        ),
    ] = BALANCED
    episodes: Annotated[
        int,
        panel_option(
            "--episodes", "-e", panel=_EPISODES, metavar="N", min=2, help="Number of random episodes per task, at most."
        ),
    ] = 10_000
    precision: Annotated[
        float,
        panel_option(
            "--precision",
            panel=_EPISODES,
            metavar="POINTS",
            min=0,
            help="Draw no more episodes once every accuracy with these ways and shots is known to ± this many "
            "percentage points over episodes (95%); 0 always draws as many as --episodes says.",
        ),
    ] = PRECISION
    drop_small: Annotated[
        bool,
        panel_option(
            "--drop-small",
            panel=_EPISODES,
            help="Leave out classes with fewer samples than an episode needs. Without this option they are an error.",
            show_default=False,
        ),
    ] = False
    interval: Annotated[
        str,
        panel_option(
            "--interval",
            panel=_EPISODES,
            metavar="|".join(INTERVALS),
            help="What the ± of an accuracy refers to: the random draw of episodes from these images (episodes, the "
            "custom), other images of these classes (samples), other classes of this kind (classes), or episodes that "
            "share no image (disjoint). It is also what verdicts such as better are about; with episodes, they are "
            "about other classes, or about other images if an episode has all classes or all but one.",
        ),
    ] = "episodes"
    classifier: Annotated[
        str,
        panel_option(
            "--classifier",
            "-c",
            panel=_CLASSIFIER,
            metavar="NAME,…|all",
            help=f"The classifiers: {listed(CLASSIFIERS)}; or all.",
        ),
    ] = "ridge,ncc"
    ridge_lambda: Annotated[
        str,
        panel_option(
            "--ridge-lambda",
            panel=_CLASSIFIER,
            metavar="VALUE|loo|paper",
            help="The penalty of ridge, in units of the mean squared length of the centred support; loo chooses it per "
            "episode by leave-one-out; paper takes √(ways·shots), which depends on the scale of the features.",
        ),
    ] = f"{RIDGE_LAMBDA:g}"
    l2_normalise: Annotated[
        bool,
        panel_option(
            "--l2-normalise", panel=_CLASSIFIER, help="Scale every feature vector to unit length.", show_default=False
        ),
    ] = False
    no_theory: Annotated[
        bool,
        panel_option(
            "--no-theory",
            panel=_SHOW,
            help="Leave out the expected accuracy of ncc and the bounds of its error.",
            show_default=False,
        ),
    ] = False

    @property
    def penalty(self) -> RidgePenalty:
        """The penalty of ridge."""
        return ridge_penalty(self.ridge_lambda)

    def check(self) -> None:
        """Refuse values that are not numbers.

        Raises:
            typer.BadParameter: One of them is not.
        """
        self._parsed()

    def task(self, seed: int) -> FewShotTask:
        """The few-shot task.

        Raises:
            SettingError: There is no such task.
        """
        from nctransfer.evaluation.fewshot_task import FewShotTask

        return FewShotTask(**self._parsed(), seed=seed)

    def _parsed(self) -> dict[str, Any]:
        queries = numbers_or_all(self.queries, "--queries")
        if len(queries) != 1:
            raise typer.BadParameter(f"expected one number or all, got {self.queries!r}", param_hint="--queries")
        return {
            "ways": numbers_or_all(self.ways, "--ways"),
            "shots": numbers(self.shots, "--shots"),
            "queries": queries[0],
            "query_prior": self.query_prior,
            "episodes": self.episodes,
            "precision": self.precision,
            "classifiers": self.classifier.split(","),
            "l2_normalise": self.l2_normalise,
            "ridge_lambda": self.penalty,
            "interval": self.interval,
            "drop_small": self.drop_small,
            "theory": not self.no_theory,
        }
