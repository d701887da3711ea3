"""Few-shot episodes: which classes, which queries, which support.

An episode draws ``ways`` classes without replacement, and for each class one random order of its samples: the first
``queries`` are the queries, the next ``shots`` the support. So episodes of fewer shots are those of more shots,
cut short. (Where every sample that is left is a query, the first ``shots`` are the support.) Episode number e depends
on the seed and on e alone: a block of episodes has a generator of its own and is always drawn whole.

With a query set, the support comes from one set and the queries from another of the same classes; rows of the query
set are counted on from those of the first.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nctransfer.errors import EpisodeError, counted
from nctransfer.features.feature_set import FeatureSet

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = [
    "EpisodeSpec",
    "Episodes",
    "check",
    "check_disjoint",
    "large_enough",
    "same_classes",
    "sample",
    "sample_disjoint",
]

log = logging.getLogger(__name__)

BLOCK = 1024  # part of the definition of an episode: another number gives other episodes
CLASSES, SAMPLES, SUPPORT, DISJOINT = range(4)  # what a generator is for; SUPPORT where it is of another set


@dataclass(frozen=True)
class EpisodeSpec:
    """A task: n-way, k-shot, with so many queries a class; ``None`` for every sample that is left.

    Raises:
        EpisodeError: A number is too small.
    """

    ways: int = 5
    shots: int = 1
    queries: int | None = 15
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("ways", 2), ("shots", 1), ("queries", 1), ("seed", 0)):
            if (given := getattr(self, name)) is not None and given < least:
                raise EpisodeError(f"{name} is {given}; it must be at least {least}", f"give --{name} {least} or more")


@dataclass(frozen=True, eq=False)
class Episodes:
    """Some episodes of one task, as rows of a feature set (and of a query set that follows it).

    Attributes:
        classes: ``(E, ways)`` class codes.
        queries: ``(E, ways, queries)`` row numbers.
        support: ``(E, ways, shots)`` row numbers.
        is_query: ``(E, ways, queries)``: false where a row only fills up, or, after :meth:`cut`, is in the support;
            ``None`` if every row counts.
    """

    classes: torch.Tensor
    queries: torch.Tensor
    support: torch.Tensor
    is_query: torch.Tensor | None = None

    def __len__(self) -> int:
        """The number of episodes, E."""
        return len(self.classes)

    def cut(self, shots: int) -> Episodes:
        """Those of the first ``shots``; where every sample that is left is a query, those that this leaves."""
        support = self.support[:, :, :shots]
        if self.is_query is None:
            return replace(self, support=support)
        is_taken = (self.queries[..., None] == support[:, :, None]).any(dim=3)
        return replace(self, support=support, is_query=self.is_query & ~is_taken)


def same_classes(features: FeatureSet, query_set: FeatureSet) -> tuple[FeatureSet, FeatureSet]:
    """Of two sets the classes that both have.

    Raises:
        EpisodeError: The query set is the set itself, or of another width, or they share fewer than two classes.
    """
    import torch

    if query_set is features or (query_set.info == features.info and features.info.path is not None):
        raise EpisodeError(
            f"the query set is the set itself, {features.info.id}: a support would be among its queries",
            "leave --query-set out, or name other samples",
        )
    is_one_source = features.info.data is not None and query_set.info.data == features.info.data
    if is_one_source and (both_have := set(features.ids) & set(query_set.ids)):
        raise EpisodeError(
            f"{counted(len(both_have), 'sample')} of {features.info.data} would be both support and queries",
            "choose another split of one of them: --split, --query-split",
        )
    if query_set.dim != features.dim:
        raise EpisodeError(
            f"a query set of width {query_set.dim:,} does not go with features of {features.dim:,}",
            "give --query-set features of the same backbone",
        )
    shared = set(features.classes) & set(query_set.classes)
    if len(shared) < 2:
        raise EpisodeError(
            f"{features.info.id} and the queries {query_set.info.id} share {counted(len(shared), 'class', 'classes')}",
            "episodes need at least two; classes are matched by name",
        )
    both: list[FeatureSet] = []
    for given in (features, query_set):
        codes = [code for code, name in enumerate(given.classes) if name in shared]
        if left_out := len(given.classes) - len(codes):
            log.warning("%s of %s in one of the sets only are left out", counted(left_out, "class", "classes"), given)
        both.append(given.only_classes(torch.tensor(codes)) if left_out else given)
    return both[0], both[1]


def large_enough(features: FeatureSet, spec: EpisodeSpec, query_set: FeatureSet | None = None) -> torch.Tensor:
    """Which classes have the samples for a task, ``(C,)`` bool."""
    queries = spec.queries or 1
    if query_set is None:
        return features.counts >= spec.shots + queries
    return (features.counts >= spec.shots) & (query_set.counts >= queries)


def check(features: FeatureSet, spec: EpisodeSpec, query_set: FeatureSet | None = None) -> None:
    """Whether a task can be drawn from a feature set.

    Raises:
        EpisodeError: More ways than classes, or a class of too few samples; the message names them.
    """
    least = 2 if query_set is None else 1
    usable = features.counts >= least
    if int(usable.sum()) < 2:
        small = [features.classes[code] for code in (~usable).nonzero()[:, 0].tolist()]
        raise EpisodeError(
            f"{features.info.id} has {counted(int(usable.sum()), 'class', 'classes')} of "
            + ("two samples or more" if least == 2 else "any samples")
            + (f"; too small: {_listed(small)}" if small else ""),
            "episodes need at least two classes",
        )
    if spec.ways > len(features.classes):
        raise EpisodeError(
            f"{spec.ways} ways were asked for, and there are {len(features.classes)} classes",
            f"give --ways {len(features.classes)} or less",
        )
    small_codes = (~large_enough(features, spec, query_set)).nonzero()[:, 0].tolist()
    if not small_codes:
        return
    counts = features.counts.tolist()
    queries = spec.queries or 1
    asked = f"{counted(spec.shots, 'shot')} and {counted(queries, 'query', 'queries')} need"
    if query_set is None:
        short = [f"{features.classes[code]!r} ({counts[code]})" for code in small_codes]
        needed = f"{asked} {spec.shots + queries} samples of every class"
        fewer = min(counts) - spec.shots
    else:
        others = query_set.counts.tolist()
        short = [f"{features.classes[code]!r} ({counts[code]} and {others[code]})" for code in small_codes]
        needed = f"{asked} as many samples of every class in the two sets"
        fewer = min(others) if min(counts) >= spec.shots else 0
    raise EpisodeError(
        f"{needed}; {len(short)} of {len(counts)} have fewer: {', '.join(short[:5])}{', …' * (len(short) > 5)}",
        (f"give --queries {fewer} or less, " if 0 < fewer < queries else "give fewer shots, ")
        + "more images of these classes, or leave them out by --drop-small",
    )


def sample(
    features: FeatureSet, spec: EpisodeSpec, episodes: int, query_set: FeatureSet | None = None, most: int = BLOCK
) -> Iterator[Episodes]:
    """The first ``episodes`` episodes of a task, at most ``most`` at a time.

    Raises:
        EpisodeError: See :func:`check`.
    """
    import numpy as np
    import torch

    check(features, spec, query_set)
    for block in range(-(-episodes // BLOCK)):
        kept = min(BLOCK, episodes - block * BLOCK)
        of_classes, of_samples, of_support = (
            np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=(block, use)))
            for use in (CLASSES, SAMPLES, SUPPORT)
        )
        classes = _draw(of_classes, np.full(BLOCK, len(features.classes)), spec.ways).T  # (E, w)

        if query_set is not None:
            support = _rows(of_support, features, classes, spec.shots)
            queries = _rows(of_samples, query_set, classes, spec.queries or 0) + len(features)
        elif spec.queries is None:
            support = _rows(of_samples, features, classes, spec.shots)
            queries = support[:, :, :0]
        else:
            queries, support = np.split(
                _rows(of_samples, features, classes, spec.queries + spec.shots), [spec.queries], axis=2
            )
        for start in range(0, kept, most):
            some = slice(start, min(kept, start + most))
            part = Episodes(*(torch.from_numpy(rows[some]) for rows in (classes, queries, support)))
            yield part if spec.queries else _with_all_queries(part, features, query_set)


def check_disjoint(spec: EpisodeSpec) -> None:
    """Whether episodes of such a task can share no sample.

    Raises:
        EpisodeError: All samples are queries.
    """
    if spec.queries is None:
        raise EpisodeError("episodes that share no sample cannot have all samples as queries", "give --queries 15")


def sample_disjoint(
    features: FeatureSet, spec: EpisodeSpec, episodes: int, query_set: FeatureSet | None = None, most: int = BLOCK
) -> Iterator[Episodes]:
    """At most ``episodes`` episodes of a task of which no two share a sample, at most ``most`` at a time.

    Each takes the classes that have most samples left, by lot among equals, so that as many as possible are had.

    Raises:
        EpisodeError: See :func:`check`; or every sample that is left was to be a query.
    """
    import numpy as np
    import torch

    check_disjoint(spec)
    assert spec.queries is not None
    check(features, spec, query_set)
    generator = np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=(0, DISJOINT)))
    own = _shuffled(generator, features)
    counts = features.counts.numpy()
    if query_set is None:
        left = counts // (spec.shots + spec.queries)
        first_support, of_queries = left * spec.queries, own  # one order: queries of all episodes, then support
    else:
        left = np.minimum(counts // spec.shots, query_set.counts.numpy() // spec.queries)
        first_support, of_queries = 0 * left, [rows + len(features) for rows in _shuffled(generator, query_set)]
    used = 0 * left
    drawn: list[list[NDArray[np.int64]]] = [[], [], []]
    while len(drawn[0]) < episodes and (left > used).sum() >= spec.ways:
        lots = left - used + generator.random(len(left))
        classes = np.argsort(-lots)[: spec.ways]
        drawn[0].append(classes)
        for kind, (count, first, orders) in enumerate(
            ((spec.queries, 0 * left, of_queries), (spec.shots, first_support, own)), start=1
        ):
            starts = first[classes] + used[classes] * count
            rows = [orders[c][start : start + count] for c, start in zip(classes, starts, strict=True)]
            drawn[kind].append(np.stack(rows))
        used[classes] += 1
    for start in range(0, len(drawn[0]), most):
        yield Episodes(*(torch.from_numpy(np.stack(rows[start : start + most])) for rows in drawn))


def _shuffled(generator: np.random.Generator, features: FeatureSet) -> list[NDArray[np.int64]]:
    """The rows of each class in random order."""
    sizes, starts = _ranges(features)
    return [start + generator.permutation(size) for start, size in zip(starts, sizes, strict=True)]


def _with_all_queries(episodes: Episodes, features: FeatureSet, query_set: FeatureSet | None) -> Episodes:
    """Every sample of the classes as a query; :meth:`Episodes.cut` takes out the support."""
    import torch

    sizes, starts = (torch.from_numpy(numbers) for numbers in _ranges(query_set or features))
    starts = starts + (0 if query_set is None else len(features))
    place = torch.arange(int(sizes.max()))
    is_query = place < sizes[episodes.classes][..., None]  # (E, w, q)
    rows = starts[episodes.classes][..., None] + place * is_query
    return replace(episodes, queries=rows, is_query=is_query)


def _ranges(features: FeatureSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The size and the first row of each class: rows are sorted by class."""
    import numpy as np

    sizes = features.counts.numpy()
    return sizes, np.cumsum(sizes) - sizes


