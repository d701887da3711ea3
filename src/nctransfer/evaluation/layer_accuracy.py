"""Few-shot accuracy of every layer of a backbone, on the same episodes, and of a layer chosen inside the support."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nctransfer.episodes.leaving_out import TENTHS
from nctransfer.episodes.pool import Pool, prepared
from nctransfer.errors import EpisodeError, SettingError
from nctransfer.evaluation.fewshot_comparison import differences_to_first, find_possible_bests, same_samples
from nctransfer.evaluation.fewshot_plan import plan_episodes
from nctransfer.evaluation.fewshot_results import FewShotResult, FewShotRow
from nctransfer.evaluation.fewshot_task import FewShotTask, only_balanced
from nctransfer.evaluation.layer_candidates import JOINS, LayerCandidate, layer_candidates, without_copies
from nctransfer.evaluation.layer_episodes import LayerRuns, can_choose
from nctransfer.evaluation.layer_results import CHOSEN, FewShotLayers, Guide, LayerChoice
from nctransfer.evaluation.leaks import Leaks
from nctransfer.evaluation.selection_bias import parts_of, selection_bias
from nctransfer.evaluation.spread import spread_of

if TYPE_CHECKING:
    from nctransfer.evaluation.fewshot_plan import Plan
    from nctransfer.evaluation.fewshot_results import RowKey
    from nctransfer.evaluation.fewshot_task import Number
    from nctransfer.evaluation.layer_episodes import LayerEpisodes
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["GUIDES", "fewshot_layers", "layer_task", "run_layers"]

log = logging.getLogger(__name__)

GUIDES = ("nc1", "cdnv_debiased", "directional_cdnv_debiased")  # the smaller the better
EXPLAINED = "explained"

Progress = Callable[[str, int, int], None]


def fewshot_layers(
    layers: Mapping[str, FeatureSet],
    ways: Number | Sequence[Number] = 5,
    shots: int | Sequence[int] = (1, 5),
    *,
    joins: Sequence[int] | None = JOINS,
    device: str = "auto",
    progress: Progress | None = None,
    **settings: Any,
) -> FewShotLayers:
    """The few-shot accuracy of every layer of a backbone, of joined layers, and of a layer chosen in each episode.

    In each episode the candidate is chosen that labels the support best when examples are left out of it; the queries
    are not looked at. Beside it stands the best candidate in hindsight, with its selection bias.

    Args:
        layers: The features of each layer by name, from the first to the last. The last one is the default, which is
            taken where nothing can be chosen. Samples that not all layers have are left out.
        ways: Classes per episode; one number or several; ``all`` for every class.
        shots: Support samples per class; one number or several, on the same episodes.
        joins: The numbers of last layers that are joined. The mean of all layers is a candidate too, unless this is
            ``None``.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.
        settings: Further settings of :class:`~nctransfer.evaluation.fewshot_task.FewShotTask`.

    Raises:
        EpisodeError: The layers have too few classes or samples for the task.
        SettingError: There are fewer than two layers that differ, or episodes are to share no image.

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> rng, labels = np.random.default_rng(0), list("aaaaaabbbbbbcccccc")
    >>> centres = np.repeat(np.eye(3), 6, axis=0)
    >>> early = FeatureSet.from_arrays(3 * centres + rng.normal(size=(18, 3)), labels)
    >>> late = FeatureSet.from_arrays(0.1 * centres + rng.normal(size=(18, 3)), labels)
    >>> found = fewshot_layers({"layer_0": early, "feature": late}, 3, 2, queries=2, episodes=40, classifiers="ncc")
    >>> [choice] = found.choices
    >>> choice.best, choice.chosen_accuracy > choice.default_accuracy
    ('layer_0', True)
    """
    return run_layers(
        layers, FewShotTask(ways=ways, shots=shots, **settings), joins=joins, device=device, progress=progress
    )


def layer_task(task: FewShotTask) -> FewShotTask:
    """The task with the classifiers that go with the choice of a layer.

    Raises:
        SettingError: No layer is chosen in this task.
    """
    if task.interval == "disjoint":
        raise SettingError(
            "layers are not chosen in episodes that share no image", "give another --interval, or leave out --layers"
        )
    return only_balanced(task, "the choice of a layer")


def run_layers(
    layers: Mapping[str, FeatureSet],
    task: FewShotTask,
    *,
    joins: Sequence[int] | None = JOINS,
    device: str = "auto",
    progress: Progress | None = None,
) -> FewShotLayers:
    """:func:`fewshot_layers` with a task that was made before.

    Args:
        layers: The features of each layer by name, from the first to the last.
        task: The task.
        joins: The numbers of last layers that are joined.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: The layers have too few classes or samples for the task.
        SettingError: There are fewer than two layers that differ, or episodes are to share no image.
    """
    task = layer_task(task)
    layer_candidates(list(layers), joins)  # refuses before anything is computed
    same = dict(zip(layers, same_samples(list(layers.values())), strict=True))
    own, copies = without_copies(same)
    for name, other in copies.items():
        log.info("%s is the same as %s, and no candidate of its own", name, other)
    candidates = layer_candidates(list(own), joins)
    plans = {name: plan_episodes(task, one) for name, one in own.items()}
    plan = plans[next(reversed(own))]
    leaks = Leaks.of(plan.features, None)
    for warning in leaks.warnings():
        log.warning("%s", warning)
    pools = {name: _pool(one, device) for name, one in plans.items()}
    runs = LayerRuns(
        plan=plan,
        pools=pools,
        candidates=candidates,
        settings=task.classifier_settings(),
        progress=progress,
    )
    found = {spec.ways: runs(spec) for spec in plan.specs}
    results = _results(plans, candidates, found)
    measures = {name: _measures(one.features, device) for name, one in plans.items()}
    deciding = _Deciding(plan=plan, candidates=candidates, found=found, results=results, measures=measures)
    return FewShotLayers(
        features=plan.features.describe(),
        task=task,
        candidates=candidates,
        results=results,
        choices=tuple(deciding.choice(row.key) for row in results[CHOSEN].rows),
        measures=measures,
        copies=copies,
        leaks=leaks,
    )


def _pool(plan: Plan, device: str) -> Pool:
    pool = Pool(prepared(plan.features, None, None, plan.task.l2_normalise), device)
    pool.prepare(plan.specs, plan.task.episodes, int(plan.features.counts.max()))
    return pool


def _measures(features: FeatureSet, device: str) -> dict[str, float | None]:
    """The numbers of a layer that take no episode."""
    from nctransfer.neural_collapse.class_statistics import ClassStatistics
    from nctransfer.neural_collapse.collapse_report import usable_classes
    from nctransfer.neural_collapse.measure import Undefined
    from nctransfer.neural_collapse.registry import MEASURES

    stats = ClassStatistics.of(usable_classes(features)[0], device)
    found: dict[str, float | None] = {}
    for name in GUIDES:
        try:
            found[name] = float(MEASURES[name].function(stats))
        except Undefined:
            found[name] = None
    return found


def _results(
    plans: Mapping[str, Plan], candidates: Sequence[LayerCandidate], found: Mapping[int, LayerEpisodes]
) -> dict[str, FewShotResult]:
    """One result per candidate, and that of the candidate chosen in each episode."""
    default, plan = list(plans.items())[-1]
    infos = {one.name: _info(plans, one) for one in candidates}
    infos[CHOSEN] = replace(infos[default], layer=CHOSEN)
    seconds = {ways: run.seconds / len(run.accuracies) / len(infos) for ways, run in found.items()}
    results = {}
    for place, (name, info) in enumerate(infos.items()):
        result = FewShotResult(
            features=info,
            rows=(),
            classes=plan.features.classes,
            task=plan.task,
            dropped=plan.dropped,
            accuracies={(ways, *key): one[place] for ways, run in found.items() for key, one in run.accuracies.items()},
            drawn={ways: run.classes for ways, run in found.items()},
            left_out={(ways, *key): one[:, place] for ways, run in found.items() for key, one in run.left_out.items()},
            populations={ways: plan.population(ways) for ways in found},
            impossible=plan.impossible,
        )
        results[name] = replace(result, rows=tuple(_row(result, key, seconds[key[0]]) for key in result.accuracies))
    return results


def _info(plans: Mapping[str, Plan], candidate: LayerCandidate) -> Any:
    """What the features of a candidate are."""
    parts = [plans[name].features.describe() for name in candidate.layers]
    if not candidate.is_join:
        return parts[0]
    return replace(parts[-1], layer=candidate.name, dim=sum(one.dim or 0 for one in parts))


def _row(result: FewShotResult, key: RowKey, seconds: float) -> FewShotRow:
    values, task = result.accuracies[key], result.task
    try:
        half, reasons = float(spread_of([result], key, task.interval).half_widths()), {}
    except EpisodeError as error:
        half, reasons = None, {"ci95": error.message}
    return FewShotRow(
        ways=key[0],
        shots=key[1],
        queries=task.queries,
        episodes=len(values),
        classifier=key[2],
        seed=task.seed,
        accuracy=float(values.mean()),
        ci95=half,
        interval=task.interval,
        std=float(values.std()),
        lowest_decile=float(values.quantile(0.1)),
        seconds=seconds,
        undefined=reasons,
    )


@dataclass(frozen=True, kw_only=True)
class _Deciding:
    """Makes of the accuracies of one task what they say about a choice."""

    plan: Plan
    candidates: Sequence[LayerCandidate]
    found: Mapping[int, LayerEpisodes]
    results: Mapping[str, FewShotResult]
    measures: Mapping[str, Mapping[str, float | None]]

    @property
    def _single(self) -> list[str]:
        return [one.name for one in self.candidates if not one.is_join]

    @property
    def default(self) -> str:
        return self._single[-1]

    def choice(self, key: RowKey) -> LayerChoice:
        """What choosing gives on one task.

        Args:
            key: Ways, shots and classifier.
        """
        own = {one.name: self.results[one.name] for one in self.candidates}
        means = {name: float(one.accuracies[key].mean()) for name, one in self.results.items()}
        best = max(own, key=lambda name: means[name])
        undefined = self._undefined(key)
        gain = self._difference(CHOSEN, self.default, key)
        gap = self._difference(best, CHOSEN, key)
        possible = find_possible_bests(own, key)
        possible_layers = find_possible_bests({name: self.results[name] for name in self._single}, key).names
        bias = None
        try:
            bias = self._bias(own, key)
        except EpisodeError as error:
            undefined["bias"] = error.message
        for name, one in (("gain_interval", gain), ("gap_interval", gap)):
            if one.reason:
                undefined[name] = one.reason
        return LayerChoice(
            ways=key[0],
            shots=key[1],
            classifier=key[2],
            population=self.plan.population(key[0]),
            default=self.default,
            default_accuracy=means[self.default],
            chosen_accuracy=means[CHOSEN],
            chosen_shares=self._shares(key),
            gain=gain.difference,
            gain_interval=gain.interval,
            gain_verdict=gain.verdict,
            best=best,
            best_accuracy=means[best],
            gap=gap.difference,
            gap_interval=gap.interval,
            bias=bias.value if bias else None,
            bias_interval=(bias.low, bias.high) if bias else None,
            possible_bests=possible.names,
            possible_layers=possible_layers,
            guides=tuple(self._guides(key, means, possible_layers)),
            undefined=undefined,
        )

    def _undefined(self, key: RowKey) -> dict[str, str]:
        """Why nothing can be chosen."""
        if key[1:] in self.found[key[0]].chosen:
            return {}
        fewest = 2 if can_choose(2, key[2], self.plan.task.classifier_settings()) else 3
        return {CHOSEN: f"a choice inside the support leaves an example of each class out, and needs {fewest} shots"}

    def _difference(self, name: str, first: str, key: RowKey) -> Any:
        [found] = differences_to_first({first: self.results[first], f"{name} ": self.results[name]}, key)
        return found

    def _shares(self, key: RowKey) -> dict[str, float]:
        chosen = self.found[key[0]].chosen.get(key[1:])
        if chosen is None:
            return {self.default: 1.0}
        counts = chosen.bincount(minlength=len(self.candidates))
        shares = (counts / counts.sum()).tolist()
        return {one.name: share for one, share in zip(self.candidates, shares, strict=True)}

    def _bias(self, own: Mapping[str, FewShotResult], key: RowKey) -> Any:
        import torch

        population = self.plan.population(key[0])
        spread = spread_of(list(own.values()), key, population)
        count = TENTHS if population == "samples" else len(self.plan.features.classes)
        means = torch.stack([one.accuracies[key].mean() for one in own.values()])
        return selection_bias(parts_of(means, spread, count))

    def _guides(self, key: RowKey, means: Mapping[str, float], possible: tuple[str, ...] | None) -> list[Guide]:
        """The layers that NC1 and others name, among single layers."""
        single = self._single
        values = {measure: {name: self.measures[name][measure] for name in single} for measure in GUIDES}
        named = {measure: _smallest(of_layers) for measure, of_layers in values.items()}
        explained = self.found[key[0]].explained.get(key[1:])
        if explained is not None:
            shares = {one.name: share for one, share in zip(self.candidates, explained.tolist(), strict=True)}
            named[EXPLAINED] = max(single, key=lambda name: shares[name])
        most = max(means[name] for name in single)
        return [
            Guide(
                measure=measure,
                layer=layer,
                accuracy=means[layer] if layer else None,
                loss=most - means[layer] if layer else None,
                is_possible_best=layer in possible if layer and possible is not None else None,
            )
            for measure, layer in named.items()
        ]


def _smallest(values: Mapping[str, float | None]) -> str | None:
    """The name of the smallest value; the last of equals."""
    known = {name: value for name, value in values.items() if value is not None}
    return min(reversed(known), key=lambda name: known[name]) if known else None
