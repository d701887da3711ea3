"""From a race to a ranking: where each candidate stands, what it costs, and what follows."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nctransfer.errors import NCTransferError, join_names
from nctransfer.evaluation.image_influence import common_draws
from nctransfer.evaluation.labels_needed import LabelsNeeded, labels_needed
from nctransfer.evaluation.learning_curve import learning_curve
from nctransfer.neural_collapse.debiased_measures import debiased_measures
from nctransfer.rank.clear_losers import behind_best, clear_losers
from nctransfer.rank.pareto import pareto_front
from nctransfer.rank.rank_correlation import rank_correlations
from nctransfer.rank.ranking import Placed, RankedCandidate, Ranking, RoundSummary
from nctransfer.rank.recommendation import recommend
from nctransfer.rank.transfer_scores import transfer_scores

if TYPE_CHECKING:
    from nctransfer.backbones.hub import Progress
    from nctransfer.evaluation.all_ways import AllWaysTask
    from nctransfer.evaluation.multiple_comparisons import WithBest
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.rank.contenders import Contender
    from nctransfer.rank.default_candidates import NotRun
    from nctransfer.rank.race import Race, Round
    from nctransfer.rank.rank_correlation import RankCorrelation
    from nctransfer.rank.ranking import Status
    from nctransfer.rank.running import Wishes

__all__ = ["ranking_of"]

MOST_WARNED = 3  # candidates that a warning names


def ranking_of(
    finished: Race,
    contenders: Sequence[Contender],
    task: AllWaysTask,
    wishes: Wishes,
    *,
    class_sizes: Sequence[int],
    data: str,
    not_run: Sequence[NotRun] = (),
    device: str = "auto",
    progress: Progress | None = None,
) -> Ranking:
    """The ranking that a race gives; see :func:`~nctransfer.rank.running.rank_contenders` for the arguments."""
    controls = {one.name for one in contenders if one.is_control}
    places = {shots: _places(finished, (shots, task.classifiers[0]), controls) for shots in task.shots}
    counted_images = {name: one.images for one in finished.rounds for name in one.results}
    detail = _Details(task=task, wishes=wishes, device=device)
    rows = []
    for number, contender in enumerate(contenders):
        if progress:
            progress("labels needed and collapse", number, len(contenders))
        row = _row(
            finished, contender, {shots: one for shots, found in places.items() if (one := found.get(contender.name))}
        )
        if row.has_run:
            images = counted_images[contender.name]  # it may have run on more, in a round that does not count
            features = contender.features(None if images >= max(class_sizes) else images)
            row = detail.added(row, features)
        rows.append(row)
    rows += [
        RankedCandidate(name=one.candidate.name, status="not run", reason=one.reason, why=one.candidate.why)
        for one in not_run
    ]
    rows = _in_order(_with_marks(rows))
    ran = [name for name in finished.images if name not in finished.failed]
    last = finished.rounds[-1].images if finished.rounds else 0
    return Ranking(
        task=task,
        data=data,
        classes=len(next(iter(finished.results.values())).classes) if finished.results else len(class_sizes),
        images=sum(class_sizes),
        candidates=tuple(rows),
        rounds=tuple(
            RoundSummary(images_per_class=one.images, candidates=tuple(one.results), dropped=one.dropped)
            for one in finished.rounds
        ),
        recommendation=recommend(rows, finished.is_complete),
        images_run=sum(min(size, finished.images[name]) for name in ran for size in class_sizes),
        images_without_racing=len(ran) * sum(class_sizes),
        is_complete=finished.is_complete and last > 0,
        correlations=_correlations(rows) if wishes.scores else (),
        warnings=_warnings(finished),
    )


def _warnings(finished: Race) -> tuple[str, ...]:
    """What weakens the conclusions, with the candidates that it is about if it is not about all of them."""
    about: dict[str, list[str]] = {}
    for name, result in finished.results.items():
        for text in result.warnings:
            about.setdefault(text, []).append(name)
    return tuple(
        text if len(names) == len(finished.results) else f"{join_names(names, MOST_WARNED)}: {text}"
        for text, names in about.items()
    )


def _places(finished: Race, key: tuple[int, str], controls: Collection[str]) -> dict[str, Placed]:
    """Where each candidate stands in the last round that it ran in."""
    found: dict[str, Placed] = {}
    for one in finished.rounds:
        found |= _places_in(one, key, finished.possible.get(key, ()), controls)
    return found


def _places_in(
    one: Round, key: tuple[int, str], possible: Sequence[str], controls: Collection[str]
) -> dict[str, Placed]:
    """Where each candidate stands in a round: candidates among themselves, controls among all."""
    every = list(one.results)
    if not every:
        return {}
    own = [name for name in every if name not in controls]
    behind = _behind(one, key, every) if len(own) < len(every) else {}
    behind |= _behind(one, key, own)
    accuracies, _ = common_draws([one.results[name].estimates[key] for name in every])
    lost = dict(zip(every, clear_losers([one.results[name].estimates[key] for name in every], one.level), strict=True))
    found = {}
    for name, accuracy in zip(every, accuracies, strict=True):
        estimate, with_best = one.results[name].estimates[key], behind.get(name)
        found[name] = Placed(
            accuracy=accuracy,
            interval=estimate.interval,
            difference=with_best and with_best.value,
            difference_interval=with_best and (with_best.low, with_best.high),
            is_possible_best=name in possible,
            is_below_control=lost[name] and name in one.possible[key] and name not in controls,
            images=max(one.results[name].images),
            draws=estimate.draws,
        )
    return found


def _behind(one: Round, key: tuple[int, str], names: Sequence[str]) -> dict[str, WithBest]:
    """How each of some candidates compares with the best of the others; nothing if it is alone."""
    if len(names) < 2:
        return {}
    estimates = [one.results[name].estimates[key] for name in names]
    kept = [name in one.possible[key] for name in names]
    return dict(zip(names, behind_best(estimates, one.level, kept), strict=True))


def _row(finished: Race, contender: Contender, places: Mapping[int, Placed]) -> RankedCandidate:
    """The row of one candidate, without what needs its features."""
    name = contender.name
    facts = contender.facts()
    if failure := finished.failed.get(name):
        return RankedCandidate(name=name, status="failed", reason=failure.reason, hint=failure.hint, facts=facts)
    if not places:
        reason = "there was no time for it" if name in finished.not_run else "it was not needed"
        return RankedCandidate(name=name, status="not run", reason=reason, facts=facts)
    is_possible = places[max(places)].is_possible_best
    status: Status = "control" if contender.is_control else "possible best" if is_possible else "not best"
    return RankedCandidate(name=name, status=status, places=places, facts=facts, speed=contender.speed())


@dataclass(frozen=True, kw_only=True)
class _Details:
    """What is measured of each candidate's features beside the accuracy."""

    task: AllWaysTask
    wishes: Wishes
    device: str
    seen: dict[str, str] = field(default_factory=dict)  # the first candidate with some features, by their digest

    def added(self, row: RankedCandidate, features: FeatureSet) -> RankedCandidate:
        """The row with collapse, labels and scores."""
        undefined: dict[str, str] = {}
        try:
            collapse = debiased_measures(features, self.device)
            undefined |= collapse.undefined
            pair = (collapse.cdnv_debiased, collapse.directional_cdnv_debiased)
        except NCTransferError as error:
            pair = (None, None)
            undefined |= dict.fromkeys(("cdnv_debiased", "directional_cdnv_debiased"), error.message)
        scores = transfer_scores(features, self.device) if self.wishes.scores else {}
        undefined |= {name: one.reason for name, one in scores.items() if one.reason}
        first = self.seen.setdefault(hashlib.blake2b(features.features.numpy().data).hexdigest(), row.name)
        return replace(
            row,
            labels_needed=self._labels(features) if row.status != "control" else {},
            cdnv_debiased=pair[0],
            directional_cdnv_debiased=pair[1],
            scores={name: one.value for name, one in scores.items()},
            undefined=undefined,
            features=features.info.id,
            column=features.info.layer,
            facts=replace(row.facts, width=features.dim),
            same_as=first if first != row.name else None,
        )

    def _labels(self, features: FeatureSet) -> dict[float, LabelsNeeded]:
        if not self.wishes.targets:
            return {}
        name = self.task.classifiers[0]
        curve = learning_curve(
            features,
            (name,),
            seed=self.task.seed,
            ridge_lambda=self.task.ridge_lambda,
            l2_normalise=self.task.l2_normalise,
            drop_small=self.task.drop_small,
            until_reached=max(self.wishes.targets),
            device=self.device,
        )
        return {target: labels_needed(curve, name, target) for target in self.wishes.targets}


