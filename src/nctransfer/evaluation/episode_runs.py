"""Episodes run through classifiers, one batch at a time."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nctransfer.episodes.leaving_out import TENTHS, tenths, with_shots, without
from nctransfer.episodes.registry import CLASSIFIERS, only_centres
from nctransfer.errors import EpisodeError, counted
from nctransfer.evaluation.asked_queries import AskedQueries
from nctransfer.evaluation.prior_draws import PriorDraws, has_transductive
from nctransfer.evaluation.stopping import StoppingRule, inflation, sizes
from nctransfer.evaluation.tally import is_right, share_right

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.classifier import ClassifierSettings
    from nctransfer.episodes.episode import Episodes, EpisodeSpec
    from nctransfer.episodes.inner_products import Products
    from nctransfer.episodes.pool import Pool
    from nctransfer.evaluation.fewshot_plan import Plan
    from nctransfer.evaluation.fewshot_results import FewShotResult
    from nctransfer.evaluation.fewshot_task import FewShotTask
    from nctransfer.evaluation.tally import Counts, Tally
    from nctransfer.intervals import Interval

__all__ = ["ClassifierRun", "EpisodeRuns", "RunResult", "left_out_episodes", "stopping_rule"]

Key = tuple[int, str]  # shots, label of the contender
FEWEST, EPISODES_PER_IMAGE = 256, 16  # so that what images change is seen through the draw of episodes


@dataclass(eq=False)
class ClassifierRun:
    """What the episodes of one number of ways gave for one number of shots and one classifier.

    Attributes:
        accuracies: The accuracy of each episode.
        seconds: The time of the episodes: drawing, inner products and classifier.
        reported: What the classifier reports beside scores: the largest value over the episodes, or the mean of what is
            averaged, by name.
    """

    accuracies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    reported: dict[str, float] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of episodes."""
        return len(self.accuracies)

    def tensor(self) -> torch.Tensor:
        """The accuracy of each episode, ``(E,)`` float64."""
        import torch

        return torch.tensor(self.accuracies, dtype=torch.float64)

    def copy(self) -> ClassifierRun:
        """A run that can be continued while this one stays as it is."""
        return ClassifierRun(list(self.accuracies), self.seconds, dict(self.reported))

    def report(self, name: str, values: torch.Tensor, averaged: Sequence[str] = ()) -> None:
        """Keep the largest value of what a classifier reports, or the mean of what is averaged.

        Args:
            name: What it is.
            values: One value for each episode of a batch, before the accuracies of the batch are added.
            averaged: The names of which the mean is kept.
        """
        if name in averaged:
            total = self.count * self.reported.get(name, 0.0) + float(values.sum())
            self.reported[name] = total / (self.count + len(values))
            return
        self.reported[name] = max(self.reported.get(name, float("-inf")), float(values.max()))