def _rows(
    generator: np.random.Generator, features: FeatureSet, classes: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """``count`` rows of each class, ``(E, w, count)``."""
    sizes, starts = _ranges(features)
    drawn = _draw(generator, sizes[classes].reshape(-1), count)
    return drawn.T.reshape(*classes.shape, count) + starts[classes][..., None]


def _draw(generator: np.random.Generator, sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``count`` numbers below each size without replacement, ``(count, len(sizes))``.

    Fisher and Yates' shuffle, stopped after ``count`` steps; of the array that it would shuffle only the places that
    were written to are kept. A smaller count gives the first rows of a larger one.
    """
    import numpy as np

    columns = np.arange(len(sizes))
    places = np.empty((count, len(sizes)), np.int64)  # where step k wrote
    values = np.empty_like(places)  # and what
    drawn = np.empty_like(places)

    def value_at(place: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
        written = places[:steps][::-1] == place
        latest = steps - 1 - written.argmax(axis=0)
        return np.where(written.any(axis=0), values[latest, columns], place)

    for step in range(count):
        uniform = generator.random(len(sizes))
        places[step] = step + np.minimum((uniform * (sizes - step)).astype(np.int64), sizes - step - 1)
        here = np.full(len(sizes), step)
        drawn[step] = value_at(places[step], step) if step else places[step]
        values[step] = value_at(here, step) if step else here
    return drawn


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(map(repr, names[:most])) + (", …" if len(names) > most else "")
