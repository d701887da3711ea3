"""Episodes run through classifiers, one batch at a time."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nctransfer.episodes.leaving_out import TENTHS, tenths, with_shots, without
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.sampling import sample, sample_disjoint
from nctransfer.errors import EpisodeError, counted
from nctransfer.evaluation.tally import Tally, is_right, share_right

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.classifier import ClassifierSettings
    from nctransfer.episodes.episode import Episodes, EpisodeSpec
    from nctransfer.episodes.inner_products import Pool, Products
    from nctransfer.evaluation.fewshot_plan import Plan
    from nctransfer.evaluation.tally import Counts

__all__ = ["ClassifierRun", "EpisodeRuns", "RunResult"]

Key = tuple[int, str]  # shots, classifier
FEWEST, EPISODES_PER_IMAGE = 256, 16  # so that what images change is seen through the draw of episodes


@dataclass(eq=False)
class ClassifierRun:
    """What the episodes of one number of ways gave for one number of shots and one classifier.

    Attributes:
        accuracies: The accuracy of each episode, in pieces.
        seconds: The time of the episodes: drawing, inner products and classifier.
        reported: What the classifier reports beside scores: the largest value over the episodes, by name.
    """

    accuracies: list[torch.Tensor] = field(default_factory=list)
    seconds: float = 0.0
    reported: dict[str, float] = field(default_factory=dict)

    def report(self, name: str, values: torch.Tensor) -> None:
        """Keep the largest value of what a classifier reports, one value per episode."""
        self.reported[name] = max(self.reported.get(name, float("-inf")), float(values.max()))


@dataclass(frozen=True, kw_only=True, eq=False)
class RunResult:
    """What the episodes of one number of ways gave.

    Attributes:
        classes: The class codes of each episode, ``(E, ways)``.
        runs: By shots and classifier.
        counts: Right answers and confusions, by shots and classifier.
        left_out: The accuracy of the first episodes without each tenth of the images, ``(10, E′)``, by shots and
            classifier; empty if nobody needs it.
    """

    classes: torch.Tensor
    runs: dict[Key, ClassifierRun]
    counts: dict[Key, Counts]
    left_out: dict[Key, torch.Tensor]

    @functools.cached_property
    def accuracies(self) -> dict[Key, torch.Tensor]:
        """The accuracy of each episode, ``(E,)``, by shots and classifier."""
        import torch

        return {key: torch.cat(run.accuracies) for key, run in self.runs.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class EpisodeRuns:
    """Draws the episodes of a plan and classifies their queries, one batch at a time.

    Attributes:
        plan: The task on its feature set.
        pool: The inner products of the features.
        settings: What the classifiers need to know of the task.
        for_comparison: Whether several sets will be compared.
        progress: Called as ``progress(stage, done, total)`` while tenths of the images are left out.
    """

    plan: Plan
    pool: Pool
    settings: ClassifierSettings
    for_comparison: bool = False
    progress: Callable[[str, int, int], None] | None = None

    def __call__(self, spec: EpisodeSpec, progress: Callable[[int], None]) -> RunResult:
        """Run all episodes of one number of ways.

        Args:
            spec: The episodes.
            progress: Called with the number of episodes that are done.

        Raises:
            EpisodeError: There are fewer than two episodes that share no sample.
        """
        import torch

        task = self.plan.task
        runs = {key: ClassifierRun() for key in itertools.product(task.shots, task.classifiers)}
        tallies = {shots: Tally(len(self.plan.features.classes), task.classifiers) for shots in task.shots}
        classes: list[torch.Tensor] = []
        done, start = 0, time.perf_counter()
        for batch in self._batches(spec):
            products = self.pool(batch)
            drawing = time.perf_counter() - start
            for shots in task.shots:
                self._classify(products, batch, shots, runs, tallies[shots], drawing)
            classes.append(batch.classes)
            done += len(batch)
            progress(done)
            start = time.perf_counter()
        progress(task.episodes)
        if done < 2:
            raise EpisodeError(
                f"the samples are enough for {counted(done, 'episode')} that {'shares' if done == 1 else 'share'} none",
                "an interval needs at least 2: give fewer --queries or --shots, or another --interval",
            )
        counts = {(shots, name): tallies[shots].counts(name) for shots, name in runs}
        return RunResult(classes=torch.cat(classes), runs=runs, counts=counts, left_out=self._left_out(spec))

    def _shots_to_leave_out(self, spec: EpisodeSpec) -> list[int]:
        """The numbers of shots for which an interval over other images is wanted, and can be had."""
        interval = self.plan.task.interval
        population = self.plan.population(spec.ways) if self.for_comparison else interval
        if population != "samples" or interval == "disjoint":
            return []
        return [shots for shots in self.plan.task.shots if (spec.ways, shots, population) not in self.plan.impossible]

    def _left_out(self, spec: EpisodeSpec) -> dict[Key, torch.Tensor]:
        """The accuracy of the first episodes without each tenth of the images, ``(10, E′)``.

        The more images there are, and the fewer an episode draws, the more episodes it takes to see what a tenth of
        the images changes.
        """
        import torch

        task, features, query_set = self.plan.task, self.plan.features, self.plan.query_set
        tenth = tenths(features, query_set, task.seed)
        keys = itertools.product(self._shots_to_leave_out(spec), task.classifiers)
        found: dict[Key, list[list[torch.Tensor]]] = {key: [[] for _ in range(TENTHS)] for key in keys}
        images = len(features) + (len(query_set) if query_set is not None else 0)
        episodes, done = min(task.episodes, max(FEWEST, EPISODES_PER_IMAGE * images // spec.ways)), 0
        drawn = sample(features, spec, episodes, query_set, self._batch_size(spec), with_spare=True) if found else ()
        for batch, number in itertools.product(drawn, range(TENTHS)):
            for shots in dict.fromkeys(shots for shots, _ in found):
                part = without(with_shots(batch, shots), tenth == number)
                if part.is_query is not None:
                    part = part.cut(shots)
                products = self.pool(part)
                for name in task.classifiers:
                    chosen = CLASSIFIERS[name].scores(products, self.settings).argmax(dim=2).cpu()
                    found[shots, name][number].append(share_right(part, is_right(part, chosen)))
            done += len(batch)
            if self.progress is not None:
                self.progress("leaving out images", done, TENTHS * episodes)
        return {key: torch.stack([torch.cat(parts) for parts in values]) for key, values in found.items()}

    def _classify(
        self,
        products: Products,
        batch: Episodes,
        shots: int,
        runs: dict[Key, ClassifierRun],
        tally: Tally,
        drawing: float,
    ) -> None:
        """Classify the queries of a batch by every classifier with one number of shots.

        Args:
            products: The inner products of the batch, for the largest number of shots.
            batch: The episodes.
            shots: The number of shots.
            runs: What was found so far, to which this is added.
            tally: Right answers and confusions, to which these are added.
            drawing: The time that drawing the batch and its inner products took.
        """
        start = time.perf_counter()
        products, batch = products.cut(shots), batch.cut(shots)
        cutting = time.perf_counter() - start
        tally.ask(batch)
        for name in self.plan.task.classifiers:
            run = runs[shots, name]
            start = time.perf_counter()
            chosen = CLASSIFIERS[name].scores(products, self.settings, run.report).argmax(dim=2).cpu()
            run.accuracies.append(tally.count(name, batch, chosen))
            run.seconds += drawing + cutting + time.perf_counter() - start

    def _batches(self, spec: EpisodeSpec) -> Iterator[Episodes]:
        features, query_set, task = self.plan.features, self.plan.query_set, self.plan.task
        draw = sample_disjoint if task.interval == "disjoint" else sample
        return draw(features, spec, task.episodes, query_set, self._batch_size(spec))

    def _batch_size(self, spec: EpisodeSpec) -> int:
        most = int((self.plan.query_set or self.plan.features).counts.max())
        return self.pool.batch(spec, spec.queries or most)
