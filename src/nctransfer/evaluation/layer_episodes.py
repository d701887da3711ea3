"""All layers of a backbone on the same episodes: how accurate each is, and how well it labels each support.

Shapes: E episodes of w classes, K candidates.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nctransfer.episodes.joining import joined
from nctransfer.episodes.leaving_one_out import left_out_scores, squared_residuals
from nctransfer.episodes.leaving_out import TENTHS, tenths, with_shots, without
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.sampling import sample
from nctransfer.evaluation.episode_runs import left_out_episodes, stopping_rule
from nctransfer.evaluation.layer_candidates import weights_of
from nctransfer.evaluation.stopping import sizes
from nctransfer.evaluation.tally import is_right, share_right

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.classifier import ClassifierSettings
    from nctransfer.episodes.episode import Episodes, EpisodeSpec
    from nctransfer.episodes.inner_products import Products
    from nctransfer.episodes.pool import Pool
    from nctransfer.evaluation.fewshot_plan import Plan
    from nctransfer.evaluation.layer_candidates import LayerCandidate

__all__ = ["LayerEpisodes", "LayerRuns", "can_choose", "choose"]

Key = tuple[int, str]  # shots, classifier


def can_choose(shots: int, classifier: str, settings: ClassifierSettings) -> bool:
    """Whether a layer can be chosen inside a support: it is left without an example of each class.

    Args:
        shots: Support samples per class.
        classifier: The name of the classifier.
        settings: What the task says.
    """
    is_by_support = classifier == "ridge" and settings.ridge_lambda == "loo"
    return shots >= (3 if is_by_support else 2)


@dataclass(eq=False)
class LayerEpisodes:
    """What the episodes of one number of ways gave.

    Attributes:
        classes: The class codes of each episode, ``(E, w)``.
        accuracies: The accuracy of each candidate in each episode, and of the one that was chosen, ``(K + 1, E)``, by
            shots and classifier.
        chosen: The number of the candidate that each episode chose, ``(E,)``; none where nothing can be chosen.
        explained: The share of the labels of the support that each candidate explains when left out, its mean over
            episodes, ``(K,)``; none where nothing can be chosen.
        left_out: The accuracies of the first episodes without each tenth of the images, ``(10, K + 1, E′)``.
        seconds: The time of the episodes.
    """

    classes: torch.Tensor
    accuracies: dict[Key, torch.Tensor]
    chosen: dict[Key, torch.Tensor]
    explained: dict[Key, torch.Tensor]
    left_out: dict[Key, torch.Tensor] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class _Measured:
    """One batch with one number of shots and classifier; see :class:`LayerEpisodes`."""

    accuracies: torch.Tensor
    chosen: torch.Tensor | None = None
    explained: torch.Tensor | None = None


def choose(residuals: torch.Tensor, default: int) -> torch.Tensor:
    """The candidate that each episode chooses, by the rule of one standard error, ``(E,)``.

    The advantage of a candidate is the mean over the support of the squared residual of the default minus its own. It
    is judged by its lower end, one standard error below: the candidate with the highest one is chosen if that is above
    0, else the default. So the default is left only for a candidate that is better by more than chance.

    Args:
        residuals: The squared residual of each left-out example by each candidate, ``(K, E, N)``.
        default: The number of the candidate that is taken if no other is clearly better.

    >>> import torch
    >>> worse, better = torch.tensor([[0.5, 0.6, 0.7]]), torch.tensor([[0.1, 0.3, 0.2]])
    >>> choose(torch.stack([better, worse]), 1).tolist(), choose(torch.stack([worse, better]), 1).tolist()
    ([0], [1])
    """
    advantage = residuals[default] - residuals
    low = advantage.mean(dim=2) - advantage.std(dim=2) / math.sqrt(residuals.shape[2])
    low[default] = 0
    most, place = low.max(dim=0)
    return place.where(most > 0, default)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerRuns:
    """Draws episodes once, and classifies their queries by every candidate.

    Attributes:
        plan: The task on the samples.
        pools: The inner products of each layer, by name; the last is the pooled output.
        candidates: The layers and their joins.
        settings: What the classifiers need to know of the task.
        progress: Called as ``progress(stage, done, total)``.
    """

    plan: Plan
    pools: Mapping[str, Pool]
    candidates: Sequence[LayerCandidate]
    settings: ClassifierSettings
    progress: Callable[[str, int, int], None] | None = None

    def __call__(self, spec: EpisodeSpec) -> LayerEpisodes:
        """Run the episodes of one number of ways, until every candidate is precise enough.

        Args:
            spec: The episodes, with the largest number of shots.
        """
        import torch

        task, start = self.plan.task, time.perf_counter()
        ends = () if task.precision == 0 else tuple(sizes(task.episodes))
        classes: list[torch.Tensor] = []
        found: dict[Key, list[_Measured]] = defaultdict(list)
        done = 0
        for batch in sample(self.plan.features, spec, task.episodes, None, self._batch_size(spec), ends=ends):
            for key, one in self._measured(batch, task.shots):
                found[key].append(one)
            classes.append(batch.classes)
            done += len(batch)
            self._tell("episodes", done, task.episodes)
            if done in ends and self._is_enough(spec, found, done):
                break
        self._tell("episodes", task.episodes, task.episodes)
        chosen = {key: [one.chosen for one in parts if one.chosen is not None] for key, parts in found.items()}
        explained = {key: [one.explained for one in parts if one.explained is not None] for key, parts in found.items()}
        return LayerEpisodes(
            classes=torch.cat(classes),
            accuracies={key: torch.cat([one.accuracies for one in parts], dim=1) for key, parts in found.items()},
            chosen={key: torch.cat(parts) for key, parts in chosen.items() if parts},
            explained={key: torch.cat(parts, dim=1).mean(dim=1) for key, parts in explained.items() if parts},
            left_out=self._left_out(spec),
            seconds=time.perf_counter() - start,
        )

    @property
    def default(self) -> int:
        """The number of the candidate that is taken if nothing is chosen: the last single layer."""
        return max(place for place, one in enumerate(self.candidates) if not one.is_join)

    def _measured(self, batch: Episodes, several: Sequence[int]) -> Iterator[tuple[Key, _Measured]]:
        """The accuracies of all candidates, and which one is chosen, for each number of shots and classifier."""
        of_layers = {name: pool(batch) for name, pool in self.pools.items()}
        for shots in several:
            part = batch.cut(shots)
            cut = {name: products.cut(shots) for name, products in of_layers.items()}
            right: dict[str, list[torch.Tensor]] = defaultdict(list)
            residuals: dict[str, list[torch.Tensor]] = defaultdict(list)
            for candidate in self.candidates:
                products = self._products(candidate, cut)
                for name in self.plan.task.classifiers:
                    entry = CLASSIFIERS[name]
                    answers = entry.scores(products, self.settings).max(dim=2).indices.cpu()
                    right[name].append(share_right(part, is_right(part, answers)))
                    if can_choose(shots, name, self.settings):
                        scores = left_out_scores(entry, products, self.settings)
                        residuals[name].append(squared_residuals(scores).cpu())
            for name, parts in right.items():
                yield (shots, name), self._with_choice(parts, residuals[name], len(batch.classes[0]))

    def _with_choice(
        self, accuracies: Sequence[torch.Tensor], residuals: Sequence[torch.Tensor], ways: int
    ) -> _Measured:
        import torch

        if not residuals:
            return _Measured(torch.stack([*accuracies, accuracies[self.default]]))
        of_each = torch.stack(list(residuals))  # (K, E, N)
        chosen = choose(of_each, self.default)
        every = torch.stack(list(accuracies))
        explained = 1 - of_each.mean(dim=2) / (1 - 1 / ways)
        return _Measured(torch.cat([every, every.gather(0, chosen[None])]), chosen, explained)

    def _products(self, candidate: LayerCandidate, of_layers: Mapping[str, Products]) -> Products:
        """The inner products of a candidate, from those of the layers."""
        if not candidate.is_join:
            return of_layers[candidate.layers[0]]
        last = candidate.layers[-1]
        weights = weights_of([float(self.pools[name].squares.double().mean()) for name in candidate.layers])
        return joined([of_layers[name] for name in candidate.layers], weights, self.pools[last].factor)

    def _is_enough(self, spec: EpisodeSpec, found: Mapping[Key, Sequence[_Measured]], done: int) -> bool:
        """Whether every accuracy is precise enough; never fewer episodes than tenths are left out of."""
        import torch

        population = self.plan.population(spec.ways)
        if population == "samples" and done < left_out_episodes(self.plan, spec):
            return False
        return stopping_rule(self.plan, spec, population).is_met(
            row for parts in found.values() for row in torch.cat([one.accuracies for one in parts], dim=1)
        )

    def _left_out(self, spec: EpisodeSpec) -> dict[Key, torch.Tensor]:
        """The first episodes without each tenth of the images, where verdicts are about other images."""
        import torch

        plan = self.plan
        if plan.population(spec.ways) != "samples":
            return {}
        several = [shots for shots in plan.task.shots if (spec.ways, shots, "samples") not in plan.impossible]
        tenth = tenths(plan.features, None, plan.task.seed)
        found: dict[Key, list[list[torch.Tensor]]] = defaultdict(lambda: [[] for _ in range(TENTHS)])
        episodes, done = left_out_episodes(plan, spec), 0
        drawn = sample(plan.features, spec, episodes, None, self._batch_size(spec), with_spare=True) if several else ()
        for batch, number in itertools.product(drawn, range(TENTHS)):
            for shots in several:
                part = without(with_shots(batch, shots), tenth == number)
                for key, one in self._measured(part, [shots]):
                    found[key][number].append(one.accuracies)
            done += len(batch)
            self._tell("leaving out images", done, TENTHS * episodes)
        return {key: torch.stack([torch.cat(parts, dim=1) for parts in values]) for key, values in found.items()}

    def _batch_size(self, spec: EpisodeSpec) -> int:
        most = int(self.plan.features.counts.max())
        return max(1, next(iter(self.pools.values())).batch(spec, spec.queries or most) // len(self.pools))

    def _tell(self, stage: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)
