"""Few-shot accuracy: episodes times classifiers."""

from __future__ import annotations

import itertools
import math
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.classifiers import CLASSIFIERS
from nctransfer.devices import with_float64
from nctransfer.episodes import Episodes, EpisodeSpec, check, sample
from nctransfer.errors import EpisodeError
from nctransfer.features import FeatureSet

if TYPE_CHECKING:
    import pandas as pd
    import torch

__all__ = ["FewShotResult", "FewShotRow", "fewshot"]

GRAM_BYTES = 512 * 2**20  # the largest matrix of all inner products that is made
BATCH_BYTES = 64 * 2**20  # of features or inner products of a batch of episodes
GATHER_COST = 200  # a gathered row costs as much as so many entries of that matrix (measured, two cores, d = 1280)


@dataclass(frozen=True)
class FewShotRow:
    """Accuracy of one classifier on one task.

    Attributes:
        accuracy: Mean over episodes of the share of queries classified right.
        ci95: Half the width of its 95% interval, ``1.96 s/√E``: of the draw of episodes from this set.
        seconds: Time of the episodes: drawing, inner products and classifier.
    """

    ways: int
    shots: int
    queries: int
    episodes: int
    classifier: str
    seed: int
    accuracy: float
    ci95: float
    seconds: float


@dataclass(frozen=True)
class FewShotResult:
    """Few-shot accuracies on one feature set.

    Attributes:
        features: What was measured, as :meth:`~nctransfer.features.FeatureSet.to_dict` says it.
        rows: One row for each of ways × shots × classifiers.
    """

    features: dict[str, Any]
    rows: tuple[FewShotRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON has it."""
        return {"features": self.features, "results": [asdict(row) for row in self.rows]}

    def to_frame(self) -> pd.DataFrame:
        """One row a task and classifier, the fields of :class:`FewShotRow`."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])


def fewshot(
    features: FeatureSet,
    ways: int | Sequence[int] = 5,
    shots: int | Sequence[int] = 1,
    *,
    queries: int = 15,
    episodes: int = 10_000,
    classifiers: str | Sequence[str] = ("ridge", "ncc"),
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> FewShotResult:
    """n-way k-shot accuracy of simple classifiers on frozen features.

    Args:
        features: The feature set.
        ways: Classes an episode; one number or several.
        shots: Support samples a class; one number or several, on the same episodes.
        queries: Query samples a class.
        episodes: Episodes for each task.
        classifiers: Names from :data:`~nctransfer.classifiers.CLASSIFIERS`.
        seed: Of the episodes; the same seed gives the same episodes for any backbone on the same data.
        device: Where to compute, see :func:`~nctransfer.devices.with_float64`.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        EpisodeError: The features have too few classes or samples for a task, or a name is unknown.
    """
    classifiers = [classifiers] if isinstance(classifiers, str) else list(dict.fromkeys(classifiers))
    all_ways, all_shots = _several(ways), _several(shots)
    if not (all_ways and all_shots and classifiers):
        raise EpisodeError("ways, shots and classifiers must each hold something")
    if unknown := [name for name in classifiers if name not in CLASSIFIERS]:
        raise EpisodeError(f"there is no classifier {unknown[0]!r}", f"choose from {', '.join(CLASSIFIERS)}")
    if episodes < 2:
        raise EpisodeError(f"episodes is {episodes}; an interval needs at least 2")
    specs = [EpisodeSpec(w, max(all_shots), queries, seed) for w in all_ways]
    for _, least in itertools.product(specs, all_shots):
        EpisodeSpec(2, least, queries, seed)
    for spec in specs:
        check(features, spec)
    inner = InnerProducts(features, specs, episodes, device)
    rows: list[FewShotRow] = []
    for number, spec in enumerate(specs):
        accuracies, seconds = _run(inner, spec, all_shots, episodes, classifiers, number, len(specs), progress)
        for key, values in accuracies.items():
            rows.append(
                FewShotRow(
                    ways=spec.ways,
                    shots=key[0],
                    queries=queries,
                    episodes=episodes,
                    classifier=key[1],
                    seed=seed,
                    accuracy=float(values.mean()),
                    ci95=1.96 * float(values.std()) / math.sqrt(episodes),
                    seconds=seconds[key],
                )
            )
    return FewShotResult(features.to_dict(), tuple(rows))


def _several(given: int | Sequence[int]) -> list[int]:
    return sorted({operator.index(number) for number in (given if isinstance(given, Iterable) else [given])})


def _run(
    inner: InnerProducts,
    spec: EpisodeSpec,
    all_shots: Sequence[int],
    episodes: int,
    classifiers: Sequence[str],
    number: int,
    of: int,
    progress: Callable[[str, int, int], None] | None,
) -> tuple[dict[tuple[int, str], torch.Tensor], dict[tuple[int, str], float]]:
    """Accuracy of each episode, ``(E,)`` float64, and seconds, by shots and classifier."""
    import torch

    keys = list(itertools.product(all_shots, classifiers))
    found: dict[tuple[int, str], list[torch.Tensor]] = {key: [] for key in keys}
    seconds = dict.fromkeys(keys, 0.0)
    truth = torch.arange(spec.ways, device=inner.device).repeat_interleave(spec.queries)  # (Q,)
    start, done = time.perf_counter(), 0
    for batch in inner.batches(spec, episodes):
        support, cross = inner(batch)
        shared = time.perf_counter() - start
        for shots, name in keys:
            start = time.perf_counter()
            kept = torch.arange(spec.ways * spec.shots, device=inner.device).view(spec.ways, -1)
            some = kept[:, :shots].reshape(-1)
            scores = CLASSIFIERS[name](support[:, some][:, :, some], cross[:, :, some], spec.ways)
            found[shots, name].append((scores.argmax(dim=2) == truth).double().mean(dim=1).cpu())
            seconds[shots, name] += shared + time.perf_counter() - start
        done += len(batch.classes)
        if progress:
            progress("episodes", number * episodes + done, of * episodes)
        start = time.perf_counter()
    return {key: torch.cat(values) for key, values in found.items()}, seconds


class InnerProducts:
    """Inner products of the support and the queries of episodes, about the mean of the set.

    Either all inner products of the set are computed once and looked up, or the rows of each episode are gathered and
    multiplied: whichever is less work. The mean is taken off in the precision of the set, as float32 products at a
    large offset would lose every digit. Features so long that the rounding of float32 rivals a ridge penalty are
    multiplied in float64.
    """

    def __init__(self, features: FeatureSet, specs: Sequence[EpisodeSpec], episodes: int, device: str) -> None:
        import torch

        self.device = with_float64(device)
        self.features = features
        rows = features.features
        centred = rows - rows.mean(dim=0, dtype=torch.float64).to(rows.dtype)
        rounding = float(centred.norm(dim=1).max()) ** 2 * torch.finfo(torch.float32).eps
        dtype = torch.float32 if rounding < 0.01 else torch.float64  # a penalty is at least sqrt(2)
        self._centred = centred.to(self.device, dtype)
        gathered = sum(episodes * spec.ways * (spec.queries + spec.shots) for spec in specs)
        size = len(features)
        self.uses_gram = size * size * dtype.itemsize <= GRAM_BYTES and size * size <= gathered * GATHER_COST
        self._gram = self._centred @ self._centred.T if self.uses_gram else None

    def batches(self, spec: EpisodeSpec, episodes: int) -> Iterator[Episodes]:
        """The episodes of a task, so many at a time as fit the memory."""
        support, queries = spec.ways * spec.shots, spec.ways * spec.queries
        entries = (support + queries) * (support if self.uses_gram else support + self.features.dim)
        size = max(1, BATCH_BYTES // (self._centred.itemsize * entries))
        for block in sample(self.features, spec, episodes):
            for start in range(0, len(block.classes), size):
                some = slice(start, start + size)
                yield Episodes(block.classes[some], block.queries[some], block.support[some])

    def __call__(self, episodes: Episodes) -> tuple[torch.Tensor, torch.Tensor]:
        """``(E, N, N)`` of the support with itself and ``(E, Q, N)`` of the queries with the support."""
        support, queries = (rows.flatten(1).to(self.device) for rows in (episodes.support, episodes.queries))
        if self._gram is not None:
            return (
                self._gram[support[:, :, None], support[:, None, :]],
                self._gram[queries[:, :, None], support[:, None, :]],
            )
        x, f = self._centred[support], self._centred[queries]
        return x @ x.mT, f @ x.mT
