"""Episodes run through classifiers, a batch at a time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.episodes.sampling import sample, sample_disjoint
from nctransfer.errors import EpisodeError, counted
from nctransfer.evaluation.tally import Tally

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.episode import Episodes, EpisodeSpec
    from nctransfer.episodes.inner_products import Pool
    from nctransfer.episodes.registry import Classifier
    from nctransfer.evaluation.tally import Counts
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.intervals import Interval

__all__ = ["EpisodeRuns"]


class _Run(NamedTuple):
    """What the episodes of one task gave, by shots and classifier."""

    classes: torch.Tensor
    accuracies: dict[tuple[int, str], torch.Tensor]
    seconds: dict[tuple[int, str], float]
    gradients: dict[tuple[int, str], float]
    counts: dict[tuple[int, str], Counts]


@dataclass(frozen=True, eq=False)
class EpisodeRuns:
    """Runs the episodes of a task, a batch at a time."""

    features: FeatureSet
    query_set: FeatureSet | None
    pool: Pool
    classifiers: Mapping[str, Classifier]
    all_shots: Sequence[int]
    episodes: int
    interval: Interval

    def __call__(self, spec: EpisodeSpec, progress: Callable[[int], None]) -> _Run:
        """Run all episodes of one specification."""
        import torch

        keys = list(itertools.product(self.all_shots, self.classifiers))
        found: dict[tuple[int, str], list[torch.Tensor]] = {key: [] for key in keys}
        seconds = dict.fromkeys(keys, 0.0)
        gradients: dict[tuple[int, str], float] = {}
        tally = {shots: Tally(len(self.features.classes), self.classifiers) for shots in self.all_shots}
        classes: list[torch.Tensor] = []
        done, start = 0, time.perf_counter()
        for batch in self._batches(spec):
            products = self.pool(batch)
            shared = time.perf_counter() - start
            for shots in self.all_shots:
                start = time.perf_counter()
                cut, some = products.cut(shots), batch.cut(shots)
                shared_cut = time.perf_counter() - start
                tally[shots].ask(some)
                for name, classifier in self.classifiers.items():
                    start = time.perf_counter()
                    if name == "logistic":
                        ends: list[torch.Tensor] = []
                        scores = classifier(cut, on_end=ends.append)  # type: ignore[call-arg]
                        gradients[shots, name] = max(gradients.get((shots, name), 0.0), float(ends[0].max()))
                    else:
                        scores = classifier(cut)
                    chosen = scores.argmax(dim=2).cpu()
                    found[shots, name].append(tally[shots].count(name, some, chosen))
                    seconds[shots, name] += shared + shared_cut + time.perf_counter() - start
            classes.append(batch.classes)
            done += len(batch)
            progress(done)
            start = time.perf_counter()
        progress(self.episodes)
        if done < 2:
            raise EpisodeError(
                f"the samples are enough for {counted(done, 'episode')} that {'shares' if done == 1 else 'share'} none",
                "an interval needs at least 2: give fewer --queries or --shots, or another --interval",
            )
        return _Run(
            torch.cat(classes),
            {key: torch.cat(values) for key, values in found.items()},
            seconds,
            gradients,
            {(shots, name): tally[shots].counts(name) for shots, name in keys},
        )

    def _batches(self, spec: EpisodeSpec) -> Iterator[Episodes]:
        most = int((self.query_set or self.features).counts.max())
        size = self.pool.batch(spec, spec.queries or most)
        draw = sample_disjoint if self.interval == "disjoint" else sample
        return draw(self.features, spec, self.episodes, self.query_set, size)
