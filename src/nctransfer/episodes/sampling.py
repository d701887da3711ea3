"""Episodes drawn at random."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nctransfer.episodes.episode import Episodes
from nctransfer.episodes.query_prior import QueryPrior
from nctransfer.episodes.requirements import check, check_disjoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nctransfer.episodes.episode import EpisodeSpec
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["sample", "sample_disjoint"]

BLOCK = 1024  # episodes that share their generators; another number would give other episodes
CLASSES, SAMPLES, SUPPORT, DISJOINT = range(4)  # what a generator draws; SUPPORT only if there is a query set
PRIOR = 6  # the numbers of queries; 4 and 5 are drawn elsewhere


def sample(
    features: FeatureSet,
    spec: EpisodeSpec,
    episodes: int,
    query_set: FeatureSet | None = None,
    most: int = BLOCK,
    *,
    with_spare: bool = False,
    first: int = 0,
    ends: Sequence[int] = (),
) -> Iterator[Episodes]:
    """Draw random episodes, in batches.

    Episode number e depends on the seed and on e only: not on the number of episodes, the batch size, the device or the
    number of threads. The classes, the support and the order of the queries of an episode are the same whatever the
    query prior, which decides how many queries of each class there are: :meth:`Episodes.cut` takes them.

    Args:
        features: The feature set.
        spec: What is drawn.
        episodes: The number of episodes.
        query_set: Where the queries come from, if not from the features; it has the same classes.
        most: The largest number of episodes per batch.
        with_spare: Whether further samples are drawn, so that some can be left out, see
            :func:`~nctransfer.episodes.leaving_out.without`.
        first: The number of the first episode that is drawn; those before it are left out.
        ends: Numbers of episodes at which a batch ends, ascending.

    Raises:
        EpisodeError: There are too few classes or samples.
    """
    import numpy as np
    import torch

    check(features, spec, query_set)
    prior = QueryPrior.parse(spec.query_prior)
    for block in range(first // BLOCK, -(-episodes // BLOCK)):
        kept = min(BLOCK, episodes - block * BLOCK)
        of_classes, of_samples, of_support, of_prior = (
            np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=(block, use)))
            for use in (CLASSES, SAMPLES, SUPPORT, PRIOR)
        )
        classes = _draw(of_classes, np.full(BLOCK, len(features.classes)), spec.ways).T  # (E, w)
        orders: dict[str, NDArray[np.int64]] = {"classes": classes}
        own, further = spec.queries or 0, 0
        if not prior.is_balanced:
            sizes = (query_set or features).counts.numpy()[classes]
            orders["wanted"] = prior.draw(of_prior, sizes, own)
            further = max(0, int(orders["wanted"].max()) - own)
        if query_set is not None:
            support, spare = _rows(of_support, features, classes, spec.shots, 0, with_spare)
            queries, others = _rows(of_samples, query_set, classes, own, further, with_spare)
            offset = len(features)
            orders |= {"support": support, "queries": queries + offset}
            more = {"spare": spare, "spare_queries": np.where(others < 0, others, others + offset)}
        else:
            rows, spare = _rows(of_samples, features, classes, own + spec.shots, further, with_spare)
            orders |= {"queries": rows[:, :, :own], "support": rows[:, :, own:]}
            more = {"spare": spare}
        orders |= more if with_spare or not prior.is_balanced else {}
        for some in _slices(block * BLOCK, max(first - block * BLOCK, 0), kept, most, ends):
            part = Episodes(**{name: torch.from_numpy(one[some]) for name, one in orders.items()})
            yield part if spec.queries else _with_all_queries(part, features, query_set)


def _slices(before: int, start: int, stop: int, most: int, ends: Sequence[int]) -> Iterator[slice]:
    """The batches of a block, from ``start`` to ``stop``; ``before`` is the number of episodes in the blocks before."""
    while start < stop:
        end = min(start + most, stop)
        place = bisect.bisect_right(ends, before + start)
        if place < len(ends):
            end = min(end, ends[place] - before)
        yield slice(start, end)
        start = end


def sample_disjoint(
    features: FeatureSet, spec: EpisodeSpec, episodes: int, query_set: FeatureSet | None = None, most: int = BLOCK
) -> Iterator[Episodes]:
    """Draw random episodes of which no two share a sample, in batches.

    Each episode takes the classes with the most unused samples, and draws lots between equals, so that there are as
    many episodes as possible.

    Args:
        features: The feature set.
        spec: What is drawn.
        episodes: The largest number of episodes.
        query_set: Where the queries come from, if not from the features; it has the same classes.
        most: The largest number of episodes per batch.

    Raises:
        EpisodeError: There are too few classes or samples.
        SettingError: All samples that are not in the support are queries, or there are not as many of each class.
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
        possible = counts // (spec.shots + spec.queries)  # episodes that each class can take part in
        first_support, of_queries = possible * spec.queries, own  # one order: queries of all episodes, then support
    else:
        possible = np.minimum(counts // spec.shots, query_set.counts.numpy() // spec.queries)
        first_support, of_queries = 0 * possible, [rows + len(features) for rows in _shuffled(generator, query_set)]
    used = 0 * possible
    drawn: list[list[NDArray[np.int64]]] = [[], [], []]
    while len(drawn[0]) < episodes and (possible > used).sum() >= spec.ways:
        lots = possible - used + generator.random(len(possible))
        classes = np.argsort(-lots)[: spec.ways]
        drawn[0].append(classes)
        for kind, (count, first, orders) in enumerate(
            ((spec.queries, 0 * possible, of_queries), (spec.shots, first_support, own)), start=1
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
    """The episodes with every sample of their classes as a query; :meth:`Episodes.cut` removes the support."""
    import torch

    sizes, starts = (torch.from_numpy(numbers) for numbers in _ranges(query_set or features))
    starts = starts + (0 if query_set is None else len(features))
    place = torch.arange(int(sizes.max()))
    is_query = place < sizes[episodes.classes][..., None]  # (E, w, q)
    rows = starts[episodes.classes][..., None] + place * is_query
    return replace(episodes, queries=rows, is_query=is_query)


def _ranges(features: FeatureSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The size and the first row of each class; rows are sorted by class."""
    import numpy as np

    sizes = features.counts.numpy()
    return sizes, np.cumsum(sizes) - sizes


def _rows(
    generator: np.random.Generator,
    features: FeatureSet,
    classes: NDArray[np.int64],
    count: int,
    further: int,
    with_spare: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``count`` random rows of each class, ``(E, w, count)``; and further rows, −1 where a class has no more.

    There are ``further`` of them. On request there are spare ones too, enough to replace a tenth of a class, but for
    chances of less than one in a million.
    """
    import numpy as np

    sizes, starts = _ranges(features)
    more = min(int(sizes.max()) - count, further + ((count + further) // 4 + 10 if with_spare else 0))
    of_class = sizes[classes][..., None]
    drawn = _draw(generator, of_class.reshape(-1), count + more).T.reshape(*classes.shape, count + more)
    rows = np.where(np.arange(count + more) < of_class, drawn + starts[classes][..., None], -1)
    return rows[:, :, :count], rows[:, :, count:]


def _draw(generator: np.random.Generator, sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``count`` random numbers below each size, without replacement, ``(count, len(sizes))``.

    This is the shuffle of Fisher and Yates, stopped after ``count`` steps. Of the array that it would shuffle, only the
    places that were written to are kept. A smaller count gives the first rows of a larger count.
    """
    import numpy as np

    columns = np.arange(len(sizes))
    places = np.empty((count, len(sizes)), np.int64)  # the place that step k wrote to
    values = np.empty_like(places)  # the value that it wrote
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