def _with_marks(rows: Sequence[RankedCandidate]) -> list[RankedCandidate]:
    """The rows with marks that depend on the others: the Pareto front, and equal features."""
    compared = [row for row in rows if row.has_run and row.status != "control"]
    places = [row.place for row in compared if row.place]
    raced = len({place.images for place in places}) > 1  # accuracies on other images do not compare
    front = pareto_front(
        [min(0.0, place.difference or 0.0) if raced else place.accuracy for place in places],
        [row.speed.images_per_second if row.speed else None for row in compared],
    )
    on_front = {row.name for row, is_on in zip(compared, front, strict=True) if is_on}
    return [replace(row, pareto=row.name in on_front) for row in rows]


def _in_order(rows: Sequence[RankedCandidate]) -> list[RankedCandidate]:
    """Possible bests first, then by the difference to the best; then those that failed or did not run."""

    def place(row: RankedCandidate) -> tuple[int, float]:
        if row.place is None:
            return (3 if row.status == "not run" else 2), 0.0
        difference = row.place.difference or 0.0
        return (0 if row.place.is_possible_best else 1), -difference

    return sorted(rows, key=place)


def _correlations(rows: Sequence[RankedCandidate]) -> tuple[RankCorrelation, ...]:
    """How scores rank the candidates that ran over the most images, beside accuracy. Controls are left out."""
    ran = [row for row in rows if row.place and row.status != "control"]
    most = max((row.place.images for row in ran if row.place), default=0)
    ran = [row for row in ran if row.place and row.place.images == most]  # scores depend on the number of images
    accuracies = [row.place.accuracy for row in ran if row.place]
    columns: dict[str, list[float | None]] = {
        name: [row.scores.get(name) for row in ran] for name in ("logme", "h_score")
    }
    columns["cdnv_debiased"] = [None if row.cdnv_debiased is None else -row.cdnv_debiased for row in ran]
    return rank_correlations(accuracies, columns, [row.facts.parameters for row in ran])
