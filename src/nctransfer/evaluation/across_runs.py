"""Episodes whose queries are of one group and whose support is of others, run and counted for one number of ways."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.episodes.across_groups import BLOCK, AcrossDraws, AcrossPlan, draw_across
from nctransfer.episodes.pool import Pool
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.evaluation.group_counts import GroupCounts, GroupTally, class_jackknife
from nctransfer.evaluation.group_jackknife import GroupJackknife
from nctransfer.evaluation.group_results import AcrossRow, Shift
from nctransfer.evaluation.group_verdicts import find_groups
from nctransfer.evaluation.multiple_comparisons import Difference
from nctransfer.evaluation.spread import Spread
from nctransfer.evaluation.stopping import StoppingRule, half_width, inflation, sizes
from nctransfer.evaluation.tally import is_right, share_right
from nctransfer.intervals import t_quantile

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.classifier import ClassifierSettings
    from nctransfer.episodes.episode import Episodes, EpisodeSpec
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["REFERENCES", "AcrossRuns"]

MOST_NUMBERS = 4 * 10**6  # of random orders in a batch of episodes
ACROSS, REFERENCES = "across", ("mixed", "same")

Progress = Callable[[str, int, int], None]
Key = tuple[int, str]  # shots, classifier


@dataclass(frozen=True, kw_only=True, eq=False)
class AcrossRuns:
    """Runs the episodes of one number of ways.

    Attributes:
        features: The samples that take part; every one has a group.
        task: What was asked for.
        spec: The episodes, with the largest number of shots.
        plan: What can be drawn.
        pool: The inner products of the features.
        settings: What the classifiers need to know of the task.
        progress: Called as ``progress(stage, done, total)``.
    """

    features: FeatureSet
    task: FewShotTask
    spec: EpisodeSpec
    plan: AcrossPlan
    pool: Pool
    settings: ClassifierSettings
    progress: Progress | None = None

    @property
    def classes_asked(self) -> int:
        """The number of classes that take part in episodes."""
        return int(self.plan.classes_asked.sum())

    @property
    def rules(self) -> tuple[str, ...]:
        """From where the support is drawn; the first is the one that is asked about."""
        return (ACROSS, *REFERENCES) if self.plan.is_paired else (ACROSS,)

    def rows(self) -> list[AcrossRow]:
        """One row for each number of shots and classifier."""
        counts, of_group = self._counts()
        jackknife = GroupJackknife(plan=self.plan, spec=self.spec, rules=self.rules)
        reason = jackknife.impossible
        changes = {}
        if reason is None:
            draws = functools.partial(self._draws, jackknife.episodes(self.task.episodes))
            changes = jackknife.changes(draws, self.right_shares, self.progress)
        found = []
        for key in itertools.product(self.task.shots, self.task.classifiers):
            ours = {rule: counts[rule][key] for rule in self.rules}
            spread = None if reason else jackknife.spread(ours, of_group, changes[key])
            found.append(self._row(key, ours, spread, reason))
        return found

    def right_shares(self, draws: AcrossDraws, allowed: torch.Tensor) -> dict[Key, torch.Tensor]:
        """The accuracy of each episode with a support of the images that are allowed, by shots and classifier."""
        found = self._right(draws, allowed)
        return {key: share_right(part, right) for key, (part, right) in found.items()}

    def _right(self, draws: AcrossDraws, allowed: torch.Tensor) -> dict[Key, tuple[Episodes, torch.Tensor]]:
        """Which queries are right, by shots and classifier."""
        batch = draws.episodes(allowed, self.spec.shots)
        products = self.pool(batch)
        found = {}
        for shots in self.task.shots:
            part, some = batch.cut(shots), products.cut(shots)
            for name in self.task.classifiers:
                chosen = CLASSIFIERS[name].scores(some, self.settings).max(dim=2).indices.cpu()
                found[shots, name] = part, is_right(part, chosen)
        return found

    def _draws(self, episodes: int, ends: Sequence[int] = ()) -> Iterator[AcrossDraws]:
        most = int(self.features.counts.max())
        size = min(self.pool.batch(self.spec, self.spec.queries or most), MOST_NUMBERS // (self.spec.ways * most))
        return draw_across(self.features, self.plan, self.spec, episodes, max(1, size), ends=ends)

    def _counts(self) -> tuple[dict[str, dict[Key, GroupCounts]], torch.Tensor]:
        """What happened by rule, shots and classifier; and the group of each episode, ``(E,)``."""
        import torch

        keys = list(itertools.product(self.task.shots, self.task.classifiers))
        classes = len(self.features.classes)
        tallies = {rule: {key: GroupTally(classes, self.plan.groups) for key in keys} for rule in self.rules}
        times = inflation(self.spec.ways, self.classes_asked, self.task.interval)
        rule = StoppingRule(precision=self.task.precision, inflation=times, ways=self.spec.ways)
        ends = [-(-size // BLOCK) * BLOCK for size in sizes(self.task.episodes) if self.task.precision]
        of_group: list[torch.Tensor] = []
        done = 0
        for draws in self._draws(self.task.episodes, ends):
            for name in self.rules:
                for key, (part, right) in self._right(draws, draws.of_rule(name)).items():
                    tallies[name][key].add(part, right)
            of_group.append(draws.group)
            done += len(draws)
            if self.progress is not None:
                self.progress("episodes", done, self.task.episodes)
            if done in ends and rule.is_met(tally.accuracies for tally in tallies[ACROSS].values()):
                break
        found = {name: {key: tally.counts() for key, tally in ones.items()} for name, ones in tallies.items()}
        return found, torch.cat(of_group)

    def _row(
        self, key: Key, counts: Mapping[str, GroupCounts], over_groups: Spread | None, reason: str | None
    ) -> AcrossRow:
        count, ways, task = self.classes_asked, self.spec.ways, self.task
        no_classes = f"an interval over other classes needs two classes more than ways, and {count} classes are asked"
        over_classes = _over_classes(counts, self.plan.classes_asked) if ways <= count - 2 else None
        values = [float(one.accuracies.mean()) for one in counts.values()]
        undefined = {"over_groups": reason} if reason else {}
        interval = task.interval
        if interval == "classes" and over_classes is None:
            undefined["ci95"], interval = no_classes, "episodes"
        ci95 = half_width(counts[ACROSS].accuracies)
        if interval == "classes" and over_classes is not None:
            ci95 = float(over_classes.half_widths()[0])
        if not self.plan.is_paired:
            undefined["references"] = (
                f"no two groups have {self.spec.shots + 1} images of {ways} classes, so that a support of the same "
                "group cannot be drawn beside the queries"
            )
        groups = self.plan.groups
        about = no_classes if over_classes is None else "classes"
        found = find_groups(counts[ACROSS], groups.names, self.plan.asked, interval, about)
        return AcrossRow(
            ways=ways,
            shots=key[0],
            queries=task.queries,
            episodes=len(counts[ACROSS].accuracies),
            classifier=key[1],
            seed=task.seed,
            accuracy=values[0],
            ci95=ci95,
            interval=interval,
            over_groups=None if over_groups is None else _clipped(values[0], float(over_groups.half_widths()[0])),
            references=dict(zip(self.rules[1:], values[1:], strict=True)),
            shifts=_shifts(self.rules, values, over_groups, over_classes),
            groups=found.groups,
            worst=found.worst,
            undefined=undefined | found.undefined,
        )


def _over_classes(counts: Mapping[str, GroupCounts], is_asked: torch.Tensor) -> Spread:
    """How the accuracies of all rules vary together over other classes."""
    import torch

    values = torch.stack([one.accuracies for one in counts.values()], dim=1)  # (E, K)
    classes = next(iter(counts.values())).classes
    vectors = class_jackknife(values, torch.ones_like(values), classes, is_asked)
    return Spread(vectors=vectors, degrees=len(vectors) - 1)


def _clipped(value: float, half: float) -> tuple[float, float]:
    return max(0.0, value - half), min(1.0, value + half)


def _shifts(
    rules: Sequence[str], values: Sequence[float], over_groups: Spread | None, over_classes: Spread | None
) -> dict[str, Shift]:
    """The accuracy across groups less that of each other rule: over other groups, or else over other classes."""
    found = {}
    for place, rule in enumerate(rules[1:], start=1):
        value = values[0] - values[place]
        groups, classes = (_difference(value, spread, place) for spread in (over_groups, over_classes))
        one = groups or classes
        found[rule] = Shift(
            value=value,
            interval=None if one is None else (one.low, one.high),
            verdict=None if one is None else one.verdict,
            population=None if one is None else "classes" if groups is None else "groups",
            over_classes=None if classes is None else (classes.low, classes.high),
        )
    return found


def _difference(value: float, spread: Spread | None, place: int) -> Difference | None:
    """The first accuracy less another, with its interval."""
    if spread is None:
        return None
    half = t_quantile(spread.degrees) * float(spread.errors_of_differences()[0, place])
    return Difference(value, max(-1.0, value - half), min(1.0, value + half)) if math.isfinite(half) else None