@dataclass(frozen=True, kw_only=True, eq=False)
class RunResult:
    """What the episodes of one number of ways gave.

    Attributes:
        classes: The class codes of each episode, ``(E, ways)``; there may be fewer episodes for some numbers of shots,
            which are the first of these.
        runs: By shots and label of the contender, which is the name of the classifier, or for transductive classifiers
            that and the query prior.
        counts: Right answers and confusions, by shots and label.
        left_out: The accuracy of the first episodes without each tenth of the images, ``(10, E′)``, by shots and
            label; empty if nobody needs it.
    """

    classes: torch.Tensor
    runs: dict[Key, ClassifierRun]
    counts: dict[Key, Counts]
    left_out: dict[Key, torch.Tensor]

    @functools.cached_property
    def accuracies(self) -> dict[Key, torch.Tensor]:
        """The accuracy of each episode, ``(E,)``, by shots and label."""
        return {key: run.tensor() for key, run in self.runs.items()}

    @classmethod
    def of(cls, result: FewShotResult, ways: int) -> RunResult:
        """What the episodes of one number of ways gave in a result."""
        runs = {
            row.key[1:]: ClassifierRun(
                accuracies=result.accuracies[row.key].tolist(),
                seconds=row.seconds,
                reported={name: value for name, value in row.reported.items() if value is not None},
            )
            for row in result.rows
            if row.ways == ways
        }
        left_out = {key: result.left_out[ways, *key] for key in runs if (ways, *key) in result.left_out}
        counts = {key: result.counts[ways, *key] for key in runs}
        return cls(classes=result.drawn[ways], runs=runs, counts=counts, left_out=left_out)


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

    def __call__(
        self,
        spec: EpisodeSpec,
        progress: Callable[[int], None],
        at_least: Mapping[int, int] | None = None,
        before: RunResult | None = None,
    ) -> RunResult:
        """Run the episodes of one number of ways, for each number of shots until they are precise enough.

        Args:
            spec: The episodes.
            progress: Called with the number of episodes that are done.
            at_least: The number of episodes before which drawing does not stop, by shots.
            before: The first episodes, if they have been run; those that follow them are added, up to ``at_least``.

        Raises:
            EpisodeError: There are fewer than two episodes that share no sample.
        """
        import torch

        task = self.plan.task
        keys = list(itertools.product(task.shots, task.contenders))
        runs = {(shots, one.label): ClassifierRun() for shots, one in keys}
        runs = {key: before.runs[key].copy() for key in runs} if before else runs
        tallies = self.draws.tallies(spec)
        classes = [before.classes] if before else []
        self._extend(spec, runs, tallies, classes, at_least or {}, progress, is_continued=before is not None)
        progress(task.episodes)
        done = sum(map(len, classes))
        if done < 2:
            raise EpisodeError(
                f"the samples are enough for {counted(done, 'episode')} that {'shares' if done == 1 else 'share'} none",
                "an interval needs at least 2: give fewer --queries or --shots, or another --interval",
            )
        counts = {(shots, one.label): tallies[shots, one.query_prior].counts(one.label) for shots, one in keys}
        if before:
            counts = {key: before.counts[key].plus(more) for key, more in counts.items()}
        left_out = before.left_out if before else self._left_out(spec)
        return RunResult(classes=torch.cat(classes), runs=runs, counts=counts, left_out=left_out)

    def _extend(
        self,
        spec: EpisodeSpec,
        runs: dict[Key, ClassifierRun],
        tallies: Mapping[tuple[int, str], Tally],
        classes: list[torch.Tensor],
        at_least: Mapping[int, int],
        progress: Callable[[int], None],
        *,
        is_continued: bool,
    ) -> None:
        """Add episodes to what was found so far, for each number of shots as many as it needs.

        Numbers of shots for which fewer episodes have been run come first, until they have caught up with the others.
        """
        task = self.plan.task
        done = {shots: runs[shots, task.contenders[0].label].count for shots in task.shots}
        left = [shots for shots in task.shots if not is_continued or done[shots] < at_least.get(shots, 0)]
        ends, start = _ends(self.plan.task), time.perf_counter()
        while left:
            position = min(done[shots] for shots in left)
            here = [shots for shots in left if done[shots] == position]
            for drawn in self.draws.batches(replace(spec, shots=max(here)), position, ends):
                products = {prior: self._shared_products(one) for prior, one in drawn.items()}
                batch, drawing = next(iter(drawn.values())), time.perf_counter() - start
                for shots in here:
                    for prior in drawn:
                        tally = tallies[shots, prior]
                        self._classify(products[prior], drawn[prior], shots, prior, runs, tally, drawing)
                    done[shots] += len(batch)
                if position == sum(map(len, classes)):
                    classes.append(batch.classes)
                position += len(batch)
                progress(position)
                start = time.perf_counter()
                if position in ends:
                    left = [one for one in left if one not in here or not self._is_enough(spec, runs, one, at_least)]
                    if [shots for shots in left if done[shots] == position] != here:
                        break
            else:
                break  # all episodes have been run

    def _is_enough(
        self, spec: EpisodeSpec, runs: Mapping[Key, ClassifierRun], shots: int, at_least: Mapping[int, int]
    ) -> bool:
        """Whether there are enough episodes of one number of shots; never fewer than tenths are left out of."""
        rows = [runs[shots, one.label] for one in self.plan.task.contenders]
        needed = left_out_episodes(self.plan, spec) if shots in self._shots_to_leave_out(spec) else 0
        if rows[0].count < max(needed, at_least.get(shots, 0)):
            return False
        return stopping_rule(self.plan, spec, self._population(spec)).is_met(row.tensor() for row in rows)

    @functools.cached_property
    def draws(self) -> PriorDraws:
        """Where the episodes come from."""
        return PriorDraws(plan=self.plan, pool=self.pool)

    @property
    def _by_centres(self) -> bool:
        """Whether class centres are multiplied in place of support samples."""
        return not self.pool.has_gram and only_centres(self.plan.task.classifiers)

    def _population(self, spec: EpisodeSpec) -> Interval:
        """The population that the episodes are to tell of."""
        return self.plan.population(spec.ways) if self.for_comparison else self.plan.task.interval

    def _shots_to_leave_out(self, spec: EpisodeSpec) -> list[int]:
        """The numbers of shots for which an interval over other images is wanted, and can be had."""
        population = self._population(spec)
        if population != "samples" or self.plan.task.interval == "disjoint":
            return []
        return [shots for shots in self.plan.task.shots if (spec.ways, shots, population) not in self.plan.impossible]

    def _left_out(self, spec: EpisodeSpec) -> dict[Key, torch.Tensor]:
        """The accuracy of the first episodes without each tenth of the images, ``(10, E′)``."""
        import torch

        task, features, query_set = self.plan.task, self.plan.features, self.plan.query_set
        tenth = tenths(features, query_set, task.seed)
        keys = itertools.product(self._shots_to_leave_out(spec), (one.label for one in task.contenders))
        found: dict[Key, list[list[torch.Tensor]]] = {key: [[] for _ in range(TENTHS)] for key in keys}
        episodes, done = left_out_episodes(self.plan, spec), 0
        drawn = self.draws.with_spare(spec, episodes) if found else ()
        for batches, number in itertools.product(drawn, range(TENTHS)):
            for shots, prior in itertools.product(dict.fromkeys(shots for shots, _ in found), batches):
                part = without(with_shots(batches[prior], shots), tenth == number)
                if part.is_query is not None:
                    part = part.cut(shots)
                asked = AskedQueries.of(part, self.pool, prior, by_centres=self._by_centres)
                for one in self.draws.contenders[prior]:
                    chosen = asked.answers(one.classifier, self.settings)
                    found[shots, one.label][number].append(share_right(part, is_right(part, chosen)))
            done += len(next(iter(batches.values())))
            if self.progress is not None:
                self.progress("leaving out images", done, TENTHS * episodes)
        return {key: torch.stack([torch.cat(parts) for parts in values]) for key, values in found.items()}

    def _classify(
        self,
        products: Products | None,
        batch: Episodes,
        shots: int,
        prior: str,
        runs: dict[Key, ClassifierRun],
        tally: Tally,
        drawing: float,
    ) -> None:
        """Classify the queries of a batch by every classifier with one number of shots.

        Args:
            products: The inner products of the batch, for the largest number of shots; ``None`` if those of each number
                of shots are computed by themselves.
            batch: The episodes.
            shots: The number of shots.
            prior: The query prior.
            runs: What was found so far, to which this is added.
            tally: Right answers and confusions, to which these are added.
            drawing: The time that drawing the batch and its inner products took.
        """
        start = time.perf_counter()
        batch = batch.cut(shots)
        if products is None:
            asked = AskedQueries.of(batch, self.pool, prior, by_centres=self._by_centres)
        else:
            asked = AskedQueries(batch, products.cut(shots))
        cutting = time.perf_counter() - start
        tally.ask(batch)
        for one in self.draws.contenders[prior]:
            run = runs[shots, one.label]
            start = time.perf_counter()
            report = functools.partial(run.report, averaged=CLASSIFIERS[one.classifier].averaged)
            chosen = asked.answers(one.classifier, self.settings, report)
            run.accuracies += tally.count(one.label, batch, chosen).tolist()
            run.seconds += drawing + cutting + time.perf_counter() - start

    def _shared_products(self, batch: Episodes) -> Products | None:
        """Inner products for all numbers of shots; ``None`` if each has other centres or other queries."""
        return None if self._by_centres or batch.wanted is not None else self.pool(batch)


def _ends(task: FewShotTask) -> tuple[int, ...]:
    """The numbers of episodes at which drawing may stop."""
    return () if task.interval == "disjoint" or task.precision == 0 else tuple(sizes(task.episodes))


def stopping_rule(plan: Plan, spec: EpisodeSpec, population: Interval) -> StoppingRule:
    """When to stop.

    A support sample that spoils its class may cost all queries, as with 2 ways, if most of them may be of one class, or
    if their answers depend on each other.
    """
    times = inflation(spec.ways, len(plan.features.classes), population)
    may_lose_all = has_transductive(plan.task) or plan.task.query_prior == "empirical"
    return StoppingRule(precision=plan.task.precision, inflation=times, ways=2 if may_lose_all else spec.ways)


def left_out_episodes(plan: Plan, spec: EpisodeSpec) -> int:
    """How many of the first episodes are repeated without each tenth of the images, E′.

    The more images there are, and the fewer an episode draws, the more episodes it takes to see what a tenth of the
    images changes.
    """
    images = len(plan.features) + (len(plan.query_set) if plan.query_set is not None else 0)
    return min(plan.task.episodes, max(FEWEST, EPISODES_PER_IMAGE * images // spec.ways))
